"""What a connection is for is decided by its first bytes, in one place."""

from __future__ import annotations

import pytest

from gateway.networks import Destination, Everywhere
from gateway.proxy import settings
from gateway.proxy.config import Proxy
from gateway.proxy.door.client_hello import Hello, Http1, Http2
from gateway.proxy.door.sorting import Purpose, purpose_of
from gateway.wire import server_name

UID = "c" + "a" * 20


@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize("routed", [False, True])
def test_a_clusters_name_is_its_schedulers_whether_it_is_known_or_not(
    routed: bool, secure: bool
) -> None:
    """Who asks for a cluster that is not there is answered as by one that is not reached."""
    hello = Hello(server_name(UID), (b"h2",))
    assert purpose_of(hello, routed=routed, secure=secure) is Purpose.SCHEDULER


@pytest.mark.parametrize(
    ("verdict", "clear", "secure"),
    [
        (Hello("gateway.example.org"), Purpose.UNSPEAKABLE, Purpose.TLS),
        (Hello(), Purpose.UNSPEAKABLE, Purpose.TLS),  # by address, without a name
        (Hello("c.daskgateway"), Purpose.UNSPEAKABLE, Purpose.TLS),  # no cluster's name
        (Http1(), Purpose.HTTP1, Purpose.CLEAR),
        (Http2(), Purpose.HTTP2, Purpose.UNSPEAKABLE),
    ],
)
def test_the_rest_is_served_here_by_whether_there_is_a_certificate(
    verdict: Hello | Http1 | Http2, clear: Purpose, secure: Purpose
) -> None:
    assert purpose_of(verdict, routed=False, secure=False) is clear
    assert purpose_of(verdict, routed=False, secure=True) is secure


MUTUAL = "mtls.example.org"


@pytest.mark.parametrize("secure", [False, True])
def test_the_name_for_client_certificates_is_the_servers_listeners(secure: bool) -> None:
    hello = Hello(MUTUAL, (b"h2",))
    assert purpose_of(hello, routed=False, secure=secure, mutual=MUTUAL) is Purpose.MUTUAL


@pytest.mark.parametrize("name", ["", "example.org", f"x.{MUTUAL}", f"{MUTUAL}.", "mtls"])
def test_no_other_name_is(name: str) -> None:
    for mutual in (MUTUAL, ""):
        told = purpose_of(Hello(name), routed=False, secure=True, mutual=mutual)
        assert told is Purpose.TLS


def test_where_that_listener_is_may_be_a_name_wherever_it_leads() -> None:
    told = settings.mutual(Proxy(mtls_name=MUTUAL, mtls_address="server.example.org:8788"))
    assert told.name == MUTUAL
    assert told.target == Destination("server.example.org", 8788)
    assert Everywhere().permit(Destination.of("169.254.0.1", 8788))
    assert settings.mutual(Proxy()).name == ""


@pytest.mark.parametrize(
    ("name", "address", "words"),
    [
        (MUTUAL, "", "set both or none"),
        ("", "127.0.0.1:1", "set both or none"),
        ("MTLS.example.org", "127.0.0.1:1", "mtls_name: must be a name in small letters"),
        ("::1", "127.0.0.1:1", "mtls_name: must be a name in small letters"),
        ("x.daskgateway", "127.0.0.1:1", "is a name that clusters have"),
        (MUTUAL, "127.0.0.1", "mtls_address: must be host:port"),
        (MUTUAL, "127.0.0.1:0", "mtls_address: must be host:port"),
    ],
)
def test_a_way_to_it_that_cannot_be_is_told(name: str, address: str, words: str) -> None:
    told = Proxy(mtls_name=name, mtls_address=address).problems(beside_server=True)
    assert len(told) == 1
    assert words in told[0]
