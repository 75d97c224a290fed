"""What an earlier run left in the state directory never decides where is listened, and never keeps
the next from starting."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
from collections.abc import Callable

import pytest

from gateway import Gateway
from gateway.server.edge.record import start_time
from tests.e2e.gateway_process import PASSWORD, USER, GatewayProcess
from tests.e2e.test_edge_restart import edge_pid
from tests.e2e.test_main_job import until
from tests.ports import free_port

RECORDS = ("edge.json", "listener.port", "edge.token", "edge/routes.json", "edge/session.key")
# where records count: a run that may listen anywhere takes up the last run's ports
ANY_PORT = ("c.DaskGateway.address = '127.0.0.1:0'", "c.Proxy.address = '127.0.0.1:0'")


def listens(pid: int) -> set[str]:
    """Return the IPv4 addresses, as host:port, on which a process listens (proc(5),
    /proc/net/tcp)."""
    sockets = {
        os.readlink(link) for link in pathlib.Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink()
    }
    found = set()
    for line in pathlib.Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:  # TCP_LISTEN
            host, _, port = fields[1].partition(":")
            found.add(f"{socket.inet_ntoa(bytes.fromhex(host)[::-1])}:{int(port, 16)}")
    return found


def end_edge(served: GatewayProcess) -> None:
    """End the edge that outlived its server."""
    pid = edge_pid(served)
    os.kill(pid, signal.SIGKILL)
    until(lambda: not start_time(pid), "the edge has ended")


@pytest.mark.timeout(120)
def test_the_edge_listens_where_it_is_configured_after_a_run_that_was_killed_elsewhere(
    tmp_path: pathlib.Path,
) -> None:
    """A run whose edge listened on another of this machine's addresses, which stands for any
    other."""
    served = GatewayProcess(tmp_path, *ANY_PORT)
    port = free_port()
    served.start(f"--Proxy.address=127.0.0.2:{port}")
    served.kill()
    earlier = listens(edge_pid(served))
    assert earlier == {f"127.0.0.2:{port}"}
    served.start()
    try:
        # the port is kept, as clients know it
        assert listens(edge_pid(served)) == {f"127.0.0.1:{port}"}
        assert Gateway(served.address, auth=(USER, PASSWORD)).list_clusters() == []
    finally:
        served.stop()


@pytest.mark.timeout(120)
def test_a_start_that_was_refused_does_not_spoil_the_next(tmp_path: pathlib.Path) -> None:
    served = GatewayProcess(tmp_path, *ANY_PORT)
    words = [
        sys.executable,
        "-m",
        "gateway",
        "serve",
        "--config",
        str(served.config),
        "--Proxy.address=0.0.0.0:0",
    ]
    refused = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert refused.returncode == 2
    assert "reachable from elsewhere" in refused.stderr
    served.start()
    try:
        assert served.address.startswith("http://127.0.0.1:")
    finally:
        served.stop()


@pytest.mark.timeout(120)
def test_ports_of_an_earlier_run_that_others_have_taken_are_given_up(
    tmp_path: pathlib.Path,
) -> None:
    """The ports of the records are others', held from before they are written: the real ones of a
    run that has ended may have been given to anybody meanwhile."""
    served = GatewayProcess(tmp_path, *ANY_PORT)
    served.start()
    served.kill()
    end_edge(served)
    state = tmp_path / "state"
    with (
        socket.create_server(("127.0.0.1", 0)) as first,
        socket.create_server(("127.0.0.1", 0)) as second,
    ):
        edge, listener = first.getsockname()[1], second.getsockname()[1]
        record = json.loads((state / "edge.json").read_text())
        host = record["address"].rpartition(":")[0]
        (state / "edge.json").write_text(json.dumps({**record, "address": f"{host}:{edge}"}))
        (state / "listener.port").write_text(str(listener))
        served.start()
        try:
            assert Gateway(served.address, auth=(USER, PASSWORD)).list_clusters() == []
        finally:
            served.stop()
    log = (tmp_path / "server.log").read_text()
    assert f"port {edge}, on which the edge was until now, is taken" in log
    assert f"port {listener} of the last run is taken" in log


BROKEN: dict[str, Callable[[pathlib.Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "cut short": lambda path: path.write_bytes(
        path.read_bytes()[:20] if path.exists() else b'{"ticket_keys": ['
    ),
    "binary": lambda path: path.write_bytes(bytes(range(256)) * 8),
    "nested": lambda path: path.write_bytes(b"[" * 20_000),
    "digits": lambda path: path.write_bytes(b"9" * 6000),
    "other": lambda path: path.write_text(
        json.dumps({"pid": -1, "started": "", "routes": [7], "ticket_keys": [7], "version": 99})
    ),
}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("how", BROKEN)
def test_records_that_are_broken_keep_nobody_from_starting(
    tmp_path: pathlib.Path, how: str
) -> None:
    served = GatewayProcess(tmp_path, *ANY_PORT)
    served.start()
    served.kill()
    end_edge(served)
    for name in RECORDS:
        BROKEN[how](tmp_path / "state" / name)
    served.start()
    try:
        assert Gateway(served.address, auth=(USER, PASSWORD)).list_clusters() == []
    finally:
        assert served.stop() == 0


@pytest.mark.timeout(120)
def test_a_process_that_has_the_edges_pid_by_now_is_left_alone(tmp_path: pathlib.Path) -> None:
    served = GatewayProcess(tmp_path, *ANY_PORT)
    served.start()
    served.kill()
    end_edge(served)
    record = tmp_path / "state" / "edge.json"
    with subprocess.Popen(["/bin/sleep", "600"]) as stranger:
        try:
            record.write_text(json.dumps({**json.loads(record.read_text()), "pid": stranger.pid}))
            # other settings, with which an edge is not adopted but ended
            served.start("--Proxy.session_s=61")
            try:
                assert edge_pid(served) != stranger.pid
                assert stranger.poll() is None
            finally:
                served.stop()
        finally:
            stranger.kill()
