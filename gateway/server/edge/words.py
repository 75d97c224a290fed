"""What the edge that the server starts is told: the administrator's settings for it, and what
follows from the server's own."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from urllib.parse import urlsplit

from gateway.server.boot import mutual_tls
from gateway.server.boot.endpoints import reached
from gateway.server.boot.reach import scheduler_networks
from gateway.server.boot.settings import Settings

logger = logging.getLogger(__name__)

SERVERS = ("user",)  # settings of the edge that only its server acts upon


def configured_words(found: Settings) -> list[str]:
    """Return the administrator's settings for the edge as words. It is not given the file they
    stand in, which holds more than that."""
    names = sorted(name for name in found.config.get("Proxy", {}) if name not in SERVERS)
    return [word(name, getattr(found.proxy, name)) for name in names]


def own_words(found: Settings, port: int, mutual_port: int = 0) -> list[str]:
    """Return what follows from the server's settings. `port`: of its listener, and `mutual_port`:
    of that for client certificates, if there is one. No cluster leads to either."""
    ports = [one for one in (port, mutual_port) if one]
    words = [word("own_ports", [*found.proxy.own_ports, *ports])]
    certified = mutual_tls.configured(found.authenticator)
    if certified is not None and mutual_port:
        words.append(word("mtls_name", certified.server_name))
        words.append(word("mtls_address", reached(certified.address, mutual_port)))
    if "log_level" not in found.config.get("Proxy", {}):
        words.append(word("log_level", found.proxy.log_level))
    if "scheduler_networks" not in found.config.get("Proxy", {}):
        networks = scheduler_networks(found)
        words.append(word("scheduler_networks", networks))
        if networks == found.proxy.scheduler_networks:
            logger.warning(
                "c.Proxy.scheduler_networks is not set: the edge connects to any private address"
                " that a scheduler names"
            )
    return words + outside_words(
        found.server.public_url, found.proxy.prefix, found.proxy.allowed_origins
    )


def outside_words(public_url: str, prefix: str, origins: Sequence[str]) -> list[str]:
    """Return the settings that tell the edge how users know it; what is set for the edge itself
    goes before."""
    parts = urlsplit(public_url)
    origin, path = f"{parts.scheme}://{parts.netloc}", parts.path.rstrip("/")
    words = [word("prefix", path)] if path and not prefix else []
    return (
        [*words, word("allowed_origins", [*origins, origin])]
        if parts.netloc and origin not in origins
        else words
    )


def word(name: str, value: object) -> str:
    """Return a setting as a word of a command line, read back as the very same value."""
    return f"--Proxy.{name}={value!r}"
