"""The server's end of the agents' streams: reports to the reconciler, wishes to the schedulers.

A scheduler runs its user's code, so whatever its agent says is checked and bounded like any
caller's input.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import re
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol
from urllib.parse import urlsplit

from daskgateway.internal.v1 import agent_pb2 as pb
from daskgateway.internal.v1 import agent_pb2_grpc

from gateway.networks import inward
from gateway.server.core.errors import CredentialsInvalid, FieldInvalid, Violation
from gateway.server.core.facts import BEAT_S, AgentNews
from gateway.server.core.model import Cluster, GroupStatus
from gateway.server.core.plan import directive
from gateway.server.rpc.caller import current
from gateway.server.rpc.requests import Malformed
from gateway.server.store.contract import View
from gateway.wire import is_instance_name

logger = logging.getLogger(__name__)

REPORT_INTERVAL_MS = 15_000
# between two reports of one agent; meanwhile the rest wait in the connection, which holds little
PACE_S = 0.02
# an agent's reports end before it is known whether the agent ended the stream or somebody cut it
CUT_S = 0.1
# An agent whose report is refused hears it after so long: it may be a user's program that calls
# again without end. With MAX_STREAMS_PER_AGENT of limits.py that is a few refusals a second.
REFUSAL_S = 2.0
MANY_NAMES = 2000  # of workers in one report, beyond which it is read in a thread
# of workers on one stream; meanwhile the next report waits in the connection
NAMES_A_SECOND = 20_000
MAX_NAME = 64
MAX_ADDRESS = 256
MAX_VERSIONS = 64
MAX_COUNT = 1_000_000
MAX_AGE_MS = 10 * 365 * 86_400_000
# nothing that a command takes for a flag
_ADDRESS = re.compile(r"([a-z]+://)?(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9][A-Za-z0-9._-]*):[0-9]+")


class Listener(Protocol):
    """Who hears agents: the reconciler."""

    def heard(self, uid: str, news: AgentNews) -> None:
        """Take what an agent told."""

    def beat(self, uid: str) -> None:
        """Take an agent's sign of life."""

    def agent_came(self, uid: str) -> None:
        """Note that an agent has connected."""

    def agent_went(self, uid: str) -> None:
        """Note that an agent's stream has ended."""


class Switchboard:
    """Wakes the streams of one cluster when that cluster changes: one subscription for ten thousand
    agents."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._streams: dict[str, set[asyncio.Event]] = {}

    async def run(self) -> None:
        """Pass on changes until cancelled."""
        subscription = self._view.subscribe()
        try:
            while True:
                changes, _ = await subscription.next()
                for change in changes:
                    for stream in self._streams.get(change.uid, ()):
                        stream.set()
        finally:
            subscription.close()

    def connect(self, uid: str) -> asyncio.Event:
        """Return an event that is set when the cluster changes."""
        changed = asyncio.Event()
        self._streams.setdefault(uid, set()).add(changed)
        return changed

    def disconnect(self, uid: str, changed: asyncio.Event) -> None:
        """Let go of an event."""
        streams = self._streams.get(uid, set())
        streams.discard(changed)
        if not streams:
            self._streams.pop(uid, None)

    def wake_all(self) -> None:
        """Set every event: something concerns all streams."""
        for streams in self._streams.values():
            for changed in streams:
                changed.set()


def news_of(
    report: pb.AgentReport, now: int, groups: Mapping[str, GroupStatus], *, local: bool
) -> AgentNews:
    """Return what a report tells; FieldInvalid if it cannot be true. `local`: the cluster's backend
    runs on this machine.

    Names that no worker of these groups ever had are passed over: what is kept until the next step
    is bounded by what was started.
    """
    return AgentNews(
        snapshot=report.snapshot,
        address=_address(report.scheduler_address, "scheduler_address", local),
        dashboard_address=_address(report.dashboard_address, "dashboard_address", local),
        versions=_versions(report.versions),
        workers=frozenset(name for name in report.workers if _was_started(name, groups)),
        left=frozenset(name for name in report.left if _was_started(name, groups)),
        retired=frozenset(name for name in report.retired if _was_started(name, groups)),
        clients=max(0, min(report.clients, MAX_COUNT)),
        idle_since_at=_since(report.idle_ms, now),
        no_client_since_at=_since(report.no_client_ms, now),
        no_task_since_at=_since(report.no_task_ms, now),
        targets={
            name: max(0, min(target, MAX_COUNT))
            for name, target in report.targets.items()
            if name in groups
        },
    )


def _was_started(name: str, groups: Mapping[str, GroupStatus]) -> bool:
    """Whether a worker of these groups is called so; each has one spelling, so that one worker is
    not counted as several."""
    if not is_instance_name(name):
        return False
    group, _, sequence = name.rpartition("-")
    status = groups.get(group)
    return status is not None and int(sequence) < status.next_sequence


def _versions(versions: Mapping[str, str]) -> dict[str, str]:
    return {
        name[:MAX_NAME]: version[:MAX_NAME]
        for name, version in sorted(versions.items())[:MAX_VERSIONS]
    }


def _since(age_ms: int, now: int) -> int:
    return 0 if age_ms < 0 else now - min(age_ms, MAX_AGE_MS)


def _address(text: str, field: str, local: bool) -> str:
    """Return an address; a loopback one is only believed where schedulers run on this machine: the
    edge would connect to its own."""
    if not text:
        return ""
    parts = urlsplit(text if "://" in text else f"//{text}")
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if len(text) > MAX_ADDRESS or not host or not port or not _ADDRESS.fullmatch(text):
        raise FieldInvalid([Violation(field, "must be host:port or tls://host:port")])
    if inward(host) and not local:
        raise FieldInvalid(
            [
                Violation(
                    field,
                    "must not be a loopback address: this backend's schedulers are on other"
                    " machines",
                )
            ]
        )
    return text


def directive_of(cluster: Cluster) -> pb.AgentDirective:
    """Return the whole wish for a scheduler."""
    groups = []
    for name, (count, bounds) in sorted(directive(cluster).items()):
        running = cluster.groups[name].running if name in cluster.groups else 0
        group = pb.GroupDirective(name=name, count=count, surplus=max(0, running - count))
        if bounds is not None:
            group.adaptive, group.minimum, group.maximum = True, bounds.minimum, bounds.maximum
            group.interval_ms = int((bounds.interval_s or 0) * 1000)
            group.wait_count = bounds.wait_count
            group.target_duration_ms = int((bounds.target_duration_s or 0) * 1000)
        groups.append(group)
    return pb.AgentDirective(
        generation=cluster.generation,
        groups=groups,
        ignore_clients=cluster.spec.lifecycle.ignore_clients,
        report_interval_ms=REPORT_INTERVAL_MS,
        beat_interval_ms=int(BEAT_S * 1000),
    )


class AgentServicer(agent_pb2_grpc.AgentServiceServicer):
    """The service."""

    def __init__(
        self,
        view: View,
        listener: Listener,
        switchboard: Switchboard,
        now: Callable[[], int],
        draining: Callable[[], bool],
        local_backends: Collection[str],
    ) -> None:
        self._view, self._listener, self._switchboard, self._now, self._draining = (
            view,
            listener,
            switchboard,
            now,
            draining,
        )
        self._local_backends = frozenset(local_backends)  # those that run on this machine

    async def Connect(
        self, request_iterator: AsyncIterator[pb.AgentReport], context: Any
    ) -> AsyncIterator[pb.AgentDirective]:
        uid = current.get().agent_uid
        if not uid:
            raise CredentialsInvalid
        changed = self._switchboard.connect(uid)
        self._listener.agent_came(uid)
        reading = asyncio.ensure_future(self._read(uid, request_iterator))
        reading.add_done_callback(lambda _: changed.set())
        try:
            sent: pb.AgentDirective | None = None
            while not reading.done() and not self._draining():
                changed.clear()
                cluster = self._view.cluster(uid)
                if cluster is None or cluster.state.finished:
                    raise CredentialsInvalid  # from now on its token is worth nothing
                wish = directive_of(cluster)
                if sent is None or _differs(wish, sent):
                    sent = wish
                    yield wish
                await changed.wait()
            if reading.done() and not reading.cancelled():
                if reading.exception() is not None:
                    await asyncio.sleep(REFUSAL_S)
                reading.result()
                await asyncio.sleep(CUT_S)
        finally:
            reading.cancel()
            self._switchboard.disconnect(uid, changed)
            self._listener.agent_went(uid)

    async def _read(self, uid: str, reports: AsyncIterator[pb.AgentReport | Malformed]) -> None:
        first = True
        async for report in reports:
            if isinstance(report, Malformed):
                raise report.error()
            if first and not report.snapshot:
                raise FieldInvalid([Violation("snapshot", "must be set in the first report")])
            first = False
            if report.beat:
                self._listener.beat(uid)
                await asyncio.sleep(PACE_S)
                continue
            cluster = self._view.cluster(uid)
            groups = cluster.groups if cluster is not None else {}
            local = cluster is not None and cluster.spec.backend in self._local_backends
            names = len(report.workers) + len(report.left) + len(report.retired)
            news = functools.partial(news_of, report, self._now(), groups, local=local)
            # Of very many workers it takes its time; not that of everybody else.
            told = (
                news()
                if names <= MANY_NAMES
                else await asyncio.get_running_loop().run_in_executor(_many(), news)
            )
            self._listener.heard(uid, told)
            await asyncio.sleep(PACE_S + names / NAMES_A_SECOND)


@functools.cache
def _many() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, thread_name_prefix="large-reports")


def _differs(wish: pb.AgentDirective, sent: pb.AgentDirective) -> bool:
    return wish.groups != sent.groups or wish.ignore_clients != sent.ignore_clients
