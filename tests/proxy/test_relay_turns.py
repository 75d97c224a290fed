"""Whose turn it is, and what is whose: bulk without a pipe, pipes of the idle, numbers of sockets
that are closed."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from socket import SocketType

import pytest

from gateway.networks import Destination
from gateway.proxy.door.client_hello import unrecognized_name_alert
from gateway.proxy.relay import carrier
from gateway.proxy.relay.relay import CHUNK_BYTES, MOVES
from gateway.proxy.sockets.poller import EDGES, ENDED, ROUNDS, Poller
from tests.proxy.test_relay import HELLO, Start, gone, greet, port_of, start
from tests.waiting import comes

__all__ = ["start"]  # a fixture


async def test_a_flow_that_gets_no_pipe_lets_others_have_their_turn_and_waits_for_its_own_once(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(-1)
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    edge = await start(port_of(server), max_pipes=0)
    _, writer = await greet(edge)
    await comes(lambda: edge.carrier.relays)
    (relay,) = edge.carrier.relays
    chunks = 0

    def receive(*_: object) -> int:
        nonlocal chunks
        chunks += 1
        if chunks > 100 * MOVES:
            raise BlockingIOError
        return CHUNK_BYTES

    queued: list[object] = []
    monkeypatch.setattr(Poller, "again", lambda _, ready: queued.append(ready))
    monkeypatch.setattr(relay.client, "_receive", receive)
    monkeypatch.setattr(relay.upstream, "send", lambda piece, _: len(piece))
    for turn in range(1, 4):  # events may come before its turn does
        relay.client.ready(ENDED)
        assert chunks == turn * MOVES
        assert len(queued) == 1
        assert edge.carrier.pipes.refused == turn
    relay.client._go_on(0)
    assert len(queued) == 2
    monkeypatch.undo()
    writer.close()
    await gone(edge)
    server.close()


async def test_who_goes_on_costs_one_turn_of_the_event_loop_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    turns, left, turn = 0, 50 * ROUNDS, Poller._turn

    def counted(poller: Poller) -> None:
        nonlocal turns
        turns += 1
        turn(poller)

    monkeypatch.setattr(Poller, "_turn", counted)
    poller = Poller(asyncio.get_running_loop())

    def go_on(_: int) -> None:
        nonlocal left
        left -= 1
        if left:
            poller.again(go_on)

    poller.again(go_on)
    await comes(lambda: not left)
    await asyncio.sleep(0.05)
    poller.close()
    assert turns <= 52


async def test_an_idle_connection_gives_its_pipe_back_and_bulk_takes_one_again(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(carrier, "CALM_S", 0.1, raising=False)
    taken = 0

    async def sink(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal taken
        while piece := await reader.read(2**20):
            taken += len(piece)
        writer.close()

    server = await asyncio.start_server(sink, "127.0.0.1", 0, limit=2**20)
    edge = await start(port_of(server), max_pipes=1)
    talks = [await greet(edge) for _ in range(2)]
    total = 2 * len(HELLO)
    for _ in range(2):
        for _, writer in talks:  # each in its turn has the only pipe
            refused = edge.carrier.pipes.refused
            writer.write(bytes(8 * 2**20))
            total += 8 * 2**20
            await comes(lambda: taken == total)  # noqa: B023
            assert edge.carrier.pipes.refused == refused
            await comes(lambda: not edge.carrier.pipes.leased)
    assert all(relay.hastened for relay in edge.carrier.relays)
    await comes(lambda: edge.carrier._calming is None)
    for _, writer in talks:
        writer.close()
    await gone(edge)
    server.close()


@pytest.mark.parametrize("answers", [False, True])
async def test_an_event_of_a_socket_that_is_closed_is_not_taken_for_a_connection(
    start: Start, answers: bool
) -> None:
    edge = await start(1, connect_timeout_s=5.0 if answers else 0.5)
    with socket.socket() as full, contextlib.ExitStack() as held:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(2):  # the backlog: who comes now gets no answer yet
            filling = held.enter_context(socket.socket())
            filling.setblocking(False)
            filling.connect_ex(full.getsockname())
        ours, theirs = socket.socketpair()
        held.enter_context(theirs)
        theirs.send(b"a hello")
        client = SocketType(fileno=ours.detach())
        assert edge.admission.enter("a")
        assert edge.admission.join("c")
        edge.carrier.carry(client, Destination.of(*full.getsockname()), ("a", "c"))
        await comes(lambda: len(edge.carrier._attempts))
        (attempt,) = edge.carrier._attempts._due
        attempt.ready(EDGES)
        assert not edge.carrier.relays
        assert attempt in edge.carrier._attempts
        if answers:
            for _ in range(2):
                held.enter_context(full.accept()[0])
            await comes(lambda: edge.carrier.relays)
        else:
            await comes(lambda: not edge.admission.present)
            assert edge.counts.connect_timeouts == 1
            assert theirs.recv(64) == unrecognized_name_alert()
