"""Offers, wishes, and what is told of those that are refused."""

from __future__ import annotations

import math
from collections.abc import Mapping

from gateway.backends.contract import Resources
from gateway.server.core.admission import (
    GroupWish,
    Offer,
    Wish,
    admit,
    regroup,
)
from gateway.server.core.errors import FieldInvalid, Violation
from gateway.server.core.model import Spec
from gateway.server.core.options import Bool, Field, Float, Integer, Mapped, Text

GIB = 2**30
SETTINGS: Mapping[str, object] = {
    "worker_cores": 1.0,
    "worker_memory": "2 GiB",
    "worker_threads": 0,
    "scheduler_cores": 0.5,
    "scheduler_memory": GIB,
    "image": "",
    "environment": {"OMP_NUM_THREADS": "1", "TZ": "UTC"},
}
FIELDS: tuple[Field, ...] = (
    Float("worker_cores", 1.0, per_group=True),
    Text("worker_memory", "2 GiB", per_group=True),
    Integer("worker_threads", 0, per_group=True),
    Mapped("environment", per_group=True),
    Text("profile", "plain", per_group=True),
    Bool("fast"),
)
OFFER = Offer(
    ("local", "slurm"),
    FIELDS,
    SETTINGS,
    backend_settings={"slurm": {"queue": "normal", "image": "dask"}},
)


def refused(wish: Wish, offer: Offer = OFFER) -> list[Violation]:
    """Return what is wrong with a wish."""
    try:
        admit(wish, offer)
    except FieldInvalid as error:
        return list(error.violations)
    return []


def of_group(wish: GroupWish, offer: Offer = OFFER) -> list[Violation]:
    """Return what is wrong with a wish for one group."""
    return refused(Wish(groups={"gpu": wish}), offer)


def regroup_refused(
    spec: Spec, wishes: Mapping[str, GroupWish], offer: Offer = OFFER, *, whole: bool = False
) -> list[Violation]:
    """Return what is wrong with an update of groups."""
    try:
        regroup(spec, wishes, offer, whole=whole)
    except FieldInvalid as error:
        return list(error.violations)
    return []


def whole(resources: Resources) -> Resources:
    """Return what a machine room gives that has whole cores and whole MiB alone."""
    mebibytes = -(-resources.memory_bytes // 2**20)
    return Resources(float(math.ceil(resources.cores)), mebibytes * 2**20)
