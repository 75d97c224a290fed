"""Streams that are cut, whoever cuts them and however they came, leave one line of the call log and
no traceback anywhere."""

from __future__ import annotations

import base64
import pathlib
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from urllib.parse import urlsplit

import grpc
import pytest
from daskgateway.v1 import cluster_service_pb2 as service_pb
from daskgateway.v1 import cluster_service_pb2_grpc

from gateway import Gateway
from gateway.wire import basic_credentials
from tests.e2e.gateway_process import PASSWORD, USER, GatewayProcess
from tests.waiting import until

NAME = "etl"
FULL = f"users/{USER}/clusters/{NAME}"
METADATA = (("authorization", basic_credentials(USER, PASSWORD)),)


@pytest.fixture
def gateway(tmp_path: pathlib.Path) -> Iterator[GatewayProcess]:
    """A gateway with an active cluster."""
    made = GatewayProcess(tmp_path)
    made.start("--DaskGateway.stop_clusters_on_exit=True")
    client = Gateway(made.address, auth=(USER, PASSWORD))
    client.submit(NAME, n_workers=1)
    client.wait(NAME, timeout_s=60)
    yield made
    if made.process is not None and made.process.poll() is None:
        made.stop()


def log(gateway: GatewayProcess) -> str:
    """Return what server and edge have logged."""
    return (gateway.directory / "server.log").read_text()


def codes(gateway: GatewayProcess, method: str) -> list[str]:
    """Return how calls of a method ended."""
    return re.findall(rf"/{method} (\w+) alice", log(gateway))


def over_http(gateway: GatewayProcess, path: str) -> socket.socket:
    """Return a connection by which a stream of events has begun to come."""
    parts = urlsplit(gateway.address)
    connection = socket.create_connection((parts.hostname, parts.port), 20)
    user = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    connection.sendall(
        f"GET {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nAuthorization: Basic {user}\r\n\r\n".encode()  # noqa: E501
    )
    received = b""
    while b"data:" not in received:
        piece = connection.recv(65536)
        assert piece, received
        received += piece
    return connection


@pytest.mark.timeout(180)
def test_streams_that_are_cut(gateway: GatewayProcess) -> None:
    watch, logs = (
        over_http(gateway, "/v1/watch"),
        over_http(gateway, f"/v1/logs?name={FULL}&follow=1"),
    )
    watch.close()
    logs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset
    logs.close()
    until(
        lambda: (
            codes(gateway, "WatchClusters") == ["CANCELLED"]
            and codes(gateway, "StreamLogs") == ["CANCELLED"]
        ),
        "their lines",
    )
    with grpc.insecure_channel(urlsplit(gateway.address).netloc) as channel:
        stub = cluster_service_pb2_grpc.ClusterServiceStub(channel)
        late = stub.StreamLogs(
            service_pb.StreamLogsRequest(name=FULL, follow=True), metadata=METADATA, timeout=2
        )
        with pytest.raises(grpc.RpcError):
            list(late)
        cut = stub.StreamLogs(
            service_pb.StreamLogsRequest(name=FULL, follow=True), metadata=METADATA
        )
        next(cut)
        cut.cancel()
        until(
            lambda: codes(gateway, "StreamLogs")[1:] == ["DEADLINE_EXCEEDED", "CANCELLED"],
            "their lines",
        )
    # who runs tests in the background of a script has SIGINT ignored, for all they start too
    words = ["env", "--default-signal=INT"]
    words += [sys.executable, "-m", "gateway", "clusters", "logs", "-f", NAME]
    with subprocess.Popen(
        words, env=gateway.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as following:
        assert following.stdout is not None
        following.stdout.readline()
        following.send_signal(signal.SIGINT)
        _, said = following.communicate(timeout=30)
        assert "Traceback" not in said
    until(lambda: len(codes(gateway, "StreamLogs")) == 4, "its line")
    kept = [over_http(gateway, "/v1/watch"), over_http(gateway, f"/v1/logs?name={FULL}&follow=1")]
    assert gateway.stop() == 0  # a drain
    for connection in kept:
        connection.close()
    assert codes(gateway, "StreamLogs")[3:] == ["CANCELLED", "OK"]
    assert codes(gateway, "WatchClusters")[-1] == "OK"
    for trouble in ("Traceback", "never retrieved", "exception", " E "):
        assert trouble not in log(gateway), log(gateway)
