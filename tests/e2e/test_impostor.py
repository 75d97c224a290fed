"""The server is down and somebody else has its port: nobody tells that one anything, and all goes
on when the server is back."""

from __future__ import annotations

import asyncio
import os
import pathlib
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator

import aiohttp
import grpc
import pytest
from daskgateway.v1 import credential_service_pb2 as pb
from daskgateway.v1 import credential_service_pb2_grpc

from gateway import Gateway
from gateway.wire import AUTHORIZATION, TUNNEL_PATH, TUNNEL_PROTOCOL, basic_credentials
from tests.e2e.gateway_process import PASSWORD, USER, GatewayProcess
from tests.e2e.impostor import Impostor
from tests.e2e.test_main_job import until

CREDENTIALS = basic_credentials(USER, PASSWORD)


def listener(served: GatewayProcess) -> int:
    """Return the port of the server's listener."""
    return int((served.directory / "state" / "listener.port").read_text())


def by_grpc(address: str) -> str:
    """Return with which code a call with a password ends."""
    with grpc.insecure_channel(address.removeprefix("http://")) as channel:
        try:
            credential_service_pb2_grpc.CredentialServiceStub(channel).WhoAmI(
                pb.WhoAmIRequest(), metadata=((AUTHORIZATION, CREDENTIALS),), timeout=20
            )
        except grpc.RpcError as error:
            return str(error.code().name)
    return "OK"


def by_http(address: str) -> int:
    """Return with which status the same ends over HTTP."""
    headers = {
        "Authorization": CREDENTIALS,
        "Content-Type": "application/json",
        "Connect-Timeout-Ms": "5000",
    }
    request = urllib.request.Request(
        f"{address}/daskgateway.v1.CredentialService/WhoAmI", data=b"{}", headers=headers
    )
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


async def by_tunnel(address: str, uid: str) -> int:
    """Return with which status a tunnel with a password is answered; 101 if it is opened."""
    async with aiohttp.ClientSession(headers={"Authorization": CREDENTIALS}) as session:
        try:
            async with session.ws_connect(
                f"{address}{TUNNEL_PATH}{uid}", protocols=[TUNNEL_PROTOCOL]
            ):
                return 101
        except aiohttp.WSServerHandshakeError as error:
            return error.status


def by_login(address: str, uid: str) -> int:
    """Return with which status a login at a dashboard ends."""
    form = f"user={USER}&password={PASSWORD}".encode()
    try:
        with urllib.request.urlopen(
            f"{address}/clusters/{uid}/login", data=form, timeout=30
        ) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def secrets_of(served: GatewayProcess) -> list[bytes]:
    """Return what an impostor is after."""
    tokens = [path.read_bytes() for path in served.local.rglob("agent.token")]
    assert tokens
    state = served.directory / "state"
    return [
        *tokens,
        (state / "edge.token").read_bytes(),
        PASSWORD.encode(),
        CREDENTIALS.removeprefix("Basic ").encode(),
    ]


def told_nothing(impostor: Impostor, served: GatewayProcess) -> None:
    """Assert that an impostor has heard no secret, and indeed nothing but attempts that were given
    up."""
    for secret in secrets_of(served):
        assert secret not in impostor.heard
    assert impostor.heard == b""


@pytest.fixture
def served(tmp_path: pathlib.Path) -> Iterator[GatewayProcess]:
    """A gateway that serves, with what runs of it ended afterwards."""
    gateway = GatewayProcess(tmp_path)
    gateway.start()
    yield gateway
    if gateway.process is not None and gateway.process.poll() is None:
        gateway.stop()
    for pid in gateway.processes():
        os.kill(pid, signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_who_takes_the_servers_port_gets_no_password_and_no_token(
    served: GatewayProcess, tmp_path: pathlib.Path
) -> None:
    client = Gateway(served.address, auth=(USER, PASSWORD))
    made = client.submit("goes-on", n_workers=1)
    client.wait(made.name, timeout_s=60)
    address = served.address
    assert by_grpc(address) == "OK"
    served.kill()
    impostor = Impostor(listener(served), tmp_path / "impostor")
    try:
        until(lambda: impostor.refused >= 2, "the agent has tried, and gave up")
        assert by_grpc(address) == "UNAVAILABLE"
        assert by_http(address) == 503
        assert asyncio.run(by_tunnel(address, made.uid)) == 503
        assert by_login(address, made.uid) in (502, 503)
        told_nothing(impostor, served)
    finally:
        impostor.close()
    served.start()
    assert listener(served) == impostor.port
    client = Gateway(served.address, auth=(USER, PASSWORD))
    client.scale_cluster(made.name, 2)
    until(
        lambda: client.get_cluster(made.name).status.worker_groups["default"].running == 2,
        "the agent tells of another worker",
    )
    client.stop_cluster(made.name)
    client.wait(made.name, ("STOPPED",), timeout_s=60)


class EdgeElsewhere:
    """An edge that a server did not start, as on another machine: it has two files of the
    server's."""

    def __init__(self, served: GatewayProcess, directory: pathlib.Path, **settings: str) -> None:
        directory.mkdir()
        for name in ("server-ca.pem", "edge.token"):
            (directory / name).write_bytes((served.directory / "state" / name).read_bytes())
            (directory / name).chmod(0o600)
        usual = {
            "address": "127.0.0.1:0",
            "server_address": f"https://127.0.0.1:{listener(served)}",
            "server_ca": str(directory / "server-ca.pem"),
            "token_file": str(directory / "edge.token"),
            "state_dir": str(directory / "edge"),
        }
        words = [f"--Proxy.{name}={value}" for name, value in (usual | settings).items()]
        reading, writing = os.pipe()
        command = [sys.executable, "-m", "gateway", "proxy", f"--ready-fd={writing}", *words]
        with (directory / "log").open("w") as log:
            self.process = subprocess.Popen(command, pass_fds=[writing], stderr=log, cwd=directory)
        os.close(writing)
        with os.fdopen(reading) as ready:
            self.address = f"http://{ready.readline().strip().partition(' ')[2]}"
        self.log = directory / "log"

    def stop(self) -> None:
        """End it."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(20)


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", ["127.0.0.1", "127.0.0.3"])  # the latter is not in the certificate
def test_an_edge_elsewhere_knows_the_server_by_one_file_and_tells_nobody_else(
    served: GatewayProcess, tmp_path: pathlib.Path, name: str
) -> None:
    served.stop()
    served.start(
        "--DaskGateway.address=0.0.0.0:0"
        if name != "127.0.0.1"
        else "--DaskGateway.address=127.0.0.1:0"
    )
    client = Gateway(served.address, auth=(USER, PASSWORD))
    made = client.submit("afar")
    client.wait(made.name, timeout_s=60)
    edge = EdgeElsewhere(
        served, tmp_path / "elsewhere", server_address=f"https://{name}:{listener(served)}"
    )
    try:
        until(
            lambda: "the server answers; 1 clusters are known" in edge.log.read_text(),
            "the edge follows the server",
        )
        assert by_grpc(edge.address) == "OK"
        assert by_http(edge.address) == 200
        assert asyncio.run(by_tunnel(edge.address, made.uid)) == 101
        served.kill()
        impostor = Impostor(listener(served), tmp_path / "impostor", name)
        try:
            before = impostor.refused
            assert by_grpc(edge.address) == "UNAVAILABLE"
            assert by_http(edge.address) == 503
            assert asyncio.run(by_tunnel(edge.address, made.uid)) == 503
            until(lambda: impostor.refused > before, "the edge has tried, and gave up")
            told_nothing(impostor, served)
        finally:
            impostor.close()
    finally:
        edge.stop()


@pytest.mark.parametrize(
    ("address", "words"),
    [
        (
            "http://127.0.0.1:8001",
            "c.Proxy.server_address: must be unix:/path or https://host:port",
        ),
        ("127.0.0.1:8001", "c.Proxy.server_address: must be unix:/path or https://host:port"),
    ],
)
def test_an_edge_calls_nobody_in_clear_text(
    tmp_path: pathlib.Path, address: str, words: str
) -> None:
    (tmp_path / "token").write_text("t")
    settings = {
        "server_address": address,
        "token_file": tmp_path / "token",
        "state_dir": tmp_path / "edge",
        "address": "127.0.0.1:0",
    }
    command = [
        sys.executable,
        "-m",
        "gateway",
        "proxy",
        *(f"--Proxy.{name}={value}" for name, value in settings.items()),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.returncode == 2
    assert words in done.stderr
