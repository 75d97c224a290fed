"""What relays carry, and how they end: bytes whole both ways, back-pressure, half-closes, peers
that break off."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import pathlib
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from daskgateway.internal.v1 import route_pb2

from gateway.proxy.app import Edge
from gateway.proxy.config import Proxy
from gateway.wire import server_name
from tests.proxy.test_client_hello import real_hello
from tests.waiting import comes

UID = "c" + "a" * 20
HELLO = real_hello(server_name(UID))
Start = Callable[..., Awaitable[Edge]]
CLOSED = 7  # TCP_CLOSE, as TCP_INFO tells it


@pytest.fixture
async def start(tmp_path: pathlib.Path) -> AsyncIterator[Start]:
    """Starts an edge without a server, with settings, that leads to a port."""
    made: list[Edge] = []

    async def begin(port: int, **settings: object) -> Edge:
        (tmp_path / "token").write_text("t")
        fixed: dict[str, object] = {
            "address": "127.0.0.1:0",
            "state_dir": str(tmp_path / f"edge{len(made)}"),
            "token_file": str(tmp_path / "token"),
            "server_address": f"unix:{tmp_path}/no.sock",
            "drain_s": 0.1,
        }
        edge = Edge(Proxy(**(fixed | settings)))
        edge.port = int((await edge.start()).rpartition(":")[2])  # type: ignore[attr-defined]
        made.append(edge)
        route = route_pb2.Route(uid=UID, local=True, scheduler_address=f"127.0.0.1:{port}")
        edge.routes.apply(route_pb2.RouteUpdate(snapshot=True, routes=[route]))
        return edge

    yield begin
    for edge in made:
        await edge.stop()


def port_of(listening: asyncio.Server | Edge) -> int:
    """Return where something listens."""
    return int(
        listening.port if isinstance(listening, Edge) else listening.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
    )


async def greet(edge: Edge) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect as a client does; return once the far end has the hello."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port_of(edge), limit=2**20)
    writer.write(HELLO)
    return reader, writer


async def gone(edge: Edge) -> None:
    """Wait until no relay is left."""
    await comes(lambda: not edge.carrier.relays)


@pytest.mark.parametrize("pipes", [0, 1, 8])
async def test_bytes_arrive_whole_in_both_directions_at_once(start: Start, pipes: int) -> None:
    size, seed = 24 * 2**20, random.Random(pipes)
    # of what schedulers have read, which they may do after the relay is over
    sums: asyncio.Queue[str] = asyncio.Queue()

    async def exchange(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes, skip: int = 0
    ) -> str:
        async def send() -> None:
            at = 0
            while at < len(data):
                step = seed.choice([1, 700, 70_000, 2_000_000])
                writer.write(data[at : at + step])
                at += step
                await writer.drain()
            writer.write_eof()

        sending = asyncio.ensure_future(send())
        await reader.readexactly(skip)
        digest, received = hashlib.sha256(), 0
        while piece := await reader.read(2**20):
            digest.update(piece)
            received += len(piece)
        await sending
        assert received == size
        writer.close()
        return digest.hexdigest()

    up, down = os.urandom(size), os.urandom(size)

    async def scheduler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sums.put_nowait(await exchange(reader, writer, down, len(HELLO)))

    server = await asyncio.start_server(scheduler, "127.0.0.1", 0, limit=2**20)
    edge = await start(port_of(server), max_pipes=pipes)
    async with asyncio.timeout(60):
        clients = [await greet(edge) for _ in range(3)]
        received = await asyncio.gather(
            *(exchange(reader, writer, up) for reader, writer in clients)
        )
        assert received == [hashlib.sha256(down).hexdigest()] * 3
        await gone(edge)
        assert [await sums.get() for _ in range(3)] == [hashlib.sha256(up).hexdigest()] * 3
    assert edge.counts.bytes_up == 3 * (size + len(HELLO))
    assert edge.counts.bytes_down == 3 * size
    assert edge.carrier.pipes.leased == 0
    assert (edge.carrier.pipes.refused > 0) == (pipes < 8)
    for _, writer in clients:
        writer.close()
    server.close()


def rss_bytes() -> int:
    """Return the resident memory of this process."""
    return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


@pytest.mark.parametrize("pipes", [0, 8])
async def test_a_stalled_reader_stops_its_sender_and_costs_no_memory(
    start: Start, pipes: int
) -> None:
    total, sent = 4 * 2**30, 0
    block = bytes(2**20)

    async def scheduler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.transport.set_write_buffer_limits(0)
        try:
            while sent < total:
                writer.write(block)
                await writer.drain()
                sent += len(block)
        except ConnectionError:
            pass
        writer.close()

    server = await asyncio.start_server(scheduler, "127.0.0.1", 0)
    edge = await start(port_of(server), max_pipes=pipes)
    before = rss_bytes()
    with socket.create_connection(("127.0.0.1", port_of(edge))) as reader:
        reader.sendall(HELLO)
        seen = -1
        async with asyncio.timeout(30):
            while sent != seen or not sent:  # until the sender stands still
                seen = sent
                await asyncio.sleep(0.3)
        assert sent < 128 * 2**20
        assert rss_bytes() - before < 64 * 2**20
        (relay,) = edge.carrier.relays
        carried = relay.upstream.carried
        reader.settimeout(10)
        taken = 0
        while taken < carried + 8 * 2**20:  # it goes on where it stood
            piece = await asyncio.to_thread(reader.recv, 2**20)
            assert piece
            taken += len(piece)
    await gone(edge)
    server.close()


async def test_a_client_that_breaks_off_takes_its_relay_with_it(start: Start) -> None:
    ended = asyncio.Event()

    async def scheduler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.read(-1)
        except ConnectionError:
            pass
        ended.set()
        writer.close()

    server = await asyncio.start_server(scheduler, "127.0.0.1", 0)
    edge = await start(port_of(server))
    _, writer = await greet(edge)
    await comes(lambda: edge.carrier.relays)
    async with asyncio.timeout(10):
        writer.transport.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0"
        )
        writer.transport.abort()
        await ended.wait()
    await gone(edge)
    assert edge.admission.present == 0
    server.close()


async def test_a_half_closed_relay_lives_as_long_as_something_moves(start: Start) -> None:
    async def talker(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(-1)
        for _ in range(8):
            writer.write(b"x")
            await asyncio.sleep(0.1)
        writer.close()

    server = await asyncio.start_server(talker, "127.0.0.1", 0)
    edge = await start(port_of(server), linger_s=0.4)
    reader, writer = await greet(edge)
    writer.write_eof()
    async with asyncio.timeout(10):
        assert await reader.read(-1) == b"x" * 8
    assert edge.counts.linger_timeouts == 0
    writer.close()
    server.close()


@pytest.mark.parametrize("pipes", [0, 8])
async def test_a_slow_reader_has_the_whole_answer_after_it_ended_its_own_side(
    start: Start, pipes: int
) -> None:
    size, slow_s = 12 * 2**20, 2.5

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(-1)
        writer.write(bytes(size))
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    edge = await start(port_of(server), max_pipes=pipes, linger_s=0.3)
    with socket.socket() as reader:
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32 * 1024)
        reader.connect(("127.0.0.1", port_of(edge)))
        reader.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(reader, HELLO)
        reader.shutdown(socket.SHUT_WR)
        got, began = 0, loop.time()
        async with asyncio.timeout(30):
            while piece := await loop.sock_recv(reader, 48 * 1024):
                got += len(piece)
                if loop.time() - began < slow_s:
                    await asyncio.sleep(0.05)
    assert (got, edge.counts.linger_timeouts) == (size, 0)
    await gone(edge)
    server.close()


@pytest.mark.parametrize("pipes", [0, 8])
async def test_a_reader_that_takes_nothing_after_it_ended_its_own_side_is_ended(
    start: Start, pipes: int
) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(-1)
        writer.write(bytes(32 * 2**20))
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    edge = await start(port_of(server), max_pipes=pipes, linger_s=0.5)
    with socket.create_connection(("127.0.0.1", port_of(edge))) as reader:
        reader.sendall(HELLO)
        reader.shutdown(socket.SHUT_WR)
        await comes(lambda: edge.counts.linger_timeouts)
        await gone(edge)
    server.close()


@pytest.mark.parametrize("why", ["silence", "the edge stops"])
async def test_what_is_cut_from_here_is_reset_for_both_peers_and_everything_is_given_back(
    start: Start, why: str
) -> None:
    came: asyncio.Future[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = (
        asyncio.get_running_loop().create_future()
    )
    server = await asyncio.start_server(lambda *talk: came.set_result(talk), "127.0.0.1", 0)
    edge = await start(port_of(server), linger_s=0.4 if why == "silence" else 60.0)
    client, scheduler = await greet(edge), await came
    assert await scheduler[0].readexactly(len(HELLO)) == HELLO
    client[1].write(bytes(2**22))  # so much that a pipe is leased
    assert await scheduler[0].readexactly(2**22) == bytes(2**22)
    if why == "silence":
        client[1].write_eof()
        assert await scheduler[0].read(1) == b""
    else:
        await edge.carrier.close()
    async with asyncio.timeout(10):
        with pytest.raises(ConnectionResetError):
            await client[0].read(1)
        # who has heard an end already reads no more: the kernel's own state tells
        if why == "silence":
            end = scheduler[1].get_extra_info("socket")
            await comes(lambda: end.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == CLOSED)
        else:
            with pytest.raises(ConnectionResetError):
                await scheduler[0].read(1)
        await gone(edge)
    assert edge.counts.linger_timeouts == (why == "silence")
    assert (edge.admission.present, edge.carrier.pipes.leased) == (0, 0)
    for _, writer in (client, scheduler):
        writer.close()
    server.close()


async def test_an_end_that_both_peers_wished_is_none_by_a_reset(start: Start) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(-1)
        writer.write(b"bye")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    edge = await start(port_of(server))
    reader, writer = await greet(edge)
    writer.write_eof()
    async with asyncio.timeout(10):
        assert await reader.read(-1) == b"bye"
        assert await reader.read(-1) == b""
    await gone(edge)
    writer.close()
    server.close()


async def test_peers_are_probed_for_life_and_small_writes_do_not_wait(start: Start) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(-1)
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    edge = await start(port_of(server), linger_s=0.2)
    _, writer = await greet(edge)
    await comes(lambda: any(relay.armed for relay in edge.carrier.relays))
    (relay,) = edge.carrier.relays
    for end in (relay.client.socket, relay.upstream.socket):
        assert end.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert end.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 60
        assert end.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 120_000
        assert end.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
    writer.close()
    await gone(edge)
    server.close()


async def test_a_scheduler_known_by_name_is_looked_up_and_must_be_where_it_may(
    start: Start,
) -> None:
    async def hello_back(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"here")
        await reader.read(-1)
        writer.close()

    server = await asyncio.start_server(hello_back, "127.0.0.1", 0)
    for networks, answer in (
        (["127.0.0.0/8"], b"here"),
        (["10.0.0.0/8"], bytes([21, 3, 3, 0, 2, 2, 112])),
    ):
        edge = await start(1, scheduler_networks=networks)
        route = route_pb2.Route(
            uid=UID, local=True, scheduler_address=f"localhost:{port_of(server)}"
        )
        edge.routes.apply(route_pb2.RouteUpdate(snapshot=True, routes=[route]))
        reader, writer = await greet(edge)
        writer.write_eof()
        async with asyncio.timeout(10):
            assert await reader.read(-1) == answer
        writer.close()
        await gone(edge)
        assert edge.admission.present == 0
    server.close()


@pytest.mark.parametrize(
    "host", ["a" * 64 + ".example", "a..example", ".", "no-such-host.invalid", "\u00fc" * 60]
)
async def test_a_scheduler_whose_name_cannot_be_looked_up_is_refused_and_nothing_is_held(
    start: Start, host: str
) -> None:
    edge = await start(1)
    edge.routes.apply(
        route_pb2.RouteUpdate(
            snapshot=True,
            routes=[route_pb2.Route(uid=UID, local=True, scheduler_address=f"{host}:8786")],
        )
    )
    reader, writer = await greet(edge)
    async with asyncio.timeout(10):
        assert await reader.read(-1) == bytes([21, 3, 3, 0, 2, 2, 112])
    writer.close()
    assert edge.admission.present == 0
    assert not edge.carrier._lookups
