"""Tunnels: who gets one, what they carry, how they end, and the client's side of them."""

from __future__ import annotations

import asyncio
import pathlib
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from gateway.client.calls.channel import Connection
from gateway.client.calls.settings import Auth, BasicAuth, Settings
from gateway.client.dask import tunnel as client_tunnel
from gateway.wire import server_name
from tests.proxy.served import ALICE, BOB, NOBODYS, OTHER, UID, Served, serving
from tests.proxy.test_client_hello import real_hello
from tests.waiting import comes

PREFIX = "/services/daskgateway"
HELLO = real_hello(server_name(UID))


@pytest.fixture
async def served(tmp_path: pathlib.Path) -> AsyncIterator[Served]:
    """An edge below a prefix."""
    async with serving(tmp_path, prefix=PREFIX, max_tunnels=3, max_tunnels_per_cluster=2) as made:
        yield made


def connection(served: Served, auth: Auth | None = None) -> Connection:
    """Return a client's connection to it."""
    client_tunnel._sessions.clear()
    return Connection(
        Settings(f"{served.address}{PREFIX}", auth or BasicAuth("alice", "wonderland"))
    )


async def scheduler(served: Served, handle: Any) -> asyncio.Server:
    """Serve what stands for a scheduler, and hears a hello first."""

    async def greeted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            assert await reader.readexactly(len(HELLO)) == HELLO
        except asyncio.IncompleteReadError:
            writer.close()
            return
        await handle(reader, writer)

    server = await asyncio.start_server(greeted, "127.0.0.1", 0)
    served.add_routes(server.sockets[0].getsockname()[1])
    return server


async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer in capitals until the other side ends, then say so and end."""
    while piece := await reader.read(100_000):
        writer.write(piece.upper())
        await writer.drain()
    writer.write(b"bye")
    await writer.drain()
    writer.close()


async def test_only_who_may_gets_a_tunnel_and_no_cluster_shows_otherwise(served: Served) -> None:
    server = await scheduler(served, shout)
    answers: dict[tuple[str, str], Any] = {}
    async with aiohttp.ClientSession() as caller:
        for uid in (UID, OTHER, NOBODYS, "rubbish"):
            for who in ("", ALICE, BOB, "Bearer rubbish"):
                headers = {"Authorization": who} if who else {}
                try:
                    async with caller.ws_connect(
                        f"{served.address}{PREFIX}/tunnel/{uid}", headers=headers
                    ):
                        answers[uid, who] = 101
                except aiohttp.WSServerHandshakeError as error:
                    answers[uid, who] = error.status
        async with caller.get(
            f"{served.address}{PREFIX}/tunnel/{UID}", headers={"Authorization": ALICE}
        ) as answer:
            assert answer.status == 426
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await caller.ws_connect(
                f"{served.address}/tunnel/{UID}",
                headers={"Authorization": ALICE},
                origin="https://evil.example",
            )
        assert caught.value.status == 403
    assert answers == {
        (uid, who): 401
        if who not in (ALICE, BOB)
        else 101
        if (uid, who) in ((UID, ALICE), (OTHER, BOB))
        else 404
        for uid in (UID, OTHER, NOBODYS, "rubbish")
        for who in ("", ALICE, BOB, "Bearer rubbish")
    }
    server.close()


async def test_bytes_pass_both_ways_and_half_close_is_carried(served: Served) -> None:
    server = await scheduler(served, shout)
    async with aiohttp.ClientSession() as caller:
        async with caller.ws_connect(
            f"{served.address}/tunnel/{UID}", headers={"Authorization": ALICE}
        ) as talk:
            await talk.send_bytes(HELLO + b"hello")
            assert await talk.receive_bytes() == b"HELLO"
            await talk.send_bytes(b"")
            assert await talk.receive_bytes() == b"bye"
            assert await talk.receive_bytes() == b""
            assert (await talk.receive()).type is aiohttp.WSMsgType.CLOSE
    server.close()


async def test_there_are_only_so_many(served: Served) -> None:
    server = await scheduler(served, shout)
    async with aiohttp.ClientSession() as caller:
        tunnels = [
            await caller.ws_connect(
                f"{served.address}/tunnel/{UID}", headers={"Authorization": ALICE}
            )
            for _ in range(2)
        ]
        tunnels.append(
            await caller.ws_connect(
                f"{served.address}/tunnel/{OTHER}", headers={"Authorization": BOB}
            )
        )
        for uid, who in ((UID, ALICE), (OTHER, BOB)):
            with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
                await caller.ws_connect(
                    f"{served.address}/tunnel/{uid}", headers={"Authorization": who}
                )
            assert caught.value.status == 503
        async with caller.get(f"{served.address}/healthz") as answer:
            assert (await answer.json())["tunnels"] == 3
        await tunnels.pop().close()
        tunnels.append(
            await caller.ws_connect(
                f"{served.address}/tunnel/{OTHER}", headers={"Authorization": BOB}
            )
        )
        for tunnel in tunnels:
            await tunnel.close()
    server.close()


async def test_a_tunnel_takes_up_its_clusters_share_of_connections(tmp_path: pathlib.Path) -> None:
    async with (
        serving(tmp_path, max_connections_per_cluster=1) as served,
        aiohttp.ClientSession() as caller,
    ):
        server = await scheduler(served, shout)
        first = await caller.ws_connect(
            f"{served.address}/tunnel/{UID}", headers={"Authorization": ALICE}
        )
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await caller.ws_connect(
                f"{served.address}/tunnel/{UID}", headers={"Authorization": ALICE}
            )
        assert caught.value.status == 503
        assert served.edge.counts.refused_cluster == 1
        assert served.edge.numbers()["tunnels"] == 1
        await first.close()
        await comes(lambda: not served.edge.numbers()["tunnels"])
        await (
            await caller.ws_connect(
                f"{served.address}/tunnel/{UID}", headers={"Authorization": ALICE}
            )
        ).close()
        server.close()


@pytest.mark.parametrize(
    ("networks", "outcome"), [(["127.0.0.0/8", "::1/128"], b"HERE"), (["10.0.0.0/8"], 502)]
)
async def test_a_tunnel_to_a_name_leads_only_where_schedulers_may_be(
    tmp_path: pathlib.Path, networks: list[str], outcome: bytes | int
) -> None:
    async with (
        serving(tmp_path, scheduler_networks=networks) as served,
        aiohttp.ClientSession() as caller,
    ):
        server = await scheduler(served, shout)
        served.add_routes(server.sockets[0].getsockname()[1], host="localhost")
        found: bytes | int
        try:
            async with caller.ws_connect(
                f"{served.address}/tunnel/{UID}", headers={"Authorization": ALICE}
            ) as talk:
                await talk.send_bytes(HELLO + b"here")
                found = await talk.receive_bytes()
        except aiohttp.WSServerHandshakeError as error:
            found = error.status
        assert found == outcome
        server.close()


async def test_a_scheduler_that_is_gone_is_told(served: Served) -> None:
    served.add_routes(1)
    with pytest.raises(client_tunnel.TunnelRefused, match="opens no tunnel now") as caught:
        await client_tunnel.open_tunnel(connection(served), UID)
    assert caught.value.status == 502


async def test_a_stalled_scheduler_stalls_the_caller_and_memory_stays_bounded(
    served: Served,
) -> None:
    go, ended = asyncio.Event(), asyncio.Event()
    taken = 0

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal taken
        await go.wait()
        while piece := await reader.read(1_000_000):
            taken += len(piece)
        writer.close()
        ended.set()

    server = await scheduler(served, slow)
    end = await client_tunnel.open_tunnel(connection(served), UID)
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(end, HELLO)
    piece, sent, blocked = b"x" * 1_000_000, 0, False
    while not blocked:
        sending = asyncio.ensure_future(loop.sock_sendall(end, piece))
        blocked = not (await asyncio.wait([sending], timeout=2.0))[0]
        sent += len(piece)
        # what kernel buffers, the WebSocket's and the edge's hold together
        assert sent < 64_000_000
    go.set()
    await sending
    end.close()
    async with asyncio.timeout(20):
        await ended.wait()
    assert taken == sent
    server.close()


async def test_a_stalled_caller_stalls_the_scheduler(served: Served) -> None:
    sent, ended = 0, asyncio.Event()

    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        try:
            for _ in range(200):
                writer.write(b"x" * 1_000_000)
                await writer.drain()
                sent += 1_000_000
        except ConnectionError:
            pass
        writer.close()
        ended.set()

    server = await scheduler(served, pour)
    end = await client_tunnel.open_tunnel(connection(served), UID)
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(end, HELLO)
    before = -1
    while sent != before:
        before = sent
        await asyncio.sleep(1.0)
    assert 0 < sent < 64_000_000
    received = 0
    while piece := await loop.sock_recv(end, 1_000_000):
        received += len(piece)
    assert received == 200_000_000
    end.close()
    await ended.wait()
    server.close()


async def test_the_clients_end_is_a_socket_and_everything_is_let_go(served: Served) -> None:
    server = await scheduler(served, shout)
    end = await client_tunnel.open_tunnel(connection(served), UID)
    reader, writer = await asyncio.open_connection(sock=end)
    writer.write(HELLO + b"hello")
    assert await reader.readexactly(5) == b"HELLO"
    writer.write_eof()
    assert await reader.read(-1) == b"bye"
    writer.close()
    async with asyncio.timeout(10):
        await asyncio.gather(*client_tunnel._carrying)
    server.close()


async def test_a_session_reopens_a_tunnel_without_the_server(served: Served) -> None:
    server = await scheduler(served, shout)
    known = connection(served)
    for _ in range(3):
        (await client_tunnel.open_tunnel(known, UID)).close()
        async with asyncio.timeout(10):
            await asyncio.gather(*client_tunnel._carrying)
    assert served.credentials.asked == 1
    server.close()


@pytest.mark.parametrize("first", [True, False])
async def test_a_balancers_cookies_are_not_taken_for_the_session(
    served: Served, first: bool
) -> None:
    async def balance(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        edge, to_edge = await asyncio.open_connection("127.0.0.1", served.port)
        to_edge.write(await reader.readuntil(b"\r\n\r\n"))
        lines = (await edge.readuntil(b"\r\n\r\n")).split(b"\r\n")
        lines.insert(
            1 if first else -2,
            b"Set-Cookie: lb=node1; Expires=Wed, 25 Nov 2099 08:00:00 GMT; Path=/",
        )
        writer.write(b"\r\n".join(lines))
        await writer.drain()
        for end in (writer, to_edge):
            end.close()

    server = await scheduler(served, shout)
    balancer = await asyncio.start_server(balance, "127.0.0.1", 0)
    client_tunnel._sessions.clear()
    address = f"http://127.0.0.1:{balancer.sockets[0].getsockname()[1]}{PREFIX}"
    for _ in range(2):
        (
            await client_tunnel.open_tunnel(
                Connection(Settings(address, BasicAuth("alice", "wonderland"))), UID
            )
        ).close()
        async with asyncio.timeout(10):
            await asyncio.gather(*client_tunnel._carrying)
    assert served.credentials.asked == 1
    balancer.close()
    server.close()


@pytest.mark.parametrize(
    ("auth", "uid", "words"),
    [
        (Auth(), UID, "nobody is named: no credentials are given"),
        (
            BasicAuth("alice", "wrong"),
            UID,
            "does not accept the credentials, from the argument auth",
        ),
        (BasicAuth("bob", "builder"), UID, "knows no way to cluster"),
    ],
)
async def test_a_refusal_is_told_in_words(served: Served, auth: Auth, uid: str, words: str) -> None:
    with pytest.raises(client_tunnel.TunnelRefused, match=words):
        await client_tunnel.open_tunnel(connection(served, auth), uid)
    with pytest.raises(OSError, match="no tunnel"):
        await client_tunnel.open_tunnel(Connection(Settings("http://127.0.0.1:9", auth)), uid)


async def test_a_caller_who_vanishes_frees_the_tunnel(served: Served) -> None:
    server = await scheduler(served, shout)
    async with aiohttp.ClientSession() as caller:
        talk = await caller.ws_connect(
            f"{served.address}/tunnel/{UID}", headers={"Authorization": ALICE}
        )
        assert talk._response.connection is not None
        talk._response.connection.transport.abort()  # type: ignore[union-attr]
        async with asyncio.timeout(10):
            while True:
                async with caller.get(f"{served.address}/healthz") as answer:
                    if (await answer.json())["tunnels"] == 0:
                        break
        await talk.close()
    server.close()
