"""What PBS says and is told: recorded answers of a real server, read and judged; nothing runs."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Collection
from dataclasses import replace
from typing import Any

import pytest

from gateway.backends.batch.names import JobName
from gateway.backends.batch.system import Cancel, Order, SubmitRefused
from gateway.backends.contract import BackendUnavailable, Phase, Resources, Role
from gateway.backends.pbs.commands import (
    Dialect,
    ServerFacts,
    parse_queue,
    parse_server,
    qdels,
    qstat,
    qsub,
    refusal,
)
from gateway.backends.pbs.qstat import (
    Garbled,
    Job,
    JobId,
    Listing,
    parse_id,
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
from gateway.backends.pbs.system import doomed
from tests.parts.pbs_cases import case, names
from tests.parts.pbs_words import block, kept_by_client, parse_range, printed

UID = "c" + "a" * 20
JOB, ARRAY = JobName("dgw", UID, "default", 4), JobName("dgw", UID, "default", 0)
JSON_CASES = [
    name
    for name in names()
    if case(name).argv[:1] == ("qstat",)
    and "json" in case(name).argv
    and not {"-B", "-Q"} & {*case(name).argv}
]
ANSWERS = [name for name in JSON_CASES if '"pbs_version"' in case(name).out[:200]]
BROKEN = [
    name
    for name in names("3")
    if name[:3]
    in ("304", "305", "306", "318", "319", "321", "371", "374", "375", "379", "381", "389")
    and not name.endswith(".master")
]


def job(case_name: str, identity: str) -> Job:
    """Return a recorded job."""
    found = parse_id(identity)
    assert found is not None
    return parse_json(case(case_name).out).jobs[found]


# Reading


@pytest.mark.parametrize("name", ANSWERS)
def test_every_recorded_answer_is_read_and_alike_as_json_and_line_by_line(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = parse_json(case(name).out)
    monkeypatch.setattr("gateway.backends.pbs.qstat.WHOLE_CHARS", 0)
    assert parse_json(case(name).out) == small
    assert [str(found) for found in small.jobs] == list(
        dict.fromkeys(block.split('"')[1] for block in _opened(case(name).out))
    )
    assert all(
        found.name and found.owner and found.state and found.queue for found in small.jobs.values()
    )


def _opened(text: str) -> list[str]:
    return [
        line
        for line in text.split("\n")
        if line.startswith(('        "', '\t\t"')) and line.endswith("{")
    ]


def test_there_are_broken_answers_among_them() -> None:
    assert len(BROKEN) >= 10
    for name in BROKEN:
        if name != "381-json-project-utf8":  # that one is no UTF-8
            with pytest.raises(ValueError):  # noqa: PT011 (whatever json says)
                json.loads(case(name).out, parse_constant=_refuse)


def _refuse(word: str) -> None:
    raise ValueError(word)


@pytest.mark.parametrize("name", BROKEN)
def test_one_users_job_hides_nobody_elses(name: str) -> None:
    everybody = case("225-qstat-all-users-as-alice")
    answer = printed([everybody.blocks[0], *case(name).blocks, *everybody.blocks[1:]])
    before, after = parse_json(everybody.out), parse_json(answer)
    assert after.jobs == {**before.jobs, **parse_json(case(name).out).jobs}
    assert len(after.jobs) == len(before.jobs) + 1


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("370", "1e5"),
        ("371", "inf"),
        ("372", "007"),
        ("373", "123"),
        ("375", "+5"),
        ("376", "0x10"),
        ("391", "1.50"),
    ],
)
def test_names_that_look_like_numbers_are_the_names_they_are(name: str, told: str) -> None:
    (found,) = parse_json(case(next(iter(names(name)))).out).jobs.values()
    assert found.name == told


@pytest.mark.parametrize("separator", ["\u2028", "\x0b", "\x1c", "\x85", "\r"])
def test_a_line_by_line_reading_knows_one_line_end_only(separator: str) -> None:
    """`str.splitlines` splits at more, so that a value could pretend to be another job."""
    forged = separator + '        },        "7.pbs-host":{'.replace(",", "," + separator)
    text = case("371-json-name-inf").out.replace('"queue":"workq"', f'"queue":"workq{forged}"')
    assert [str(found) for found in parse_json(text).jobs] == ["105.pbs-host"]


@pytest.mark.parametrize(
    "text",
    ["", "\n", "{}", "[]", "null", "x", '{"Jobs": {}}', "qstat: command not found", "\ufffd\ufffd"],
)
def test_what_is_no_answer_of_qstat_is_none(text: str) -> None:
    with pytest.raises(Garbled):
        parse_json(text)


@pytest.mark.parametrize(
    "name",
    ["225-qstat-all-users-as-alice", "371-json-name-inf", "225-qstat-all-users-as-alice.master"],
)
def test_an_answer_that_is_cut_short_anywhere_is_none(name: str) -> None:
    text = case(name).out.rstrip()
    for end in range(1, len(text), 97):
        with pytest.raises(Garbled):
            parse_json(text[:end])


@pytest.mark.parametrize("indent", ["", " ", "  ", "   ", "     "])
def test_an_answer_whose_layout_nobody_knows_is_not_taken_for_one_without_jobs(indent: str) -> None:
    text = case("371-json-name-inf").out.replace("    ", indent)
    with pytest.raises(Garbled):
        parse_json(text)


@pytest.mark.parametrize(
    "name", ["651-qstat-no-jobs", "690-qstat-server-down", "201-qstat-queued-insufficient"]
)
def test_no_jobs_and_no_timestamp_are_nothing_special(name: str) -> None:
    assert len(parse_json(case(name).out).jobs) == (1 if name.startswith("201") else 0)


def test_what_is_told_of_twice_and_not_alike_is_unclear() -> None:
    """Names of variables are printed as they are, so a user's can close his job and open
    another's."""
    block = case("202-qstat-running").blocks[0]
    forged = block.replace('"job_state":"R"', '"job_state":"F"')
    for text in (
        printed([block, forged]),
        printed([block, forged, case("371-json-name-inf").blocks[0]]),
    ):
        listing = parse_json(text)
        assert listing.unclear.keys() == {JobId(38, "pbs-host")}
        assert JobId(38, "pbs-host") not in listing.jobs
    assert parse_json(printed([block, block])).unclear == {}


@pytest.mark.parametrize("name", ["228-qstat-f-plain", "229-qstat-f-w-plain"])
def test_the_text_form_says_the_same(name: str) -> None:
    (found,) = parse_text(case(name).out).jobs.values()
    assert found == job("225-qstat-all-users-as-alice", "38.pbs-host")


def test_the_text_of_slurms_wrapper_is_read() -> None:
    text = (
        "Job Id:\t12\n\tJob_Name = a\n\tJob_Owner = alice@n1\n\tjob_state = C\n\tqueue = p\n\n"
        "Job Id:\t13\n\tJob_Name = b\n\tJob_Owner = bob@n1\n\tinteractive = True\n\tjob_state ="
        " R\n\tqueue = p\n\n"
    )
    found = parse_text(text).jobs
    assert [(one.name, one.owner, one.state) for one in found.values()] == [
        ("a", "alice@n1", "C"),
        ("b", "bob@n1", "R"),
    ]
    assert parse_text("").jobs == {}
    with pytest.raises(Garbled):
        parse_text("Problem loading jobs.\n")


@pytest.mark.parametrize(
    ("text", "number", "array", "index"),
    [
        ("12", 12, False, None),
        ("12.a-b.c", 12, False, None),
        ("12[].h", 12, True, None),
        ("12[7].h", 12, True, 7),
    ],
)
def test_identifiers(text: str, number: int, array: bool, index: int | None) -> None:
    found = parse_id(text)
    assert found is not None
    assert (found.number, found.array, found.index, str(found)) == (number, array, index, text)
    assert str(found.whole) == text.replace("[7]", "[]")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "abc",
        "12x.h",
        "12[",
        "12[1-2].h",
        "-1",
        "R12",
        "12 ",
        "workq",
        "12.h;x",
        "٣",
        "12[٣].h",
        "12.h\n",
        "9" * 19,
        "1." + "h" * 300,
    ],
)
def test_what_is_no_identifier(text: str) -> None:
    assert parse_id(text) is None


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


# Telling


def order(name: JobName = JOB, count: int = 1, **settings: object) -> Order:
    """Return a submission of some workers."""
    return Order(
        name,
        "alice",
        Role.WORKER,
        "#!/bin/sh\n",
        (range(count),) if count > 1 else (),
        Resources(3.5, 3 * 2**30),
        settings,
        "bob",
    )


def test_one_submission_is_one_array_and_one_job_is_none() -> None:
    assert "-J" not in qsub(order(), Dialect.PBS)  # PBS refuses an array of one
    words = qsub(order(ARRAY, 1000), Dialect.PBS)
    assert words[words.index("-J") + 1] == "0-999"
    assert words[words.index("-l") + 1] == "select=1:ncpus=4:mem=3072mb"
    assert not {"-v", "-V"} & set(words)  # everybody reads everybody's variables


def test_settings_become_words() -> None:
    wished: dict[str, Any] = {
        "queue": "long",
        "account": "lab",
        "project": "p1",
        "walltime": "08:00:00",
        "directives": ["-W", "group_list=lab"],
    }
    words = " ".join(
        qsub(
            order(resource_list=["select=1:ncpus={cores}:ngpus=1", "place=excl"], **wished),
            Dialect.PBS,
        )
    )
    for part in (
        "-q long",
        "-A lab",
        "-P p1",
        "-l select=1:ncpus=4:ngpus=1 -l place=excl -l walltime=08:00:00",
        "-W group_list=lab",
    ):
        assert part in words
    torque = qsub(order(**wished), Dialect.TORQUE, "/d/job.sh")
    assert torque[-1] == "/d/job.sh"
    assert torque[torque.index("-l") + 1] == "nodes=1:ppn=4,mem=3072mb,walltime=08:00:00"


def test_users_may_be_charged_by_name_and_schedulers_are_not_run_again() -> None:
    words = qsub(order(account="lab-{user}"), Dialect.PBS)
    assert words[words.index("-A") + 1] == "lab-bob"
    assert words[words.index("-r") + 1] == "y"
    words = qsub(replace(order(), role=Role.SCHEDULER), Dialect.PBS)
    assert words[words.index("-r") + 1] == "n"


@pytest.mark.parametrize(
    "word",
    [
        "-N",
        "-Nx",
        "-J",
        "-o",
        "-V",
        "-I",
        "-t",
        "-hN",
        "-hnI",
        "-WOutput_Path=/x",
        "block=true",
        "umask=7,Job_Name=x",
    ],
)
def test_what_the_gateway_sets_itself_is_no_directive(word: str) -> None:
    with pytest.raises(SubmitRefused, match=f"directives: {word} is set by the gateway itself"):
        qsub(order(directives=[word, "x"]), Dialect.PBS)


def test_what_is_like_it_is_free() -> None:
    free = [
        "-h",
        "-W",
        "group_list=block",
        "-Wumask=022,depend=afterok:1",
        "-m",
        "n",
        "-p",
        "5",
        "-ahN",
    ]
    assert qsub(order(directives=free), Dialect.PBS)[-len(free) :] == free


@pytest.mark.parametrize(
    "word",
    [
        "a;reboot",
        "$(id)",
        "a b",
        "`id`",
        "a\nb",
        "a|b",
        "a'b",
        'a"b',
        "a>b",
        "ä",
        "a\\b",
        "*",
        "~",
        "{x}",
    ],
)
@pytest.mark.parametrize("dialect", list(Dialect))
def test_no_setting_can_be_read_by_a_shell(word: str, dialect: Dialect) -> None:
    for settings in (
        {"queue": word},
        {"account": word},
        {"directives": ["-W", word]},
        {"walltime": word},
    ):
        with pytest.raises(SubmitRefused, match="characters") as caught:
            qsub(order(**settings), dialect)
        assert caught.value.permanent


@pytest.mark.parametrize(
    ("name", "words", "permanent"),
    [
        ("104-qsub-unknown-queue", "qsub: Unknown queue", True),
        ("106-qsub-unknown-resource-in-select", "qsub: Unknown resource: foo", True),
        (
            "110-qsub-over-resources-max-walltime",
            "qsub: Job violates queue and/or server resource limits",
            True,
        ),
        (
            "113-qsub-queue-max-queued-user",
            "qsub: would exceed queue generic's per-user limit",
            False,
        ),
        ("117-qsub-no-permission-queue-acl", "qsub: Unauthorized Request", True),
        ("118-qsub-queue-not-enabled", "qsub: Queue is not enabled", False),
        ("160-qsub-root-refused", "qsub: Bad UID for job execution", True),
        ("122-qsub-unknown-option", "qsub: invalid option -- 'Y'", True),
        (
            "409-qsub-J-over-server-max-array-size",
            "qsub: Array job exceeds server or queue size limit; c.PbsBackend.max_array_size says",
            True,
        ),
    ],
)
def test_what_recorded_refusals_mean(name: str, words: str, permanent: bool) -> None:
    found = case(name)
    assert found.code is not None
    refused = refusal(found.code, found.out, found.err)
    assert isinstance(refused, SubmitRefused)
    assert str(refused).startswith(words)
    assert "usage" not in str(refused)
    assert refused.permanent is permanent


@pytest.mark.parametrize("name", ["692-qsub-server-down", "129-qsub-pbs-iff-not-setuid"])
def test_a_server_that_does_not_answer_has_refused_nothing(name: str) -> None:
    found = case(name)
    assert found.code is not None
    assert isinstance(refusal(found.code, found.out, found.err), BackendUnavailable)
    assert isinstance(refusal(found.code, "", ""), BackendUnavailable)


@pytest.mark.parametrize(
    ("code", "err"),
    [
        (-9, ""),
        (137, ""),
        (143, "Terminated\n"),
        (247, ""),  # of a launcher that tells a signal as it is
        (2, "daskgateway-as-user: qsub did not answer within 120 s\n"),
    ],
)
def test_a_qsub_that_was_killed_may_have_submitted(code: int, err: str) -> None:
    assert isinstance(refusal(code, "", err), BackendUnavailable)


def test_the_words_of_sbatch_are_found_in_what_slurms_wrapper_prints() -> None:
    text = (
        "There was an error running the Slurm sbatch command.\nThe command was:\n'sbatch -p x"
        " 2>&1'\nand the output was:\n'{}\n'\n"
    )
    refused = refusal(1, text.format("sbatch: error: invalid partition specified: x"), "")
    assert isinstance(refused, SubmitRefused)
    assert str(refused) == "qsub: sbatch: error: invalid partition specified: x"
    assert isinstance(
        refusal(1, text.format("sbatch: error: Unable to contact slurm controller"), ""),
        BackendUnavailable,
    )


def test_the_set_up_of_a_server_is_read() -> None:
    assert parse_server(case("657-qstat-B").out) == ServerFacts(
        history=True, everybody=True, queue="workq", jobs=0
    )
    assert parse_server(case("910-qstat-B-history-never-set").out) == ServerFacts(
        False, True, "workq", 9
    )
    assert not parse_server("{}").history
    assert parse_server("{}").everybody
    assert not parse_server('"query_other_jobs":"False"').everybody


def test_the_longest_walltime_of_a_queue_is_read() -> None:
    assert parse_queue(case("655-qstat-Q-one").out) == "01:00:00"
    for text in (
        case("656-qstat-Q-unknown").out,
        "{}",
        "",
        '"resources_default":{"walltime":"02:00:00"}',
        '"resources_max":{"ncpus":4}',
    ):
        assert parse_queue(text) == ""


def test_a_listing_names_no_identifiers() -> None:
    assert qstat(Dialect.PBS) == ["qstat", "-t", "-f", "-F", "json"]
    assert qstat(Dialect.TORQUE) == ["qstat", "-f"]


def parts(*indices: int, number: int = 12) -> set[JobId]:
    """Return parts of an array."""
    return {JobId(number, "h", True, index) for index in indices}


def test_what_is_deleted_together_is_of_one_kind() -> None:
    singles = {JobId(1, "h"), JobId(2, "h")}
    commands = qdels(
        singles | parts(1, 2, 3, 7) | parts(5, number=13), {JobId(14, "h", True)}, together=True
    )
    assert commands == [
        ["qdel", "1.h", "2.h"],
        ["qdel", "14[].h"],
        ["qdel", "12[1-3].h", "12[7].h"],
        ["qdel", "13[5].h"],
    ]


def test_without_a_history_every_job_is_deleted_by_itself() -> None:
    """One that has ended meanwhile is unknown then, and beside a known one it would crash the
    server."""
    assert qdels({JobId(1, "h"), JobId(2, "h")}, set(), together=False) == [
        ["qdel", "1.h"],
        ["qdel", "2.h"],
    ]


@pytest.mark.parametrize(
    ("indices", "words"),
    [
        ((4, 6, 8), [["12[4-8:2].h"]]),
        ((1, 2, 3, 7), [["12[1-3].h", "12[7].h"]]),
        ((0, 1, 3, 4, 9, 10), [["12[0-1].h", "12[3-4].h"], ["12[9-10].h"]]),
        ((0, 5, 20, 21, 22), [["12[0].h", "12[5].h"], ["12[20-22].h"]]),
        (range(0, 2000, 2), [["12[0-1998:2].h"]]),
        (range(1000), [["12[0-999].h"]]),
    ],
)
def test_one_qdel_names_at_most_two_ranges_of_an_array_and_one_with_a_step_alone(
    indices: Collection[int], words: list[list[str]]
) -> None:
    """qdel 23.06 joins the ranges of one array and keeps two of them: see the cases 901 to 909."""
    assert [argv[1:] for argv in qdels(parts(*indices), set(), together=True)] == words


@pytest.mark.parametrize(
    ("deletion", "after"),
    [
        ("901-qdel-three-parts", "902-qstat-after-qdel-three-parts"),
        ("903-qdel-three-ranges", "904-qstat-after-qdel-three-ranges"),
        ("905-qdel-one-range-with-a-step", "906-qstat-after-qdel-with-a-step"),
        (
            "908-qdel-a-part-before-a-range-with-a-step",
            "909-qstat-after-a-part-and-a-range-with-a-step",
        ),
    ],
)
def test_the_stand_in_loses_of_a_deletion_what_the_real_client_lost(
    deletion: str, after: str
) -> None:
    words = case(deletion).argv[1:]
    lost = {
        index
        for word in set(words) - set(kept_by_client(words))
        for index in parse_range(word.partition("[")[2].partition("]")[0])
    }
    named = {
        index for word in words for index in parse_range(word.partition("[")[2].partition("]")[0])
    }
    left = {
        one.index for one, told in parse_json(case(after).out).jobs.items() if told.state == "R"
    }
    assert named & left == lost


def test_every_part_is_named_once_however_scattered() -> None:
    chance = random.Random(7)
    for among, count in ((30, 12), (200, 67), (5000, 1500)):
        meant = sorted(chance.sample(range(among), count))
        named = [
            index
            for _, *words in qdels(parts(*meant), set(), together=True)
            for word in words
            for index in parse_range(word[3:-3])
            if index is not None
        ]
        assert sorted(named) == meant


def test_whole_jobs_go_a_hundred_at_a_time() -> None:
    assert (
        max(
            len(words)
            for words in qdels({JobId(n, "h") for n in range(1000)}, set(), together=True)
        )
        == 101
    )


def living(*jobs: tuple[JobId, str]) -> Listing:
    """Return a listing of jobs in states."""
    return Listing({identity: Job(identity, "n", "alice@h", state) for identity, state in jobs})


def test_only_what_lives_is_deleted_and_an_array_as_one_when_nothing_else_of_it_lives() -> None:
    array = JobId(12, "h", True)
    listing = living(
        (array, "B"),
        *((array.part(index), state) for index, state in enumerate("RQXRE")),
        (JobId(3, "h"), "R"),
    )
    assert doomed(listing, [Cancel("12[].h", "alice", (range(2),))]) == (parts(0, 1), set())
    assert doomed(listing, [Cancel("12[].h", "alice", (range(2), range(3, 5)))]) == (set(), {array})
    assert doomed(listing, [Cancel("12[].h", "alice")]) == (set(), {array})
    assert doomed(
        listing,
        [Cancel("12[].h", "alice", (range(2, 3),)), Cancel("99.h", "alice"), Cancel("x", "alice")],
    ) == (set(), set())
    assert doomed(listing, [Cancel("3.h", "alice")]) == ({JobId(3, "h")}, set())
