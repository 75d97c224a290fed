"""How many workers a cluster may have of what it wishes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway.server.core.model import DEFAULT_GROUP, Adaptive, GroupStatus, Limits, Size, Spec
from gateway.server.core.quantities import (
    MAX_COUNT,
    format_bytes,
    format_gpus,
    format_named,
)

UNBOUNDED = MAX_COUNT


@dataclass(frozen=True, slots=True)
class Grant:
    """What is granted of a wish: workers now, and how far an adaptive group may go."""

    desired: Mapping[str, int]
    maximum: Mapping[str, int]
    clamped: str = ""  # says which group got less than wished and by which limit; empty if none did
    # of each group: the most workers that fit beside the groups before it; UNBOUNDED without limit
    room: Mapping[str, int] = field(default_factory=dict, compare=False)


def wished(size: Size, status: GroupStatus) -> int:
    """Return the workers a group wishes now."""
    if isinstance(size, Adaptive):
        return max(size.minimum, min(status.target, size.maximum))
    return size.workers


def grant(spec: Spec, groups: Mapping[str, GroupStatus]) -> Grant:
    """Return what the limits leave of the wish: groups in order of name, `default` first."""
    desired: dict[str, int] = {}
    maximum: dict[str, int] = {}
    rooms: dict[str, int] = {}
    said: list[str] = []
    for name in sorted(spec.groups, key=lambda group: (group != DEFAULT_GROUP, group)):
        group = spec.groups[name]
        room, limit = _room(spec, desired, name)
        rooms[name] = room
        wish = wished(group.size, groups.get(name, GroupStatus()))
        most = group.size.maximum if isinstance(group.size, Adaptive) else wish
        desired[name], maximum[name] = min(wish, room), min(most, room)
        if most > room:
            said.append(
                f"group {name}: {room} of {most} workers, by the limit of {limit} for one cluster"
            )
    return Grant(desired, maximum, "; ".join(said), rooms)


def _room(spec: Spec, taken: Mapping[str, int], name: str) -> tuple[int, str]:
    """Return how many workers of a group fit beside those taken, and the limit that says so."""
    limits, each = spec.limits, spec.groups[name].resources
    there = [(1, spec.scheduler)] + [
        (n, spec.groups[group].resources) for group, n in taken.items()
    ]
    rooms = [(UNBOUNDED, "")]
    if limits.workers is not None:
        rooms.append((limits.workers - sum(taken.values()), f"{limits.workers} workers"))
    if limits.cores is not None:
        free = limits.cores - sum(count * one.cores for count, one in there)
        rooms.append((_fitting(free, each.cores), f"{limits.cores:g} cores"))
    if limits.memory_bytes is not None:
        free_bytes = limits.memory_bytes - sum(count * one.memory_bytes for count, one in there)
        words = f"{format_bytes(limits.memory_bytes)} of memory"
        rooms.append((int(free_bytes // max(each.memory_bytes, 1)), words))
    if limits.gpus is not None and each.gpus:
        free_gpus = limits.gpus - sum(count * one.gpus for count, one in there)
        rooms.append((free_gpus // each.gpus, format_gpus(limits.gpus)))
    for what, own in sorted(each.named.items()) if limits.named else ():
        most = limits.named.get(what, 0.0)
        left = most - sum(count * one.named.get(what, 0.0) for count, one in there)
        rooms.append((_fitting(left, own), format_named({what: most})))
    room, limit = min(rooms, key=lambda pair: pair[0])
    return max(0, room), limit


def _fitting(free: float, each: float) -> int:
    """Return how many of an amount each fit in what is free, as people count it, not floats."""
    fit = (free + 1e-9) / max(each, 1e-9)
    return int(max(-1.0, min(fit, UNBOUNDED)))


def scheduler_beyond(spec: Spec, limits: Limits) -> str:
    """Return what the scheduler alone takes beyond the limits, in words; empty if it is within."""
    own, beyond = spec.scheduler, []
    if limits.cores is not None and own.cores > limits.cores:
        beyond.append((f"{own.cores:g} cores", f"{limits.cores:g}"))
    if limits.memory_bytes is not None and own.memory_bytes > limits.memory_bytes:
        most = format_bytes(limits.memory_bytes)
        beyond.append((f"{format_bytes(own.memory_bytes)} of memory", most))
    if limits.gpus is not None and own.gpus > limits.gpus:
        beyond.append((format_gpus(own.gpus), str(limits.gpus)))
    for what, amount in sorted(own.named.items()) if limits.named else ():
        if amount > limits.named.get(what, 0.0):
            beyond.append((format_named({what: amount}), f"{limits.named.get(what, 0.0):g}"))
    return "; ".join(
        f"the scheduler alone takes {taken}, and the limit of one cluster is {most}"
        for taken, most in beyond
    )
