"""Whether users will reach a scheduler where it says that it is: what the edge will say, as far as the server's own settings tell."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from gateway.configfile import ConfigurationError
from gateway.networks import Targets, parse_address, parse_networks
from gateway.server.core.plan import anywhere
from gateway.server.settings import Settings


def judge(found: Settings, listeners: Iterable[str]) -> Callable[[str], str]:
    """Return what says why nobody reaches an address such as tls://10.0.0.7:8786, an empty text if nothing is known against it.

    `listeners` are host:port of the gateway's own. Where the edge runs by itself, maybe elsewhere, the server knows its networks only if
    they stand in the server's file too, and knows none of its ports. What a name leads to is left to the edge, which looks it up.
    """
    beside = found.server.start_proxy
    if not beside and "scheduler_networks" not in found.config.get("Proxy", {}):
        return anywhere
    try:
        networks = parse_networks(found.proxy.scheduler_networks)
    except ValueError as error:
        raise ConfigurationError(f"c.Proxy.scheduler_networks: {error}") from None
    own = {place[1] for text in listeners if (place := parse_address(text)) is not None}
    targets = Targets(networks, own.union(found.proxy.own_ports) if beside else ())

    def objection(address: str) -> str:
        place = parse_address(address.rpartition("://")[2])
        why = targets.objection(*place) if place is not None else ""
        return f"the scheduler says that it is at {address}, {why}" if why else ""

    return objection
