"""A cluster and its workers while a step is made of them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from gateway.server.core.facts import Patience
from gateway.server.core.model import (
    Cluster,
    Event,
    GroupStatus,
    State,
    StopWish,
    Worker,
)
from gateway.server.core.reasons import Reason
from gateway.server.core.texts import abridged, sound
from gateway.server.core.transitions import Trigger, after

MAX_MESSAGE = 4096  # characters of why a cluster is where it is
MAX_EVENT = 1024  # characters of an event's message: there are many


@dataclass(slots=True)
class Known:
    """A cluster and its workers while a step is made of them; the only mutable thing in the core,
    and local to a step."""

    cluster: Cluster
    workers: dict[str, Worker]
    now: int
    patience: Patience
    events: list[Event] = field(default_factory=list)

    def tell(self, reason: Reason, message: str, instance: str = "") -> None:
        """Note an event."""
        self.events.append(
            Event(self.cluster.uid, self.now, reason, abridged(message, MAX_EVENT), instance)
        )

    def scheduler(self, **changes: object) -> None:
        """Change what is known of the scheduler."""
        self.cluster = replace(self.cluster, scheduler=replace(self.cluster.scheduler, **changes))  # type: ignore[arg-type]

    def worker(self, worker: Worker, **changes: object) -> None:
        """Change what is known of a worker."""
        self.workers[worker.name] = replace(worker, since_at=self.now, **changes)  # type: ignore[arg-type]

    def group(self, name: str, **changes: int | str) -> None:
        """Change what is known of a group."""
        before = self.cluster.groups.get(name)
        status = replace(before or GroupStatus(), **changes)  # type: ignore[arg-type]
        if status == before:
            return  # the most common case by far
        self.cluster = replace(self.cluster, groups={**self.cluster.groups, name: status})

    def move(self, trigger: Trigger, reason: str = "", message: str = "") -> None:
        """Take a transition and note it."""
        state = after(self.cluster.state, trigger)
        if state is not self.cluster.state:
            self.cluster = replace(
                self.cluster,
                state=state,
                state_at=self.now,
                reason=reason,
                message=sound(message, MAX_MESSAGE),
            )
            self.tell(Reason(state.value), message or f"the cluster is {state}")

    def say(self, reason: str, message: str) -> None:
        """Say why the cluster is where it is."""
        if (reason, message) != (self.cluster.reason, self.cluster.message):
            self.cluster = replace(self.cluster, reason=reason, message=sound(message, MAX_MESSAGE))

    def end(self, wish: StopWish) -> None:
        """Wish the cluster's end, unless it was wished before."""
        if self.cluster.stop is None:
            self.cluster = replace(
                self.cluster, stop=replace(wish, message=sound(wish.message, MAX_MESSAGE))
            )
        self.move(Trigger.STOP, self.cluster.stop.reason if self.cluster.stop else "", wish.message)

    def fail(self, reason: Reason, message: str) -> None:
        """Wish the cluster's end by a fault."""
        self.end(StopWish(State.FAILED, reason, message, self.now))
