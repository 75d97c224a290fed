"""What a batch system loses sight of, hides, or will not tell of one user: nobody's cluster ends
for it, and nobody waits for another."""

from __future__ import annotations

import asyncio
import pathlib
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from gateway.backends.batch.commands import Answer
from gateway.backends.batch.identity import ServiceIdentity, SudoIdentity
from gateway.backends.batch.system import Cancel, Job
from gateway.backends.contract import (
    BackendUnavailable,
    Instance,
    Launch,
    Observation,
    Phase,
    Role,
    Target,
)
from gateway.backends.slurm.backend import SlurmBackend
from gateway.backends.slurm.commands import Programs, SlurmCommands
from gateway.backends.slurm.states import ACCOUNTING_FIELDS, hides_jobs, squeue_format
from tests.backends.pretend import PretendBackend, PretendSystem
from tests.waiting import comes

UID, OTHER = "c" + "a" * 20, "c" + "b" * 20
SCHEDULER = Instance(UID, Role.SCHEDULER, "scheduler")
SLEEPS = ("sleep", "60")


@asynccontextmanager
async def opened(
    tmp_path: pathlib.Path, system: PretendSystem, **settings: object
) -> AsyncIterator[PretendBackend]:
    """A backend over a pretended batch system."""
    given: dict[str, object] = {
        "tag": "dgw",
        "observe_interval_s": 0.1,
        "first_look_s": 0,
        **settings,
    }
    backend = PretendBackend(system, root=str(tmp_path / "root"), **given)
    await backend.open(lambda _: None)
    try:
        yield backend
    finally:
        await backend.close()
        await system.close()


async def test_accounting_that_shows_a_job_running_for_ever_does_not_keep_a_cluster_from_stopping(
    tmp_path: pathlib.Path,
) -> None:
    class Runaway(PretendSystem):
        async def ended(self, ids: Collection[str], users: Collection[str]) -> Sequence[Job]:
            return [Job("7", f"dgw-{UID}-s", next(iter(users)), Phase.RUNNING)]

    async with opened(tmp_path, Runaway(), absent_grace_s=0.3) as backend:
        target = Target(SCHEDULER, "7", "alice")
        assert await backend.observations([target]) == {}
        assert (await later(backend, target)).presumed
        await backend.stop([target])
        assert not (await later(backend, target)).presumed


async def later(backend: PretendBackend, target: Target) -> Observation:
    """Return what is told of a target by a listing that is asked for after its grace."""
    await asyncio.sleep(backend.absent_grace_s + 0.1)  # time is what is waited for
    await backend.listing(0.0)
    return (await backend.observations([target]))[target.instance]


async def test_a_look_that_waited_for_accounting_tells_nothing_that_a_newer_listing_has_overtaken(
    tmp_path: pathlib.Path,
) -> None:
    asked, answer = asyncio.Event(), asyncio.Event()

    class Slow(PretendSystem):
        async def ended(self, ids: Collection[str], users: Collection[str]) -> Sequence[Job]:
            asked.set()
            await answer.wait()
            return []

    system = Slow(full=True)
    async with opened(tmp_path, system, observe_interval_s=3600.0) as backend:
        outcome = (await backend.start([Launch(SCHEDULER, "alice", SLEEPS)]))[SCHEDULER]
        target = Target(SCHEDULER, outcome.handle)  # type: ignore[union-attr]
        await backend.listing(0.0)
        look = asyncio.ensure_future(
            backend.observations(
                [target, Target(Instance(OTHER, Role.SCHEDULER, "scheduler"), "99")]
            )
        )
        await asked.wait()  # it has seen the job wait
        system.full = False
        await comes(lambda: system.jobs_by_id["1"][0].phase is Phase.RUNNING)
        await backend.listing(0.0)
        answer.set()
        assert (await look)[SCHEDULER].phase is Phase.RUNNING


async def test_what_clusters_stage_in_one_directory_is_removed_one_by_one(
    tmp_path: pathlib.Path,
) -> None:
    stage = tmp_path / "shared"
    foreign = stage / "someone-elses.dat"
    await asyncio.to_thread(stage.mkdir)
    await asyncio.to_thread(foreign.write_text, "precious")
    system = PretendSystem(full=True)
    async with opened(tmp_path, system, staging_directory=str(stage)) as backend:
        launches = [
            Launch(
                Instance(uid, Role.SCHEDULER, "scheduler"), "alice", SLEEPS, files={"key.pem": b"x"}
            )
            for uid in (UID, OTHER)
        ]
        await backend.start(launches)
        await backend.cleanup(UID)
        left = sorted(path.name for path in stage.iterdir())
        assert left == [f"dgw-{OTHER}-s", "someone-elses.dat"]
        await backend.cleanup(OTHER)
        assert [path.name for path in stage.iterdir()] == ["someone-elses.dat"]


async def test_who_cannot_be_listed_is_neither_gone_nor_submitted_twice_and_holds_up_nobody(
    tmp_path: pathlib.Path,
) -> None:
    system = PretendSystem()
    async with opened(tmp_path, system, absent_grace_s=0.0) as backend:
        mine = ServiceIdentity().account("")
        outcome = (await backend.start([Launch(SCHEDULER, "alice", SLEEPS)]))[SCHEDULER]
        target = Target(SCHEDULER, outcome.handle)  # type: ignore[union-attr]
        await backend.listing(0.0)
        system.drop_answers = 1
        worker = Launch(Instance(UID, Role.WORKER, "default-0"), "alice", SLEEPS)
        with pytest.raises(BackendUnavailable, match="the answer was lost"):
            await backend.start([worker])
        system.untold = {mine}
        for _ in range(3):
            await backend.listing(0.0)
            assert await backend.observations([target]) == {}
        with pytest.raises(BackendUnavailable, match="the jobs of some cannot be listed"):
            await backend.start([worker])
        assert system.submissions == 2
        system.untold = set()
        await backend.start([worker])
        assert system.submissions == 2  # it was found


async def test_a_stop_that_nobody_answered_is_not_noted_as_asked(tmp_path: pathlib.Path) -> None:
    """Asked again at once it is asked again, and fails again: an outage is not told as over while
    it lasts."""
    system = PretendSystem()
    async with opened(tmp_path, system) as backend:
        outcome = (await backend.start([Launch(SCHEDULER, "alice", SLEEPS)]))[SCHEDULER]
        target = Target(SCHEDULER, outcome.handle, "alice")  # type: ignore[union-attr]
        system.answers = False
        for _ in range(3):
            with pytest.raises(BackendUnavailable, match="does not answer"):
                await backend.stop([target])
        system.answers = True
        await backend.stop([target])
        await backend.stop([target])
        # what was answered is not asked again so soon
        assert [cancel.id for cancel in system.cancels] == [target.handle]


async def test_a_slurm_that_answers_no_scancel_is_asked_again_and_fails_again(
    tmp_path: pathlib.Path,
) -> None:
    asked: list[str] = []

    async def run(
        argv: Sequence[str], *, deadline_s: float, stdin: bytes = b"", env: object = None
    ) -> Answer:
        asked.append(pathlib.PurePath(argv[0]).name)
        return Answer(
            1, "", "slurm_load_jobs error: Unable to contact slurm controller (connect failure)"
        )

    backend = SlurmBackend(root=str(tmp_path), tag="dgw", first_look_s=0.0)
    backend.run = run  # type: ignore[method-assign]
    await backend.open(lambda _: None)
    for _ in range(3):
        with pytest.raises(BackendUnavailable, match="Unable to contact slurm controller"):
            await backend.stop([Target(SCHEDULER, "7", "alice")])
    assert asked.count("scancel") == 3
    await backend.close()


# Slurm by its commands

HEADS = [
    "ARRAY_JOB_ID",
    "ARRAY_TASK_ID",
    "STATE",
    "EXIT_CODE",
    "REASON",
    "START_TIME",
    "PRIORITY",
    "USER",
    "PARTITION",
    "NAME",
]


class Site:
    """Commands of a Slurm, asked directly or by sudo."""

    def __init__(self, config: str = "") -> None:
        self.config = config
        self.asked: list[tuple[str, str, tuple[str, ...]]] = []  # as whom, what, of whom

    async def run(
        self, argv: Sequence[str], *, deadline_s: float, stdin: bytes = b"", env: object = None
    ) -> Answer:
        account, words = ("", list(argv)) if argv[0] != "sudo" else (argv[3], list(argv[8:]))
        users = tuple(
            next(
                (word.removeprefix("--user=") for word in words if word.startswith("--user=")), ""
            ).split(",")
        )
        self.asked.append((account, words[0], users))
        if "left" in (account, *users):
            said = "sudo: unknown user left" if account else "squeue: error: Invalid user: left"
            return Answer(1, "", said)
        if words[0] == "scontrol":
            return Answer(0, self.config, "")
        if words[0] == "sacct":
            mark = next(
                word.removeprefix("--delimiter=")
                for word in words
                if word.startswith("--delimiter=")
            )
            return Answer(0, mark.join(ACCOUNTING_FIELDS), "")
        if words[0] != "squeue":
            return Answer(0, "", "")
        mark = (
            next(word for word in words if word.startswith("--Format="))
            .partition(":")[2]
            .partition(",")[0]
        )
        assert f"--Format={squeue_format(mark)}" in words
        shown = [user for user in users if not hides_jobs(self.config) or user == account]
        rows = [
            ["7", "N/A", "RUNNING", "0", "None", "N/A", "1", user, "p", "name"] for user in shown
        ]
        return Answer(
            0, "\n".join("".join(cell + mark for cell in row) for row in (HEADS, *rows)), ""
        )

    def system(self) -> SlurmCommands:
        """Return Slurm as identity sudo has it."""
        return SlurmCommands(
            SudoIdentity("sudo", "launcher", self.run),
            Programs(positions=False),
            1.0,
            self.run,
            as_users=True,
        )


@pytest.mark.parametrize(
    ("config", "hidden"),
    [
        ("PrivateData             = jobs,usage\nX = 1", True),
        ("PrivateData = none\n", False),
        ("", False),
    ],
)
async def test_where_slurm_hides_jobs_each_user_is_asked_as_that_user(
    config: str, hidden: bool
) -> None:
    site = Site(f"AccountingStorageType = x\n{config}")
    system = site.system()
    for _ in range(2):
        listed = await system.jobs(["alice", "bob"])
        assert sorted(job.user for job in listed.jobs) == ["alice", "bob"]
        assert not listed.untold
    await system.ended(["7"], ["alice", "bob"])
    asked = sorted(
        (account, users) for account, command, users in site.asked if command == "squeue"
    )
    assert asked == sorted(
        [("alice", ("alice",)), ("bob", ("bob",))] * 2 if hidden else [("", ("alice", "bob"))] * 2
    )
    assert sorted(account for account, command, _ in site.asked if command == "sacct") == (
        ["alice", "bob"] if hidden else [""]
    )
    assert [account for account, command, _ in site.asked if command == "scontrol"] == [""]


@pytest.mark.parametrize("config", ["", "PrivateData = jobs"])
async def test_one_user_who_has_left_keeps_nobody_elses_jobs_from_being_listed_or_cancelled(
    config: str,
) -> None:
    site = Site(config)
    system = site.system()
    listed = await system.jobs(["alice", "left", "bob"])
    assert sorted(job.user for job in listed.jobs) == ["alice", "bob"]
    assert listed.untold.keys() == {"left"}
    with pytest.raises(BackendUnavailable, match="unknown user left"):
        await system.cancel([Cancel("1", "left"), Cancel("2", "alice"), Cancel("3", "bob")])
    assert {account for account, command, _ in site.asked if command == "scancel"} == {
        "left",
        "alice",
        "bob",
    }
    with pytest.raises(BackendUnavailable):
        await system.jobs(["left"])  # nobody could be asked about


async def test_one_user_without_a_token_keeps_nobody_elses_cluster_from_being_seen(
    tmp_path: pathlib.Path,
) -> None:
    async def jobs(_: web.Request) -> web.Response:
        job = {
            "job_id": 5,
            "name": f"dgw-{UID}-s",
            "user_name": "alice",
            "job_state": "RUNNING",
            "exit_code": 0,
        }
        return web.json_response({"jobs": [job]})

    app = web.Application()
    app.router.add_get("/slurm/v0.0.38/jobs", jobs)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    command = 'test "$1" != gone && echo a.b.c || { echo "no such user" >&2; exit 1; }'
    backend = SlurmBackend(
        root=str(tmp_path),
        tag="dgw",
        identity="user-token",
        rest_url=f"http://127.0.0.1:{runner.addresses[0][1]}",
        token_command=["sh", "-c", command, "token", "{user}"],
    )
    await backend.open(lambda _: None)
    for uid, user in ((UID, "alice"), (OTHER, "gone")):
        await backend._own(uid, user)
    lost = Target(Instance(OTHER, Role.SCHEDULER, "scheduler"), "6", "gone")
    seen = await backend.observations([Target(SCHEDULER, "5", "alice"), lost])
    assert {instance: one.phase for instance, one in seen.items()} == {SCHEDULER: Phase.RUNNING}
    await backend.close()
    await runner.cleanup()


def test_privacy_is_read_off_slurms_own_words() -> None:
    assert hides_jobs("PrivateData             = accounts,jobs,users\n")
    assert not hides_jobs("PrivateData = jobcomp\n")
    assert not hides_jobs("# PrivateData = jobs")
    assert not hides_jobs("")
