"""How many workers a cluster may have of what it wishes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway.server.core.model import DEFAULT_GROUP, Adaptive, GroupStatus, Limits, Size, Spec
from gateway.server.core.quantities import MAX_COUNT, format_bytes

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
    limits, resources = spec.limits, spec.groups[name].resources
    cores = spec.scheduler.cores + sum(
        count * spec.groups[group].resources.cores for group, count in taken.items()
    )
    memory = spec.scheduler.memory_bytes + sum(
        count * spec.groups[group].resources.memory_bytes for group, count in taken.items()
    )
    rooms = [(UNBOUNDED, "")]
    if limits.workers is not None:
        rooms.append((limits.workers - sum(taken.values()), f"{limits.workers} workers"))
    if limits.cores is not None:
        fit = (limits.cores - cores + 1e-9) / max(resources.cores, 1e-9)
        rooms.append((int(max(-1.0, min(fit, UNBOUNDED))), f"{limits.cores:g} cores"))
    if limits.memory_bytes is not None:
        free = limits.memory_bytes - memory
        rooms.append(
            (
                int(free // max(resources.memory_bytes, 1)),
                f"{format_bytes(limits.memory_bytes)} of memory",
            )
        )
    room, limit = min(rooms, key=lambda pair: pair[0])
    return max(0, room), limit


def scheduler_fits(spec: Spec, limits: Limits) -> bool:
    """Whether the scheduler alone is within the limits."""
    cores = limits.cores is None or spec.scheduler.cores <= limits.cores
    memory = limits.memory_bytes is None or spec.scheduler.memory_bytes <= limits.memory_bytes
    return cores and memory
