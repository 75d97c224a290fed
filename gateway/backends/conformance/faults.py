"""Tests of what goes wrong around a backend: a restart, a machine room that does not answer, and a
loop that must turn meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

from gateway.backends.conformance.room import OTHER_UID, UID, Room
from gateway.backends.conformance.stall import MAX_STALL_S, longest_stall
from gateway.backends.contract import BackendUnavailable, Observation, Phase, Target


class Faults:
    """Restarts, outages, and calls that take their time."""

    async def test_after_a_restart_what_runs_is_found_and_adopted(self, room: Room) -> None:
        again = room.given("again", room.again)
        names = ["scheduler", "default-0", "default-1"]
        targets = await room.running(*(room.launch(name) for name in names))
        await room.backend.close()
        room.one_alive(*targets)
        room.backend = await again()
        room.pushed.clear()
        await room.open()
        assert await room.found() == sorted((UID, name) for name in names)
        await room.until(targets, Phase.RUNNING)
        assert await room.start(*(room.launch(name) for name in names)) == targets
        assert len(await room.found()) == len(names)
        await room.running(room.launch("default-2"))
        room.one_alive(*targets)
        await room.backend.stop(targets)
        await room.until_gone(targets)

    async def test_what_ended_while_nobody_looked_is_gone_after_a_restart(self, room: Room) -> None:
        again = room.given("again", room.again)
        room.need("programs")
        lasts, ends = await room.running(room.launch("scheduler"), room.launch())
        await room.backend.close()
        room.witness.let_go(ends.instance)
        await room.seen_dead(ends.instance)
        room.backend = await again()
        room.pushed.clear()
        await room.open()
        await room.until_gone([ends])
        await room.until([lasts], Phase.RUNNING)
        room.one_alive(lasts)

    async def test_an_outage_is_no_end_and_nothing_is_lost_or_doubled(self, room: Room) -> None:
        outage = room.given("outage", room.outage)
        targets = await room.running(room.launch("scheduler"), room.launch())
        unknown = [Target(room.launch("default-9").instance, "", room.user)]
        async with outage():
            for ask in (
                lambda: room.backend.start([room.launch("default-1")]),
                lambda: room.backend.observations(targets),
                lambda: room.backend.stop(unknown),
                room.backend.find,
            ):
                await self._unanswered(room, ask)
            ended = [
                one
                for one in room.pushed.values()
                if one.phase in (Phase.GONE, Phase.EXITED)
                and one.instance in dict.fromkeys(target.instance for target in targets)
            ]
            assert not ended, f"an outage is told as an end: {ended}"
        await room.until(targets, Phase.RUNNING)
        late = await room.running(room.launch("default-1"))
        assert [name for _, name in await room.found()] == ["default-0", "default-1", "scheduler"]
        await room.running(room.launch("default-2"))
        room.one_alive(*targets, *late)

    async def test_a_stop_in_an_outage_fails_as_often_as_it_is_asked_for_and_is_done_afterwards(
        self, room: Room
    ) -> None:
        outage = room.given("outage", room.outage)
        targets = await room.running(room.launch("scheduler"), room.launch())
        async with outage():
            for _ in range(3):
                await self._unanswered(room, lambda: room.backend.stop(targets))
        # a machine room that comes back may have heard it
        await room.until(targets, Phase.RUNNING, Phase.GONE)
        await room.backend.stop(targets)
        await room.until_gone(targets)

    async def _unanswered(self, room: Room, ask: Callable[[], Awaitable[object]]) -> None:
        """Ask until an answer of before the outage is too old: then it must be BackendUnavailable,
        and within the deadline."""
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + room.patience_s
        while loop.time() < give_up_at:
            try:
                async with asyncio.timeout(room.deadline_s):
                    answer = await ask()
            except BackendUnavailable as error:
                if not str(error):
                    raise AssertionError("BackendUnavailable does not say why") from error
                return
            except TimeoutError:
                raise AssertionError(
                    f"a call has not ended within {room.deadline_s:g} s of an outage"
                ) from None
            seen = answer.values() if isinstance(answer, Mapping) else answer
            for one in seen if isinstance(seen, Sequence) else list(seen or []):  # type: ignore[call-overload]
                assert not (isinstance(one, Observation) and one.phase is Phase.GONE), (
                    "an outage is reported as an end"
                )
            await asyncio.sleep(room.look_s)
        raise AssertionError("the machine room does not answer, and nobody says so")

    async def test_no_call_holds_up_the_event_loop(self, room: Room) -> None:
        targets: list[Target] = []

        async def started() -> None:
            targets.extend(await room.start(*(room.launch(f"default-{n}") for n in range(8))))

        async def read() -> None:
            await room.log(targets[0])

        calls: dict[str, Callable[[], Awaitable[object]]] = {
            "start": started,
            "observations": lambda: room.until(targets, Phase.RUNNING, Phase.QUEUED),
            "find": lambda: room.backend.find(),
            "logs": read,
            "stop": lambda: room.backend.stop(targets),
            "observations of what ends": lambda: room.until_gone(targets),
            "cleanup": lambda: room.backend.cleanup(UID),
            "purge": lambda: room.backend.purge(UID),
            "purge of what is unknown": lambda: room.backend.purge(OTHER_UID),
        }
        for name, call in calls.items():
            async with longest_stall() as worst:
                await call()
            assert worst[0] < MAX_STALL_S, (
                f"{name}: the event loop stood still for {worst[0]:.2f} s"
            )
