"""What is kept of a cluster that has ended: what people look back for, and nothing that could only
start it again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from gateway.server.core.model import Cluster, Spec, WorkerGroup
from gateway.server.core.options import weight_bytes

MAX_KEPT_BYTES = 1024  # of the value of one option
SHOWN_CHARACTERS = 200  # of a text that is longer
MARK = "…"


def kept(cluster: Cluster) -> Cluster:
    """Return an ended cluster without settings, addresses, handles, groups that were removed, and
    the bulk of long options."""
    spec = cluster.spec
    groups = {
        name: WorkerGroup(group.size, _cut(group.options), {}, group.resources)
        for name, group in spec.groups.items()
    }
    return replace(
        cluster,
        spec=Spec(
            spec.backend,
            _cut(spec.options),
            {},
            groups,
            spec.lifecycle,
            spec.limits,
            spec.scheduler,
        ),
        scheduler=replace(cluster.scheduler, handle="", address="", dashboard_address=""),
        groups={name: status for name, status in cluster.groups.items() if name in groups},
    )


def _cut(options: Mapping[str, object]) -> Mapping[str, object]:
    """Return options whose long values are cut; each says so."""
    return {
        name: value if weight_bytes(value) <= MAX_KEPT_BYTES else _short(value)
        for name, value in options.items()
    }


def _short(value: object) -> object:
    if isinstance(value, str):
        return (
            f"{value[:SHOWN_CHARACTERS]}{MARK} ({len(value)} characters; the rest was not kept"
            f" after the end)"
        )
    assert isinstance(value, Mapping)
    begun: dict[object, object] = {}
    for key, item in value.items():
        if weight_bytes(begun) + weight_bytes({key: item}) > MAX_KEPT_BYTES:
            break
        begun[key] = item
    return begun | {MARK: f"{len(value) - len(begun)} of {len(value)} were not kept after the end"}
