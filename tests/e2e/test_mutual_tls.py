"""Robots with client certificates: through the edge's one port by a name of its own, over whatever
speaks gRPC. Server and edge are processes of their own, and TLS is real."""

from __future__ import annotations

import json
import os
import pathlib
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import dask
import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from daskgateway.v1 import cluster_service_pb2, cluster_service_pb2_grpc
from daskgateway.v1 import credential_service_pb2 as pb
from daskgateway.v1 import credential_service_pb2_grpc as stubs

from gateway import Gateway, MtlsAuth
from gateway.client.calls import channel, errors
from gateway.server.boot.listening import PORT_FILE
from gateway.server.security.authority import CA_FILE
from tests.e2e.gateway_process import PASSWORD, GatewayProcess
from tests.parts import PATH, program
from tests.parts.client_certificates import Authority, Pair, uri
from tests.ports import free_port

NAME = "localhost"  # of the listener for certificates; the gateway's usual one is 127.0.0.1
TIMEOUT_S = 60.0
HOUR = timedelta(hours=1)
WHO_AM_I = "daskgateway.v1.CredentialService/WhoAmI"


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


# Who is let in


def test_a_certificate_says_who_calls_through_the_edge(room: Room, nightly: Pair) -> None:
    told = who_am_i(room, nightly)
    assert (told.user, told.admin, list(told.groups)) == ("nightly@robots", False, ["robots"])
    assert told.way == "mtls"
    ends = nightly.certificate.not_valid_after_utc
    assert told.expire_time.ToSeconds() == int(ends.timestamp())


def test_one_with_certificates_between_it_and_the_authority_is_taken(room: Room) -> None:
    assert who_am_i(room, room.below.robot(uri("weekly"))).user == "weekly@robots"


def test_tls_ends_at_the_servers_listener_and_never_at_the_edge(room: Room, nightly: Pair) -> None:
    context = ssl.create_default_context(cafile=str(room.site.path))
    context.load_cert_chain(nightly.cert, nightly.key)
    context.set_alpn_protocols(["h2"])
    seen = []
    for port in (room.port, room.listener):
        with (
            socket.create_connection(("127.0.0.1", port), 30) as made,
            context.wrap_socket(made, server_hostname=NAME) as secured,
        ):
            seen.append(secured.getpeercert(True))
    assert seen == [room.shown.certificate.public_bytes(serialization.Encoding.DER)] * 2


def test_http1_is_not_spoken_there(room: Room, nightly: Pair) -> None:
    done = subprocess.run(
        [
            *(program("curl", "apt-get install curl"), "-s", "--http1.1", "--max-time", "60"),
            *("--cacert", room.site.path, "--cert", nightly.cert, "--key", nightly.key),
            f"{room.address}/healthz",
        ],
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode != 0
    assert b"HTTP/1" not in done.stdout


def test_sign_in_options_tell_where_certificates_are_shown(room: Room) -> None:
    told = Gateway(room.process.address).sign_in_options()
    mine = next(one for one in told if one.client_way == "mtls")
    assert mine.description == f"a client certificate shown to {NAME}"


# Who is not


def test_nobody_is_let_in_without_a_certificate(room: Room) -> None:
    assert refused(lambda: who_am_i(room, None))[0] == "UNAVAILABLE"


@pytest.mark.parametrize(
    ("since", "ends"), [(-2 * HOUR, -HOUR), (HOUR, 2 * HOUR)], ids=["expired", "not yet valid"]
)
def test_one_out_of_its_time_is_not_taken(room: Room, since: timedelta, ends: timedelta) -> None:
    made = room.robots.robot(uri("nightly"), since=since, until=ends)
    assert refused(lambda: who_am_i(room, made))[0] == "UNAVAILABLE"


def test_one_of_another_authority_is_not_taken(room: Room) -> None:
    made = room.others.robot(uri("nightly"))
    assert refused(lambda: who_am_i(room, made))[0] == "UNAVAILABLE"


def test_a_servers_certificate_is_no_clients(room: Room) -> None:
    names = [x509.UniformResourceIdentifier(uri("nightly"))]
    made = room.robots.signed(names, x509.oid.ExtendedKeyUsageOID.SERVER_AUTH)
    assert refused(lambda: who_am_i(room, made))[0] == "UNAVAILABLE"


@pytest.mark.parametrize(
    ("uris", "dns", "words"),
    [
        ((), (), "it has no URI among its alternative names"),
        ((), ("admin",), "it has no URI among its alternative names"),
        ((uri("nightly"), uri("admin")), (), "it has 2 URIs"),
        ((uri("x" * 300),), (), "its URI has 327 letters; at most 255"),
        ((uri("a b"),), (), "its URI holds what is no part of URIs"),
    ],
    ids=["none", "only a DNS name", "two", "huge", "a blank"],
)
def test_one_that_names_not_exactly_one_uri_is_refused_with_words(
    room: Room, uris: tuple[str, ...], dns: tuple[str, ...], words: str
) -> None:
    made = room.robots.robot(*uris, dns=dns)
    code, told = refused(lambda: who_am_i(room, made))
    assert code == "UNAUTHENTICATED"
    assert words in told


@pytest.mark.parametrize(
    "other",
    ["spiffe://example.com/robot/nightly", uri("a/b"), uri("Nightly"), uri(""), "urn:nightly"],
)
def test_a_uri_that_the_sites_rule_does_not_know_is_nobodys(room: Room, other: str) -> None:
    made = room.robots.robot(other)
    code, told = refused(lambda: who_am_i(room, made))
    assert code == "UNAUTHENTICATED"
    assert other in told


def test_a_certificate_shown_to_the_usual_listeners_is_passed_over(
    room: Room, nightly: Pair
) -> None:
    code, _ = refused(lambda: who_am_i(room, nightly, target=f"127.0.0.1:{room.port}"))
    assert code == "UNAUTHENTICATED"
    port = (room.process.directory / "state" / PORT_FILE).read_text()
    pem = (room.process.directory / "state" / CA_FILE).read_bytes()
    credentials = grpc.ssl_channel_credentials(pem, nightly.key.read_bytes(), nightly.chain)
    with grpc.secure_channel(f"127.0.0.1:{port}", credentials) as made:
        assert refused(lambda: who(made))[0] == "UNAUTHENTICATED"


def test_headers_about_certificates_are_never_believed(room: Room, nightly: Pair) -> None:
    pem = nightly.certificate.public_bytes(serialization.Encoding.PEM).decode()
    der = "".join(pem.splitlines()[1:-1])
    forged = [
        ("x-forwarded-client-cert", f"By=x;URI={uri('nightly')}"),
        ("x-client-cert", der),
        ("ssl-client-cert", der),
        ("x-ssl-client-verify", "SUCCESS"),
    ]
    usual = f"127.0.0.1:{room.port}"
    assert refused(lambda: who_am_i(room, None, *forged, target=usual))[0] == "UNAUTHENTICATED"
    for scheme in ("client certificate", "client", "certificate", "mtls"):
        shown = ("authorization", f"{scheme} {der}")
        assert refused(lambda: who_am_i(room, None, shown, target=usual))[0] == "UNAUTHENTICATED"  # noqa: B023
    other = room.robots.robot(uri("weekly"))
    assert who_am_i(room, other, *forged).user == "weekly@robots"


def test_credentials_beside_a_certificate_are_refused(room: Room, nightly: Pair) -> None:
    code, told = refused(lambda: who_am_i(room, nightly, ("authorization", "Bearer dgw_api_x_y")))
    assert code == "UNAUTHENTICATED"
    assert "the client certificate says who calls here; send no authorization" in told


# Taken back


@pytest.mark.parametrize("by", ["serial", "fingerprint"])
def test_one_that_the_deny_list_names_is_refused_and_others_are_not(room: Room, by: str) -> None:
    made, other = room.robots.robot(uri("weekly")), room.robots.robot(uri("weekly"))
    line = (
        f"serial={made.certificate.serial_number:X}"
        if by == "serial"
        else f"sha256 Fingerprint={made.certificate.fingerprint(hashes.SHA256()).hex(':').upper()}"
    )
    with room.channel(made) as opened:
        assert who(opened).user == "weekly@robots"
        with room.deny(line):
            until(lambda: not let_in(lambda: who(opened)), "it is let in still")
            code, told = refused(lambda: who(opened))
            assert (code, "was taken back" in told) == ("UNAUTHENTICATED", True)
            assert who_am_i(room, other).user == "weekly@robots"
        until(lambda: let_in(lambda: who(opened)), "it is not let in again")


def test_what_a_certificate_has_opened_ends_when_it_is_taken_back(room: Room) -> None:
    made = room.robots.robot(uri("watcher"))
    with room.channel(made) as opened:
        stub = cluster_service_pb2_grpc.ClusterServiceStub(opened)
        watch = stub.WatchClusters(cluster_service_pb2.WatchClustersRequest(), timeout=120)
        next(watch)
        with room.deny(f"serial={made.certificate.serial_number:X}"):
            code, _ = refused(lambda: list(watch))
    assert code == "UNAUTHENTICATED"


def test_authorities_are_read_again_and_those_taken_away_count_no_longer(room: Room) -> None:
    old, new = room.robots.robot(uri("old")), room.others.robot(uri("new"))
    with room.channel(old) as opened:
        assert who(opened).user == "old@robots"
        try:
            replaced(room.ca, room.others.pem)
            until(lambda: let_in(lambda: who_am_i(room, new)), "the new authority does not count")
            code, told = refused(lambda: who(opened))
            assert (code, "of no authority that counts" in told) == ("UNAUTHENTICATED", True)
        finally:
            replaced(room.ca, room.robots.pem)
        until(lambda: let_in(lambda: who(opened)), "the old authority does not count again")


def test_what_a_certificate_makes_lasts_no_longer_than_it(room: Room, nightly: Pair) -> None:
    with room.channel(nightly) as opened:
        stub = stubs.CredentialServiceStub(opened)
        made = stub.CreateToken(pb.CreateTokenRequest(), timeout=TIMEOUT_S)
        ends = int(nightly.certificate.not_valid_after_utc.timestamp())
        assert 0 < made.token.expire_time.ToSeconds() <= ends
        code, _ = refused(lambda: stub.CreateSession(pb.CreateSessionRequest(), timeout=TIMEOUT_S))
        assert code in ("FAILED_PRECONDITION", "PERMISSION_DENIED", "UNIMPLEMENTED")


# The client


def test_the_client_shows_a_certificate_that_it_is_given(room: Room, nightly: Pair) -> None:
    with Gateway(room.address, auth=MtlsAuth(nightly.cert, nightly.key)) as gateway:
        told = gateway.whoami()
        assert (told.user, told.way) == ("nightly@robots", "mtls")
        assert told.source == "the argument auth, a MtlsAuth"
        assert told.expire_time == nightly.certificate.not_valid_after_utc
        assert gateway.list_clusters() == []


def test_the_client_takes_a_certificate_of_dasks_configuration(room: Room, nightly: Pair) -> None:
    kwargs = {"cert": str(nightly.cert), "key": str(nightly.key)}
    with dask.config.set({"gateway.auth": {"type": "mtls", "kwargs": kwargs}}):
        assert Gateway(room.address).whoami().user == "nightly@robots"
        assert "kwargs" in Gateway(room.address, auth="mtls").whoami().source


def test_the_client_takes_a_certificate_of_the_environment(
    room: Room, nightly: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DASKGATEWAY_CLIENT_CERT", str(nightly.cert))
    monkeypatch.setenv("DASKGATEWAY_CLIENT_KEY", str(nightly.key))
    for auth in (None, "mtls"):
        told = Gateway(room.address, auth=auth).whoami()
        assert told.user == "nightly@robots"
        assert told.source == "the environment variable DASKGATEWAY_CLIENT_CERT"


def test_the_client_reads_a_certificate_again_that_was_renewed(
    room: Room, nightly: Pair, tmp_path: pathlib.Path
) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    cert.write_bytes(nightly.cert.read_bytes())
    key.write_bytes(nightly.key.read_bytes())
    with Gateway(room.address, auth=MtlsAuth(cert, key)) as gateway:
        assert gateway.whoami().user == "nightly@robots"
        renewed = room.robots.robot(uri("renewed"))
        replaced(key, renewed.key.read_bytes())
        assert gateway.whoami().user == "nightly@robots"  # one of two files is new
        replaced(cert, renewed.cert.read_bytes())
        assert gateway.whoami().user == "renewed@robots"


def test_the_client_says_that_its_certificate_has_expired(room: Room) -> None:
    made = room.robots.robot(uri("nightly"), since=-2 * HOUR, until=-HOUR)
    gateway = Gateway(room.address, auth=MtlsAuth(made.cert, made.key))
    with pytest.raises(errors.NotSignedIn, match=r"expired at .* UTC; get a new one"):
        gateway.whoami()


def test_the_client_says_that_its_certificate_is_of_another_authority(room: Room) -> None:
    made = room.others.robot(uri("nightly"))
    with pytest.raises(errors.AuthenticationFailed, match="no authority of the gateway's"):
        Gateway(room.address, auth=MtlsAuth(made.cert, made.key)).whoami()


def test_the_client_says_where_a_certificate_is_to_be_shown(room: Room, nightly: Pair) -> None:
    gateway = Gateway(room.process.address, auth=MtlsAuth(nightly.cert, nightly.key))
    with pytest.raises(errors.AuthenticationFailed, match="`daskgateway sign-in-options` tells"):
        gateway.whoami()


def test_the_client_tells_why_the_gateway_refuses_it(room: Room) -> None:
    made = room.robots.robot(uri("nightly"), uri("admin"))
    with pytest.raises(errors.AuthenticationFailed, match="2 URIs"):
        Gateway(room.address, auth=MtlsAuth(made.cert, made.key)).whoami()


def test_whoami_of_the_command_line_tells_the_way_and_until_when(room: Room, nightly: Pair) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gateway", "whoami"],
        env=os.environ
        | {
            "DASKGATEWAY_ADDRESS": room.address,
            "DASKGATEWAY_CLIENT_CERT": str(nightly.cert),
            "DASKGATEWAY_CLIENT_KEY": str(nightly.key),
            "DASK_GATEWAY__CA_FILE": str(room.site.path),
            "DASK_GATEWAY__AUTH__TOKEN_FILE": "",
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    ends = nightly.certificate.not_valid_after_utc
    assert "nightly@robots" in done.stdout
    assert f"signed in by mtls, until {ends:%Y-%m-%d %H:%M:%SZ}" in done.stdout


def test_grpcurl_shows_a_certificate(room: Room, nightly: Pair) -> None:
    words = ["-cacert", str(room.site.path), "-cert", str(nightly.cert), "-key", str(nightly.key)]
    done = subprocess.run(
        [program("grpcurl", "make parts"), *words, f"{NAME}:{room.port}", WHO_AM_I],
        env=os.environ | {"PATH": PATH},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["user"] == "nightly@robots"


def test_passwords_go_on_at_the_usual_name(room: Room) -> None:
    assert Gateway(room.process.address, auth=("alice", PASSWORD)).whoami().user == "alice"
