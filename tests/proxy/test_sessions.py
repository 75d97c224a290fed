"""Tickets and sessions: a ticket opens once, a session lasts as long as it was given and as what it rests on holds."""

from __future__ import annotations

import asyncio
import pathlib
from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp
import pytest
from aiohttp import web
from daskgateway.internal.v1 import route_pb2

from gateway.proxy import app, standing
from gateway.proxy.access import now_ms
from gateway.wire import Ticket
from tests.proxy.served import SIGNER, UID, Served, a_dashboard, serving, ticket
from tests.proxy.test_dashboards import ROUTES, browser, enter


@pytest.fixture
async def served(tmp_path: pathlib.Path) -> AsyncIterator[Served]:
    """An edge with a dashboard."""
    async with serving(tmp_path) as made:
        async with a_dashboard(made, ROUTES):
            yield made


async def opened(served: Served, text: str) -> int:
    """Follow a link with a ticket, as a browser does that knows nothing yet; the status."""
    async with browser() as caller, caller.get(f"{served.dashboard}/x?ticket={text}") as answer:
        return answer.status


async def test_a_ticket_opens_once(served: Served) -> None:
    text = ticket()
    assert [await opened(served, text) for _ in range(3)] == [200, 401, 401]
    assert sorted(await asyncio.gather(*(opened(served, ticket()) for _ in range(3)))) == [200] * 3


async def test_of_many_who_come_at_a_time_with_one_ticket_one_gets_in(served: Served) -> None:
    text = ticket()
    assert sorted(await asyncio.gather(*(opened(served, text) for _ in range(10)))) == [200] + [401] * 9


async def test_a_ticket_that_the_server_cannot_take_now_can_be_shown_again(served: Served) -> None:
    text, served.access.away = ticket(), True
    assert await opened(served, text) == 503
    served.access.away = False
    assert await opened(served, text) == 200


async def test_a_session_lasts_no_longer_than_what_was_shown_for_the_ticket(served: Served) -> None:
    text = SIGNER.issue(Ticket(UID, "alice", now_ms() + 60_000, "nonce", holds_until=now_ms() + 700))
    async with browser() as caller:
        async with caller.get(f"{served.dashboard}/x?ticket={text}") as answer:
            assert answer.status == 200
        await asyncio.sleep(0.8)
        async with caller.get(f"{served.dashboard}/x") as answer:
            assert answer.status == 401


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask the server often."""
    monkeypatch.setattr(standing, "CHECK_S", 0.05)
    monkeypatch.setattr(standing, "ASK_AGAIN_S", 0.0)


async def seen(caller: aiohttp.ClientSession, served: Served) -> int:
    """Look at the dashboard; the status."""
    async with caller.get(f"{served.dashboard}/x") as answer:
        return answer.status


async def test_a_session_is_asked_about_after_a_while_and_a_revoked_one_stays_shut_also_while_the_server_is_away(
    served: Served, soon: None
) -> None:
    async with browser() as caller, browser() as other:
        await enter(caller, served)
        await enter(other, served)
        assert await seen(caller, served) == 200
        await asyncio.sleep(0.1)
        served.access.unknown = True
        assert await seen(caller, served) == 200  # what cannot be told goes on
        served.access.unknown, served.access.away = False, True
        assert await seen(caller, served) == 200
        served.access.away = False
        served.access.denied.add("alice")
        await comes_async(lambda: seen(caller, served), 401)
        served.access.away = True
        assert await seen(caller, served) == 401
        assert await seen(other, served) == 200  # nobody was asked about that one


async def comes_async(look: Callable[[], Awaitable[object]], wanted: object) -> None:
    """Look until there is what is wanted."""
    async with asyncio.timeout(10):
        while await look() != wanted:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_a_session_is_not_asked_about_with_every_request(served: Served) -> None:
    async with browser() as caller:
        await enter(caller, served)
        assert [await seen(caller, served) for _ in range(20)] == [200] * 20
    assert served.access.asked == []


async def test_many_requests_of_one_session_ask_once(served: Served) -> None:
    async with browser() as caller:
        await enter(caller, served)
        served.edge._standing._asked_at.clear()
        assert await asyncio.gather(*(seen(caller, served) for _ in range(20))) == [200] * 20
    assert [len(asked) for asked in served.access.asked] == [1]


@pytest.mark.parametrize("why", ["denied", "stopped", "expired"])
async def test_a_dashboards_websocket_ends_with_what_it_rests_on(
    served: Served, soon: None, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    monkeypatch.setattr(app, "STOPPED_S", 0.05)
    ends = now_ms() + 1500 if why == "expired" else 0
    text = SIGNER.issue(Ticket(UID, "alice", now_ms() + 60_000, "nonce", holds_until=ends))
    async with browser() as caller:
        async with caller.get(f"{served.dashboard}/x?ticket={text}") as answer:
            assert answer.status == 200
        async with caller.ws_connect(f"{served.dashboard}/ws") as talk:
            await talk.send_str("hello")
            assert await talk.receive_str() == "hello /ws"
            if why == "denied":
                served.access.denied.add("alice")
                await served.edge._standing.check()
            elif why == "stopped":
                served.edge.routes.apply(route_pb2.RouteUpdate(removed=[UID]))
            async with asyncio.timeout(10):
                assert (await talk.receive()).type is aiohttp.WSMsgType.CLOSE
            assert talk.close_code == 1008
        if why != "stopped":
            assert await seen(caller, served) == 401
        assert served.edge._standing._held == set()


@pytest.mark.parametrize("why", ["denied", "stopped"])
async def test_a_dashboards_endless_answer_ends_with_what_it_rests_on(
    tmp_path: pathlib.Path, soon: None, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    monkeypatch.setattr(app, "STOPPED_S", 0.05)

    async def endless(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        await answer.write(b"first\n")
        await asyncio.Event().wait()
        return answer

    async with serving(tmp_path) as served, a_dashboard(served, [web.get("/x", endless)]), browser() as caller:
        async with caller.get(f"{served.dashboard}/x?ticket={ticket()}") as answer:
            assert await answer.content.readline() == b"first\n"
            if why == "denied":
                served.access.denied.add("alice")
                await served.edge._standing.check()
            else:
                served.edge.routes.apply(route_pb2.RouteUpdate(removed=[UID]))
            with pytest.raises(aiohttp.ClientPayloadError):  # nothing half passes for whole
                async with asyncio.timeout(10):
                    await answer.content.read()
