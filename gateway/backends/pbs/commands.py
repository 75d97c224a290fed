"""What is said to PBS: the words of qsub, qstat and qdel, and what their refusals mean. Pure; runs
nothing.

Nothing secret may stand here: PBS shows every user the arguments and variables of every job.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise

from gateway.backends import named
from gateway.backends.batch.commands import Answer
from gateway.backends.batch.system import Order, SubmitRefused
from gateway.backends.contract import BackendUnavailable, Resources, Role
from gateway.backends.named import Naming, counts
from gateway.backends.pbs.qstat import JobId

MAX_DELETED = 100  # whole jobs in one qdel
# of one array in one qdel: qdel 23.06 joins them, keeps two, and drops the others without a word
MAX_RANGES = 2
MAX_STEPS = 32  # distances to the next parts that are tried when a range with a step is looked for
WORTH_A_STEP = 3  # parts
MAX_MESSAGE_CHARS = 500
NO_SERVER = (162, 255)  # what qsub, qdel and what qstat end with when the server does not answer
ARRAY_TOO_LARGE, FINISHED, UNKNOWN, OVER_LIMITS = 3, 35, 153, 188

# Exit codes of qsub after which the same words will be refused again: bad usage, attribute or
# resource, unknown queue, no right to it.
HOPELESS = frozenset({2, 3, 154, 159, 166, 167, 170, 175, 187, 188})

# what qstat -x says, with code 0, where there is none
NO_HISTORY = "not configured to maintain job history"
WRAPPED = "and the output was:"
_NO_CONTACT = re.compile(
    r"unable to contact|cannot connect|connection refused|timed out|communication failure|did not"
    r" answer within",
    re.IGNORECASE,
)

# One word of a directive. Slurm's wrappers put them into a shell's command line, so nothing a shell
# would take for its own may pass.
WORD = re.compile(r"[A-Za-z0-9_.+@:,=/%^-]+")
# of a job, as qsub is told them
SETTINGS = ("queue", "account", "project", "walltime", "resource_list", "directives", "gpu_name")
# what is replaced in a resource list
_AMOUNT = re.compile(r"\{(cores|memory|gpus|resources)\}")
# Amounts that have options of their own, or that would pass by the limit of one.
_TAKEN = (
    "ncpus mem vmem pmem pvmem file cput pcput walltime nodes nodect ppn mpiprocs ompthreads select"
    " place min_walltime max_walltime soft_walltime ngpus gpus nchunk host vnode arch software nice"
)
NAMING = Naming(re.compile(r"[A-Za-z]\w*", re.ASCII), "fpga", frozenset(_TAKEN.split(" ")))
# Options of qsub that are ours, or would hold it up; also behind options without a value, which
# share a word: -hN. Then their long names.
_RESERVED = re.compile(r"-[EGhnx]*[CIJNSVXefjkortz]")
_RESERVED_NAMES = re.compile(
    r"(?:-W|.*,)?(?:Job_Name|Output_Path|Error_Path|Join_Path|Keep_Files|Rerunable|Shell_Path_List|array_indices_submitted|block|interactive)="
)


class Dialect(str, Enum):
    """Which PBS is spoken to."""

    PBS = "pbs"  # OpenPBS, and PBS Pro 2020 and later
    # Torque, and Slurm's wrappers in its likeness: no JSON, no history, a job a worker
    TORQUE = "torque"


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """How the server is set up, as far as it matters here."""

    history: bool = False  # whether ended jobs stay known for a while
    everybody: bool = True  # whether users see the jobs of others
    queue: str = ""  # where jobs go that name none
    jobs: int | None = None  # how many it has, and parts of arrays; None: it does not say


def parse_server(text: str) -> ServerFacts:
    """Return what `qstat -B -f -F json` tells; an attribute that is not set is not shown."""
    told = dict(
        re.findall(r'"(job_history_enable|query_other_jobs|default_queue)":\s*"([\w.-]+)"', text)
    )
    counted = re.search(r'"state_count":\s*"([^"]*)"', text)
    jobs = sum(map(int, re.findall(r":(\d{1,9})\b", counted[1]))) if counted else None
    return ServerFacts(
        history=told.get("job_history_enable") == "True",
        everybody=told.get("query_other_jobs", "True") == "True",
        queue=told.get("default_queue", ""),
        jobs=jobs,
    )


def qsub(order: Order, dialect: Dialect, script_path: str = "") -> list[str]:
    """Return the command that submits a script: from its standard input, or from a file.
    SubmitRefused for settings that cannot be said."""
    argv = ["qsub", "-N", str(order.name)]
    for option, name in (("-q", "queue"), ("-A", "account"), ("-P", "project")):
        argv += [option, *said] if (said := _said(order, name)) else []
    resources = _resources(order, dialect)
    if dialect is Dialect.PBS:
        for word in resources:
            argv += ["-l", word]
        argv += ["-S", "/bin/sh"]
    else:
        argv += ["-l", ",".join(resources)]
    # A scheduler that begins anew has forgotten its cluster's work; parts of arrays must be
    # rerunnable.
    argv += ["-j", "oe", "-o", "/dev/null", "-r", "y" if order.role is Role.WORKER else "n"]
    argv += ["-J", f"0-{order.indices[0].stop - 1}"] if order.indices else []
    directives = _said(order, "directives")
    return [*argv, *directives, *([script_path] if script_path else [])]


def _said(order: Order, name: str) -> list[str]:
    """Return the words of a setting; SubmitRefused if one could be taken for something else."""
    return check_setting(name, order.settings.get(name), order.owner)


def check_setting(name: str, value: object, owner: str = "user") -> list[str]:
    """Return the words of a job's setting, where one may have several; SubmitRefused if one could
    be taken for something else."""
    if name not in SETTINGS or not value:
        return []
    if name == "gpu_name" and not NAMING.form.fullmatch(str(value)):
        what = f"gpu_name: {value!r:.140} is no resource; one looks like ngpus"
        raise SubmitRefused(what, permanent=True)
    texts = [str(text) for text in value] if isinstance(value, list | tuple) else [str(value)]
    words = [text.replace("{user}", owner) for text in texts]
    for word in words:
        if not WORD.fullmatch(_AMOUNT.sub("", word) or "-"):
            raise SubmitRefused(
                f"{name}: {word!r} has characters other than letters, digits and _ . + @ : , = / %"
                f" ^ -",
                permanent=True,
            )
        if name == "directives" and (_RESERVED.match(word) or _RESERVED_NAMES.match(word)):
            raise SubmitRefused(f"directives: {word} is set by the gateway itself", permanent=True)
    return words


def _resources(order: Order, dialect: Dialect) -> list[str]:
    """Return the words after -l."""
    amount = order.resources
    if why := objection(amount, order.settings, dialect):
        raise SubmitRefused(why, permanent=True)
    texts = _said(order, "resource_list")
    if not texts and dialect is Dialect.PBS:
        memory = ":mem={memory}" if amount.memory_bytes else ""
        texts = ["select=1:ncpus={cores}" + memory + "{resources}"]
    elif not texts:
        memories = ["mem={memory}"] if amount.memory_bytes else []
        texts = ["nodes=1:ppn={cores}{resources}", *memories]
    texts += [f"walltime={word}" for word in _said(order, "walltime")]
    asked = counts(amount, gpu_name(order.settings, dialect))
    amounts = {
        "cores": str(max(1, math.ceil(amount.cores))),
        "memory": f"{-(-amount.memory_bytes // 2**20)}mb",
        "gpus": str(amount.gpus),
        "resources": "".join(f":{name}={count}" for name, count in asked.items()),
    }
    return [_AMOUNT.sub(lambda match: amounts[match[1]], text) for text in texts]


def gpu_name(settings: Mapping[str, object], dialect: Dialect) -> str:
    """Return the resource that GPUs are."""
    return named.gpu_name(settings, "ngpus" if dialect is Dialect.PBS else "gpus")


def objection(resources: Resources, settings: Mapping[str, object], dialect: Dialect) -> str:
    """Return why a job cannot be given GPUs and named resources, an empty text if it can."""
    if why := named.objection(resources, gpu_name(settings, dialect), NAMING):
        return why
    if resources.named and dialect is Dialect.TORQUE:
        return "Torque's nodes take no amounts of other resources than cores, memory and GPUs"
    told = settings.get("resource_list") or ["{resources}"]
    texts = " ".join(map(str, told)) if isinstance(told, list | tuple) else str(told)
    if resources.named and "{resources}" not in texts:
        return "c.PbsBackend.resource_list has no {resources}, where they would stand"
    if resources.gpus and "{resources}" not in texts and "{gpus}" not in texts:
        return "c.PbsBackend.resource_list has no {resources} or {gpus}, where they would stand"
    return ""


def parse_queue(text: str) -> str:
    """Return the longest walltime that a queue takes, out of what `qstat -Q -f -F json QUEUE`
    tells; empty if it sets none."""
    most = re.search(r'"resources_max":\s*\{[^{}]*"walltime":\s*"([\d:]+)"', text)
    return most[1] if most else ""


def qstat_queue(queue: str) -> list[str]:
    """Return the command that asks how a queue is set up."""
    return ["qstat", "-Q", "-f", "-F", "json", queue]


def qstat(
    dialect: Dialect, *, text: bool = False, parts: bool = True, only: Collection[JobId] = ()
) -> list[str]:
    """Return the command that lists all jobs, and the parts of arrays; `only` some by their
    identifiers, a request to the server each."""
    words = ["qstat", "-t", "-f"] if parts and dialect is Dialect.PBS else ["qstat", "-f"]
    words += ["-F", "json"] if dialect is Dialect.PBS and not text else []
    return words + sorted(map(str, only))


def qstat_history(jobs: Iterable[JobId]) -> list[str]:
    """Return the command that asks the history for jobs, with the parts of those that are
    arrays."""
    return ["qstat", "-x", "-t", "-f", "-F", "json", *map(str, jobs)]


QSTAT_SERVER = ("qstat", "-B", "-f", "-F", "json")


def qdels(
    alive: Collection[JobId], arrays: Collection[JobId], *, together: bool
) -> list[list[str]]:
    """Return the commands that delete jobs, parts of arrays and whole `arrays` which were just seen
    alive, each once.

    A known and an unknown identifier in one command have crashed servers of release 23.06. So jobs
    go `together` only where ended ones stay known to the server; an array alone; parts of an array
    only with their like, and no more of them than qdel keeps.
    """
    singles = sorted({str(job) for job in alive if not job.array})
    size = MAX_DELETED if together else 1
    commands = [["qdel", *singles[start : start + size]] for start in range(0, len(singles), size)]
    commands += [["qdel", word] for word in sorted(map(str, arrays))]
    parts: dict[JobId, set[int]] = {}
    for job in alive:
        if job.index is not None and job.whole not in arrays:
            parts.setdefault(job.whole, set()).add(job.index)
    for array in sorted(parts, key=str):
        commands += [["qdel", *words] for words in _range_words(array, sorted(parts[array]))]
    return commands


def _range_words(array: JobId, indices: Collection[int]) -> list[list[str]]:
    """Return parts of an array as words `12[3-5].host` or `12[0-98:2].host`, as many in a list as
    one command may name.

    A range with a step goes alone: joined with another it can lose parts, or name them one by one
    in a text that is cut off.
    """
    plain: list[str] = []
    commands: list[list[str]] = []
    for run in progressions(indices):
        spelt = (
            str(run.start)
            if len(run) == 1
            else f"{run.start}-{run[-1]}" + (f":{run.step}" if run.step > 1 else "")
        )
        word = f"{array.number}[{spelt}]{'.' if array.server else ''}{array.server}"
        if run.step > 1:
            commands.append([word])
        else:
            plain.append(word)
    return [
        plain[start : start + MAX_RANGES] for start in range(0, len(plain), MAX_RANGES)
    ] + commands


def progressions(numbers: Collection[int]) -> list[range]:
    """Return numbers as few ranges, with a step where that takes in more of them: at each time the
    longest that begins with the least."""
    left = sorted(set(numbers), reverse=True)
    open_ = set(left)
    found: list[range] = []
    while open_:
        while left[-1] not in open_:
            left.pop()
        first = left[-1]
        ahead = [number for number in reversed(left[-1 - 4 * MAX_STEPS : -1]) if number in open_][
            :MAX_STEPS
        ]
        chosen = max(
            (_longest(first, number - first, open_) for number in ahead),
            key=len,
            default=range(first, first + 1),
        )
        if chosen.step > 1 and len(chosen) < WORTH_A_STEP:
            chosen = range(first, first + 1)
        found.append(chosen)
        open_ -= set(chosen)
    return sorted(found, key=lambda run: run.start)


def _longest(first: int, step: int, numbers: Collection[int]) -> range:
    last = first
    while last + step in numbers:
        last += step
    return range(first, last + 1, step)


def asked_for(argv: Sequence[str]) -> str:
    """Return the queue and the resources that a qsub asks for, as it says them."""
    words = [f"{option} {value}" for option, value in pairwise(argv) if option in ("-q", "-l")]
    return " ".join(words)


def refusal(code: int, out: str, err: str, asked: str = "") -> SubmitRefused | BackendUnavailable:
    """Return what a qsub that failed means: that it was refused, or that nobody knows. `asked`: the
    resources that it asked for."""
    # what Slurm's wrapper puts its sbatch's words into
    wrapped = out.rpartition(WRAPPED)[2].strip().strip("'")
    said = excerpt(err) or excerpt(wrapped) or f"it ended with code {code} and said nothing"
    said = said.removeprefix("qsub: ")
    if Answer(code, out, err).killed or code in NO_SERVER or _NO_CONTACT.search(said):
        return BackendUnavailable(f"qsub: {said}")
    if code == OVER_LIMITS and asked:  # it does not say which
        said += f"; asked for: {asked}"
    if code == ARRAY_TOO_LARGE:
        said += "; c.PbsBackend.max_array_size says how large arrays are made"
    return SubmitRefused(f"qsub: {said}", permanent=code in HOPELESS)


def excerpt(text: str) -> str:
    """Return what a command said, without the usage that follows it."""
    told: list[str] = []
    for line in text.split("\n"):
        if line.lower().startswith("usage:"):
            break
        told += [line.strip()] if line.strip() else []
    return "; ".join(told)[:MAX_MESSAGE_CHARS]
