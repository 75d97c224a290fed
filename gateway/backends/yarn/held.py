"""What is known of an application of ours: what the ResourceManager says of it, its containers as
its master tells of them, and what it is yet to be asked. Data and pure questions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway.backends.contract import Instance, Launch, Observation, Phase, Role, Target
from gateway.backends.yarn import words
from gateway.backends.yarn.answers import Application
from gateway.backends.yarn.record import Record
from gateway.backends.yarn.shape import instance_of
from gateway.wire import is_instance_name

WAITING, RUNNING, OVER = ("WAITING", "REQUESTED"), ("RUNNING",), ("SUCCEEDED", "FAILED", "KILLED")


@dataclass(frozen=True, slots=True)
class Container:
    """One container, as its application's master tells of it."""

    id: str  # of skein: service and number
    service: str
    state: str
    container: str = ""  # of YARN
    node: str = ""  # web address of its NodeManager
    message: str = ""

    @property
    def over(self) -> bool:
        """Whether its master says that it has ended."""
        return self.state in OVER

    @property
    def number(self) -> int:
        """Which container of its service it is."""
        return int(self.id.rpartition("_")[2])


@dataclass(frozen=True, slots=True)
class Asked:
    """A container that an application's master was asked for."""

    launch: Launch
    at: float  # on the loop's clock
    doubted: bool = False  # whether nobody knew of the request, as far as was told


@dataclass(slots=True)
class Held:
    """One application."""

    uid: str
    said: Application  # as the ResourceManager told of it last
    record: Record | None = None  # None: what was kept of it is lost
    containers: dict[Instance, Container] = field(default_factory=dict)
    # containers whose start was never recorded, or in whose place another was asked for
    surplus: list[str] = field(default_factory=list)
    pending: dict[Instance, Launch] = field(default_factory=dict)  # its master is yet to be asked
    asked: dict[Instance, Asked] = field(default_factory=dict)  # and what has not come yet
    settled: set[str] = field(default_factory=set)  # YARN's containers that are past localisation
    looked_at: float = float("-inf")  # when its master was asked last, on the loop's clock
    seen: tuple[object, ...] = ()  # what the ResourceManager said then
    empty_since: float | None = None
    ending: bool = False  # it was asked to end
    doubled: bool = False  # another was submitted in its place, before it was seen
    unswept: bool = False  # something of it is left in HDFS, as far as is known
    stopping: set[Instance] = field(default_factory=set)  # containers that were asked to end

    @property
    def id(self) -> str:
        """Of YARN."""
        return self.said.id

    @property
    def reachable(self) -> bool:
        """Whether its master can be spoken to."""
        runs = self.said.state == "RUNNING" and bool(self.said.address)
        return runs and self.record is not None and not self.doubled

    def signature(self) -> tuple[object, ...]:
        """Return what changes when one of its containers begins or ends."""
        said = self.said
        return (said.state, said.containers, said.allocated_mb, said.attempt, said.address)

    def live(self) -> set[Instance]:
        """Return the instances that run, wait, or are yet to be asked for."""
        return {
            *self.pending,
            *(instance for instance, one in self.containers.items() if not one.over),
        }

    def running(self) -> int:
        """Return how many containers run, as the master tells, beside its own."""
        return sum(one.state in RUNNING for one in self.containers.values())

    def needs_look(self, now: float, interval_s: float) -> bool:
        """Whether its master is to be asked: something has changed, is awaited, or it is long
        ago."""
        return self.reachable and (
            self.seen != self.signature()
            or self.said.containers != 1 + self.running()  # its master hears of ends seconds later
            or bool(self.stopping & self.live())
            or any(one.state in WAITING for one in self.containers.values())
            or now - self.looked_at >= interval_s
        )

    def overdue(self, now: float, after_s: float) -> list[Instance]:
        """Return the instances whose containers were asked for so long ago and have not come, the
        longest waiting first."""
        found = [
            (asked.at, instance)
            for instance, asked in self.asked.items()
            if now - asked.at >= after_s
            and instance in self.containers
            and self.containers[instance].state in WAITING
        ]
        return [instance for _, instance in sorted(found)]

    def lost(self, overdue: Sequence[Instance], open_requests: int | None) -> list[Instance]:
        """Return which of them the ResourceManager was never asked for, or has given already: so
        many more wait than it has requests open."""
        if open_requests is None:
            return []
        waiting = sum(one.state in WAITING for one in self.containers.values())
        return list(overdue[: max(0, waiting - open_requests)])

    def take(
        self, told: Mapping[str, Any], now: float, begun_at: float = float("inf")
    ) -> list[Instance]:
        """Take what the master tells of its containers, which was asked at an instant; return the
        instances that have ended since the last look."""
        names, found, surplus = told["names"], dict[Instance, Container](), []
        for one in told["containers"]:
            container = Container(**one)
            name = str(names.get(container.id, ""))
            instance = instance_of(self.uid, container.service, name)
            if instance is None or not is_instance_name(instance.name):
                if not container.over:
                    surplus.append(container.id)
                continue
            known = found.get(instance, container)
            found[instance] = newer = max(known, container, key=lambda one: one.number)
            older = container if newer is known else known
            if older is not newer and not older.over:  # it was asked for anew
                surplus.append(older.id)
        for instance, asked in self.asked.items():  # while the master was telling
            if asked.at >= begun_at and instance not in found and instance in self.containers:
                found[instance] = self.containers[instance]
        ended = [
            instance
            for instance, one in found.items()
            if one.over and not (instance in self.containers and self.containers[instance].over)
        ]
        self.containers, self.surplus = found, surplus
        for instance in found:
            self.pending.pop(instance, None)
        self.asked = {
            instance: asked
            for instance, asked in self.asked.items()
            if instance not in found or found[instance].state in WAITING
        }
        if _begins_with(self, Instance(self.uid, Role.SCHEDULER, "scheduler")):
            self.looked_at, self.seen = float("-inf"), ()  # that was too early
        else:
            self.looked_at, self.seen = now, self.signature()
        return ended

    def handle(self, instance: Instance) -> str:
        """Return the handle of an instance."""
        return f"{self.id}/{instance.name}"


def application_of(handle: str) -> str:
    """Return the application that a handle tells of; empty if it is none of ours."""
    return handle.partition("/")[0] if handle.startswith("application_") else ""


def tell(held: Held, target: Target) -> Observation | None:
    """Return what is seen of an instance of an application that has not ended; None if nothing is
    known of it there."""
    instance, handle = target.instance, held.handle(target.instance)
    user = held.said.user
    queue = held.said.queue.removeprefix("root.")
    container = held.containers.get(instance)
    if instance in held.pending or (container is None and _begins_with(held, instance)):
        message = (
            words.waiting(held.said.diagnostics, queue, user)
            if held.said.state != "RUNNING"
            else words.pending(queue, 1)
        )
        return Observation(instance, Phase.QUEUED, handle, message=message, user=user)
    if container is None:
        return None
    if container.state in WAITING:
        waiting = sum(one.state in WAITING for one in held.containers.values())
        message = words.pending(queue, waiting)
        return Observation(instance, Phase.QUEUED, handle, message=message, user=user)
    if not container.over and container.container not in held.settled:
        message = f"its files are being brought to node {container.node.partition(':')[0]}"
        return Observation(instance, Phase.QUEUED, handle, message=message, user=user)
    # one that is over is told when its log is here and its node says that it is gone
    return None if container.over else Observation(instance, Phase.RUNNING, handle, user=user)


def _begins_with(held: Held, instance: Instance) -> bool:
    """Whether an instance is the scheduler that an application begins with, and of which its master
    has not told yet: it answers before it has asked for any container, and tells of those that have
    ended too."""
    return (
        instance.role is Role.SCHEDULER
        and held.record is not None
        and held.record.scheduler
        and instance not in held.containers
    )


def same_again(held: Held, other: Held) -> bool:
    """Whether two applications were submitted for the same scheduler."""
    one, two = held.record, other.record
    return (
        held is not other
        and one is not None
        and two is not None
        and (one.uid, one.shape, one.sizes) == (two.uid, two.shape, two.sizes)
        and one.scheduler
        and two.scheduler
        and not (other.said.ended or other.ending or other.doubled)
    )


def expected(held: Held) -> Iterable[Instance]:
    """Return every instance that an application has, or will have: none, if it is to go for another
    that has them."""
    if held.doubled:
        return ()
    scheduler = Instance(held.uid, Role.SCHEDULER, "scheduler")
    return held.live() | ({scheduler} if _begins_with(held, scheduler) else set())
