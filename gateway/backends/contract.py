"""What a backend promises: to start, stop, observe and find processes somewhere. Data and a
protocol; standard library only.

The promise, held by the conformance suite (`gateway.backends.conformance`), which sees from outside
what really runs:

* `start` is "create if absent, else adopt": repeated with the same instance, or asked twice at the
  same time, it never makes a second process.
* `stop` only asks; an instance is gone when `observations` say GONE, and then nothing of it runs.
  What does not end when it is asked is ended by force after a while, with all that it has started.
  Stopping what is gone is no error; what was not named lives on.
* A call that got no answer raises BackendUnavailable each time it is repeated, until it was
  answered.
* What another gateway runs in the same machine room is neither found, nor adopted, nor ended.
* `observations` answers for every target, and for what it does not know it says GONE. When it
  cannot tell, it raises BackendUnavailable: an outage is never reported as an end. Where a machine
  room's answers lag or have gaps, a target that cannot be told of yet is left out of the answer, at
  most for a while that the backend bounds; then it is GONE.
* A machine room that queues says QUEUED with its reason in `message`, for hours if need be; an
  instance that was preempted and put back into the queue is QUEUED again after it was RUNNING, and
  RUNNING when it has come back.
* No call blocks the event loop, and each ends within the backend's own deadline.
* Secrets reach the process by files of mode 0600 or the platform's secret object; never by argv.
* DIRECTORY is the instance's own: of mode 0700, its account's to write in, on a local disk if there
  is one, and gone with all in it after the instance's end, at `cleanup` at the latest. Dask keeps
  its scratch in it: what others could write to, it would lock and truncate.
* What is read of processes and jobs, such as their names, is checked like anything from outside:
  whoever may start one may write it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Protocol, runtime_checkable

SCHEDULER_NAME = "scheduler"
# in argv and env: replaced by the directory that holds the launch's files
DIRECTORY = "{directory}"
# a word of argv: replaced by the instance's name, so that launches of one batch are alike but for
# the instance
NAME = "{name}"


class Role(str, Enum):
    """What an instance is to its cluster."""

    SCHEDULER = "scheduler"
    WORKER = "worker"


class Phase(str, Enum):
    """Where a started instance stands."""

    QUEUED = "queued"  #: accepted by the machine room, not running yet
    RUNNING = "running"
    EXITED = "exited"  #: ended by itself; traces may remain until it is stopped
    GONE = "gone"  #: nothing of it runs or will run


@dataclass(frozen=True, slots=True, order=True)
class Instance:
    """Identity of one external process: every name a backend makes derives from it."""

    uid: str  #: of the cluster
    role: Role
    #: `scheduler`, or a worker's: its group, a hyphen and a number; none is started again once it
    #: was stopped
    name: str


@dataclass(frozen=True, slots=True)
class Resources:
    """What one instance may use."""

    cores: float = 1.0
    memory_bytes: int = 2 * 2**30
    gpus: int = 0
    #: of others, by the names that the machine room knows them by; none is 0
    named: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Launch:
    """All a backend needs to start one instance."""

    instance: Instance
    user: str  #: who asked for the cluster
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    #: by plain file name; made 0600 in a directory of its own
    files: Mapping[str, bytes] = field(default_factory=dict)
    resources: Resources = field(default_factory=Resources)
    #: the cluster's resolved settings, for the backend's own use
    options: Mapping[str, object] = field(default_factory=dict)

    def placed(self, directory: str) -> Launch:
        """Return this launch with NAME in argv, and DIRECTORY in argv and env, replaced by the real
        ones."""
        return replace(
            self,
            argv=tuple(
                self.instance.name if word == NAME else word.replace(DIRECTORY, directory)
                for word in self.argv
            ),
            env={key: value.replace(DIRECTORY, directory) for key, value in self.env.items()},
        )


@dataclass(frozen=True, slots=True)
class Target:
    """An instance with the handle its start returned; empty if that answer was never stored."""

    instance: Instance
    handle: str = ""
    user: str = ""  #: who owns the cluster; empty if nobody knows any more
    #: a worker that its scheduler has seen leave: if nothing is seen of it any more, it has ended
    left: bool = False


@dataclass(frozen=True, slots=True)
class Started:
    """A start that was accepted."""

    handle: str  #: opaque to the server, which stores it
    #: where it was put, such as "submitted to Slurm as job 123": told until more is seen of it
    message: str = ""


@dataclass(frozen=True, slots=True)
class StartFailed:
    """A start that was refused or failed, with a reason people can read."""

    message: str
    permanent: bool = False  #: whether repeating it is hopeless


StartOutcome = Started | StartFailed


@dataclass(frozen=True, slots=True)
class Observation:
    """What a backend sees of one instance."""

    instance: Instance
    phase: Phase
    handle: str = ""
    exit_code: int | None = None
    message: str = ""  #: why it waits or ended: the platform's words, or the last lines of its log
    #: as whom it runs, where the backend can tell; what `find` finds may have no other record
    user: str = ""
    #: GONE only for having been missing too long: nobody saw it end, and it has not been told to
    presumed: bool = False


class BackendUnavailable(Exception):
    """The machine room does not answer, so nothing can be said about its processes."""


Observe = Callable[[Sequence[Observation]], None]


@runtime_checkable
class Backend(Protocol):
    """A machine room."""

    name: str
    observe_interval_s: float  #: how often the server asks for observations while instances exist
    #: whether schedulers may run on the gateway's machine: only then are its own addresses,
    #: loopback too, believed of them
    local: bool

    def cluster_settings(self) -> Mapping[str, object]:
        """Return the settings of one cluster that are this backend's own, with their values as
        configured.

        They join the cluster's settings (`Launch.options`), where options of the same name override
        them if the administrator offers such options.
        """

    def place(self) -> Mapping[str, str]:
        """Return the settings, by full name, that say where instances are: what was started when
        one had another value is not found any more."""

    def allots(self, resources: Resources) -> Resources:
        """Return how much is really taken from the machine room by an instance that asks for so
        much, such as whole cores only: the limits of a cluster count that. Pure; never less than
        is asked for."""

    def objection(self, resources: Resources, settings: Mapping[str, object]) -> str:
        """Return why no instance of a cluster with these settings can be given such GPUs and named
        resources, in words for its user; an empty text if one can. Pure. What is not objected to is
        given: nothing is left out without a word."""

    async def open(self, push: Observe) -> None:
        """Make ready. `push` may be called from the event loop with observations the server has not
        asked for."""

    async def close(self) -> None:
        """Let go of everything but the processes."""

    async def start(self, launches: Sequence[Launch]) -> Mapping[Instance, StartOutcome]:
        """Start or adopt, as one batch; an outcome for every launch."""

    async def stop(self, targets: Sequence[Target]) -> None:
        """Ask instances to end; by force if they have not after a while, which is the machine
        room's or the backend's own."""

    async def observations(self, targets: Sequence[Target]) -> Mapping[Instance, Observation]:
        """Say where each target stands."""

    def expect_ends(self, targets: Sequence[Target]) -> None:
        """Hear of instances that may have ended just now: a worker whom its scheduler has seen
        leave, a scheduler that is heard no more. A backend that is not told of ends looks at them
        soon, and pushes what it sees; however many, and however often, its looks have a bound.
        Returns at once."""

    async def find(self) -> Sequence[Observation]:
        """Return every instance of this gateway that exists, intended or not, for the sweep."""

    async def cleanup(self, uid: str) -> None:
        """Remove a cluster's secrets and working files once nothing of it runs; logs stay."""

    async def purge(self, uid: str) -> None:
        """Remove a cluster's logs."""

    def logs(
        self, target: Target, *, tail_lines: int = 0, follow: bool = False
    ) -> AsyncIterator[str]:
        """Yield an instance's log in pieces of at most 64 KiB, also after its end; nothing if there
        is none."""
