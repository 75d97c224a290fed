"""What the stand-in for PBS reads and prints: words of commands, and what qstat tells of jobs, out
of recorded cases."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

from tests.parts.pbs_cases import Case, case
from tests.parts.pbs_state import ENDED, SERVER, Job, Part

Reply = tuple[int, str, str]
WITH_VALUE = "aAcCeJjklMmNoPpqrSuvW"  # options of qsub that take a value


def kept_by_client(argv: Sequence[str]) -> list[str]:
    """Return what qdel's own client leaves of its words: it joins the ranges of one array, and
    loses some (cases 901 to 909).

    Of three it keeps two. One that stands before a range with a step is lost; any other with a step
    nobody has tried, so it counts as lost.
    """
    ranges: dict[str, list[str]] = {}
    for word in argv:
        array, bracket, rest = word.partition("[")
        if bracket and not rest.startswith("]"):
            ranges.setdefault(array, []).append(word)
    lost: set[str] = set()
    for words in ranges.values():
        lost |= set(
            words[:-1] if len(words) > 1 and any(":" in word for word in words) else words[2:]
        )
    return [word for word in argv if word not in lost]


def recorded(name: str) -> Reply:
    """Return the answer of a recorded case."""
    found: Case = case(name)
    return found.code or 0, found.out, found.err


def parse(argv: Sequence[str]) -> tuple[dict[str, list[str]], list[str]]:
    """Return qsub's options with their values, and its operands."""
    options: dict[str, list[str]] = {}
    words = list(argv)
    while words and words[0].startswith("-"):
        letter, value = words[0][1:2], words[0][2:]
        words.pop(0)
        if letter in WITH_VALUE:
            options.setdefault(letter, []).append(value or words.pop(0))
        else:
            options.setdefault(letter if letter in "hVIXzf" else "?", [])
    return options, words


def hours(text: str) -> float:
    """Return how long a walltime among the words after -l is; 0 if there is none."""
    found = re.search(r"walltime=(?:(\d+):)?(\d+):(\d+)$", text)
    return (int(found[1] or 0) * 3600 + int(found[2]) * 60 + int(found[3])) / 3600 if found else 0.0


def parse_range(text: str) -> list[int | None]:
    """Return the indices in `0-3`, `2,5-7` or `0-98:2`."""
    found: list[int | None] = []
    for run in text.partition("%")[0].split(","):
        bounds, _, step = run.partition(":")
        first, _, last = bounds.partition("-")
        found += range(int(first), int(last or first) + 1, int(step or 1))
    return found


def records(job: Job, parts: bool) -> list[tuple[str, dict[str, Any]]]:
    """Return what qstat tells of a job, with the parts of an array if wished: recorded jobs with
    this one's values."""
    if not job.array:
        return [_record(job, part, _template(job, part)) for part in job.parts.values()]
    array = dict(case("421-qstat-array-t").jobs["0[].pbs-host"])
    states = [part.state for part in job.parts.values()]
    began = bool(job.began)
    codes = [part.status for part in job.parts.values() if part.state in ENDED]
    array |= _common(job, job.id())
    array |= {
        "job_state": "F" if job.over else "H" if job.held else "B" if began else "Q",
        "substate": (91 if job.deleted else 93 if any(codes) else 92)
        if job.over
        else 70
        if began
        else 10,
        "comment": job.began + (" and terminated" if job.over and job.deleted else "")
        or next(iter(job.parts.values())).comment,
        "array_state_count": f"Queued:{states.count('Q')} Running:{states.count('R')} Exiting:0"
        f" Expired:{states.count('X')}",
        "array_indices_submitted": f"0-{len(states) - 1}",
    }
    if codes:
        array["Exit_status"] = 1 if any(codes) else 0
    told = [(job.id(), {key: value for key, value in array.items() if value != ""})]
    return (
        told + [_record(job, part, _template(job, part)) for part in job.parts.values()]
        if parts
        else told
    )


def _template(job: Job, part: Part) -> dict[str, Any]:
    if not job.array:
        running, ended, waiting = (
            ("202-qstat-running", "38"),
            ("206-qstat-finished-exit1", "42"),
            ("201-qstat-queued-insufficient", "37"),
        )
    else:
        running, ended = ("421-qstat-array-t", "0[0]"), ("444-qstat-array-mixed-exits", "1[1]")
        waiting = ("421-qstat-array-t", "0[2]")
    name, number = (
        running
        if part.state in ("R", "S", "E")
        else ended
        if part.state in ENDED and part.runs
        else waiting
    )
    return case(name).jobs[f"{number}.pbs-host"]


def _common(job: Job, identity: str) -> dict[str, Any]:
    at = time.ctime(job.submitted)
    times = dict.fromkeys(("ctime", "qtime", "etime", "mtime"), at)
    return {
        "Job_Name": job.name,
        "Job_Owner": f"{job.owner}@{SERVER}",
        "queue": job.queue,
        "Submit_arguments": job.arguments,
        **times,
    }


def _record(job: Job, part: Part, template: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    state = "H" if part.state == "Q" and job.held and not job.array else part.state
    told = {
        **template,
        **_common(job, job.id(part)),
        "job_state": state,
        "substate": part.substate,
        "comment": part.comment,
    }
    told |= {"Hold_Types": job.held or "n", "Exit_status": part.status, "run_count": part.runs}
    if "array_index" in template:
        told |= {"array_id": job.id(), "array_index": part.index}
    if not part.runs:
        del told["run_count"]
    return job.id(part), {key: value for key, value in told.items() if value not in (None, "")}


def block(identity: str, record: Mapping[str, Any]) -> str:
    """Return a job as the release prints it in JSON."""
    text = json.dumps(record, indent=4, separators=(",", ":"), ensure_ascii=False)
    return f'        "{identity}":' + text.replace("\n", "\n        ")


def printed(blocks: Sequence[str], at: object = None) -> str:
    """Return a whole answer in JSON, of jobs as they are printed."""
    head = {
        "timestamp": int(time.time()) if at is None else at,
        "pbs_version": "23.06.06",
        "pbs_server": SERVER,
    }
    text = json.dumps(head, indent=4, separators=(",", ":"))
    if not blocks:
        return text + "\n"
    return text.removesuffix("\n}") + ',\n    "Jobs":{\n' + ",\n".join(blocks) + "\n    }\n}\n"


def plain(identity: str, record: Mapping[str, Any]) -> str:
    """Return a job as `qstat -f` prints it without JSON, not folded."""
    lines = [f"Job Id: {identity}"]
    for key, value in record.items():
        if key == "Variable_List":
            lines.append(
                "    Variable_List = " + ",".join(f"{name}={word}" for name, word in value.items())
            )
        elif isinstance(value, dict):
            lines += [f"    {key}.{name} = {word}" for name, word in value.items()]
        else:
            lines.append(f"    {key} = {value}")
    return "\n".join(lines) + "\n\n"
