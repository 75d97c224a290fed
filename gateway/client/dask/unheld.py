"""Clients that nobody uses any more are closed: a cell that is run again would leave its first
cluster behind, with a client that counts as in use.

Dask's event loop holds each of its clients, so none is ever collected. One is closed here where
nothing else holds it or its cluster object: each reference is one that Dask itself has made.
Whatever cannot be told apart is a use, and so are a future, a local variable of a function that
runs, a topic that is listened to, and being the client that Dask takes by default. One that is
awaited is left to who awaits it. Nothing of Dask's is changed.
"""

from __future__ import annotations

import gc
import logging
import sys
import time
import types
import weakref
from typing import Any

from distributed.client import Client, _get_global_client

from gateway.client.dask.adaptive import GatewayAdaptive
from gateway.client.dask.following import Following

logger = logging.getLogger(__name__)

LOOK_S = 20.0  # between two looks; one that two in a row find unused is closed
CLOSE_TIMEOUT_S = 10.0
# methods that Dask's client hands to timers and to its connection; none that users call
HANDED = ("_heartbeat", "_update_scheduler_info", "_adjust_heartbeat_intervals", "_handle_")
# objects that Dask's client makes for itself
PARTS = ("Datasets", "PubSubClientExtension", "ReplayTaskClient")

_suspects: weakref.WeakSet[Any] = weakref.WeakSet()  # what the last look found unused
_next_look = 0.0


def _references(held: list[Any]) -> int:
    return sys.getrefcount(held[0])


_OWN = _references([object()])  # the list's, and what counting takes


def close_unused() -> None:
    """Close clients of our clusters that two looks in a row have found unused; blocks. A client
    that cannot be looked at is left alone."""
    global _next_look
    now = time.monotonic()
    if now < _next_look:
        return
    _next_look = now + LOOK_S
    candidates, closed = list(Client._instances), False
    while candidates:
        held = [candidates.pop()]
        if not _may_be_unused(held[0]) or not unused(held):
            _suspects.discard(held[0])
        elif held[0] not in _suspects:
            _suspects.add(held[0])
        else:
            _close(held[0])
            closed = True
        held.clear()
    if closed:
        gc.collect()  # a closed client is in cycles of its own, and holds its cluster


def _may_be_unused(client: Any) -> bool:
    return (
        isinstance(getattr(client, "cluster", None), Following)
        and not client._asynchronous  # whose event loop is the user's own
        and client.status == "running"
        and not client.futures
        and not _listens(client)
        and _get_global_client() is not client
        and not _is_held([client.cluster])
    )


def _listens(client: Any) -> bool:
    """Whether somebody has subscribed to a topic with it, beside Dask itself."""
    topics = vars(client).get("_event_handlers", {}).keys()
    return bool(topics - getattr(Client, "_default_event_handlers", {}).keys())


def _is_held(held: list[Any]) -> bool:
    """Whether the only object of a list is a cluster object that more than clients hold."""
    clients = {id(vars(one)): vars(one) for one in list(Client._instances)}
    clients |= {id(one): vars(one) for one in list(Client._instances)}
    count = 0
    for one in gc.get_referrers(held[0]):
        if one is held:
            continue
        if id(one) in clients:
            count += sum(value is held[0] for value in clients[id(one)].values())
        elif isinstance(one, GatewayAdaptive):
            count += 1
        else:
            return True
    return _references(held) - _OWN != count


def unused(held: list[Any]) -> bool:
    """Whether the only object of a list is a client that nothing but Dask and that list holds."""
    if _references([held[0].datasets]) > _OWN + 1:  # beside the client's own
        return False
    count = 0
    for one in gc.get_referrers(held[0]):
        if one is held:
            continue
        if not _of_dask(one, held):
            return False
        count += 1
    return _references(held) - _OWN == count


def _of_dask(one: Any, held: list[Any]) -> bool:
    """Whether what refers to a client is a part of Dask's own machinery."""
    if isinstance(one, types.MethodType):
        return one.__func__.__name__.startswith(HANDED)
    if isinstance(one, types.CoroutineType):
        return one.__qualname__ == "Client._handle_report"
    if isinstance(one, tuple):  # the arguments of that coroutine
        return len(one) == 1 and one[0] is held[0] and _is_of_the_listener(one)
    return type(one).__module__.startswith("distributed.") and type(one).__name__ in PARTS


def _is_of_the_listener(arguments: tuple[Any, ...]) -> bool:
    others = [one for one in gc.get_referrers(arguments) if isinstance(one, types.CoroutineType)]
    return any(one.__qualname__ == "Client._handle_report" for one in others)


def _close(client: Any) -> None:
    logger.info("a client of cluster %s that nobody uses is closed", client.cluster.name)
    try:
        client.close(CLOSE_TIMEOUT_S)
    except Exception as error:
        logger.debug("a client that nobody uses is not wholly closed: %r", error)
