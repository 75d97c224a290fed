"""What a connection is for is decided by its first bytes, in one place."""

from __future__ import annotations

import pytest

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
