"""What the PBS backend outlives: kills between two steps, silence, lies, crashes, and commands that
fail in every recorded way."""

from __future__ import annotations

import asyncio
import getpass
import pathlib
import shutil
import sys
from collections.abc import Sequence

import pytest

from gateway.backends.batch.identity import ServiceIdentity
from gateway.backends.contract import BackendUnavailable, Instance, Phase, Role, Target
from tests.backends.pbs_room import OTHER, SLEEP, UID, Room, replay, room, scheduler, slowly, worker
from tests.parts.pbs_cases import case
from tests.parts.pbs_replay import PbsReplay
from tests.parts.pbs_words import block, records

__all__ = ["replay", "room"]  # fixtures

# Nothing lost


async def test_killed_between_submission_and_record_a_job_is_found_by_its_name(
    room: Room, tmp_path: pathlib.Path
) -> None:
    before = await room.started([scheduler(), *(worker(number) for number in range(4))])
    again = await Room(tmp_path, room.replay).open()
    after = await again.started([scheduler(), *(worker(number) for number in range(4))])
    assert sorted(target.handle for target in after) == sorted(target.handle for target in before)
    assert len(again.submissions()) == 2  # those of before
    assert {one.instance for one in await again.backend.find()} == {
        target.instance for target in before
    }
    await again.backend.close()


@pytest.mark.parametrize("fault", ["losing", "hanging"])
async def test_a_submission_that_was_never_answered_is_neither_lost_nor_doubled(
    room: Room, fault: str
) -> None:
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
        launches = [scheduler(uid) for uid in uids] + [
            worker(n, short if n % 2 else SLEEP, uid) for uid in uids for n in range(2)
        ]
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
    assert room.replay.commands("qstat")[-1].argv == (
        "-x",
        "-t",
        "-f",
        "-F",
        "json",
        "1000.pbs-host",
    )


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
    # it would answer as if no job ran
    assert "-x" not in [word for call in room.replay.commands("qstat") for word in call.argv]


async def test_an_empty_answer_for_a_while_ends_nothing(room: Room) -> None:
    """Such as of a server whose query_other_jobs was turned off, or a secondary server that knows
    nothing yet."""
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
    room.replay.tells = False
    targets = await room.started([worker(0), worker(1)])
    await room.until(targets, Phase.RUNNING)
    await room.backend.stop(targets)
    await room.until(targets, Phase.GONE)
    assert not [call for call in room.replay.commands("qstat") if "-x" in call.argv]


async def test_where_everybodys_parts_are_too_many_ours_are_asked_for(
    tmp_path: pathlib.Path, replay: PbsReplay
) -> None:
    room = await Room(tmp_path, replay, arrays_apart=True).open()
    targets = await room.started([worker(number) for number in range(3)]) + await room.started(
        [scheduler()]
    )
    await room.until(targets, Phase.RUNNING)
    assert [call.argv for call in replay.commands("qstat")][-2:] == [
        ("-f", "-F", "json"),
        ("-t", "-f", "-F", "json", "1000[].pbs-host"),
    ]
    await room.backend.stop([targets[1], targets[3]])
    await room.until([targets[1], targets[3]], Phase.GONE)
    await room.backend.close()


# Faults


async def test_one_users_job_name_hides_nobodys_job(room: Room) -> None:
    targets = await room.started([worker(0), worker(1)])
    await room.until(targets, Phase.RUNNING)
    for name in (
        "371-json-name-inf",
        "379-json-account-backslash",
        "304-json-v-backslash-at-end",
        "381-json-project-utf8",
    ):
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
    """A user's variables are printed as they are named: here one that ends another's job, and one
    that doubles it."""
    (target,) = await room.started([scheduler()])
    await room.until([target], Phase.RUNNING)
    ((identity, record),) = records(room.replay.machine.jobs[1000], False)
    room.replay.foreign = [
        block(identity, {**record, "job_state": "F", "Exit_status": 1}),
        block("7.pbs-host", record),
    ]
    for _ in range(3):
        seen = (await room.look([target]))[target.instance]
        assert (seen.phase, seen.handle) == (Phase.RUNNING, target.handle)
    assert room.replay.commands("qdel") == []


async def test_what_is_nobodys_of_ours_is_not_asked_for(room: Room) -> None:
    (target,) = await room.started([scheduler()])
    await room.until([target], Phase.RUNNING)
    ((_, record),) = records(room.replay.machine.jobs[1000], False)
    for number in range(200):
        for state in "RQ":
            told = {**record, "Job_Name": "x", "Job_Owner": "mallory@pbs-host", "job_state": state}
            room.replay.foreign.append(block(f"{20000 + number}.pbs-host", told))
    before = len(room.replay.commands("qstat"))
    await room.until([target], Phase.RUNNING)
    assert {call.argv for call in room.replay.commands("qstat")[before:]} == {
        ("-t", "-f", "-F", "json")
    }


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        ((690, "", ""), "code 255: Connection refused; qstat: cannot connect to server"),
        ((0, "", ""), "qstat said nothing"),
        ((0, "Segmentation fault\n", ""), "Segmentation fault"),
        ((0, case("225-qstat-all-users-as-alice").out[:2000], ""), "no answer of qstat"),
        (
            (1, case("651-qstat-no-jobs").out, "qstat: Ungültiges Argument\n"),
            "code 1: qstat: Ungültiges Argument",
        ),
        ((139, "", ""), "code 139"),
        ((0, "\x00\xff" * 1000, ""), "no answer of qstat"),
    ],
)
async def test_an_outage_is_told_in_words_and_outlived(
    room: Room, reply: tuple[int, str, str], words: str
) -> None:
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
    # the second finds the outage as the first did
    stops = [room.backend.stop(targets) for _ in range(2)]
    for call in (room.look(targets), *stops, room.backend.start([scheduler()])):
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
    with pytest.raises(
        BackendUnavailable,
        match=r"nowhere/qstat cannot be run: No such file .*; see"
        r" c\.PbsBackend\.commands_directory$",
    ):
        await room.backend.start([scheduler()])
    await room.backend.close()


async def test_commands_speak_no_other_language(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    monkeypatch.setenv("LANGUAGE", "de")
    await room.started([scheduler()])
    assert {
        (call.environment["LC_ALL"], call.environment.get("LANGUAGE")) for call in room.replay.calls
    } == {("C", None)}


async def test_a_site_may_print_words_of_its_own_before_the_identifier(room: Room) -> None:
    room.replay.canned["qsub"] = [
        (0, "Welcome to the machine room.\nYour project has 12 hours left.\n1234.pbs-host\n", "")
    ]
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
    with pytest.raises(
        BackendUnavailable, match="qdel failed with code 159: qdel: Unauthorized Request"
    ):
        await room.backend.stop([target])
