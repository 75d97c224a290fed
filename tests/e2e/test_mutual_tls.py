"""Robots with client certificates: through the edge's one port by a name of its own, and everybody
who is kept out there."""

from __future__ import annotations

import socket
import ssl
import subprocess
from datetime import timedelta

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from daskgateway.v1 import cluster_service_pb2, cluster_service_pb2_grpc
from daskgateway.v1 import credential_service_pb2 as pb
from daskgateway.v1 import credential_service_pb2_grpc as stubs

from gateway import Gateway
from gateway.server.boot.listening import PORT_FILE
from gateway.server.security.authority import CA_FILE
from tests.e2e.gateway_process import PASSWORD
from tests.e2e.robots import (
    HOUR,
    NAME,
    TIMEOUT_S,
    Room,
    let_in,
    nightly,
    nobody,
    refused,
    replaced,
    room,
    until,
    who,
    who_am_i,
)
from tests.parts import program
from tests.parts.client_certificates import Pair, uri

__all__ = ["nightly", "nobody", "room"]


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


def test_passwords_go_on_at_the_usual_name(room: Room) -> None:
    assert Gateway(room.process.address, auth=("alice", PASSWORD)).whoami().user == "alice"
