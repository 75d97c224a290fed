"""Peers that vanish without a word, as machines do that lose power or their network: neither FIN
nor RST ever comes.

A filter on a socket of this machine drops everything that arrives there, before TCP sees it; so
nothing is acknowledged any more.
"""

from __future__ import annotations

import asyncio
import ctypes
import pathlib
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import aiohttp
import pytest

from gateway.proxy.http import tunnel
from gateway.proxy.sockets import vitality
from gateway.wire import server_name
from tests.proxy.served import ALICE, UID, serving
from tests.proxy.test_client_hello import real_hello
from tests.proxy.test_relay import Start, gone, greet, port_of, start
from tests.waiting import comes

__all__ = ["start"]  # a fixture

HELLO = real_hello(server_name(UID))
SO_ATTACH_FILTER = 26
DROP_ALL = b"\x06\0\0\0\0\0\0\0"  # struct sock_filter: return 0 bytes
QUICK = {
    socket.TCP_KEEPIDLE: 1,
    socket.TCP_KEEPINTVL: 1,
    socket.TCP_KEEPCNT: 2,
    socket.TCP_USER_TIMEOUT: 3_000,
}


class Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("filters", ctypes.c_char_p))


@contextmanager
def vanished(writer: asyncio.StreamWriter) -> Iterator[None]:
    """Let the peer behind a stream be gone."""
    end = socket.fromfd(
        writer.get_extra_info("socket").fileno(), socket.AF_INET, socket.SOCK_STREAM
    )
    end.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, bytes(Program(1, DROP_ALL)))
    yield
    end.close()


def hasten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let peers be found gone in seconds."""
    monkeypatch.setattr(
        vitality, "KEEPALIVE", tuple((option, QUICK[option]) for option, _ in vitality.KEEPALIVE)
    )


@pytest.mark.parametrize("who", ["client", "scheduler"])
@pytest.mark.parametrize("busy", [False, True], ids=["idle", "bytes in flight"])
async def test_a_peer_that_vanishes_takes_its_relay_with_it(
    start: Start, monkeypatch: pytest.MonkeyPatch, who: str, busy: bool
) -> None:
    hasten(monkeypatch)
    came: asyncio.Future[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = (
        asyncio.get_running_loop().create_future()
    )
    server = await asyncio.start_server(lambda *talk: came.set_result(talk), "127.0.0.1", 0)
    edge = await start(port_of(server), linger_s=0.2)
    client_reads, client = await greet(edge)
    scheduler_reads, scheduler = await came
    await comes(lambda: any(relay.armed for relay in edge.carrier.relays))
    gone_one, left = (client, scheduler) if who == "client" else (scheduler, client)
    with vanished(gone_one):
        if busy:
            left.write(b"x" * 100_000)
        await gone(edge)
        assert edge.admission.present == 0
        assert edge.carrier.pipes.leased == 0
        with pytest.raises(ConnectionResetError):  # an end would be believed
            await (scheduler_reads if who == "client" else client_reads).read(-1)
    for writer in (client, scheduler):
        writer.transport.abort()
    server.close()


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "bytes in flight"])
async def test_a_scheduler_that_vanishes_takes_its_tunnel_with_it(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, busy: bool
) -> None:
    hasten(monkeypatch)
    came: asyncio.Future[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = (
        asyncio.get_running_loop().create_future()
    )
    server = await asyncio.start_server(lambda *talk: came.set_result(talk), "127.0.0.1", 0)
    async with serving(tmp_path) as served, aiohttp.ClientSession() as caller:
        served.add_routes(port_of(server))
        talk = await caller.ws_connect(
            f"{served.address}/tunnel/{UID}", headers={"Authorization": ALICE}
        )
        heard, scheduler = await came
        await talk.send_bytes(HELLO)
        assert await heard.readexactly(len(HELLO)) == HELLO
        with vanished(scheduler):
            if busy:
                await talk.send_bytes(b"x" * 100_000)
            await comes(lambda: not served.edge.numbers()["tunnels"])
        await talk.close()
        scheduler.transport.abort()
    server.close()


async def test_a_tunnel_whose_caller_does_not_answer_is_reset_for_its_scheduler(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tunnel, "SILENCE_S", 0.3)
    monkeypatch.setattr(tunnel, "PING_S", 0.1)
    came: asyncio.Future[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = (
        asyncio.get_running_loop().create_future()
    )
    server = await asyncio.start_server(lambda *talk: came.set_result(talk), "127.0.0.1", 0)
    async with serving(tmp_path) as served, aiohttp.ClientSession() as caller:
        served.add_routes(port_of(server))
        # it reads nothing
        async with caller.ws_connect(
            f"{served.address}/tunnel/{UID}", headers={"Authorization": ALICE}
        ) as talk:
            await talk.send_bytes(HELLO)
            reader, writer = await came
            assert await reader.readexactly(len(HELLO)) == HELLO
            async with asyncio.timeout(10):
                with pytest.raises(ConnectionResetError):
                    await reader.read(1)
        await comes(lambda: not served.edge.numbers()["tunnels"])
        writer.close()
    server.close()
