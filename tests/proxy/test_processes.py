"""Several edges on one port, as a program: ready together, counted together, started again, ended
together."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator

import pytest

from gateway.proxy.program import processes
from gateway.proxy.program.nursery import Child
from gateway.proxy.program.processes import ASK, Begin, Edges, _Edge
from tests.ports import free_port
from tests.proxy.served import OTHER, UID
from tests.waiting import comes

FAKE_EDGE = """
import socket, sys
tie = socket.socket(fileno=int(sys.argv[1]))
tie.sendall(b"ready 127.0.0.1:1\\n")
while tie.recv(100): pass
"""


def children(pid: int) -> list[int]:
    """Return the children of a process, whichever of its threads started them."""
    return [
        int(word)
        for told in pathlib.Path(f"/proc/{pid}/task").glob("*/children")
        for word in told.read_text().split()
    ]


def edges_of(pid: int) -> list[int]:
    """Return the edges of a supervisor: its children but the first, which begins them."""
    return sorted(children(pid))[1:]


def began_by(code: str) -> Begin:
    """Return what begins a program in an edge's place."""

    async def begin(_: object, tie: int) -> Child:
        words = [sys.executable, "-c", code, str(tie)]
        inherited = [(os.POSIX_SPAWN_DUP2, tie, tie)]
        return Child(
            await asyncio.to_thread(
                lambda: os.posix_spawn(sys.executable, words, os.environ, file_actions=inherited)
            )
        )

    return begin


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits for its parent does not."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in (
            "Z",
            "X",
        )
    except OSError:
        return False


class Program:
    """`daskgateway proxy`."""

    def __init__(self, directory: pathlib.Path, *settings: str) -> None:
        (directory / "token").write_text("t")
        reading, writing = os.pipe()
        words = [
            f"--ready-fd={writing}",
            "--Proxy.address=127.0.0.1:0",
            "--Proxy.admin_address=127.0.0.1:0",
            f"--Proxy.state_dir={directory}/edge",
            f"--Proxy.token_file={directory}/token",
            f"--Proxy.server_address=unix:{directory}/no.sock",
            "--Proxy.drain_s=0.5",
            *settings,
        ]
        self.log = directory / "log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gateway", "proxy", *words], pass_fds=[writing], stderr=log
            )
        os.close(writing)
        with os.fdopen(reading) as ready:
            word, _, self.address = ready.readline().strip().partition(" ")
        if word != "ready":
            self.process.wait(30)
        assert word == "ready", self.log.read_text()

    def metrics(self) -> str:
        """Return what Prometheus would read."""
        (url,) = [
            line.split()[-1]
            for line in self.log.read_text().splitlines()
            if "metrics are at" in line
        ]
        with urllib.request.urlopen(url, timeout=10) as answer:
            return str(answer.read().decode())

    def stop(self) -> int:
        """End it as an administrator does; return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


@pytest.fixture
def three(tmp_path: pathlib.Path) -> Iterator[Program]:
    """Three edges."""
    program = Program(tmp_path, "--Proxy.processes=3")
    yield program
    if program.process.poll() is None:
        program.process.kill()
        program.process.wait()


async def junk(address: str) -> None:
    """Say something that nobody speaks, and be closed on."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"SSH-2.0-x\r\n")
    try:
        async with asyncio.timeout(10):
            assert await reader.read(-1) == b""
    except ConnectionResetError:
        pass
    writer.close()


@pytest.mark.slow
async def test_edges_share_a_port_are_started_again_and_end_with_their_supervisor(
    three: Program,
) -> None:
    first = await asyncio.to_thread(edges_of, three.process.pid)
    assert len(first) == 3
    for _ in range(30):
        await junk(three.address)
    text = await asyncio.to_thread(three.metrics)
    seen = [
        line
        for line in text.splitlines()
        if line.startswith('daskgateway_edge_sorted_connections_total{kind="junk"')
    ]
    assert sum(float(line.split()[-1]) for line in seen) == 30
    assert len(seen) == 3
    os.kill(first[0], signal.SIGKILL)
    await comes(
        lambda: (
            len(edges_of(three.process.pid)) == 3 and first[0] not in edges_of(three.process.pid)
        ),
        20,
    )
    assert await asyncio.to_thread(three.stop) == 0
    assert not any(map(alive, first))


@pytest.mark.slow
async def test_edges_end_to_be_started_anew_when_none_can_be_begun_any_more(three: Program) -> None:
    nursery, *edges = sorted(children(three.process.pid))
    os.kill(nursery, signal.SIGKILL)
    assert await asyncio.to_thread(three.process.wait, 20) == 2
    assert not any(map(alive, edges))
    assert "to be started anew" in three.log.read_text()


@pytest.mark.slow
async def test_no_edge_outlives_a_supervisor_that_was_killed(three: Program) -> None:
    edges = children(three.process.pid)
    three.process.kill()
    three.process.wait()
    await comes(lambda: not any(map(alive, edges)), 20)


async def test_one_edge_counts_too(tmp_path: pathlib.Path) -> None:
    program = Program(tmp_path)
    await junk(program.address)
    text = await asyncio.to_thread(program.metrics)
    assert 'daskgateway_edge_accepted_connections_total{process="0"} 1.0' in text
    assert 'daskgateway_edge_server_connected{process="0"} 0.0' in text
    assert await asyncio.to_thread(program.stop) == 0


@pytest.mark.parametrize("processes", [1, 2])
async def test_no_cluster_leads_to_where_the_metrics_are(
    tmp_path: pathlib.Path, processes: int
) -> None:
    admin = free_port()
    (tmp_path / "edge").mkdir(mode=0o700)
    routes = [
        [UID, "alice", "x", ["127.0.0.1", 1], ["127.0.0.1", port], True] for port in (admin, 7)
    ]
    routes[1][0] = OTHER
    (tmp_path / "edge" / "routes.json").write_text(
        json.dumps({"ticket_keys": [], "routes": routes})
    )
    words = [
        f"--Proxy.processes={processes}",
        f"--Proxy.admin_address=127.0.0.1:{admin}",
        "--Proxy.own_ports=[7]",
    ]
    program = Program(tmp_path, *words)
    try:
        text = await asyncio.to_thread(program.metrics)
        told = [
            line.split()[-1]
            for line in text.splitlines()
            if line.startswith("daskgateway_edge_forbidden_routes_total{")
        ]
        assert told == ["2.0"] * processes
    finally:
        program.stop()


@pytest.mark.parametrize("missing", ["process", "descriptors", "watch"])
async def test_an_edge_is_started_again_though_that_fails_for_a_while(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, missing: str
) -> None:
    monkeypatch.setattr(processes, "RESTART_S", 0.01)
    what, name = {
        "process": (os, "posix_spawn"),
        "descriptors": (socket, "socketpair"),
        "watch": (os, "pidfd_open"),
    }[missing]
    failures, real = 0, getattr(what, name)

    def fails(*words: object, **more: object) -> object:
        nonlocal failures
        if failures < 3:
            failures += 1
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        return real(*words, **more)

    edges = Edges(1, "127.0.0.1:0", began_by(FAKE_EDGE))
    await edges.start()
    first = edges._edges[0].process
    assert first is not None
    monkeypatch.setattr(what, name, fails)
    first.kill()
    await comes(lambda: edges._edges[0].process is not first and failures == 3)
    assert "Resource temporarily unavailable" in caplog.text
    await comes(lambda: edges._edges[0].reader is not None)
    await edges.stop()


async def test_a_late_answer_is_not_taken_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "ANSWER_S", 0.2)
    ours, theirs = socket.socketpair()
    edge = _Edge(0)
    edge.reader, edge.writer = await asyncio.open_connection(sock=ours)
    reader, writer = await asyncio.open_connection(sock=theirs)

    async def answer(number: int) -> None:
        assert await reader.readline() == ASK
        writer.write(json.dumps({"asked": number}).encode() + b"\n")

    assert await edge.numbers() == {}
    assert await edge.numbers() == {}
    for number in (1, 2):  # both late
        await answer(number)
    for number in (3, 4):
        answering = asyncio.ensure_future(answer(number))
        assert await edge.numbers() == {"asked": number}
        await answering
    for one in (edge.writer, writer):
        one.close()


async def test_a_reload_that_comes_while_an_edge_starts_is_made_up_for(
    tmp_path: pathlib.Path,
) -> None:
    read, go_on = tmp_path / "read", tmp_path / "go on"
    code = f"""
import pathlib, signal, socket, sys, time
tie = socket.socket(fileno=int(sys.argv[1]))
while not pathlib.Path({str(go_on)!r}).exists(): time.sleep(0.01)
signal.signal(signal.SIGHUP, lambda *_: pathlib.Path({str(read)!r}).touch())
tie.sendall(b"ready 127.0.0.1:1\\n")
while tie.recv(100): pass
"""
    edges = Edges(1, "127.0.0.1:0", began_by(code))
    starting = asyncio.ensure_future(edges.start())
    for _ in range(2):  # at first, and when it is started again
        await comes(
            lambda: edges._edges[0].process is not None and edges._edges[0].process.poll() is None
        )
        edges.reload()
        go_on.touch()
        await comes(read.exists)
        assert await starting == "127.0.0.1:1"
        read.unlink()
        edges.reload()
        await comes(read.exists)
        read.unlink()
        go_on.unlink()
        assert edges._edges[0].process is not None
        edges._edges[0].process.kill()
        edges._edges[0].process.wait()
    go_on.touch()
    await edges.stop()


HUNG_UP = """
import os, signal, sys
from traitlets.config import Config
from gateway.proxy.program import serve
real = serve.Edge.start
async def start(edge):
    os.kill(os.getpid(), signal.SIGHUP)
    return await real(edge)
def reload(edge):
    print("reloaded", flush=True)
    os.kill(os.getpid(), signal.SIGTERM)
serve.Edge.start, serve.Edge.reload = start, reload
state = sys.argv[1]
config = Config()
config.Proxy.update(address="127.0.0.1:0", state_dir=state, token_file=state + "/token", server_address=f"unix:{state}/no", drain_s=0.1)
sys.exit(serve.run(config))
"""  # noqa: E501


def test_a_hangup_while_an_edge_starts_does_not_end_it(tmp_path: pathlib.Path) -> None:
    (tmp_path / "token").write_text("t")
    done = subprocess.run(
        [sys.executable, "-c", HUNG_UP, str(tmp_path)], capture_output=True, text=True, timeout=30
    )
    assert (done.returncode, done.stdout) == (0, "reloaded\n"), done.stderr


def test_a_wrong_admin_address_is_told(tmp_path: pathlib.Path) -> None:
    with pytest.raises(AssertionError, match=r"c\.Proxy\.admin_address: must be host:port"):
        Program(tmp_path, "--Proxy.admin_address=nowhere")
