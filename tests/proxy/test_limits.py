"""Who is let in: limits in all, of an address, to a cluster, of newcomers, of descriptors; and
where connections may lead."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import pathlib
import socket
import subprocess
import sys
from typing import Any

import pytest
from daskgateway.internal.v1 import route_pb2

from gateway.configfile import ConfigurationError
from gateway.networks import group_of
from gateway.proxy.config import Proxy
from gateway.proxy.door.admission import Admission, Capacity
from gateway.proxy.settings import descriptors_wanted
from gateway.proxy.sockets.poller import IN
from tests.proxy.test_relay import HELLO, UID, Start, gone, greet, port_of, start
from tests.waiting import comes

__all__ = ["start"]  # a fixture


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Drop the hello, then answer with what comes."""
    try:
        await reader.readexactly(len(HELLO))
        while piece := await reader.read(4096):
            writer.write(piece)
            await writer.drain()
    except (ConnectionError, asyncio.IncompleteReadError):
        pass
    writer.close()


async def echoes(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, within_s: float = 10.0
) -> bool:
    """Whether a byte comes back."""
    writer.write(b"x")
    try:
        async with asyncio.timeout(within_s):
            return await reader.read(1) == b"x"
    except (TimeoutError, ConnectionError):
        return False


async def test_at_the_limit_those_inside_go_on_and_others_wait_until_some_leave(
    start: Start,
) -> None:
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    edge = await start(port_of(server), max_connections=20)
    inside = [await greet(edge) for _ in range(20)]
    for talk in inside:
        assert await echoes(*talk)
    waiting = [await greet(edge) for _ in range(30)]
    assert not await echoes(*waiting[0], within_s=0.3)
    assert all([await echoes(*talk) for talk in inside])
    assert edge.counts.paused_full >= 1
    assert edge.admission.present == 20
    for _, writer in inside:
        writer.close()
    async with asyncio.timeout(20):
        assert await waiting[0][0].read(1) == b"x"  # what it said while it waited
        for talk in waiting[1:20]:
            assert await echoes(*talk)
    for _, writer in waiting:
        writer.close()
    await comes(lambda: not edge.admission.present)
    server.close()


@pytest.mark.parametrize(
    ("limit", "counted"),
    [
        ("max_connections_per_address", "refused_address"),
        ("max_connections_per_cluster", "refused_cluster"),
    ],
)
async def test_who_has_its_share_is_refused_and_served_again_later(
    start: Start, limit: str, counted: str
) -> None:
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    edge = await start(port_of(server), **{limit: 3})
    inside = [await greet(edge) for _ in range(3)]
    for talk in inside:
        assert await echoes(*talk)
    refused = await greet(edge)
    assert not await echoes(*refused)
    assert getattr(edge.counts, counted) == 1
    inside.pop()[1].close()
    await comes(lambda: edge.admission.present == 2)
    again = await greet(edge)
    assert await echoes(*again)
    for _, writer in [*inside, refused, again]:
        writer.close()
    await gone(edge)
    server.close()


async def test_http_connections_count_as_long_as_they_last(start: Start) -> None:
    edge = await start(1)
    reader, writer = await asyncio.open_connection("127.0.0.1", port_of(edge))
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    async with asyncio.timeout(10):
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    assert edge.admission.present == 1
    writer.close()
    await comes(lambda: not edge.admission.present)


async def test_a_newcomer_that_ends_in_the_middle_of_its_hello_is_let_go_at_once(
    start: Start,
) -> None:
    edge = await start(1)
    reader, writer = await asyncio.open_connection("127.0.0.1", port_of(edge))
    writer.write(HELLO[:100])
    await comes(lambda: edge.listener.newcomers)
    writer.write_eof()
    with contextlib.suppress(ConnectionResetError):  # what it said was never read
        async with asyncio.timeout(3):  # the hello's own time is 5 s
            assert await reader.read(-1) == b""
    assert edge.listener.newcomers == 0
    writer.close()


async def test_the_oldest_newcomer_gives_way(start: Start) -> None:
    edge = await start(1, max_newcomers=5)
    talks = [await asyncio.open_connection("127.0.0.1", port_of(edge)) for _ in range(6)]
    async with asyncio.timeout(3):
        assert await talks[0][0].read(-1) == b""
    assert edge.counts.refused_newcomer == 1
    assert edge.listener.newcomers == 5
    for _, writer in talks:
        writer.close()


PROGRAM = """
import asyncio, json, os, resource, sys, time
resource.setrlimit(resource.RLIMIT_NOFILE, (600, 600))
import uvloop
from gateway.proxy.app import Edge
from gateway.proxy.config import Proxy
async def main(state, cluster_port):
    fixed = {"state_dir": state, "token_file": state + "/token", "server_address": f"unix:{state}/no"}
    edge = Edge(Proxy(address="127.0.0.1:0", **fixed))
    print(await edge.start(), flush=True)
    hoard = []
    loop = asyncio.get_running_loop()
    for line in iter(sys.stdin.readline, ""):
        word = line.strip()
        if word == "hoard":  # all but six descriptors
            try:
                while True: hoard.append(os.open("/dev/null", os.O_RDONLY))
            except OSError: pass
            for _ in range(6): os.close(hoard.pop())
        elif word == "release":
            while hoard: os.close(hoard.pop())
        elif word.startswith("serve"):
            await asyncio.sleep(float(word.split()[1]))
        print(json.dumps(edge.numbers() | {"cpu_s": time.process_time()}), flush=True)
    await edge.stop()
with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
    runner.run(main(sys.argv[1], sys.argv[2]))
"""  # noqa: E501


async def test_without_descriptors_accepting_pauses_without_spinning_and_recovers(
    tmp_path: pathlib.Path,
) -> None:
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    (tmp_path / "token").write_text("t")
    routes = [[UID, "a", "b", ["127.0.0.1", port_of(server)], None, True]]
    (tmp_path / "routes.json").write_text(json.dumps({"ticket_keys": [], "routes": routes}))
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        PROGRAM,
        str(tmp_path),
        "0",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        port = int((await process.stdout.readline()).decode().rpartition(":")[2])

        async def tell(word: str) -> dict[str, float]:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(word.encode() + b"\n")
            async with asyncio.timeout(20):
                answer: dict[str, float] = json.loads(await process.stdout.readline())
            return answer

        await tell("hoard")
        talks = []
        for _ in range(20):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(HELLO)
            talks.append((reader, writer))
        before = await tell("serve 0.2")
        after = await tell("serve 1.0")
        assert after["paused_descriptors"] >= 1
        assert after["cpu_s"] - before["cpu_s"] < 0.5
        assert after["connections"] < 20
        await tell("release")
        asking = asyncio.ensure_future(tell("serve 3"))
        good = await asyncio.open_connection("127.0.0.1", port)
        good[1].write(HELLO)
        assert await echoes(*good)
        await asking
        for _, writer in [*talks, good]:
            writer.close()
    finally:
        process.stdin.close()
        await process.wait()
        server.close()


class Failing:
    """A listening socket whose accepting fails now and then."""

    def __init__(self, listening: Any, failures: list[int]) -> None:
        self._listening, self._failures, self._accepted = listening, failures, 0
        self.fileno, self.close = listening.fileno, listening.close

    def _accept(self) -> Any:
        if self._accepted >= 2 and self._failures:
            code = self._failures.pop()
            raise OSError(code, os.strerror(code))
        self._accepted += 1
        return self._listening._accept()


async def test_those_accepted_before_accepting_fails_are_served_and_it_goes_on(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    edge = await start(port_of(server))
    listener: Any = edge.listener
    edge.poller.release(listener._listening.fileno())
    listener._listening = Failing(
        listener._listening, [errno.EPROTO, errno.EPROTO, errno.EACCES, errno.EPROTO]
    )
    talks = [await greet(edge) for _ in range(3)]
    edge.poller.watch(listener._listening.fileno(), IN, listener._accept)
    for talk in talks:
        assert await echoes(*talk)
    assert caplog.text.count(os.strerror(errno.EPROTO)) == 1
    assert caplog.text.count(os.strerror(errno.EACCES)) == 1
    for _, writer in talks:
        writer.close()
    await comes(lambda: not edge.admission.present)
    server.close()


async def test_one_who_cannot_be_sorted_holds_none_up_who_came_with_it(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    edge = await start(port_of(server))
    listener: Any = edge.listener
    edge.poller.release(listener._listening.fileno())
    talks = [await greet(edge) for _ in range(3)]
    real, failures = listener._serve, 1

    def serve(made: socket.SocketType, verdict: Any, address: str) -> None:
        nonlocal failures
        if failures:
            failures -= 1
            made.close()
            edge.admission.leave(address)
            raise RuntimeError("no")
        real(made, verdict, address)

    monkeypatch.setattr(listener, "_serve", serve)
    edge.poller.watch(listener._listening.fileno(), IN, listener._accept)
    for talk in talks[1:]:
        assert await echoes(*talk)
    for _, writer in talks:
        writer.close()
    await comes(lambda: not edge.admission.present)
    server.close()


def test_limits_fit_the_descriptors() -> None:
    wanted = descriptors_wanted(Proxy(max_connections=15_000))
    assert wanted.fitting(2**20) == (15_000, "")
    assert wanted.fitting(30_256) == (15_000, "")
    fits, words = wanted.fitting(20_000)
    assert fits == (20_000 - 256) // 2
    assert words.startswith(
        "the limit on open files, 20000, permits 9872 connections; c.Proxy.max_connections = 15000"
        " takes 30256: raise"
    )
    assert (
        descriptors_wanted(Proxy(max_connections=15_000, max_pipes=1024)).fitting(20_000)[0]
        == (20_000 - 192 - 2048) // 2
    )
    for limit in (0, 100, 256, 383):
        with pytest.raises(
            ConfigurationError,
            match=f"open files is {limit}; .* takes 30256, and with less than 384 nothing is"
            f" served",
        ):
            wanted.fitting(limit)
    assert wanted.fitting(384)[0] == 64
    # who wishes for no more needs no more
    assert descriptors_wanted(Proxy(max_connections=3)).fitting(262) == (3, "")


@pytest.mark.timeout(60)
def test_an_edge_with_too_few_descriptors_does_not_start_and_tells_the_number(
    tmp_path: pathlib.Path,
) -> None:
    settings = {
        "address": "127.0.0.1:0",
        "state_dir": tmp_path,
        "token_file": tmp_path / "token",
        "server_address": f"unix:{tmp_path}/no",
    }
    (tmp_path / "token").touch(mode=0o600)
    (tmp_path / "token").write_text("dgw_edge_x_y")
    words = [
        sys.executable,
        "-m",
        "gateway",
        "proxy",
        *(f"--Proxy.{name}={value}" for name, value in settings.items()),
    ]
    for limit, code, told in (
        (256, 2, "with less than 384 nothing is served"),
        (600, 0, "permits 172 connections; c.Proxy.max_connect"),
    ):
        limited = ["/bin/sh", "-c", f'ulimit -n {limit}; exec "$@"', "sh", *words]
        with subprocess.Popen(limited, stderr=subprocess.PIPE, text=True) as edge:
            assert edge.stderr is not None
            said = ""
            while told not in said and (line := edge.stderr.readline()):
                said += line
            assert told in said
            assert "Traceback" not in said
            if code == 0:
                edge.terminate()
            edge.stderr.read()
        assert edge.returncode == code


def test_addresses_are_grouped_as_hosts_have_them() -> None:
    assert group_of("10.1.2.3") == "10.1.2.3"
    assert group_of("2001:db8::1") == group_of("2001:db8::ffff") != group_of("2001:db8:0:1::1")
    assert group_of("::ffff:10.1.2.3") == "10.1.2.3"
    assert group_of("fe80::1%eth0") == group_of("fe80::2%eth0")


def test_admission_forgets_who_has_left() -> None:
    admission = Admission(Capacity(connections=2, per_address=1, per_cluster=1, newcomers=1))
    assert admission.enter("a")
    assert not admission.enter("a")
    assert admission.enter("b")
    assert admission.full
    assert admission.join("c")
    assert not admission.join("c")
    admission.part("c")
    for address in "ab":
        admission.leave(address)
    assert (admission.present, admission._addresses, admission._clusters) == (0, {}, {})


async def test_a_route_that_may_not_be_is_as_one_that_is_not(start: Start) -> None:
    edge = await start(1)
    for where in ("169.254.169.254:80", f"127.0.0.1:{port_of(edge)}", "8.8.8.8:53"):
        edge.routes.apply(
            route_pb2.RouteUpdate(
                snapshot=True,
                routes=[route_pb2.Route(uid=UID, local=True, scheduler_address=where)],
            )
        )
        reader, writer = await greet(edge)
        async with asyncio.timeout(5):
            assert await reader.read(-1) == bytes([21, 3, 3, 0, 2, 2, 112])
        writer.close()
    assert edge.counts.routes_forbidden == 3
    assert edge.counts.refused_unknown == 3


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_thousands_of_slow_hellos_are_closed_in_time_and_hold_nobody_up(start: Start) -> None:
    count = 5_000
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    edge = await start(
        port_of(server), max_connections_per_address=100_000, max_connections=100_000
    )
    count = min(count, edge.admission.capacity.connections // 3)  # both ends are in this process
    loop = asyncio.get_running_loop()

    async def good_s() -> float:
        began = loop.time()
        talk = await greet(edge)
        assert await echoes(*talk)
        talk[1].close()
        return loop.time() - began

    slow: list[socket.socket] = []
    for _ in range(count):
        made = socket.socket()
        made.setblocking(False)
        made.connect_ex(("127.0.0.1", port_of(edge)))
        slow.append(made)
        if len(slow) % 500 == 0:
            await asyncio.sleep(0.02)
    opened = loop.time()
    times = []
    for second in range(5):
        for number, one in enumerate(slow):
            try:
                one.send(HELLO[second : second + 1])
            except OSError:
                pass
            if number % 500 == 0:
                times.append(await good_s())
        await asyncio.sleep(max(0.0, opened + second + 1 - loop.time()))
    await comes(lambda: not edge.listener.newcomers, 15)
    took = loop.time() - opened
    for one in slow:
        one.close()
    assert edge.counts.hello_timeouts == count
    assert took < 8, "all closed about 5 s after they came"
    assert sorted(times)[int(len(times) * 0.9)] < 1.0
    await gone(edge)
    server.close()
