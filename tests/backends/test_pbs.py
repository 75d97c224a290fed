"""What the PBS backend does over the stand-in, whose jobs really run, and that it keeps the promise
of every backend."""

from __future__ import annotations

import asyncio
import pathlib
import random
import shutil
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from gateway.backends import conformance
from gateway.backends.conformance import Conformance
from gateway.backends.contract import Phase, StartFailed, Target
from gateway.backends.pbs.backend import PbsBackend
from tests.backends.pbs_room import OTHER, Room, replay, room, scheduler, slowly, worker
from tests.parts.pbs_cases import case
from tests.parts.pbs_replay import PbsReplay
from tests.parts.pbs_words import block, plain, printed, records

__all__ = ["replay", "room"]  # fixtures

# The main story


async def test_eight_workers_are_one_array_and_run_and_write_their_logs(room: Room) -> None:
    targets = await room.started([worker(number) for number in range(8)])
    (words,) = room.submissions()
    assert words[words.index("-J") + 1] == "0-7"
    await room.until(targets, Phase.RUNNING)
    assert await anext(room.backend.logs(targets[5], follow=True)) == "here\n"


async def test_a_single_worker_is_a_job_of_its_own(room: Room) -> None:
    targets = await room.started([worker(3)])
    assert "-J" not in room.submissions()[0]
    await room.until(targets, Phase.RUNNING)


async def test_scale_down_ends_those_that_were_meant_and_no_other(room: Room) -> None:
    targets = await room.started([worker(number) for number in range(8)])
    await room.until(targets, Phase.RUNNING)
    await room.backend.stop([targets[1], targets[2], targets[6]])
    gone = await room.until([targets[1], targets[2], targets[6]], Phase.GONE)
    assert {one.exit_code for one in gone.values()} == {143}
    assert all(
        one.phase is Phase.RUNNING
        for one in (await room.look([targets[n] for n in (0, 3, 4, 5, 7)])).values()
    )
    assert [call.argv for call in room.replay.commands("qdel")] == [
        ("1000[1-2].pbs-host", "1000[6].pbs-host")
    ]


@pytest.mark.parametrize(
    "meant",
    [range(0, 200, 3), sorted(random.Random(17).sample(range(200), 66))],
    ids=["every third", "scattered"],
)
async def test_scattered_parts_of_an_array_are_all_ended_within_three_looks(
    room: Room, meant: Sequence[int]
) -> None:
    """qdel's own client keeps two ranges of an array and drops the others in silence: the cases 901
    to 909."""
    room.replay.machine.scheduling = False
    targets = await room.started([worker(number) for number in range(200)])
    doomed = [targets[index] for index in meant]
    await room.backend.stop(doomed)
    for _ in range(3):
        seen = await room.look(doomed)
    assert {one.phase for one in seen.values()} == {Phase.GONE}
    assert len(seen) == len(doomed)
    left = await room.look([target for target in targets if target not in doomed])
    assert {one.phase for one in left.values()} == {Phase.QUEUED}


async def test_the_last_of_an_array_are_ended_by_one_word(room: Room) -> None:
    targets = await room.started([worker(number) for number in range(5)])
    await room.until(targets, Phase.RUNNING)
    await room.backend.stop(targets)
    await room.until(targets, Phase.GONE)
    assert [call.argv for call in room.replay.commands("qdel")] == [("1000[].pbs-host",)]


async def test_a_full_machine_is_waited_for_with_place_and_reason(room: Room) -> None:
    filler = await room.started([worker(number, uid=OTHER) for number in range(8)])
    await room.until(filler, Phase.RUNNING)
    waiting = await room.started([worker(0), worker(1)])
    seen = await room.until(waiting, Phase.QUEUED)
    assert (
        seen[waiting[1].instance].message
        == "Not Running: Not enough free nodes available; position 2 in the queue"
    )
    await room.backend.stop(filler)
    await room.until(waiting, Phase.RUNNING)


async def test_the_status_of_parts_outlives_the_deletion_of_their_array(room: Room) -> None:
    """The server writes the array's status over that of the parts that had ended before."""
    launches = [
        worker(0, (sys.executable, "-c", "raise SystemExit(7)")),
        worker(1, (sys.executable, "-c", "raise SystemExit(7)")),
    ]
    targets = await room.started([*launches])
    others = await room.started([worker(2), worker(3)])
    await room.until(targets, Phase.GONE)
    seen = await room.until(targets, Phase.GONE)
    assert {one.exit_code for one in seen.values()} == {7}
    await room.backend.stop(others)
    await room.until(others, Phase.GONE)
    assert {one.exit_code for one in (await room.look(targets)).values()} == {7}


async def test_one_part_that_ends_is_told_while_others_run_and_stays_told_after_their_deletion(
    room: Room,
) -> None:
    script = (
        "import os, time; time.sleep(0 if os.environ['PBS_ARRAY_INDEX'] == '0' else 600);"
        " raise SystemExit(7)"
    )
    targets = await room.started(
        [worker(number, (sys.executable, "-c", script)) for number in range(3)]
    )
    seen = await room.when(
        targets, lambda seen: any(one.phase is Phase.GONE for one in seen.values())
    )
    assert [one.exit_code for one in seen.values() if one.phase is Phase.GONE] == [7]
    await room.backend.stop(targets[1:])
    await room.until(targets, Phase.GONE)
    job, part = room.replay.find("1000[0].pbs-host")
    assert (job.deleted, part.status, part.comment) == (True, 1, "Subjob finished")
    assert (await room.look(targets))[targets[0].instance].exit_code == 7


async def test_a_worker_killed_for_memory_says_so(room: Room) -> None:
    (target,) = await room.started([worker(0)])
    await room.until([target], Phase.RUNNING)
    assert await anext(room.backend.logs(target, follow=True)) == "here\n"
    room.replay.machine.end(*room.replay.find(target.handle), -27, " and exceeded resource mem")
    seen = await room.until([target], Phase.GONE)
    assert seen[target.instance].message.startswith("killed for memory")
    assert "here" in seen[target.instance].message  # with the last lines of its log


async def test_a_requeued_worker_waits_and_comes_back(room: Room) -> None:
    targets = await room.started([worker(0), worker(1)])
    await room.until(targets, Phase.RUNNING)
    room.replay.machine.scheduling = False
    room.replay.machine.requeue(*room.replay.find("1000[1].pbs-host"))
    await room.when(targets, lambda seen: seen[targets[1].instance].phase is Phase.QUEUED)
    with room.replay.machine.lock:
        room.replay.machine.scheduling = True
        room.replay.machine.schedule()
    await room.until(targets, Phase.RUNNING)


async def test_what_a_server_puts_back_that_is_started_anew_waits_with_that_reason_and_comes_back(
    room: Room,
) -> None:
    """Killed within a second of a job's start it puts back even what must not be rerun: the cases
    920 to 922."""
    targets = await room.started([scheduler(), worker(0), worker(1)]) + await room.started(
        [worker(2)]
    )
    await room.until(targets, Phase.RUNNING)
    room.replay.machine.restart_while_starting(*room.replay.submitted())
    seen = await room.look(targets)
    assert {one.phase for one in seen.values()} == {Phase.QUEUED}
    assert seen[targets[0].instance].message.startswith(
        "waiting in queue workq; it had been started and was put back into the queue; pos"
    )
    # it is not submitted anew
    assert [target.handle for target in await room.started([scheduler()])] == [targets[0].handle]
    with room.replay.machine.lock:
        room.replay.machine.scheduling = True
        room.replay.machine.schedule()
    await room.until(targets, Phase.RUNNING)


async def test_a_reason_that_ends_with_a_full_stop_has_one_mark_behind_it(room: Room) -> None:
    (target,) = await room.started([worker(0, options={"queue": "stopped"})])
    seen = await room.until([target], Phase.QUEUED)
    assert (
        seen[target.instance].message == "Not Running: Queue not started; position 1 in the queue"
    )


async def test_a_node_that_cannot_write_the_log_runs_the_job_all_the_same(
    room: Room, tmp_path: pathlib.Path
) -> None:
    room.replay.machine.scheduling = False
    (target,) = await room.started([worker(0)])
    shutil.rmtree(tmp_path / "root" / "logs")
    with room.replay.machine.lock:
        room.replay.machine.scheduling = True
        room.replay.machine.schedule()
    await room.until([target], Phase.RUNNING)
    process = room.replay.find(target.handle)[1].process
    assert process is not None
    assert await asyncio.to_thread(process.poll) is None
    room.backend.log_directory = ""
    await room.until(await room.started([worker(1)]), Phase.RUNNING)


async def test_a_walltime_and_a_queue_of_the_clusters_own_go_with_it(room: Room) -> None:
    await room.started([worker(0, options={"queue": "long", "walltime": "01:00:00"})])
    assert " ".join(room.submissions()[0]).count("-q long") == 1
    assert "walltime=01:00:00" in room.submissions()[0]


async def test_a_scheduler_without_a_walltime_takes_its_queues_own_maximum(room: Room) -> None:
    """168 hours would be refused by every short queue, and its default may be too short for a
    cluster."""
    launch = replace(scheduler(), options={"queue": "short"})
    await room.started([launch])
    await room.started([replace(scheduler(OTHER), options={"queue": "short"})])
    assert [" ".join(words).count("walltime=01:00:00") for words in room.submissions()] == [1, 1]
    # it is remembered
    assert len([call for call in room.replay.commands("qstat") if "-Q" in call.argv]) == 1
    # a worker has what was given for workers, here the queue's default
    await room.started([worker(0, options={"queue": "short"})])
    assert "walltime" not in " ".join(room.submissions()[-1])
    given = {"queue": "short", "resource_list": ["walltime=00:10:00", "select=1"]}
    await room.started([replace(scheduler("c" + "e" * 20), options=given)])
    assert " ".join(room.submissions()[-1]).count("walltime=") == 1
    await room.started([scheduler("c" + "f" * 20)])  # the server's default queue, which sets none
    assert "walltime" not in " ".join(room.submissions()[-1])


async def test_setup_lines_run_first_and_secrets_are_in_no_argument_and_no_variable(
    room: Room, tmp_path: pathlib.Path
) -> None:
    room.backend.setup = ["export GREETING=hello"]
    show = (
        sys.executable,
        "-c",
        "import os; print(os.environ['GREETING'], open(os.environ['KEY']).read(),"
        " oct(os.stat(os.environ['KEY']).st_mode))",
    )
    (target,) = await room.started(
        [worker(0, show, env={"KEY": "{directory}/key.pem"}, files={"key.pem": b"s3cret"})]
    )
    await room.until([target], Phase.GONE)
    assert (
        "".join([piece async for piece in room.backend.logs(target)]) == "hello s3cret 0o100600\n"
    )
    for call in room.replay.calls:
        assert "s3cret" not in " ".join(call.argv)
        assert "s3cret" not in " ".join(call.environment.values())
    job = room.replay.machine.jobs[1000]
    assert "s3cret" not in str(records(job, True))


async def test_a_thousand_workers_are_few_commands_and_the_loop_never_stands_still(
    room: Room,
) -> None:
    room.replay.machine.scheduling = False
    room.replay.delays_s = {"qsub": 0.5, "qstat": 0.5}
    targets: list[Target] = []

    async def scale() -> None:
        targets.extend(await room.started([worker(number) for number in range(1000)]))
        assert len(await room.look(targets)) == 1000

    stall_s = await slowly(scale)
    assert len(room.replay.calls) <= 5
    assert len({target.handle for target in targets}) == 1000
    assert stall_s < 0.5  # measured elsewhere; here it is only to be no whole listing's reading
    room.replay.delays_s = {}
    await room.backend.stop(targets)
    await room.until(targets, Phase.GONE)
    assert len(room.replay.commands("qdel")) == 1


# Refusals


@pytest.mark.parametrize(
    ("options", "words", "permanent"),
    [
        ({"queue": "nosuch"}, "qsub: Unknown queue", True),
        ({"queue": "closed"}, "qsub: Queue is not enabled", False),
        ({"resource_list": ["select=1:foo=1"]}, "qsub: Unknown resource: foo", True),
        (
            {"walltime": "soon"},
            "qsub: Illegal attribute or resource value Resource_List.walltime",
            True,
        ),
        ({"directives": ["-Y"]}, "qsub: invalid option -- 'Y'", True),
        (
            {"queue": "short", "walltime": "168:00:00"},
            "qsub: Job violates queue and/or server resource limits; asked for: "
            "-q short -l select=1:ncpus=1:mem=2048mb -l walltime=168:00:00",
            True,
        ),
        ({"queue": "a;b"}, "queue: 'a;b' has characters other than", True),
    ],
)
async def test_a_refusal_is_told_in_pbss_words(
    room: Room, options: dict[str, object], words: str, permanent: bool
) -> None:
    (outcome,) = (await room.backend.start([worker(0, options=options)])).values()
    assert isinstance(outcome, StartFailed)
    assert outcome.message.startswith(words)
    assert outcome.permanent is permanent


async def test_an_array_that_is_too_large_names_the_option(room: Room) -> None:
    room.replay.max_array_size = 3
    outcomes = await room.backend.start([worker(number) for number in range(4)])
    assert {
        outcome.message for outcome in outcomes.values() if isinstance(outcome, StartFailed)
    } == {
        "qsub: Array job exceeds server or queue size limit; c.PbsBackend.max_array_size says how"
        " large arrays are made"
    }


def test_the_stand_in_prints_as_was_recorded(tmp_path: pathlib.Path) -> None:
    told = case("225-qstat-all-users-as-alice")
    assert printed([block(*item) for item in told.jobs.items()], 1795466253) == told.out
    assert plain("38.pbs-host", told.jobs["38.pbs-host"]) == case("229-qstat-f-w-plain").out


class TestConformance(Conformance):
    """The promise that every backend keeps, over the stand-in."""

    @pytest.fixture
    async def room(
        self, tmp_path: pathlib.Path, replay: PbsReplay
    ) -> AsyncIterator[conformance.Room]:
        async def again() -> PbsBackend:
            return PbsBackend(
                root=str(tmp_path / "root"),
                commands_directory=str(replay.bin),
                observe_interval_s=0.2,
                absent_grace_s=2.0,
            )

        @asynccontextmanager
        async def outage() -> AsyncIterator[None]:
            replay.crashed = True
            try:
                yield
            finally:
                replay.restart()

        async def stranger() -> PbsBackend:
            root = str(tmp_path / "another")
            return PbsBackend(
                root=root,
                commands_directory=str(replay.bin),
                observe_interval_s=0.2,
                absent_grace_s=2.0,
            )

        made = conformance.Room(
            await again(),
            again=again,
            stranger=stranger,
            refused={"queue": "nosuch"},
            outage=outage,
            shown=replay.shown,
        )
        made.lose_files = lambda uid: shutil.rmtree(tmp_path / "root" / "logs" / uid)
        await made.open()
        yield made
        await made.close()
        assert not any(
            len(call.argv) > 1 and "[]" in " ".join(call.argv) for call in replay.commands("qdel")
        )
