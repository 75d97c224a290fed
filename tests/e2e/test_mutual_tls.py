"""Robots with client certificates: through the edge's one port by a name of its own, in every
language that speaks gRPC. Server and edge are processes of their own, and TLS is real."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import grpc
import pytest
from daskgateway.v1 import credential_service_pb2 as pb
from daskgateway.v1 import credential_service_pb2_grpc as stubs

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
        self.others = Authority(directory, "others")
        shown = self.site.server("127.0.0.1", NAME)
        self.ca = directory / "client-ca.pem"
        self.ca.write_bytes(self.robots.pem)
        self.denied = directory / "denied"
        self.denied.write_text("# taken back\n")
        self.listener = free_port()
        self.process = GatewayProcess(
            directory,
            "c.DaskGateway.authenticators = ['mtls', 'password']",
            "c.DaskGateway.user_name = {'mtls': {'spiffe://example.org/robot/{user}':"
            " '{user}-robot'}, 'password': {'{user}': '{user}'}}",
            "c.DaskGateway.same_people = True",
            f"c.Proxy.tls_cert = {str(shown.cert)!r}",
            f"c.Proxy.tls_key = {str(shown.key)!r}",
            f"c.MutualTlsAuthenticator.address = '127.0.0.1:{self.listener}'",
            f"c.MutualTlsAuthenticator.server_name = {NAME!r}",
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


def who_am_i(
    room: Room, shown: Pair | None, *metadata: tuple[str, str], target: str = ""
) -> pb.WhoAmIResponse:
    """Ask who a caller is, in plain gRPC."""
    pair = (shown.key.read_bytes(), shown.chain) if shown is not None else (None, None)
    credentials = grpc.ssl_channel_credentials(room.site.pem, *pair)
    where = target or f"{NAME}:{room.port}"
    with grpc.secure_channel(where, credentials, [("grpc.enable_http_proxy", 0)]) as channel:
        stub = stubs.CredentialServiceStub(channel)
        return stub.WhoAmI(pb.WhoAmIRequest(), metadata=metadata, timeout=TIMEOUT_S)


def refused(call: Callable[[], object]) -> tuple[str, str]:
    """Return code and words of a call that is refused."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    error: Any = caught.value
    return error.code().name, error.details()


def test_a_certificate_says_who_calls_through_the_edge(room: Room, nightly: Pair) -> None:
    told = who_am_i(room, nightly)
    assert (told.user, told.admin, list(told.groups)) == ("nightly-robot", False, ["robots"])
    assert told.way == "mtls"
    ends = nightly.certificate.not_valid_after_utc
    assert told.expire_time.ToSeconds() == int(ends.timestamp())
