"""How many calls are worked on at a time, and how many streams are open: in all, and each user's
and each address's fair share."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

from gateway.fair import FairPool
from gateway.server.core.errors import Draining, Overloaded
from gateway.server.rpc.caller import Caller, current
from gateway.server.rpc.chain import Answer, Context, Interceptor
from gateway.server.rpc.interceptors import LONG_CALLS, OPEN_PREFIXES, OVERLOAD_RETRY_S
from gateway.turns import Crowded, Turns

MAX_OPEN_STREAMS = 200  # of health and reflection, whose callers are unknown
MAX_OPEN_STREAMS_PER_ADDRESS = 20
MAX_STREAMS_PER_AGENT = 8  # a lost one may be seen to end only after the next has begun


@dataclass(frozen=True, slots=True)
class CallLimits:
    """What is allowed at a time."""

    calls: int = 1000
    calls_per_user: int = 100  # so many more of a user wait
    streams: int = 20_000
    streams_per_user: int = 200


class LimitsInterceptor(Interceptor):
    """Bounds calls and streams. Calls beyond a share wait for their turn, users in turn; what would
    wait for long is refused."""

    def __init__(self, limits: CallLimits, draining: Callable[[], bool]) -> None:
        self._limits, self._draining = limits, draining
        self._calls = Turns(
            FairPool(
                limits.calls,
                min(limits.calls, limits.calls_per_user),
                most_waiting=limits.calls_per_user,
            )
        )
        self._streams: Counter[str] = Counter()
        self._open_streams = 0

    async def call(self, method: Answer, name: str, request: Any, context: Context) -> Any:
        self._refuse_if_draining(name)
        if name in LONG_CALLS:
            with self._open():
                return await method(request, context)
        caller = current.get()
        key = caller.user or caller.peer.address
        if not self._calls.pool.take(key):
            await self._wait(caller, key)
        try:
            return await method(request, context)
        finally:
            self._calls.give_back(key)

    @asynccontextmanager
    async def around(self, request: Any, context: Context, name: str) -> AsyncIterator[None]:
        self._refuse_if_draining(name)
        with self._open():
            yield

    def _refuse_if_draining(self, name: str) -> None:
        if self._draining() and not name.startswith(OPEN_PREFIXES):
            raise Draining(retry_after_s=OVERLOAD_RETRY_S)

    async def _wait(self, caller: Caller, key: str) -> None:
        try:
            if self._calls.pool.waiting >= self._limits.calls:
                raise Crowded
            await self._calls.take(key)
        except Crowded:
            whose = "of yours " if caller.user else f"of {caller.peer.address} "
            told = (
                f"{self._calls.pool.held_by(key)} calls {whose}are being worked on, of all"
                f" {self._calls.pool.taken}, and more wait"
            )
            raise Overloaded(metadata={"what": told}, retry_after_s=OVERLOAD_RETRY_S) from None

    @contextmanager
    def _open(self) -> Iterator[None]:
        caller = current.get()
        if self._open_streams >= self._limits.streams:
            raise Overloaded(
                metadata={"what": f"{self._limits.streams} streams are open"},
                retry_after_s=OVERLOAD_RETRY_S,
            )
        counted = _counted(caller, self._limits.streams_per_user)
        for key, most, whose in counted:
            if self._streams[key] >= most:
                raise Overloaded(
                    metadata={"what": f"{whose} {most} streams open"},
                    retry_after_s=OVERLOAD_RETRY_S,
                )
        self._open_streams += 1
        for key, _, _ in counted:
            self._streams[key] += 1
        try:
            yield
        finally:
            self._open_streams -= 1
            for key, _, _ in counted:
                self._streams[key] -= 1
                if not self._streams[key]:
                    del self._streams[key]


def _counted(caller: Caller, per_user: int) -> list[tuple[str, int, str]]:
    """Return what a stream counts for: key, the most of that, and whose they are in words. An
    edge's count for nobody."""
    if caller.edge:
        return []
    if caller.agent_uid:  # its token is in its user's hands
        return [(caller.user, MAX_STREAMS_PER_AGENT, "you have")]
    if caller.user:
        return [(caller.user, per_user, "you have")]
    strangers = ("", MAX_OPEN_STREAMS, "callers who did not sign in have")
    return [
        strangers,
        (
            f"@{caller.peer.address}",
            MAX_OPEN_STREAMS_PER_ADDRESS,
            "callers of your address who did not sign in have",
        ),
    ]
