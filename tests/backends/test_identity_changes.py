"""The administrator changes `identity` while clusters live: each goes on, and ends, as the account
that it was started as."""

from __future__ import annotations

import getpass
import pathlib
from collections.abc import Mapping, Sequence

import pytest

from gateway.backends.batch.commands import Answer
from gateway.backends.conformance import OTHER_UID, UID
from gateway.backends.contract import (
    BackendUnavailable,
    Instance,
    Launch,
    Observation,
    Role,
    Started,
    StartFailed,
    Target,
)
from gateway.backends.slurm.backend import SlurmBackend

ME = getpass.getuser()
SCHEDULER = Instance(UID, Role.SCHEDULER, "scheduler")


class Recorded(SlurmBackend):
    """Slurm that accepts everything and lists nothing; sudo may refuse."""

    refuses = False

    async def run(
        self,
        argv: Sequence[str],
        *,
        deadline_s: float,
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
    ) -> Answer:
        self.said = [*getattr(self, "said", []), list(argv)]
        if argv[0] == "sudo" and self.refuses:
            return Answer(1, "", "sudo: a password is required")
        words = [word for word in argv if pathlib.Path(word).name in PROGRAMS]
        program = words[-1]
        return Answer(0, PROGRAMS[pathlib.Path(program).name](argv), "")

    def commands(self, program: str) -> list[list[str]]:
        """Return every command in which a program was run."""
        return [argv for argv in self.said if any(program in word for word in argv[:9])]


def header(argv: Sequence[str]) -> str:
    """Return an empty listing."""
    form = next(word for word in argv if word.startswith("--Format="))
    return "ARRAY_JOB_ID" + form.partition(":")[2].partition(",")[0] + "\n"


PROGRAMS = {
    "sbatch": lambda argv: "77\n",
    "scancel": lambda argv: "",
    "squeue": header,
    "scontrol": lambda argv: "",
    "sacct": lambda argv: "",
    "launcher": lambda argv: "[]",
}


async def opened(tmp_path: pathlib.Path, identity: str) -> Recorded:
    """Return a backend that is open."""
    backend = Recorded(
        root=str(tmp_path / "root"),
        identity=identity,
        launcher="launcher",
        first_look_s=0.0,
        accounting=False,
        log_directory="" if identity == "never" else str(tmp_path / "logs" / "{uid}"),
    )
    backend.said = []

    def ignore(_: Sequence[Observation]) -> None:
        """Take what is told."""

    await backend.open(ignore)
    return backend


async def handle(backend: Recorded, instance: Instance, user: str = "games") -> str:
    """Return the handle of a job that was started."""
    outcome = (await backend.start([Launch(instance, user, ("true",))]))[instance]
    assert isinstance(outcome, Started)
    return outcome.handle


def as_whom(argv: Sequence[str]) -> str:
    """Return as which account a command ran."""
    return argv[argv.index("-u") + 1] if argv[0] == "sudo" else ME


@pytest.mark.parametrize(
    ("first", "then", "account"), [("service", "sudo", ME), ("sudo", "service", "games")]
)
async def test_a_cluster_is_stopped_as_whom_it_was_started(
    tmp_path: pathlib.Path, first: str, then: str, account: str
) -> None:
    """sudo was asked for the gateway's own account."""
    backend = await opened(tmp_path, first)
    job = await handle(backend, SCHEDULER)
    assert [as_whom(argv) for argv in backend.commands("sbatch")] == [account]
    await backend.close()
    backend = await opened(tmp_path, then)
    await backend.stop([Target(SCHEDULER, job, "games")])
    assert [as_whom(argv) for argv in backend.commands("scancel")] == [account]
    await backend.observations([Target(SCHEDULER, job, "games")])
    assert any(account in word for word in backend.commands("squeue")[-1])
    await backend.cleanup(UID)
    await backend.purge(UID)
    assert UID not in backend.owners
    await backend.close()


@pytest.mark.parametrize(
    ("first", "then", "account"), [("service", "sudo", ME), ("sudo", "service", "games")]
)
async def test_workers_of_a_living_cluster_run_as_its_scheduler_does(
    tmp_path: pathlib.Path, first: str, then: str, account: str
) -> None:
    backend = await opened(tmp_path, first)
    await handle(backend, SCHEDULER)
    await backend.close()
    backend = await opened(tmp_path, then)
    await handle(backend, Instance(UID, Role.WORKER, "default-0"))
    assert [as_whom(argv) for argv in backend.commands("sbatch")] == [account]
    await handle(backend, Instance(OTHER_UID, Role.SCHEDULER, "scheduler"))
    new = "games" if then == "sudo" else ME
    assert as_whom(backend.commands("sbatch")[-1]) == new
    await backend.close()


async def test_where_sudo_is_forbidden_meanwhile_it_says_so_each_time(
    tmp_path: pathlib.Path,
) -> None:
    backend = await opened(tmp_path, "sudo")
    job = await handle(backend, SCHEDULER)
    await backend.close()
    backend = await opened(tmp_path, "service")
    backend.refuses = True
    for _ in range(2):
        with pytest.raises(BackendUnavailable, match="sudoers does not let"):
            await backend.stop([Target(SCHEDULER, job, "games")])
    await backend.close()


async def test_no_user_is_the_gateways_own_account(tmp_path: pathlib.Path) -> None:
    """By sudo as that account a user could do whatever the gateway can."""
    backend = await opened(tmp_path, "sudo")
    outcome = (await backend.start([Launch(SCHEDULER, ME, ("true",))]))[SCHEDULER]
    assert isinstance(outcome, StartFailed)
    assert outcome.permanent
    assert backend.commands("sbatch") == []
    await backend.close()
