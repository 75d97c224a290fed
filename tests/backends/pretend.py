"""A batch system within the test's own process: runs jobs as children of the shell, and does not
answer when told so."""

from __future__ import annotations

import asyncio
import os
import pathlib
import signal
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from gateway.backends.batch.arrays import ranges
from gateway.backends.batch.base import BatchBackend
from gateway.backends.batch.logfiles import INDEX
from gateway.backends.batch.system import BatchSystem, Cancel, Job, Listed, Order, SubmitRefused
from gateway.backends.contract import BackendUnavailable, Phase


@dataclass
class Element:
    """A job, or an element of one."""

    order: Order
    index: int | None
    phase: Phase = Phase.QUEUED
    code: int | None = None
    process: asyncio.subprocess.Process | None = None


@dataclass
class PretendSystem:
    """A machine room that outlives the backends on it."""

    jobs_by_id: dict[str, list[Element]] = field(default_factory=dict)
    answers: bool = True
    kill_delay_s: float = 1.0  # what has not ended by then is ended by force
    full: bool = False  # nothing starts while it is
    untold: set[str] = field(default_factory=set)  # accounts whose jobs cannot be listed
    silent: bool = False  # lists nothing, and says that all is well
    drop_answers: int = 0  # submissions that are accepted and not answered
    submissions: int = 0
    cancels: list[Cancel] = field(default_factory=list)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def _check(self) -> None:
        if not self.answers:
            raise BackendUnavailable("the pretended batch system does not answer")

    async def submit(self, order: Order) -> str:
        """Take a job and run it."""
        self._check()
        if order.settings.get("queue") == "none":
            raise SubmitRefused("there is no such queue", permanent=True)
        self.submissions += 1
        job_id = str(len(self.jobs_by_id) + 1)
        indices: list[int | None] = [i for run in order.indices for i in run] or [None]
        self.jobs_by_id[job_id] = [Element(order, index) for index in indices]
        for element in self.jobs_by_id[job_id]:
            task = asyncio.create_task(self._run(element))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)
        if self.drop_answers:
            self.drop_answers -= 1
            raise BackendUnavailable("the answer was lost")
        return job_id

    async def _run(self, element: Element) -> None:
        while self.full and element.phase is Phase.QUEUED:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        if element.phase is not Phase.QUEUED:
            return
        path = element.order.log_path.replace(INDEX, str(element.index))
        log = (
            os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            if path and pathlib.Path(path).parent.is_dir()
            else os.open(os.devnull, os.O_WRONLY)
        )
        env = (
            {**os.environ, "PRETEND_INDEX": str(element.index)}
            if element.index is not None
            else dict(os.environ)
        )
        pipe = asyncio.subprocess.PIPE
        child = await asyncio.create_subprocess_exec(
            "/bin/sh", "-s", stdin=pipe, stdout=log, stderr=log, env=env, start_new_session=True
        )
        os.close(log)
        cancelled = bool(element.phase is Phase.GONE)  # type: ignore[comparison-overlap]
        element.process, element.phase = child, Phase.RUNNING
        if cancelled:
            self.end(element)
        await child.communicate(element.order.script.encode())
        element.code, element.phase = child.returncode, Phase.GONE

    async def cancel(self, cancels: Sequence[Cancel]) -> None:
        """End jobs."""
        self._check()
        self.cancels += cancels
        for cancel in cancels:
            chosen = {i for run in cancel.indices for i in run}
            for element in self.jobs_by_id.get(cancel.id, []):
                if not chosen or element.index in chosen:
                    self.end(element)

    def end(self, element: Element) -> None:
        """End an element."""
        if element.process is not None and element.process.returncode is None:
            _signal(element.process, signal.SIGTERM)
            asyncio.get_running_loop().call_later(self.kill_delay_s, self._kill, element)
        elif element.phase is Phase.QUEUED:
            element.phase = Phase.GONE

    def _kill(self, element: Element) -> None:
        if element.process is not None and element.process.returncode is None:
            _signal(element.process, signal.SIGKILL)

    async def jobs(self, users: Collection[str]) -> Listed:
        """List all, but what has been forgotten."""
        self._check()
        if self.silent:
            return Listed([])
        jobs = [
            Job(
                job_id,
                str(e.order.name),
                e.order.user,
                e.phase,
                () if e.index is None else ranges([e.index]),
                "",
                e.code,
            )
            for job_id, elements in self.jobs_by_id.items()
            for e in elements
        ]
        return Listed(
            [job for job in jobs if job.user not in self.untold],
            dict.fromkeys(self.untold, "the jobs of some cannot be listed"),
        )

    async def ended(self, ids: Collection[str], users: Collection[str]) -> Sequence[Job]:
        """There is no accounting."""
        return []

    def shown(self) -> str:
        """Return what it shows to everybody: names of jobs and what was asked for, not their
        scripts."""
        orders = [elements[0].order for elements in self.jobs_by_id.values()]
        return "\n".join(
            f"{order.name} {order.user} {order.settings} {order.resources}" for order in orders
        )

    async def close(self) -> None:
        """End everything."""
        for elements in self.jobs_by_id.values():
            for element in elements:
                self.end(element)
        await asyncio.gather(*self.tasks)

    @asynccontextmanager
    async def outage(self) -> AsyncIterator[None]:
        """Do not answer for a while."""
        self.answers = False
        try:
            yield
        finally:
            self.answers = True


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:  # it has ended, and the loop does not know it yet
        pass


class PretendBackend(BatchBackend):
    """The backend of a pretended batch system."""

    name = "pretend"
    index_variable = "PRETEND_INDEX"
    setting_names = ("setup", "queue")
    queue = ""

    def __init__(self, room: PretendSystem, **settings: object) -> None:
        super().__init__(**settings)
        self.room = room

    def make_system(self) -> BatchSystem:
        """Return the pretended one."""
        return self.room
