"""A call with a session costs hardly more than one with an API token. Counted is what Python does,
not how long it takes: that is the same on a machine that is busy."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from types import FrameType

import pytest
from daskgateway.v1 import credential_service_pb2 as pb

from tests.rpc.test_sessions import Served, people, shown

CALLS = 50
MOST = 1.15  # a session's call / an API token's


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    """A server whose people have passwords, and tokens."""
    made = Served(("password", people()))
    await made.start()
    yield made
    await made.harness.stop()


async def steps(call: Callable[[], Awaitable[object]]) -> float:
    """Return how many functions are called for a call, here and in what it awaits."""
    count = 0

    def counting(frame: FrameType, event: str, told: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    await call()  # what is looked up once is kept
    sys.setprofile(counting)
    try:
        for _ in range(CALLS):
            await call()
    finally:
        sys.setprofile(None)
    return count / CALLS


async def test_a_sessions_call_costs_hardly_more_than_an_api_tokens(served: Served) -> None:
    token = (
        await served.harness.credentials.CreateToken(
            pb.CreateTokenRequest(), metadata=shown("basic alice")
        )
    ).secret
    session = (await served.made("basic alice")).secret
    doors = served.harness.doors

    def through(text: str) -> tuple[Callable[[], Awaitable[object]], ...]:
        async def whole() -> object:
            return await served.whoami(text)

        async def door() -> object:
            return await doors.principal("bearer", text, "192.0.2.1")

        return whole, door

    assert (await served.whoami(session)).user == (await served.whoami(token)).user == "alice"
    cost = {}
    for name, text in (("token", token), ("session", session)):
        whole, door = through(text)
        cost[name] = (await steps(whole), await steps(door))
    assert cost["token"][1] > 5, "nothing was counted"
    more = cost["session"][1] - cost["token"][1]
    assert cost["session"][0] <= MOST * cost["token"][0], cost
    assert more <= (MOST - 1) * cost["token"][0], cost
