"""What an earlier run left about its edge is read with doubt: it ends no stranger, and decides on
no address."""

from __future__ import annotations

import json
import os
import pathlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict

import pytest

from gateway.server.edge import process as edge_process
from gateway.server.edge.process import EdgeProcess
from gateway.server.edge.record import (
    EdgeRecord,
    boot_id,
    parse_record,
    runs,
    start_time,
    with_port_of,
)

# what an edge's command line shows
WORDS = ("import time; time.sleep(600)", "-m", "gateway", "proxy")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "7",
        "[" * 100_000,
        "\x00\xff",
        json.dumps({"pid": -1, "started": "", "digest": "", "address": "127.0.0.1:1"}),
        json.dumps({"pid": 0, "started": "5", "digest": "", "address": "127.0.0.1:1"}),
        json.dumps({"pid": 1, "started": "5", "digest": "", "address": "127.0.0.1:1"}),
        json.dumps({"pid": True, "started": "5", "digest": "", "address": "127.0.0.1:1"}),
        json.dumps({"pid": "7", "started": "5", "digest": "", "address": "127.0.0.1:1"}),
        json.dumps({"pid": 2**70, "started": "5", "digest": "", "address": "127.0.0.1:1"}),
        json.dumps({"pid": 7, "started": "", "digest": "", "address": "127.0.0.1:1"}),
        json.dumps({"pid": 7, "started": 5, "digest": "", "address": "127.0.0.1:1"}),
        json.dumps({"pid": 7}),
    ],
)
def test_what_is_no_record_names_no_process(text: str) -> None:
    assert parse_record(text) is None


def test_a_record_of_another_version_still_names_its_process() -> None:
    record = parse_record(
        json.dumps({"pid": 7, "started": "5", "address": ["odd"], "digest": 3, "new_field": {}})
    )
    assert record == EdgeRecord(7, "5", boot="", digest="", address="", ready=False)


@pytest.mark.parametrize(
    ("wished", "recorded", "address"),
    [
        ("127.0.0.1:0", "0.0.0.0:4711", "127.0.0.1:4711"),  # only the port is taken over
        ("127.0.0.1:8000", "0.0.0.0:4711", "127.0.0.1:8000"),
        ("[::1]:0", "127.0.0.1:4711", "[::1]:4711"),
        ("localhost:0", "127.0.0.1:4711", "localhost:4711"),
        ("127.0.0.1:0", "", "127.0.0.1:0"),
        ("127.0.0.1:0", "127.0.0.1:99999999", "127.0.0.1:0"),
        ("127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"),
        ("127.0.0.1:0", "nonsense", "127.0.0.1:0"),
    ],
)
def test_of_an_earlier_address_only_the_port_is_taken_over_and_only_for_port_0(
    wished: str, recorded: str, address: str
) -> None:
    assert with_port_of(recorded, wished) == address


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    """A process that is no edge."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    while not pathlib.Path(f"/proc/{child.pid}/cmdline").read_bytes():
        time.sleep(0.001)
    yield child
    child.kill()
    child.wait()


def test_a_pid_that_another_process_has_now_is_no_edge(stranger: subprocess.Popen[bytes]) -> None:
    started = start_time(stranger.pid)
    assert not runs(EdgeRecord(stranger.pid, "1", boot_id()))
    assert not runs(EdgeRecord(stranger.pid, started, boot="another boot"))
    # even then: it runs something else
    assert not runs(EdgeRecord(stranger.pid, started, boot_id()))


def test_a_record_is_known_again() -> None:
    edge = subprocess.Popen([sys.executable, "-c", *WORDS])
    try:
        record = EdgeRecord(
            edge.pid, start_time(edge.pid), boot_id(), "digest", "127.0.0.1:1", ready=True
        )
        assert parse_record(json.dumps(asdict(record))) == record
        assert runs(record)
    finally:
        edge.kill()
        edge.wait()
    assert not runs(record)


async def test_a_broken_record_ends_nobody(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pid of -1 means every process there is, and both have no start time."""
    killed: list[int] = []
    monkeypatch.setattr(os, "kill", lambda pid, _: killed.append(pid))
    monkeypatch.setattr(edge_process, "STOP_S", 0.1)

    async def launch(_: str) -> EdgeRecord:
        return EdgeRecord(7, "5", address="127.0.0.1:1")

    for record in (
        {"pid": -1, "started": ""},
        {"pid": 0, "started": ""},
        {"pid": 2**22 + 1, "started": ""},
    ):
        (tmp_path / "edge.json").write_text(
            json.dumps({**record, "digest": "another", "address": "127.0.0.1:1"})
        )
        edge = EdgeProcess(tmp_path, [], "127.0.0.1:0")
        monkeypatch.setattr(edge, "_spawn", launch)
        await edge.start()
    assert killed == []


async def test_a_stranger_with_the_edges_pid_is_left_alone(
    tmp_path: pathlib.Path, stranger: subprocess.Popen[bytes]
) -> None:
    record = EdgeRecord(
        stranger.pid, start_time(stranger.pid), boot_id(), "another", "127.0.0.1:1", ready=True
    )
    (tmp_path / "edge.json").write_text(json.dumps(asdict(record)))
    edge = EdgeProcess(tmp_path, [], "127.0.0.1:0")
    token = tmp_path / "edge.token"
    token.write_text("token")
    edge._words += [
        f"--Proxy.token_file={token}",
        f"--Proxy.state_dir={tmp_path / 'edge'}",
        f"--Proxy.server_address=unix:{tmp_path}/no",
    ]
    try:
        await edge.start()
        assert stranger.poll() is None
    finally:
        await edge.stop()


async def test_a_port_of_an_earlier_run_that_is_taken_now_is_given_up(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[str] = []

    async def launch(address: str) -> EdgeRecord:
        asked.append(address)
        return EdgeRecord(7, "5", address="127.0.0.1:1")

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        (tmp_path / "edge.json").write_text(
            json.dumps({"pid": 2**22, "started": "5", "address": f"0.0.0.0:{port}"})
        )
        edge = EdgeProcess(tmp_path, [], "127.0.0.1:0")
        edge._spawn = launch  # type: ignore[method-assign]
        await edge.start()
    assert asked == ["127.0.0.1:0"]
    assert f"port {port}" in caplog.text
    await edge.start()
    assert asked[1] == f"127.0.0.1:{port}"  # free again
