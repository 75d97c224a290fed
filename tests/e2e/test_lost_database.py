"""A database that is lost, empty or put back from a backup ends nobody's cluster."""

from __future__ import annotations

import os
import pathlib
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from gateway import Gateway
from gateway.client.calls import errors
from tests.e2e.gateway_process import PASSWORD, USER, GatewayProcess
from tests.e2e.test_leftovers import end_edge
from tests.waiting import until

ALONE = "--DaskGateway.start_proxy=False"


@pytest.fixture
def gateway(tmp_path: pathlib.Path) -> Iterator[GatewayProcess]:
    """A gateway that serves and has one active cluster, made after its backup."""
    made = GatewayProcess(tmp_path)
    made.start()
    assert made.stop() == 0
    shutil.copytree(tmp_path / "state", tmp_path / "backup")
    made.start()
    client = Gateway(made.address, auth=(USER, PASSWORD))
    client.submit("etl", n_workers=1)
    client.wait("etl", timeout_s=60)
    until(lambda: len(made.processes()) == 2, "a scheduler and a worker")
    yield made
    if made.process is not None and made.process.poll() is None:
        made.kill()
    for pid in made.processes():
        os.kill(pid, signal.SIGKILL)


def log(gateway: GatewayProcess) -> str:
    """Return what the servers have logged."""
    return (gateway.directory / "server.log").read_text()


def confirm(gateway: GatewayProcess) -> str:
    """Give the administrator's word; return what was shown."""
    words = [
        sys.executable,
        "-m",
        "gateway",
        "confirm-database",
        "--config",
        str(gateway.config),
        "--yes",
    ]
    return subprocess.run(words, capture_output=True, text=True, check=True, timeout=60).stdout


def _empty(gateway: GatewayProcess) -> None:
    for path in (gateway.directory / "state").glob("gateway.db*"):
        path.unlink()


def _restore_database(gateway: GatewayProcess) -> None:
    _empty(gateway)
    shutil.copy(
        gateway.directory / "backup" / "gateway.db", gateway.directory / "state" / "gateway.db"
    )


def _restore_everything(gateway: GatewayProcess) -> None:
    """Put the whole directory back, which then knows of nothing that came later: not of the edge
    either, which would keep its port from the next one."""
    end_edge(gateway)
    shutil.rmtree(gateway.directory / "state")
    shutil.copytree(gateway.directory / "backup", gateway.directory / "state")


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    "lose",
    [_empty, _restore_database, _restore_everything],
    ids=lambda lose: lose.__name__.strip("_"),
)
def test_what_a_lost_or_older_database_does_not_know_runs_on_until_the_administrator_says_so(
    gateway: GatewayProcess, lose: Callable[[GatewayProcess], None]
) -> None:
    running = gateway.processes()
    gateway.kill()
    lose(gateway)
    gateway.start()
    until(lambda: "clusters run that it does not know" in log(gateway), "the error in the log")
    gateway.kill()
    gateway.start()  # a second look, which is the first of that server
    until(
        lambda: log(gateway).count("clusters run that it does not know") == 2,
        "the error in the log again",
    )
    assert gateway.processes() == running
    client = Gateway(gateway.address, auth=(USER, PASSWORD))
    with pytest.raises(errors.ClusterNotFound):
        client.get_cluster("etl")
    other = client.submit("other")  # it serves all the same
    client.wait("other", timeout_s=60)
    shown = confirm(gateway)
    assert "2 processes" in shown
    assert other.uid not in shown
    gateway.kill()
    gateway.start()  # so that it looks at once
    until(lambda: not set(running) & set(gateway.processes()), "the end of what was confirmed")
    assert Gateway(gateway.address, auth=(USER, PASSWORD)).get_cluster("other").uid == other.uid
    assert len(gateway.processes()) == 1
    assert gateway.stop() == 0


@pytest.mark.timeout(180)
def test_with_the_right_database_back_everything_is_as_it_was(gateway: GatewayProcess) -> None:
    running = gateway.processes()
    assert gateway.stop() == 0
    shutil.copy(gateway.directory / "state" / "gateway.db", gateway.directory / "right.db")
    _restore_database(gateway)
    gateway.start()
    until(lambda: "clusters run that it does not know" in log(gateway), "the error in the log")
    assert gateway.stop() == 0
    _empty(gateway)
    shutil.copy(gateway.directory / "right.db", gateway.directory / "state" / "gateway.db")
    before = log(gateway)
    gateway.start()
    client = Gateway(gateway.address, auth=(USER, PASSWORD))
    assert client.wait("etl", timeout_s=60).status.state == client.get_cluster("etl").status.state
    until(
        lambda: client.get_cluster("etl").status.worker_groups["default"].running == 1,
        "the worker is known again",
    )
    assert gateway.processes() == running
    assert " E " not in log(gateway).removeprefix(before)
    assert gateway.stop() == 0


@pytest.mark.timeout(180)
def test_a_database_that_is_deleted_under_the_server_is_told_and_nothing_is_answered_ok(
    gateway: GatewayProcess,
) -> None:
    running = gateway.processes()
    _empty(gateway)
    client = Gateway(gateway.address, auth=(USER, PASSWORD))
    with pytest.raises(errors.Unavailable):
        client.submit("lost")
    assert log(gateway).count("gateway.db is gone") == 1
    assert gateway.stop() == 0
    gateway.start()
    until(lambda: "clusters run that it does not know" in log(gateway), "the error in the log")
    assert gateway.processes() == running
    assert gateway.stop() == 0
