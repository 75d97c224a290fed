"""A backend under test, with what a test needs: launches whose processes are seen from outside, and
waiting for what must come."""

from __future__ import annotations

import asyncio
import sys
import unittest
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import TypeVar

from gateway.backends.conformance.witness import Witness
from gateway.backends.contract import (
    NAME,
    Backend,
    Instance,
    Launch,
    Observation,
    Phase,
    Resources,
    Role,
    Started,
    Target,
)

T = TypeVar("T")
UID = "c" + "a" * 20
OTHER_UID = "c" + "b" * 20
SECRET = b"-----BEGIN SECRET-----\nv3ry-s3cret-1f0c\n-----END SECRET-----\n"
SECRET_WORD = "v3ry-s3cret-1f0c"
# of a Room: given, or `cannot` says why not
OPTIONAL = ("again", "stranger", "outage", "refused", "lose_files", "shown")


@dataclass
class Room:
    """A backend under test."""

    backend: Backend
    user: str = "alice"
    python: str = sys.executable  # what programs are run by
    look_s: float = 0.1  # between two looks
    patience_s: float = 30.0  # for what takes its time
    # within which each call must have ended, whatever the machine room does
    deadline_s: float = 30.0
    lag_s: float = 2.0  # from when something is told until it is seen from outside
    # False: it only pretends, and there are no logs and no ends of their own
    runs_programs: bool = True
    # another backend on the same machine room, as after a restart
    again: Callable[[], Awaitable[Backend]] | None = None
    # the backend of another gateway on the same machine room
    stranger: Callable[[], Awaitable[Backend]] | None = None
    # while it lasts the machine room does not answer
    outage: Callable[[], AbstractAsyncContextManager[None]] | None = None
    refused: Mapping[str, object] | None = None  # options of a launch that the machine room refuses
    # removes a cluster's files behind the backend's back
    lose_files: Callable[[str], None] | None = None
    # all that the machine room shows to everybody: commands and their words, variables, listings
    shown: Callable[[], str] | None = None
    # those of OPTIONAL that are not given: why not; and `programs`
    cannot: Mapping[str, str] = field(default_factory=dict)
    witness: Witness = field(default_factory=Witness)
    pushed: dict[Instance, Observation] = field(default_factory=dict)

    def push(self, observations: Sequence[Observation]) -> None:
        """Take what the backend tells unasked."""
        self.pushed |= {seen.instance: seen for seen in observations}

    async def open(self) -> None:
        """Open the backend."""
        if self.runs_programs and not self.witness.port:
            await self.witness.open()
        await self.backend.open(self.push)

    async def close(self) -> None:
        """End whatever runs, and close."""
        try:
            left = [
                Target(seen.instance, seen.handle, seen.user) for seen in await self.backend.find()
            ]
            await self.backend.stop(left)
            await self.until_gone(left)
            for uid in (UID, OTHER_UID):
                await self.backend.cleanup(uid)
                await self.backend.purge(uid)
        finally:
            await self.leave()

    async def leave(self) -> None:
        """Close without asking the backend to end anything: what the suite's own programs are ends
        with the witness."""
        await self.witness.close()
        await self.backend.close()

    def need(self, what: str) -> None:
        """Skip a test for which the machine room lacks something, with its own reason;
        AssertionError if it gives none."""
        lacks = not self.runs_programs if what == "programs" else getattr(self, what) is None
        if lacks:
            assert self.cannot.get(what), (
                f"Room.{what} is not given, and Room.cannot does not say why"
            )
            raise unittest.SkipTest(f"{what}: {self.cannot[what]}")

    def given(self, what: str, value: T | None) -> T:
        """Return what a test needs of the machine room, or skip it with the reason."""
        self.need(what)
        assert value is not None
        return value

    def launch(
        self, name: str = "default-0", code: str | None = None, uid: str = UID, **fields: object
    ) -> Launch:
        """Return a launch of some lines of Python; by default of something cheap that goes on, and
        is seen from outside."""
        role = Role.SCHEDULER if name == "scheduler" else Role.WORKER
        given: dict[str, object] = {
            "resources": Resources(1.0, 64 * 2**20),
            "files": {"key.pem": SECRET},
            **fields,
        }
        text = self.witness.program(uid) if code is None else code
        argv = (self.python, "-c", text, NAME)
        return Launch(Instance(uid, role, name), self.user, argv, **given)  # type: ignore[arg-type]

    async def start(self, *launches: Launch) -> list[Target]:
        """Start what must start."""
        outcomes = await self.backend.start(launches)
        targets = []
        for launch in launches:
            outcome = outcomes.get(launch.instance)
            assert isinstance(outcome, Started), f"{launch.instance.name}: {outcome}"
            targets.append(Target(launch.instance, outcome.handle, self.user))
        return targets

    async def running(self, *launches: Launch) -> list[Target]:
        """Start what must start, and wait until it is told to run and is seen to."""
        targets = await self.start(*launches)
        await self.until(targets, Phase.RUNNING)
        for target in targets:
            await self.seen_alive(target.instance)
        return targets

    async def seen_alive(self, instance: Instance, token: str = "") -> None:
        """Wait until a process is seen from outside under an instance's name; nothing is waited for
        where there are no processes."""
        if self.runs_programs:
            words = (
                f"{instance.name} is told to run, and no process of that name is seen within"
                f" {self.patience_s:g} s"
            )
            await self.witness.until(
                lambda: bool(self.witness.alive(instance, token)), self.patience_s, words
            )

    async def seen_dead(self, instance: Instance, child: bool = False) -> None:
        """Wait, not for long, until no process of an instance is seen any more."""
        words = (
            f"{instance.name}{' (a child of it)' if child else ''} is told to be gone, and"
            f" runs: seen from outside it has not ended"
        )
        await self.witness.until(
            lambda: not self.witness.alive(instance, child=child), self.lag_s, words
        )

    def one_alive(self, *targets: Target) -> None:
        """Assert that of each instance one process runs, and that there never was another."""
        for target in targets if self.runs_programs else ():
            pids = [life.pid for life in self.witness.ever(target.instance)]
            assert len(pids) == 1, (
                f"{target.instance.name} was started {len(pids)} times: processes {pids}"
            )
            assert self.witness.alive(target.instance), (
                f"{target.instance.name} was ended, and nobody had asked for that"
            )

    async def stay_alive(self, *targets: Target) -> None:
        """Assert that each instance goes on: what was ended by mistake may not be dead yet."""
        until = asyncio.get_running_loop().time() + (self.lag_s if self.runs_programs else 0.0)
        self.one_alive(*targets)
        while asyncio.get_running_loop().time() < until:
            await asyncio.sleep(self.look_s)
            self.one_alive(*targets)

    async def look(self, targets: Sequence[Target]) -> dict[Instance, Observation]:
        """Look once: what is told of targets now, or was told unasked. Of nothing else anything may
        be told."""
        told = {
            instance: seen for instance, seen in self.pushed.items() if seen.phase is Phase.GONE
        }
        seen = dict(await self.backend.observations(targets))
        strange = seen.keys() - {target.instance for target in targets}
        assert not strange, f"nobody asked about {strange}"
        wrong = {
            instance: one.instance for instance, one in seen.items() if one.instance != instance
        }
        assert not wrong, f"what is told of one instance is about another: {wrong}"
        return {
            **seen,
            **{
                target.instance: told[target.instance]
                for target in targets
                if target.instance in told
            },
        }

    async def until(self, targets: Sequence[Target], *phases: Phase) -> dict[Instance, Observation]:
        """Look until every target stands where it is expected, or was told to. Whatever is told to
        be gone must be dead."""
        seen: dict[Instance, Observation] = {}
        try:
            async with asyncio.timeout(self.patience_s):
                while True:
                    seen = await self.look(targets)
                    for instance in [
                        instance for instance, one in seen.items() if one.phase is Phase.GONE
                    ]:
                        await self.seen_dead(instance)
                    if all(
                        target.instance in seen and seen[target.instance].phase in phases
                        for target in targets
                    ):
                        return {target.instance: seen[target.instance] for target in targets}
                    await asyncio.sleep(self.look_s)
        except TimeoutError:
            raise AssertionError(
                f"not {[phase.value for phase in phases]} within {self.patience_s} s: {seen}"
            ) from None

    async def until_gone(self, targets: Sequence[Target]) -> dict[Instance, Observation]:
        """Look until nothing of the targets is left."""
        return await self.until(targets, Phase.GONE)

    async def found(self) -> list[tuple[str, str]]:
        """Return uid and name of what the backend finds, each once."""
        found = [(seen.instance.uid, seen.instance.name) for seen in await self.backend.find()]
        assert len(found) == len(set(found)), f"found twice: {found}"
        return sorted(found)

    async def log(self, target: Target, **how: object) -> str:
        """Return a log as it is."""
        return "".join([piece async for piece in self.backend.logs(target, **how)])  # type: ignore[arg-type]

    async def log_with(self, target: Target, words: str) -> str:
        """Follow a log until it has these words; AssertionError if they do not come."""
        text = ""
        try:
            async with asyncio.timeout(self.patience_s):
                async for piece in self.backend.logs(target, follow=True):
                    text += piece
                    if words in text:
                        return text
        except TimeoutError:
            pass
        raise AssertionError(
            f"the log of {target.instance.name} has no {words!r} within {self.patience_s:g} s:"
            f" {text[-500:]!r}"
        )
