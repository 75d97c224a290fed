"""What Slurm's answers mean."""

from __future__ import annotations

import json

import pytest

from gateway.backends.contract import BackendUnavailable, Phase
from gateway.backends.slurm import states
from tests.unit.slurm_told import NAME, UID

MARK = "|qwertzui|"


# States and reasons

EVERY_STATE = """
BOOT_FAIL CANCELLED COMPLETED CONFIGURING COMPLETING DEADLINE FAILED NODE_FAIL OUT_OF_MEMORY PENDING PREEMPTED RUNNING RESV_DEL_HOLD
REQUEUE_FED REQUEUE_HOLD REQUEUED RESIZING REVOKED SIGNALING SPECIAL_EXIT STAGE_OUT STOPPED SUSPENDED TIMEOUT
"""  # of squeue(1), "JOB STATE CODES"  # noqa: E501


@pytest.mark.parametrize("state", EVERY_STATE.split())
def test_every_state_is_known(state: str) -> None:
    assert state in states.STATES


@pytest.mark.parametrize(
    ("state", "reason", "code", "phase", "message"),
    [
        ("PENDING", "Priority", 0, Phase.QUEUED, "other jobs come first (Priority)"),
        (
            "PENDING",
            "ReqNodeNotAvail, Unavail:n1",
            0,
            Phase.QUEUED,
            "nodes it needs are not available (ReqNodeNotAvail, Unavail:n1)",
        ),
        ("PENDING", "SomethingNew", 0, Phase.QUEUED, "SomethingNew"),
        ("PENDING", "None", 0, Phase.QUEUED, ""),
        ("CONFIGURING", "None", 0, Phase.QUEUED, "its node is being made ready (CONFIGURING)"),
        ("REQUEUED", "None", 0, Phase.QUEUED, "it was put back into the queue (REQUEUED)"),
        ("RUNNING", "None", 0, Phase.RUNNING, ""),
        ("COMPLETING", "None", 0, Phase.RUNNING, "it is ending (COMPLETING)"),
        ("SUSPENDED", "None", 0, Phase.RUNNING, "it is suspended (SUSPENDED)"),
        ("COMPLETED", "None", 0, Phase.GONE, ""),
        (
            "OUT_OF_MEMORY",
            "OutOfMemory",
            0,
            Phase.GONE,
            "it was killed for memory: it used more than its job was given (OUT_OF_MEMORY)",
        ),
        ("TIMEOUT", "TimeLimit", 0, Phase.GONE, "its job has reached its time limit (TIMEOUT)"),
        ("CANCELLED by 1000", "", 0, Phase.GONE, "its job was cancelled (CANCELLED)"),
        ("CANCELLED+", "", 0, Phase.GONE, "its job was cancelled (CANCELLED)"),
        (
            "FAILED",
            "NonZeroExitCode",
            3,
            Phase.GONE,
            "its job failed with code 3 (FAILED): NonZeroExitCode",
        ),
        ("NODE_FAIL", "None", 0, Phase.GONE, "its node failed (NODE_FAIL)"),
        ("PREEMPTED", "None", 0, Phase.GONE, "its job was preempted for another (PREEMPTED)"),
        # what is not understood ends nobody's cluster
        ("A_NEW_STATE", "None", 0, Phase.RUNNING, ""),
    ],
)
def test_states_and_reasons_in_words(
    state: str, reason: str, code: int, phase: Phase, message: str
) -> None:
    assert states.verdict(state, reason, code) == (phase, message)


def squeue(*rows: tuple[str, ...]) -> str:
    """Return what squeue prints with a mark."""
    heading = (
        "ARRAY_JOB_ID",
        "ARRAY_TASK_ID",
        "STATE",
        "EXIT_CODE",
        "REASON",
        "START_TIME",
        "PRIORITY",
        "USER",
        "PARTITION",
        "NAME",
    )
    return "".join("".join(field + MARK for field in row) + "\n" for row in (heading, *rows))


def row(
    job_id: str,
    tasks: str,
    state: str,
    name: str,
    code: str = "0",
    reason: str = "None",
    start: str = "N/A",
    user: str = "dgw",
) -> tuple[str, ...]:
    """Return a row of squeue."""
    return (job_id, tasks, state, code, reason, start, "100", user, "p", name)


def test_lines_of_squeue() -> None:
    text = squeue(
        row(
            "15", "0-99,104", "PENDING", str(NAME), reason="Resources", start="2026-11-25T03:37:28"
        ),
        row("16", "7", "FAILED", str(NAME), code="768"),
        row("17", "N/A", "COMPLETED", f"dgw1-{UID}-s"),
        row("18", "N/A", "FAILED", "x", code="9"),
    )
    waiting, failed, done, killed = [job for job, _, _ in states.parse_squeue(text, MARK)]
    assert (waiting.indices, waiting.starts_at, waiting.phase) == (
        (range(100), range(104, 105)),
        1_795_577_848_000,
        Phase.QUEUED,
    )
    assert (failed.indices, failed.exit_code) == ((range(7, 8),), 3)
    assert (done.indices, done.exit_code) == ((), 0)
    assert killed.exit_code == 137


def test_a_name_with_a_line_break_cannot_pretend_to_be_another_job() -> None:
    forged = "x\n" + "|".join(row("99", "N/A", "CANCELLED", f"dgw1-{UID}-s")) + "\ny"
    found = states.parse_squeue(
        squeue(
            row("15", "N/A", "RUNNING", forged, user="mallory"), row("16", "N/A", "RUNNING", "b")
        ),
        MARK,
    )
    assert [job.id for job, _, _ in found] == ["16"]


@pytest.mark.parametrize(
    "text", ["", "\n", "squeue: broken\n", "Erreur: pas de réponse\n", '{"jobs": []}']
)
def test_what_is_no_list_of_jobs_is_no_list_of_no_jobs(text: str) -> None:
    with pytest.raises(BackendUnavailable, match="squeue answered what is no list of jobs"):
        states.parse_squeue(text, MARK)
    with pytest.raises(BackendUnavailable, match="sacct answered what is no list of jobs"):
        states.parse_sacct(text, MARK)


def test_lines_of_sacct() -> None:
    rows = [
        ("JobID", "State", "ExitCode", "User", "JobName"),
        ("15_0", "CANCELLED by 0", "0:0", "dgw", str(NAME)),
        ("15_[1-3]", "PENDING", "0:0", "dgw", str(NAME)),
        ("16", "OUT_OF_MEMORY", "0:125", "dgw", "x"),
        ("17", "FAILED", "3:0", "dgw", "x"),
        ("17.batch", "FAILED", "3:0", "", "batch"),
        ("18", "COMPLETED", "0:0", "dgw", "x"),
    ]
    found = states.parse_sacct("".join(MARK.join(row) + "\n" for row in rows), MARK)
    assert [(job.id, job.indices, job.phase, job.exit_code) for job in found] == [
        ("15", (range(1),), Phase.GONE, None),
        ("15", (range(1, 4),), Phase.QUEUED, None),
        ("16", (), Phase.GONE, 253),
        ("17", (), Phase.GONE, 3),
        ("18", (), Phase.GONE, 0),
    ]


OLD = {
    "job_id": 23,
    "array_job_id": 15,
    "array_task_id": 4,
    "array_task_string": "",
    "job_state": "FAILED",
    "exit_code": 768,
    "name": str(NAME),
}
OLD |= {
    "name": str(NAME),
    "user_name": "dgw",
    "state_reason": "NonZeroExitCode",
    "start_time": 5,
    "partition": "p",
    "priority": 9,
}
NEW = {
    "job_id": {"set": True, "number": 23},
    "array_job_id": {"set": True, "infinite": False, "number": 15},
    "array_task_string": "",
}
NEW |= {
    "array_task_id": {"set": True, "number": 4},
    "job_state": ["FAILED"],
    "exit_code": {"return_code": {"set": True, "number": 3}},
}
NEW |= {
    "name": str(NAME),
    "user_name": "dgw",
    "state_reason": "NonZeroExitCode",
    "start_time": {"set": True, "number": 5},
    "partition": "p",
}
NEW |= {"priority": {"set": True, "number": 9}}


@pytest.mark.parametrize("job", [OLD, NEW], ids=["before 23.02", "since 23.02"])
def test_json_of_either_form(job: dict[str, object]) -> None:
    ((found, partition, priority),) = states.jobs_of_json(
        json.dumps({"meta": {}, "errors": [], "jobs": [job]}), "squeue"
    )
    assert (found.id, found.indices, found.phase, found.exit_code) == (
        "15",
        (range(4, 5),),
        Phase.GONE,
        3,
    )
    assert (partition, priority) == ("p", 9)
    waiting = {
        **job,
        "array_task_string": "0-3,9",
        "array_task_id": None,
        "job_state": "PENDING",
        "state_reason": "Priority",
    }
    ((found, _, _),) = states.jobs_of_json(json.dumps({"jobs": [waiting]}), "squeue")
    assert (found.indices, found.phase, found.starts_at) == (
        (range(4), range(9, 10)),
        Phase.QUEUED,
        5000,
    )


@pytest.mark.parametrize(
    ("told", "phase", "message"),
    [
        (["CANCELLED", "COMPLETING"], Phase.RUNNING, "it is ending (COMPLETING)"),
        (["COMPLETED", "COMPLETING"], Phase.RUNNING, "it is ending (COMPLETING)"),
        (["COMPLETING", "NODE_FAIL"], Phase.RUNNING, "it is ending (COMPLETING)"),
        (["FAILED", "REQUEUED"], Phase.QUEUED, "it was put back into the queue (REQUEUED)"),
        (
            ["REQUEUE_HOLD", "NODE_FAIL"],
            Phase.QUEUED,
            "it was put back into the queue and is held (REQUEUE_HOLD)",
        ),
        (
            ["FAILED", "SPECIAL_EXIT"],
            Phase.QUEUED,
            "it was put back into the queue and is held (SPECIAL_EXIT)",
        ),
        (["PREEMPTED", "REQUEUED", "COMPLETING"], Phase.RUNNING, "it is ending (COMPLETING)"),
        (["COMPLETED", "STAGE_OUT"], Phase.RUNNING, "it is ending (STAGE_OUT)"),
        (["RUNNING", "CONFIGURING"], Phase.QUEUED, "its node is being made ready (CONFIGURING)"),
        (["RESIZING", "RUNNING"], Phase.RUNNING, ""),
        (["A_NEW_FLAG", "CANCELLED"], Phase.GONE, "its job was cancelled (CANCELLED)"),
        (["A_NEW_STATE", "A_NEW_FLAG"], Phase.RUNNING, ""),
        (["SUSPENDED"], Phase.RUNNING, "it is suspended (SUSPENDED)"),
        ([], Phase.RUNNING, ""),
    ],
)
def test_a_state_with_flags_is_the_flags(told: list[str], phase: Phase, message: str) -> None:
    job = {**NEW, "job_state": told, "state_reason": "None", "exit_code": {}}
    ((found, _, _),) = states.jobs_of_json(json.dumps({"jobs": [job]}), "squeue")
    assert (found.phase, found.message) == (phase, message)


def test_every_flag_is_a_state() -> None:
    assert set(states.FLAGS) < set(states.STATES)


CUT = "0-3,9,12,34,36-..."


def test_a_list_of_elements_that_was_cut_short_is_no_job_of_its_own() -> None:
    why = (
        r"elements of array 15 in no way that can be read"
        r" \('0-3,9,12,34,36-...'\).*SLURM_BITSTR_LEN=0 in the environment of "
    )
    for job in (OLD, NEW):
        waiting = {**job, "array_task_string": CUT, "array_task_id": None, "job_state": "PENDING"}
        with pytest.raises(BackendUnavailable, match=why + "slurmrestd"):
            states.jobs_of_json(json.dumps({"jobs": [waiting]}), "slurmrestd")
    with pytest.raises(BackendUnavailable, match=why + "squeue"):
        states.parse_squeue(squeue(row("15", CUT, "PENDING", str(NAME))), MARK)
    with pytest.raises(BackendUnavailable, match=why + "sacct"):
        states.parse_sacct(
            "".join(
                MARK.join(fields) + "\n"
                for fields in (
                    states.ACCOUNTING_FIELDS,
                    (f"15_[{CUT}]", "PENDING", "", "", str(NAME)),
                )
            ),
            MARK,
        )


def test_what_lists_anybody_elses_elements_hides_nobodys_jobs() -> None:
    foreign = {**OLD, "name": "simulation", "array_task_string": CUT, "array_task_id": None}
    found = states.jobs_of_json(json.dumps({"jobs": [foreign, OLD]}), "slurmrestd")
    assert [job.indices for job, _, _ in found if job.name == str(NAME)] == [(range(4, 5),)]


def test_an_array_without_elements_is_one_that_was_cancelled_before_any_ran() -> None:
    ended = {**OLD, "array_task_id": None, "job_state": "CANCELLED"}
    ((found, _, _),) = states.jobs_of_json(json.dumps({"jobs": [ended]}), "slurmrestd")
    assert (found.id, found.indices, found.phase) == ("15", (), Phase.GONE)
    with pytest.raises(BackendUnavailable, match="elements of array 15"):
        states.jobs_of_json(json.dumps({"jobs": [{**ended, "job_state": "PENDING"}]}), "slurmrestd")


@pytest.mark.parametrize("text", ["", "{}", "null", '{"jobs": [{"job_id": 1}, {"jo', "<html>"])
def test_json_that_is_none_is_no_answer(text: str) -> None:
    with pytest.raises(BackendUnavailable):
        states.jobs_of_json(text, "slurmrestd")


def test_the_place_in_the_queue_counts_priorities_then_ages() -> None:
    text = squeue(row("15", "0-9", "PENDING", str(NAME)), row("16", "N/A", "PENDING", "x"))
    queue = [
        ("3", "p", 50),
        ("15", "p", 100),
        ("16", "p", 100),
        ("20", "p", 900),
        ("21", "other", 9999),
    ]
    assert states.positions(states.parse_squeue(text, MARK), queue) == {"15": 2, "16": 3}


@pytest.mark.parametrize(
    ("complaint", "message", "hopeless"),
    [
        (
            "sbatch: error: Batch job submission failed: Invalid partition name specified",
            "Invalid partition name specified",
            True,
        ),
        (
            "sbatch: error: Batch job submission failed: Job violates accounting/QOS policy (job"
            " submit limit)",
            "Job violates accounting/QOS policy (job submit limit)",
            False,
        ),
    ],
)
def test_refusals(complaint: str, message: str, hopeless: bool) -> None:
    assert states.refusal(complaint) == (message, hopeless)
    assert states.UNREACHABLE.search(
        "squeue: error: Unable to contact slurm controller (connect failure)"
    )
