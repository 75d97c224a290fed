"""Addresses are read and written in one way, and one answer tells what is loopback."""

from __future__ import annotations

import pathlib
import re

import pytest

import gateway
from gateway.networks import is_loopback, parse_address
from gateway.wire import host_port, split_host_port

HOUSE = pathlib.Path(gateway.__file__).parent


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("10.0.0.1:8786", ("10.0.0.1", 8786)),
        ("node7:65535", ("node7", 65535)),
        ("[::1]:8786", ("::1", 8786)),
        ("::1:8786", ("::1", 8786)),  # as some programs write it
        (":8000", ("", 8000)),  # every address
        ("127.0.0.1:0", ("127.0.0.1", 0)),  # any free port
        ("[]:8000", ("", 8000)),
        ("8000", None),
        ("", None),
        ("host", None),
        ("host:", None),
        ("host:65536", None),
        ("host:-1", None),
        ("host:+1", None),
        ("host:²", None),
        ("host:" + "9" * 5000, None),
        ("[::1:8786", None),
        ("::1]:8786", None),
        ("[[::1]]:8786", None),
        ("[::1]", None),
        ("[::1]8786", None),
    ],
)
def test_host_and_port_are_read_in_one_way(text: str, place: tuple[str, int] | None) -> None:
    assert split_host_port(text) == place
    connectable = place is not None and all(place)
    assert parse_address(text) == (place if connectable else None)
    if place is not None:
        assert split_host_port(host_port(*place)) == place


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.9.8.7", True),
        ("127.1", True),
        ("2130706433", True),
        ("0x7f.1", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("localhost", True),
        ("LocalHost.", True),
        ("0.0.0.0", False),
        ("::", False),
        ("", False),
        ("10.0.0.1", False),
        ("::ffff:10.0.0.1", False),
        ("notlocalhost", False),
        ("localhost..", False),
        ("x.localhost", False),  # whatever a resolver says
        ("localhost.example.org", False),
    ],
)
def test_one_answer_tells_what_is_loopback(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


def test_nobody_reads_or_writes_addresses_by_hand() -> None:
    """`[host]:port` has one reader and one writer, and loopback has one judge."""
    by_hand = re.compile(
        r'host\w*\.strip\("\[\]"\)|f"\[\{[a-z_.]*host|== "localhost"|inet_aton\('
        r'|partition\(":"\).*port'
    )
    found = {
        str(path.relative_to(HOUSE))
        for path in HOUSE.rglob("*.py")
        if by_hand.search(path.read_text())
    }
    assert found == {"wire.py", "networks.py"}
