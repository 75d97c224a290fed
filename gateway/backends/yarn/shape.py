"""What an application is made of: sizes of its services, what all its containers have in common,
and the specification that skein submits. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from gateway.backends.contract import Instance, Launch, Resources, Role
from gateway.backends.yarn import script

SERVICES = {Role.SCHEDULER: "dask.scheduler", Role.WORKER: "dask.worker"}
ROLES = {service: role for role, service in SERVICES.items()}
MEBIBYTE = 2**20
FPGA = "fpga"  # of a launch's named resources
UNITS = {"": 1, "k": 10, "m": 20, "g": 30, "t": 40}
_AMOUNT = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([kmgt]?)(i?)b?\s*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Size:
    """Of one container."""

    memory_mb: int
    vcores: int
    gpus: int = 0
    fpgas: int = 0


@dataclass(frozen=True, slots=True)
class Shape:
    """What the containers of an application have in common; others need another application."""

    account: str = ""  # as whom it is submitted; empty: the gateway's own
    queue: str = "default"
    node_label: str = ""
    max_attempts: int = 1
    tags: tuple[str, ...] = ()
    archive: str = ""  # where a Python environment comes from
    setup: tuple[str, ...] = ()


def size_of(resources: Resources, unit_mb: int) -> Size:
    """Return the size of a container: whole cores, and memory in units as YARN gives it."""
    fpgas = math.ceil(resources.named.get(FPGA, 0))
    memory_mb = max(1, math.ceil(resources.memory_bytes / (unit_mb * MEBIBYTE))) * unit_mb
    return Size(memory_mb, max(1, math.ceil(resources.cores)), resources.gpus, fpgas)


def other_resources(launch: Launch) -> Resources:
    """Return what a container of the other role will ask for, as far as the settings of its cluster
    tell; else the same."""
    other = "worker" if launch.instance.role is Role.SCHEDULER else "scheduler"
    memory = _bytes(launch.options.get(f"{other}_memory"))
    cores = launch.options.get(f"{other}_cores")
    if memory is None or not isinstance(cores, int | float):
        return launch.resources
    if other == "scheduler":
        return Resources(float(cores), memory)
    named = launch.options.get("worker_resources")
    fpgas = named.get(FPGA) if isinstance(named, Mapping) else None
    return Resources(
        float(cores),
        memory,
        _count(launch.options.get("worker_gpus")),
        {FPGA: float(fpgas)} if isinstance(fpgas, int | float) else {},
    )


def sizes_of(launch: Launch, unit_mb: int) -> dict[str, Size]:
    """Return the sizes of both services of the application that a launch needs."""
    role = launch.instance.role
    other = Role.WORKER if role is Role.SCHEDULER else Role.SCHEDULER
    return {
        SERVICES[role]: size_of(launch.resources, unit_mb),
        SERVICES[other]: size_of(other_resources(launch), unit_mb),
    }


def _bytes(value: object) -> int | None:
    """Return an amount of memory, None if it is none."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    found = _AMOUNT.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        return None
    unit = found[2].lower()
    power = UNITS[unit]
    factor = (2**power if found[3] else 10 ** (power // 10 * 3)) if unit else 1
    return int(float(found[1]) * factor)


def _count(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0


def instance_of(uid: str, service: str, name: str) -> Instance | None:
    """Return the instance that a container is, by its service and the name it was given."""
    role = ROLES.get(service)
    if role is Role.SCHEDULER:
        return Instance(uid, role, "scheduler")
    return Instance(uid, role, name) if role is not None and name else None


@dataclass(frozen=True, slots=True)
class Submission:
    """What an application is submitted with, beside its shape."""

    name: str
    tags: Sequence[str]
    sizes: Mapping[str, Size]
    master: Size
    master_env: Mapping[str, str]
    security: Mapping[str, str]
    files: Mapping[str, Mapping[str, str]]  # by name in the container: source and visibility
    env: Mapping[str, str]
    file_systems: Sequence[str] = ()
    view_users: Sequence[str] = ()
    modify_users: Sequence[str] = ()
    scheduler_env: Mapping[str, str] | None = None  # of the scheduler that it starts with


def specification(shape: Shape, given: Submission) -> dict[str, Any]:
    """Return what the host makes skein's specification of."""
    text = script.container_script(shape.setup)
    archive = (
        {"environment": {"source": shape.archive, "visibility": "PUBLIC"}}
        if "://" in shape.archive
        else {"environment": {"source": shape.archive, "visibility": "APPLICATION"}}
        if shape.archive
        else {}
    )
    services = {}
    for service, size in given.sizes.items():
        first = given.scheduler_env if ROLES[service] is Role.SCHEDULER else None
        services[service] = {
            "resources": asdict(size),
            "script": text,
            "instances": 0 if first is None else 1,
            "env": {**given.env, **(first or {})},
            "files": {**archive, **given.files},
            "node_label": shape.node_label,
        }
    return {
        "name": given.name,
        "queue": shape.queue,
        "user": shape.account,
        "node_label": shape.node_label,
        "tags": [*given.tags, *shape.tags],
        "max_attempts": shape.max_attempts,
        "file_systems": list(given.file_systems),
        "view_users": list(given.view_users),
        "modify_users": list(given.modify_users),
        "security": dict(given.security),
        "services": services,
        "master": {
            "resources": asdict(given.master),
            "script": script.MASTER,
            "env": dict(given.master_env),
        },
    }
