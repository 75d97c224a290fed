"""What Slurm's answers mean: states, reasons, lines of squeue and sacct, JSON of squeue and
slurmrestd, complaints of commands. Pure.

squeue(1) "JOB STATE CODES" and "JOB REASON CODES", sacct(1). Job names are free for every user,
line breaks included: so every field of a line ends with a mark that is made anew for each call, and
a line that lacks it is nobody's.
"""

from __future__ import annotations

import calendar
import json
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence

from gateway.backends.batch.arrays import Ranges, parse_ranges
from gateway.backends.batch.names import parse_job_name
from gateway.backends.batch.sight import OUTGREW_MEMORY
from gateway.backends.batch.system import Job
from gateway.backends.contract import BackendUnavailable, Phase
from gateway.wire import decimal

_Q, _R, _G = Phase.QUEUED, Phase.RUNNING, Phase.GONE
# State → where it stands, and in words why. COMPLETING is not gone yet; what is requeued shows as
# PENDING before long.
STATES: dict[str, tuple[Phase, str]] = {
    "PENDING": (_Q, ""),
    "CONFIGURING": (_Q, "its node is being made ready"),
    "REQUEUED": (_Q, "it was put back into the queue"),
    "REQUEUE_FED": (_Q, "it was put back into the queue"),
    "REQUEUE_HOLD": (_Q, "it was put back into the queue and is held"),
    "SPECIAL_EXIT": (_Q, "it was put back into the queue and is held"),
    "RESV_DEL_HOLD": (_Q, "its reservation was deleted; it is held"),
    "RUNNING": (_R, ""),
    "COMPLETING": (_R, "it is ending"),
    "STAGE_OUT": (_R, "it is ending"),
    "SIGNALING": (_R, ""),
    "RESIZING": (_R, ""),
    "STOPPED": (_R, "it was stopped by a signal"),
    "SUSPENDED": (_R, "it is suspended"),
    "COMPLETED": (_G, ""),
    "CANCELLED": (_G, "its job was cancelled"),
    "FAILED": (_G, "its job failed"),
    "TIMEOUT": (_G, "its job has reached its time limit"),
    "DEADLINE": (_G, "its job has reached its deadline"),
    "OUT_OF_MEMORY": (_G, OUTGREW_MEMORY),
    "NODE_FAIL": (_G, "its node failed"),
    "BOOT_FAIL": (_G, "its node could not be started"),
    "PREEMPTED": (_G, "its job was preempted for another"),
    "REVOKED": (_G, "its job was moved to another cluster of the federation"),
}
# States that stand beside another in JSON since 23.02, as text tells them: the first of these
# counts. What has ended but for them has not.
FLAGS = (
    "COMPLETING",
    "CONFIGURING",
    "RESIZING",
    "REQUEUED",
    "REQUEUE_FED",
    "REQUEUE_HOLD",
    "SPECIAL_EXIT",
    "STOPPED",
    "REVOKED",
    "RESV_DEL_HOLD",
    "SIGNALING",
    "STAGE_OUT",
)
REASONS = {
    "Resources": "waits for free resources",
    "Priority": "other jobs come first",
    "BeginTime": "its start time has not come yet",
    "Dependency": "waits for another job",
    "JobHeldUser": "held by its user",
    "JobHeldAdmin": "held by an administrator",
    "Licenses": "waits for a licence",
    "PartitionDown": "the partition is down",
    "PartitionInactive": "the partition is inactive",
    "PartitionNodeLimit": "it asks for more than the partition has",
    "PartitionTimeLimit": "its time limit is longer than the partition's",
    "ReqNodeNotAvail": "nodes it needs are not available",
    "Reservation": "waits for its reservation",
    "NodeDown": "a node it needs is down",
    "BadConstraints": "its constraints cannot be met",
    "JobLaunchFailure": "it could not be launched: look at its log directory and its user on the"
    " nodes",
    "QOSMaxJobsPerUserLimit": "its user has as many jobs running as the QOS allows",
    "AssocMaxJobsLimit": "its account has as many jobs running as allowed",
    "AssocGrpCpuLimit": "its account uses as many CPUs as allowed",
    "QOSMaxCpuPerUserLimit": "its user uses as many CPUs as the QOS allows",
    "OutOfMemory": "out of memory",
}
NO_REASON = ("", "None", "N/A", "(null)")
# Complaints that say nothing about the job: Slurm could not be asked.
UNREACHABLE = re.compile(
    r"unable to contact|socket timed out|connection refused|communication connection failure|zero"
    r" bytes were transmitted|standby mode"
    r"|unable to establish|connection timed out|protocol authentication error|munge|could not"
    r" establish a configuration source"
    r"|unexpected message|transport endpoint|persistent connection|slurmdbd:|temporarily"
    r" unavailable|no route to host"
    r"|did not answer within",
    re.IGNORECASE,
)
# Refusals that no repetition changes.
HOPELESS = re.compile(
    r"invalid|requested node configuration is not available|not permitted|permission denied|more"
    r" processors requested than permitted"
    r"|memory specification can not be satisfied|unrecognized option|requested partition"
    r" configuration not available|unknown",
    re.IGNORECASE,
)
FIELDS = (
    "ArrayJobID",
    "ArrayTaskID",
    "State",
    "exit_code",
    "Reason",
    "StartTime",
    "PriorityLong",
    "UserName",
    "Partition",
    "Name",
)
ACCOUNTING_FIELDS = ("JobID", "State", "ExitCode", "User", "JobName")


def refusal(complaint: str) -> tuple[str, bool]:
    """Return a refusal in one line, without the command's own prefixes, and whether repeating is
    hopeless."""
    words = re.sub(r"(\w+: )?error: |Batch job submission failed: ", "", complaint).strip()
    return words, HOPELESS.search(words) is not None


def verdict(state: str, reason: str, exit_code: int | None) -> tuple[Phase, str]:
    """Return where a job stands and why, in words with Slurm's own in parentheses."""
    word = state.split()[0].rstrip("+") if state else ""
    phase, meaning = STATES.get(word, (_R, ""))
    told = reason.partition(",")[0].strip("()") if reason not in NO_REASON else ""
    if phase is _Q:
        return phase, _with(
            REASONS.get(told, "") or meaning,
            reason.strip("()") if told else (word if word != "PENDING" else ""),
        )
    if word == "FAILED" and exit_code:
        meaning += f" with code {exit_code}"
    if phase is _G and told and word in ("FAILED", "CANCELLED", "BOOT_FAIL", "NODE_FAIL"):
        return phase, f"{_with(meaning, word)}: {_with(REASONS.get(told, ''), reason)}"
    return phase, _with(meaning, word) if meaning else ""


def _with(meaning: str, word: str) -> str:
    return f"{meaning} ({word})" if meaning and word else meaning or word


def hides_jobs(config: str) -> bool:
    """Whether Slurm's configuration, as scontrol shows it, keeps users from seeing jobs of others
    (slurm.conf: PrivateData)."""
    match = re.search(r"^PrivateData\s*=\s*(.*)$", config, re.MULTILINE)
    return match is not None and "jobs" in re.split(r"[,\s]+", match[1].lower())


def squeue_format(mark: str) -> str:
    """Return the value of squeue's --Format: every field ends with the mark."""
    return ",".join(f"{field}:{mark}" for field in FIELDS)


def parse_squeue(text: str, mark: str) -> list[tuple[Job, str, int]]:
    """Return jobs with their partition and priority; BackendUnavailable if that is no answer of
    squeue's."""
    # the heading is the proof that squeue has looked
    if not text.startswith("ARRAY_JOB_ID" + mark):
        raise BackendUnavailable(f"squeue answered what is no list of jobs: {_short(text)}")
    found = []
    for line in text.split("\n")[1:]:
        fields = line.split(mark)
        if len(fields) == len(FIELDS) + 1 and decimal(fields[0]) is not None:
            found.append(_squeue_job(fields))
    return found


def _squeue_job(fields: Sequence[str]) -> tuple[Job, str, int]:
    job_id, task, state, code, reason, start, priority, user, partition, name = fields[:10]
    status = decimal(code)
    exit_code = None if status is None else _status_code(status)
    phase, message = verdict(state, reason, exit_code)
    indices = _indices(task, job_id, name, "squeue")
    gone = phase is Phase.GONE
    starts_at = instant(start) if phase is Phase.QUEUED else 0
    job = Job(
        job_id,
        name,
        user,
        phase,
        indices,
        message,
        _ended_code(state, exit_code) if gone else None,
        starts_at,
    )
    return job, partition, decimal(priority) or 0


def _ended_code(state: str, code: int | None) -> int | None:
    """Return an exit code that can be believed: only success has 0."""
    if state.startswith("COMPLETED"):
        return 0
    return code or None


def _indices(text: str, job_id: str, name: str, asked: str) -> Ranges:
    if text in ("N/A", "", "(null)"):
        return ()
    try:
        return parse_ranges(text)
    except ValueError:
        return _unreadable(text, job_id, name, asked)


def _unreadable(text: str, job_id: str, name: str, asked: str) -> Ranges:
    """BackendUnavailable, for an array of a gateway's: as a job of its own it would be one worker,
    and the others gone."""
    if parse_job_name(name) is None:
        return ()  # it counts for nothing
    raise BackendUnavailable(
        f"{asked} tells the elements of array {job_id} in no way that can be read ({text!r}); if"
        f" it cuts lists short, set"
        f" SLURM_BITSTR_LEN=0 in the environment of {asked}"
    )


def instant(text: str) -> int:
    """Return Slurm's time in ms since the epoch, 0 if it tells none. Commands run with TZ=UTC."""
    try:
        return calendar.timegm(time.strptime(text, "%Y-%m-%dT%H:%M:%S")) * 1000
    except (ValueError, OverflowError):
        return 0


def parse_sacct(text: str, mark: str) -> list[Job]:
    """Return the jobs of `sacct --parsable2 --delimiter=MARK`; BackendUnavailable if that is no
    answer of sacct's."""
    if not text.startswith(ACCOUNTING_FIELDS[0] + mark):
        raise BackendUnavailable(f"sacct answered what is no list of jobs: {_short(text)}")
    found = []
    for line in text.split("\n")[1:]:
        fields = line.split(mark)
        if len(fields) != len(ACCOUNTING_FIELDS):
            continue
        whole_id, state, code, user, name = fields
        job_id, _, task = whole_id.partition("_")
        if "." in whole_id.partition("[")[0] or decimal(job_id) is None:
            continue
        returned, _, signal = code.partition(":")
        number = decimal(returned) or (128 + ended_by if (ended_by := decimal(signal)) else 0)
        phase, message = verdict(state, "", number)
        ended = _ended_code(state, number) if phase is Phase.GONE else None
        found.append(
            Job(
                job_id,
                name,
                user,
                phase,
                _indices(task.strip("[]"), job_id, name, "sacct"),
                message,
                ended,
            )
        )
    return found


def jobs_of_json(text: str, asked: str) -> list[tuple[Job, str, int]]:
    """Return the jobs in JSON of squeue or slurmrestd, of API v0.0.36 on; BackendUnavailable if it
    is something else.

    Decoded job by job, so that a thread that does it never holds up the event loop for long.
    """
    return [_json_job(job, asked) for job in _elements(text, asked) if isinstance(job, dict)]


def _elements(text: str, asked: str) -> Iterator[object]:
    opening = re.search(r'"jobs"\s*:\s*\[', text)
    if opening is None:
        raise BackendUnavailable(f"{asked} answered what is no list of jobs: {_short(text)}")
    decoder, position = json.JSONDecoder(), opening.end()
    blank = re.compile(r"[\s,]*")
    while True:
        position = blank.match(text, position).end()  # type: ignore[union-attr]
        if text[position : position + 1] == "]":
            return
        try:
            element, position = decoder.raw_decode(text, position)
        except (ValueError, RecursionError):
            raise BackendUnavailable(f"{asked} answered JSON that breaks off") from None
        yield element


def _json_job(job: Mapping[str, object], asked: str) -> tuple[Job, str, int]:
    array, name = number(job.get("array_job_id")), str(job.get("name"))
    state = _state(job.get("job_state"))
    returned = job.get("exit_code")
    code = (
        number(returned.get("return_code"))
        if isinstance(returned, dict)
        else _status_code(number(returned))
    )
    phase, message = verdict(state, str(job.get("state_reason") or ""), code)
    starts_at = number(job.get("start_time")) * 1000 if phase is Phase.QUEUED else 0
    ended = _ended_code(state, code) if phase is Phase.GONE else None
    job_id = str(array or number(job.get("job_id")))
    indices = _elements_of(job, job_id, name, asked) if array else ()
    # only what was cancelled before any element ran has none
    if array and not indices and phase is not Phase.GONE:
        indices = _unreadable("", job_id, name, asked)
    made = Job(job_id, name, str(job.get("user_name")), phase, indices, message, ended, starts_at)
    return made, str(job.get("partition")), number(job.get("priority"))


def _elements_of(job: Mapping[str, object], job_id: str, name: str, asked: str) -> Ranges:
    """Return which elements of an array a record is about."""
    text, task = job.get("array_task_string"), job.get("array_task_id")
    if text:
        return _indices(str(text), job_id, name, asked)
    return (range(number(task), number(task) + 1),) if _is_set(task) else ()


def _state(told: object) -> str:
    """Return the one state that counts, of a text or of a list of a base state and flags in any
    order."""
    states = [str(state) for state in told] if isinstance(told, list) else [str(told)]
    for flag in FLAGS:
        if flag in states:
            return flag
    return next((state for state in states if state in STATES), states[0] if states else "")


def _status_code(status: int) -> int:
    """Return an exit code out of a wait status, which is what squeue tells; 128 and the signal for
    one that ended it."""
    return status >> 8 if status >> 8 else (128 + (status & 0x7F) if status & 0x7F else 0)


def _is_set(value: object) -> bool:
    return bool(value.get("set")) if isinstance(value, dict) else value is not None


def number(value: object) -> int:
    """Return a number of either form, plain or `{"set": true, "number": 7}`; 0 if it is none."""
    if isinstance(value, dict):
        value = value.get("number") if value.get("set", True) and not value.get("infinite") else 0
    return value if isinstance(value, int) else 0


def positions(
    ours: Iterable[tuple[Job, str, int]], waiting: Iterable[tuple[str, str, int]]
) -> dict[str, int]:
    """Return the position of each of our waiting jobs (by id) among those that wait in its
    partition.

    `waiting`: id, partition and priority of everybody's waiting jobs. Slurm starts higher
    priorities first, then older ids.
    """
    queues: dict[str, list[tuple[int, int, str]]] = {}
    for job_id, partition, priority in waiting:
        queues.setdefault(partition, []).append((-priority, decimal(job_id) or 0, job_id))
    ranks = {
        name: {entry[2]: rank for rank, entry in enumerate(sorted(set(queue)), 1)}
        for name, queue in queues.items()
    }
    return {
        job.id: ranks.get(partition, {}).get(job.id, 0)
        for job, partition, _ in ours
        if job.phase is Phase.QUEUED
    }


def _short(text: str) -> str:
    return repr(" ".join(text.split())[:80]) if text.strip() else "nothing"
