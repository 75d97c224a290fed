"""The YARN backend: one application a Dask cluster, its scheduler and workers as containers.

What is started is written down before it is submitted (`record`); which container is which
instance is written into the application's own key-value store before there is a container. So
whatever dies in between, what runs is found by its tag and told apart.
"""

from __future__ import annotations

import asyncio
import logging
import os
import pathlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace

from gateway.backends import logfile
from gateway.backends.batch.early import EarlyLooks
from gateway.backends.contract import (
    BackendUnavailable,
    Instance,
    Observe,
    Phase,
    Role,
    Target,
)
from gateway.backends.one_at_a_time import Turns
from gateway.backends.setbacks import Setbacks
from gateway.backends.yarn import held as holding
from gateway.backends.yarn import inside, record, script
from gateway.backends.yarn.answers import Queue
from gateway.backends.yarn.calls import Calls, HostSettings, Refused, end_recorded
from gateway.backends.yarn.held import Held
from gateway.backends.yarn.logs import Logs
from gateway.backends.yarn.record import Records
from gateway.backends.yarn.rest import Rest
from gateway.backends.yarn.spnego import SignIn
from gateway.backends.yarn.starting import SOON_S, YarnStarting

logger = logging.getLogger(__name__)

FIRST_LOOK_S = 1.0  # after a scheduler has seen a worker leave


class YarnBackend(YarnStarting):
    """Containers of YARN."""

    name = "yarn"

    # Life

    async def open(self, push: Observe) -> None:
        """Read what is kept. Hadoop is not asked yet."""
        if wrong := self.problems():
            raise BackendUnavailable("\n".join(wrong))
        await super().open(push)
        self._begin()
        self._root = pathlib.Path(os.path.expanduser(self.root)).absolute()  # noqa: ASYNC240 (once, at start)
        self._turns, self._setbacks = Turns(), Setbacks()
        self._queues: tuple[float, Mapping[str, Queue]] = (float("-inf"), {})
        self._watching: asyncio.Task[None] | None = None
        self._early = EarlyLooks(
            self.observations, push, first_s=FIRST_LOOK_S, last_s=self.observe_interval_s
        )
        self.records = Records(self._root / "applications")
        self.gateway_tag = await asyncio.to_thread(self._make_root)
        self.rest = Rest(
            self.resourcemanager_urls,
            self.call_timeout_s,
            node_scheme=self.nodemanager_scheme,
            sign_in=SignIn(self.principal, self.keytab, self.call_timeout_s),
            ca_file=self.ca_file,
        )
        self.keeper = Logs(self._root / "logs", self.rest, self.max_log_bytes)
        self.calls = Calls(
            HostSettings(
                self._root,
                self.variables(),
                self.call_timeout_s,
                self.submit_timeout_s,
                self.driver_start_s,
                self.driver_java_options,
                self.principal,
                self.keytab,
            )
        )

    def _make_root(self) -> str:
        try:
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            (self._root / "logs").mkdir(mode=0o700, exist_ok=True)
            # what the last run asked its driver for is not to come after the first listing
            end_recorded(self._root / "host")
            inside_file = self._root / script.INSIDE
            inside_file.write_text(pathlib.Path(inside.__file__).read_text())
            self.records.open()
            return self.tag or record.kept_tag(self._root / "tag")
        except OSError as error:
            raise BackendUnavailable(
                f"c.YarnBackend.root: {error.filename}: {error.strerror}"
            ) from None
        except ValueError as error:
            raise BackendUnavailable(f"c.YarnBackend.root: {error}") from None

    async def close(self) -> None:
        """Let go of everything but the applications."""
        await self._early.close()
        tasks = list(self._background)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.calls.close()
        await self.rest.close()

    def place(self) -> Mapping[str, str]:
        """Return what applications are tagged with; known once it is open."""
        return {"c.YarnBackend.tag": self.gateway_tag}

    def expect_ends(self, targets: Sequence[Target]) -> None:
        """Look at their containers soon: nothing else tells of an end before the next listing."""
        self._early.expect(
            [replace(target, left=True) for target in targets], (Phase.EXITED, Phase.GONE)
        )

    # Stop

    async def stop(self, targets: Sequence[Target]) -> None:
        """End the containers that are named; the whole application, if none is to be left."""
        await self.listing(0.0)
        by_application: dict[str, set[Instance]] = {}
        over = []
        for target in targets:
            held = self.held_of(target)
            if held is None:
                if (seen := self._ended.get(target.instance)) is not None:
                    over.append(seen)
                continue
            by_application.setdefault(held.id, set()).add(target.instance)
        self.push(over)
        results = await asyncio.gather(
            *(self._stop(self.held[name], named) for name, named in by_application.items()),
            return_exceptions=True,
        )
        self._watch()
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def _stop(self, held: Held, named: set[Instance]) -> None:
        async with self._turns.of(held.uid):
            if held.reachable and held.looked_at == float("-inf"):
                await self.look(held)
            left = set(holding.expected(held)) - named
            scheduler = Instance(held.uid, Role.SCHEDULER, "scheduler")
            if not left - held.stopping and not (held.record is None and scheduler not in named):
                await self._end_application(held, "ended by its gateway", named)
                return
            if held.record is None:
                raise BackendUnavailable(
                    f"what was kept of {held.id} is lost, so its containers cannot be ended one by"
                    f" one: stop its cluster"
                )
            for instance in named & held.pending.keys():
                del held.pending[instance]
            await self._snapshot(held, named)
            held.stopping |= named
            ids = [
                one.id for name, one in held.containers.items() if name in named and not one.over
            ]
            if ids and held.reachable:
                try:
                    await self.calls.call("kill", **self.master(held), containers=ids)
                except BackendUnavailable:
                    held.stopping -= named
                    raise
                except Refused as error:
                    raise BackendUnavailable(str(error)) from None
                held.seen = ()

    # What is left behind

    async def cleanup(self, uid: str) -> None:
        """End the cluster's applications, and remove what was kept of them."""
        await self._setbacks.attempt(f"cleanup {uid}", lambda: self._cleanup(uid))

    async def _cleanup(self, uid: str) -> None:
        if self.records.of(uid) or any(held.uid == uid for held in self.held.values()):
            await self.listing(0.0)
        for held in [one for one in self.held.values() if one.uid == uid]:
            if not held.said.ended:
                await self._end_application(held, "its cluster has ended")
                await self._until_ended(held)
            if held.unswept:
                await self.sweep(held)
            del self.held[held.id]
            self._doubles.pop(held.id, None)
        for kept in self.records.of(uid):
            if not kept.application:
                await self.sweep_unnamed(kept)
        await asyncio.to_thread(self.records.forget, uid)
        for instance in [one for one in self._ended if one.uid == uid]:
            del self._ended[instance]

    async def _until_ended(self, held: Held) -> None:
        give_up = self._loop.time() + self.end_s
        while not held.said.ended:
            if self._loop.time() > give_up:
                await self._end_application(held, "its cluster has ended")
                raise BackendUnavailable(f"{held.id} has not ended yet")
            await asyncio.sleep(SOON_S)
            await self.listing(0.0)

    async def purge(self, uid: str) -> None:
        """Remove the logs."""
        await asyncio.to_thread(self.keeper.remove, uid)

    # Logs

    async def logs(
        self, target: Target, *, tail_lines: int = 0, follow: bool = False
    ) -> AsyncIterator[str]:
        """Yield an instance's log."""
        instance = target.instance
        if not self.keeper.known(instance.uid):
            return
        puller: asyncio.Task[None] | None = None
        try:
            if follow:
                puller = self._spawn(self._follow(target))
                # nothing tells of a file that is not there yet
                while not puller.done() and not self.keeper.path(instance).exists():  # noqa: ASYNC110
                    await asyncio.sleep(SOON_S)
            else:
                await self._bring(target)
            following = puller

            def runs() -> bool:
                return following is not None and not following.done()

            path = self.keeper.path(instance)
            async for piece in logfile.pieces(path, tail_lines, follow, runs):
                yield piece
        finally:
            if puller is not None:
                puller.cancel()

    async def _follow(self, target: Target) -> None:
        while True:
            await asyncio.sleep(SOON_S)
            if not await self._bring(target):
                return

    async def _bring(self, target: Target) -> bool:
        """Bring what is new of a log; return whether more may come."""
        instance = target.instance
        if instance in self._ended:
            return False
        try:
            await self.listing(self.observe_interval_s)
            held = self.held_of(target)
            if held is None:
                return instance in self._endings
            if instance not in held.containers or not held.containers[instance].container:
                await self.look(held)
            if (container := held.containers.get(instance)) is not None:
                await self.keeper.pull(instance, container)
        except BackendUnavailable as error:
            logger.debug("yarn: log of %s: %s", instance, error)
        return True
