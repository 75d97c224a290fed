"""Starts: a container of the application that its cluster has, or an application for it, of which
everything is kept before it is submitted."""

from __future__ import annotations

import asyncio
import logging
import pathlib
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace

from gateway.backends.contract import (
    BackendUnavailable,
    Instance,
    Launch,
    Phase,
    Role,
    Started,
    StartFailed,
    StartOutcome,
    Target,
)
from gateway.backends.one_at_a_time import Turns
from gateway.backends.yarn import held as holding
from gateway.backends.yarn import inside, record, script, words
from gateway.backends.yarn import shape as shapes
from gateway.backends.yarn.answers import Application, Queue
from gateway.backends.yarn.calls import Refused
from gateway.backends.yarn.held import Asked, Container, Held
from gateway.backends.yarn.looking import YarnLooking
from gateway.backends.yarn.record import Record
from gateway.backends.yarn.settings import local_path
from gateway.backends.yarn.shape import SERVICES, Shape, Size, Submission

logger = logging.getLogger(__name__)

# A master hears of the ResourceManager every 5 s at least: what was asked for so long ago is there,
# or a request for it is open.
LOST_AFTER_S = 15.0
SURE_AFTER_S = 7.0  # it is looked again after so long, before another is asked for
SOON_S = 0.4  # between two listings while something is about to come
QUEUES_S = 10.0  # that what is known of queues is believed


class YarnStarting(YarnLooking):
    """The part of the backend that starts."""

    _turns: Turns
    _root: pathlib.Path
    _queues: tuple[float, Mapping[str, Queue]]
    _watching: asyncio.Task[None] | None

    async def start(self, launches: Sequence[Launch]) -> Mapping[Instance, StartOutcome]:
        """Adopt what exists; the rest as containers of their cluster's application, which is
        submitted if there is none for them."""
        different = {launch.instance: launch for launch in launches}
        outcomes: dict[Instance, StartOutcome] = {}
        async with AsyncExitStack() as turns:
            for uid in sorted({instance.uid for instance in different}):
                await turns.enter_async_context(self._turns.of(uid))
            await self.listing(0.0)
            await asyncio.gather(
                *(
                    self.look(held)
                    for held in self.held.values()
                    if held.reachable
                    and any(held.uid == instance.uid for instance in different)
                    and not held.ending
                )
            )
            groups: dict[tuple[str, Shape, tuple[tuple[str, Size], ...]], list[Launch]] = {}
            for launch in different.values():
                if (there := self._there(launch.instance)) is not None:
                    outcomes[launch.instance] = Started(there.handle(launch.instance))
                    continue
                try:
                    await self._check(launch)
                except Refused as error:
                    text = str(error)
                    outcomes[launch.instance] = StartFailed(text, permanent=True)
                    continue
                shape, sizes = self._shape(launch), self._sizes(launch)
                key = launch.instance.uid, shape, tuple(sorted(sizes.items()))
                groups.setdefault(key, []).append(launch)
            for group in groups.values():
                outcomes |= await self._start_group(group)
        return outcomes

    def _there(self, instance: Instance) -> Held | None:
        """Return the application that an instance runs in, or will."""
        return next(
            (
                held
                for held in self.held.values()
                if held.uid == instance.uid
                and not held.said.ended
                and not held.ending
                and instance in holding.expected(held)
                and instance not in held.stopping
            ),
            None,
        )

    def _setting(self, launch: Launch, name: str) -> object:
        return launch.options.get(name, self.cluster_settings()[name])

    def _shape(self, launch: Launch) -> Shape:
        setup = self._setting(launch, "setup")
        archive = str(self.archives.get(str(self._setting(launch, "archive") or ""), ""))
        return Shape(
            launch.user if self.identity == "proxy" else "",
            str(self._setting(launch, "queue")),
            str(self._setting(launch, "node_label") or ""),
            self.max_attempts,
            tuple(self.application_tags),
            archive and (local_path(archive) or archive),
            tuple(map(str, setup)) if isinstance(setup, list | tuple) else (),
        )

    def _sizes(self, launch: Launch) -> dict[str, Size]:
        return shapes.sizes_of(launch, self.allocation_mb)

    async def _check(self, launch: Launch) -> None:
        """Refuse what would end the whole application, were it submitted. Refused with why."""
        for name in self.setting_names:
            try:
                self.checked_setting(name, self._setting(launch, name))
            except ValueError as error:
                raise Refused(f"{name}: {error}") from None
        shape = self._shape(launch)
        queues = await self._known_queues()
        queue = queues.get(shape.queue) or queues.get(f"root.{shape.queue}")
        if not queues or queue is None:
            alike = sorted(
                {one.path for one in queues.values() if one.path.endswith(f".{shape.queue}")}
            )
            if len(alike) > 1:
                raise Refused(
                    f"there are {len(alike)} queues {shape.queue}: name one by its whole path, such"
                    f" as {' or '.join(alike[:3])}"
                )
            if queues and not self._may_be_made(shape.queue, queues):
                raise Refused(f"there is no queue {shape.queue}")
            return
        if not queue.running:
            raise Refused(f"queue {shape.queue} is stopped and takes no applications")
        most = {"memory_mb": queue.most_mb, "vcores": queue.most_cores, **queue.most}
        size = self._sizes(launch)[SERVICES[launch.instance.role]]
        asked = {
            "memory_mb": size.memory_mb,
            "vcores": size.vcores,
            "gpus": size.gpus,
            "fpgas": size.fpgas,
        }
        if beyond := words.beyond(asked, most, shape.queue):
            raise Refused(beyond)
        if shape.node_label and not {"*", shape.node_label} & set(queue.labels):
            there = ", ".join(queue.labels) or "none"
            raise Refused(
                f"queue {shape.queue} may not use nodes of label {shape.node_label}; it may use:"
                f" {there}"
            )

    def _may_be_made(self, name: str, queues: Mapping[str, Queue]) -> bool:
        """Whether a queue that is not listed may come with its first application: below one that
        is there, or by a rule of placement that the gateway does not know of."""
        above = name.rpartition(".")[0]
        return bool(above) and above != "root" and above in queues

    async def _known_queues(self) -> Mapping[str, Queue]:
        asked_at, known = self._queues
        if self._loop.time() - asked_at > QUEUES_S:
            known = await self.rest.queues()
            self._queues = (self._loop.time(), known)
        return known

    async def _start_group(self, launches: Sequence[Launch]) -> dict[Instance, StartOutcome]:
        """Start launches of one cluster that are alike."""
        uid = launches[0].instance.uid
        shape = self._shape(launches[0])
        instances = [launch.instance for launch in launches]
        for instance in instances:
            self._ended.pop(instance, None)
            if (ending := self._endings.pop(instance, None)) is not None:
                ending.cancel()
        try:
            await asyncio.to_thread(self.keeper.begin, uid, instances)
            held = self._fitting(uid, shape, launches) or await self._submit(shape, launches)
            rest = [launch for launch in launches if launch.instance not in holding.expected(held)]
            if held.reachable:
                await self._add(held, rest)
            else:
                held.pending |= {launch.instance: launch for launch in rest}
                self._watch()
        except OSError as error:
            return dict.fromkeys(instances, StartFailed(f"{error.filename}: {error.strerror}"))
        except Refused as error:
            text = str(error)
            failed = StartFailed(words.reason(text) or text, permanent=words.is_permanent(text))
            return dict.fromkeys(instances, failed)
        self._watch()
        return {instance: Started(held.handle(instance)) for instance in instances}

    def _fitting(self, uid: str, shape: Shape, launches: Sequence[Launch]) -> Held | None:
        """Return an application of a cluster that can have these containers."""
        for held in self.held.values():
            if held.uid != uid or held.record is None or held.ending or held.said.ended:
                continue
            sizes = held.record.sizes
            if held.record.shape == shape and all(
                self._sizes(launch)[service := SERVICES[launch.instance.role]] == sizes[service]
                for launch in launches
            ):
                return held
        return None

    async def _submit(self, shape: Shape, launches: Sequence[Launch]) -> Held:
        """Submit an application: everything about it is kept before. Refused; NotAnswered if nobody
        knows whether it was."""
        first = next((one for one in launches if one.instance.role is Role.SCHEDULER), None)
        uid, user = launches[0].instance.uid, launches[0].user
        security = await self.calls.call("credentials")
        kept = record.new(uid, security, shape, self._sizes(launches[0]), first is not None)
        key_file = self.records.key_path(kept)
        await asyncio.to_thread(self.records.keep, kept)
        await asyncio.to_thread(key_file.write_bytes, kept.key)
        given = self._submission(kept, user, str(key_file), first)
        self._submitting.add(kept.nonce)
        try:
            specification = shapes.specification(shape, given)
            made = await self.calls.call("submit", specification=specification)
            kept = await asyncio.to_thread(self.records.named, kept, str(made["application"]))
        except Refused:
            await asyncio.to_thread(self.records.drop, kept)
            raise
        finally:
            self._submitting.discard(kept.nonce)
            key_file.unlink(missing_ok=True)
        said = Application(kept.application, "SUBMITTED", queue=shape.queue, user=shape.account)
        held = self.held[kept.application] = Held(uid, said, kept)
        self._asked_at = float("-inf")
        return held

    def _submission(
        self, kept: Record, user: str, key_file: str, first: Launch | None
    ) -> Submission:
        private = "APPLICATION"
        files = {
            str(name): {"source": local_path(str(source)) or str(source), "visibility": private}
            for name, source in self.files.items()
        }
        files |= {
            inside.KEY_FILE: {"source": key_file, "visibility": private},
            script.INSIDE: {"source": str(self._root / script.INSIDE), "visibility": private},
        }
        # the names of users may hold what YARN's may not
        said = "".join(one if one.isalnum() or one in "-_.@" else "_" for one in user)
        return Submission(
            name=self.application_name.replace("{user}", said).replace("{uid}", kept.uid),
            tags=[
                self.gateway_tag,
                f"{self.gateway_tag}-{kept.uid}",
                f"nonce-{kept.nonce}",
                "daskgateway",
            ],
            sizes=kept.sizes,
            master=Size(self.master_memory_mb, self.master_cores),
            master_env={"JAVA_TOOL_OPTIONS": self.master_java_options},
            security=kept.security(),
            files=files,
            env=self.container_environment(),
            file_systems=self.file_systems,
            view_users=self.view_users,
            modify_users=self.modify_users,
            scheduler_env=None if first is None else script.environment(kept.key, first),
        )

    async def _add(self, held: Held, launches: Sequence[Launch]) -> None:
        """Ask an application's master for containers."""
        assert held.record is not None
        key = held.record.key
        for role in Role:
            group = [launch for launch in launches if launch.instance.role is role]
            if not group:
                continue
            items = await asyncio.to_thread(_items, key, group)
            held.looked_at = float("-inf") if held.looked_at == float("-inf") else 0.0
            made = await self.calls.call(
                "add",
                **self.master(held),
                service=SERVICES[role],
                items=items,
                spare=len(set(held.record.sizes.values())) > 1,
            )
            for launch, container in zip(group, made["containers"]):
                held.pending.pop(launch.instance, None)
                held.stopping.discard(launch.instance)
                held.containers[launch.instance] = Container(container, SERVICES[role], "REQUESTED")
                held.asked[launch.instance] = Asked(launch, self._loop.time())

    async def _ask_again(self, held: Held) -> None:
        """Ask anew for containers whose requests were lost.

        skein gives a container to any of its own requests of that size, though each went to the
        ResourceManager by itself. Where they went with different heartbeats, it so takes back a
        request that was not answered yet, and waits for ever by one that was.
        """
        overdue = held.overdue(self._loop.time(), LOST_AFTER_S)
        if not overdue:
            return
        doubted = held.lost(overdue, await self.rest.open_requests(held.id))
        # a container that was given is not open any more, and on its way to a master that is slow
        lost = [instance for instance in doubted if held.asked[instance].doubted]
        old = [held.containers[instance].id for instance in lost]
        if lost:
            logger.info("yarn: %s: asking again for %s", held.id, ", ".join(map(str, old)))
            await self._add(held, [held.asked[instance].launch for instance in lost])
            await self.calls.call("kill", **self.master(held), containers=old)
        for instance in overdue:  # the others are looked at again as much later
            if instance not in lost:
                now, doubt = self._loop.time(), instance in doubted
                at = now - (LOST_AFTER_S - SURE_AFTER_S if doubt else 0.0)
                held.asked[instance] = replace(held.asked[instance], at=at, doubted=doubt)

    # What is about to come

    def _watch(self) -> None:
        """Look soon and often, as long as something is about to come."""
        if self._watching is None or self._watching.done():
            self._watching = self._spawn(self._watch_on())

    async def _watch_on(self) -> None:
        wait_s = SOON_S
        while any(self._awaits(held) for held in self.held.values()):
            await asyncio.sleep(wait_s)
            try:
                await self.listing(SOON_S / 2)
            except BackendUnavailable as error:
                logger.debug("yarn: %s", error)
                wait_s = min(2 * wait_s, self.observe_interval_s)
                continue
            due = [held for held in self.held.values() if self._awaits(held) and held.reachable]
            await asyncio.gather(*(self._advance(held) for held in due))
            wait_s = min(1.3 * wait_s, max(SOON_S, self.observe_interval_s))

    def _awaits(self, held: Held) -> bool:
        if held.said.ended or held.record is None:
            return False
        begun = any(
            not one.over and one.container not in held.settled for one in held.containers.values()
        )
        unseen = held.looked_at == float("-inf")
        return bool(held.pending) or begun or unseen or bool(held.stopping & held.live())

    async def _advance(self, held: Held) -> None:
        """Ask for what was to wait for the master, and tell what has come about."""
        before = set(holding.expected(held))
        try:
            await self.look(held)
            async with self._turns.of(held.uid):
                if held.surplus and not held.pending:
                    await self.calls.call("kill", **self.master(held), containers=held.surplus)
                waiting = list(held.pending.values())
                if waiting and not held.ending:
                    await self._add(held, waiting)
                if not held.ending:
                    await self._ask_again(held)
        except (BackendUnavailable, Refused) as error:
            logger.warning("yarn: %s: %s", held.id, error)
            return
        seen = [holding.tell(held, Target(instance)) for instance in sorted(before)]
        self.push([one for one in seen if one is not None and one.phase is Phase.RUNNING])


def _items(key: bytes, launches: Sequence[Launch]) -> list[dict[str, object]]:
    return [{"name": one.instance.name, "env": script.environment(key, one)} for one in launches]
