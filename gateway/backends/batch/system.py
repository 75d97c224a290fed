"""What a batch system must be able to do for `base.BatchBackend`: data and a protocol. Pure.

Calls raise contract.BackendUnavailable when the batch system does not answer, or answers what
cannot be understood: "cannot tell" is never told as "gone". Each ends within the backend's own
deadline.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from gateway.backends.batch.arrays import Ranges
from gateway.backends.batch.names import JobName
from gateway.backends.contract import BackendUnavailable, Phase, Resources, Role

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Order:
    """One submission."""

    name: JobName
    user: str  # the account it is to run as
    role: Role
    # POSIX shell; holds secrets: goes by standard input or in a request's body, never by argv
    script: str
    indices: Ranges = ()  # of the array; empty for a plain job
    resources: Resources = field(default_factory=Resources)  # of each element
    # the backend's cluster settings, resolved for this role
    settings: Mapping[str, object] = field(default_factory=dict)
    owner: str = ""  # who asked for the cluster
    # where output goes; `{index}` stands for the element's index; empty: nowhere
    log_path: str = ""


@dataclass(frozen=True, slots=True)
class Job:
    """A job, or elements of an array, as listed."""

    id: str  # of the job or of the whole array, as commands take it
    name: str
    user: str
    phase: Phase
    indices: Ranges = ()  # the elements this is about; empty for a plain job
    message: str = ""  # why it waits or ended, in words for people
    exit_code: int | None = None
    # when the batch system expects it to start, in ms since the epoch; 0: it does not say
    starts_at: int = 0
    position: int = 0  # among those that wait, from 1; 0: unknown


@dataclass(frozen=True, slots=True)
class Listed:
    """A listing, and the accounts whose jobs could not be listed, with why: nothing is said of
    those."""

    jobs: Sequence[Job]
    untold: Mapping[str, str] = field(default_factory=dict)
    # whether it is known to be all there is: an answer that lists nothing may be one that was not
    # allowed to
    sure: bool = True


@dataclass(frozen=True, slots=True)
class Cancel:
    """Jobs of one id that are to end."""

    id: str
    user: str
    indices: Ranges = ()  # elements; empty for all of the job


def raise_first(results: Iterable[object]) -> None:
    """Raise the first exception among what was gathered; all have been waited for."""
    for result in results:
        if isinstance(result, BaseException):
            raise result


def answered(
    accounts: Sequence[str],
    results: Sequence[T | BaseException],
    concerns_one: type[BackendUnavailable] = BackendUnavailable,
) -> tuple[list[T], dict[str, str]]:
    """Return what was answered, and the accounts about which nothing was, with why.

    Raises if that are all of them, or if one raised something else than what concerns one account.
    """
    failed = {
        account: result
        for account, result in zip(accounts, results)
        if isinstance(result, BaseException)
    }
    raise_first(
        error
        for error in failed.values()
        if len(failed) == len(results) or not isinstance(error, concerns_one)
    )
    reasons = {account: str(error) for account, error in failed.items()}
    return [result for result in results if not isinstance(result, BaseException)], reasons


class SubmitRefused(Exception):
    """The batch system understood a submission and refused it; the text is its reason."""

    def __init__(self, message: str, *, permanent: bool) -> None:
        super().__init__(message)
        self.permanent = permanent  # whether repeating it is hopeless


class BatchSystem(Protocol):
    """Slurm by commands, Slurm by REST, PBS …"""

    async def submit(self, order: Order) -> str:
        """Submit; return the job's id. SubmitRefused if it was refused; BackendUnavailable if
        nobody knows."""

    async def cancel(self, cancels: Sequence[Cancel]) -> Collection[str] | None:
        """Ask jobs to end, with as few commands as possible. What is gone already is no error.

        One that fails keeps no other from being asked. Return the ids of jobs that could not be
        asked because nothing is seen of them, where that can be told: they are not gone for having
        been asked.
        """

    async def jobs(self, users: Collection[str]) -> Listed:
        """List every job of these users that the batch system still shows, ended ones too if it
        shows them.

        One user who cannot be asked about keeps nobody else's jobs from being listed;
        BackendUnavailable if nobody can.
        """

    async def ended(self, ids: Collection[str], users: Collection[str]) -> Sequence[Job]:
        """Return what accounting knows of jobs that are listed no more; empty if there is no
        accounting."""
