"""A gateway for robots with client certificates: server and edge are processes of their own, and
TLS is real."""

from __future__ import annotations

import pathlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import dask
import grpc
import pytest
from daskgateway.v1 import credential_service_pb2 as pb
from daskgateway.v1 import credential_service_pb2_grpc as stubs

from gateway.client.calls import channel
from tests.e2e.gateway_process import GatewayProcess
from tests.parts.client_certificates import Authority, Pair, uri
from tests.ports import free_port

NAME = "localhost"  # of the listener for certificates; the gateway's usual one is 127.0.0.1
TIMEOUT_S = 60.0
HOUR = timedelta(hours=1)


class Room:
    """A gateway, and who signs for it."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.site = Authority(directory, "site")
        self.robots = Authority(directory, "robots")
        self.below = Authority(directory, "below", self.robots)
        self.others = Authority(directory, "others")
        edge = self.site.server("127.0.0.1")
        self.shown = self.site.server(NAME)
        self.ca = directory / "client-ca.pem"
        self.ca.write_bytes(self.robots.pem)
        self.denied = directory / "denied"
        self.denied.write_text("# taken back\n")
        self.listener = free_port()
        self.process = GatewayProcess(
            directory,
            "c.DaskGateway.authenticators = ['mtls', 'password']",
            "c.DaskGateway.user_name = {'mtls': {'spiffe://example.org/robot/{user}':"
            " '{user}@robots'}, 'password': {'{user}': '{user}'}}",
            "c.DaskGateway.same_people = True",
            f"c.Proxy.tls_cert = {str(edge.cert)!r}",
            f"c.Proxy.tls_key = {str(edge.key)!r}",
            f"c.MutualTlsAuthenticator.address = '127.0.0.1:{self.listener}'",
            f"c.MutualTlsAuthenticator.server_name = {NAME!r}",
            f"c.MutualTlsAuthenticator.tls_cert = {str(self.shown.cert)!r}",
            f"c.MutualTlsAuthenticator.tls_key = {str(self.shown.key)!r}",
            f"c.MutualTlsAuthenticator.client_ca = {str(self.ca)!r}",
            f"c.MutualTlsAuthenticator.deny_list = {str(self.denied)!r}",
            f"c.MutualTlsAuthenticator.groups = {{{uri('nightly')!r}: ['robots']}}",
        )

    @property
    def port(self) -> int:
        """The edge's."""
        return int(self.process.address.rpartition(":")[2])

    @property
    def address(self) -> str:
        """Where certificates are shown."""
        return f"https://{NAME}:{self.port}"

    @contextmanager
    def channel(self, shown: Pair | None, target: str = "") -> Iterator[grpc.Channel]:
        """Yield a connection that shows a certificate."""
        pair = (shown.key.read_bytes(), shown.chain) if shown is not None else (None, None)
        credentials = grpc.ssl_channel_credentials(self.site.pem, *pair)
        options = [("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1)]
        with grpc.secure_channel(target or f"{NAME}:{self.port}", credentials, options) as made:
            yield made

    @contextmanager
    def deny(self, line: str) -> Iterator[None]:
        """Take a certificate back for a while."""
        before = self.denied.read_text()
        replaced(self.denied, f"{before}{line}\n".encode())
        try:
            yield
        finally:
            replaced(self.denied, before.encode())


def replaced(path: pathlib.Path, content: bytes) -> None:
    """Put another file in the place of one, as programs do that renew it."""
    new = path.with_suffix(".new")
    new.write_bytes(content)
    new.replace(path)


def who(made: grpc.Channel, *metadata: tuple[str, str]) -> pb.WhoAmIResponse:
    """Ask who a caller is."""
    stub = stubs.CredentialServiceStub(made)
    return stub.WhoAmI(pb.WhoAmIRequest(), metadata=metadata, timeout=TIMEOUT_S)


def who_am_i(
    room: Room, shown: Pair | None, *metadata: tuple[str, str], target: str = ""
) -> pb.WhoAmIResponse:
    """Ask who a caller is, over a connection of its own."""
    with room.channel(shown, target) as made:
        return who(made, *metadata)


def refused(call: Callable[[], object]) -> tuple[str, str]:
    """Return code and words of a call that is refused."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    error: Any = caught.value
    return error.code().name, error.details()


def until(is_so: Callable[[], bool], words: str) -> None:
    """Wait until a file was read again, or the like."""
    give_up_at = time.monotonic() + TIMEOUT_S
    while not is_so():
        assert time.monotonic() < give_up_at, words
        time.sleep(0.1)


def let_in(call: Callable[[], object]) -> bool:
    """Whether a call is answered."""
    try:
        call()
    except grpc.RpcError:
        return False
    return True


# Fixtures of who imports them


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    """A gateway that takes certificates and passwords."""
    made = Room(tmp_path_factory.mktemp("mtls"))
    try:
        made.process.start()
        yield made
    finally:
        made.process.end()


@pytest.fixture(scope="module")
def nightly(room: Room) -> Pair:
    """A robot's certificate that is right."""
    return room.robots.robot(uri("nightly"), until=HOUR)


@pytest.fixture(autouse=True)
def nobody(room: Room, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing that whoever runs the tests has configured."""
    for name in ("TOKEN", "USER", "PASSWORD", "CLIENT_CERT", "CLIENT_KEY"):
        monkeypatch.delenv(f"DASKGATEWAY_{name}", raising=False)
    channel.forget(room.address)
    wanted = {
        "gateway.auth": {"token-file": None},
        "gateway.ca-file": str(room.site.path),
        "gateway.retry-for": "60s",
    }
    with dask.config.set(wanted):
        yield
