"""Tests of starting: create if absent, else adopt, whatever is asked twice; every process under its
own name, and no secret in sight."""

from __future__ import annotations

import asyncio
import json

from gateway.backends.conformance.room import SECRET, SECRET_WORD, Room
from gateway.backends.contract import (
    DIRECTORY,
    NAME,
    Launch,
    Phase,
    Resources,
    Started,
    StartFailed,
    Target,
)


class Starts:
    """`start`."""

    async def test_what_it_cannot_do_is_said(self, room: Room) -> None:
        for what in ("programs", "again", "stranger", "outage", "refused", "lose_files", "shown"):
            lacks = not room.runs_programs if what == "programs" else getattr(room, what) is None
            assert lacks == (what in room.cannot), (
                f"Room.{what} is given, or Room.cannot says why not: one of the two"
            )
            assert not lacks or len(room.cannot[what]) > 10, (
                f"Room.cannot[{what!r}] gives no reason"
            )

    async def test_its_settings_of_a_cluster_can_be_stored(self, room: Room) -> None:
        settings = room.backend.cluster_settings()
        assert json.loads(json.dumps(dict(settings))) == settings

    async def test_what_it_gives_is_never_less_than_what_is_asked_for(self, room: Room) -> None:
        for asked in (
            Resources(0.01, 2**20),
            Resources(1.0, 0, 1),
            Resources(1.5, 2**20 + 1, 3, {"fpga": 0.5}),
            Resources(64.0, 2**40, 8, {"fpga": 1.0, "nvme": 2.5}),
        ):
            given = room.backend.allots(asked)
            assert given.cores >= asked.cores
            assert given.memory_bytes >= asked.memory_bytes
            assert given.gpus >= asked.gpus
            assert all(given.named.get(name, 0) >= n for name, n in asked.named.items())
            assert room.backend.allots(given) == given

    async def test_what_it_objects_to_is_said_and_plain_processes_are_not(self, room: Room) -> None:
        settings = room.backend.cluster_settings()
        assert room.backend.objection(Resources(64.0, 2**40), settings) == ""
        for asked in (Resources(gpus=1), Resources(named={"fpga": 1.0})):
            words = room.backend.objection(asked, settings)
            assert words == words.strip()
            assert "\n" not in words

    async def test_start_is_create_or_adopt(self, room: Room) -> None:
        first = await room.backend.start([room.launch()])
        assert await room.backend.start([room.launch()]) == first
        targets = await room.running(room.launch())
        assert await room.backend.start([room.launch()]) == first
        assert await room.found() == [(room.launch().instance.uid, "default-0")]
        await room.running(room.launch("default-1"))  # what was started before has come up by then
        room.one_alive(*targets)

    async def test_a_launch_given_twice_in_one_batch_is_one_instance(self, room: Room) -> None:
        outcomes = await room.backend.start([room.launch(), room.launch()])
        assert len(outcomes) == 1
        (target,) = [
            Target(instance, getattr(outcome, "handle", ""), room.user)
            for instance, outcome in outcomes.items()
        ]
        await room.until([target], Phase.RUNNING)
        await room.seen_alive(target.instance)
        assert len(await room.found()) == 1
        await room.running(room.launch("default-1"))
        room.one_alive(target)

    async def test_starts_of_one_instance_at_the_same_time_make_one_process(
        self, room: Room
    ) -> None:
        batches = [
            [room.launch("default-0"), room.launch("default-1")],
            [room.launch("default-1"), room.launch("default-0")],
        ]
        outcomes = await asyncio.gather(*(room.backend.start(batch) for batch in batches))
        assert outcomes[0] == outcomes[1]
        targets = await room.running(*batches[0])
        await room.running(room.launch("default-2"))
        room.one_alive(*targets)
        assert [name for _, name in await room.found()] == ["default-0", "default-1", "default-2"]

    async def test_files_and_environment_reach_the_process_and_its_log_is_live(
        self, room: Room
    ) -> None:
        room.need("programs")
        program = "import os, time; key, text = os.environ['KEY'], os.environ['TEXT']; "
        program += (
            "print(open(key).read() + text, oct(os.stat(key).st_mode), flush=True); time.sleep(600)"
        )
        text = 'it\'s "quoted" $HOME `id` {name} \\n ü'
        (target,) = await room.start(
            room.launch(code=program, env={"KEY": f"{DIRECTORY}/key.pem", "TEXT": text})
        )
        said = await room.log_with(target, "0o100600")
        assert said.startswith(SECRET.decode())
        assert text in said

    async def test_secrets_are_in_no_argument_and_in_nothing_that_is_shown(
        self, room: Room
    ) -> None:
        room.need("programs")
        env = {"KEY": f"{DIRECTORY}/key.pem"}
        targets = await room.running(
            *(room.launch(name, env=env) for name in ("scheduler", "default-0", "default-1"))
        )
        for target in targets:
            (life,) = room.witness.alive(target.instance)
            assert "exec(" in life.said, "a process could not read its own arguments"
            assert SECRET_WORD not in life.said, (
                f"the secret is an argument of {target.instance.name}, or of what it was started by"
            )
        if room.shown is not None:
            assert SECRET_WORD not in room.shown(), "the machine room shows the secret to everybody"

    async def test_each_of_a_batch_knows_its_name_and_writes_a_log_of_its_own(
        self, room: Room
    ) -> None:
        room.need("programs")
        targets = await room.running(*(room.launch(f"default-{n}") for n in (3, 4, 9)))
        for target in targets:
            assert await room.log_with(target, "\n") == f"here is {target.instance.name}\n"
        room.one_alive(*targets)

    async def test_a_refused_start_says_why_and_holds_up_no_other(self, room: Room) -> None:
        refused = room.given("refused", room.refused)
        launches = [room.launch(f"default-{n}", options=refused) for n in range(2)]
        outcomes = await room.backend.start([*launches, room.launch("default-7")])
        for launch in launches:
            outcome = outcomes[launch.instance]
            assert isinstance(outcome, StartFailed)
            assert len(outcome.message) > 10
        accepted = outcomes[room.launch("default-7").instance]
        assert isinstance(accepted, Started)
        await room.until(
            [Target(room.launch("default-7").instance, accepted.handle, room.user)], Phase.RUNNING
        )
        assert [name for _, name in await room.found()] == ["default-7"]

    async def test_a_program_that_is_not_there_is_told_and_leaves_nothing(self, room: Room) -> None:
        room.need("programs")
        launch = room.launch()
        missing = Launch(
            launch.instance,
            launch.user,
            ("/nowhere/no-such-program", NAME),
            files=launch.files,
            resources=launch.resources,
        )
        outcome = (await room.backend.start([missing]))[launch.instance]
        if isinstance(outcome, StartFailed):
            assert "no-such-program" in outcome.message
        else:
            seen = (await room.until_gone([Target(launch.instance, outcome.handle, room.user)]))[
                launch.instance
            ]
            assert seen.exit_code != 0
            assert "no-such-program" in seen.message
        assert await room.found() == []
