"""Where connections may lead, and what is this machine's own."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import resource
import socket

import pytest

from gateway import networks
from gateway.networks import DEFAULT_NETWORKS, Destination, Destinations, parse_networks


@pytest.mark.parametrize(
    ("host", "port", "permitted"),
    [
        ("127.0.0.1", 4321, True),
        ("10.20.30.40", 8786, True),
        ("::1", 4321, True),
        ("fd12:3456::1", 4321, True),
        ("a-node-by-name", 4321, True),
        ("127.0.0.1", 8000, False),  # the gateway's own
        ("::ffff:127.0.0.1", 8000, False),
        ("10.20.30.40", 8000, True),  # another machine's
        ("169.254.169.254", 80, False),
        ("::ffff:169.254.169.254", 80, False),
        ("fe80::1", 80, False),
        ("fd00:ec2::254", 80, False),
        ("0.0.0.0", 80, False),
        ("224.0.0.1", 80, False),
        ("93.184.216.34", 8786, False),
        # As inet_aton(3) reads them.
        ("127.1", 4321, True),
        ("127.1", 8000, False),
        ("2130706433", 8000, False),
        ("0x7f.1", 8000, False),
        ("0X7F000001", 8000, False),
        ("0177.0.0.1", 8000, False),
        ("0", 80, False),
        ("2852039166", 80, False),  # 169.254.169.254
        ("134744072", 80, False),  # 8.8.8.8
        ("cafe", 80, True),  # names
        ("dead.beef", 80, True),
        ("10-0-0-1.example", 80, True),
        # Neither an address nor a name, but taken for an address by some.
        ("127.0.0.1.", 80, False),
        ("256.1.1.1", 80, False),
        ("\uff11\uff12\uff17.0.0.1", 80, False),
        ("1:2:3", 80, False),
    ],
)
def test_where_routes_may_lead(host: str, port: int, permitted: bool) -> None:
    targets = Destinations(
        parse_networks(DEFAULT_NETWORKS), {8000}, here=lambda address: address.is_loopback
    )
    assert targets.permit(Destination.of(host, port, local=True)) is permitted


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.8.9.10",
        "::1",
        "::ffff:127.0.0.1",
        "2130706433",
        "127.1",
        "10.20.30.40",
        "fd12:3456::1",
    ],
)
def test_this_machines_own_addresses_are_for_clusters_that_run_on_it_and_for_no_others(
    host: str,
) -> None:
    own = {ipaddress.ip_address("10.20.30.40"), ipaddress.ip_address("fd12:3456::1")}

    def here(address: networks.Address) -> bool:
        return address.is_loopback or address in own

    everywhere = parse_networks(["0.0.0.0/0", "::/0"])
    beside, afar = (
        Destinations(everywhere, (), here),
        Destinations(everywhere, (), here, beside=False),
    )
    assert beside.permit(Destination.of(host, 4321, local=True))
    assert not beside.permit(Destination.of(host, 4321))
    # what runs on the server's machine is not on this one
    assert not afar.permit(Destination.of(host, 4321, local=True))
    said = beside.objection(host, 4321, local=False)
    assert "the edge's own machine" in said
    assert "SlurmBackend.local = True" in said
    for local in (True, False):
        assert beside.permit(Destination.of("10.20.30.41", 4321, local=local))


def test_whether_an_address_is_here_is_not_asked_for_every_route(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(networks, "MOST_ASKED", 3)
    asked: list[str] = []
    targets = Destinations(
        parse_networks(["10.0.0.0/8"]), (), lambda address: bool(asked.append(str(address)))
    )
    for number in [1, 1, 1, 2, 2, 3, 4, 5, 1]:
        assert targets.permit(Destination.of(f"10.0.0.{number}", 4321))
    assert asked == [f"10.0.0.{number}" for number in (1, 2, 3, 4, 5, 1)]
    assert len(targets._asked) == 3
    monkeypatch.setattr(networks, "ASKED_S", 0.0)
    targets.permit(Destination.of("10.0.0.1", 4321))
    assert len(asked) == 7


def test_link_local_addresses_are_never_permitted_whatever_is_configured() -> None:
    everywhere = Destinations(parse_networks(["0.0.0.0/0", "::/0"]), set())
    assert everywhere.permit(Destination.of("93.184.216.34", 1, local=True))
    assert not everywhere.permit(Destination.of("169.254.1.1", 1, local=True))
    with pytest.raises(ValueError, match=r"10\.0\.0\.1/8"):
        parse_networks(["10.0.0.1/8"])


@pytest.mark.parametrize(
    ("code", "here"), [(errno.EAFNOSUPPORT, False), (errno.EMFILE, True), (errno.ENFILE, True)]
)
def test_an_address_is_here_if_that_cannot_be_told_but_not_if_its_family_is_unknown(
    monkeypatch: pytest.MonkeyPatch, code: int, here: bool
) -> None:
    def refused(*_: object) -> socket.socket:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(socket, "socket", refused)
    assert networks.is_here(ipaddress.ip_address("fd00::1")) is here


def test_what_is_here_is_told_also_when_there_are_no_descriptors_left() -> None:
    """All routes to other machines would be dropped, and their clusters cut off, because the edge
    is busy."""
    assert not networks.is_here(ipaddress.ip_address("192.0.2.1"))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    hoard = [os.open(os.devnull, os.O_RDONLY)]
    resource.setrlimit(
        resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 8, hard)
    )
    try:
        with contextlib.suppress(OSError):
            while True:
                hoard.append(os.dup(hoard[0]))
        found = [
            networks.is_here(ipaddress.ip_address(text))
            for text in ("198.51.100.1", "198.51.100.2", "198.51.100.1")
        ]
    finally:
        for descriptor in hoard:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert found == [False] * 3


def test_what_is_here_is_told_from_what_is_not() -> None:
    assert networks.is_here(ipaddress.ip_address("127.8.9.10"))
    assert not networks.is_here(ipaddress.ip_address("192.0.2.1"))
