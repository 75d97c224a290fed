"""Tests of seeing: what runs is told to run at every look, what exists is found and nothing else,
and another gateway's is left alone."""

from __future__ import annotations

import asyncio

from gateway.backends.conformance.room import OTHER_UID, UID, Room
from gateway.backends.contract import Instance, Launch, Observation, Phase, Role, Target

LOOKS = 12


class Sights:
    """`observations`, `find`, and what is pushed."""

    async def test_what_runs_is_told_to_run_at_every_look(self, room: Room) -> None:
        targets = await room.running(
            room.launch("scheduler"), room.launch("default-0"), room.launch("default-1")
        )
        for _ in range(LOOKS):
            seen = await room.look(targets)
            assert {name: one.phase for name, one in seen.items()} == {
                target.instance: Phase.RUNNING for target in targets
            }
            ended = [one for one in room.pushed.values() if one.phase in (Phase.GONE, Phase.EXITED)]
            assert not ended, f"told unasked to have ended, and it runs: {ended}"
            assert await room.found() == sorted((UID, target.instance.name) for target in targets)
            await asyncio.sleep(room.look_s)
        room.one_alive(*targets)

    async def test_handles_are_told_alike_by_whoever_is_asked(self, room: Room) -> None:
        targets = await room.running(room.launch("scheduler"), room.launch("default-0"))
        handles = {target.instance: target.handle for target in targets}
        assert {seen.instance: seen.handle for seen in await room.backend.find()} == handles
        assert {
            instance: seen.handle for instance, seen in (await room.look(targets)).items()
        } == handles

    async def test_what_is_unknown_is_gone_before_long(self, room: Room) -> None:
        unknown = [
            Target(Instance(OTHER_UID, Role.SCHEDULER, "scheduler"), "4242", room.user),
            Target(Instance(OTHER_UID, Role.WORKER, "default-3"), "", room.user),
        ]
        await room.until_gone(unknown)
        await room.backend.stop(unknown)
        assert await room.found() == []

    async def test_what_exists_is_found_until_it_is_gone_and_nothing_else(self, room: Room) -> None:
        assert await room.found() == []
        ours = await room.running(
            room.launch("scheduler"), room.launch("default-0"), room.launch("default-1")
        )
        theirs = await room.running(room.launch("scheduler", uid=OTHER_UID))
        for left in ([*ours, *theirs], [ours[0], ours[2], *theirs], [ours[0], ours[2]], []):
            gone = [target for target in (*ours, *theirs) if target not in left]
            await room.backend.stop(gone)
            await room.until_gone(gone)
            assert await room.found() == sorted(
                (target.instance.uid, target.instance.name) for target in left
            )

    async def test_what_another_gateway_runs_is_neither_found_nor_adopted_nor_ended(
        self, room: Room
    ) -> None:
        stranger = await room.given("stranger", room.stranger)()
        pushed: list[Observation] = []
        await stranger.open(pushed.extend)
        try:
            token = "another gateway's"
            code = room.witness.program(token) if room.runs_programs else None
            launches = [room.launch(name, code) for name in ("scheduler", "default-0")]
            await stranger.start(launches)
            for launch in launches:
                await self._theirs(room, launch, token)
            assert await room.found() == []
            # of the same uid and names
            ours = await room.running(*(room.launch(launch.instance.name) for launch in launches))
            room.one_alive(*ours)
            await room.backend.stop(ours)
            await room.until_gone(ours)
            await room.backend.cleanup(UID)
            await room.backend.purge(UID)
            for launch in launches:
                await self._theirs(room, launch, token)
            assert sorted(seen.instance.name for seen in await stranger.find()) == [
                "default-0",
                "scheduler",
            ]
        finally:
            await stranger.stop(
                [Target(seen.instance, seen.handle, seen.user) for seen in await stranger.find()]
            )
            async with asyncio.timeout(room.patience_s):
                while await stranger.find():  # noqa: ASYNC110 (a machine room tells of nothing by itself)
                    await asyncio.sleep(room.look_s)
            await stranger.cleanup(UID)
            await stranger.purge(UID)
            await stranger.close()

    async def _theirs(self, room: Room, launch: Launch, token: str) -> None:
        await room.seen_alive(launch.instance, token)
        if room.runs_programs:
            assert len(room.witness.ever(launch.instance, token)) == 1, (
                "another gateway's process was ended, or started twice"
            )
