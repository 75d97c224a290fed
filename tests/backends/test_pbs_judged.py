"""What PBS says is judged: where jobs stand, and what is in doubt."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import pytest

from gateway.backends.contract import Phase
from gateway.backends.pbs.qstat import (
    Job,
    JobId,
    Listing,
    parse_json,
    parse_text,
)
from gateway.backends.pbs.states import (
    PHASES,
    Standing,
    alone,
    doubtful,
    standing,
    starts_at,
    suspects,
    tells_of_others,
    told,
)
from tests.backends.pbs_told import JOB, job
from tests.parts.pbs_cases import case
from tests.parts.pbs_words import block, printed

# Judging


@pytest.mark.parametrize(
    ("name", "identity", "phase", "code", "message"),
    [
        (
            "201-qstat-queued-insufficient",
            "37.pbs-host",
            Phase.QUEUED,
            None,
            "Can Never Run: Insufficient amount of resource: ncpus",
        ),
        (
            "602-reason-busy-ncpus",
            "3006.pbs-host",
            Phase.QUEUED,
            None,
            "Not Running: Not enough free nodes available",
        ),
        (
            "611-reason-scheduling-off",
            "3017.pbs-host",
            Phase.QUEUED,
            None,
            "waiting in queue workq",
        ),
        ("421-qstat-array-t", "0[2].pbs-host", Phase.QUEUED, None, "waiting in queue workq"),
        ("459-qstat-array-held", "3[2].pbs-host", Phase.QUEUED, None, "Job held by alice"),
        ("459-qstat-array-held", "3[0].pbs-host", Phase.RUNNING, None, ""),
        ("203-qstat-held-user", "39.pbs-host", Phase.QUEUED, None, "held by its user"),
        ("615-reason-dependency-wait", "3020.pbs-host", Phase.QUEUED, None, "held by the system"),
        (
            "204-qstat-waiting-for-start-time",
            "40.pbs-host",
            Phase.QUEUED,
            None,
            "it waits for its start time",
        ),
        ("202-qstat-running", "38.pbs-host", Phase.QUEUED, None, "it is being started"),
        ("902-qstat-after-qdel-three-parts", "1[0].pbs-host", Phase.RUNNING, None, ""),
        ("243-qstat-suspended", "38.pbs-host", Phase.RUNNING, None, "it is suspended"),
        (
            "730-qstat-while-being-deleted",
            "3037.pbs-host",
            Phase.RUNNING,
            None,
            "it is being deleted",
        ),
        ("620-output-directory-missing", "3024.pbs-host", Phase.RUNNING, None, "it is ending"),
        ("624-prologue-exit-2", "3029.pbs-host", Phase.QUEUED, None, "it is being started"),
        (
            "629-output-directory-missing-direct-write",
            "3046.pbs-host",
            Phase.QUEUED,
            None,
            "job held, too many failed attempts to run",
        ),
        # An Exit_status of an earlier run says nothing of a job that lives again.
        ("538-qstat-after-qrerun", "3002.pbs-host", Phase.QUEUED, None, "Job held by alice"),
        (
            "633-mom-killed-after-node-fail-requeue",
            "4051.pbs-host",
            Phase.QUEUED,
            None,
            "Not Running: Not enough free nodes",
        ),
        (
            "463-qstat-array-after-rerun",
            "3[0].pbs-host",
            Phase.QUEUED,
            None,
            "waiting in queue workq",
        ),
        ("920-qstat-just-started", "6.pbs-host", Phase.QUEUED, None, "it is being started"),
        ("920-qstat-just-started", "7[0].pbs-host", Phase.QUEUED, None, "it is being started"),
        (
            "921-qstat-after-restart",
            "6.pbs-host",
            Phase.QUEUED,
            None,
            "waiting in queue workq; it had been started and was put back",
        ),
        ("921-qstat-after-restart", "7[1].pbs-host", Phase.QUEUED, None, "waiting in queue workq"),
        (
            "922-qstat-after-restart-a-cycle-later",
            "6.pbs-host",
            Phase.QUEUED,
            None,
            "Not Running: Not enough free nodes available; it had",
        ),
        ("205-qstat-finished-exit0", "41.pbs-host", Phase.GONE, 0, ""),
        ("206-qstat-finished-exit1", "42.pbs-host", Phase.GONE, 1, ""),
        (
            "208-qstat-finished-killed-by-signal-9",
            "44.pbs-host",
            Phase.GONE,
            137,
            "killed by SIGKILL",
        ),
        (
            "211-qstat-finished-qdel-running",
            "46.pbs-host",
            Phase.GONE,
            143,
            "it was deleted (Job run at",
        ),
        (
            "213-qstat-finished-qdel-held",
            "47.pbs-host",
            Phase.GONE,
            None,
            "it was deleted before it ran",
        ),
        # F without Exit_status is no success.
        (
            "617-dependency-on-unknown",
            "3021.pbs-host",
            Phase.GONE,
            None,
            "it ended without having run",
        ),
        (
            "618-walltime-exceeded",
            "3022.pbs-host",
            Phase.GONE,
            None,
            "it ran for longer than its walltime",
        ),
        ("627-memory-over-use-enforced", "3048.pbs-host", Phase.GONE, None, "killed for memory"),
        (
            "623-prologue-exit-1",
            "3028.pbs-host",
            Phase.GONE,
            None,
            "it could not be started: the prologue",
        ),
        ("634-mom-killed-not-rerunnable", "4052.pbs-host", Phase.GONE, None, "its node was lost"),
        ("444-qstat-array-mixed-exits", "1[0].pbs-host", Phase.GONE, 0, ""),
        ("444-qstat-array-mixed-exits", "1[1].pbs-host", Phase.GONE, 7, ""),
        ("444-qstat-array-mixed-exits", "1[3].pbs-host", Phase.GONE, 137, "killed by SIGKILL"),
        (
            "431-qstat-after-qdel-queued-subjob",
            "0[3].pbs-host",
            Phase.GONE,
            None,
            "it was deleted before it ran",
        ),
        ("471-qstat-array-natural-end-t", "1000[2].pbs-host", Phase.GONE, 2, ""),
        # Deleting an array writes its own status over those of parts that had ended: 0 and 7 they
        # were (444), 1 they all are now.
        (
            "447-qstat-parent-deleted",
            "1[0].pbs-host",
            Phase.GONE,
            None,
            "it ended; PBS did not keep how",
        ),
        (
            "447-qstat-parent-deleted",
            "1[1].pbs-host",
            Phase.GONE,
            None,
            "it ended; PBS did not keep how",
        ),
        ("447-qstat-parent-deleted", "1[2].pbs-host", Phase.GONE, 143, "it was deleted"),
    ],
)
def test_where_recorded_jobs_stand(
    name: str, identity: str, phase: Phase, code: int | None, message: str
) -> None:
    found = standing(job(name, identity))
    assert (found.phase, found.exit_code) == (phase, code)
    assert found.message.startswith(message) if message else found.message == ""


@pytest.mark.parametrize("letter", [*"ABCDEFGHIJKLMNOPQRSTUVWXYZ", "", "?", "QQ"])
def test_every_state_has_a_meaning_and_only_known_ends_are_ends(letter: str) -> None:
    found = standing(Job(JobId(1), state=letter))
    assert found.phase is PHASES.get(letter, Phase.QUEUED)
    assert (found.phase is Phase.GONE) == (letter in ("X", "F", "C"))
    assert found.phase is not Phase.QUEUED or found.message


def test_the_expected_start_is_told_and_unknown_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    try:
        assert starts_at(Job(JobId(1), estimated_start="Mon Nov 23 20:37:19 2026")) == 1795466239000
        assert starts_at(Job(JobId(1), estimated_start="Sun Nov  1 00:00:00 2026")) == 1793491200000
    finally:
        monkeypatch.undo()
        time.tzset()
    for text in (
        "",
        "UNKNOWN",
        "Mo 23. Nov 20:37:19 2026",
        "Mon Foo 23 20:37:19 2026",
        "Mon Nov 99 99:99:99 2026x",
    ):
        assert starts_at(Job(JobId(1), estimated_start=text)) == 0


@pytest.mark.parametrize(
    ("name", "part", "history", "words"),
    [
        (
            "912-qstat-part-ended-without-history",
            "4[1].pbs-host",
            False,
            "it ended; PBS keeps no job history and does not know how",
        ),
        (
            "902-qstat-after-qdel-three-parts",
            "1[4].pbs-host",
            False,
            "it ended; PBS keeps no job history and does not know how",
        ),
        (
            "431-qstat-after-qdel-queued-subjob",
            "0[3].pbs-host",
            True,
            "it was deleted before it ran",
        ),
    ],
)
def test_of_a_part_that_ended_it_is_said_that_it_never_ran_only_where_that_is_known(
    name: str, part: str, history: bool, words: str
) -> None:
    """Without a history the server tells of every part that ended as of one that was deleted before
    it ran."""
    assert standing(job(name, part), history) == Standing(Phase.GONE, None, words)


def test_jobs_are_told_by_part_with_their_places_and_only_of_those_asked_for() -> None:
    found = told(parse_json(case("421-qstat-array-t").out), ["alice"])
    assert [(one.id, one.indices, one.phase, one.position) for one in found] == [
        ("0[].pbs-host", (range(1),), Phase.QUEUED, 0),  # they are being started
        ("0[].pbs-host", (range(1, 2),), Phase.QUEUED, 0),
        ("0[].pbs-host", (range(2, 3),), Phase.QUEUED, 1),
        ("0[].pbs-host", (range(3, 4),), Phase.QUEUED, 2),
    ]
    everybody = parse_json(case("225-qstat-all-users-as-alice").out)
    assert {one.user for one in told(everybody, ["bob"])} == {"bob"}
    assert told(everybody, []) == []


def test_jobs_of_one_name_are_in_doubt() -> None:
    one, other = (
        Job(JobId(1, "h"), str(JOB), "alice@h", "R"),
        Job(JobId(2, "h"), str(JOB), "alice@h", "Q"),
    )
    assert doubtful(Listing({one.id: one, other.id: other}), ["alice"]) == {one.id, other.id}
    ended, anothers = (
        Job(JobId(3, "h"), str(JOB), "alice@h", "F"),
        Job(JobId(4, "h"), str(JOB), "bob@h", "R"),
    )
    assert (
        doubtful(Listing({one.id: one, ended.id: ended, anothers.id: anothers}), ["alice"]) == set()
    )
    alike = replace(one, name="sim"), replace(other, name="sim")
    # users name their own jobs as they like
    assert doubtful(Listing({job.id: job for job in alike}), ["alice"]) == set()
    part = JobId(5, "h", True, 1)
    twice = {part: (Job(part, "m", "mallory@h", "R"), Job(part, str(JOB), "alice@h", "R"))}
    assert doubtful(Listing({}, twice), ["alice"]) == {JobId(5, "h", True)}
    assert doubtful(Listing({one.id: one}, twice), ["alice"]) == {one.id, JobId(5, "h", True)}
    assert doubtful(Listing({one.id: one}, twice), ["mallory"]) == set()


SWALLOWING = {
    "as fields": ('A":{"B":{"C', 'A":"1"}}}},"92.h":{"V":{"B'),
    "as jobs within no job": ('A":"1"}},"Z":{"Y":{"V":{"B', 'A":"1"}}},"92.h":{"V":{"B'),
    "in a list": ('A":[{"Y":{"X":{"B', 'A":"1"}}}]}},"92.h":{"V":{"B'),
    "outside the jobs": ('A":"1"}}},"More":{"Z":{"V":{"B', "A"),
    "in the header": ('A":"1"}}},"timestamp":{"Z":{"V":{"B', "A"),
}


@pytest.mark.parametrize("kind", SWALLOWING)
def test_names_of_variables_that_open_and_close_objects_swallow_no_other_job(kind: str) -> None:
    ((_, record),) = case("202-qstat-running").jobs.items()
    blocks = [
        block(f"{number}.h", {**record, "Variable_List": {"V": "1"}}) for number in (90, 5, 91)
    ]
    for at, name in zip((0, 2), SWALLOWING[kind]):
        blocks[at] = blocks[at].replace('"V":"1"', f'"{name}":"1"')
    text = printed(blocks)
    json.loads(text)  # that is valid
    assert JobId(5, "h") in parse_json(text).jobs


@pytest.mark.parametrize("number", ["9" * 5000, "٣" * 30])
def test_a_made_up_identifier_of_any_length_hides_no_job(number: str) -> None:
    """Python refuses to read a number of 5,000 digits: one variable's name had made every listing
    fail."""
    ((_, record),) = case("202-qstat-running").jobs.items()
    blocks = [block(f"{other}.h", {**record, "Variable_List": {"V": "1"}}) for other in (90, 5)]
    text = printed(
        [blocks[0].replace('"V":"1"', f'"A":"1"}}}},"{number}.h":{{"V":{{"B":"1"'), blocks[1]]
    )
    json.loads(text)  # that is valid
    assert JobId(5, "h") in parse_json(text).jobs
    as_text = (
        f"Job Id: 90.h\n    Variable_List = A=1\nJob Id: {number}.h\n    job_state = R\nJob"
        f" Id: 5.h\n    job_state = R\n"
    )
    assert JobId(5, "h") in parse_text(as_text).jobs


def test_objects_that_are_nested_without_end_hide_no_job() -> None:
    ((_, record),) = case("202-qstat-running").jobs.items()
    blocks = [block(f"{other}.h", {**record, "Variable_List": {"V": "1"}}) for other in (90, 5)]
    depth = 50_000
    text = printed(
        [blocks[0].replace('"V":"1"', '"A":{' * depth + '"B":"1"' + "}" * depth), blocks[1]]
    )
    assert JobId(5, "h") in parse_json(text).jobs


def test_of_an_answer_about_one_job_its_own_words_count() -> None:
    own, lie = (
        Job(JobId(9, "h"), "x", "mallory@h", "R"),
        Job(JobId(9, "h"), str(JOB), "alice@h", "F"),
    )
    victim = Job(JobId(5, "h"), str(JOB), "alice@h", "F")
    answer = Listing({victim.id: victim}, {own.id: (own, lie)}, [own.id, victim.id, own.id])
    assert alone(answer, own.id) == {own.id: own}
    assert tells_of_others(answer, own.id)
    assert alone(answer, JobId(7, "h")) == {}
    array = JobId(12, "h", True)
    parts = [
        Job(array, "x", "mallory@h", "B"),
        Job(array.part(0), str(JOB), "alice@h", "R"),
        Job(array.part(1), "x", "mallory@h", "Q"),
    ]
    answer = Listing({job.id: job for job in parts}, {}, [job.id for job in parts])
    assert {(job.name, job.owner) for job in alone(answer, array).values()} == {("x", "mallory@h")}
    assert not tells_of_others(answer, array)


def test_whose_text_may_be_to_blame_stands_before_what_it_tells() -> None:
    order = [JobId(number, "h") for number in (1, 2, 3, 9, 1, 2, 3, 1, 10, 11)]
    assert suspects(Listing(order=order), set(order[:3]))[0] == JobId(9, "h")
    # also if it has put itself in doubt
    assert JobId(9, "h") in suspects(Listing(order=order), set(order))
    assert len(suspects(Listing(order=order * 100), set(order[:2]))) <= 12
