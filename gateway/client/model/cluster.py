"""A cluster as the gateway tells of it: what is wished (`spec`), what is observed (`status`), and
why it stands where it stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import ClassVar

from daskgateway.v1 import cluster_pb2 as pb

from gateway.client.model import reasons, show
from gateway.client.model.answer import Answer
from gateway.client.model.spec import ClusterSpec
from gateway.client.model.status import ClusterState, ClusterStatus, ConditionStatus
from gateway.client.model.values import ReadOnly, instant

# why a cluster will be stopped, by the reason that will be told
EXPIRES = {
    reasons.MAX_LIFETIME: "when it will have lived for as long as it may",
    reasons.IDLE_TIMEOUT: "as it has neither task nor client",
    reasons.NO_CLIENT: "as it has no client",
    reasons.NO_TASK: "as it has no task",
}

# types of conditions that tell of workers alone
OF_WORKERS = (reasons.WORKERS_AVAILABLE, reasons.WITHIN_LIMITS)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Cluster(Answer[pb.Cluster]):
    """One Dask cluster, as it was when the gateway answered."""

    COLUMNS: ClassVar[tuple[str, ...]] = (
        "NAME",
        "STATE",
        "RUNNING",
        "WISHED",
        "CLIENTS",
        "CREATED",
        "MESSAGE",
    )

    name: str
    """`users/{user}/clusters/{cluster}`."""
    uid: str
    """Identifies this incarnation; it may stand in a name where the cluster's id stands."""
    etag: str
    """Changes with `generation`."""
    generation: int
    """Counts the changes of `spec` and `labels`."""
    revision: int
    """Revision of the last committed change to this cluster, of any kind."""
    owner: str
    """The user it belongs to."""
    labels: Mapping[str, str]
    """Free for the user."""
    spec: ClusterSpec
    """What is wished."""
    status: ClusterStatus
    """What is observed."""
    create_time: datetime | None
    """When it was accepted."""
    start_time: datetime | None
    """When its scheduler first answered; None before."""
    update_time: datetime | None
    """When it last changed."""
    stop_time: datetime | None
    """When it was observed to be gone; None unless it is finished."""
    purge_time: datetime | None
    """When its record and its logs will be deleted."""

    @property
    def id(self) -> str:
        """Its id among its owner's clusters: the last part of the name."""
        return self.name.rpartition("/")[2]

    @property
    def state(self) -> ClusterState:
        """Where it stands."""
        return self.status.state

    @property
    def queued(self) -> bool:
        """Whether it waits in a batch system's queue: for how long is not in the gateway's
        hands."""
        return (
            self.state is ClusterState.CREATING and self.status.reason == reasons.SCHEDULER_QUEUED
        )

    @property
    def explanation(self) -> str:
        """Why it is not (yet) what was asked for, in one or two sentences; of one that ends, why it
        does, and what keeps it from ending: no workers are wished any more."""
        said = [self.status.message] if self.status.message else []
        for condition in self.status.conditions:
            if (
                condition.status is ConditionStatus.FALSE
                and not (self.state.ending and condition.type in OF_WORKERS)
                and condition.message
                and condition.message not in said
            ):
                said.append(condition.message)
        return "; ".join(said) or "the server gave no reason"

    @property
    def unreachable(self) -> str:
        """Why nobody will reach its scheduler although it is ACTIVE, as the gateway tells; empty if
        it knows of nothing."""
        told = (
            one
            for one in self.status.conditions
            if one.reason == reasons.ADDRESS_NOT_PERMITTED and one.status is ConditionStatus.FALSE
        )
        return next((condition.message for condition in told), "")

    @property
    def missing(self) -> str:
        """Why fewer workers are there than are wished, as far as the gateway knows; empty if it
        knows of nothing."""
        told = (one for one in self.status.conditions if one.type == reasons.WORKERS_AVAILABLE)
        found = next((one for one in told if one.status is ConditionStatus.FALSE), None)
        return found.message if found is not None else ""

    @property
    def clamped(self) -> str:
        """Which group gets fewer workers than wished, and by which limit; empty if none does."""
        told = (one for one in self.status.conditions if one.type == reasons.WITHIN_LIMITS)
        found = next((one for one in told if one.status is ConditionStatus.FALSE), None)
        return found.message if found is not None else ""

    @property
    def wish(self) -> str:
        """How many workers are wished, in words: `4`, `0-10` for an adaptive group, `4+0-10` where
        groups differ."""
        groups = self.spec.worker_groups.values()
        fixed = sum(group.count or 0 for group in groups)
        adaptive = [group.wish for group in groups if group.adaptive is not None]
        return "+".join([str(fixed)] * (fixed > 0 or not adaptive) + adaptive)

    def cells(self) -> tuple[str, ...]:
        """Return what stands for it in a table; of its workers, how many run and how many are
        wished."""
        name, why = f"{self.owner}/{self.id}", show.harmless(self.explanation)
        return (
            name,
            self.state.value,
            str(self.status.running),
            "0" if self.state.ending else self.wish,
            str(self.status.clients),
            show.when(self.create_time),
            why,
        )

    def _line(self) -> str:
        """Return it in one line of text."""
        name, state, running, wished, _, _, why = self.cells()
        return f"{name}, {state}, {running} of {wished} workers: {why}"

    def rows(self) -> list[tuple[str, str]]:
        """Return everything there is to tell of it, each with its name."""
        ends = self.status.endpoints
        found = [
            ("name", self.name),
            ("uid", self.uid),
            ("state", self.state.value),
            ("why", self.explanation),
        ]
        found += [("scheduler", ends.scheduler), ("dashboard", ends.dashboard)]
        groups = {**self.spec.worker_groups, **self.status.worker_groups}
        for name in groups:
            found += [(f"workers ({name})", self.workers(name))]
            found += [(f"each worker ({name})", self.each(name))] if self.each(name) else []
        found += [("clients", str(self.status.clients))]
        found += [
            (f"option {name}", show.text(value))
            for name, value in sorted(self.spec.options.items())
        ]
        found += self._in_force()
        found += [(f"label {name}", value) for name, value in sorted(self.labels.items())]
        found += [
            ("versions", self.status.versions_line),
            ("created", show.when(self.create_time)),
            ("age", show.span(self.age)),
            ("is stopped by itself", "" if self.state.ending else self.spec.lifecycle.words),
            ("last sign of life", show.when(self.status.keepalive_time)),
            ("will be stopped", self.expires),
        ]
        return found

    @property
    def expires(self) -> str:
        """When and why the gateway will stop it if nothing changes, in words; empty for never."""
        at, why = show.when(self.status.expire_time), self.status.expire_reason
        return f"{at}, {EXPIRES.get(why, why)}, unless that changes" if at and why else at

    def _in_force(self) -> list[tuple[str, str]]:
        """Return the variables and the configuration of Dask that hold in its processes."""
        found = [
            (f"variable {name}", value) for name, value in sorted(self.status.environment.items())
        ]
        for group, status in self.status.worker_groups.items():
            found += [
                (f"variable {name} ({group})", value)
                for name, value in sorted(status.environment.items())
            ]
        config = self.status.dask_config
        return found + [(f"dask {name}", show.text(config[name])) for name in sorted(config)]

    @property
    def age(self) -> timedelta | None:
        """How long it has lived, to the second; None if that is not known."""
        if self.create_time is None:
            return None
        end = self.stop_time or datetime.now(timezone.utc)
        return timedelta(seconds=max(0, int((end - self.create_time).total_seconds())))

    @property
    def stale(self) -> bool:
        """Whether the status is from before the present wish was taken up."""
        return self.status.observed_generation < self.generation

    def workers(self, name: str) -> str:
        """Return how many workers of a group there are, and how many are wished, in words."""
        there, wished = self.status.worker_groups.get(name), self.spec.worker_groups.get(name)
        told = [f"{there.running} running, {there.pending} starting" if there else "none yet"]
        if wished is not None and self.state.ending:
            told.append(f"{wished.wish} were wished")
        elif wished is not None:
            told.append(f"{wished.wish} wished")
            if self.stale:
                told.append("which is not taken up yet")
            elif there is not None and wished.adaptive is not None:
                told.append(f"{there.desired} needed now")
            elif there is not None and there.desired != wished.count:
                told.append(f"{there.desired} granted")
        return ", ".join(told)

    def each(self, name: str) -> str:
        """Return what each worker of a group has, in words; empty if that is not known."""
        there = self.status.worker_groups.get(name)
        return there.each if there is not None else ""

    @classmethod
    def from_proto(cls, proto: pb.Cluster) -> Cluster:
        """Return what a message says."""
        return cls(
            proto=proto,
            name=proto.name,
            uid=proto.uid,
            etag=proto.etag,
            generation=proto.generation,
            revision=proto.revision,
            owner=proto.owner,
            labels=ReadOnly(proto.labels),
            spec=ClusterSpec.from_proto(proto.spec),
            status=ClusterStatus.from_proto(proto.status),
            create_time=instant(proto, "create_time"),
            start_time=instant(proto, "start_time"),
            update_time=instant(proto, "update_time"),
            stop_time=instant(proto, "stop_time"),
            purge_time=instant(proto, "purge_time"),
        )
