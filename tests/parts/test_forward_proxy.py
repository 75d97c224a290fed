"""Where only the site's HTTP proxy leads out: calls, connections to schedulers and tunnels go
through a real one (tinyproxy)."""

from __future__ import annotations

import contextlib
import os
import pathlib
import pwd
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass

import dask.config
import pytest

from gateway import Gateway, GatewayCluster
from gateway.client.calls.errors import Unreachable
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
