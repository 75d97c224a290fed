"""What is said to Slurm: the words of sbatch and scancel, and the bodies of slurmrestd's requests.
Pure.

sbatch(1), scancel(1), slurmrestd's API v0.0.36 to v0.0.38. Options are words of argv, never
`#SBATCH` lines, so that no value can bring in a second one; every value is checked all the same.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence

from gateway.backends import named
from gateway.backends.batch.arrays import format_ranges, ranges
from gateway.backends.batch.logfiles import INDEX
from gateway.backends.batch.system import Cancel, Order, SubmitRefused
from gateway.backends.contract import Resources

MAX_VALUE = 1024
MAX_SCANCEL_WORDS = 500  # jobs in one command
# of an array in one word: scancel asks the controller once a word, and all elements of one keep it
# from answering
MAX_ELEMENTS = 100
MEBIBYTE = 2**20

# Setting of a cluster → sbatch's option, and slurmrestd's field of a job.
OPTIONS = {
    "partition": ("--partition", "partition"),
    "account": ("--account", "account"),
    "qos": ("--qos", "qos"),
    "constraint": ("--constraint", "constraints"),
    "gres": ("--gres", "gres"),
    "time_limit": ("--time", "time_limit"),
    "reservation": ("--reservation", "reservation"),
    "comment": ("--comment", "comment"),
    "wckey": ("--wckey", "wckey"),
    "licenses": ("--licenses", "licenses"),
}
# What a directive may not touch: it is how jobs are named, found, started and logged.
RESERVED_FLAGS = "JaoeDWncNMiQVh"
RESERVED_NAMES = (
    "job-name array output error chdir export export-file uid gid parsable wrap wait test-only"
    " ntasks nodes cpus-per-task mem open-mode"
    " requeue no-requeue get-user-env quiet clusters version help usage input"
)
RESERVED = {f"-{flag}" for flag in RESERVED_FLAGS}
# sbatch takes any beginning of a name for the name, so none of these may stand: no other option's
# whole name is among them.
RESERVED |= {
    f"--{name[:size]}" for name in RESERVED_NAMES.split(" ") for size in range(1, len(name) + 1)
}
# never `-n4`: a flag with its value is no word of its own
_DIRECTIVE = re.compile(r"(-[A-Za-z]|--[a-z][a-z0-9-]*)(?:=.*)?", re.DOTALL)
# a generic resource, with its type behind a colon if that matters
NAMING = named.Naming(re.compile(r"[A-Za-z]\w*(?::[\w.-]+)?", re.ASCII), "fpga or fpga:u280")
_TIME = re.compile(r"(?:(?P<days>\d+)-)?(?P<rest>\d+(?::\d+){0,2})")


def checked(name: str, value: object, owner: str, uid: str) -> str:
    """Return a setting's value with {user} and {uid} replaced; SubmitRefused says what is wrong
    with it."""
    text = str(value).replace("{user}", owner).replace("{uid}", uid)
    if len(text) > MAX_VALUE or not text.isprintable() or text.startswith("-"):
        raise SubmitRefused(
            f"{name}: must be a printable text of at most {MAX_VALUE} characters that begins with"
            f" no '-'",
            permanent=True,
        )
    return text


def settings_of(order: Order) -> dict[str, str]:
    """Return the settings that are set, checked; with the generic resources that the order itself
    asks for."""
    found = {name: order.settings.get(name) for name in OPTIONS}
    found["gres"] = _gres(order)
    return {
        name: checked(name, value, order.owner or order.user, order.name.uid)
        for name, value in found.items()
        if value not in (None, "")
    }


def _gres(order: Order) -> str:
    if why := objection(order.resources, order.settings):
        raise SubmitRefused(why, permanent=True)
    own = str(order.settings.get("gres") or "")
    asked = named.counts(order.resources, gpu_name(order.settings))
    return ",".join([*([own] if own else []), *(f"{name}:{n}" for name, n in asked.items())])


def gpu_name(settings: Mapping[str, object]) -> str:
    """Return the generic resource that GPUs are."""
    return named.gpu_name(settings, "gpu")


def objection(resources: Resources, settings: Mapping[str, object]) -> str:
    """Return why a job cannot be given GPUs and generic resources, an empty text if it can."""
    if why := named.objection(resources, gpu_name(settings), NAMING):
        return why
    asked = named.counts(resources, gpu_name(settings))
    own = {word.partition(":")[0] for word in str(settings.get("gres") or "").split(",")}
    twice = sorted(own & {name.partition(":")[0] for name in asked})
    return f"the setting gres asks for {twice[0]} already" if twice else ""


def directives(value: object) -> list[str]:
    """Return further words for sbatch; SubmitRefused names one that is none, or that is not free to
    be set."""
    words = [value] if isinstance(value, str) and value else value
    if not words:
        return []
    if not isinstance(words, list | tuple):
        raise SubmitRefused(
            "directives: must be a list of options, such as --exclusive", permanent=True
        )
    for word in words:
        match = (
            _DIRECTIVE.fullmatch(word)
            if isinstance(word, str) and len(word) <= MAX_VALUE and word.isprintable()
            else None
        )
        if match is None:
            raise SubmitRefused(
                f"directives: {word!r} is no option of sbatch; one looks like --name or"
                f" --name=value",
                permanent=True,
            )
        if match[1] in RESERVED:
            raise SubmitRefused(
                f"directives: {match[1]} is set by the gateway itself", permanent=True
            )
    return [str(word) for word in words]


def submit_words(sbatch: str, order: Order) -> list[str]:
    """Return the words of sbatch; the script goes to its standard input."""
    words = [
        sbatch,
        "--parsable",
        f"--job-name={order.name}",
        "--chdir=/",
        "--export=ALL",
        "--nodes=1",
        "--ntasks=1",
    ]
    words += [
        f"--output={_pattern(order.log_path)}",
        "--open-mode=append",
        f"--cpus-per-task={cores(order)}",
    ]
    if order.resources.memory_bytes:
        words.append(f"--mem={memory_mib(order)}M")
    if order.indices:
        words.append(f"--array={format_ranges(order.indices)}")
    words += [f"{OPTIONS[name][0]}={value}" for name, value in settings_of(order).items()]
    words.append("--requeue" if order.settings.get("requeue") else "--no-requeue")
    return words + directives(order.settings.get("directives"))


def _pattern(log_path: str) -> str:
    return log_path.replace("%", "%%").replace(INDEX, "%a") if log_path else "/dev/null"


def cores(order: Order) -> int:
    """Return whole cores: Slurm gives no parts of one."""
    return max(1, math.ceil(order.resources.cores))


def memory_mib(order: Order) -> int:
    """Return memory in MiB, rounded up."""
    return max(1, -(-order.resources.memory_bytes // MEBIBYTE))


def cancel_words(scancel: str, cancels: Iterable[Cancel]) -> list[list[str]]:
    """Return the commands that cancel these, all of one user."""
    words = []
    for cancel in cancels:
        indices = [index for run in cancel.indices for index in run]
        chunks = [
            ranges(indices[start : start + MAX_ELEMENTS])
            for start in range(0, len(indices), MAX_ELEMENTS)
        ]
        words += (
            [f"{cancel.id}_[{format_ranges(chunk)}]" for chunk in chunks] if chunks else [cancel.id]
        )
    return [
        [scancel, *words[start : start + MAX_SCANCEL_WORDS]]
        for start in range(0, len(words), MAX_SCANCEL_WORDS)
    ]


def submit_body(
    order: Order, version: str, path: str, more: Mapping[str, object]
) -> dict[str, object]:
    """Return the body of `POST /slurm/{version}/job/submit`. `path`: PATH of the job; `more`:
    further fields of the job."""
    if order.settings.get("directives"):
        raise SubmitRefused(
            "directives: not with identity user-token, whose jobs are no words of sbatch",
            permanent=True,
        )
    variables: object = {"PATH": path}
    if int(version.rpartition(".")[2]) >= 39:
        variables = [f"PATH={path}"]
    job: dict[str, object] = {
        "name": str(order.name),
        "current_working_directory": "/",
        "environment": variables,
        "tasks": 1,
        "nodes": 1 if isinstance(variables, dict) else "1",
        "cpus_per_task": cores(order),
        "standard_output": _pattern(order.log_path),
        "open_mode": "append",
        "requeue": bool(order.settings.get("requeue")),
    }
    if order.resources.memory_bytes:
        job["memory_per_node"] = memory_mib(order)
    if order.indices:
        job["array"] = format_ranges(order.indices)
    for name, value in settings_of(order).items():
        job[OPTIONS[name][1]] = minutes(value) if name == "time_limit" else value
    return {"script": order.script, "job": job | dict(more)}


def minutes(time_limit: str) -> int:
    """Return a time limit of sbatch's forms (`90`, `mm:ss`, `hh:mm:ss`, `d-hh`, `d-hh:mm`,
    `d-hh:mm:ss`) in minutes, rounded up."""
    match = _TIME.fullmatch(time_limit)
    if match is None:
        raise SubmitRefused(
            f"time_limit: {time_limit!r} is no time; one looks like 90 (minutes), 12:00:00 or"
            f" 2-00:00:00",
            permanent=True,
        )
    parts = [int(part) for part in match["rest"].split(":")]
    if match["days"] is not None:
        hours, mins, secs = (*parts, 0, 0)[:3]
        return int(match["days"]) * 1440 + hours * 60 + mins + math.ceil(secs / 60)
    if len(parts) == 1:
        return parts[0]
    seconds = sum(part * factor for part, factor in zip(reversed(parts), (1, 60, 3600)))
    return math.ceil(seconds / 60)


def check_time_limit(value: object) -> None:
    """Refuse a time limit that is none; SubmitRefused says what one looks like."""
    if value not in (None, "") and str(value).upper() not in ("INFINITE", "UNLIMITED"):
        minutes(str(value))


def check_setting(name: str, value: object) -> None:
    """Refuse a value of a job's setting that sbatch would never be told; SubmitRefused says what is
    wrong."""
    if name == "directives":
        directives(value)
    elif name == "time_limit":
        check_time_limit(value)
    elif name == "gpu_name" and not NAMING.form.fullmatch(str(value)):
        raise SubmitRefused(
            f"gpu_name: {value!r:.140} is no generic resource; one looks like gpu or gpu:a100",
            permanent=True,
        )
    elif name in OPTIONS and value not in (None, ""):
        checked(name, value, "user", "uid")


def by_user(cancels: Sequence[Cancel]) -> dict[str, list[Cancel]]:
    """Return cancels by the user whose jobs they are."""
    found: dict[str, list[Cancel]] = {}
    for cancel in cancels:
        found.setdefault(cancel.user, []).append(cancel)
    return found
