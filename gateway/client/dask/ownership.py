"""What ends with what: clusters with their process, a cluster object's clients with the object.

A cluster is owned from before it is asked for until the gateway has answered that it is stopped, or
that it is to be left. All of that happens in threads of this module: whatever interrupts or cancels
the caller does not interrupt it. A forked child owns nothing: what its parent made is the parent's.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import queue
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from enum import Enum
from types import FrameType
from typing import Any

from daskgateway.v1 import cluster_service_pb2 as pb
from distributed.client import Client

from gateway.client.calls import api, errors
from gateway.client.calls import messages as requests
from gateway.client.calls.channel import Connection
from gateway.client.model import Cluster

logger = logging.getLogger("distributed.deploy.gateway")

# of each stop when the interpreter ends; the gateway itself ends what could not be told
EXIT_TIMEOUT_S = 5.0
SIGNAL_TIMEOUT_S = 10.0  # of all stops when a signal ends this process
LOOK_S = 10.0  # between two looks at what is still to be told to the gateway
AGAIN_S = (5.0, 60.0)  # between two attempts to tell it
REFUSALS = ("INVALID_ARGUMENT", "ALREADY_EXISTS", "PERMISSION_DENIED", "UNAUTHENTICATED")
BEATS = 5  # signs of life within the time that the gateway waits for one
BEAT_S = (0.5, 60.0)  # between two of them
MAX_NAMES = 1000  # in one sign of life
SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


class Wish(Enum):
    """What is to become of a cluster."""

    KEEP = "keep"  # it is used
    STOP = "stop"
    LEAVE = "leave"  # it goes on without this process


class Claim:
    """A cluster that this process is to stop: one that it has asked for, or one that exists."""

    def __init__(
        self,
        connection: Connection,
        *,
        request_id: str = "",
        name: str = "",
        keep_s: float = 0.0,
        stops: bool = True,
    ) -> None:
        """`keep_s`: how long the gateway waits for a sign of life; 0 if it waits for none. `stops`:
        whether the cluster ends with this process, or is only kept alive by it."""
        self.connection, self.request_id, self.name, self.keep_s = (
            connection,
            request_id,
            name,
            keep_s,
        )
        self.stops = stops
        self.holders = 1  # objects that are to be collected before it is stopped
        self.wish = Wish.KEEP
        self.told: Future[None] | None = None  # an attempt to tell the gateway
        self.failures, self.due_at, self.beat_at = 0, 0.0, 0.0

    @property
    def held(self) -> bool:
        """Whether this process owns it."""
        return self in _claims

    @property
    def pending(self) -> bool:
        """Whether the gateway has not been told yet what is to become of it."""
        return self in _claims and self.wish is not Wish.KEEP

    def create(self, ask: Callable[[], Cluster]) -> Cluster:
        """Ask for the cluster; blocks. From now on it is owned, whether an answer comes or not."""
        _claims[self] = os.getpid()
        if self.wish is not Wish.KEEP:  # interrupted before anything was sent
            _claims.pop(self, None)
            raise errors.ProcessEnds("the cluster was given up before it was asked for")
        try:
            cluster = ask()
        except errors.GatewayError as error:
            if error.code in REFUSALS:  # of all others nobody knows what they have made
                _claims.pop(self, None)
            raise
        self.name = f"users/{cluster.owner}/clusters/{cluster.uid}"
        _inbox.put(None)  # signs of life are due from now on
        return cluster

    def own(self) -> None:
        """Stop a cluster that exists when this process ends."""
        _claims[self] = os.getpid()
        _inbox.put(None)

    def forget(self) -> None:
        """Let the cluster be; the gateway need not be told."""
        _claims.pop(self, None)

    def drop(self) -> None:
        """Take note that an object was collected; the last one takes the cluster along."""
        self.holders -= 1
        if self.holders <= 0 and self.wish is Wish.KEEP:
            if self.stops:
                self.settle(Wish.STOP)
            else:
                self.forget()

    def leave(self) -> None:
        """Take note that an object needs it no more, without an end for the cluster."""
        self.holders -= 1
        if self.holders <= 0 and self.wish is Wish.KEEP:
            self.forget()

    def settle(self, wish: Wish) -> Future[None]:
        """Stop the cluster, or leave it; return the attempt, which goes on whatever becomes of the
        caller. One that fails is made again, until the process ends."""
        self.wish = wish  # from here on, an interrupt changes nothing
        attempt = self.told
        if attempt is None or attempt.done():
            attempt = self.told = Future()
            attempt.set_running_or_notify_cancel()
            self.due_at = 0.0
        if self in _claims:
            _inbox.put(None)
        elif not attempt.done():
            attempt.set_result(None)
        return attempt

    def tell(self, connection: Connection, timeout_s: float | None = None) -> None:
        """Tell the gateway what is to become of the cluster; blocks. GatewayError if it was not
        told."""
        with suppress(errors.ClusterNotFound, errors.PermissionDenied, errors.ClusterFinished):
            if self.wish is Wish.LEAVE and self.name and self.keep_s:
                leave = requests.lifecycle(self.name, {"keepalive_timeout": 0})
                connection.call(api.UPDATE_CLUSTER, leave, timeout_s=timeout_s)
            elif self.wish is Wish.STOP:
                stop = (
                    requests.stop(self.name)
                    if self.name
                    else requests.stop_made_by(self.request_id)
                )
                connection.call(api.STOP_CLUSTER, stop, timeout_s=timeout_s)
        _claims.pop(self, None)

    def attempt(self) -> None:
        """Tell the gateway, and whoever waits for that; blocks."""
        attempt = self.told
        assert attempt is not None
        try:
            self.tell(self.connection)
        except BaseException as error:
            first_s, last_s = AGAIN_S
            self.due_at = time.monotonic() + min(last_s, first_s * 2 ** min(self.failures, 10))
            self.failures += 1
            attempt.set_exception(error)
            logger.debug("%s: the gateway could not be told: %s", self.name, error)
        else:
            attempt.set_result(None)


# by claim, the process that made it
_claims: dict[Claim, int] = {}
# what is to be done soon: put by anybody at any time, also while an object is being collected
_inbox: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
# what is done at each look; it may block, and is not done twice at a time
_regular: dict[Callable[[], None], threading.Lock] = {}
_keeper: threading.Thread | None = None
_keeper_lock = threading.Lock()


def _after_fork() -> None:
    global _inbox, _keeper, _keeper_lock
    _claims.clear()
    _inbox, _keeper, _keeper_lock = queue.SimpleQueue(), None, threading.Lock()
    for work in _regular:
        _regular[work] = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)


def be_ready() -> None:
    """Start what keeps clusters alive and tells the gateway of their ends; to be called before
    anything is asked for."""
    global _keeper
    with _keeper_lock:
        if _keeper is None or not _keeper.is_alive():
            _keeper = threading.Thread(target=_keep, name="daskgateway-keeper", daemon=True)
            _keeper.start()
    if not heed_signals() and _ends_untold():
        logger.debug(
            "signals that end this process do not stop its clusters, which end some minutes later"
            " by themselves: this cluster is made in another thread than the main one, and no"
            " other was; GatewayCluster.heed_signals(), called there, has them stopped first"
        )


def heed_signals() -> bool:
    """Have signals that would end this process stop first what it owns, where the program has no
    answer of its own to them; return whether that was done. Python lets the main thread alone do
    it, and an import does not: who makes no cluster ends by signals as before."""
    try:
        for number in SIGNALS:
            if signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, _end_by_signal)
    except ValueError:  # in another thread, or in an interpreter within the interpreter
        return False
    return True


def _ends_untold() -> bool:
    """Whether a signal ends this process at once."""
    return any(signal.getsignal(number) is signal.SIG_DFL for number in SIGNALS)


def of_this_process(name: str) -> Claim | None:
    """Return the claim on a cluster that this process keeps already, by its name."""
    mine = (claim for claim, pid in list(_claims.items()) if pid == os.getpid())
    return next((one for one in mine if one.name == name and one.wish is Wish.KEEP), None)


def later(work: Callable[[], None]) -> None:
    """Do something in a thread of its own; may be called while an object is being collected."""
    _inbox.put(work)


def regularly(work: Callable[[], None]) -> None:
    """Have something done from time to time, in a thread of its own."""
    _regular.setdefault(work, threading.Lock())


def _in_turn(work: Callable[[], None], turn: threading.Lock) -> None:
    if turn.acquire(blocking=False):
        try:
            work()
        except Exception as error:  # there is a next time
            logger.debug("%s: %r", work, error)
        finally:
            turn.release()


def _keep() -> None:
    while True:
        with suppress(queue.Empty):
            work = _inbox.get(timeout=_pause_s())
            if work is not None:
                _begin(work)
        now = time.monotonic()
        for claim in list(_claims):
            attempt = claim.told
            waits = attempt is not None and claim.wish is not Wish.KEEP
            if waits and now >= claim.due_at:
                assert attempt is not None
                if attempt.done():
                    attempt = claim.told = Future()
                    attempt.set_running_or_notify_cancel()
                claim.due_at = float("inf")  # until this attempt has failed
                _begin(claim.attempt)
        for work, turn in list(_regular.items()):
            _begin(lambda work=work, turn=turn: _in_turn(work, turn))  # type: ignore[misc]
        for connection, claims in _to_be_kept(now).items():
            _begin(lambda connection=connection, claims=claims: _beat(connection, claims))  # type: ignore[misc]


def _begin(work: Callable[[], None]) -> None:
    try:
        threading.Thread(target=work, name="daskgateway-owner", daemon=True).start()
    except RuntimeError as error:  # the process is ending, or has no room; it is looked at again
        logger.debug("no thread: %s", error)


def _pause_s() -> float:
    """Return how long nothing is due."""
    waits = [LOOK_S]
    waits += [_beat_s(claim) for claim in list(_claims) if _kept(claim)]
    return min(waits)


def _kept(claim: Claim) -> bool:
    return bool(claim.keep_s and claim.name and claim.wish is Wish.KEEP)


def _beat_s(claim: Claim) -> float:
    least_s, most_s = BEAT_S
    return max(least_s, min(most_s, claim.keep_s / BEATS))


def _to_be_kept(now: float) -> dict[Connection, list[Claim]]:
    """Return clusters of which a sign of life is due, by their gateway."""
    due: dict[Connection, list[Claim]] = {}
    for claim in list(_claims):
        if _kept(claim) and now >= claim.beat_at:
            claim.beat_at = now + _beat_s(claim) * 0.9
            due.setdefault(claim.connection, []).append(claim)
    return due


def _beat(connection: Connection, claims: list[Claim]) -> None:
    """Give a sign of life for clusters; those that have ended are owned no more."""
    quick = Connection(replace(connection.settings, retry_s=0.0))
    by_name = {claim.name: claim for claim in claims}
    for start in range(0, len(claims), MAX_NAMES):
        names = list(by_name)[start : start + MAX_NAMES]
        try:
            answer = quick.call(api.KEEP_ALIVE, pb.KeepAliveRequest(names=names))
        except Exception as error:  # there is time for several more
            logger.debug("the gateway heard no sign of life: %s", error)
            continue
        for name in answer.ended:
            by_name[name].forget()


async def close_clients(cluster: Any) -> None:
    """Close the clients that were made of a cluster object and live on its event loop."""
    clients = [
        one
        for one in list(getattr(Client, "_instances", ()))
        if one.cluster is cluster and one.loop is cluster.loop
    ]
    await asyncio.gather(*(one._close() for one in clients), return_exceptions=True)


@atexit.register
def _stop_all() -> None:
    """Stop what this process owns, and tell what is still to be told; a gateway that does not
    answer is asked once."""
    away: set[str] = set()
    for claim, pid in list(_claims.items()):
        if pid != os.getpid() or claim.connection.settings.address in away:
            continue
        if claim.wish is Wish.KEEP and not claim.stops:
            continue
        if claim.wish is Wish.KEEP:
            claim.wish = Wish.STOP
        quick = Connection(replace(claim.connection.settings, retry_s=0.0))
        try:
            claim.tell(quick, EXIT_TIMEOUT_S)
        except (errors.Unavailable, errors.DeadlineExceeded):
            away.add(claim.connection.settings.address)
        except Exception as error:  # nobody is left to tell
            logger.debug("%s is not stopped: %s", claim.name, error)


def _end_by_signal(number: int, frame: FrameType | None) -> None:
    """Stop what this process owns, then end as the signal ends a process. In a thread: whatever
    the main thread was doing it may hold a lock."""
    stopping = threading.Thread(target=_stop_all, name="daskgateway-owner", daemon=True)
    stopping.start()
    stopping.join(SIGNAL_TIMEOUT_S)
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
