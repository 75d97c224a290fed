"""Where a connection may be made to. A scheduler's address is told by code that users control, so
it is never simply believed.

The edge goes by it, and the server says by it why nobody reaches a scheduler. Pure but for one
question, whether an address is this machine's own. Nobody's code is believed that says so but that
of clusters which run here.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import math
import os
import re
import socket
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from gateway.wire import split_host_port

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# Loopback (the local backend), and what is private: RFC 1918, RFC 6598 (shared), RFC 4193 (unique
# local).
LOOPBACK_NETWORKS = ("127.0.0.0/8", "::1/128")
DEFAULT_NETWORKS = (
    *LOOPBACK_NETWORKS,
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "100.64.0.0/10",
    "fc00::/7",
)
# Whatever is configured: link-local addresses, where clouds answer with credentials, "this host",
# multicast, reserved ones.
NEVER = tuple(
    ipaddress.ip_network(text)
    for text in (
        "169.254.0.0/16",
        "fe80::/10",
        "fd00:ec2::254/128",
        "100.100.100.200/32",
        "0.0.0.0/8",
        "::/128",
        "224.0.0.0/3",
        "ff00::/8",
    )
)

MOST_ASKED = 4096  # addresses of which it is known whether they are this machine's own
ASKED_S = 10.0  # and for how long

_NUMBERS = re.compile(r"[0-9a-fA-FxX.]+")
_NOT_HERE = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)  # the latter: a kernel without IPv6


def parse_networks(texts: Sequence[str]) -> tuple[Network, ...]:
    """Return networks; ValueError names the first that is none."""
    found = []
    for text in texts:
        try:
            found.append(ipaddress.ip_network(text))
        except ValueError as error:
            raise ValueError(f"{text!r} is no network such as 10.0.0.0/8: {error}") from None
    return tuple(found)


def literal(host: str) -> Address | None:
    """Return the address that a host is written as, None for a name. An IPv4 address inside an IPv6
    one is taken out.

    What inet_aton(3) takes is no name: 127.1, 0x7f.1 and 2130706433 are 127.0.0.1 to all who
    connect.
    """
    address: Address
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        if not _NUMBERS.fullmatch(host):
            return None
        try:
            return ipaddress.IPv4Address(socket.inet_aton(host))
        except OSError:
            return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def inward(host: str) -> bool:
    """Whether a host names the machine that connects to it, however it is written: 127.1 and
    ::ffff:127.0.0.1 do too. Names below localhost count, which some resolvers answer so."""
    address = literal(host)
    if address is None:
        return is_loopback(host) or host.lower().removesuffix(".").endswith(".localhost")
    return address.is_loopback or address.is_unspecified or address.is_link_local


def parse_address(text: str) -> tuple[str, int] | None:
    """Return host and port of an address that can be connected to, `host:port` or `[host]:port`;
    None if it is neither."""
    place = split_host_port(text)
    return place if place is not None and all(place) else None


def canonical(host: str) -> str:
    """Return a host as it is judged, so that nobody reads it otherwise."""
    address = literal(host)
    return host if address is None else str(address)


def group_of(address: str) -> str:
    """Return what counts as one address: of IPv6 the network of 64 bits that one host commonly has
    to itself."""
    if ":" not in address:
        return address
    try:
        parsed = ipaddress.IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.IPv6Network((parsed, 64), strict=False))


@dataclass(frozen=True, slots=True)
class Destination:
    """Where to connect to."""

    host: str
    port: int
    family: int = 0  # socket.AF_INET or AF_INET6 for an address, 0 for a name
    near: bool = False  # on this machine, where a connection is made before `connect` returns
    local: bool = False  # whether it may be on this machine: its cluster's backend runs there

    @classmethod
    def of(cls, host: str, port: int, *, local: bool = False) -> Destination:
        """Return the target of a host and port."""
        address = literal(host)
        if address is None:
            return cls(host, port, local=local)
        return cls(
            str(address),
            port,
            socket.AF_INET if address.version == 4 else socket.AF_INET6,
            address.is_loopback,
            local,
        )


def is_loopback(host: str) -> bool:
    """Whether a host is loopback, however it is written (127.1 and ::ffff:127.0.0.1 are too); of
    names only localhost is, since others are whatever a resolver says."""
    address = literal(host)
    if address is None:
        return host.lower().removesuffix(".") == "localhost"
    return address.is_loopback


def is_here(address: Address) -> bool:
    """Whether an address belongs to this machine: whether a socket can be bound to it."""
    if address.is_loopback:
        return True
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with _trial(family) as trial:
            trial.bind((str(address), 0))
    except OSError as error:
        return error.errno not in _NOT_HERE  # what cannot be told is refused
    finally:
        _keep_spare()
    return True


# a descriptor that is given up for the question above when there are no others: routes must not be
# lost by that
_spare: list[int] = []


def _trial(family: socket.AddressFamily) -> socket.socket:
    try:
        return socket.socket(family, socket.SOCK_DGRAM)
    except OSError as error:
        if error.errno != errno.EMFILE or not _spare:
            raise
        os.close(_spare.pop())
        return socket.socket(family, socket.SOCK_DGRAM)


def _keep_spare() -> None:
    if not _spare:
        with contextlib.suppress(OSError):
            _spare.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))


class Destinations:
    """Decides on addresses."""

    def __init__(
        self,
        networks: Sequence[Network],
        own_ports: Collection[int],
        here: Callable[[Address], bool] = is_here,
        *,
        beside: bool = True,
    ) -> None:
        """`beside`: this is the server's machine too, on which clusters of local backends run."""
        self._networks, self._own_ports, self._ask, self._beside = (
            tuple(networks),
            frozenset(own_ports),
            here,
            beside,
        )
        self._asked: dict[Address, tuple[float, bool]] = {}  # oldest first

    def permit(self, target: Destination) -> bool:
        """Whether a connection may be made. Names are permitted here, and their addresses have to
        be asked for once known."""
        return not self.objection(target.host, target.port, local=target.local)

    def objection(self, host: str, port: int, *, local: bool) -> str:
        """Return what is said against a connection, to go on from its address; empty if it may be
        made, or if that is for a look-up.

        `local`: the cluster's backend runs on the server's machine. Only then is what is this
        machine's own permitted.
        """
        address = literal(host)
        if address is not None:
            return self._objection(address, port, local)
        # aiohttp takes these for addresses, and looks nothing up
        if ":" in host or host.replace(".", "").isdigit():
            return "which is neither an address nor a name"
        return ""

    def _objection(self, address: Address, port: int, local: bool) -> str:
        if any(_within(address, network) for network in NEVER):
            return "which is never connected to, whatever c.Proxy.scheduler_networks says"
        if not any(_within(address, network) for network in self._networks):
            return "which c.Proxy.scheduler_networks does not permit"
        if not (local and self._beside) and self._here(address):
            return (
                "which is the edge's own machine, where this backend is not expected to run any"
                " (if it does, set its `local`, as in c.SlurmBackend.local = True)"
            )
        if port in self._own_ports and self._here(address):
            return "which is a port of the gateway itself or one of c.Proxy.own_ports"
        return ""

    def _here(self, address: Address) -> bool:
        """Whether an address is this machine's own; asked for seldom, as there may be thousands of
        routes to a few addresses."""
        asked_at, here = self._asked.get(address, (-math.inf, False))
        if time.monotonic() - asked_at >= ASKED_S:
            here = self._ask(address)
            self._asked.pop(address, None)
            while len(self._asked) >= MOST_ASKED:
                self._asked.pop(next(iter(self._asked)), None)
            self._asked[address] = (time.monotonic(), here)
        return here


class Everywhere(Destinations):
    """Permits whatever an administrator has named."""

    def __init__(self) -> None:
        super().__init__((), ())

    def objection(self, host: str, port: int, *, local: bool) -> str:
        """Return that nothing is said against it."""
        return ""


def _within(address: Address, network: Network) -> bool:
    return address.version == network.version and address in network
