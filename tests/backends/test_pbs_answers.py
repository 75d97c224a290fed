"""What PBS says is read: recorded answers of a real server; nothing runs."""

from __future__ import annotations

import json

import pytest

from gateway.backends.pbs.qstat import (
    Garbled,
    JobId,
    parse_id,
    parse_json,
    parse_text,
)
from tests.backends.pbs_told import job
from tests.parts.pbs_cases import case, names
from tests.parts.pbs_words import printed

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
