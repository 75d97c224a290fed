"""What the administrator has changed under a living cluster, and how the cluster follows: limits
and the longest lifecycles bind those that live, too. Pure."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from gateway.server.core.lifetimes import shortest
from gateway.server.core.model import Cluster, Lifecycle, Limits
from gateway.server.core.quantities import (
    format_bytes,
    format_duration,
    format_gpus,
    format_named,
)
from gateway.server.core.wished import told

_TIMES = ("idle_timeout_s", "max_lifetime_s", "no_client_timeout_s", "no_task_timeout_s")


def followed(cluster: Cluster, limits: Limits, most: Lifecycle, now: int) -> tuple[Cluster, str]:
    """Return a living cluster under the limits and the longest lifecycle of today, and what has
    changed for it, an empty text if nothing has."""
    spec, words = cluster.spec, _changed(cluster.spec.limits, limits)
    held: dict[str, Any] = {}
    for name in _TIMES:
        before, longest = getattr(spec.lifecycle, name), getattr(most, name)
        after = shortest(before or 0, None, longest)
        if after != before and after is not None:
            held[name] = after
            was = format_duration(before) if before is not None else "never"
            words.append(f"{name.removesuffix('_s')} {format_duration(after)}, before {was}")
    if not words or cluster.state.finished or cluster.stop is not None:
        return cluster, ""
    spec = replace(spec, limits=limits, lifecycle=replace(spec.lifecycle, **held))
    return told(replace(cluster, spec=spec), now), "; ".join(words)


def _changed(before: Limits, after: Limits) -> list[str]:
    return [
        f"at most {_amount(field.name, getattr(after, field.name))}, before"
        f" {_amount(field.name, getattr(before, field.name))}"
        for field in fields(Limits)
        if getattr(before, field.name) != getattr(after, field.name)
    ]


def _amount(name: str, amount: Any) -> str:
    if name == "memory_bytes":
        return "any memory" if amount is None else f"{format_bytes(int(amount))} of memory"
    if name == "gpus":
        return "any GPUs" if amount is None else format_gpus(amount)
    if name == "named":
        return format_named(amount) or "any other resources"
    return f"any {name}" if amount is None else f"{amount:g} {name}"
