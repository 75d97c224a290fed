"""What qstat says, read whatever it looks like: JSON, JSON that some user's job name has broken, or
text. Pure; judges nothing.

Formats: `qstat -f -F json` of OpenPBS and PBS Pro 2020 and later, `qstat -f` of any PBS. The
released JSON prints a job name, project, account or variable that strtod(3) can read as it stands
(`inf`, `+5`, `000`), leaves a backslash at a value's end alone and mangles what is not ASCII: one
user's job makes the whole answer invalid. It is laid out one field a line, though, and line ends
within values are escaped, so line by line it can always be read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

FIELDS = {  # attribute of a job → our word for it; the rest is not kept
    "Job_Name": "name",
    "Job_Owner": "owner",
    "job_state": "state",
    "substate": "substate",
    "Exit_status": "exit_status",
    "exit_status": "exit_status",  # as Torque spells it
    "comment": "comment",
    "run_count": "runs",
    "queue": "queue",
    "Hold_Types": "holds",
    "estimated.start_time": "estimated_start",
}
GROUPS = frozenset(key.partition(".")[0] + "." for key in FIELDS if "." in key)
# above, the answer is read line by line: one parser's call would hold up all else for too long
WHOLE_CHARS = 1024 * 1024
HEADER = ("timestamp", "pbs_version", "pbs_server")  # one of them is always there, jobs or none

# Text of users can pretend to be one: of any length, and with digits that are none of ASCII's.
_ID = re.compile(r"([0-9]{1,18})(?:\[([0-9]{0,9})\])?((?:\.[A-Za-z0-9_.-]{1,255})?)")
_JOBS = re.compile(r'^\s*"Jobs":', re.MULTILINE)
_TEXT_ID = re.compile(r"^Job Id:\s*(\S+)\s*$")
_TEXT_FIELD = re.compile(r"^(\t| {4})([A-Za-z_][\w.-]*) = (.*)$")


class Garbled(ValueError):
    """qstat's answer is not what qstat prints, or is cut short: nothing can be said about any
    job."""


@dataclass(frozen=True, slots=True)
class JobId:
    """Which job: `12.host`; an array `12[].host`; a part of one `12[3].host`."""

    number: int
    server: str = ""
    array: bool = False
    index: int | None = None  # of a part of an array

    def __str__(self) -> str:
        place = f"[{'' if self.index is None else self.index}]" if self.array else ""
        return f"{self.number}{place}{'.' if self.server else ''}{self.server}"

    @property
    def whole(self) -> JobId:
        """The array that it is a part of; itself if it is none."""
        return self if self.index is None else JobId(self.number, self.server, True)

    def part(self, index: int) -> JobId:
        """A part of this array."""
        return JobId(self.number, self.server, True, index)


def parse_id(text: str) -> JobId | None:
    """Return which job an identifier means, None if it is none."""
    match = _ID.fullmatch(text)
    if match is None:
        return None
    number, index, server = match.groups()
    return JobId(int(number), server[1:], index is not None, int(index) if index else None)


@dataclass(frozen=True, slots=True)
class Job:
    """A job, array or part of one, as qstat tells of it."""

    id: JobId
    name: str = ""
    owner: str = ""  # user@host
    state: str = ""
    substate: int | None = None
    exit_status: int | None = None
    comment: str = ""
    queue: str = ""
    holds: str = ""
    estimated_start: str = ""  # as ctime(3) prints it
    runs: int | None = None  # times that it was sent to a node


@dataclass(frozen=True, slots=True)
class Listing:
    """Everything one answer told.

    qstat prints names of variables, and in text their line ends, as they are: with them a user's
    job can pretend that another job is told of. What is told of twice and not alike is `unclear`,
    and must be asked for by its identifier.
    """

    jobs: Mapping[JobId, Job] = field(default_factory=dict)
    # with what was told, in the order in which it was
    unclear: Mapping[JobId, Sequence[Job]] = field(default_factory=dict)
    order: Sequence[JobId] = ()  # as they were told of, each as often as it was


def parse_json(text: str) -> Listing:
    """Return the jobs in what `qstat -f -F json` printed; Garbled if it is no such thing or not all
    of it."""
    readers = (_whole, _by_layout) if len(text) <= WHOLE_CHARS else (_by_layout, _whole)
    try:
        return readers[0](text)
    except Garbled:
        return readers[1](text)


def _whole(text: str) -> Listing:
    try:
        # strict, so that no line end within a string can hide what follows it; objects as pairs, so
        # that what stands twice is seen
        told = json.loads(
            text, parse_float=str, parse_int=str, parse_constant=_refuse, object_pairs_hook=tuple
        )
    except (ValueError, RecursionError):  # names of variables can nest objects without end, too
        raise Garbled(f"no JSON: {_excerpt(text)}") from None
    if not isinstance(told, tuple) or not any(key in HEADER for key, _ in told):
        raise Garbled(f"no answer of qstat: {_excerpt(text)}")
    if not all(_shaped(name, value) for name, value in told):
        raise Garbled("the answer of qstat has another shape than its own")
    return _listing(
        (key, _flat(fields)) for name, jobs in told if name == "Jobs" for key, fields in jobs
    )


def _shaped(name: str, value: object) -> bool:
    """Whether a part of an answer is as qstat makes it: names of variables can open and close
    objects, and put other jobs within them."""
    if name != "Jobs":
        return name in HEADER and not isinstance(value, tuple | list)
    jobs = value if isinstance(value, tuple) else [("", value)]
    return all(
        parse_id(key) is not None and isinstance(fields, tuple) and all(map(_shallow, fields))
        for key, fields in jobs
    )


def _shallow(field: tuple[str, object]) -> bool:
    value = field[1]
    return not isinstance(value, list) and not (
        isinstance(value, tuple) and any(isinstance(part[1], tuple | list) for part in value)
    )


def _by_layout(text: str) -> Listing:
    listing = _listing(_lines(text))
    if not listing.jobs and not listing.unclear and _JOBS.search(text):
        raise Garbled("the answer of qstat has jobs, but not one a line could be told")
    return listing


def _refuse(constant: str) -> str:
    raise ValueError(constant)  # `inf` is not JSON, and the line it stands on says what it was


def _flat(fields: Sequence[tuple[str, object]]) -> Iterator[tuple[str, str]]:
    for key, value in fields:
        if isinstance(value, tuple):
            yield from ((f"{key}.{part}", _word(inner)) for part, inner in value)
        else:
            yield key, _word(value)


def _word(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _lines(text: str) -> Iterator[tuple[str, Iterable[tuple[str, str]]]]:
    """Yield the jobs of an answer, read by its layout: level 2 opens and closes a job, 3 is its
    fields, 4 their parts."""
    lines = text.rstrip().split("\n")  # not splitlines: other separators may be part of a value
    if (
        lines[0] != "{"
        or lines[-1] != "}"
        or not any(f'"{key}"' in line for key in HEADER for line in lines[1:4])
    ):
        raise Garbled(f"no whole answer of qstat: {_excerpt(text)}")
    # the release indents by four spaces, its successor by tabs
    step = "\t" if lines[1].startswith("\t") else "    "
    opens, begins, continues = (step * depth + '"' for depth in (2, 3, 4))
    closes = (step * 2 + "}", step * 2 + "},")
    job, group = "", ""
    fields: list[tuple[str, str]] = []
    for line in lines:
        if line.startswith(begins):
            key, _, value = line[len(begins) :].partition('":')
            group = f"{key}." if value.strip() == "{" else ""
            if key in FIELDS:
                fields.append((key, _bare(value)))
        elif line.startswith(continues) and group in GROUPS:
            key, _, value = line[len(continues) :].partition('":')
            fields.append((group + key, _bare(value)))
        elif line.startswith(opens):
            job, fields, group = line[len(opens) :].partition('":')[0], [], ""
        elif job and line in closes:
            yield job, fields
            job = ""
    if job:
        raise Garbled("the answer of qstat ends within a job")


def _bare(text: str) -> str:
    """Return a value that stands on a line of its own, JSON or not."""
    text = text.strip().removesuffix(",")
    if len(text) < 2 or not text.startswith('"'):
        return text
    try:
        return str(json.loads(text))
    except ValueError:
        return text[1:].removesuffix('"')


def parse_text(text: str) -> Listing:
    """Return the jobs in what `qstat -f` printed, folded (tab continues a line) or not; Garbled if
    it is no such thing."""
    if text.strip() and not text.lstrip().startswith("Job Id:"):
        raise Garbled(f"no answer of qstat -f: {_excerpt(text)}")
    return _listing(_text_jobs(text))


def _text_jobs(text: str) -> Iterator[tuple[str, Iterable[tuple[str, str]]]]:
    job: str | None = None
    fields: list[tuple[str, str]] = []
    # of this job's first field; Slurm's wrapper indents by a tab, which continues a line elsewhere
    indent = ""
    for line in text.split("\n"):
        if match := _TEXT_ID.match(line):
            if job is not None:
                yield job, fields
            job, fields, indent = match[1], [], ""
        elif (match := _TEXT_FIELD.match(line)) and indent in ("", match[1]):
            indent = match[1]
            fields.append((match[2], match[3]))
        elif line.startswith("\t") and fields:
            fields[-1] = (fields[-1][0], fields[-1][1] + line[1:])
    if job is not None:
        yield job, fields


def _listing(told: Iterable[tuple[str, Iterable[tuple[str, str]]]]) -> Listing:
    found: dict[JobId, dict[Job, None]] = {}
    order: list[JobId] = []
    for text, fields in told:
        identity = parse_id(text)
        if identity is not None:
            found.setdefault(identity, {})[_job(identity, fields)] = None
            order.append(identity)
    jobs = {
        identity: next(iter(tellings)) for identity, tellings in found.items() if len(tellings) == 1
    }
    return Listing(
        jobs,
        {identity: tuple(tellings) for identity, tellings in found.items() if len(tellings) > 1},
        order,
    )


def _job(identity: JobId, fields: Iterable[tuple[str, str]]) -> Job:
    words: dict[str, str] = {}
    for key, value in fields:
        if key in FIELDS:
            words.setdefault(FIELDS[key], value.strip())  # the first counts: qstat prints each once
    numbers = {key: _number(words.pop(key, "")) for key in ("substate", "exit_status", "runs")}
    return Job(identity, **words, **numbers)  # type: ignore[arg-type]


def _number(text: str) -> int | None:
    return int(text) if re.fullmatch(r"-?[0-9]{1,9}", text) else None


def _excerpt(text: str) -> str:
    """Return how an answer begins, on one line."""
    begins = " ".join(text[:400].split())
    return repr(begins[:200]) if begins else "nothing was printed"
