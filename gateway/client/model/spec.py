"""What a user wishes of a cluster."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from daskgateway.v1 import cluster_pb2 as pb

from gateway.client.model import show
from gateway.client.model.answer import Answer
from gateway.client.model.values import ReadOnly, Value, duration, options


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Adaptive(Answer[pb.Adaptive]):
    """A group of workers sized by the scheduler's load, between two bounds."""

    minimum: int
    """Fewest workers to keep."""
    maximum: int
    """Most workers to have."""
    interval: timedelta | None
    """How often the scheduler looks at its load; None for every 0.5 s."""
    wait_count: int
    """How many looks in a row a worker must be found too many at before it goes; 0 for as many as
    make 3 s."""
    target_duration: timedelta | None
    """How long the work that there is may take; None for what Dask's configuration says."""

    @classmethod
    def from_proto(cls, proto: pb.Adaptive) -> Adaptive:
        """Return what a message says."""
        return cls(
            proto=proto,
            minimum=proto.minimum,
            maximum=proto.maximum,
            interval=duration(proto, "interval"),
            wait_count=proto.wait_count,
            target_duration=duration(proto, "target_duration"),
        )


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class WorkerGroup(Answer[pb.WorkerGroup]):
    """The workers of one kind that are wished: either `count` or `adaptive` is set."""

    options: Mapping[str, Value]
    """Options that differ from the cluster's."""
    count: int | None
    """Exactly so many workers; None for an adaptive group."""
    adaptive: Adaptive | None
    """As many workers as the load needs, between bounds; None for a group of a fixed size."""

    @property
    def wish(self) -> str:
        """The size in words: `4`, or `0-10` for an adaptive group."""
        return (
            str(self.count)
            if self.adaptive is None
            else f"{self.adaptive.minimum}-{self.adaptive.maximum}"
        )

    @classmethod
    def from_proto(cls, proto: pb.WorkerGroup) -> WorkerGroup:
        """Return what a message says."""
        adaptive = Adaptive.from_proto(proto.adaptive) if proto.HasField("adaptive") else None
        return cls(
            proto=proto,
            options=options(proto.options),
            count=proto.count if adaptive is None else None,
            adaptive=adaptive,
        )


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Lifecycle(Answer[pb.Lifecycle]):
    """When the gateway stops a cluster by itself. None takes the gateway's default, zero is
    never."""

    idle_timeout: timedelta | None
    """How long it may do nothing: no task, and (unless `ignore_clients`) no client connected."""
    max_lifetime: timedelta | None
    """How long it may live since it was created."""
    no_client_timeout: timedelta | None
    """How long it may run without any client connected, whatever it computes."""
    ignore_clients: bool
    """Whether connected clients are ignored when idleness is judged."""
    no_task_timeout: timedelta | None
    """How long it may have no task, whoever is connected."""
    keepalive_timeout: timedelta | None
    """How long it may go without a sign of life of the process that is to stop it, while it has
    neither task nor client. Zero where it needs none."""

    @property
    def words(self) -> str:
        """When the gateway stops the cluster, in words; empty for never."""
        clients = "" if self.ignore_clients else " and client"
        ends = (
            (self.idle_timeout, f"without task{clients}"),
            (self.no_task_timeout, "without task"),
            (self.no_client_timeout, "without client"),
            (self.max_lifetime, "of life"),
            (self.keepalive_timeout, "without task, client and sign of life of its process"),
        )
        return ", ".join(f"after {show.span(time)} {what}" for time, what in ends if time)

    @classmethod
    def from_proto(cls, proto: pb.Lifecycle) -> Lifecycle:
        """Return what a message says."""
        return cls(
            proto=proto,
            idle_timeout=duration(proto, "idle_timeout"),
            max_lifetime=duration(proto, "max_lifetime"),
            no_client_timeout=duration(proto, "no_client_timeout"),
            ignore_clients=proto.ignore_clients,
            no_task_timeout=duration(proto, "no_task_timeout"),
            keepalive_timeout=duration(proto, "keepalive_timeout"),
        )


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ClusterSpec(Answer[pb.ClusterSpec]):
    """What a user wishes."""

    backend: str
    """Backend it runs on; empty for the gateway's default."""
    options: Mapping[str, Value]
    """Values of the options that `Gateway.cluster_options` offers."""
    worker_groups: Mapping[str, WorkerGroup]
    """Workers by group. The group `default` always exists."""
    lifecycle: Lifecycle
    """When the gateway is to stop the cluster by itself."""

    @classmethod
    def from_proto(cls, proto: pb.ClusterSpec) -> ClusterSpec:
        """Return what a message says."""
        return cls(
            proto=proto,
            backend=proto.backend,
            options=options(proto.options),
            worker_groups=ReadOnly(
                {
                    name: WorkerGroup.from_proto(group)
                    for name, group in sorted(proto.worker_groups.items())
                }
            ),
            lifecycle=Lifecycle.from_proto(proto.lifecycle),
        )
