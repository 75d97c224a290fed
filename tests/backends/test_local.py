"""The local backend with real processes."""

from __future__ import annotations

import asyncio
import errno
import os
import pathlib
import select
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest
from traitlets.config import Config

from gateway.backends import logfile
from gateway.backends.contract import (
    DIRECTORY,
    Backend,
    BackendUnavailable,
    Instance,
    Launch,
    Observation,
    Phase,
    Role,
    Started,
    StartFailed,
    Target,
)
from gateway.backends.local import proc
from gateway.backends.local.backend import LocalBackend
from gateway.backends.noop import NoopBackend

UID = "c" + "a" * 20
ROOT = pathlib.Path(__file__).resolve().parents[2]
SLEEP = (sys.executable, "-c", "print('here', flush=True); import time; time.sleep(60)")


class Room:
    """A backend, and what it pushed."""

    def __init__(self, backend: Backend) -> None:
        self.backend: Any = backend  # whose inside is looked at too
        self.pushed: asyncio.Queue[Observation] = asyncio.Queue()
        self.ended: dict[Instance, Observation] = {}
        self.left: list[subprocess.Popen[bytes]] = []

    async def restart(self) -> None:
        """Close and open the backend, as one server after the other does; what ends from now on is
        no child of it any more."""
        self.left += [
            running.child for running in self.backend._running.values() if running.child is not None
        ]
        await self.backend.close()
        await self.backend.open(self.push)

    def push(self, observations: object) -> None:
        """Take observations."""
        for observation in observations:  # type: ignore[attr-defined]
            self.pushed.put_nowait(observation)

    async def gone(self, instance: Instance) -> Observation:
        """Wait until an instance is told to be gone."""
        while instance not in self.ended:
            seen = await asyncio.wait_for(self.pushed.get(), 60)
            if seen.phase is Phase.GONE:
                self.ended[seen.instance] = seen
        return self.ended[instance]


def launch(name: str = "default-0", argv: tuple[str, ...] = SLEEP, **fields: object) -> Launch:
    """Return a launch of something cheap."""
    return Launch(Instance(UID, Role.WORKER, name), "alice", argv, **fields)  # type: ignore[arg-type]


async def opened(tmp_path: pathlib.Path) -> Room:
    """Return an open local backend."""
    backend = LocalBackend(root=str(tmp_path / "root"), stop_grace_s=2.0)
    room = Room(backend)
    await backend.open(room.push)
    return room


@pytest.fixture
async def room(tmp_path: pathlib.Path) -> AsyncIterator[Room]:
    """A local backend; whatever runs at the end is ended."""
    made = await opened(tmp_path)
    yield made
    left = [Target(seen.instance, seen.handle) for seen in await made.backend.find()]
    await made.backend.stop(left)
    for target in left:
        await made.gone(target.instance)
    await made.backend.close()
    for child in made.left:
        child.wait()


@pytest.fixture(params=["local", "noop"])
async def any_room(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> AsyncIterator[Room]:
    """Every backend that needs no machine room of its own."""
    if request.param == "local":
        made = await opened(tmp_path)
    else:
        made = Room(NoopBackend())
        await made.backend.open(made.push)
    yield made
    left = [Target(seen.instance, seen.handle) for seen in await made.backend.find()]
    await made.backend.stop(left)
    for target in left:
        await made.gone(target.instance)
    await made.backend.close()


async def test_starting_twice_makes_one(any_room: Room) -> None:
    first = await any_room.backend.start([launch()])
    second = await any_room.backend.start([launch()])
    assert first == second
    assert [seen.instance for seen in await any_room.backend.find()] == [launch().instance]


async def test_a_batch_starts_is_observed_and_stops(any_room: Room) -> None:
    launches = [launch(f"default-{n}") for n in range(10)]
    outcomes = await any_room.backend.start(launches)
    assert all(isinstance(outcome, Started) for outcome in outcomes.values())
    targets = [
        Target(instance, outcome.handle)
        for instance, outcome in outcomes.items()
        if isinstance(outcome, Started)
    ]
    seen = await any_room.backend.observations(targets)
    assert {observation.phase for observation in seen.values()} == {Phase.RUNNING}
    await any_room.backend.stop(targets)
    for target in targets:
        await any_room.gone(target.instance)
    await any_room.backend.stop(targets)  # stopping what is gone is no error
    assert {o.phase for o in (await any_room.backend.observations(targets)).values()} == {
        Phase.GONE
    }


async def test_what_is_unknown_is_gone(any_room: Room) -> None:
    unknown = Target(Instance("c" + "z" * 20, Role.SCHEDULER, "scheduler"), "4242:1")
    assert (await any_room.backend.observations([unknown]))[unknown.instance].phase is Phase.GONE


async def test_secrets_are_in_private_files_and_gone_after_cleanup(
    room: Room, tmp_path: pathlib.Path
) -> None:
    await room.backend.start(
        [launch(files={"key.pem": b"secret"}, env={"KEY": f"{DIRECTORY}/key.pem"})]
    )
    directory = tmp_path / "root" / "clusters" / UID / "default-0"
    assert (directory / "key.pem").stat().st_mode & 0o777 == 0o600
    assert directory.stat().st_mode & 0o777 == 0o700
    async for piece in room.backend.logs(Target(launch().instance), follow=True):
        if "here" in piece:
            break
    (seen,) = await room.backend.find()
    process = proc.parse_process_id(seen.handle)
    assert process is not None
    assert proc.environment(process.pid)["KEY"] == str(directory / "key.pem")
    await room.backend.stop([Target(seen.instance, seen.handle)])
    await room.gone(seen.instance)
    await room.backend.cleanup(UID)
    assert not directory.parent.exists()
    assert [piece async for piece in room.backend.logs(Target(seen.instance))] == ["here\n"]
    await room.backend.purge(UID)
    assert [piece async for piece in room.backend.logs(Target(seen.instance))] == []


async def test_a_directory_deeper_than_python_recurses_is_removed(
    room: Room, tmp_path: pathlib.Path
) -> None:
    program = (
        "import os\nfor _ in range(3000):\n    os.mkdir('d'); os.chdir('d')\nprint('ready',"
        " flush=True)\nimport time; time.sleep(60)\n"
    )
    target = await started_and_told(room, program)
    await room.backend.stop([target])
    await room.gone(target.instance)
    await room.backend.cleanup(UID)
    assert not (tmp_path / "root" / "clusters" / UID).exists()


async def test_an_early_end_carries_the_last_words(room: Room) -> None:
    program = "import sys; print('no module named numpy', file=sys.stderr); sys.exit(3)"
    outcome = (await room.backend.start([launch(argv=(sys.executable, "-c", program))]))[
        launch().instance
    ]
    if isinstance(outcome, StartFailed):
        assert "numpy" in outcome.message
        return
    seen = await room.gone(launch().instance)
    assert seen.exit_code == 3
    assert "numpy" in seen.message


async def test_a_command_that_is_not_there_fails_with_its_name(room: Room) -> None:
    outcome = (await room.backend.start([launch(argv=("/no/such/python",))]))[launch().instance]
    assert isinstance(outcome, StartFailed)
    assert "/no/such/python" in outcome.message


async def test_who_ignores_a_request_is_ended_by_force(room: Room) -> None:
    program = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf',"
        " flush=True); time.sleep(60)"
    )
    await room.backend.start([launch(argv=(sys.executable, "-c", program))])
    async for piece in room.backend.logs(Target(launch().instance), follow=True):
        if "deaf" in piece:
            break
    await room.backend.stop([Target(launch().instance)])
    assert (await room.gone(launch().instance)).exit_code == -signal.SIGKILL


async def test_what_a_killed_server_left_is_found_again(room: Room, tmp_path: pathlib.Path) -> None:
    program = f"""
import asyncio, os, signal
from tests.backends.test_local import opened, launch
import pathlib
async def main():
    room = await opened(pathlib.Path({str(tmp_path)!r}))
    print((await room.backend.start([launch("default-7")])).popitem()[1].handle, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""
    await room.backend.close()
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, stdout=subprocess.PIPE, cwd=ROOT
    )
    handle = (await child.communicate())[0].decode().strip()
    await room.backend.open(room.push)
    (seen,) = await room.backend.find()
    assert (seen.instance.name, seen.handle) == ("default-7", handle)
    assert await room.backend.start([launch("default-7")]) == {seen.instance: Started(handle)}
    await room.backend.stop([Target(seen.instance, handle)])
    await room.gone(seen.instance)


async def started_and_told(room: Room, program: str) -> Target:
    """Start a program as default-0; return it once it has told `ready`."""
    outcome = (await room.backend.start([launch(argv=(sys.executable, "-c", program))]))[
        launch().instance
    ]
    assert isinstance(outcome, Started)
    async for piece in room.backend.logs(Target(launch().instance), follow=True):
        if "ready" in piece:
            break
    return Target(launch().instance, outcome.handle)


WIPED = """
import ctypes, time
start, end = map(int, open("/proc/self/stat").read().rpartition(")")[2].split()[47:49])
ctypes.memset(start, 0, end - start)
print("ready", flush=True)
time.sleep(60)
"""


async def test_a_process_that_wrote_over_its_environment_is_found_again(room: Room) -> None:
    """As setproctitle does, with which Dask names its processes where it is installed."""
    target = await started_and_told(room, WIPED)
    process = proc.parse_process_id(target.handle)
    assert process is not None
    assert "DASKGATEWAY_ROOT" not in proc.environment(process.pid)
    await room.restart()
    assert (await room.backend.observations([target]))[target.instance].phase is Phase.RUNNING
    await room.backend.stop([target])
    await room.gone(target.instance)


async def test_titles_of_processes_leave_their_marks_alone(room: Room) -> None:
    target = await started_and_told(
        room, "import os, time; print('ready', os.environ['SPT_NOENV'], flush=True); time.sleep(60)"
    )
    process = proc.parse_process_id(target.handle)
    assert process is not None
    # not beyond what is read of a large environment
    assert next(iter(proc.environment(process.pid))) == "DASKGATEWAY_ROOT"


@pytest.mark.parametrize("value", ["²", "9" * 5000, "3"])
async def test_rubbish_among_a_processs_marks_does_not_keep_the_backend_from_opening(
    room: Room, value: str
) -> None:
    """Such as a mark of an earlier build, or what whoever started the process has written there."""
    marks = {
        "DASKGATEWAY_ROOT": str(room.backend._directories.root),
        "DASKGATEWAY_UID": UID,
        "DASKGATEWAY_NAME": "default-0",
    }
    marked = {**marks, "DASKGATEWAY_INSTANCE_EPOCH": value}
    child = subprocess.Popen(SLEEP, env=marked, start_new_session=True, stdout=subprocess.PIPE)  # noqa: ASYNC220
    room.left.append(child)
    assert child.stdout is not None
    with child.stdout:
        # until it says something, the system may not have laid out its environment, and shows none
        assert child.stdout.readline()
    await room.restart()
    (seen,) = await room.backend.find()
    assert seen.instance == Instance(UID, Role.WORKER, "default-0")


async def test_a_session_begun_within_a_worker_is_not_taken_for_it(room: Room) -> None:
    program = (
        "import subprocess, sys, time\n"
        "inner = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'],"
        " start_new_session=True)\n"
        "print('ready', flush=True); time.sleep(60)\n"
    )
    target = await started_and_told(room, program)
    await room.restart()
    (seen,) = await room.backend.find()
    assert seen.handle == target.handle
    await room.backend.stop([target])
    await room.gone(target.instance)
    await room.backend.cleanup(UID)


async def test_a_process_that_cannot_be_watched_does_not_run_on(
    room: Room, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be started once more, as nothing is known of it."""

    def too_many(pid: int) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(os, "pidfd_open", too_many)
    outcome = (await room.backend.start([launch()]))[launch().instance]
    monkeypatch.undo()
    assert outcome == StartFailed("it could not be watched: Too many open files")
    assert list(proc.marked({"DASKGATEWAY_ROOT": str(tmp_path / "root")})) == []


async def test_a_process_that_cannot_be_looked_at_does_not_stop_the_server(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proc, "identify", lambda pid: None)  # as when no file can be opened
    async with asyncio.timeout(20):
        outcome = (await room.backend.start([launch()]))[launch().instance]
    assert isinstance(outcome, StartFailed)


async def test_what_a_worker_leaves_running_ends_with_it(room: Room) -> None:
    program = (
        "import subprocess, sys\n"
        "inner = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print('ready', inner.pid, flush=True); sys.stdin.read()\n"
        "import signal; signal.pause()\n"
    )
    target = await started_and_told(room, program)
    (text,) = [piece async for piece in room.backend.logs(target)]
    inner = proc.identify(int(text.split()[1]))
    assert inner is not None
    process = proc.parse_process_id(target.handle)
    assert process is not None
    os.kill(process.pid, signal.SIGKILL)
    await room.gone(target.instance)
    descriptor = os.pidfd_open(inner.pid) if proc.alive(inner) else -1
    if descriptor >= 0:
        assert select.select([descriptor], [], [], 20)[0], "it runs on"
        os.close(descriptor)


async def test_a_second_gateway_in_the_same_directory_is_refused(
    room: Room, tmp_path: pathlib.Path
) -> None:
    """Its sweep would end every process of the first: none of them is in its own database."""
    with pytest.raises(BackendUnavailable, match="another gateway uses"):
        await opened(tmp_path)
    await room.backend.close()
    await room.backend.open(room.push)  # the first one may come back


def test_two_gateways_with_defaults_have_directories_of_their_own() -> None:
    for name in ("one", "two"):
        config = Config({"DaskGateway": {"state_dir": f"/srv/{name}"}})
        assert LocalBackend(config=config).root == f"/srv/{name}/local"
        assert LocalBackend(config=config, run_as_user=True).root == f"/srv/{name}-local"


async def test_a_recycled_pid_is_never_signalled() -> None:
    bystander = await asyncio.create_subprocess_exec(*SLEEP, stdout=subprocess.DEVNULL)
    process = proc.identify(bystander.pid)
    assert process is not None
    assert not proc.send(proc.ProcessId(process.pid, process.started - 1), signal.SIGKILL)
    assert proc.alive(process)
    assert proc.send(process, signal.SIGKILL)
    assert await bystander.wait() == -signal.SIGKILL


@pytest.mark.parametrize(
    ("lines", "shown"), [(0, "a\nb\nc\n"), (1, "c\n"), (2, "b\nc\n"), (9, "a\nb\nc\n")]
)
async def test_the_end_of_a_log(tmp_path: pathlib.Path, lines: int, shown: str) -> None:
    path = tmp_path / "log"
    path.write_text("a\nb\nc\n")
    assert (
        "".join([piece async for piece in logfile.pieces(path, lines, False, lambda: False)])
        == shown
    )
    path.write_text("a\nb\nc")
    assert logfile.tail(path, 1) == "c"
