"""What PBS is told: words of submissions and deletions."""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import replace
from typing import Any

import pytest

from gateway.backends.batch.system import Cancel, SubmitRefused
from gateway.backends.contract import BackendUnavailable, Role
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
    Job,
    JobId,
    Listing,
    parse_json,
)
from gateway.backends.pbs.system import doomed
from tests.backends.pbs_told import ARRAY, order, parts
from tests.parts.pbs_cases import case
from tests.parts.pbs_words import kept_by_client, parse_range


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
