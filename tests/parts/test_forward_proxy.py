"""Where only the site's HTTP proxy leads out: calls, connections to schedulers and tunnels go
through a real one (tinyproxy)."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import pathlib
import pwd
import re
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import dask.config
import pytest

from gateway import Gateway, GatewayCluster
from gateway.client.calls import grants
from gateway.client.calls.errors import Unreachable
from gateway.client.calls.grants import Program
from tests.e2e.gateway_process import PASSWORD, USER, GatewayProcess
from tests.parts import fronts, missing, program
from tests.ports import free_port

INSTALL = "apt-get install tinyproxy"
VARIABLES = ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY")


def own_address() -> str:
    """Return an address of this machine that is not loopback: that is never reached by a proxy."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as trial:
        try:
            trial.connect(("192.0.2.254", 9))  # nothing is sent
            address = str(trial.getsockname()[0])
        except OSError:
            address = ""
    if not address or address.startswith("127."):
        missing("an address other than loopback", "a network card")
    return address


@dataclass
class Proxy:
    """A proxy that runs."""

    port: int
    log: pathlib.Path

    def carried(self, place: str) -> int:
        """Return how many connections to a place it has opened."""
        return len(re.findall(f"CONNECT {place} ", self.log.read_text()))


@contextlib.contextmanager
def tinyproxy(directory: pathlib.Path, *settings: str) -> Iterator[Proxy]:
    """Run tinyproxy, with settings beside the least that it needs."""
    port, log = free_port(), directory / "tinyproxy.log"
    log.touch()
    lines = [f"Port {port}", "Listen 127.0.0.1", f'LogFile "{log}"', "LogLevel Connect", *settings]
    if os.geteuid() == 0:
        lines.append(f"User {pwd.getpwuid(0).pw_name}")  # who else could write the log
    (directory / "tinyproxy.conf").write_text("\n".join(lines) + "\n")
    words = [program("tinyproxy", INSTALL), "-d", "-c", str(directory / "tinyproxy.conf")]
    with fronts.running(directory, words, port):
        yield Proxy(port, log)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """A gateway that is reached by an address of this machine, with TLS."""
    directory, host = tmp_path_factory.mktemp("gateway"), own_address()
    certificate, key = fronts.self_signed(directory, host)
    made = GatewayProcess(
        directory,
        f"c.Proxy.address = '{host}:{free_port()}'",
        "c.DaskGateway.stop_clusters_on_exit = True",
        f"c.Proxy.tls_cert, c.Proxy.tls_key = {str(certificate)!r}, {str(key)!r}",
    )
    made.start()
    yield made
    assert made.stop() == 0


@pytest.fixture
def client(gateway: GatewayProcess, monkeypatch: pytest.MonkeyPatch) -> Iterator[GatewayProcess]:
    """The gateway, as a user's process is configured for it; no variable names a proxy yet."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    certificate = gateway.directory / "cert.pem"
    with dask.config.set({"gateway.ca-file": str(certificate)}):
        yield gateway


@pytest.mark.parametrize("transport", ["auto", "grpc", "http"])
@pytest.mark.parametrize("tunnel", ["never", "always"])
@pytest.mark.timeout(180)
def test_calls_connections_and_tunnels_go_through_the_proxy(
    client: GatewayProcess,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    transport: str,
    tunnel: str,
) -> None:
    place = client.address.removeprefix("https://")
    with (
        tinyproxy(tmp_path, "BasicAuth ann s3cret") as proxy,
        dask.config.set({"gateway.transport": transport, "gateway.tunnel": tunnel}),
    ):
        monkeypatch.setenv("HTTPS_PROXY", f"http://ann:s3cret@127.0.0.1:{proxy.port}")
        with Gateway(client.address, auth=(USER, PASSWORD)) as gateway:
            assert gateway.whoami().user == USER
            called = proxy.carried(place)
            assert called
            with (
                GatewayCluster(gateway=gateway, n_workers=1) as cluster,
                cluster.get_client() as computing,
            ):
                assert computing.submit(sum, [1, 2]).result(60) == 3
                assert proxy.carried(place) > called


@pytest.mark.timeout(120)
def test_what_no_proxy_names_goes_without(
    client: GatewayProcess, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tinyproxy(tmp_path) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("NO_PROXY", f"example.org,{own_address()}")
        with Gateway(client.address, auth=(USER, PASSWORD)) as gateway:
            assert gateway.whoami().user == USER
        monkeypatch.delenv("NO_PROXY")
        with (
            dask.config.set({"gateway.http-client.proxy": False}),
            Gateway(client.address, auth=(USER, PASSWORD)) as gateway,
        ):
            assert gateway.whoami().user == USER
        assert not proxy.carried(client.address.removeprefix("https://"))


@pytest.mark.timeout(120)
def test_a_proxy_that_wants_credentials_or_permits_other_ports_is_told(
    client: GatewayProcess, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for setting, words in (
        ("BasicAuth ann s3cret", "it wants credentials"),
        ("ConnectPort 443", "it does not permit that host or port"),
    ):
        directory = tmp_path / setting.partition(" ")[0]
        directory.mkdir()
        with tinyproxy(directory, setting) as proxy:
            monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
            with (
                Gateway(client.address, auth=(USER, PASSWORD)) as gateway,
                pytest.raises(Unreachable, match=words),
            ):
                gateway.whoami()


@dataclass
class Provider:
    """An OpenID provider that is reached by an address of this machine, with TLS."""

    issuer: str
    asked: list[str] = field(default_factory=list)  # paths, in their order

    @property
    def place(self) -> str:
        """Its host and port."""
        return self.issuer.removeprefix("https://")

    def answer(self, path: str) -> dict[str, object]:
        """Return what is told at a path."""
        self.asked.append(path)
        told: dict[str, dict[str, object]] = {
            grants.WELL_KNOWN: {
                "issuer": self.issuer,
                "device_authorization_endpoint": f"{self.issuer}/device?a=b",
                "token_endpoint": f"{self.issuer}/token",
                "revocation_endpoint": f"{self.issuer}/revoke",
            },
            "/device?a=b": {
                "device_code": "device",
                "user_code": "ABCD",
                "verification_uri": f"{self.issuer}/enter",
            },
            "/token": {"access_token": "access", "refresh_token": "refresh", "expires_in": 60},
        }
        return told.get(path, {})


@pytest.fixture
def provider(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Provider]:
    """One, whose certificate this process believes; no variable names a proxy yet."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    host = own_address()
    certificate, key = fronts.self_signed(tmp_path, host)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    found: list[Provider] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(found[0].answer(self.path)).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.do_GET()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer((host, 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        found.append(Provider(f"https://{host}:{server.server_address[1]}"))
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield found[0]
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.timeout(120)
def test_every_way_to_sign_in_at_an_identity_provider_goes_through_the_proxy(
    provider: Provider, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    person, robot = Program(provider.issuer, "cli"), Program(provider.issuer, "job", "", "secret")
    with tinyproxy(tmp_path, "BasicAuth ann s3cret") as proxy:
        # a program may name its proxy after it has imported this
        monkeypatch.setenv("HTTPS_PROXY", f"http://ann:s3cret@127.0.0.1:{proxy.port}")
        code = grants.device_code(person)
        assert grants.entered(person, code, wait=lambda _: None).access_token == "access"
        assert grants.renewed(person, "refresh").refresh_token == "refresh"
        assert grants.of_its_own(robot).access_token == "access"
        assert grants.forgotten(person, "refresh")
        assert {"/device?a=b", "/token", "/revoke"} < set(provider.asked)
        assert proxy.carried(provider.place) == len(provider.asked)


@pytest.mark.timeout(120)
def test_an_identity_provider_that_no_proxy_names_is_reached_without(
    provider: Provider, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    person = Program(provider.issuer, "cli")
    with tinyproxy(tmp_path, "ConnectPort 1") as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
        with pytest.raises(Unreachable, match=r"it does not permit that host or port"):
            grants.device_code(person)
        with dask.config.set({"gateway.http-client.proxy": False}):
            assert grants.device_code(person).user_code == "ABCD"
        monkeypatch.setenv("NO_PROXY", f"example.org,{own_address()}")
        assert grants.device_code(person).user_code == "ABCD"
        assert len(provider.asked) == 4  # of both, discovery and code
    monkeypatch.delenv("NO_PROXY")
    with pytest.raises(Unreachable, match=r"the proxy http://127.0.0.1:\d+ \(HTTPS_PROXY\) is not"):
        grants.device_code(person)
