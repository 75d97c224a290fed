"""What Events of Kubernetes say of a pod: a call for each, so made for few, or on demand."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.backends.kubernetes import api, states
from gateway.backends.kubernetes.api import Api
from gateway.backends.kubernetes.refusals import Refusal

logger = logging.getLogger(__name__)

AGAIN_S = 2.0  # before somebody who follows is told of others
MAX_EVENTS = 50  # of one pod
# a kubelet repeats so what the pod's status says anyway
_REPEATED = re.compile(r"Error: [A-Za-z]+")
_SPACES = re.compile(r"\s+")


@dataclass(frozen=True, slots=True)
class Event:
    """One Event."""

    at: str  # when it was last, as Kubernetes writes instants
    reason: str
    message: str
    count: int = 1  # how often it was


async def of_pod(connection: Api, namespace: str, uid: str) -> list[Event]:
    """Return the Events of a pod, the oldest first; refusals.Refusal, BackendUnavailable. Those of
    an earlier pod of its name are none of its own, so they are asked for by uid."""
    query = [("fieldSelector", f"involvedObject.uid={uid}"), ("limit", str(MAX_EVENTS))]
    answer = await connection.call("GET", api.events(namespace), query)
    return in_order(answer.get("items") or [])


def in_order(bodies: Sequence[dict[str, Any]]) -> list[Event]:
    """Return Events as the API tells them in the order of their times."""
    return sorted((_event(body) for body in bodies), key=lambda one: one.at)


def _event(body: dict[str, Any]) -> Event:
    metadata, series = body.get("metadata") or {}, body.get("series") or {}
    told = (series.get("lastObservedTime"), body.get("lastTimestamp"), body.get("eventTime"))
    at = next((one for one in (*told, metadata.get("creationTimestamp")) if one), "")
    count = series.get("count") or body.get("count") or 1
    message = _SPACES.sub(" ", str(body.get("message") or "")).strip()
    return Event(
        str(at)[:40],
        str(body.get("reason") or "")[:128],
        message[: states.MAX_WORDS],
        count if isinstance(count, int) else 1,
    )


def latest(events: Iterable[Event]) -> list[tuple[str, str]]:
    """Return the latest of each reason with its message, the oldest first."""
    found: dict[str, str] = {}
    for one in events:
        if not _REPEATED.fullmatch(one.message):
            found.pop(one.reason, None)
            found[one.reason] = one.message
    return list(found.items())


def lines(events: Iterable[Event]) -> list[str]:
    """Return Events as lines of a log."""
    return [
        f"{one.at} Kubernetes: {one.reason}: {one.message}"
        + (f" ({one.count} times)" if one.count > 1 else "")
        + "\n"
        for one in events
    ]


async def while_waiting(
    connection: Api,
    namespace: str,
    waits: Callable[[], str],
    *,
    tail_lines: int,
    follow: bool,
) -> AsyncIterator[str]:
    """Yield the Events of a pod as lines of a log; when following, those that come too, until it
    waits no longer. `waits`: the uid of its pod while it waits, else an empty text."""
    shown: set[Event] = set()
    while uid := waits():
        try:
            told = await of_pod(connection, namespace, uid)
        except Refusal as error:
            logger.debug("events of %s: %s", uid, error)
            return
        new = [one for one in told if one not in shown]
        for line in lines(new[-tail_lines:] if tail_lines > 0 and not shown else new):
            yield line
        shown = set(told)
        if not follow:
            return
        await asyncio.sleep(AGAIN_S)
