"""What processes are given beside cores and memory, in the machine room's own names: GPUs and
whatever a site names. Pure; knows no machine room."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from gateway.backends.contract import Resources

NOTHING = 1e-9  # what is no more than this above a whole number is that number


@dataclass(frozen=True, slots=True)
class Naming:
    """How a machine room names what it gives."""

    form: re.Pattern[str]  # of a name
    like: str  # such a name, for people
    #: names that are asked for in another way, in small letters, such as cores: by them a limit
    #: would be passed by
    taken: Collection[str] = ()


def whole(resources: Resources) -> Resources:
    """Return whole amounts of all that has a name: machine rooms give no parts of one."""
    named = {name: float(_up(amount)) for name, amount in resources.named.items()}
    return replace(resources, named=named)


def counts(resources: Resources, gpu_name: str) -> dict[str, int]:
    """Return how much of each is asked for, by the machine room's name: GPUs first, then the others
    in order."""
    gpus = {gpu_name: resources.gpus} if resources.gpus else {}
    return gpus | {name: _up(amount) for name, amount in sorted(resources.named.items())}


def objection(resources: Resources, gpu_name: str, naming: Naming) -> str:
    """Return which name is none here, or is asked for in another way; an empty text if all can be
    had. `gpu_name`: what GPUs are called, with a type behind a colon where there is one."""
    of_gpus = _kind(gpu_name)
    for name in sorted(resources.named):
        if not naming.form.fullmatch(name):
            return f"{name!r} is no resource's name here; one looks like {naming.like}"
        if _kind(name) == of_gpus:
            return f"{name!r}: GPUs are asked for by worker_gpus or scheduler_gpus"
        if _kind(name) in naming.taken:
            return f"{name!r} is asked for by another option"
    return ""


def gpu_name(settings: Mapping[str, object], otherwise: str) -> str:
    """Return what GPUs of a cluster with these settings are called."""
    return str(settings.get("gpu_name") or otherwise)


def _kind(name: str) -> str:
    return name.partition(":")[0].lower()


def _up(amount: float) -> int:
    return math.ceil(amount - NOTHING)
