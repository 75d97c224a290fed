"""What front proxies say is believed only of configured ones, and read from the right end."""

from __future__ import annotations

import pytest

from gateway.configfile import ConfigurationError
from gateway.proxy.config import Proxy
from gateway.proxy.http.forwarded import Seen, networks, same_site, seen, trusts
from gateway.proxy.http.front import Front

PROXIES = networks(["10.0.0.0/8", "127.0.0.1", "fd00::/8"])
PEER = Seen("127.0.0.1", "http", "edge:8000")


def x(**values: str) -> dict[str, list[str]]:
    """Return X-Forwarded-* headers."""
    return {f"x-forwarded-{name}": [value] for name, value in values.items()}


@pytest.mark.parametrize(
    ("peer", "headers", "kind", "wanted"),
    [
        (PEER, {}, "x-forwarded", PEER),
        (
            Seen("192.0.2.9", "http", "h"),
            x(**{"for": "1.1.1.1", "proto": "https"}),
            "x-forwarded",
            Seen("192.0.2.9", "http", "h"),
        ),
        (
            PEER,
            x(**{"for": "192.0.2.1", "proto": "https", "host": "hub"}),
            "x-forwarded",
            Seen("192.0.2.1", "https", "hub"),
        ),
        # The caller wrote the left entry: what the proxy added on the right counts.
        (
            PEER,
            x(**{"for": "6.6.6.6, 192.0.2.1", "proto": "https,http"}),
            "x-forwarded",
            Seen("192.0.2.1", "http", "edge:8000"),
        ),
        # Two proxies of ours in a row: nginx with TLS before JupyterHub's proxy, which appends.
        (
            PEER,
            x(**{"for": "192.0.2.1, 10.1.1.1", "proto": "https,http", "host": "hub,hub"}),
            "x-forwarded",
            Seen("192.0.2.1", "https", "hub"),
        ),
        # The same where the second passes the first's word on without adding to it.
        (
            PEER,
            x(**{"for": "192.0.2.1, 10.1.1.1", "proto": "https"}),
            "x-forwarded",
            Seen("192.0.2.1", "https", "edge:8000"),
        ),
        (
            PEER,
            x(**{"for": "192.0.2.1", "proto": "gopher"}),
            "x-forwarded",
            Seen("192.0.2.1", "http", "edge:8000"),
        ),
        (PEER, x(proto="https"), "x-forwarded", Seen("127.0.0.1", "https", "edge:8000")),
        (
            PEER,
            x(**{"for": "rubbish, 192.0.2.1:99"}),
            "x-forwarded",
            Seen("192.0.2.1", "http", "edge:8000"),
        ),
        # Forwarded is believed only where it is what the proxies write, and X-Forwarded-* then not.
        (PEER, {"forwarded": ["for=192.0.2.1;proto=https"]}, "x-forwarded", PEER),
        (
            PEER,
            {"forwarded": ["for=192.0.2.1;proto=https"], **x(proto="http")},
            "forwarded",
            Seen("192.0.2.1", "https", "edge:8000"),
        ),
        (
            PEER,
            {"forwarded": ['for="[2001:db8::1]:4711";host="hub"', "for=10.0.0.1"]},
            "forwarded",
            Seen("2001:db8::1", "http", "hub"),
        ),
        (PEER, {"forwarded": [";;,=,"]}, "forwarded", PEER),
    ],
)
def test_who_calls(peer: Seen, headers: dict[str, list[str]], kind: str, wanted: Seen) -> None:
    assert seen(peer, headers, PROXIES, kind) == wanted


def test_proxies_are_followed_only_so_far() -> None:
    assert (
        seen(
            PEER,
            x(**{"for": ", ".join(["192.0.2.1"] + ["10.0.0.1"] * 1000)}),
            PROXIES,
            "x-forwarded",
        ).address
        == "10.0.0.1"
    )


def test_networks_hold_mapped_addresses_and_no_rubbish() -> None:
    assert trusts(PROXIES, "::ffff:10.1.2.3")
    assert trusts(PROXIES, "fd00::1%eth0")
    assert not trusts(PROXIES, "192.0.2.1")
    assert not trusts(PROXIES, "")
    with pytest.raises(ValueError, match="host bits"):
        networks(["10.0.0.1/8"])


@pytest.mark.parametrize(
    ("origin", "host", "wanted"),
    [
        (None, "hub", True),
        ("https://hub", "hub", True),
        ("https://HUB:443", "hub", True),
        ("https://hub", "hub:443", True),
        ("http://hub", "hub", False),
        ("http://hub:443", "hub:443", False),
        ("http://hub", "hub:80", False),
        ("https://hub:8443", "hub", False),
        ("https://hub.evil.example", "hub", False),
        ("https://evil.example", "hub", False),
        ("null", "hub", False),
        ("", "hub", False),
        ("file://", "hub", False),
        ("https://[", "hub", False),
        ("https://lab.example.org", "hub", True),
    ],
)
def test_only_pages_of_the_edge_itself_are_of_the_same_site(
    origin: str | None, host: str, wanted: bool
) -> None:
    headers = {} if origin is None else {"origin": [origin]}
    assert same_site(headers, "https", host, {"https://lab.example.org"}) is wanted


def test_a_page_in_clear_text_is_of_an_edge_in_clear_text() -> None:
    assert same_site({"origin": ["http://hub"]}, "http", "hub:80", ())
    assert not same_site({"origin": ["https://hub"]}, "http", "hub", ())
    assert not same_site({"origin": ["http://hub", "http://hub"]}, "http", "hub", ())


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"prefix": "services"}, "c.Proxy.prefix: must look like /services/daskgateway"),
        ({"prefix": "/a b"}, "c.Proxy.prefix"),
        (
            {"trusted_proxies": ["10.0.0.1/8"]},
            "c.Proxy.trusted_proxies: '10.0.0.1/8' is no network: write 10.0.0.0/8",
        ),
        (
            {"allowed_origins": ["hub.example.org"]},
            "c.Proxy.allowed_origins: must look like https://host",
        ),
    ],
)
def test_a_setting_that_cannot_be_used_is_told(setting: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Front(Proxy(**setting))
    assert words in str(caught.value)
    assert Front(Proxy(prefix="/services/daskgateway/")).prefix == "/services/daskgateway"
