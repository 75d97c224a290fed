"""What is seen: one listing of all applications at the ResourceManager, a look at an application's
containers where something has changed, and what becomes of what has ended."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping, Sequence

from gateway.backends.contract import (
    BackendUnavailable,
    Instance,
    Observation,
    Phase,
    Role,
    Target,
)
from gateway.backends.yarn import held as holding
from gateway.backends.yarn import words
from gateway.backends.yarn.answers import Application
from gateway.backends.yarn.calls import Refused
from gateway.backends.yarn.ending import YarnEnding
from gateway.backends.yarn.held import Container, Held
from gateway.backends.yarn.record import Record
from gateway.wire import is_uid

logger = logging.getLogger(__name__)

LOOKS_S = 3.0  # that a look at all waits for application masters; the rest is told by the next


class YarnLooking(YarnEnding):
    """The part of the backend that looks."""

    # The listing

    async def listing(self, max_age_s: float) -> None:
        """See that the listing was asked for at most so long ago. BackendUnavailable."""
        asked = self._loop.time()
        while self._asked_at < asked - max_age_s:
            if self._listing is None or self._listing.done():
                self._listing = self._spawn(self._list())
            await asyncio.shield(self._listing)

    async def _list(self) -> None:
        asked_at = self._loop.time()
        # those that are being submitted now will be named in a moment
        kept = self.records.by_nonce.values()
        unnamed = {one.nonce for one in kept if not one.application} - self._submitting
        found = {one.id: one for one in await self.rest.live(self.gateway_tag)}
        for said in found.values():
            known = self.held.get(said.id)
            if known is not None:
                known.said = said
            elif uid := self._uid_of(said):
                self.held[said.id] = Held(uid, said, self._record_of(said, uid))
        for held in [one for one in self.held.values() if one.id not in found]:
            if not held.said.ended:
                await self._over(held)
        self._asked_at = asked_at
        for held in self.held.values():
            if held.record is not None and held.record.nonce in unnamed:
                held.doubled = any(holding.same_again(held, one) for one in self.held.values())
        self._end_doubled()
        self._end_empty(asked_at)

    def _uid_of(self, said: Application) -> str:
        prefix = f"{self.gateway_tag}-"
        tags = [tag.removeprefix(prefix) for tag in said.tags if tag.startswith(prefix)]
        return tags[0] if self.gateway_tag in said.tags and tags and is_uid(tags[0]) else ""

    def _record_of(self, said: Application, uid: str) -> Record | None:
        """Return what is kept of an application: anybody may submit one with these tags."""
        for record in self.records.of(uid):
            if record.application == said.id or (
                not record.application
                and f"nonce-{record.nonce}" in said.tags
                and (not record.shape.account or record.shape.account == said.user)
            ):
                return record if record.application else self.records.named(record, said.id)
        return None

    async def _over(self, held: Held) -> None:
        """Take note that an application has ended, and why."""
        last = await self.rest.application(held.id)
        if last is not None and not last.ended:
            return  # it was submitted after the listing, or comes back
        held.said = last or Application(
            held.id, "KILLED", queue=held.said.queue, user=held.said.user
        )
        reason = (
            "the ResourceManager does not know its application any more: it was restarted without"
            " recovery"
            if last is None
            else words.reason(last.diagnostics)
        )
        for instance in holding.expected(held):
            container = held.containers.get(instance) or Container("_0", "", "KILLED")
            self._ends(held, instance, container, "" if held.ending else reason)
        held.pending.clear()
        if not held.ending:
            self._spawn(self.sweep(held))

    def _end_doubled(self) -> None:
        """End applications of whose submission nobody knew what came of it, and which came after
        all, when another had been submitted in their place."""
        for held in self.held.values():
            task = self._doubles.get(held.id)
            if held.doubled and not held.said.ended and (task is None or task.done()):
                logger.warning("yarn: %s is one too many of cluster %s: ended", held.id, held.uid)
                text = "another was submitted in its place"
                self._doubles[held.id] = self._spawn(self._end_application(held, text))

    def _end_empty(self, now: float) -> None:
        """End applications that have had no container for a while: nobody would miss them, and
        nobody would find them."""
        for held in self.held.values():
            empty = held.reachable and held.looked_at > float("-inf") and not held.live()
            if not empty or held.ending:
                held.empty_since = None
            elif held.empty_since is None:
                held.empty_since = now
            elif now - held.empty_since > self.empty_grace_s:
                self._spawn(self._end_application(held, "it had no container any more"))

    # Containers

    async def look(self, held: Held) -> None:
        """Ask an application's master about its containers. BackendUnavailable if it does not
        answer."""
        if not held.reachable:
            return
        if (task := self._looks.get(held.id)) is None or task.done():
            task = self._looks[held.id] = self._spawn(self._look(held))
        await asyncio.shield(task)

    async def _look(self, held: Held) -> None:
        assert held.record is not None
        begun_at = self._loop.time()
        try:
            told = await self.calls.call("containers", **self.master(held))
        except Refused as error:
            raise BackendUnavailable(str(error)) from None
        for instance in held.take(told, self._loop.time(), begun_at):
            container = held.containers[instance]
            reason = words.reason(container.message) if container.state == "FAILED" else ""
            self._ends(held, instance, container, reason)
        await self._settle(held)

    async def _settle(self, held: Held) -> None:
        """See which containers are past localisation, which skein counts as running."""

        async def settled(container: Container) -> None:
            with contextlib.suppress(BackendUnavailable):
                if not await self.rest.localises(container.node, container.container):
                    held.settled.add(container.container)

        with contextlib.suppress(TimeoutError):  # of a node that hangs: the next look asks again
            async with asyncio.timeout(LOOKS_S):
                await asyncio.gather(
                    *(
                        settled(one)
                        for one in held.containers.values()
                        if one.state == "RUNNING" and one.container not in held.settled
                    )
                )
        held.settled &= {one.container for one in held.containers.values()}
        if any(
            one.state == "RUNNING" and one.container not in held.settled
            for one in held.containers.values()
        ):
            held.seen = ()  # the next look asks again

    # What is told

    def held_of(self, target: Target) -> Held | None:
        """Return the application of an instance that has not ended."""
        named = self.held.get(holding.application_of(target.handle))
        if named is not None and not named.said.ended:
            return named
        return next(
            (
                one
                for one in self.held.values()
                if one.uid == target.instance.uid
                and not one.said.ended
                and target.instance in holding.expected(one)
            ),
            None,
        )

    async def observations(self, targets: Sequence[Target]) -> Mapping[Instance, Observation]:
        """Say where each target stands, as far as it can be told."""
        await self.listing(self.observe_interval_s / 2)
        uids = {target.instance.uid for target in targets}
        now = self._loop.time()
        left = {target.instance.uid for target in targets if target.left}
        due = [
            held
            for held in self.held.values()
            if held.uid in uids
            and (
                held.needs_look(now, self.detail_interval_s)
                or (held.reachable and held.uid in left)
            )
        ]
        if due:
            looks = [self._loop.create_task(self._quiet_look(held)) for held in due]
            await asyncio.wait(looks, timeout=LOOKS_S)
        told = {target.instance: await self._tell(target) for target in targets}
        return {instance: seen for instance, seen in told.items() if seen is not None}

    async def _quiet_look(self, held: Held) -> None:
        try:
            await self.look(held)
        except BackendUnavailable as error:
            logger.debug("yarn: %s: %s", held.id, error)

    async def _tell(self, target: Target) -> Observation | None:
        if (over := self._ended.get(target.instance)) is not None:
            return over
        if target.instance in self._endings:
            return None
        held = self.held_of(target)
        if held is None:
            return await self._tell_of_the_past(target)
        if held.record is None:  # its containers cannot be told apart
            return Observation(target.instance, Phase.RUNNING, target.handle, user=held.said.user)
        if (seen := holding.tell(held, target)) is not None:
            return seen
        if target.instance in held.containers or not held.reachable:
            return None
        if held.looked_at == float("-inf"):
            return None
        return Observation(target.instance, Phase.GONE, target.handle)

    async def _tell_of_the_past(self, target: Target) -> Observation | None:
        """Tell of an instance whose application has ended while nobody looked."""
        application = holding.application_of(target.handle)
        if not application or application in self.held or not self.records.of(target.instance.uid):
            return Observation(target.instance, Phase.GONE, target.handle)
        said = await self.rest.application(application)
        if said is None or not said.ended:
            return Observation(target.instance, Phase.GONE, target.handle)
        record = self._record_of(said, target.instance.uid)
        held = self.held[application] = Held(target.instance.uid, said, record)
        self._spawn(self.sweep(held))
        self._ends(
            held, target.instance, Container("_0", "", "KILLED"), words.reason(said.diagnostics)
        )
        return None

    async def find(self) -> Sequence[Observation]:
        """Return every instance of this gateway, by a listing that serves polls too."""
        await self.listing(self.observe_interval_s / 2)
        now = self._loop.time()
        due = [one for one in self.held.values() if one.needs_look(now, self.detail_interval_s)]
        await asyncio.gather(*(self._quiet_look(held) for held in due))
        found: dict[Instance, Observation] = {}
        for held in self.held.values():
            if held.said.ended:
                continue
            for instance in holding.expected(held):
                seen = holding.tell(held, Target(instance))
                if seen is not None:
                    found[instance] = seen
            if held.record is None and not held.ending:
                lost = Instance(held.uid, Role.SCHEDULER, "scheduler")
                found.setdefault(
                    lost, Observation(lost, Phase.RUNNING, held.handle(lost), user=held.said.user)
                )
        return list(found.values())
