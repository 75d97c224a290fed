"""The server tries the way of its agents when it starts, and says which setting keeps them from
it; what keeps one cluster from starting stands in its log, in one line."""

from __future__ import annotations

import pathlib
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from gateway import Gateway
from tests.config import pki
from tests.e2e.gateway_process import PASSWORD, USER, GatewayProcess
from tests.waiting import until


@pytest.fixture
def files(tmp_path: pathlib.Path) -> pathlib.Path:
    """Certificates."""
    place = tmp_path / "pki"
    place.mkdir(mode=0o700)
    pki.make(place)
    return place


@pytest.fixture
def silent() -> Iterator[int]:
    """A port where nothing listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


def refused(gateway: GatewayProcess, *settings: str) -> str:
    """Return what a server says that does not start."""
    words = [sys.executable, "-m", "gateway", "serve", "--config", str(gateway.config), *settings]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def test_an_address_that_cannot_work_is_told_at_the_start(
    tmp_path: pathlib.Path, silent: int
) -> None:
    gateway = GatewayProcess(tmp_path)
    for address, words in (
        ("https://no-such-gateway.invalid:8001", "no-such-gateway.invalid leads to no address"),
        (f"https://127.0.0.1:{silent}", f"nothing answers at 127.0.0.1:{silent}"),
        (f"unix:{tmp_path}/nowhere.sock", "a call there fails (UNAVAILABLE"),
    ):
        said = refused(gateway, f"--DaskGateway.agent_address={address}")
        assert (
            f"c.DaskGateway.agent_address: schedulers would not reach this server at {address}"
            in said
        )
        assert words in said
        assert "check_agent_address" in said


def test_another_server_there_is_told(tmp_path: pathlib.Path) -> None:
    """Another gateway's authority vouches for other certificates; what speaks no TLS is none."""
    (tmp_path / "one").mkdir()
    (tmp_path / "other").mkdir()
    other = GatewayProcess(tmp_path / "other")
    other.start()
    try:
        gateway = GatewayProcess(tmp_path / "one")
        log = (tmp_path / "other" / "state" / "listener.port").read_text()
        port = re.search(r"\d+", log)
        assert port is not None
        said = refused(gateway, f"--DaskGateway.agent_address=https://127.0.0.1:{port[0]}")
        assert "the certificate there is not accepted" in said
        edge = other.address.rpartition(":")[2]
        said = refused(gateway, f"--DaskGateway.agent_address=https://127.0.0.1:{edge}")
        assert "speaks no TLS of ours" in said
        shared = f"unix:{tmp_path}/other/state/server.sock"
        assert "another server answers there" in refused(
            gateway, f"--DaskGateway.agent_address={shared}"
        )
    finally:
        assert other.stop() == 0


def test_a_ca_that_does_not_vouch_for_the_certificate_is_told(
    tmp_path: pathlib.Path, files: pathlib.Path
) -> None:
    gateway = GatewayProcess(tmp_path)
    said = refused(
        gateway,
        f"--DaskGateway.tls_cert={files}/here.pem",
        f"--DaskGateway.tls_key={files}/key.pem",
        f"--DaskGateway.tls_ca={files}/strange.pem",
    )
    assert "c.DaskGateway.tls_cert: agents, which dial 127.0.0.1" in said
    assert "tls_ca" in said


def test_what_works_starts_and_what_only_nodes_reach_can_be_said(
    tmp_path: pathlib.Path, files: pathlib.Path, silent: int
) -> None:
    gateway = GatewayProcess(tmp_path)
    own = [
        f"--DaskGateway.tls_cert={files}/here.pem",
        f"--DaskGateway.tls_key={files}/key.pem",
        f"--DaskGateway.tls_ca={files}/ca.pem",
    ]
    gateway.start(*own)
    assert gateway.stop() == 0
    elsewhere = f"--DaskGateway.agent_address=https://127.0.0.1:{silent}"
    gateway.start(
        elsewhere,
        "--DaskGateway.check_agent_address=False",
        "--DaskGateway.scheduler_start_timeout_s=2",
    )
    try:
        client = Gateway(gateway.address, auth=(USER, PASSWORD))
        made = client.submit("lost")
        found = client.wait(made.name, ("FAILED",), timeout_s=110)
        address = f"https://127.0.0.1:{silent}"
        assert f"its agent dials {address}" in found.status.message
    finally:
        assert gateway.stop() == 0
    lines = (tmp_path / "server.log").read_text().splitlines()
    told = [line for line in lines if "failed to start" in line]
    assert len(told) == 1
    assert f"cluster {made.uid} (lost of alice, backend local) failed to start" in told[0]
    assert "SCHEDULER_START_TIMEOUT" in told[0]
    assert f"its agent dials {address}" in told[0]


def test_while_a_scheduler_cannot_report_its_user_reads_what_its_agent_says(
    tmp_path: pathlib.Path, silent: int
) -> None:
    gateway = GatewayProcess(tmp_path)
    address = f"https://127.0.0.1:{silent}"
    gateway.start(
        f"--DaskGateway.agent_address={address}", "--DaskGateway.check_agent_address=False"
    )
    try:
        client = Gateway(gateway.address, auth=(USER, PASSWORD))
        name = client.submit("lost").name
        until(lambda: "its agent says" in client.get_cluster(name).status.message, "the words", 110)
        told = client.get_cluster(name)
        assert told.state == "CREATING"
        assert told.status.message.startswith("the scheduler runs and has not reported yet; its")
        assert f"the gateway's server at {address} does not answer" in told.status.message
        assert "refused" in told.status.message
        client.stop_cluster(name)
        client.wait(name, ("STOPPED",), timeout_s=60)
    finally:
        assert gateway.stop() == 0


def test_a_cluster_whose_scheduler_ends_at_once_is_one_line_of_the_log(
    tmp_path: pathlib.Path,
) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho this Python is broken >&2\nexit 3\n")
    broken.chmod(0o755)
    gateway = GatewayProcess(tmp_path, f"c.ClusterConfig.python = {str(broken)!r}")
    gateway.start()
    try:
        client = Gateway(gateway.address, auth=(USER, PASSWORD))
        made = client.submit("lost")
        client.wait(made.name, ("FAILED",), timeout_s=110)
    finally:
        assert gateway.stop() == 0
    lines = (tmp_path / "server.log").read_text().splitlines()
    told = [line for line in lines if f"cluster {made.uid}" in line and "failed to start" in line]
    assert len(told) == 1
    assert "this Python is broken" in told[0]


def test_a_server_that_nobody_uses_stops_at_once(tmp_path: pathlib.Path) -> None:
    """What it dialled itself by is no connection that it waits for."""
    gateway = GatewayProcess(tmp_path)
    try:
        gateway.start("--DaskGateway.drain_s=50")
        began = time.monotonic()
        assert gateway.stop() == 0
        assert time.monotonic() - began < 20
    finally:
        gateway.end()
