"""Tickets and sessions: a ticket opens once, a session lasts as long as it was given and as what it
rests on holds."""

from __future__ import annotations

import asyncio
import pathlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from daskgateway.internal.v1 import route_pb2
from yarl import URL

from gateway.proxy.http import standing
from gateway.proxy.http.access import now_ms
from gateway.proxy.routes import routes
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
    assert (
        sorted(await asyncio.gather(*(opened(served, text) for _ in range(10))))
        == [200] + [401] * 9
    )


async def test_a_ticket_that_the_server_cannot_take_now_can_be_shown_again(served: Served) -> None:
    text, served.access.away = ticket(), True
    assert await opened(served, text) == 503
    served.access.away = False
    assert await opened(served, text) == 200


async def test_a_ticket_is_not_used_up_by_what_looks_at_links_before_people_do(
    served: Served,
) -> None:
    text = ticket()
    async with browser() as caller:
        async with caller.head(f"{served.dashboard}/x?ticket={text}") as answer:
            assert answer.status == 503
        async with caller.get(
            f"{served.dashboard}/x?ticket={text}", headers={"Sec-Purpose": "prefetch;prerender"}
        ) as answer:
            assert answer.status == 503
    assert await opened(served, text) == 200


async def test_a_session_lasts_no_longer_than_what_was_shown_for_the_ticket(served: Served) -> None:
    text = SIGNER.issue(
        Ticket(UID, "alice", now_ms() + 60_000, "nonce", holds_until=now_ms() + 700)
    )
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


async def test_a_session_is_asked_about_after_a_while_and_a_revoked_one_stays_shut_also_while_the_server_is_away(  # noqa: E501
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
    monkeypatch.setattr(routes, "STOPPED_S", 0.05)
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
    monkeypatch.setattr(routes, "STOPPED_S", 0.05)

    async def endless(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        await answer.write(b"first\n")
        await asyncio.Event().wait()
        return answer

    async with (
        serving(tmp_path) as served,
        a_dashboard(served, [web.get("/x", endless)]),
        browser() as caller,
    ):
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


HTTPS = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "dask.example.org"}


@pytest.mark.parametrize(
    ("shown", "status"),
    [
        ({"Origin": "https://dask.example.org"}, 303),
        ({"Origin": "https://DASK.example.org:443"}, 303),
        ({}, 303),  # no browser's
        ({"Referer": "https://dask.example.org/clusters/x/login"}, 303),
        ({"Sec-Fetch-Site": "same-origin"}, 303),
        ({"Sec-Fetch-Site": "none"}, 303),
        # an allowed one
        ({"Origin": "https://hub.example.org", "Sec-Fetch-Site": "same-site"}, 303),
        ({"Origin": "http://dask.example.org"}, 403),  # what is not encrypted may be anybody's
        ({"Origin": "https://dask.example.org:8443"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "https://dask.example.org.evil.example"}, 403),
        ({"Origin": "https://dask.example.org@evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": ""}, 403),
        ({"Origin": "https://dask.example.org, https://evil.example"}, 403),
        ({"Referer": "https://evil.example/https://dask.example.org/"}, 403),
        ({"Referer": "http://dask.example.org/"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Referer": "https://dask.example.org/", "Sec-Fetch-Site": "cross-site"}, 403),
    ],
)
async def test_a_form_of_another_site_logs_nobody_in(
    tmp_path: pathlib.Path, shown: dict[str, str], status: int
) -> None:
    settings: dict[str, Any] = {
        "trusted_proxies": ["127.0.0.1"],
        "allowed_origins": ["https://hub.example.org"],
    }
    async with serving(tmp_path, **settings) as served, browser() as caller:
        form = {"user": "alice", "password": "wonderland"}
        async with caller.post(
            f"{served.dashboard}/login", data=form, headers=HTTPS | shown, allow_redirects=False
        ) as answer:
            assert answer.status == status
            assert ("Set-Cookie" in answer.headers) is (status == 303)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
async def test_what_another_site_sends_to_a_dashboard_does_not_reach_it(
    served: Served, method: str
) -> None:
    """Of a sibling host, say, whose requests carry the cookie: SameSite knows sites, not hosts."""
    async with browser() as caller:
        await enter(caller, served)
        before = len(served.seen)
        for headers in ({"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "same-site"}):
            async with caller.request(method, f"{served.dashboard}/x", headers=headers) as answer:
                assert answer.status == 403
        assert len(served.seen) == before
        async with caller.request(
            method, f"{served.dashboard}/x", headers={"Origin": served.address}
        ) as answer:
            assert answer.status == 200
        # a link
        async with caller.get(
            f"{served.dashboard}/x", headers={"Sec-Fetch-Site": "cross-site"}
        ) as answer:
            assert answer.status == 200


@pytest.mark.parametrize("by", ["a trusted proxy", "the public address"])
async def test_a_session_over_https_is_for_https_alone(tmp_path: pathlib.Path, by: str) -> None:
    settings: dict[str, Any] = (
        {"trusted_proxies": ["127.0.0.1"]}
        if by == "a trusted proxy"
        else {"allowed_origins": [ORIGIN]}
    )
    headers = HTTPS if by == "a trusted proxy" else {"Host": "dask.example.org"}
    async with serving(tmp_path, **settings) as served, a_dashboard(served, ROUTES):
        async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as caller:
            async with caller.get(
                f"{served.dashboard}/x?ticket={ticket()}", headers=headers, allow_redirects=False
            ) as answer:
                (cookie,) = answer.headers.getall("Set-Cookie")
            assert cookie.startswith("__Secure-daskgateway_session=")
            assert {"Secure", "HttpOnly", "SameSite=Lax", f"Path=/clusters/{UID}/"} <= set(
                cookie.split("; ")
            )
            text = cookie.partition(";")[0]
            # a plain one may be anybody's
            for shown, status in ((text, 200), (text.removeprefix("__Secure-"), 401)):
                async with caller.get(
                    f"{served.dashboard}/x", headers=headers | {"Cookie": shown}
                ) as answer:
                    assert answer.status == status
            assert "Cookie" not in served.seen[-1].headers


ORIGIN = "https://dask.example.org"


async def test_who_logs_out_is_logged_out_everywhere(served: Served) -> None:
    async with browser() as caller, browser() as other:
        await enter(caller, served)
        await enter(other, served)
        jar = {
            cookie.key: cookie.value
            for cookie in caller.cookie_jar
            if cookie.key == "daskgateway_session"
        }
        async with caller.get(f"{served.dashboard}/logout") as answer:
            assert answer.status == 200
            assert '<form method="post"' in await answer.text()
        async with caller.post(
            f"{served.dashboard}/logout", headers={"Origin": "https://evil.example"}
        ) as answer:
            assert answer.status == 403
        assert await seen(caller, served) == 200
        async with caller.ws_connect(f"{served.dashboard}/ws") as talk:
            async with caller.post(
                f"{served.dashboard}/logout", headers={"Origin": served.address}
            ) as answer:
                assert answer.status == 200
                assert "daskgateway_session=" in answer.headers["Set-Cookie"]
            assert (await talk.receive()).type is aiohttp.WSMsgType.CLOSE
        assert await seen(caller, served) == 401
        assert await seen(other, served) == 200
        async with aiohttp.ClientSession(cookies=jar) as thief:  # who has copied the cookie
            assert await seen(thief, served) == 401
        assert len(served.access.denied) == 1  # other edges are told by the server


async def test_who_logs_out_while_the_server_is_away_is_logged_out_here(served: Served) -> None:
    async with browser() as caller:
        await enter(caller, served)
        jar = {
            cookie.key: cookie.value
            for cookie in caller.cookie_jar
            if cookie.key == "daskgateway_session"
        }
        served.access.away = True
        async with caller.post(f"{served.dashboard}/logout") as answer:
            assert answer.status == 200
            assert "other edges" in await answer.text()
        async with aiohttp.ClientSession(cookies=jar) as thief:
            assert await seen(thief, served) == 401


async def test_every_login_begins_a_session_of_its_own(served: Served) -> None:
    texts = set()
    async with browser() as caller:
        for _ in range(3):
            async with caller.post(
                f"{served.dashboard}/login", data={"user": "alice", "password": "wonderland"}
            ) as answer:
                assert answer.status == 200
            texts |= {
                cookie.value for cookie in caller.cookie_jar if cookie.key == "daskgateway_session"
            }
    assert len(texts) == 3


async def test_the_login_page_is_shown_in_no_frame(served: Served) -> None:
    async with (
        browser() as caller,
        caller.get(f"{served.dashboard}/x", headers={"Accept": "text/html"}) as answer,
    ):
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
        assert answer.headers["X-Frame-Options"] == "DENY"


@pytest.mark.parametrize(
    "rest",
    [
        "/",
        "//evil.example/",
        "/%2f%2fevil.example",
        "/%5c%5cevil.example",
        "/..//evil.example",
        "/.//evil",
        "/https://evil.example",
    ],
)
async def test_a_ticket_leads_nowhere_but_to_its_dashboard(served: Served, rest: str) -> None:
    async with browser() as caller:
        address = URL(f"{served.dashboard}{rest}?ticket={ticket()}", encoded=True)
        async with caller.get(address, allow_redirects=False) as answer:
            assert answer.status in (303, 404)
            if answer.status == 303:
                assert answer.headers["Location"] == f"/clusters/{UID}{rest}"
