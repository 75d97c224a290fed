"""What the edge takes for the caller's address, scheme and host, when other proxies may stand in
front. Pure.

What such proxies say is believed only of configured networks, and only in the headers that they are
known to write: a header that a proxy does not write is passed on as the caller sent it. Entries are
read from the right, which is the end that the nearest proxy wrote (X-Forwarded-*: appended, or
overwritten, by nginx, HAProxy and JupyterHub's proxy; Forwarded: RFC 7239).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

MAX_HOPS = 16  # proxies in a row; more are not followed
SCHEMES = ("http", "https")
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Seen:
    """A caller."""

    address: str
    scheme: str
    host: str  # host or host:port, as the caller's browser shows it


@dataclass(frozen=True, slots=True)
class _Hop:
    """What one proxy says of who connected to it; empty where it says nothing."""

    address: str = ""
    scheme: str = ""
    host: str = ""


def networks(texts: Sequence[str]) -> tuple[Network, ...]:
    """Return networks such as 10.0.0.0/8, or single addresses; ValueError if one is neither."""
    return tuple(ipaddress.ip_network(text) for text in texts)


def trusts(trusted: Sequence[Network], address: str) -> bool:
    """Whether an address is that of a configured proxy."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    return any(found in network for network in trusted)


def seen(
    peer: Seen, headers: Mapping[str, Sequence[str]], trusted: Sequence[Network], kind: str
) -> Seen:
    """Return who calls; `peer` is who connected to the edge, `headers` has lower-case names with
    all values of each.

    `kind` is `x-forwarded` or `forwarded`: what the configured proxies write.
    """
    if not trusts(trusted, peer.address):
        return peer
    hops = _forwarded(headers) if kind == "forwarded" else _x_forwarded(headers)
    found = peer
    for hop in hops[:MAX_HOPS]:
        scheme = hop.scheme if hop.scheme in SCHEMES else found.scheme
        found = Seen(hop.address or found.address, scheme, hop.host or found.host)
        if not trusts(trusted, hop.address):
            break
    return found


def _x_forwarded(headers: Mapping[str, Sequence[str]]) -> list[_Hop]:
    """Return hops, nearest first. Lists of different lengths are aligned at the right; where one is
    too short, its first entry holds."""

    def entries(name: str) -> list[str]:
        joined = ",".join(headers.get(f"x-forwarded-{name}", ()))
        return [entry.strip() for entry in joined.split(",")][::-1] if joined.strip() else []

    addresses, schemes, hosts = entries("for"), entries("proto"), entries("host")

    def at(found: list[str], index: int) -> str:
        return found[min(index, len(found) - 1)] if found else ""

    count = max(len(addresses), 1 if schemes or hosts else 0)
    return [
        _Hop(_address(at(addresses, i)), at(schemes, i).lower(), at(hosts, i)) for i in range(count)
    ]


def _forwarded(headers: Mapping[str, Sequence[str]]) -> list[_Hop]:
    """Return hops, nearest first."""
    hops = []
    for element in reversed(",".join(headers.get("forwarded", ())).split(",")):
        pairs = dict(_pair(pair) for pair in element.split(";") if "=" in pair)
        if pairs:
            hops.append(
                _Hop(
                    _address(pairs.get("for", "")),
                    pairs.get("proto", "").lower(),
                    pairs.get("host", ""),
                )
            )
    return hops


def _pair(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name.strip().lower(), value.strip().strip('"')


def _address(text: str) -> str:
    """Return the address in `192.0.2.1`, `192.0.2.1:80`, `[2001:db8::1]:80` or `2001:db8::1`; empty
    if it is none."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return ""


def same_origin(page: str, scheme: str, host: str, allowed: Collection[str]) -> bool:
    """Whether the origin of a page's address (RFC 6454) is that of the edge, whose scheme and host
    are told, or an allowed one."""
    try:
        parts = urlsplit(page)
        if parts.scheme not in SCHEMES or not parts.netloc:
            return False
        own = parts.scheme == scheme and _plain(parts.netloc, scheme) == _plain(host, scheme)
        return own or f"{parts.scheme}://{parts.netloc}".lower() in allowed
    except ValueError:
        return False


def same_site(
    headers: Mapping[str, Sequence[str]], scheme: str, host: str, allowed: Collection[str]
) -> bool:
    """Whether a request may come from a page of the edge itself, of an allowed origin, or of none,
    which no browser shows.

    `headers` has lower-case names with all values of each. A browser tells the page's origin (RFC
    6454 §7) or at least its address (RFC 9110 §10.1.3), and a newer one how far that is from here
    (W3C Fetch Metadata).
    """
    origins = headers.get("origin", ())
    if origins:
        return len(origins) == 1 and same_origin(origins[0], scheme, host, allowed)
    if any(
        site.strip().lower() not in ("same-origin", "none")
        for site in headers.get("sec-fetch-site", ())
    ):
        return False
    return all(same_origin(page, scheme, host, allowed) for page in headers.get("referer", ()))


def _plain(host: str, scheme: str) -> str:
    """Return a host without the port that its scheme has anyway."""
    return host.lower().removesuffix(":443" if scheme == "https" else ":80")
