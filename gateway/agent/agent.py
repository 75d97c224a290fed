"""The agent inside a Dask scheduler: reports what is there, and holds the scheduler to what is
wished.

Loaded as a preload. It dials the server; one stream carries reports up and the whole wish down
(agent.proto). A lost stream costs only time: the cluster goes on, and the next stream begins with a
snapshot. gRPC runs in threads, so that the scheduler's event loop is never shared with it.
"""

from __future__ import annotations

import asyncio
import functools
import importlib.metadata
import logging
import os
import platform
import queue
import random
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")

import grpc
from daskgateway.internal.v1 import agent_pb2 as pb
from daskgateway.internal.v1 import agent_pb2_grpc
from distributed.diagnostics.plugin import SchedulerPlugin

from gateway import wire
from gateway.agent import load as agent_load
from gateway.agent import nannies
from gateway.agent.rejoining import let_rejoin
from gateway.agent.reports import parts
from gateway.agent.setup import Setup
from gateway.agent.unreached import unreached

logger = logging.getLogger("distributed.scheduler.daskgateway")

COALESCE_S = 0.05  # workers that join within so long are told in one report
TICK_S = 0.5  # between two looks at load and clients
DEFAULT_REPORT_S = 15.0
DEFAULT_BEAT_S = 5.0
BACKOFF_S = (0.2, 5.0)
# longest wait before an agent whose reports are refused tries again: they will hardly be other ones
REJECTED_S = 60.0
STEADY_S = 30.0  # a stream that lasted so long was not refused for how it began
REFUSED_S = 600.0  # an agent that is turned away for so long belongs to no cluster any more
EXIT_SETUP = 70  # EX_SOFTWARE
EXIT_REFUSED = 77  # EX_NOPERM
REFUSALS = (
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.NOT_FOUND,
)
PACKAGES = ("dask", "distributed", "msgpack", "cloudpickle", "numpy", "pandas", "tornado")


def versions() -> dict[str, str]:
    """Return the versions of what runs here."""
    found = {"python": platform.python_version()}
    more = os.environ.get(wire.ENV_PACKAGES, "").split(",")
    for package in (*PACKAGES, *filter(None, map(str.strip, more))):
        try:
            found[package] = importlib.metadata.version(package)
        except (importlib.metadata.PackageNotFoundError, ValueError):
            continue
    return found


class Agent(SchedulerPlugin):
    """Everything of the agent that lives on the scheduler's event loop, and the thread that
    talks."""

    name = "daskgateway-agent"

    def __init__(self, scheduler: Any, setup: Setup) -> None:
        self._scheduler, self._setup = scheduler, setup
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._joined: set[str] = set()
        self._left: set[str] = set()
        self._retired: set[str] = set()
        self._retiring: set[str] = set()
        self._names: dict[str, str] = {}  # of connected workers, by address
        self._idle, self._no_client = agent_load.Since(), agent_load.Since()
        self._no_task = agent_load.Since()
        self._targets: dict[str, int] = {}
        self._adaptive: dict[str, agent_load.AdaptiveTarget] = {}
        self._surplus: dict[str, agent_load.Surplus] = {}
        self._directive: pb.AgentDirective | None = None
        self._transitions = -1
        self._outbox: queue.Queue[pb.AgentReport | None] | None = None  # of the stream that is open
        self._sequence = 0
        self._stopped = threading.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start_work(self) -> None:
        """Begin to report."""
        self._scheduler.add_plugin(self, name=self.name)
        let_rejoin(self._scheduler)
        self._names = {address: str(ws.name) for address, ws in self._scheduler.workers.items()}
        self._look()
        self._tasks = [
            self._loop.create_task(work)
            for work in (self._report_changes(), self._tick(), self._beat())
        ]
        threading.Thread(target=self._talk, name="daskgateway-agent", daemon=True).start()

    def stop_work(self) -> None:
        """Say nothing more."""
        self._stopped.set()
        for task in self._tasks:
            task.cancel()
        if self._outbox is not None:
            self._outbox.put_nowait(None)

    # What the scheduler tells its plugins

    def add_worker(self, scheduler: Any, worker: str) -> None:
        """Note that a worker has joined."""
        name = self._names[worker] = str(scheduler.workers[worker].name)
        self._joined.add(name)
        self._left.discard(name)
        self._changed.set()

    def remove_worker(self, scheduler: Any, worker: str, **kwargs: Any) -> None:
        """Note that a worker has left."""
        name = self._names.pop(worker, None)
        if name is not None and name not in self._retiring:
            self._left.add(name)  # one that has just joined as well: it is told of as both
            self._changed.set()

    def add_client(self, scheduler: Any, client: str) -> None:
        """Note that a client has connected."""
        self._look()

    def remove_client(self, scheduler: Any, client: str) -> None:
        """Note that a client has gone."""
        self._loop.call_soon(self._look)

    # What is reported

    def _look(self) -> None:
        """Look at load and clients; a change is reported at once."""
        before = (*self._in_use(), dict(self._targets))
        connected = agent_load.clients(self._scheduler)
        transitions = self._scheduler.transition_counter
        moved, self._transitions = transitions != self._transitions, transitions
        ignore = self._directive is not None and self._directive.ignore_clients
        task = agent_load.busy(self._scheduler) or moved
        wanted = agent_load.holds_results(self._scheduler) or (connected and not ignore)
        self._no_task.note(not task)
        self._idle.note(not (task or wanted))
        self._no_client.note(not connected)
        self._aim()
        if before != (*self._in_use(), self._targets):
            self._changed.set()

    def _in_use(self) -> tuple[bool, ...]:
        return tuple(one.age_ms < 0 for one in (self._idle, self._no_client, self._no_task))

    def _aim(self) -> None:
        """Compute the targets of adaptive groups."""
        groups = (
            {group.name: group for group in self._directive.groups if group.adaptive}
            if self._directive is not None
            else {}
        )
        for name in self._targets.keys() - groups.keys():
            del self._targets[name]
            self._adaptive.pop(name, None)
        for name, group in groups.items():
            window = self._adaptive.setdefault(name, agent_load.AdaptiveTarget())
            lasts_s = group.target_duration_ms / 1000 or None
            wanted = functools.partial(agent_load.wanted, self._scheduler, name, lasts_s)
            pace = group.minimum, group.maximum, group.interval_ms / 1000, group.wait_count
            self._targets[name] = window.note(wanted, *pace)

    async def _tick(self) -> None:
        while True:
            groups = self._directive.groups if self._directive is not None else ()
            await asyncio.sleep(
                min([TICK_S, *(one.interval_ms / 1000 or TICK_S for one in groups)])
            )
            self._look()
            self._retire_surplus()

    async def _report_changes(self) -> None:
        """Report what has changed, and that nothing has, often enough."""
        while True:
            interval_s = (
                self._directive.report_interval_ms / 1000 if self._directive is not None else 0
            ) or DEFAULT_REPORT_S
            if await _holds_within(self._changed, interval_s):
                await asyncio.sleep(COALESCE_S)
            while self._outbox is not None and not self._outbox.empty():  # noqa: ASYNC110 (a thread empties it)
                # the server is slow: what changes meanwhile is told in one
                await asyncio.sleep(COALESCE_S)
            self._changed.clear()
            if self._outbox is not None:
                self._outbox.put_nowait(self._report(snapshot=False))

    async def _beat(self) -> None:
        """Give signs of life, from the scheduler's own event loop: a thread of ours would go on
        with that while the scheduler hangs."""
        while True:
            await asyncio.sleep(
                (self._directive.beat_interval_ms / 1000 if self._directive is not None else 0)
                or DEFAULT_BEAT_S
            )
            if self._outbox is not None and self._outbox.empty():
                self._sequence += 1
                self._outbox.put_nowait(pb.AgentReport(sequence=self._sequence, beat=True))

    def _report(self, *, snapshot: bool) -> pb.AgentReport:
        self._sequence += 1
        came, went = self._joined, self._left
        if snapshot:  # who is not among all has left; who came and went is told of as both
            went = came & went
            came = went.union(self._names.values())
        report = pb.AgentReport(
            sequence=self._sequence,
            snapshot=snapshot,
            workers=sorted(came),
            left=sorted(went),
            retired=sorted(self._retired),
            clients=agent_load.clients(self._scheduler),
            idle_ms=self._idle.age_ms,
            no_client_ms=self._no_client.age_ms,
            no_task_ms=self._no_task.age_ms,
            targets=self._targets,
        )
        if snapshot:
            report.scheduler_address = self._scheduler.address
            report.dashboard_address = self._dashboard()
            report.versions.update(versions())
        self._joined.clear()
        self._left.clear()
        self._retired.clear()
        return report

    def _dashboard(self) -> str:
        if "--no-dashboard" in sys.argv:  # its HTTP server runs all the same, and shows nothing
            return ""
        port = (
            self._scheduler.services["dashboard"].port
            if "dashboard" in self._scheduler.services
            else None
        )
        place = wire.split_host_port(self._scheduler.address.rpartition("://")[2])
        return wire.host_port(place[0], port) if port and place is not None else ""

    # What is wished

    def _obey(self, directive: pb.AgentDirective) -> None:
        self._directive = directive
        self._look()
        self._retire_surplus()

    def _retire_surplus(self) -> None:
        if self._directive is None:
            return
        for group in self._directive.groups:
            keep = self._targets.get(group.name, group.minimum) if group.adaptive else group.count
            connected = [
                name for name in self._names.values() if agent_load.group_of(name) == group.name
            ]
            surplus = self._surplus.setdefault(group.name, agent_load.Surplus()).count(
                len(connected),
                len(self._retiring.intersection(connected)),
                keep,
                group.surplus if group.HasField("surplus") else None,
            )
            if surplus > 0:
                names = agent_load.whom_to_retire(
                    self._scheduler, group.name, surplus, self._retiring
                )
                self._retiring.update(names)
                self._tasks.append(self._loop.create_task(self._retire(names)))

    async def _retire(self, names: list[str]) -> None:
        """Move the workers' results away, close them, and tell the server."""
        try:
            await self._scheduler.retire_workers(names=names, close_workers=True, remove=True)
        except Exception:
            logger.exception("retiring %s failed; trying again at the next look", ", ".join(names))
        finally:
            present = set(self._names.values())
            self._retired.update(name for name in names if name not in present)
            self._retiring.difference_update(names)
            self._tasks = [task for task in self._tasks if not task.done()]
            self._changed.set()

    # The stream, in a thread of its own

    def _talk(self) -> None:
        """Keep a stream open until told to stop."""
        failures, rejections, refused_since, told = 0, 0, None, ""
        stub = agent_pb2_grpc.AgentServiceStub(self._setup.channel())  # type: ignore[no-untyped-call]
        metadata = (
            (wire.AUTHORIZATION, f"Bearer {self._setup.token}"),
            ("dgw-uid", self._setup.uid),
        )
        while not self._stopped.is_set():
            outbox: queue.Queue[pb.AgentReport | None] = queue.Queue()
            call = stub.Connect(_until_none(outbox), metadata=metadata, wait_for_ready=False)
            began = time.monotonic()
            try:
                self._loop.call_soon_threadsafe(self._greet, outbox)
                for directive in call:
                    failures, refused_since, told = 0, None, ""
                    self._loop.call_soon_threadsafe(self._obey, directive)
            except grpc.RpcError as error:
                code = error.code()
                if time.monotonic() - began > STEADY_S:
                    rejections = 0
                if code is grpc.StatusCode.INVALID_ARGUMENT:
                    rejections += 1
                elif code in REFUSALS:
                    refused_since = refused_since or time.monotonic()
                    self._check_refusal(refused_since, error.details() or str(code))
                else:
                    refused_since = None  # it does not say that this scheduler is none of its own
                words = unreached(self._setup.address, code.name, error.details() or "")
                if words != told and rejections < 2:  # those are told once
                    logger.warning("%s%s; trying on", wire.AGENT_SAYS, words)
                told = words
            except RuntimeError:  # the event loop has closed
                return
            outbox.put(None)
            failures += 1
            self._stopped.wait(random.uniform(0.5, 1.0) * pause_s(failures, rejections))

    def _greet(self, outbox: queue.Queue[pb.AgentReport | None]) -> None:
        """Begin a stream: everything that is there. What an earlier stream did not get is part of
        it."""
        retired = set(self._retired)
        self._outbox = outbox
        self._look()
        report = self._report(snapshot=True)
        report.retired[:] = sorted(retired)
        outbox.put_nowait(report)

    def _check_refusal(self, since: float, words: str) -> None:
        if time.monotonic() - since > REFUSED_S:
            _die(
                EXIT_REFUSED,
                f"the gateway has turned this scheduler away for {REFUSED_S:g} s: {words}",
            )


def pause_s(failures: int, rejections: int) -> float:
    """Return how long to wait before the next stream, in seconds: after so many in a row that
    brought nothing, and so many that were ended for what was reported."""
    first_s, last_s = (BACKOFF_S[0], REJECTED_S) if rejections else BACKOFF_S
    return min(last_s, first_s * 2.0 ** min(max(failures, rejections) - 1, 10))


async def _holds_within(event: asyncio.Event, timeout_s: float) -> bool:
    """Wait for an event at most so long; return whether it came. Unlike `wait_for` of Python 3.11,
    it never loses a cancellation."""
    waiting = asyncio.ensure_future(event.wait())
    try:
        done, _ = await asyncio.wait([waiting], timeout=timeout_s)
    finally:
        waiting.cancel()
    return bool(done)


def _until_none(outbox: queue.Queue[pb.AgentReport | None]) -> Iterator[pb.AgentReport]:
    while (report := outbox.get()) is not None:
        yield from parts(report)


def _die(code: int, words: str) -> None:
    """End the scheduler's process with one clear line: Dask itself only logs what goes wrong in a
    preload, and goes on."""
    print(f"{wire.AGENT_SAYS}{words}", file=sys.stderr, flush=True)
    os._exit(code)


async def dask_setup(scheduler: Any) -> None:
    """Start the agent; called by Dask when the scheduler listens."""
    try:
        agent = Agent(scheduler, Setup.load())
        agent.start_work()
        nannies.guard(scheduler)
        scheduler.daskgateway_agent = agent
    except Exception as error:
        _die(EXIT_SETUP, f"cannot set itself up: {type(error).__name__}: {error}")


async def dask_teardown(scheduler: Any) -> None:
    """Stop the agent; called by Dask when the scheduler closes."""
    agent = getattr(scheduler, "daskgateway_agent", None)
    if agent is not None:
        agent.stop_work()
