"""The jobs of the stand-in for a PBS server: they run as processes of this machine, and end as
those of a real server do.

What it knows of real servers are the recorded cases: comments, substates and exit statuses are
theirs. Knows no command line.
"""

from __future__ import annotations

import os
import pathlib
import pwd
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tests.parts import as_account

SERVER = "pbs-host"
ENDED = ("X", "F")


@dataclass(slots=True)
class Part:
    """A job's one process, or an array's many."""

    index: int | None
    state: str = "Q"
    substate: int = 10
    status: int | None = None
    comment: str = ""
    runs: int = 0
    process: subprocess.Popen[bytes] | None = None
    deleting: bool = False
    requeued: bool = False
    lost: bool = False  # by a server that was started anew while it was being sent to its node
    fate: tuple[int, str] | None = None  # status and comment that a test has chosen for its end
    before_deletion: bool = False  # had ended when its array was deleted


@dataclass(slots=True)
class Job:
    """What was submitted."""

    number: int
    array: bool
    name: str
    owner: str
    queue: str
    arguments: str
    script: str
    uid: int
    cpus: int = 1
    output: str = ""
    parts: dict[int | None, Part] = field(default_factory=dict)
    held: str = ""
    submitted: float = field(default_factory=time.time)
    over: bool = False
    deleted: bool = False
    began: str = ""

    def id(self, part: Part | None = None) -> str:
        """Return the identifier, of a part of an array or of the whole."""
        if not self.array:
            return f"{self.number}.{SERVER}"
        return f"{self.number}[{'' if part is None else part.index}].{SERVER}"

    def remaining(self) -> list[Part]:
        """Return what has not ended."""
        return [part for part in self.parts.values() if part.state not in ENDED]


class Machine:
    """Jobs in a queue, and processors they run on."""

    def __init__(self, directory: pathlib.Path, cpus: int) -> None:
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        self.directory, self.cpus = directory, cpus
        self.home, self.spool = directory / "home", directory / "spool"
        self.home.mkdir(mode=0o777)
        self.spool.mkdir(mode=0o755)
        self.jobs: dict[int, Job] = {}
        self.history = True
        self.scheduling = True
        # name → started
        self.queues: dict[str, bool] = {
            "workq": True,
            "long": True,
            "short": True,
            "stopped": False,
        }
        self.kill_delay_s = 2.0
        self.next_number = 1000
        self.environment: dict[str, str] = {}  # added to that of every job

    def add(self, job: Job) -> None:
        """Take a job into its queue."""
        with self.lock:
            self.jobs[job.number] = job
            self.schedule()

    def parts(self) -> Iterator[tuple[Job, Part]]:
        """Yield everything there is."""
        for job in list(self.jobs.values()):
            for part in list(job.parts.values()):
                yield job, part

    def counts(self) -> str:
        """Return how many there are in each state, as the server says it; what its history has is
        not counted."""
        states = [part.state for job, part in self.parts() if not job.over]
        begun = sum(1 for job in self.jobs.values() if job.began and not job.over)
        numbers = {
            "Transit": 0,
            "Queued": states.count("Q"),
            "Held": 0,
            "Waiting": 0,
            "Running": states.count("R"),
            "Exiting": 0,
        }
        return "".join(f"{name}:{number} " for name, number in {**numbers, "Begun": begun}.items())

    def free(self) -> int:
        """Return how many processors nothing runs on."""
        return self.cpus - sum(job.cpus for job, part in self.parts() if part.state in ("R", "S"))

    def schedule(self) -> None:
        """Start what can be started and say of the rest why not: the scheduler's cycle."""
        self.changed.notify_all()
        if not self.scheduling:
            return
        for job, part in self.parts():
            if part.state != "Q" or job.held:
                continue
            if job.cpus > self.cpus:
                why = (
                    f"Can Never Run: Insufficient amount of resource: ncpus (R: {job.cpus} A:"
                    f" {self.cpus} T: {self.cpus})"
                )
            elif not self.queues[job.queue]:
                why = "Not Running: Queue not started."
            elif job.cpus > self.free():
                why = "Not Running: Not enough free nodes available"
            else:
                self._start(job, part)
                continue
            part.comment = job.began or why

    def _start(self, job: Job, part: Part) -> None:
        at = time.strftime("%a %b %d at %H:%M")
        if job.array and not job.began:
            job.began = f"Job Array Began at {at}"
        for other in job.remaining():
            other.comment = job.began if other.state == "Q" and job.array else other.comment
        part.state, part.substate, part.status, part.runs = "R", 42, None, part.runs + 1
        part.comment = f"Job run at {at} on ({SERVER}:ncpus={job.cpus})"
        account = pwd.getpwuid(job.uid)
        identity = as_account(job.uid, account.pw_gid) if os.getuid() == 0 and job.uid != 0 else []
        with open(self.spool / f"{job.id(part)}.OU", "ab") as output:
            part.process = subprocess.Popen(
                [*identity, *_words(job.script)],
                cwd=self.home,
                env=self._environment(job, part),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                umask=0o077,
            )
        threading.Thread(target=self._wait, args=(job, part, part.process), daemon=True).start()

    def _environment(self, job: Job, part: Part) -> dict[str, str]:
        """Return what a job's processes find, as in the cases 720 and 725."""
        array = {"PBS_ARRAY_ID": job.id(), "PBS_ARRAY_INDEX": str(part.index)} if job.array else {}
        return {
            "ENVIRONMENT": "BATCH",
            "HOME": str(self.home),
            "LOGNAME": job.owner,
            "USER": job.owner,
            "NCPUS": str(job.cpus),
            "OMP_NUM_THREADS": str(job.cpus),
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "PBS_ENVIRONMENT": "PBS_BATCH",
            "PBS_JOBID": job.id(part),
            "PBS_JOBNAME": job.name,
            "PBS_JOBDIR": str(self.home),
            "PBS_QUEUE": job.queue,
            "SHELL": "/bin/bash",
            **array,
            **self.environment,
        }

    def _wait(self, job: Job, part: Part, process: subprocess.Popen[bytes]) -> None:
        code = process.wait()
        with self.lock:
            if part.process is process:
                part.process = None
                self._ended(job, part, code)
                self.schedule()

    def _ended(self, job: Job, part: Part, code: int) -> None:
        if part.requeued and not part.deleting:
            part.state, part.substate, part.status, part.comment, part.requeued = (
                "Q",
                10,
                -11,
                job.began,
                False,
            )
            if part.lost:
                part.status, part.comment, part.lost = None, "", False
                part.runs = 0 if job.array else part.runs
            return
        part.status = code if code >= 0 else 256 - code
        if part.fate is not None:
            part.status, words = part.fate
            part.substate = 93
        elif part.deleting:
            part.status, part.substate, words = 271, 91, ""
        else:
            part.substate, words = (
                (92, " and finished") if part.status == 0 else (93, " and failed")
            )
        part.comment += words
        part.state = "X" if job.array else "F"
        # case 912: the server has forgotten the part, and how it ended
        if job.array and not self.history:
            part.comment, part.substate, part.status, part.runs = "Subjob finished", 70, 1, 0
        if job.output and job.output != "/dev/null":
            (self.spool / f"{job.id(part)}.OU").rename(job.output)
        self._settle(job)

    def _settle(self, job: Job) -> None:
        """End a job of which nothing is left. The parts of an array that was deleted lose what they
        ended with (case 447)."""
        if job.remaining():
            return
        job.over = True
        for part in job.parts.values():
            part.state = "F"
            if job.array and job.deleted and part.before_deletion:
                part.substate, part.status, part.comment = 91, 1, "Subjob finished"
        if not self.history:
            del self.jobs[job.number]

    def delete(self, job: Job, parts: list[Part], by: str, whole: bool) -> None:
        """End parts of a job, or the whole."""
        if whole:
            job.deleted = True
            for part in job.parts.values():
                part.before_deletion = part.state in ENDED
        for part in parts:
            if part.process is not None and not part.deleting:
                part.deleting = True
                part.comment += f" and terminated by {by}@{SERVER}"
                _signal(part.process, signal.SIGTERM)
                timer = threading.Timer(self.kill_delay_s, _signal, (part.process, signal.SIGKILL))
                timer.daemon = True
                timer.start()
            elif part.process is None and part.state not in ENDED:
                part.state, part.substate = ("X", 70) if job.array else ("F", 91)
                part.comment = (
                    "Subjob finished"
                    if job.array
                    else part.comment and f"{part.comment} and terminated"
                )
        self._settle(job)
        self.schedule()

    def end(self, job: Job, part: Part, status: int, words: str) -> None:
        """End a part as PBS itself does, such as for memory."""
        with self.lock:
            part.fate = (status, words)
            assert part.process is not None
            _signal(part.process, signal.SIGKILL)

    def requeue(self, job: Job, part: Part) -> None:
        """Put a running part back into its queue, as a preemption does."""
        with self.lock:
            part.requeued = True
            assert part.process is not None
            _signal(part.process, signal.SIGKILL)

    def restart_while_starting(self, *jobs: Job) -> None:
        """Put jobs back as a server does that is killed just after it sent them to their node, and
        started again (cases 920 to 922).

        Whether they may be rerun or not; parts of arrays are then told of as if they had never been
        sent.
        """
        with self.lock:
            self.scheduling = False
            for job in jobs:
                for part in job.remaining():
                    if part.process is not None:
                        part.requeued, part.lost = True, True
                        _signal(part.process, signal.SIGKILL)
        self.wait_for(lambda: not any(part.process for job in jobs for part in job.parts.values()))

    def wait_for(self, holds: Callable[[], bool], timeout_s: float = 60.0) -> None:
        """Wait until something holds of the jobs."""
        with self.lock:
            assert self.changed.wait_for(holds, timeout_s), [
                (job.id(part), part.state, part.comment) for job, part in self.parts()
            ]

    def wait_change(self, timeout_s: float = 0.2) -> None:
        """Wait until something changes, but not for long."""
        with self.lock:
            self.changed.wait(timeout_s)

    def clear(self) -> None:
        """End everything by force."""
        with self.lock:
            self.scheduling = False
            for _, part in self.parts():
                if part.process is not None:
                    part.deleting = True
                    _signal(part.process, signal.SIGKILL)
        self.wait_for(lambda: not any(part.process for _, part in self.parts()))


def _words(script: str) -> list[str]:
    """Return the words that run a script, by what its first line names.

    It is read, not run: whatever was forked while it was written has it open for a moment, and what
    is open for writing cannot be run.
    """
    with open(script) as file:
        first = file.readline()
    interpreter, _, argument = (
        first.removeprefix("#!").strip().partition(" ")
        if first.startswith("#!")
        else ("/bin/sh", "", "")
    )
    return [
        "/bin/sh",
        "-c",
        'exec "$@"',
        "sh",
        interpreter,
        *([argument] if argument else []),
        script,
    ]


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        pass
