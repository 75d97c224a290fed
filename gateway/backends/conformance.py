"""What every backend must do, as tests: a backend's own test module subclasses `Conformance` and says how to make a `Room`::

    class TestMine(Conformance):
        @pytest.fixture
        async def room(self, tmp_path):
            room = Room(MyBackend(root=str(tmp_path)))
            await room.open()
            yield room
            await room.close()

Run with pytest and pytest-asyncio (asyncio_mode = auto). Knows the contract only; standard library only. What a machine room cannot do at
all it says in its Room; what is asked of `Room.again` and `Room.outage` is where most backends are found wanting.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field

from gateway.backends.contract import (
    DIRECTORY,
    NAME,
    Backend,
    BackendUnavailable,
    Instance,
    Launch,
    Observation,
    Phase,
    Resources,
    Role,
    Started,
    StartFailed,
    Target,
)

UID = "c" + "a" * 20
OTHER_UID = "c" + "b" * 20
SLEEP = "import sys, time; print('here is', sys.argv[1], flush=True); time.sleep(600)"
MAX_STALL_S = 0.25  # of the event loop, on a busy machine


@dataclass
class Room:
    """A backend under test."""

    backend: Backend
    user: str = "alice"
    python: str = sys.executable  # what programs are run by
    look_s: float = 0.1  # between two looks
    patience_s: float = 30.0  # for what takes its time
    deadline_s: float = 30.0  # within which each call must have ended, whatever the machine room does
    runs_programs: bool = True  # False: it only pretends, and there are no logs and no ends of their own
    again: Callable[[], Awaitable[Backend]] | None = None  # another backend on the same machine room, as after a restart
    outage: Callable[[], AbstractAsyncContextManager[None]] | None = None  # while it lasts the machine room does not answer
    refused: Mapping[str, object] | None = None  # options of a launch that the machine room refuses
    lose_files: Callable[[str], None] | None = None  # removes a cluster's files behind the backend's back
    pushed: dict[Instance, Observation] = field(default_factory=dict)

    def push(self, observations: Sequence[Observation]) -> None:
        """Take what the backend tells unasked."""
        self.pushed |= {seen.instance: seen for seen in observations}

    async def open(self) -> None:
        """Open the backend."""
        await self.backend.open(self.push)

    async def close(self) -> None:
        """End whatever runs, and close."""
        left = [Target(seen.instance, seen.handle, seen.user) for seen in await self.backend.find()]
        await self.backend.stop(left)
        await self.until_gone(left)
        for uid in (UID, OTHER_UID):
            await self.backend.cleanup(uid)
            await self.backend.purge(uid)
        await self.backend.close()

    def launch(self, name: str = "default-0", code: str = SLEEP, uid: str = UID, **fields: object) -> Launch:
        """Return a launch of some lines of Python; by default of something cheap that goes on."""
        role = Role.SCHEDULER if name == "scheduler" else Role.WORKER
        given: dict[str, object] = {"resources": Resources(1.0, 64 * 2**20), "files": {"key.pem": b"secret\n"}, **fields}
        return Launch(Instance(uid, role, name), self.user, (self.python, "-c", code, NAME), **given)  # type: ignore[arg-type]

    async def start(self, *launches: Launch) -> list[Target]:
        """Start what must start."""
        outcomes = await self.backend.start(launches)
        targets = []
        for launch in launches:
            outcome = outcomes[launch.instance]
            assert isinstance(outcome, Started), outcome
            targets.append(Target(launch.instance, outcome.handle, self.user))
        return targets

    async def until(self, targets: Sequence[Target], *phases: Phase) -> dict[Instance, Observation]:
        """Look until every target stands where it is expected, or was told to."""
        seen: dict[Instance, Observation] = {}
        try:
            async with asyncio.timeout(self.patience_s):
                while True:
                    told = {i: o for i, o in self.pushed.items() if o.phase is Phase.GONE}
                    seen = {**await self.backend.observations(targets), **told}
                    if all(target.instance in seen and seen[target.instance].phase in phases for target in targets):
                        return {target.instance: seen[target.instance] for target in targets}
                    await asyncio.sleep(self.look_s)
        except TimeoutError:
            raise AssertionError(f"not {[phase.value for phase in phases]} within {self.patience_s} s: {seen}") from None

    async def until_gone(self, targets: Sequence[Target]) -> dict[Instance, Observation]:
        """Look until nothing of the targets is left."""
        return await self.until(targets, Phase.GONE)

    async def log(self, target: Target, **how: object) -> str:
        """Return a log as it is."""
        return "".join([piece async for piece in self.backend.logs(target, **how)])  # type: ignore[arg-type]

    async def log_with(self, target: Target, words: str) -> str:
        """Follow a log until it has these words."""
        text = ""
        async with asyncio.timeout(self.patience_s):
            async for piece in self.backend.logs(target, follow=True):
                text += piece
                if words in text:
                    break
        return text


@asynccontextmanager
async def longest_stall() -> AsyncIterator[list[float]]:
    """Measure the longest time for which the event loop did not turn, in seconds, but for what the machine gave to others meanwhile."""
    worst = [0.0]

    async def turn() -> None:
        loop = asyncio.get_running_loop()
        before, waited_s = loop.time(), runnable_s()
        while True:
            await asyncio.sleep(0.005)
            now, waited_now_s = loop.time(), runnable_s()
            worst[0] = max(worst[0], now - before - 0.005 - max(0.0, waited_now_s - waited_s))
            before, waited_s = now, waited_now_s

    task = asyncio.create_task(turn())
    try:
        yield worst
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def runnable_s() -> float:
    """Return for how long this thread has waited for a processor (proc(5): schedstat); 0 where the system does not tell.

    Not for how long other threads have: what they keep the event loop waiting by, holding Python's lock, is a stall.
    """
    try:
        with open("/proc/thread-self/schedstat", "rb") as file:
            return int(file.read().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0


class Conformance:
    """The suite."""

    async def test_whether_schedulers_may_be_on_the_gateways_machine_is_said(self, room: Room) -> None:
        assert isinstance(room.backend.local, bool)

    async def test_start_is_create_or_adopt(self, room: Room) -> None:
        first = await room.backend.start([room.launch()])
        assert await room.backend.start([room.launch()]) == first
        targets = await room.start(room.launch())
        await room.until(targets, Phase.RUNNING)
        assert await room.backend.start([room.launch()]) == first
        assert [seen.instance for seen in await room.backend.find()] == [room.launch().instance]

    async def test_a_launch_given_twice_in_one_batch_is_one_instance(self, room: Room) -> None:
        outcomes = await room.backend.start([room.launch(), room.launch()])
        assert len(outcomes) == 1
        (target,) = [Target(instance, getattr(outcome, "handle", ""), room.user) for instance, outcome in outcomes.items()]
        await room.until([target], Phase.RUNNING)
        assert len(await room.backend.find()) == 1

    async def test_a_batch_with_gaps_in_its_numbers_starts_is_observed_and_stops(self, room: Room) -> None:
        names = [f"default-{n}" for n in (0, 1, 2, 5, 7, 8)]
        targets = await room.start(*(room.launch(name) for name in names))
        assert len({target.handle for target in targets}) == len(names) or not room.runs_programs
        await room.until(targets, Phase.RUNNING)
        assert sorted(seen.instance.name for seen in await room.backend.find()) == names
        await room.backend.stop(targets[2:4])
        await room.until_gone(targets[2:4])
        await room.until([*targets[:2], *targets[4:]], Phase.RUNNING)
        await room.backend.stop(targets)
        await room.until_gone(targets)
        assert await room.backend.find() == []

    async def test_stopping_what_is_gone_is_no_error(self, room: Room) -> None:
        targets = await room.start(room.launch())
        await room.backend.stop(targets)
        await room.until_gone(targets)
        await room.backend.stop(targets)
        await room.until_gone(targets)

    async def test_stopping_needs_no_handle(self, room: Room) -> None:
        (target,) = await room.start(room.launch())
        await room.until([target], Phase.RUNNING)
        await room.backend.stop([Target(target.instance, "", room.user)])
        await room.until_gone([target])

    async def test_what_is_unknown_is_gone_before_long(self, room: Room) -> None:
        unknown = [Target(Instance(OTHER_UID, Role.SCHEDULER, "scheduler"), "4242", room.user)]
        await room.until_gone(unknown)
        await room.backend.stop(unknown)

    async def test_clusters_do_not_mix(self, room: Room) -> None:
        ours = await room.start(room.launch("scheduler"), room.launch())
        theirs = await room.start(room.launch("scheduler", uid=OTHER_UID), room.launch(uid=OTHER_UID))
        await room.until([*ours, *theirs], Phase.RUNNING)
        await room.backend.stop(theirs)
        await room.until_gone(theirs)
        await room.backend.cleanup(OTHER_UID)
        await room.until(ours, Phase.RUNNING)

    async def test_files_and_environment_reach_the_process_and_its_log_is_live(self, room: Room) -> None:
        if not room.runs_programs:
            return
        program = "import os, time; key, text = os.environ['KEY'], os.environ['TEXT']; "
        program += "print(open(key).read() + text, oct(os.stat(key).st_mode), flush=True); time.sleep(600)"
        text = 'it\'s "quoted" $HOME `id` {name} \\n ü'
        (target,) = await room.start(room.launch(code=program, env={"KEY": f"{DIRECTORY}/key.pem", "TEXT": text}))
        said = await room.log_with(target, "0o100600")
        assert said.startswith("secret\n")
        assert text in said

    async def test_the_directory_of_an_instance_is_its_own_and_goes_with_it(self, room: Room) -> None:
        if not room.runs_programs:
            return
        program = (
            "import os, time; place = os.path.dirname(os.environ['KEY']); os.makedirs(place + '/scratch/deep', exist_ok=True); "
            "state = os.stat(place); own = state.st_uid == os.geteuid() and not os.path.islink(place); "
            "print(place, own, oct(state.st_mode & 0o777), sep='|', flush=True); time.sleep(600)"
        )
        key = {"KEY": f"{DIRECTORY}/key.pem"}
        targets = await room.start(room.launch("scheduler", program, env=key), room.launch(code=program, env=key))
        told = [(await room.log_with(target, "0o")).strip().split("|") for target in targets]
        assert [words[1:] for words in told] == [["True", "0o700"]] * 2
        assert told[0][0] != told[1][0]
        await room.backend.stop(targets)
        await room.until_gone(targets)
        await room.backend.cleanup(UID)
        program = f"import os; print('left', [place for place in {[words[0] for words in told]!r} if os.path.lexists(place)], flush=True)"
        (after,) = await room.start(room.launch("default-9", program, uid=OTHER_UID))
        assert await room.log_with(after, "]") == "left []\n"

    async def test_each_of_a_batch_knows_its_name_and_writes_a_log_of_its_own(self, room: Room) -> None:
        if not room.runs_programs:
            return
        targets = await room.start(*(room.launch(f"default-{n}") for n in (3, 4, 9)))
        for target in targets:
            assert await room.log_with(target, "\n") == f"here is {target.instance.name}\n"

    async def test_logs_outlive_the_instance_and_end_with_the_purge(self, room: Room) -> None:
        if not room.runs_programs:
            return
        targets = await room.start(room.launch())
        await room.log_with(targets[0], "here is default-0\n")
        await room.backend.stop(targets)
        await room.until_gone(targets)
        await room.backend.cleanup(UID)
        assert (await room.log(targets[0])).startswith("here is default-0\n")
        assert "here is" in await room.log(targets[0], tail_lines=50)
        await room.backend.purge(UID)
        assert await room.log(targets[0]) == ""

    async def test_a_failure_is_told_with_its_code_and_last_words(self, room: Room) -> None:
        if not room.runs_programs:
            return
        program = "import sys, time; time.sleep(0.3); print('no module named numpy', file=sys.stderr); sys.exit(3)"
        targets = await room.start(room.launch(code=program))
        seen = (await room.until_gone(targets))[targets[0].instance]
        assert seen.exit_code == 3
        assert "no module named numpy" in seen.message

    async def test_a_good_end_is_told_as_such(self, room: Room) -> None:
        if not room.runs_programs:
            return
        targets = await room.start(room.launch("scheduler", "import time; time.sleep(0.3)"))
        assert (await room.until_gone(targets))[targets[0].instance].exit_code == 0

    async def test_a_refused_start_says_why(self, room: Room) -> None:
        if room.refused is None:
            return
        launches = [room.launch(f"default-{n}", options=room.refused) for n in range(2)]
        outcomes = await room.backend.start([*launches, room.launch("default-7")])
        for launch in launches:
            outcome = outcomes[launch.instance]
            assert isinstance(outcome, StartFailed)
            assert len(outcome.message) > 10
        assert isinstance(outcomes[room.launch("default-7").instance], Started)

    async def test_after_a_restart_what_runs_is_found_and_adopted(self, room: Room) -> None:
        if room.again is None:
            return
        names = ["scheduler", "default-0", "default-1"]
        targets = await room.start(*(room.launch(name) for name in names))
        await room.until(targets, Phase.RUNNING)
        await room.backend.close()
        room.backend = await room.again()
        room.pushed.clear()
        await room.open()
        found = await room.backend.find()
        assert sorted(seen.instance.name for seen in found) == sorted(names)
        assert await room.start(*(room.launch(name) for name in names)) == targets
        assert len(await room.backend.find()) == len(names)
        await room.backend.stop([Target(seen.instance, seen.handle, seen.user) for seen in found])
        await room.until_gone(targets)

    async def test_an_outage_is_no_end_and_nothing_is_lost_or_doubled(self, room: Room) -> None:
        if room.outage is None:
            return
        targets = await room.start(room.launch("scheduler"), room.launch())
        await room.until(targets, Phase.RUNNING)
        async with room.outage():
            for ask in (
                lambda: room.backend.start([room.launch("default-1")]),
                lambda: room.backend.observations(targets),
                lambda: room.backend.stop([Target(room.launch("default-9").instance, "", room.user)]),
                room.backend.find,
            ):
                await self._unanswered(room, ask)
        await room.until(targets, Phase.RUNNING)
        late = await room.start(room.launch("default-1"))
        await room.until(late, Phase.RUNNING)
        assert sorted(seen.instance.name for seen in await room.backend.find()) == ["default-0", "default-1", "scheduler"]

    async def _unanswered(self, room: Room, ask: Callable[[], Awaitable[object]]) -> None:
        """Ask until an answer of before the outage is too old: then it must be BackendUnavailable, and within the deadline."""
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + room.patience_s
        while loop.time() < give_up_at:
            began_at = loop.time()
            try:
                answer = await ask()
            except BackendUnavailable:
                assert loop.time() - began_at < room.deadline_s
                return
            seen = answer.values() if isinstance(answer, Mapping) else answer
            for one in seen if isinstance(seen, Sequence) else list(seen or []):  # type: ignore[call-overload]
                assert not (isinstance(one, Observation) and one.phase is Phase.GONE), "an outage is reported as an end"
            await asyncio.sleep(room.look_s)
        raise AssertionError("the machine room does not answer, and nobody says so")

    async def test_stopping_works_with_the_files_gone(self, room: Room) -> None:
        if room.lose_files is None:
            return
        targets = await room.start(room.launch("scheduler"), room.launch())
        await room.until(targets, Phase.RUNNING)
        room.lose_files(UID)
        await room.backend.stop(targets)
        await room.until_gone(targets)
        await room.backend.cleanup(UID)
        await room.backend.purge(UID)

    async def test_no_call_holds_up_the_event_loop(self, room: Room) -> None:
        async with longest_stall() as worst:
            targets = await room.start(*(room.launch(f"default-{n}") for n in range(8)))
            await room.until(targets, Phase.RUNNING, Phase.QUEUED)
            await room.backend.find()
            await room.backend.stop(targets)
            await room.until_gone(targets)
        assert worst[0] < MAX_STALL_S

    async def test_forgetting_is_no_error_however_often(self, room: Room) -> None:
        for _ in range(2):
            await room.backend.cleanup(OTHER_UID)
            await room.backend.purge(OTHER_UID)
        assert await room.log(Target(Instance(OTHER_UID, Role.WORKER, "default-0"), "", room.user)) == ""
