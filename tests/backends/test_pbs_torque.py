"""Torque's dialect, with the real qsub, qstat and qdel of slurm-wlm-torque on a real Slurm: as far
as these wrappers go."""

from __future__ import annotations

import asyncio
import pathlib
import re
import shutil
import sys
from collections.abc import AsyncIterator, Iterator

import pytest

from gateway.backends.conformance import Conformance, Room
from gateway.backends.contract import (
    BackendUnavailable,
    Instance,
    Launch,
    Phase,
    Role,
    Started,
    StartFailed,
    Target,
)
from gateway.backends.pbs.backend import PbsBackend
from tests.parts import program
from tests.parts.slurm import INSTALL, Slurm, running

UID = "c" + "a" * 20
SLEEP = (sys.executable, "-c", "print('here', flush=True); import time; time.sleep(600)")


@pytest.fixture(scope="module")
def slurm() -> Iterator[Slurm]:
    """A real Slurm."""
    program("qsub", INSTALL)
    with running(accounting=False, rest=False) as made:
        yield made


async def opened(tmp_path: pathlib.Path) -> PbsBackend:
    """Return an open backend; its tag is that of the test's directory, so that no test sees the
    jobs of another."""
    backend = PbsBackend(
        root=str(tmp_path / "root"), dialect="torque", observe_interval_s=0.2, absent_grace_s=5.0
    )
    await backend.open(lambda observations: None)
    return backend


@pytest.fixture
async def backend(
    slurm: Slurm, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[PbsBackend]:
    """A backend that speaks to it as to Torque."""
    monkeypatch.setenv("SLURM_CONF", str(slurm.conf))
    made = await opened(tmp_path)
    yield made
    await made.close()
    slurm.command("scancel", "--state=PENDING,RUNNING", check=False)


def worker(number: int, argv: tuple[str, ...] = SLEEP, **fields: object) -> Launch:
    """Return the launch of a worker."""
    return Launch(Instance(UID, Role.WORKER, f"default-{number}"), "alice", argv, **fields)  # type: ignore[arg-type]


async def started(backend: PbsBackend, launches: list[Launch]) -> list[Target]:
    """Start, and return what was started."""
    outcomes = await backend.start(launches)
    assert all(isinstance(outcome, Started) for outcome in outcomes.values()), outcomes
    return [
        Target(instance, outcome.handle, "alice")
        for instance, outcome in outcomes.items()
        if isinstance(outcome, Started)
    ]


async def until(backend: PbsBackend, targets: list[Target], phase: Phase) -> None:
    """Look until all stand there: a real batch system tells of nothing by itself."""
    async with asyncio.timeout(60):
        while True:
            await backend.listing(0.0)
            seen = await backend.observations(targets)
            if len(seen) == len(targets) and all(one.phase is phase for one in seen.values()):
                return
            await asyncio.sleep(0.2)


async def test_workers_run_a_job_each_and_stop_and_keep_their_logs(
    backend: PbsBackend, slurm: Slurm
) -> None:
    targets = await started(backend, [worker(number) for number in range(3)])
    assert len({target.handle for target in targets}) == 3
    await until(backend, targets, Phase.RUNNING)
    assert await anext(backend.logs(targets[1], follow=True)) == "here\n"
    await backend.stop(targets[:2])
    await until(backend, targets[:2], Phase.GONE)
    await until(backend, targets[2:], Phase.RUNNING)
    assert "".join([piece async for piece in backend.logs(targets[1])]).startswith("here\n")
    await backend.stop(targets)
    await until(backend, targets, Phase.GONE)
    assert slurm.jobs() == []


async def test_a_second_start_adopts(backend: PbsBackend, tmp_path: pathlib.Path) -> None:
    before = await started(backend, [worker(0), worker(1)])
    again = await opened(tmp_path)
    assert sorted(
        target.handle for target in await started(again, [worker(0), worker(1)])
    ) == sorted(target.handle for target in before)
    assert len(await again.find()) == 2
    await again.close()


async def test_a_wait_has_its_place_and_a_refusal_sbatchs_words(backend: PbsBackend) -> None:
    (outcome,) = (await backend.start([worker(0, options={"queue": "nosuch"})])).values()
    assert isinstance(outcome, StartFailed)
    assert outcome.message.startswith("qsub: sbatch: error: invalid partition specified: nosuch")
    targets = await started(backend, [worker(1, options={"directives": ["-h"]})])
    await until(backend, targets, Phase.QUEUED)
    seen = await backend.observations(targets)
    # The place is counted among the jobs of all tests here, which end in their own time.
    assert re.fullmatch(
        r"waiting in queue p; position \d+ in the queue", seen[targets[0].instance].message
    )


async def test_a_controller_that_is_down_kills_nobody(backend: PbsBackend, slurm: Slurm) -> None:
    targets = await started(backend, [worker(0)])
    await until(backend, targets, Phase.RUNNING)
    slurm.stop_controller()
    try:
        with pytest.raises(BackendUnavailable, match="Problem loading jobs"):
            await backend.listing(0.0)
        with pytest.raises(BackendUnavailable, match="Unable to contact slurm controller"):
            await backend.start([worker(1)])
    finally:
        slurm.start_controller()
    await until(backend, targets, Phase.RUNNING)


async def test_scripts_are_laid_down_for_the_submission_only(
    backend: PbsBackend, tmp_path: pathlib.Path
) -> None:
    """They may hold secrets; the wrapper takes no script from standard input."""
    targets = await started(backend, [worker(0, files={"key.pem": b"s3cret"})])
    await until(backend, targets, Phase.RUNNING)
    assert not [path for path in (tmp_path / "root" / "scripts").rglob("*") if path.is_file()]


class TestConformance(Conformance):
    """The promise that every backend keeps, as far as the wrappers can tell: how a job ended they
    do not say."""

    @pytest.fixture
    async def room(
        self, slurm: Slurm, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
    ) -> AsyncIterator[Room]:
        monkeypatch.setenv("SLURM_CONF", str(slurm.conf))

        async def again() -> PbsBackend:
            return PbsBackend(
                root=str(tmp_path / "root"),
                dialect="torque",
                observe_interval_s=0.3,
                absent_grace_s=3.0,
            )

        async def stranger() -> PbsBackend:
            return PbsBackend(
                root=str(tmp_path / "another"),
                dialect="torque",
                observe_interval_s=0.3,
                absent_grace_s=3.0,
            )

        cannot = {
            "outage": "the controller is shared by the module's tests; test_slurm.py stops one"
        }
        made = Room(
            await again(),
            again=again,
            stranger=stranger,
            refused={"queue": "nosuch"},
            look_s=0.2,
            patience_s=60.0,
            cannot=cannot,
        )
        # the wrappers tell a cancelled job as ended (C) while Slurm is still at killing it
        made.lag_s = 10.0
        made.shown = lambda: slurm.command("scontrol", "show", "job", "--details")
        made.lose_files = lambda uid: shutil.rmtree(tmp_path / "root" / "logs" / uid)
        await made.open()
        yield made
        await made.close()

    async def test_a_failure_is_told_with_its_code_and_last_words(self, room: Room) -> None:
        program = (
            "import sys, time; time.sleep(0.3); print('no module named numpy',"
            " file=sys.stderr); sys.exit(3)"
        )
        targets = await room.start(room.launch(code=program))
        seen = (await room.until_gone(targets))[targets[0].instance]
        assert seen.exit_code is None
        assert "no module named numpy" in seen.message

    async def test_a_good_end_is_told_as_such(self, room: Room) -> None:
        targets = await room.start(room.launch("scheduler", code="import time; time.sleep(0.3)"))
        assert (await room.until_gone(targets))[targets[0].instance].exit_code is None
