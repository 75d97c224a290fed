"""Schedulers and workers as processes of this machine.

They live in sessions of their own and survive the server. What runs is read from the machine
itself: every process carries marks in its environment, so one that was started just before the
server died is found like any other, and nothing depends on a record that could be lost. Its start
time tells it from a later process with the same pid.
"""

from __future__ import annotations

import asyncio
import os
import pathlib
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from traitlets import Bool, Float, Int, Unicode

from gateway import checks
from gateway.backends import logfile
from gateway.backends.base import BaseBackend
from gateway.backends.contract import (
    BackendUnavailable,
    Instance,
    Launch,
    Observation,
    Observe,
    Phase,
    Resources,
    Started,
    StartFailed,
    StartOutcome,
    Target,
)
from gateway.backends.local import proc, spawning
from gateway.backends.local.directories import Directories, closed_above
from gateway.backends.local.proc import ProcessId
from gateway.backends.one_at_a_time import Turns
from gateway.backends.setbacks import Setbacks
from gateway.files import default_state_dir

SHARES_S = 10.0  # the logs of all users are added up at most so often
KEPT_ENDS = 10_000  # how instances ended, until their cluster is cleaned up


@dataclass(slots=True)
class _Running:
    """A process that runs."""

    process: ProcessId
    descriptor: int  # pidfd
    child: subprocess.Popen[bytes] | None  # None if it was started by an earlier server
    killer: asyncio.TimerHandle | None = None


class LocalBackend(BaseBackend):
    """Processes of this machine."""

    name = "local"

    root = Unicode(
        help="Directory of clusters' files and logs, on a local disk, of this gateway alone."
        " Default: local below"
        " c.DaskGateway.state_dir; with run_as_user, whose processes cannot pass through that one,"
        " <state_dir>-local beside it."
    ).tag(config=True)
    run_as_user = Bool(
        False,
        help="Run each cluster as the system user of its owner's name. Needs root; the user must"
        " exist on this machine.",
    ).tag(config=True)
    min_uid = Int(
        1000,
        min=1,
        help="Least number of a system user that clusters run as, with run_as_user. Below are the"
        " accounts of services, such as daemon or postgres, whose files a user of the same name"
        " would get.",
    ).tag(config=True)
    max_log_bytes = Int(
        64 * 2**20,
        min=2**20,
        help="Space on disk that the log of one process may take; seen to at every look. What is"
        " oldest goes first.",
    ).tag(config=True)
    max_log_bytes_per_user = Int(
        2**30,
        min=0,
        help="Space on disk that all logs of one user may take, ended clusters' too. What was"
        " written first goes first. 0: any.",
    ).tag(config=True)
    stop_grace_s = Float(
        5.0, min=0.0, help="Seconds that a process may take to end by itself, before it is killed."
    ).tag(config=True)
    start_threads = Int(4, min=1, max=64, help="Processes started at a time.").tag(config=True)
    local = Bool(
        True, help="Whether schedulers may run on the gateway's own machine, as they do."
    ).tag(config=True)
    observe_interval_s = Float(
        30.0, min=0.1, help="Seconds between two looks; ends are told at once anyway."
    ).tag(config=True)

    def _root_default(self) -> str:
        server = self.config.get("DaskGateway", {})
        state = pathlib.Path(str(server.get("state_dir") or default_state_dir()))
        return str(state.with_name(state.name + "-local") if self.run_as_user else state / "local")

    def problems(self) -> list[str]:
        """Return what is wrong with the settings, one line each."""
        if self.run_as_user and os.geteuid() != 0:
            return [
                f"c.LocalBackend.run_as_user: only root can run processes as other users, and this"
                f" account's number is {os.geteuid()}; run the gateway as root, or set it to False"
            ]
        if wrong := checks.directory(self.root):
            return [f"c.LocalBackend.root: {wrong}"]
        objection = Directories(self.root, users=self.run_as_user).objection()
        return [objection] if objection else []

    def cluster_settings(self) -> Mapping[str, object]:
        """Return where schedulers listen: on this machine only, whose edge passes users on."""
        return {"scheduler_host": "127.0.0.1"}

    def place(self) -> Mapping[str, str]:
        """Return the directory whose name every process carries."""
        return {"c.LocalBackend.root": self.root}

    def allots(self, resources: Resources) -> Resources:
        """Return at least one core: nothing holds a process to less, and it has a thread."""
        return replace(resources, cores=max(1.0, resources.cores))

    def objection(self, resources: Resources, settings: Mapping[str, object]) -> str:
        """Return why a process cannot be given GPUs or named resources: nobody hands them out."""
        if not resources.gpus and not resources.named:
            return ""
        what = "GPUs" if resources.gpus else ", ".join(sorted(resources.named))
        return (
            f"the backend local hands out no {what}: its processes use what this machine has, as"
            f" they find it; to have Dask count them, set distributed.worker.resources of"
            f" dask_config"
        )

    async def open(self, push: Observe) -> None:
        """Make the directories, and find what runs already."""
        await super().open(push)
        self._loop = asyncio.get_running_loop()
        self._running: dict[Instance, _Running] = {}
        self._ended: dict[Instance, Observation] = {}
        self._turns = Turns()
        self._threads = ThreadPoolExecutor(self.start_threads, thread_name_prefix="local-start")
        self._setbacks = Setbacks()
        self._shares_due = 0.0
        self._directories = Directories(self.root, users=self.run_as_user)
        if wrong := self.problems():
            raise BackendUnavailable("\n".join(wrong))
        await asyncio.to_thread(self._directories.make)
        self._lock = self._directories.lock()
        for instance, process in await asyncio.to_thread(self._scan):
            self._follow(instance, process, None)

    def _scan(self) -> list[tuple[Instance, ProcessId]]:
        """Return what runs. Of several that carry an instance's marks the oldest is it: the others
        were started from within it."""
        found: dict[Instance, ProcessId] = {}
        for process, environment in proc.marked(spawning.marks_of(self._directories)):
            instance = spawning.told(environment)
            if (
                instance is None
                or not proc.leads_session(process)
                or self._owner(instance) is None
                or not self._is_its_users(process, instance)
            ):
                continue
            known = found.get(instance)
            found[instance] = process if known is None or process.started < known.started else known
        return list(found.items())

    def _owner(self, instance: Instance) -> int | None:
        return self._directories.owner(instance) if self.run_as_user else os.geteuid()

    def _is_its_users(self, process: ProcessId, instance: Instance) -> bool:
        """Whether a process runs as whom the instance's files are, if there are any.

        Anybody may write marks into the environment of a process of his own; and after the machine
        was started anew, a process of anybody's may have the number and the age of one from before.
        """
        owner = self._owner(instance)
        return owner is None or (
            (owner != 0 or not self.run_as_user) and proc.runs_as(process.pid, owner)
        )

    async def close(self) -> None:
        """Let go of everything but the processes."""
        for running in self._running.values():
            self._let_go(running)
            if running.child is not None and running.child.returncode is None:
                # it outlives us, and nobody is to complain that it was not waited for
                running.child.returncode = 0
        self._running.clear()
        self._threads.shutdown(wait=True)
        self._directories.removers.shutdown(wait=False, cancel_futures=True)
        os.close(self._lock)

    async def start(self, launches: Sequence[Launch]) -> Mapping[Instance, StartOutcome]:
        """Start what does not run yet."""
        different = {launch.instance: launch for launch in launches}
        outcomes = await asyncio.gather(*(self._start_one(launch) for launch in different.values()))
        return dict(zip(different, outcomes))

    async def _start_one(self, launch: Launch) -> StartOutcome:
        # asked for twice at once it is one all the same
        async with self._turns.of(launch.instance):
            running = self._running.get(launch.instance)
            return (
                Started(str(running.process))
                if running is not None
                else await self._start_anew(launch)
            )

    async def _start_anew(self, launch: Launch) -> StartOutcome:
        self._ended.pop(launch.instance, None)
        try:
            child = await self._loop.run_in_executor(self._threads, self._spawn, launch)
        except OSError as error:
            what = f"{error.filename}: " if error.filename else ""
            named = isinstance(error, PermissionError) and self.run_as_user and error.filename
            why = closed_above(str(error.filename)) if named else ""
            return StartFailed(f"{what}{error.strerror or error}{why}")
        except (KeyError, ValueError) as error:
            return StartFailed(str(error.args[0]), permanent=True)
        process = proc.identify(child.pid)
        if process is None:  # ended already
            code = await self._loop.run_in_executor(self._threads, _end_by_force, child)
            return StartFailed(
                self._last_words(launch.instance) or f"it ended at once with code {code}"
            )
        try:
            self._follow(launch.instance, process, child)
        # such as too many open files: what cannot be watched must not run, or it would be started
        # twice
        except OSError as error:
            await self._loop.run_in_executor(self._threads, _end_by_force, child)
            return StartFailed(f"it could not be watched: {error.strerror}")
        return Started(str(process))

    def _spawn(self, launch: Launch) -> subprocess.Popen[bytes]:
        account = spawning.account_of(launch.user, self.min_uid) if self.run_as_user else None
        return spawning.spawn(launch, account, self._directories)

    def _follow(
        self, instance: Instance, process: ProcessId, child: subprocess.Popen[bytes] | None
    ) -> None:
        """Watch a process until it ends."""
        try:
            descriptor = os.pidfd_open(process.pid)
        except ProcessLookupError:
            self._end(instance, child.wait() if child is not None else None)
            return
        running = self._running[instance] = _Running(process, descriptor, child)
        self._loop.add_reader(descriptor, self._over, instance, running)
        self.push([Observation(instance, Phase.RUNNING, str(process))])

    def _over(self, instance: Instance, running: _Running) -> None:
        """Take note that a process has ended."""
        self._let_go(running)
        if self._running.get(instance) is running:
            del self._running[instance]
        code = _end_by_force(running.child) if running.child is not None else None
        self._end(instance, code)

    def _let_go(self, running: _Running) -> None:
        self._loop.remove_reader(running.descriptor)
        os.close(running.descriptor)
        if running.killer is not None:
            running.killer.cancel()

    def _end(self, instance: Instance, code: int | None) -> None:
        message = self._last_words(instance) if code != 0 else ""
        observation = self._ended[instance] = Observation(
            instance, Phase.GONE, exit_code=code, message=message
        )
        while len(self._ended) > KEPT_ENDS:
            del self._ended[next(iter(self._ended))]
        self.push([observation])

    def _last_words(self, instance: Instance) -> str:
        return logfile.tail(self._directories.log(instance))

    async def stop(self, targets: Sequence[Target]) -> None:
        """Ask to end, and after the grace end by force."""
        for target in targets:
            running = self._found(target)
            if running is None:
                self.push([self._seen(target)])
            elif running.killer is None:
                proc.send(running.process, signal.SIGTERM, group=True)
                running.killer = self._loop.call_later(
                    self.stop_grace_s, proc_kill, running.process
                )

    async def observations(self, targets: Sequence[Target]) -> Mapping[Instance, Observation]:
        """Say what runs, ends are known already; and keep its logs small."""
        await asyncio.to_thread(
            logfile.shorten,
            [self._directories.log(target.instance) for target in targets],
            self.max_log_bytes,
        )
        if self.max_log_bytes_per_user and self._loop.time() >= self._shares_due:
            self._shares_due = self._loop.time() + SHARES_S
            await asyncio.to_thread(
                self._directories.shorten_logs_beyond, self.max_log_bytes_per_user
            )
        return {target.instance: self._seen(target) for target in targets}

    def _seen(self, target: Target) -> Observation:
        running = self._found(target)
        if running is not None:
            return Observation(target.instance, Phase.RUNNING, str(running.process))
        return self._ended.get(target.instance) or Observation(target.instance, Phase.GONE)

    def _found(self, target: Target) -> _Running | None:
        """Return the process of a target, also if it has lost its marks: a program may write over
        its own environment."""
        if target.instance not in self._running and target.instance not in self._ended:
            process = proc.parse_process_id(target.handle)
            if (
                process is not None
                and self._is_its_users(process, target.instance)
                and proc.alive(process)
            ):
                self._follow(target.instance, process, None)
        return self._running.get(target.instance)

    async def find(self) -> Sequence[Observation]:
        """Return what runs."""
        return [
            Observation(instance, Phase.RUNNING, str(running.process))
            for instance, running in self._running.items()
        ]

    async def cleanup(self, uid: str) -> None:
        """End what the cluster's processes have left running, and remove its directory."""
        for instance in [instance for instance in self._ended if instance.uid == uid]:
            del self._ended[instance]
        await self._setbacks.attempt(f"cleanup {uid}", lambda: self._removing(self._remove, uid))

    async def _removing(self, work: Callable[[str], None], uid: str) -> None:
        await self._loop.run_in_executor(self._directories.removers, work, uid)

    def _remove(self, uid: str) -> None:
        account = self._directories.account(uid)
        if account is not None:
            for left, _ in proc.marked(spawning.marks_of(self._directories, uid), account):
                proc.send(left, signal.SIGKILL)
        self._directories.shorten_logs(uid, self.max_log_bytes)
        self._directories.remove_files(uid)

    async def purge(self, uid: str) -> None:
        """Remove the logs."""
        await self._setbacks.attempt(
            f"purge {uid}", lambda: self._removing(self._directories.remove_logs, uid)
        )

    async def logs(
        self, target: Target, *, tail_lines: int = 0, follow: bool = False
    ) -> AsyncIterator[str]:
        """Yield an instance's log."""
        path = self._directories.log(target.instance)
        async for piece in logfile.pieces(
            path, tail_lines, follow, lambda: target.instance in self._running
        ):
            yield piece


def _end_by_force(child: subprocess.Popen[bytes]) -> int:
    """End a child and what it has left running in its group; return its exit code. Until it is
    waited for, its pid is nobody else's."""
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):  # all of it has ended
        pass
    return child.wait()


def proc_kill(process: ProcessId) -> None:
    """End a process and its group by force."""
    proc.send(process, signal.SIGKILL, group=True)
