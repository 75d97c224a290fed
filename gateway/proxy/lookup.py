"""From a route's target to the addresses that may be connected to: a name is looked up, and each of its addresses is judged anew.

Every way to a cluster goes through here, or has an address already: `Targets.permit` lets names pass, since it cannot know them.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from aiohttp.abc import AbstractResolver, ResolveResult

from gateway.proxy.networks import Target, Targets
from gateway.proxy.vitality import probe

MOST_ADDRESSES = 4  # of a name that are tried


async def look_up(target: Target, targets: Targets) -> list[Target]:
    """Return the addresses of a target that are permitted, most wanted first; OSError if a name has none at all."""
    if target.family:
        return [target] if targets.permit(target.host, target.port) else []
    try:
        answers = await asyncio.get_running_loop().getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    except UnicodeError:  # IDNA: empty labels, or such of more than 63 characters
        raise OSError(f"{target.host[:100]!r} cannot be the name of a host") from None
    found = [Target.of(str(answer[4][0]), target.port) for answer in answers[:MOST_ADDRESSES]]
    return [one for one in found if one.family and targets.permit(one.host, one.port)]


async def connect(target: Target, targets: Targets, *, limit: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to the first address that answers; OSError if none does or may. `limit`: bytes that are read ahead."""
    failure: OSError = PermissionError("the scheduler is at no address that may be connected to")
    for one in await look_up(target, targets):
        try:
            reader, writer = await asyncio.open_connection(one.host, one.port, limit=limit)
        except OSError as error:
            failure = error
            continue
        probe(writer.get_extra_info("socket"))
        return reader, writer
    raise failure


class Resolver(AbstractResolver):
    """Looks names up for aiohttp, which does not ask it about what is an address already."""

    def __init__(self, targets: Callable[[], Targets]) -> None:
        self._targets = targets

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC) -> list[ResolveResult]:
        """Return the addresses that may be connected to; OSError if there is none."""
        found = [one for one in await look_up(Target(host, port), self._targets()) if family in (socket.AF_UNSPEC, one.family)]
        if not found:
            raise OSError(f"{host} has no address that may be connected to")
        return [
            ResolveResult(hostname=host, host=one.host, port=port, family=one.family, proto=0, flags=socket.AI_NUMERICHOST) for one in found
        ]

    async def close(self) -> None:
        """Nothing is held."""
