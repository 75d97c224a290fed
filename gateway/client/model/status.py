"""What is observed of a cluster."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar

from daskgateway.v1 import cluster_pb2 as pb

from gateway.client.model import show
from gateway.client.model.answer import Answer
from gateway.client.model.values import ReadOnly, Value, Word, instant, options, word


class ClusterState(Word):
    """Where a cluster stands."""

    UNKNOWN = "UNKNOWN"
    """None was named, or one that came with a newer gateway; it is not finished."""
    PENDING = "PENDING"
    """Accepted and stored; nothing has been started yet."""
    CREATING = "CREATING"
    """The scheduler is being started."""
    ACTIVE = "ACTIVE"
    """The scheduler answers; clients may connect."""
    STOPPING = "STOPPING"
    """A stop is wished or the cluster has failed; its processes are being removed."""
    STOPPED = "STOPPED"
    """Ended as wished; nothing of it runs."""
    FAILED = "FAILED"
    """Ended by a fault; nothing of it runs."""

    @property
    def finished(self) -> bool:
        """Whether nothing of the cluster runs any more."""
        return self in (ClusterState.STOPPED, ClusterState.FAILED)

    @property
    def ending(self) -> bool:
        """Whether the cluster is finished, or about to be."""
        return self is ClusterState.STOPPING or self.finished


class ConditionStatus(Word):
    """Whether a condition holds."""

    UNKNOWN = "UNKNOWN"
    """The gateway cannot tell, or said what this client does not know."""
    TRUE = "TRUE"
    """It holds."""
    FALSE = "FALSE"
    """It does not hold."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Condition(Answer[pb.Condition]):
    """One fact about a cluster."""

    COLUMNS: ClassVar[tuple[str, ...]] = ("CONDITION", "HOLDS", "REASON", "SINCE", "MESSAGE")

    type: str
    """Its type: `SchedulerReachable`, `WorkersAvailable`, `WithinLimits` or `BackendAvailable`."""
    status: ConditionStatus
    """Whether it holds."""
    reason: str
    """Why, as one UPPER_SNAKE word; for programs."""
    message: str
    """Why, as a sentence; for people."""
    transition_time: datetime | None
    """When the status last changed."""

    def cells(self) -> tuple[str, ...]:
        """Return what stands for it in a table."""
        return (
            self.type,
            self.status.value,
            self.reason,
            show.when(self.transition_time),
            show.harmless(self.message),
        )

    @classmethod
    def from_proto(cls, proto: pb.Condition) -> Condition:
        """Return what a message says."""
        return cls(
            proto=proto,
            type=proto.type,
            status=word(ConditionStatus, pb.ConditionStatus, proto.status),
            reason=proto.reason,
            message=proto.message,
            transition_time=instant(proto, "transition_time"),
        )


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class WorkerGroupStatus(Answer[pb.WorkerGroupStatus]):
    """How many workers of a group there are."""

    desired: int
    """Workers wished after limits were applied; for an adaptive group what the scheduler last asked
    for."""
    pending: int
    """Workers asked of the backend and not yet connected."""
    running: int
    """Workers connected to the scheduler."""
    worker_cores: float
    """Cores of each worker."""
    worker_memory_bytes: int
    """Memory of each worker in bytes; 0 where none was named."""
    wished: int
    """Workers wished before limits were applied."""
    limit: int | None
    """Most workers of this group that the limits of the cluster permit; None without limit."""
    environment: Mapping[str, str]
    """Variables in force in its workers, as far as they are not those of the cluster."""
    worker_gpus: int
    """GPUs of each worker."""
    worker_resources: Mapping[str, float]
    """Other resources of each worker, by the names that the machine room knows them by."""

    @property
    def each(self) -> str:
        """What each worker has, in words, such as `2 cores, 4 GiB, 1 GPU`; empty if that is not
        known."""
        told = [show.cores(self.worker_cores)] if self.worker_cores else []
        told += [show.size(self.worker_memory_bytes)] if self.worker_memory_bytes else []
        return ", ".join([*told, *show.beside(self.worker_gpus or None, self.worker_resources)])

    @classmethod
    def from_proto(cls, proto: pb.WorkerGroupStatus) -> WorkerGroupStatus:
        """Return what a message says."""
        return cls(
            proto=proto,
            desired=proto.desired,
            pending=proto.pending,
            running=proto.running,
            worker_cores=proto.worker_cores,
            worker_memory_bytes=proto.worker_memory_bytes,
            wished=proto.wished,
            limit=proto.limit if proto.HasField("limit") else None,
            environment=ReadOnly(proto.environment),
            worker_gpus=proto.worker_gpus,
            worker_resources=ReadOnly(proto.worker_resources),
        )


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Endpoints(Answer[pb.Endpoints]):
    """Where clients connect; empty texts while the cluster is not ACTIVE."""

    scheduler: str
    """Address for a Dask client: `dgw://host:port/uid`."""
    dashboard: str
    """Address of the dashboard in a browser."""

    @classmethod
    def from_proto(cls, proto: pb.Endpoints) -> Endpoints:
        """Return what a message says."""
        return cls(proto=proto, scheduler=proto.scheduler, dashboard=proto.dashboard)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ClusterStatus(Answer[pb.ClusterStatus]):
    """What is observed of a cluster."""

    state: ClusterState
    """Where it stands."""
    reason: str
    """Why, as one UPPER_SNAKE word; for programs."""
    message: str
    """Why, as a sentence; for people."""
    state_time: datetime | None
    """When it entered this state."""
    reconciling: bool
    """Whether the gateway still works to make the status match the spec."""
    observed_generation: int
    """The generation of the spec that this status was computed from."""
    conditions: tuple[Condition, ...]
    """Facts that hold beside the state; a type that is absent is unknown."""
    worker_groups: Mapping[str, WorkerGroupStatus]
    """Worker counts by group."""
    endpoints: Endpoints
    """Where to connect."""
    versions: Mapping[str, str]
    """Versions found in the scheduler's process, by package."""
    clients: int
    """Dask clients connected to the scheduler."""
    idle_time: datetime | None
    """Since when the cluster has done nothing; None while it is busy."""
    expire_time: datetime | None
    """When the gateway will stop it if nothing changes; None for never."""
    expire_reason: str
    """Why it will be stopped then, as one UPPER_SNAKE word; empty if it will not be."""
    keepalive_time: datetime | None
    """When the process that is to stop it last gave a sign of life; None if it needs none."""
    environment: Mapping[str, str]
    """Variables in force in its scheduler: the administrator's with the user's."""
    dask_config: Mapping[str, Value]
    """Dask's configuration in force, by nested names: the administrator's with the user's."""

    @property
    def running(self) -> int:
        """Workers connected to the scheduler, of all groups."""
        return sum(group.running for group in self.worker_groups.values())

    @property
    def versions_line(self) -> str:
        """Versions in the scheduler's process, in one line."""
        return ", ".join(f"{name} {version}" for name, version in sorted(self.versions.items()))

    @property
    def desired(self) -> int:
        """Workers wished after limits were applied, of all groups."""
        return sum(group.desired for group in self.worker_groups.values())

    @classmethod
    def from_proto(cls, proto: pb.ClusterStatus) -> ClusterStatus:
        """Return what a message says."""
        return cls(
            proto=proto,
            state=word(ClusterState, pb.ClusterState, proto.state),
            reason=proto.reason,
            message=proto.message,
            state_time=instant(proto, "state_time"),
            reconciling=proto.reconciling,
            observed_generation=proto.observed_generation,
            conditions=tuple(Condition.from_proto(one) for one in proto.conditions),
            worker_groups=ReadOnly(
                {
                    name: WorkerGroupStatus.from_proto(one)
                    for name, one in sorted(proto.worker_groups.items())
                }
            ),
            endpoints=Endpoints.from_proto(proto.endpoints),
            versions=ReadOnly(proto.versions),
            clients=proto.clients,
            idle_time=instant(proto, "idle_time"),
            expire_time=instant(proto, "expire_time"),
            expire_reason=proto.expire_reason,
            keepalive_time=instant(proto, "keepalive_time"),
            environment=ReadOnly(proto.environment),
            dask_config=options(proto.dask_config),
        )
