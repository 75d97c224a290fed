"""The edge over real sockets: relays, refusals, dashboards, and what it does without its server."""

from __future__ import annotations

import asyncio
import io
import json
import os
import pathlib
import secrets
import socket
import subprocess
import sys
from collections.abc import AsyncIterator

import aiohttp
import grpc
import pytest
from aiohttp import web
from daskgateway.internal.v1 import access_pb2_grpc, route_pb2

from gateway.proxy.app import Edge
from gateway.proxy.config import Proxy
from gateway.proxy.http.access import now_ms
from gateway.server.security.tickets import TicketSigner
from gateway.wire import Ticket, basic_credentials, server_name
from tests.proxy.served import Access
from tests.proxy.test_client_hello import real_hello

UID, OTHER = "c" + "a" * 20, "c" + "b" * 20
SIGNER = TicketSigner(b"s" * 32)


@pytest.fixture
async def edge(tmp_path: pathlib.Path) -> AsyncIterator[Edge]:
    """An edge whose server does not answer."""
    (tmp_path / "token").write_text("t")
    options = Proxy(
        address="127.0.0.1:0",
        state_dir=str(tmp_path / "edge"),
        token_file=str(tmp_path / "token"),
        server_address=f"unix:{tmp_path}/no.sock",
        hello_timeout_s=0.5,
        drain_s=0.2,
    )
    made = Edge(options)
    made.bound = await made.start()  # type: ignore[attr-defined]
    yield made
    await made.stop()


def port_of(edge: Edge) -> int:
    """Return where it listens."""
    return int(edge.bound.rpartition(":")[2])  # type: ignore[attr-defined]


def add_route(edge: Edge, scheduler: int, dashboard: int = 0) -> None:
    """Tell the edge of a cluster."""
    route = route_pb2.Route(uid=UID, local=True, scheduler_address=f"127.0.0.1:{scheduler}")
    if dashboard:
        route.dashboard_address = f"127.0.0.1:{dashboard}"
    edge.routes.apply(
        route_pb2.RouteUpdate(snapshot=True, routes=[route], ticket_keys=[SIGNER.public_key])
    )


async def echo_until_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer only once the other side has ended its half."""
    received = await reader.read(-1)
    writer.write(len(received).to_bytes(8, "big") + received[-10:])
    await writer.drain()
    writer.close()


async def test_a_known_name_is_relayed_untouched_with_half_close(edge: Edge) -> None:
    server = await asyncio.start_server(echo_until_end, "127.0.0.1", 0)
    add_route(edge, server.sockets[0].getsockname()[1])
    reader, writer = await asyncio.open_connection("127.0.0.1", port_of(edge))
    hello, bulk = real_hello(server_name(UID)), b"x" * 5_000_000 + b"the end..!"
    writer.write(hello[:50])
    await writer.drain()
    writer.write(hello[50:] + bulk)
    writer.write_eof()
    answer = await asyncio.wait_for(reader.read(-1), 10)
    assert int.from_bytes(answer[:8], "big") == len(hello) + len(bulk)
    assert answer[8:] == b"the end..!"
    writer.close()
    server.close()


async def test_an_unknown_name_is_refused_by_a_tls_alert(edge: Edge) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port_of(edge))
    writer.write(real_hello(server_name(OTHER)))
    assert await asyncio.wait_for(reader.read(-1), 5) == bytes([21, 3, 3, 0, 2, 2, 112])
    writer.close()


@pytest.mark.parametrize(
    "junk",
    [
        b"\x00\x01\x02",
        b"SSH-2.0-OpenSSH_9\r\n",
        b"\x16\x03\x01\x00\x00",
        b"\x16\x03\x01\x40\x00" + b"\x02" * 100,
    ],
)
async def test_junk_is_closed_on(edge: Edge, junk: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port_of(edge))
    writer.write(junk)
    try:
        assert await asyncio.wait_for(reader.read(-1), 5) == b""
    except ConnectionResetError:
        pass
    writer.close()


async def test_who_says_nothing_is_dismissed_in_time(edge: Edge) -> None:
    silent = [await asyncio.open_connection("127.0.0.1", port_of(edge)) for _ in range(20)]
    for number, (_, writer) in enumerate(silent):
        writer.write(real_hello(server_name(UID))[:number])
    for reader, writer in silent:
        try:
            assert await asyncio.wait_for(reader.read(-1), 5) == b""
        except ConnectionResetError:
            pass
        writer.close()
    assert edge.listener.newcomers == 0


async def test_a_scheduler_that_is_gone_is_refused_as_one_that_never_was(edge: Edge) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        add_route(edge, free.getsockname()[1])
    answers = []
    for uid in (UID, OTHER):
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(edge))
        writer.write(real_hello(server_name(uid)))
        answers.append(await asyncio.wait_for(reader.read(-1), 5))
        writer.close()
    assert answers == [bytes([21, 3, 3, 0, 2, 2, 112])] * 2
    assert edge.admission.present == 0


async def test_routes_outlive_the_edge_without_a_server(edge: Edge) -> None:
    add_route(edge, 4321)
    edge.routes.save()
    assert (edge.state_dir / "routes.json").stat().st_mode & 0o077 == 0
    from gateway.proxy.routes.routes import RouteTable

    again = RouteTable(edge.state_dir / "routes.json")
    again.load()
    assert again.find(UID) is None  # nothing leads anywhere before it is known where it may
    again = RouteTable(edge.state_dir / "routes.json", edge.routes.targets)
    again.load()
    route = again.find(UID)
    assert route is not None
    assert (route.scheduler, route.local) == (("127.0.0.1", 4321), True)
    assert again.ticket_keys == (SIGNER.public_key,)
    (edge.state_dir / "routes.json").write_text("{")
    RouteTable(edge.state_dir / "routes.json").load()  # what cannot be read is passed over


@pytest.fixture
async def dashboard(edge: Edge, tmp_path: pathlib.Path) -> AsyncIterator[str]:
    """A dashboard behind the edge, whose server takes tickets; yields its public address."""
    server = grpc.aio.server()
    access_pb2_grpc.add_AccessServiceServicer_to_server(Access(), server)
    server.add_insecure_port(f"unix:{tmp_path}/no.sock")
    await server.start()

    async def status(request: web.Request) -> web.Response:
        return web.json_response(
            {"headers": dict(request.headers), "path": request.path, "query": dict(request.query)}
        )

    async def away(_: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": "/status"})

    async def echo(request: web.Request) -> web.WebSocketResponse:
        talk = web.WebSocketResponse()
        await talk.prepare(request)
        async for message in talk:
            await talk.send_str(message.data + "!")
        return talk

    app = web.Application()
    app.add_routes([web.get("/status", status), web.get("/", away), web.get("/status/ws", echo)])
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    add_route(edge, 1, runner.addresses[0][1])
    yield f"http://127.0.0.1:{port_of(edge)}/clusters/{UID}"
    await runner.cleanup()
    await server.stop(None)


def ticket(uid: str = UID, lasts_ms: int = 60_000) -> str:
    """Return a ticket."""
    return SIGNER.issue(Ticket(uid, "alice", now_ms() + lasts_ms, secrets.token_hex(8)))


async def test_a_dashboard_opens_with_a_ticket_and_keeps_credentials_to_itself(
    dashboard: str,
) -> None:
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as browser:
        async with browser.get(f"{dashboard}/status?ticket={ticket()}&theme=dark") as answer:
            assert answer.status == 200
            assert "ticket" not in str(answer.url)
            told = json.loads(await answer.text())
        assert told["path"] == "/status"
        assert told["query"] == {"theme": "dark"}
        assert "Cookie" not in told["headers"]
        assert "Authorization" not in told["headers"]
        async with browser.get(f"{dashboard}/", allow_redirects=False) as answer:
            assert answer.headers["Location"] == f"/clusters/{UID}/status"
        async with browser.ws_connect(f"{dashboard}/status/ws") as talk:
            await talk.send_str("hello")
            assert await talk.receive_str() == "hello!"


@pytest.mark.parametrize(
    "bad", ["", "junk", "a.b", ticket(OTHER), ticket(lasts_ms=-1), ticket()[:-4] + "AAAA"]
)
async def test_a_dashboard_stays_shut_without_a_good_ticket(dashboard: str, bad: str) -> None:
    async with aiohttp.ClientSession() as browser:
        async with browser.get(f"{dashboard}/status", params={"ticket": bad}) as answer:
            assert answer.status == 401
            assert "Set-Cookie" not in answer.headers
        async with browser.get(f"{dashboard}/status", headers={"Accept": "text/html"}) as answer:
            assert answer.status == 401
            assert "<form" in await answer.text()


async def test_a_login_from_another_site_is_refused(dashboard: str) -> None:
    async with aiohttp.ClientSession() as browser:
        async with browser.post(
            f"{dashboard}/login", data={"user": "a"}, headers={"Origin": "https://evil.example"}
        ) as answer:
            assert answer.status == 403


async def test_calls_without_a_server_are_unavailable_and_wrong_ones_are_told(edge: Edge) -> None:
    base = f"http://127.0.0.1:{port_of(edge)}"
    async with aiohttp.ClientSession(
        headers={"Authorization": basic_credentials("alice", "wonderland")}
    ) as caller:
        url = f"{base}/daskgateway.v1.ClusterService/ListClusters"
        async with caller.post(url, json={}) as answer:
            assert answer.status == 503
            assert (await answer.json())["code"] == "unavailable"
        async with caller.post(url, json={"colour": 1}) as answer:
            assert answer.status == 400
            told = await answer.json()
            assert told["code"] == "invalid_argument"
            assert {detail["type"] for detail in told["details"]} == {
                "google.rpc.ErrorInfo",
                "google.rpc.BadRequest",
            }
        async with caller.post(
            url, data=io.BytesIO(b"x" * 2_000_000), headers={"Content-Type": "application/json"}
        ) as answer:
            assert (await answer.json())["code"] == "resource_exhausted"
        async with caller.put(url) as answer:
            assert answer.status == 405
        async with caller.post(f"{base}/daskgateway.v1.ClusterService/Nothing", json={}) as answer:
            assert (await answer.json())["code"] == "unimplemented"
        async with caller.get(f"{base}/healthz") as answer:
            assert (await answer.json())["server"] is False


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives directories to others")
def test_a_state_directory_that_somebody_else_made_first_is_refused(tmp_path: pathlib.Path) -> None:
    (tmp_path / "tmp").mkdir()
    (tmp_path / "tmp").chmod(0o1777)
    place = tmp_path / "tmp" / "edge"
    place.mkdir(mode=0o700)
    os.chown(place, 65533, 65533)
    (tmp_path / "token").write_text("t")
    settings = {
        "address": "127.0.0.1:0",
        "state_dir": place,
        "token_file": tmp_path / "token",
        "server_address": f"unix:{tmp_path}/no",
    }
    words = [
        sys.executable,
        "-m",
        "gateway",
        "proxy",
        *(f"--Proxy.{name}={value}" for name, value in settings.items()),
    ]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert f"c.Proxy.state_dir: {place}: it is the user's with number 65533" in done.stderr
    assert list(place.iterdir()) == []
