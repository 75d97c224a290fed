"""The PBS backend over the stand-in: jobs really run, and commands fail in every way that was recorded, and some more."""

from __future__ import annotations

import asyncio
import getpass
import pathlib
import shutil
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager

import pytest

from gateway.backends import conformance
from gateway.backends.batch.identity import ServiceIdentity
from gateway.backends.conformance import Conformance
from gateway.backends.contract import BackendUnavailable, Instance, Launch, Observation, Phase, Role, Started, StartFailed, Target
from gateway.backends.pbs import PbsBackend
from tests.parts.pbs_cases import case
from tests.parts.pbs_replay import PbsReplay, block, plain, records

UID, OTHER = "c" + "a" * 20, "c" + "b" * 20
SLEEP = (sys.executable, "-c", "print('here', flush=True); import time; time.sleep(600)")


class Room:
    """A backend on a stand-in, and what it pushed."""

    def __init__(self, directory: pathlib.Path, replay: PbsReplay, **traits: object) -> None:
        self.replay = replay
        self.directory = directory
        usual = {"tag": "dgw", "observe_interval_s": 0.1, "absent_grace_s": 60.0, "commands_directory": str(replay.bin)}
        self.backend = PbsBackend(root=str(directory / "root"), **{**usual, **traits})
        self.pushed: list[Observation] = []

    async def open(self) -> Room:
        """Open the backend."""
        await self.backend.open(self.pushed.extend)
        return self

    async def started(self, launches: Sequence[Launch]) -> list[Target]:
        """Start, and return what was started."""
        outcomes = await self.backend.start(launches)
        assert all(isinstance(outcome, Started) for outcome in outcomes.values()), outcomes
        return [Target(instance, outcome.handle, "alice") for instance, outcome in outcomes.items() if isinstance(outcome, Started)]

    async def look(self, targets: Sequence[Target]) -> Mapping[Instance, Observation]:
        """Look anew."""
        await self.backend.listing(0.0)
        return await self.backend.observations(targets)

    async def until(self, targets: Sequence[Target], phase: Phase) -> Mapping[Instance, Observation]:
        """Wait until all stand there."""
        return await self.when(targets, lambda seen: len(seen) == len(targets) and all(one.phase is phase for one in seen.values()))

    async def when(
        self, targets: Sequence[Target], holds: Callable[[Mapping[Instance, Observation]], bool]
    ) -> Mapping[Instance, Observation]:
        """Wait until something holds of what is observed."""
        async with asyncio.timeout(60):
            while not holds(seen := await self.look(targets)):
                await self.change()
        return seen

    async def change(self) -> None:
        """Wait until the machine has something new to tell, or 0.2 s: a real one would not tell."""
        await asyncio.to_thread(self.replay.machine.wait_change)

    def submissions(self) -> list[tuple[str, ...]]:
        """Return the words of every qsub."""
        return [call.argv for call in self.replay.commands("qsub")]


def worker(number: int, argv: tuple[str, ...] = SLEEP, uid: str = UID, **fields: object) -> Launch:
    """Return the launch of a worker."""
    return Launch(Instance(uid, Role.WORKER, f"default-{number}"), "alice", argv, **fields)  # type: ignore[arg-type]


def scheduler(uid: str = UID, epoch: int = 0) -> Launch:
    """Return the launch of a scheduler."""
    return Launch(Instance(uid, Role.SCHEDULER, "scheduler", epoch), "alice", SLEEP)


@pytest.fixture
def replay(tmp_path: pathlib.Path) -> Iterator[PbsReplay]:
    """A stand-in for PBS."""
    made = PbsReplay(tmp_path / "pbs")
    yield made
    made.close()


@pytest.fixture
async def room(tmp_path: pathlib.Path, replay: PbsReplay) -> AsyncIterator[Room]:
    """A backend on it."""
    made = await Room(tmp_path, replay).open()
    yield made
    await made.backend.close()


async def slowly(call: Callable[[], Awaitable[object]]) -> float:
    """Return for how long the event loop stood still at most while something was done."""
    longest, running = 0.0, True

    async def tick() -> None:
        nonlocal longest
        last = time.perf_counter()
        while running:
            await asyncio.sleep(0.001)
            now = time.perf_counter()
            longest, last = max(longest, now - last), now

    ticking = asyncio.create_task(tick())
    await call()
    running = False
    await ticking
    return longest


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
    assert all(one.phase is Phase.RUNNING for one in (await room.look([targets[n] for n in (0, 3, 4, 5, 7)])).values())
    assert [call.argv for call in room.replay.commands("qdel")] == [("1000[1-2].pbs-host", "1000[6].pbs-host")]


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
    assert seen[waiting[1].instance].message == "Not Running: Not enough free nodes available; position 2 in the queue"
    await room.backend.stop(filler)
    await room.until(waiting, Phase.RUNNING)


async def test_the_status_of_parts_outlives_the_deletion_of_their_array(room: Room) -> None:
    """The server writes the array's status over that of the parts that had ended before."""
    launches = [worker(0, (sys.executable, "-c", "raise SystemExit(7)")), worker(1, (sys.executable, "-c", "raise SystemExit(7)"))]
    targets = await room.started([*launches])
    others = await room.started([worker(2), worker(3)])
    await room.until(targets, Phase.GONE)
    seen = await room.until(targets, Phase.GONE)
    assert {one.exit_code for one in seen.values()} == {7}
    await room.backend.stop(others)
    await room.until(others, Phase.GONE)
    assert {one.exit_code for one in (await room.look(targets)).values()} == {7}


async def test_one_part_that_ends_is_told_while_others_run_and_stays_told_after_their_deletion(room: Room) -> None:
    script = "import os, time; time.sleep(0 if os.environ['PBS_ARRAY_INDEX'] == '0' else 600); raise SystemExit(7)"
    targets = await room.started([worker(number, (sys.executable, "-c", script)) for number in range(3)])
    seen = await room.when(targets, lambda seen: any(one.phase is Phase.GONE for one in seen.values()))
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


async def test_a_node_that_cannot_write_the_log_runs_the_job_all_the_same(room: Room, tmp_path: pathlib.Path) -> None:
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


async def test_setup_lines_run_first_and_secrets_are_in_no_argument_and_no_variable(room: Room, tmp_path: pathlib.Path) -> None:
    room.backend.setup = ["export GREETING=hello"]
    show = (
        sys.executable,
        "-c",
        "import os; print(os.environ['GREETING'], open(os.environ['KEY']).read(), oct(os.stat(os.environ['KEY']).st_mode))",
    )
    (target,) = await room.started([worker(0, show, env={"KEY": "{directory}/key.pem"}, files={"key.pem": b"s3cret"})])
    await room.until([target], Phase.GONE)
    assert "".join([piece async for piece in room.backend.logs(target)]) == "hello s3cret 0o100600\n"
    for call in room.replay.calls:
        assert "s3cret" not in " ".join(call.argv)
        assert "s3cret" not in " ".join(call.environment.values())
    job = room.replay.machine.jobs[1000]
    assert "s3cret" not in str(records(job, True))


async def test_a_thousand_workers_are_few_commands_and_the_loop_never_stands_still(room: Room) -> None:
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
        ({"walltime": "soon"}, "qsub: Illegal attribute or resource value Resource_List.walltime", True),
        ({"directives": ["-Y"]}, "qsub: invalid option -- 'Y'", True),
        ({"queue": "a;b"}, "queue: 'a;b' has characters other than", True),
    ],
)
async def test_a_refusal_is_told_in_pbss_words(room: Room, options: dict[str, object], words: str, permanent: bool) -> None:
    (outcome,) = (await room.backend.start([worker(0, options=options)])).values()
    assert isinstance(outcome, StartFailed)
    assert outcome.message.startswith(words)
    assert outcome.permanent is permanent


async def test_an_array_that_is_too_large_names_the_option(room: Room) -> None:
    room.replay.max_array_size = 3
    outcomes = await room.backend.start([worker(number) for number in range(4)])
    assert {outcome.message for outcome in outcomes.values() if isinstance(outcome, StartFailed)} == {
        "qsub: Array job exceeds server or queue size limit; c.PbsBackend.max_array_size says how large arrays are made"
    }


# Nothing lost


async def test_killed_between_submission_and_record_a_job_is_found_by_its_name(room: Room, tmp_path: pathlib.Path) -> None:
    before = await room.started([scheduler(), *(worker(number) for number in range(4))])
    again = await Room(tmp_path, room.replay).open()
    after = await again.started([scheduler(), *(worker(number) for number in range(4))])
    assert sorted(target.handle for target in after) == sorted(target.handle for target in before)
    assert len(again.submissions()) == 2  # those of before
    assert {one.instance for one in await again.backend.find()} == {target.instance for target in before}
    await again.backend.close()


@pytest.mark.parametrize("fault", ["losing", "hanging"])
async def test_a_submission_that_was_never_answered_is_neither_lost_nor_doubled(room: Room, fault: str) -> None:
    room.backend.system.timeout_s = 1.0  # type: ignore[attr-defined]
    getattr(room.replay, fault).add("qsub")
    with pytest.raises(BackendUnavailable, match="qsub did not answer within 1 s"):
        await room.backend.start([worker(number) for number in range(3)])
    getattr(room.replay, fault).clear()
    room.backend.system.timeout_s = 20.0  # type: ignore[attr-defined]
    targets = await room.started([worker(number) for number in range(3)])
    await room.until(targets, Phase.RUNNING)
    assert len(room.replay.submitted()) == 1


async def test_doubled_jobs_are_seen_and_the_younger_is_ended(room: Room) -> None:
    (target,) = await room.started([scheduler()])
    await room.until([target], Phase.RUNNING)
    call = room.replay.commands("qsub")[0]
    asked = {"argv": call.argv, "stdin": call.stdin, "cwd": "/", "uid": call.uid}
    with room.replay.machine.lock:
        owner = room.replay.machine.jobs[1000].owner
        room.replay._qsub(call.argv, asked, owner)
    async with asyncio.timeout(30):
        while len(room.replay.submitted()) > 1:
            await room.look([target])
            await room.change()
    assert [job.number for job in room.replay.submitted()] == [1000]
    assert (await room.look([target]))[target.instance].handle == target.handle


async def test_cancel_works_with_every_directory_gone(room: Room, tmp_path: pathlib.Path) -> None:
    targets = await room.started([scheduler(), worker(0), worker(1)])
    await room.until(targets, Phase.RUNNING)
    shutil.rmtree(tmp_path / "root")
    await room.backend.stop(targets)
    await room.until(targets, Phase.GONE)


async def test_what_nobody_knows_is_no_error_to_stop_and_names_no_unknown_job(room: Room) -> None:
    (target,) = await room.started([scheduler()])
    await room.until([target], Phase.RUNNING)
    unknown = [
        Target(Instance(UID, Role.WORKER, f"default-{n}"), handle, "alice")
        for n, handle in enumerate(["77.pbs-host", "78[].pbs-host/3", ""])
    ]
    await room.backend.stop([*unknown, target])
    await room.until([target], Phase.GONE)
    assert [call.argv for call in room.replay.commands("qdel")] == [("1000.pbs-host",)]
    assert not room.replay.crashed


async def test_many_clusters_that_stop_at_once_never_crash_the_server(room: Room) -> None:
    """Jobs and arrays, some ended meanwhile, with and without a history."""
    for history in (True, False):
        room.replay.machine.history = history
        room.backend.system._facts_at = float("-inf")  # type: ignore[attr-defined]
        short = (sys.executable, "-c", "pass")
        uids = ["c" + letter * 20 for letter in "efgh"]
        launches = [scheduler(uid) for uid in uids] + [worker(n, short if n % 2 else SLEEP, uid) for uid in uids for n in range(2)]
        targets = await room.started(launches)
        await room.backend.stop(targets)
        async with asyncio.timeout(60):
            while room.replay.submitted():
                await room.change()
        assert not room.replay.crashed
        await room.backend.close()
        await room.open()


# Absent is not gone


async def test_what_the_history_knows_to_have_ended_is_gone_at_once(room: Room) -> None:
    (target,) = await room.started([worker(0, (sys.executable, "-c", "raise SystemExit(3)"))])
    seen = await room.until([target], Phase.GONE)
    assert seen[target.instance].exit_code == 3
    assert room.replay.commands("qstat")[-1].argv == ("-x", "-t", "-f", "-F", "json", "1000.pbs-host")


async def test_without_a_history_the_absent_are_gone_only_after_a_while(room: Room) -> None:
    room.replay.machine.history = False
    room.backend.ledger.absent_grace_s = 1.0
    (target,) = await room.started([worker(0, (sys.executable, "-c", "raise SystemExit(3)"))])
    room.replay.machine.wait_for(lambda: not room.replay.machine.jobs)
    first = asyncio.get_running_loop().time()
    assert await room.look([target]) == {}
    seen = await room.until([target], Phase.GONE)
    assert asyncio.get_running_loop().time() - first >= 1.0
    assert seen[target.instance].exit_code is None
    assert "-x" not in [word for call in room.replay.commands("qstat") for word in call.argv]  # it would answer as if no job ran


async def test_an_empty_answer_for_a_while_ends_nothing(room: Room) -> None:
    """Such as of a server whose query_other_jobs was turned off, or a secondary server that knows nothing yet."""
    targets = await room.started([scheduler(), worker(0), worker(1)])
    await room.until(targets, Phase.RUNNING)
    room.replay.fixed["qstat"] = (0, case("651-qstat-no-jobs").out, "")
    for _ in range(3):
        assert await room.look(targets) == {}
    room.replay.fixed.clear()
    await room.until(targets, Phase.RUNNING)


async def test_what_was_deleted_is_gone_when_it_is_listed_no_more(room: Room) -> None:
    """By default servers keep no history: waiting for long would make every stop a long one."""
    room.replay.machine.history = False
    targets = await room.started([scheduler(), worker(0), worker(1)])
    await room.until(targets, Phase.RUNNING)
    await room.backend.stop(targets)
    began = asyncio.get_running_loop().time()
    await room.until(targets, Phase.GONE)
    assert asyncio.get_running_loop().time() - began < 30


async def test_what_could_not_be_deleted_for_nothing_was_listed_is_not_gone(room: Room) -> None:
    targets = await room.started([scheduler(), worker(0), worker(1)])
    await room.until(targets, Phase.RUNNING)
    room.replay.fixed["qstat"] = (0, case("651-qstat-no-jobs").out, "")
    await room.backend.stop(targets)
    assert await room.look(targets) == {}
    room.replay.fixed.clear()
    await room.until(targets, Phase.RUNNING)
    await room.backend.stop(targets)
    await room.until(targets, Phase.GONE)


async def test_where_users_see_their_own_jobs_only_each_user_asks(room: Room) -> None:
    asked: list[tuple[str, str]] = []

    class Recording(ServiceIdentity):
        def words(self, account: str, argv: Sequence[str]) -> list[str]:
            asked.append((account, pathlib.PurePath(argv[0]).name))
            return list(argv)

    room.backend.system.who = Recording()  # type: ignore[attr-defined]
    targets = await room.started([worker(0), worker(1)])
    await room.until(targets, Phase.RUNNING)
    assert {command for _, command in asked} == {"qsub"}  # one look shows everybody's
    room.backend.system._facts_at = float("-inf")  # type: ignore[attr-defined]
    room.replay.canned["qstat"] = [(0, '{"Server":{"h":{"query_other_jobs":"False"}}}', "")]
    await room.until(targets, Phase.RUNNING)
    assert (getpass.getuser(), "qstat") in asked


async def test_a_server_that_does_not_tell_its_set_up_is_asked_for_no_history(room: Room) -> None:
    room.replay.canned["qstat"] = [(159, "", "qstat: Unauthorized Request\n")]
    targets = await room.started([worker(0), worker(1)])
    await room.until(targets, Phase.RUNNING)
    await room.backend.stop(targets)
    await room.until(targets, Phase.GONE)
    assert not [call for call in room.replay.commands("qstat") if "-x" in call.argv]


async def test_where_everybodys_parts_are_too_many_ours_are_asked_for(tmp_path: pathlib.Path, replay: PbsReplay) -> None:
    room = await Room(tmp_path, replay, arrays_apart=True).open()
    targets = await room.started([worker(number) for number in range(3)]) + await room.started([scheduler()])
    await room.until(targets, Phase.RUNNING)
    assert [call.argv for call in replay.commands("qstat")][-2:] == [("-f", "-F", "json"), ("-t", "-f", "-F", "json", "1000[].pbs-host")]
    await room.backend.stop([targets[1], targets[3]])
    await room.until([targets[1], targets[3]], Phase.GONE)
    await room.backend.close()


# Faults


async def test_one_users_job_name_hides_nobodys_job(room: Room) -> None:
    targets = await room.started([worker(0), worker(1)])
    await room.until(targets, Phase.RUNNING)
    for name in ("371-json-name-inf", "379-json-account-backslash", "304-json-v-backslash-at-end", "381-json-project-utf8"):
        room.replay.foreign += case(name).blocks
    await room.until(targets, Phase.RUNNING)
    await room.backend.stop(targets)
    await room.until(targets, Phase.GONE)


async def test_json_of_an_unknown_layout_is_asked_for_as_text(room: Room) -> None:
    targets = await room.started([worker(0), worker(1)])
    await room.until(targets, Phase.RUNNING)
    room.replay.canned["qstat"] = [(0, case("371-json-name-inf").out.replace("    ", "  "), "")]
    assert {one.phase for one in (await room.look(targets)).values()} == {Phase.RUNNING}
    assert ("-t", "-f") in [call.argv for call in room.replay.commands("qstat")]


async def test_a_job_that_pretends_to_be_another_changes_nothing(room: Room) -> None:
    """A user's variables are printed as they are named: here one that ends another's job, and one that doubles it."""
    (target,) = await room.started([scheduler()])
    await room.until([target], Phase.RUNNING)
    ((identity, record),) = records(room.replay.machine.jobs[1000], False)
    room.replay.foreign = [block(identity, {**record, "job_state": "F", "Exit_status": 1}), block("7.pbs-host", record)]
    for _ in range(3):
        seen = (await room.look([target]))[target.instance]
        assert (seen.phase, seen.handle) == (Phase.RUNNING, target.handle)
    assert room.replay.commands("qdel") == []


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        ((690, "", ""), "code 255: Connection refused; qstat: cannot connect to server"),
        ((0, "", ""), "qstat said nothing"),
        ((0, "Segmentation fault\n", ""), "Segmentation fault"),
        ((0, case("225-qstat-all-users-as-alice").out[:2000], ""), "no answer of qstat"),
        ((1, case("651-qstat-no-jobs").out, "qstat: Ungültiges Argument\n"), "code 1: qstat: Ungültiges Argument"),
        ((139, "", ""), "code 139"),
        ((0, "\x00\xff" * 1000, ""), "no answer of qstat"),
    ],
)
async def test_an_outage_is_told_in_words_and_outlived(room: Room, reply: tuple[int, str, str], words: str) -> None:
    targets = await room.started([worker(0), worker(1)])
    await room.until(targets, Phase.RUNNING)
    down = case("690-qstat-server-down")
    room.replay.fixed["qstat"] = (255, down.out, down.err) if reply[0] == 690 else reply
    with pytest.raises(BackendUnavailable, match=words):
        await room.look(targets)
    room.replay.fixed.clear()
    await room.until(targets, Phase.RUNNING)


async def test_a_crashed_server_loses_nothing(room: Room) -> None:
    targets = await room.started([worker(0), worker(1)])
    await room.until(targets, Phase.RUNNING)
    room.replay.crashed = True
    for call in (room.look(targets), room.backend.stop(targets), room.backend.start([scheduler()])):
        with pytest.raises(BackendUnavailable, match="Connection refused"):
            await call
    room.replay.restart()
    await room.until(targets, Phase.RUNNING)
    more = await room.started([scheduler()])
    assert more[0].handle == "2000.pbs-host"


async def test_a_server_that_hangs_is_given_up_in_time_and_the_loop_goes_on(room: Room) -> None:
    targets = await room.started([worker(0), worker(1)])
    await room.until(targets, Phase.RUNNING)
    room.backend.system.timeout_s = 1.0  # type: ignore[attr-defined]
    with room.replay.hangs("qstat", "qdel"):

        async def wait() -> None:
            with pytest.raises(BackendUnavailable, match="qstat did not answer within 1 s"):
                await room.look(targets)

        assert await slowly(wait) < 0.5
    room.backend.system.timeout_s = 20.0  # type: ignore[attr-defined]
    await room.until(targets, Phase.RUNNING)


async def test_a_missing_command_is_named(tmp_path: pathlib.Path, replay: PbsReplay) -> None:
    room = await Room(tmp_path, replay, commands_directory=str(tmp_path / "nowhere")).open()
    with pytest.raises(BackendUnavailable, match="nowhere/qstat cannot be run: No such file or directory"):
        await room.backend.start([scheduler()])
    await room.backend.close()


async def test_commands_speak_no_other_language(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    monkeypatch.setenv("LANGUAGE", "de")
    await room.started([scheduler()])
    assert {(call.environment["LC_ALL"], call.environment.get("LANGUAGE")) for call in room.replay.calls} == {("C", None)}


async def test_a_site_may_print_words_of_its_own_before_the_identifier(room: Room) -> None:
    room.replay.canned["qsub"] = [(0, "Welcome to the machine room.\nYour project has 12 hours left.\n1234.pbs-host\n", "")]
    (target,) = await room.started([scheduler()])
    assert target.handle == "1234.pbs-host"
    room.replay.canned["qsub"] = [(0, "ok\n", "")]
    with pytest.raises(BackendUnavailable, match="told no job's identifier: ok"):
        await room.backend.start([scheduler(OTHER)])


async def test_a_refused_deletion_is_told(room: Room) -> None:
    (target,) = await room.started([scheduler()])
    await room.until([target], Phase.RUNNING)
    refused = case("507-qdel-other-users")
    room.replay.canned["qdel"] = [(159, refused.out, refused.err)]
    with pytest.raises(BackendUnavailable, match="qdel failed with code 159: qdel: Unauthorized Request"):
        await room.backend.stop([target])


def test_the_stand_in_prints_as_was_recorded(tmp_path: pathlib.Path) -> None:
    from tests.parts.pbs_replay import printed

    told = case("225-qstat-all-users-as-alice")
    assert printed([block(*item) for item in told.jobs.items()], 1795466253) == told.out
    assert plain("38.pbs-host", told.jobs["38.pbs-host"]) == case("229-qstat-f-w-plain").out


class TestConformance(Conformance):
    """The promise that every backend keeps, over the stand-in."""

    @pytest.fixture
    async def room(self, tmp_path: pathlib.Path, replay: PbsReplay) -> AsyncIterator[conformance.Room]:  # type: ignore[override]
        async def again() -> PbsBackend:
            return PbsBackend(root=str(tmp_path / "root"), commands_directory=str(replay.bin), observe_interval_s=0.2, absent_grace_s=2.0)

        @asynccontextmanager
        async def outage() -> AsyncIterator[None]:
            replay.crashed = True
            try:
                yield
            finally:
                replay.restart()

        made = conformance.Room(await again(), again=again, refused={"queue": "nosuch"}, outage=outage)
        made.lose_files = lambda uid: shutil.rmtree(tmp_path / "root" / "logs" / uid)
        await made.open()
        yield made
        await made.close()
        assert not any(len(call.argv) > 1 and "[]" in " ".join(call.argv) for call in replay.commands("qdel"))
