"""Dashboards through the edge: who is let in, what passes and how, with a prefix and behind other
proxies."""

from __future__ import annotations

import asyncio
import io
import pathlib
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

from tests.proxy.served import (
    ALICE,
    BOB,
    NOBODYS,
    OTHER,
    UID,
    Served,
    a_dashboard,
    raw,
    serving,
    ticket,
)

PREFIX = "/services/daskgateway"


def browser() -> aiohttp.ClientSession:
    """Return something that keeps cookies like a browser."""
    return aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True))


async def plain(request: web.Request) -> web.Response:
    """Answer with a header that is not for browsers, and two cookies."""
    answer = web.Response(text=f"{request.method} {request.raw_path} {len(await request.read())}")
    answer.headers.add("Set-Cookie", "daskgateway_session=evil; Path=/")
    answer.headers.add("Set-Cookie", "theme=dark; Path=/")
    answer.headers["Service-Worker-Allowed"] = "/"
    return answer


async def away(_: web.Request) -> web.Response:
    """Redirect to the root."""
    return web.Response(status=302, headers={"Location": "/status?a=%2F"})


async def echo(request: web.Request) -> web.WebSocketResponse:
    """Answer what it is told, with the first protocol it is offered, and close with a code of its
    own when told so."""
    talk = web.WebSocketResponse(protocols=["bokeh"])
    await talk.prepare(request)
    async for message in talk:
        if message.type is aiohttp.WSMsgType.BINARY:
            await talk.send_bytes(message.data[::-1])
        elif message.data == "close":
            await talk.close(code=4001)
        else:
            await talk.send_str(f"{message.data} {request.raw_path}")
    return talk


async def silent(_: web.Request) -> web.Response:
    """Never answer."""
    await asyncio.Event().wait()
    raise AssertionError


async def broken(request: web.Request) -> web.StreamResponse:
    """Promise more than is sent."""
    answer = web.StreamResponse(headers={"Content-Length": "1000"})
    await answer.prepare(request)
    await answer.write(b"half")
    assert request.transport is not None
    request.transport.abort()
    return answer


ROUTES = [
    web.get("/away", away),
    web.get("/ws", echo),
    web.get("/silent", silent),
    web.get("/broken", broken),
    web.route("*", "/{path:.*}", plain),
]


@pytest.fixture(params=["", PREFIX])
async def served(tmp_path: pathlib.Path, request: pytest.FixtureRequest) -> AsyncIterator[Served]:
    """An edge with a dashboard, below a prefix or not."""
    async with serving(
        tmp_path, prefix=request.param, answer_timeout_s=0.5, body_timeout_s=0.5
    ) as made:
        async with a_dashboard(made, ROUTES):
            yield made


async def enter(caller: aiohttp.ClientSession, served: Served) -> None:
    """Log in by ticket."""
    async with caller.get(f"{served.dashboard}/x?ticket={ticket()}") as answer:
        assert answer.status == 200


async def test_a_ticket_becomes_a_session_for_this_dashboard_alone(served: Served) -> None:
    async with browser() as caller:
        address = f"{served.dashboard}/status?b=%2F%20+&ticket={ticket()}&a=1"
        async with caller.get(URL(address, encoded=True), allow_redirects=False) as answer:
            assert answer.status == 303
            assert (
                answer.headers["Location"] == f"{served.prefix}/clusters/{UID}/status?b=%2F%20+&a=1"
            )
            (cookie,) = answer.headers.getall("Set-Cookie")
            assert f"Path={served.prefix}/clusters/{UID}/;" in cookie
            assert "HttpOnly" in cookie
            assert "SameSite=Lax" in cookie
            assert "Secure" not in cookie
        async with caller.get(f"{served.dashboard}/status") as answer:
            assert answer.status == 200
        async with caller.get(served.dashboard.replace(UID, OTHER) + "/status") as answer:
            assert answer.status == 401


async def test_paths_and_queries_pass_as_they_were_sent(served: Served) -> None:
    async with browser() as caller:
        await enter(caller, served)
        for target in (
            "/a%2Fb/%C3%A9%20c?x=%2B+%20&x=2&&y=&z",
            "/",
            "/a//b/?",
            "/a;b=c/@:!$&'()*,",
        ):
            async with caller.get(URL(served.dashboard + target, encoded=True)) as answer:
                assert await answer.text() == f"GET {target.removesuffix('?')} 0"
        async with caller.post(f"{served.dashboard}/form", data=b"x" * 1000) as answer:
            assert await answer.text() == "POST /form 1000"
        async with caller.head(f"{served.dashboard}/form") as answer:
            assert answer.status == 200


async def test_neither_side_is_told_what_is_not_its_own(served: Served) -> None:
    async with browser() as caller:
        await enter(caller, served)
        headers = {
            "Authorization": "Bearer secret",
            "X-Forwarded-For": "1.1.1.1",
            "Connection": "X-Hop",
            "X-Hop": "1",
            "Cookie2": "x",
        }
        async with caller.get(f"{served.dashboard}/x", headers=headers) as answer:
            assert answer.headers.getall("Set-Cookie") == [
                f"theme=dark; Path={served.prefix}/clusters/{UID}/"
            ]
            assert "Service-Worker-Allowed" not in answer.headers
        async with caller.get(f"{served.dashboard}/x") as answer:
            assert answer.status == 200
        told = [dict(request.headers) for request in served.seen]
        assert told[-1]["Cookie"] == "theme=dark"
        for one in told:
            assert not {"Authorization", "X-Forwarded-For", "X-Hop", "Cookie2"} & set(one)
            assert "daskgateway" not in str(one)
        async with caller.get(f"{served.dashboard}/away", allow_redirects=False) as answer:
            assert answer.headers["Location"] == f"{served.prefix}/clusters/{UID}/status?a=%2F"
        async with caller.get(served.dashboard, allow_redirects=False) as answer:
            assert (answer.status, answer.headers["Location"]) == (
                308,
                f"{served.prefix}/clusters/{UID}/",
            )


async def test_a_form_opens_what_is_the_users_and_nothing_else(served: Served) -> None:
    for form, uid, status in (
        ({"user": "alice", "password": "wonderland"}, UID, 200),
        ({"user": "alice", "password": "wrong"}, UID, 401),
        ({"user": "bob", "password": "builder"}, UID, 401),
        ({"user": "alice", "password": "wonderland"}, NOBODYS, 401),
        ({"user": "alice\n", "password": "wonderland"}, UID, 401),
        ({"token": "no\r\nX: y"}, UID, 401),
        ({"token": "é"}, UID, 401),
        ({}, UID, 401),
    ):
        async with browser() as caller:
            async with caller.post(
                f"{served.dashboard.replace(UID, uid)}/login", data=form
            ) as answer:
                assert answer.status == status, form
                page = await answer.text()
                if status == 401:
                    assert f'action="{served.prefix}/clusters/{uid}/login"' in page
                    assert "That did not open this dashboard." in page
                    assert "Set-Cookie" not in answer.headers
                else:
                    assert page == "GET /status 0"


async def test_who_has_the_right_password_and_a_name_that_is_none_is_told_so(
    served: Served,
) -> None:
    form = {"user": "<Alice>", "password": "wonderland"}
    async with browser() as caller:
        async with caller.post(f"{served.dashboard}/login", data=form) as answer:
            assert answer.status == 401
            page = await answer.text()
            assert "credentials are right, but &lt;Alice&gt; can be no user here" in page
            assert "Set-Cookie" not in answer.headers


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("CLUSTER_FINISHED", "This cluster has ended, and its dashboard with it."),
        ("CLUSTER_NOT_ACTIVE", "This cluster is not active yet"),
    ],
)
async def test_the_right_password_of_a_cluster_that_has_no_dashboard_now_is_not_refused(
    served: Served, reason: str, words: str
) -> None:
    """It said that the password did not open it, or to log in first."""
    served.credentials.states = {NOBODYS: reason}
    address = served.dashboard.replace(UID, NOBODYS)
    hers = {"user": "alice", "password": "wonderland"}
    async with browser() as caller:
        async with caller.post(f"{address}/login", data=hers) as answer:
            assert answer.status == 404
            page = await answer.text()
            assert words in page
            assert "did not open" not in page
            assert "Set-Cookie" not in answer.headers
        async with caller.get(f"{address}/status", headers={"Authorization": ALICE}) as answer:
            assert (answer.status, words in await answer.text()) == (404, True)
        # to all others it is as one that never was
        for form in ({"user": "bob", "password": "builder"}, {"user": "alice", "password": "no"}):
            async with caller.post(f"{address}/login", data=form) as answer:
                assert answer.status == 401
                assert words not in await answer.text()


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:1"])
async def test_what_another_site_begins_is_refused(served: Served, origin: str) -> None:
    async with browser() as caller:
        await enter(caller, served)
        async with caller.post(
            f"{served.dashboard}/login", data={"user": "a"}, headers={"Origin": origin}
        ) as answer:
            assert answer.status == 403
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await caller.ws_connect(f"{served.dashboard}/ws", origin=origin)
        assert caught.value.status == 403


async def test_foreign_unknown_and_stopped_clusters_look_the_same(served: Served) -> None:
    async with browser() as caller:
        answers = set()
        for uid in (OTHER, NOBODYS):
            for headers in ({"Authorization": ALICE}, {}, {"Authorization": "Bearer rubbish"}):
                async with caller.get(
                    f"{served.dashboard.replace(UID, uid)}/x", headers=headers
                ) as answer:
                    answers.add(
                        (answer.status, await answer.text(), answer.headers.get("WWW-Authenticate"))
                    )
        assert answers == {(401, "log in first\n", 'Bearer realm="daskgateway"')}
        async with caller.get(f"{served.dashboard}/x", headers={"Authorization": ALICE}) as answer:
            assert answer.status == 200
        async with caller.get(f"{served.dashboard}/x", headers={"Authorization": BOB}) as answer:
            assert answer.status == 401


async def test_websockets_pass_with_their_protocol_query_and_close_code(served: Served) -> None:
    async with browser() as caller:
        await enter(caller, served)
        own = f"http://127.0.0.1:{served.port}"
        async with caller.ws_connect(
            URL(f"{served.dashboard}/ws?a=%2F", encoded=True),
            protocols=["bokeh", "secret"],
            origin=own,
        ) as talk:
            assert talk.protocol == "bokeh"
            await talk.send_str("hello")
            assert await talk.receive_str() == "hello /ws?a=%2F"
            await talk.send_bytes(b"ab" * 1_000_000)
            assert await talk.receive_bytes() == b"ba" * 1_000_000
            await talk.send_str("close")
            assert (await talk.receive()).type is aiohttp.WSMsgType.CLOSE
            assert talk.close_code == 4001
        assert "Origin" not in served.seen[-1].headers
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await caller.ws_connect(f"{served.dashboard}/form")
    async with browser() as stranger:
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await stranger.ws_connect(f"{served.dashboard}/ws")
        assert caught.value.status == 401


async def test_a_dashboard_that_fails_is_told_and_nothing_half_passes_for_whole(
    served: Served,
) -> None:
    async with browser() as caller:
        await enter(caller, served)
        async with caller.get(f"{served.dashboard}/silent") as answer:
            assert answer.status == 504
        with pytest.raises(aiohttp.ClientError):
            async with caller.get(f"{served.dashboard}/broken") as answer:
                await answer.read()
        served.add_routes(dashboard=1)  # nobody listens there
        async with caller.get(f"{served.dashboard}/x") as answer:
            assert answer.status == 502
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await caller.ws_connect(f"{served.dashboard}/ws")
        served.add_routes()
        async with caller.get(f"{served.dashboard}/x") as answer:
            assert answer.status == 404


@pytest.mark.parametrize(
    ("networks", "status"), [(["127.0.0.0/8", "::1/128"], 200), (["10.0.0.0/8"], 502)]
)
async def test_a_dashboard_known_by_name_is_looked_up_and_must_be_where_it_may(
    tmp_path: pathlib.Path, networks: list[str], status: int
) -> None:
    async with (
        serving(tmp_path, scheduler_networks=networks) as served,
        a_dashboard(served, ROUTES) as port,
        browser() as caller,
    ):
        served.add_routes(dashboard=port, host="localhost")
        async with caller.get(f"{served.dashboard}/x?ticket={ticket()}") as answer:
            assert answer.status == status
        assert len(served.seen) == (status == 200)
        if status == 200:  # neither may a name lead to the gateway's own port
            served.add_routes(dashboard=served.port, host="localhost")
            async with caller.get(f"{served.dashboard}/x") as answer:
                assert answer.status == 502


async def test_a_body_must_come_in_time_and_within_bounds(served: Served) -> None:
    async with browser() as caller:
        await enter(caller, served)
        async with caller.post(
            f"{served.dashboard}/x", data=io.BytesIO(b"x" * 2_000_000)
        ) as answer:
            assert answer.status == 413
    head = (
        f"POST /clusters/{UID}/x HTTP/1.1\r\nHost: a\r\nAuthorization:"
        f" {ALICE}\r\nContent-Length: 5\r\n\r\nhi"
    )
    answer_bytes = await raw(served.port, head.encode())
    assert answer_bytes.startswith(b"HTTP/1.1 408 ")
    assert answer_bytes.endswith(b"the request's body is too slow\n")


async def test_a_head_must_come_in_time_at_the_beginning_and_after_an_answer(
    tmp_path: pathlib.Path,
) -> None:
    async with serving(tmp_path, header_timeout_s=0.4, keepalive_timeout_s=1.2) as served:
        loop = asyncio.get_running_loop()
        began = loop.time()
        assert (await raw(served.port, b"GET / HTTP/1.1\r\nHost: a\r\nX-A:")).startswith(
            b"HTTP/1.1 408 "
        )
        assert loop.time() - began >= 0.4
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        assert b'"tunnels": 0}' in await reader.readuntil(b"}")
        writer.write(b"GET / HT")
        assert (await reader.read(-1)).startswith(b"HTTP/1.1 408 ")
        writer.close()
        began = loop.time()
        answers = await raw(served.port, b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        assert answers.count(b"HTTP/1.1 ") == 1  # an idle connection is closed without words
        assert loop.time() - began >= 1.1


async def test_a_front_proxys_word_counts_only_where_it_is_trusted(tmp_path: pathlib.Path) -> None:
    told = {
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "hub.example.org",
        "X-Forwarded-For": "192.0.2.1",
    }
    for trusted in (["127.0.0.0/8"], ["10.0.0.0/8"]):
        async with (
            serving(tmp_path, trusted_proxies=trusted) as served,
            a_dashboard(served, ROUTES),
        ):
            believed = trusted == ["127.0.0.0/8"]
            async with browser() as caller:
                async with caller.get(
                    f"{served.dashboard}/x?ticket={ticket()}", headers=told, allow_redirects=False
                ) as answer:
                    cookie = answer.headers["Set-Cookie"]
                    assert ("Secure" in cookie) is believed
                headers = told | {"Cookie": cookie.partition(";")[0]}
                upgrade = {
                    "Upgrade": "websocket",
                    "Connection": "Upgrade",
                    "Sec-WebSocket-Version": "13",
                    "Sec-WebSocket-Key": "x" * 22 + "==",
                }
                headers |= {**upgrade, "Origin": "https://hub.example.org"}
                async with caller.get(f"{served.dashboard}/ws", headers=headers) as answer:
                    assert answer.status == (101 if believed else 403)


async def test_another_origin_may_be_allowed(tmp_path: pathlib.Path) -> None:
    async with (
        serving(tmp_path, allowed_origins=["https://hub.example.org"]) as served,
        a_dashboard(served, ROUTES),
    ):
        async with browser() as caller:
            await enter(caller, served)
            async with caller.ws_connect(
                f"{served.dashboard}/ws", origin="https://hub.example.org"
            ) as talk:
                await talk.send_str("hello")
                assert await talk.receive_str() == "hello /ws"


async def test_a_second_cookie_of_our_name_locks_nobody_out(served: Served) -> None:
    """A dashboard's script can set one of the same name for a longer path, which is sent first."""
    async with browser() as caller:
        async with caller.get(
            f"{served.dashboard}/x?ticket={ticket()}", allow_redirects=False
        ) as answer:
            good = answer.headers["Set-Cookie"].partition(";")[0]
    async with aiohttp.ClientSession() as caller:
        async with caller.get(
            f"{served.dashboard}/x",
            headers={"Cookie": f"daskgateway_session=evil; {good}; daskgateway_session=x"},
        ) as answer:
            assert answer.status == 200
