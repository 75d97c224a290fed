"""gRPC and pages over HTTP/2 through the edge: who chooses it is served, whoever listens is
known."""

from __future__ import annotations

import asyncio
import os
import pathlib
import ssl
import time
from typing import Any

import aiohttp
import grpc
import pytest
from aiohttp import web

from gateway.proxy.http2.frames import (
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    frame,
    settings,
)
from gateway.wire import EDGE_CALLER, EDGE_TOKEN, caller_of_peer
from tests.parts.fronts import self_signed
from tests.proxy.by_hand import GREETING, LIST, Client, call
from tests.proxy.h2_client import Browser
from tests.proxy.http2.calls import Beside, listed
from tests.proxy.served import ALICE, Served, a_dashboard, raw, serving, ticket
from tests.waiting import comes

# Who is served


async def test_grpc_passes_in_clear_text_where_there_is_no_certificate(served: Served) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{served.port}") as channel:
        assert [await listed(channel) for _ in range(3)] == ["more"] * 3
        peer, _ = served.clusters.callers[0]
        caller = caller_of_peer(peer)
        assert caller is not None
        assert caller[0] == "127.0.0.1"
        assert caller[1] > 0
        assert len(served.edge.http2.sessions) == 1
    await comes(lambda: not served.edge.admission.present and not served.edge.http2.sessions)


async def test_one_certificate_serves_grpc_browsers_and_http_clients(
    tmp_path: pathlib.Path,
) -> None:
    chain, key = self_signed(tmp_path)
    async with serving(tmp_path, tls_cert=str(chain), tls_key=str(key)) as served:
        credentials = grpc.ssl_channel_credentials(chain.read_bytes())
        async with grpc.aio.secure_channel(f"127.0.0.1:{served.port}", credentials) as channel:
            assert await listed(channel) == "more"
        context = ssl.create_default_context(cafile=str(chain))
        async with aiohttp.ClientSession() as client:
            url = f"https://127.0.0.1:{served.port}{LIST}"
            async with client.post(
                url, json={}, headers={"Authorization": ALICE}, ssl=context
            ) as answer:
                assert (await answer.json())["nextPageToken"] == "more"
        for offered in (["h2"], ["h2", "http/1.1"], ["http/1.1", "h2"]):
            context.set_alpn_protocols(offered)
            talk = await Client.connect(served.port, context)
            agreed: Any = talk.writer.get_extra_info("ssl_object")
            assert agreed.selected_alpn_protocol() == "h2"
            talk.send(GREETING, call(1, ALICE))
            kind, flags, _, _ = await talk.until(DATA, 1)
            assert (kind, flags) == (DATA, 0)
            talk.close()
            browser = await Browser.connect(served.port, context)
            assert (await browser.get("/healthz")).status == 200
            await browser.close()
        assert b" 400 " in await raw(served.port, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", end=True)


async def test_calls_over_http_carry_their_caller_beside_the_edges_token(served: Served) -> None:
    async with aiohttp.ClientSession() as client:
        forged = {"Authorization": ALICE, "dgw-caller": "6.6.6.6", "dgw-edge-token": "t"}
        async with client.post(f"{served.address}{LIST}", json={}, headers=forged) as answer:
            assert answer.status == 200
    _, metadata = served.clusters.callers[0]
    assert (metadata[EDGE_CALLER], metadata[EDGE_TOKEN]) == ("127.0.0.1", "t")


async def test_a_front_proxy_that_is_trusted_names_the_caller(tmp_path: pathlib.Path) -> None:
    async with serving(tmp_path, trusted_proxies=["127.0.0.1"]) as served:
        async with aiohttp.ClientSession() as client:
            told = {"Authorization": ALICE, "X-Forwarded-For": "1.1.1.1, 203.0.113.7"}
            async with client.post(f"{served.address}{LIST}", json={}, headers=told) as answer:
                assert answer.status == 200
        assert served.clusters.callers[0][1][EDGE_CALLER] == "203.0.113.7"


# The edge's own pages


async def test_pages_over_http2_are_those_over_http1(tmp_path: pathlib.Path) -> None:
    async with serving(tmp_path) as served:

        async def echo(request: web.Request) -> web.Response:
            return web.Response(
                body=await request.read(), headers={"X-Host": request.headers["Host"]}
            )

        async def stream(request: web.Request) -> web.StreamResponse:
            answer = web.StreamResponse()
            await answer.prepare(request)
            for _ in range(100):
                await answer.write(b"x" * 10_000)
            return answer

        async def cut(request: web.Request) -> web.StreamResponse:
            answer = web.StreamResponse()
            await answer.prepare(request)
            await answer.write(b"begun")
            assert request.transport is not None
            request.transport.abort()
            return answer

        async with a_dashboard(
            served, [web.post("/echo", echo), web.get("/stream", stream), web.get("/cut", cut)]
        ):
            browser = await Browser.connect(served.port)
            opened = await browser.get(
                f"/clusters/{served.dashboard.rpartition('/')[2]}/stream?ticket={ticket()}"
            )
            assert opened.status == 303 or opened.status == 302
            cookie = opened.headers["set-cookie"].partition(";")[0]
            root = served.dashboard.removeprefix(served.address)
            streamed, again = await asyncio.gather(
                browser.get(f"{root}/stream", cookie=cookie),
                browser.get(f"{root}/stream", cookie=cookie),
            )
            assert (streamed.status, len(streamed.body), len(again.body)) == (
                200,
                1_000_000,
                1_000_000,
            )
            assert "transfer-encoding" not in streamed.headers
            posted = await browser.request(
                "POST", f"{root}/echo", body=b"y" * 300_000, cookie=cookie
            )
            assert (posted.status, posted.body) == (200, b"y" * 300_000)
            broken = await browser.get(f"{root}/cut", cookie=cookie)
            assert broken.cut
            head_only = await browser.request("HEAD", "/healthz")
            assert (head_only.status, head_only.body) == (200, b"")
            nothing = await browser.get("/no/such")
            assert nothing.status == 501
            asked = await browser.request(
                "POST", LIST, body=b"{}", authorization=ALICE, kind="application/json"
            )
            assert b'"nextPageToken": "more"' in asked.body
            await browser.close()
        await comes(lambda: not served.edge.http2.sessions)


@pytest.mark.parametrize(
    "fields",
    [
        [(b":path", b"//x\r\nevil: 1")],
        [(b":path", b"no-slash")],
        [(b":path", b"/a b")],
        [(b":authority", b"a b")],
        [(b":method", b"GET /x HTTP/1.1\r\nx:")],
        [(b":method", b"CONNECT")],
        [(b"x", b"1\r\nevil: 1")],
        [(b"x", b"1\0")],
        [(b"transfer-encoding", b"chunked")],
        [(b"connection", b"close")],
    ],
)
async def test_what_http1_would_read_otherwise_is_refused(
    served: Served, fields: list[tuple[bytes, bytes]]
) -> None:
    browser = await Browser.connect(served.port, lax=True)
    answer = await browser.exchange(fields)
    assert answer.cut or answer.status == 400
    await browser.close()


async def test_a_page_that_nobody_reads_is_not_kept_for_ever(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gateway.proxy.http2 import connections as http2

    monkeypatch.setattr(http2, "TAKE_S", 0.3)
    monkeypatch.setattr(http2, "LOOK_AT_ALL", 1)
    client = await Client.connect(served.port)
    fields = [(":method", "GET"), (":scheme", "http"), (":path", "/healthz"), (":authority", "x")]
    import hpack

    client.send(
        GREETING[:24],
        settings({4: 0}),
        frame(HEADERS, END_HEADERS | END_STREAM, 1, hpack.Encoder().encode(fields)),
    )
    frames = await client.rest()
    assert frames[-1][0] == GOAWAY
    assert b"nothing is taken" in frames[-1][3]


@pytest.mark.parametrize("then", ["a head that is none", "goaway"])
async def test_a_connection_that_ends_while_its_pages_are_made_leaves_no_traceback(
    served: Served, then: str, caplog: pytest.LogCaptureFixture
) -> None:
    import hpack

    fields = [(":method", "GET"), (":scheme", "http"), (":path", "/nothing"), (":authority", "x")]
    pages = b"".join(
        frame(HEADERS, END_HEADERS | END_STREAM, n, hpack.Encoder().encode(fields))
        for n in range(1, 8, 2)
    )
    bad = frame(
        HEADERS, END_HEADERS | END_STREAM, 9, hpack.Encoder().encode([*fields, ("X-Upper", "y")])
    )
    client = await Client.connect(served.port)
    client.send(GREETING, pages, bad if then != "goaway" else frame(GOAWAY, 0, 0, bytes(8)))
    if then == "goaway":  # who will ask for nothing more still wants what it has asked for
        for number in range(1, 8, 2):
            await client.until(HEADERS, number)
        client.close()
    else:
        assert (await client.rest())[-1][0] == GOAWAY
    await comes(lambda: not served.edge.http2.sessions)
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []


async def test_a_flood_of_pages_waits_and_others_do_not_feel_it(served: Served) -> None:
    """Those that cannot be said in HTTP/1.1 too, which the edge itself resets: a client that sends
    resets would be ended."""
    import hpack

    def pages(method: str) -> bytes:
        fields = [
            (":method", method),
            (":scheme", "http"),
            (":path", "/nothing"),
            (":authority", "x"),
        ]
        block = hpack.Encoder().encode(fields)
        return b"".join(
            frame(HEADERS, END_HEADERS | END_STREAM, n, block) for n in range(1, 10_001, 2)
        )

    async with Beside(served) as beside:
        crowd = [await Client.connect(served.port) for _ in range(4)]
        for client, method in zip(crowd, ["GET", "G3T"] * 2):
            client.send(GREETING, pages(method))
        began = time.perf_counter()

        def asked() -> list[int]:
            return [
                session.guard.last_stream // 2
                for session in served.edge.http2.sessions
                if session.guard.web
            ]

        await comes(lambda: len(beside.took_s) > 40 and len(asked()) == 4)
        assert max(asked()) <= 101 + 100 * (time.perf_counter() - began)
        for client in crowd:
            client.writer.transport.abort()  # with no regard to what is not sent
    assert sorted(beside.took_s)[len(beside.took_s) // 2] < 0.1
    await comes(lambda: len(served.edge.http2.sessions) <= 1)


async def test_of_who_reads_nothing_no_more_pages_are_asked_for(served: Served) -> None:
    import hpack

    fields = [
        (":method", "G3T"),
        (":scheme", "http"),
        (":path", "/" + "x" * 10),
        (":authority", "x"),
    ]
    block = hpack.Encoder().encode(fields)
    client = await Client.connect(served.port)
    client.send(GREETING, frame(HEADERS, END_HEADERS | END_STREAM, 1, block))
    await comes(lambda: any(session._pages is not None for session in served.edge.http2.sessions))
    (session,) = served.edge.http2.sessions
    session.pause_writing()  # as its transport does when the client takes nothing
    client.send(*(frame(HEADERS, END_HEADERS | END_STREAM, n, block) for n in range(3, 43, 2)))
    await comes(lambda: not session.transport.is_reading())
    assert session.guard.last_stream == 1
    session.resume_writing()
    await comes(lambda: session.guard.last_stream == 41)
    client.close()


# Who listens there


async def test_an_impostor_gets_nothing(tmp_path: pathlib.Path) -> None:
    """With the server down, somebody else listens where it was: in a directory that others can
    write to, or as another user."""
    heard: list[bytes] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(100))
        writer.close()

    async with serving(tmp_path) as served:
        os.chmod(tmp_path, 0o777)
        (tmp_path / "server.sock").unlink()
        impostor = await asyncio.start_unix_server(listen, tmp_path / "server.sock")
        await _nobody_answers(served)
        os.chmod(tmp_path / "server.sock", 0o777)
        os.chmod(tmp_path, 0o700)
        await _nobody_answers(served)
        (tmp_path / "server.sock").unlink()
        (tmp_path / "server.sock").write_text("no socket")
        await _nobody_answers(served)
        (tmp_path / "server.sock").unlink()
        await _nobody_answers(served)
        assert heard == []
        impostor.close()


async def _nobody_answers(served: Served) -> None:
    channel = grpc.aio.insecure_channel(f"127.0.0.1:{served.port}")
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await listed(channel)
    assert failed.value.code() is grpc.StatusCode.UNAVAILABLE
    await channel.close(None)
    async with aiohttp.ClientSession() as client:
        async with client.post(
            f"{served.address}{LIST}", json={}, headers={"Authorization": ALICE}
        ) as answer:
            assert answer.status == 503


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1:8001",
        "127.0.0.1:8001",
        "unix:server.sock",
        "https://",
        "https://a",
        "ftp://a:1",
    ],
)
async def test_a_way_to_the_server_on_which_anybody_may_listen_is_refused_at_the_start(
    tmp_path: pathlib.Path, address: str
) -> None:
    from gateway.configfile import ConfigurationError
    from gateway.proxy.app import Edge
    from gateway.proxy.config import Proxy

    with pytest.raises(
        ConfigurationError,
        match=r"c\.Proxy\.server_address: must be unix:/path or https://host:port, not ",
    ):
        await Edge(
            Proxy(
                address="127.0.0.1:0",
                state_dir=str(tmp_path),
                token_file="/x",
                server_address=address,
            )
        ).start()


async def test_a_distant_edge_reaches_the_server_by_tls_and_knows_it_by_its_ca(
    tmp_path: pathlib.Path,
) -> None:
    chain, key = self_signed(tmp_path)
    (tmp_path / "other").mkdir()
    other, _ = self_signed(tmp_path / "other")
    async with serving(tmp_path, distant=(chain, key)) as served:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{served.port}") as channel:
            assert await listed(channel) == "more"
        async with aiohttp.ClientSession() as client:
            async with client.post(
                f"{served.address}{LIST}", json={}, headers={"Authorization": ALICE}
            ) as answer:
                assert answer.status == 200
    async with serving(tmp_path, distant=(chain, key), server_ca=str(other)) as served:
        await _nobody_answers(served)


async def test_handshakes_that_do_not_go_on_give_way_to_who_wants_one(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gateway.proxy.door import doorway

    monkeypatch.setattr(doorway, "HANDSHAKES", 4)
    monkeypatch.setattr(doorway, "YIELD_S", 0.2)
    chain, key = self_signed(tmp_path)
    trusted = ssl.create_default_context(cafile=str(chain))
    trusted.set_alpn_protocols(["h2"])
    hello = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        trusted.wrap_bio(ssl.MemoryBIO(), hello, server_hostname="127.0.0.1").do_handshake()
    first = hello.read()
    async with serving(tmp_path, tls_cert=str(chain), tls_key=str(key)) as served:
        # eight of them wait before everybody else
        crowd = [await Client.connect(served.port) for _ in range(12)]
        for client in crowd:
            client.send(first)
        pool = served.edge._doorway._handshakes.pool
        await comes(lambda: pool.taken == 4 and pool.waiting == 8)
        began = time.perf_counter()
        browser = await Browser.connect(served.port, trusted)
        assert time.perf_counter() - began < 5  # a handshake has 10 s
        assert (await browser.get("/healthz")).status == 200
        await browser.close()
        assert served.edge.counts.refused_handshake >= 5
        for client in crowd:
            client.close()
        await comes(
            lambda: (pool.taken, pool.waiting) == (0, 0) and not served.edge._doorway._under_way
        )
        await comes(lambda: served.edge.admission.present == 0)
