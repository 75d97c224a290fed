"""What a starting cluster waits for is told at once, and where the user looks: on a terminal, below
a cell, in a batch job's log; and nowhere to who asked for quiet."""

from __future__ import annotations

import io
import os
import pathlib
import pty
import re
import subprocess
import sys
import time
import types
from typing import Any

import pytest
from daskgateway.v1 import cluster_pb2
from jupyter_client.manager import KernelManager

from gateway import Gateway
from gateway.client import progress
from gateway.client.calls.channel import Connection
from gateway.client.model import Cluster
from tests.e2e.gateway_process import GatewayProcess

WAITS = re.compile(rb"\w[\w-]*: (PENDING|CREATING): ")
PROGRAM = "from daskgateway import GatewayCluster\nwith GatewayCluster({}) as c: print('ready')\n"


def pending(message: str = "it waits", name: str = "etl") -> Cluster:
    """Return a cluster that waits."""
    status = cluster_pb2.ClusterStatus(state="CLUSTER_STATE_PENDING", message=message)
    return Cluster.from_proto(
        cluster_pb2.Cluster(name=f"users/a/clusters/{name}", revision=7, status=status)
    )


def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, float]]:
    """Return where requests to wait are noted: after which revision, and for how many seconds."""
    found: list[tuple[int, float]] = []

    def call(_: object, rpc: object, request: Any, **__: object) -> cluster_pb2.Cluster:
        found.append((request.after_revision, request.timeout.seconds))
        state = "CLUSTER_STATE_ACTIVE" if len(found) == 3 else "CLUSTER_STATE_PENDING"
        return cluster_pb2.Cluster(
            name="users/a/clusters/etl", revision=len(found), status={"state": state}
        )

    monkeypatch.setattr(Connection, "call", call)
    return found


def test_who_knows_nothing_is_told_at_once_and_then_of_changes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It was told nothing for half a minute: a wait without a revision ends with a state only."""
    found, told = asked(monkeypatch), list[str]()
    Gateway("http://127.0.0.1:1").wait("etl", told=lambda cluster: told.append(cluster.state))
    assert found == [(0, 0), (1, 30), (2, 30)]
    assert told == ["PENDING", "PENDING", "ACTIVE"]


def test_where_a_file_hides_rich_there_are_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    for name in [name for name in sys.modules if name.partition(".")[0] == "rich"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "rich", types.ModuleType("rich"))
    assert isinstance(progress.begin(), progress.Lines)


def on_terminal(program: str, environment: dict[str, str]) -> tuple[bytes, bytes]:
    """Run a program whose standard error is a terminal; return what that shows, and what is
    printed."""
    ours, theirs = pty.openpty()
    words = [sys.executable, "-c", program]
    environment = {**environment, "TERM": "xterm", "COLUMNS": "200"}
    running = subprocess.Popen(words, stderr=theirs, stdout=subprocess.PIPE, env=environment)
    os.close(theirs)
    shown = b""
    try:
        while True:
            try:
                piece = os.read(ours, 65536)
            except OSError:  # nobody has its other end any more
                break
            if not piece:
                break
            shown += piece
        out, _ = running.communicate(timeout=60)
    finally:
        running.kill()
        running.wait()
        os.close(ours)
        if running.stdout is not None:
            running.stdout.close()
    assert running.returncode == 0, shown
    return shown, out


def test_a_terminal_shows_a_live_line_while_it_starts(served: GatewayProcess) -> None:
    shown, out = on_terminal(PROGRAM.format(""), served.environment())
    assert WAITS.search(shown), shown
    assert b"\x1b[2K" in shown  # the line is taken away in the end
    assert out == b"ready\n"


def test_who_asks_for_quiet_is_shown_nothing(served: GatewayProcess) -> None:
    shown, out = on_terminal(PROGRAM.format("quiet=True"), served.environment())
    assert (shown, out) == (b"", b"ready\n")


def test_a_batch_jobs_log_has_a_line_for_each_change(served: GatewayProcess) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM.format("'logged'")],
        env=served.environment(),
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert ended.stdout == "ready\n", ended.stderr
    lines = ended.stderr.splitlines()
    assert lines[0].startswith("logged: PENDING: ")
    assert len(lines) == len(set(lines))


def test_the_command_line_tells_it_too(served: GatewayProcess) -> None:
    words = [sys.executable, "-m", "daskgateway", "clusters", "create", "told"]
    ended = subprocess.run(
        words, env=served.environment(), capture_output=True, text=True, timeout=90
    )
    assert ended.stderr.startswith("told: PENDING: ")
    assert "ACTIVE" in ended.stdout
    subprocess.run([*words[:-2], "stop", "told"], env=served.environment(), check=True, timeout=60)


CELL = """
import sys
{before}
from daskgateway import GatewayCluster
cluster = GatewayCluster({arguments})
cluster.close()
"""


def in_a_notebook(
    environment: dict[str, str], directory: pathlib.Path, code: str
) -> list[dict[str, Any]]:
    """Run a cell in a kernel; return what the notebook is told meanwhile."""
    manager = KernelManager()
    manager.start_kernel(env=environment, cwd=str(directory))
    client = manager.client()
    told: list[dict[str, Any]] = []
    try:
        client.start_channels()
        client.wait_for_ready(timeout=90)
        ask = client.execute(code)
        end = time.monotonic() + 100
        while time.monotonic() < end:
            message = client.get_iopub_msg(timeout=100)
            told.append(message)
            mine = message["parent_header"].get("msg_id") == ask
            if mine and message["content"].get("execution_state") == "idle":
                break
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
        manager.cleanup_resources()
    wrong = [one["content"] for one in told if one["msg_type"] == "error"]
    assert wrong == []
    return told


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_a_notebook_shows_a_widget_while_it_starts(
    served: GatewayProcess, tmp_path: pathlib.Path
) -> None:
    code = CELL.format(before="", arguments="")
    told = in_a_notebook(served.environment(), tmp_path, code)
    shown = [one for one in told if one["msg_type"] == "display_data"]
    assert "application/vnd.jupyter.widget-view+json" in shown[0]["content"]["data"]
    values = [
        one["content"]["data"].get("state", {}).get("value", "")
        for one in told
        if one["msg_type"] == "comm_msg"
    ]
    assert any(re.match(r"[\w-]+: PENDING: ", str(value)) for value in values), values
    assert [one for one in told if one["msg_type"] == "comm_close"]
    assert [one for one in told if one["msg_type"] == "stream"] == []


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_a_notebook_without_widgets_shows_a_line_that_changes(
    served: GatewayProcess, tmp_path: pathlib.Path
) -> None:
    code = CELL.format(before="sys.modules['ipywidgets'] = None", arguments="")
    told = in_a_notebook(served.environment(), tmp_path, code)
    updates = [one for one in told if one["msg_type"] == "update_display_data"]
    texts = [one["content"]["data"]["text/html"] for one in updates]
    assert any(re.match(r"[\w-]+: PENDING: ", text) for text in texts), texts
    assert texts[-1] == ""


def test_where_something_else_is_live_there_are_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.errors import LiveError

    def busy(*_: object) -> None:
        raise LiveError("Only one live display may be active at once")

    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(progress.Live, "__init__", busy)
    with progress.begin() as shown:
        assert isinstance(shown, progress.Lines)
    monkeypatch.setenv("TERM", "dumb")
    with progress.begin() as shown:
        shown.tell(progress.words_of(pending("it waits\nfor long \x1b[2J")))
        shown.tell(progress.words_of(pending("it waits")))
        shown.tell(progress.words_of(pending("no more \x1b[2J")))
    assert stream.getvalue() == "etl: PENDING: it waits\netl: PENDING: no more \\x1b[2J\n"


def test_a_process_without_standard_error_is_told_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    with progress.begin() as shown:
        shown.tell("x")
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stderr", closed)
    with progress.begin() as shown:
        shown.tell("x")
