"""Whether a cluster of a name is made, found, or either; and how one that was found differs from
what was asked for. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Container, Iterator, Sequence
from enum import Enum

from daskgateway.v1.cluster_service_pb2 import CreateClusterRequest

from gateway.client.model import Cluster, ClusterSpec, show
from gateway.printable import quoted


class CreateMode(Enum):
    """What `GatewayCluster("etl")` does about a cluster that exists, or does not."""

    CREATE_ONLY = "create_only"
    """Make it; ClusterExists if there is one of that name."""
    CONNECT_ONLY = "connect_only"
    """Find it; ClusterNotFound if there is none of that name."""
    CREATE_OR_CONNECT = "create_or_connect"
    """Find it, or make it if there is none of that name."""

    @classmethod
    def of(cls, word: object) -> CreateMode:
        """Return the mode of a word such as `create_or_connect`, or of another library's enum with
        the same names; ValueError if there is none."""
        name = str(word.name if isinstance(word, Enum) else word)
        name = name.strip().upper().replace("-", "_")
        if name in cls.__members__:
            return cls[name]
        words = [mode.value for mode in cls]
        near = difflib.get_close_matches(name.lower(), words, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ValueError(f"create_mode must be one of {', '.join(words)}, not {quoted(word)}{hint}")


def differences(
    request: CreateClusterRequest, found: Cluster, ignored: Container[str] = ()
) -> list[str]:
    """Return what was asked for and is otherwise in a cluster that exists, each as `what is this,
    not that`. What was not asked for may be anything, and so may options that are `ignored`."""
    asked = ClusterSpec.from_proto(request.cluster.spec)
    pairs = [pair for pair in _differs(asked, found) if pair[0] not in ignored]
    pairs += _lives_differ(request, found)
    labels = request.cluster.labels
    pairs += [
        (f"label {name}", found.labels.get(name), text)
        for name, text in sorted(labels.items())
        if found.labels.get(name) != text
    ]
    return [
        f"{what} is {'not set' if there is None else show.text(there)}, not {show.text(wish)}"
        for what, there, wish in pairs
    ]


def used_as_it_is(found: Cluster, other: Sequence[str]) -> str:
    """Return in words how a cluster that is used as it is differs from what was asked for."""
    return (
        f"cluster {found.id} exists and is used as it is: {'; '.join(other)}. scale, adapt and"
        " Gateway.change_lifetimes change sizes and times; all else needs a new cluster"
    )


Pair = tuple[str, object, object]  # of what, what there is, what was asked for


def _differs(asked: ClusterSpec, found: Cluster) -> Iterator[Pair]:
    there = found.spec
    if asked.backend and asked.backend != there.backend:
        yield "backend", there.backend, asked.backend
    for name, value in sorted(asked.options.items()):
        if there.options.get(name) != value:
            yield name, there.options.get(name), value
    for name, group in asked.worker_groups.items():
        of = "" if name == "default" else f" of group {name}"
        present = there.worker_groups.get(name)
        if present is None:
            yield f"n_workers{of}", 0, group.wish
            continue
        if present.wish != group.wish:
            yield f"n_workers{of}", present.wish, group.wish
        for option, value in sorted(group.options.items()):
            if present.options.get(option) != value:
                yield f"{option}{of}", present.options.get(option), value


def _lives_differ(request: CreateClusterRequest, found: Cluster) -> Iterator[Pair]:
    asked = ClusterSpec.from_proto(request.cluster.spec).lifecycle
    for field, _ in request.cluster.spec.lifecycle.ListFields():
        if field.name == "keepalive_timeout":  # which is between this process and the gateway
            continue
        there, wish = getattr(found.spec.lifecycle, field.name), getattr(asked, field.name)
        if there != wish:
            yield field.name, there, wish
