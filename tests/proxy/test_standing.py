"""What stands open through the edge: tunnels and relays end with what they rest on, and not because
the server is away."""

from __future__ import annotations

import asyncio
import pathlib
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from daskgateway.internal.v1 import route_pb2

from gateway.proxy.http import standing
from gateway.proxy.http.access import SessionGrant, Sessions, session_key
from gateway.proxy.http.standing import Standing
from gateway.proxy.routes import routes
from gateway.proxy.upstream.asking import Unanswered
from gateway.wire import SESSION_COOKIE, Ticket, server_name
from tests.proxy.served import ALICE, UID, Served, serving
from tests.proxy.test_client_hello import real_hello
from tests.waiting import comes

HELLO = real_hello(server_name(UID))


class Scheduler:
    """Answers in capitals; notes how its connections end."""

    def __init__(self) -> None:
        self.ends: list[str] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readexactly(len(HELLO))
            while piece := await reader.read(65536):
                writer.write(piece.upper())
            self.ends.append("ended")
        except (ConnectionResetError, asyncio.IncompleteReadError) as error:
            self.ends.append("reset" if isinstance(error, ConnectionResetError) else "cut short")
        writer.close()


@pytest.fixture
async def served(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Served]:
    """An edge that lets go soon of what is stopped."""
    monkeypatch.setattr(routes, "STOPPED_S", 0.05)
    async with serving(tmp_path) as made:
        yield made


@pytest.fixture
async def scheduler(served: Served) -> AsyncIterator[Scheduler]:
    """Alice's scheduler."""
    made = Scheduler()
    server = await asyncio.start_server(made, "127.0.0.1", 0)
    served.add_routes(server.sockets[0].getsockname()[1])
    yield made
    server.close()


@pytest.fixture
async def caller() -> AsyncIterator[aiohttp.ClientSession]:
    """Something that keeps no cookies."""
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as made:
        yield made


async def tunnel(
    caller: aiohttp.ClientSession, served: Served, **headers: str
) -> aiohttp.ClientWebSocketResponse:
    """Open a tunnel that works."""
    talk = await caller.ws_connect(
        f"{served.address}/tunnel/{UID}", headers=headers or {"Authorization": ALICE}
    )
    await talk.send_bytes(HELLO + b"hello")
    assert await talk.receive_bytes() == b"HELLO"
    return talk


async def works(talk: aiohttp.ClientWebSocketResponse) -> None:
    """See that a tunnel carries."""
    await talk.send_bytes(b"more")
    assert await talk.receive_bytes() == b"MORE"


async def ends(talk: aiohttp.ClientWebSocketResponse) -> int | None:
    """Wait for a tunnel's end; its code."""
    async with asyncio.timeout(10):
        while (await talk.receive()).type is aiohttp.WSMsgType.BINARY:
            pass
    return talk.close_code


def cookie_of(served: Served, lasts_s: float, **fields: Any) -> str:
    """Return a session of the edge's, as it was given some time ago."""
    sessions = Sessions(session_key(served.edge.state_dir / "session.key"), lasts_s)
    return f"{SESSION_COOKIE}={sessions.text(sessions.begin(Ticket(UID, 'alice', 0, **fields)))}"


async def test_a_tunnels_session_is_given_once_and_never_made_longer(
    served: Served, scheduler: Scheduler, caller: aiohttp.ClientSession
) -> None:
    first = await tunnel(caller, served)
    (given,) = first._response.headers.getall("Set-Cookie")
    await first.close()
    again = await tunnel(caller, served, Cookie=given.partition(";")[0])
    assert "Set-Cookie" not in again._response.headers
    await again.close()
    assert served.credentials.asked == 1


@pytest.mark.parametrize("by", ["credentials", "session"])
async def test_a_tunnel_ends_when_the_server_says_so(
    served: Served, scheduler: Scheduler, caller: aiohttp.ClientSession, by: str
) -> None:
    shown = {"Authorization": ALICE} if by == "credentials" else {"Cookie": cookie_of(served, 60)}
    talk = await tunnel(caller, served, **shown)
    await served.edge._standing.check()
    await works(talk)
    served.access.denied.add("alice")
    await served.edge._standing.check()
    assert await ends(talk) == 1008
    await comes(lambda: scheduler.ends == ["reset"])  # an end would be believed
    await comes(lambda: served.edge.numbers()["tunnels"] == 0)
    if by == "session":
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await tunnel(caller, served, **shown)
        assert refused.value.status == 401


async def test_the_edge_asks_by_itself_about_what_is_open(
    served: Served,
    scheduler: Scheduler,
    caller: aiohttp.ClientSession,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    talk = await tunnel(caller, served)
    monkeypatch.setattr(standing, "CHECK_S", 0.02)
    task = asyncio.ensure_future(served.edge._standing.run())
    await comes(lambda: len(served.access.asked) > 2)
    served.access.denied.add("alice")
    assert await ends(talk) == 1008
    task.cancel()


async def test_a_tunnel_of_a_stopped_cluster_ends(
    served: Served, scheduler: Scheduler, caller: aiohttp.ClientSession
) -> None:
    talk = await tunnel(caller, served)
    served.edge.routes.apply(route_pb2.RouteUpdate(removed=[UID]))
    assert await ends(talk) == 1008
    await comes(lambda: scheduler.ends == ["reset"])


@pytest.mark.parametrize("away", [True, False])
async def test_a_tunnel_goes_on_without_the_server_until_its_session_ends(
    served: Served, scheduler: Scheduler, caller: aiohttp.ClientSession, away: bool
) -> None:
    talk = await tunnel(caller, served, Cookie=cookie_of(served, 1.0))
    served.access.away, served.access.unknown = away, not away
    await served.edge._standing.check()
    await works(talk)
    assert await ends(talk) == 1008


async def test_a_tunnel_whose_caller_shows_credentials_outlasts_its_session_if_these_are_still_good(
    served: Served, scheduler: Scheduler, caller: aiohttp.ClientSession
) -> None:
    good, bad = [
        await tunnel(caller, served, Cookie=cookie_of(served, 0.7), Authorization=who)
        for who in (ALICE, "Bearer junk")
    ]
    assert await ends(bad) == 1008
    await works(good)
    assert served.credentials.asked == 2
    await good.close()


async def test_a_direct_connection_to_a_stopped_cluster_is_reset(
    served: Served, scheduler: Scheduler
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(HELLO + b"hello")
    assert await reader.readexactly(5) == b"HELLO"
    served.edge.routes.apply(route_pb2.RouteUpdate(removed=[UID]))
    with pytest.raises(ConnectionResetError):
        async with asyncio.timeout(10):
            await reader.read(-1)
    await comes(lambda: scheduler.ends == ["reset"])
    assert served.edge.carrier.relays == set()
    writer.close()


async def test_a_cluster_that_a_snapshot_does_not_know_has_stopped_and_one_that_is_told_again_has_not(  # noqa: E501
    served: Served, scheduler: Scheduler, caller: aiohttp.ClientSession
) -> None:
    talk = await tunnel(caller, served)
    port = served.edge.routes.snapshot[UID].scheduler[1]
    # the first message of a large one, say
    served.edge.routes.apply(route_pb2.RouteUpdate(snapshot=True))
    served.add_routes(port)
    await asyncio.sleep(0.2)
    await works(talk)
    served.edge.routes.apply(route_pb2.RouteUpdate(snapshot=True))
    assert await ends(talk) == 1008


class Checks:
    """Answers what it is told to."""

    def __init__(self) -> None:
        self.verdict: bool | None = True
        self.asked = 0

    async def check(self, grants: Any) -> list[bool | None]:
        self.asked += 1
        if self.verdict is None:
            raise Unanswered("away")
        return [self.verdict] * len(grants)


async def test_a_server_that_does_not_answer_is_not_asked_with_every_request(
    caplog: pytest.LogCaptureFixture,
) -> None:
    checks, clock = Checks(), [1000.0]
    checks.verdict = None
    made = Standing(checks, lambda: clock[0], lambda: 0)
    for number in range(20):
        assert await made.holds(SessionGrant(UID, "alice", 10, f"session{number}"))
    assert checks.asked == 1
    clock[0] += standing.ASK_AGAIN_S
    assert await made.holds(SessionGrant(UID, "alice", 10, "session1"))
    assert (checks.asked, caplog.text.count("does not say")) == (2, 1)
    clock[0] += standing.ASK_AGAIN_S
    checks.verdict = False
    assert not await made.holds(SessionGrant(UID, "alice", 10, "session1"))
    checks.verdict = True
    assert not await made.holds(SessionGrant(UID, "alice", 10, "session1"))
    assert checks.asked == 3


async def test_what_is_known_of_sessions_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standing, "KEPT", 5)
    checks, now = Checks(), [0]
    made = Standing(checks, lambda: 1000.0, lambda: now[0])
    for number in range(20):
        await made.holds(SessionGrant(UID, "alice", 10, f"good{number}"))
        checks.verdict = False
        await made.holds(SessionGrant(UID, "alice", 10, f"bad{number}"))
        checks.verdict = True
    assert (len(made._asked_at), len(made._denied), len(made._asking)) == (5, 5, 0)
    now[0] = 10
    await made.check()
    assert len(made._denied) == 0  # they have expired
