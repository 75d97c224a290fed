"""How commands are run, and how a Slurm whose commands misbehave is borne."""

from __future__ import annotations

import asyncio
import pathlib
import re
import sys
import time
from collections.abc import AsyncIterator

import pytest

from gateway.backends.batch import commands
from gateway.backends.batch.base import BatchBackend
from gateway.backends.batch.names import JobName
from gateway.backends.batch.system import Order
from gateway.backends.conformance import Room, longest_stall
from gateway.backends.contract import BackendUnavailable, Phase, Role, StartFailed
from gateway.backends.local import proc
from gateway.backends.pbs.backend import PbsBackend
from gateway.backends.slurm.backend import SlurmBackend
from tests.parts import executable
from tests.waiting import comes


async def test_a_command_that_hangs_is_given_up_with_all_it_started(tmp_path: pathlib.Path) -> None:
    began = time.monotonic()
    words = ["/bin/sh", "-c", f"sleep 300 & echo $! >{tmp_path}/pid; wait"]
    with pytest.raises(BackendUnavailable, match=r"^sh did not answer within 0.5 s$"):
        await commands.run(words, deadline_s=0.5)
    assert time.monotonic() - began < 10
    pid = int((tmp_path / "pid").read_text())
    await comes(lambda: proc.identify(pid) is None)  # it was told to end, and the kernel sees to it


async def test_what_cannot_be_run_and_what_never_stops_talking_are_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(
        BackendUnavailable, match="/no/such/sbatch cannot be run: No such file or directory"
    ):
        await commands.run(["/no/such/sbatch"], deadline_s=5)
    monkeypatch.setattr(commands, "MAX_OUTPUT_BYTES", 2**20)
    with pytest.raises(BackendUnavailable, match="yes wrote more than 1 MiB"):
        await commands.run(["yes"], deadline_s=20)


async def test_input_output_code_and_locale(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    monkeypatch.setenv("SECRET", "of the server")
    text = "x" * 300_000
    words = ["/bin/sh", "-c", "cat; echo $LC_ALL$SECRET$MORE >&2; exit 7"]
    answer = await commands.run(words, deadline_s=20, stdin=text.encode(), env={"MORE": "!"})
    assert (answer.code, answer.out, answer.err) == (7, text, "C!\n")
    assert answer.complaint == "C!"


async def test_a_cancelled_call_ends_its_command(tmp_path: pathlib.Path) -> None:
    task = asyncio.create_task(
        commands.run(["/bin/sh", "-c", f"echo $$ >{tmp_path}/pid; exec sleep 300"], deadline_s=60)
    )
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    pid = int((tmp_path / "pid").read_text())
    async with asyncio.timeout(10):
        while proc.identify(pid) is not None:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


# A Slurm of shell scripts

LISTING = """#!{python}
import json, pathlib, sys
state = pathlib.Path({state!r})
fields = next(word for word in sys.argv if word.startswith("--Format=")).removeprefix("--Format=").split(",")
mark = fields[0].partition(":")[2]
heads = ["ARRAY_JOB_ID", "ARRAY_TASK_ID", "STATE", "EXIT_CODE", "REASON", "START_TIME", "PRIORITY", "USER", "PARTITION", "NAME"]
rows = [] if "--noheader" in sys.argv else [heads]
for job in json.loads(state.read_text()) if state.exists() and len(fields) == 10 else []:
    rows.append([job["id"], job["array"], job["state"], "0", "None", "N/A", "1", "dgw", "p", job["name"]])
print("\\n".join("".join(cell + mark for cell in row) for row in rows))
"""  # noqa: E501
SUBMISSION = """#!{python}
import fcntl, json, pathlib, sys
state = pathlib.Path({state!r})
turn = open(str(state) + ".lock", "w")
fcntl.flock(turn, fcntl.LOCK_EX)
options = dict(word.removeprefix("--").partition("=")[::2] for word in sys.argv[1:])
jobs = json.loads(state.read_text()) if state.exists() else []
jobs.append({{"id": str(len(jobs) + 1), "array": options.get("array", "N/A"), "state": "RUNNING", "name": options["job-name"]}})
fresh = state.with_suffix(".new")
fresh.write_text(json.dumps(jobs))
fresh.rename(state)
sys.stdin.read()
print(len(jobs))
"""  # noqa: E501


class Scripts:
    """Commands of a Slurm that does not exist."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.directory, self.state = directory / "commands", directory / "state.json"
        self.directory.mkdir()
        self.rooms: list[Room] = []  # that were opened over them
        self.heal()

    def write(self, name: str, text: str) -> None:
        """Make a command; a shell script unless it says otherwise."""
        executable(self.directory / name, text if text.startswith("#!") else f"#!/bin/sh\n{text}\n")

    def heal(self) -> None:
        """Make all commands as they should be."""
        self.write("squeue", LISTING.format(python=sys.executable, state=str(self.state)))
        self.write("sbatch", SUBMISSION.format(python=sys.executable, state=str(self.state)))
        self.write("scancel", "exit 0")
        self.write("sacct", "cat /dev/null; exit 1")


@pytest.fixture
async def scripts(tmp_path: pathlib.Path) -> AsyncIterator[Scripts]:
    """Commands that can be made to misbehave; what was opened over them is closed in the end."""
    made = Scripts(tmp_path)
    try:
        yield made
    finally:
        for room in made.rooms:
            await room.leave()


async def opened(scripts: Scripts, tmp_path: pathlib.Path, **settings: object) -> Room:
    """Return a room over them."""
    given: dict[str, object] = {"observe_interval_s": 0.1, "command_timeout_s": 2.0, **settings}
    room = Room(
        SlurmBackend(
            root=str(tmp_path / "root"), commands_directory=str(scripts.directory), **given
        )
    )
    scripts.rooms.append(room)
    await room.open()
    return room


TROUBLES = {
    "hangs": ("exec sleep 60", "did not answer within 1 s"),
    "prints garbage": ("echo 'Willkommen auf dem Rechner'", "what is no"),
    "says nothing": ("exit 0", "what is no"),
    "does not reach its server": (
        "echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1",
        "Unable to contact",
    ),
}


@pytest.mark.parametrize("trouble", TROUBLES)
@pytest.mark.parametrize("command", ["squeue", "sbatch"])
async def test_a_command_in_trouble_is_told_and_nothing_is_lost(
    scripts: Scripts, tmp_path: pathlib.Path, command: str, trouble: str
) -> None:
    room = await opened(scripts, tmp_path, command_timeout_s=1.0)
    targets = await room.start(room.launch("scheduler"))
    await room.until(targets, Phase.RUNNING)
    text, words = TROUBLES[trouble]
    scripts.write(command, text)
    if command == "squeue":
        await asyncio.sleep(0.1)  # until the last listing is too old
    with pytest.raises(BackendUnavailable, match=words):
        await (
            room.backend.start([room.launch()])
            if command == "sbatch"
            else room.backend.observations(targets)
        )
    scripts.heal()
    await room.until(targets, Phase.RUNNING)
    await room.until(await room.start(room.launch()), Phase.RUNNING)
    assert len(await room.backend.find()) == 2


async def test_commands_that_are_missing_are_named_with_the_setting_that_says_where_they_are(
    scripts: Scripts, tmp_path: pathlib.Path
) -> None:
    room = await opened(scripts, tmp_path)
    (scripts.directory / "squeue").unlink()
    with pytest.raises(
        BackendUnavailable,
        match=r"commands/squeue cannot be run: No such file.*; see c\.SlurmBackend\.commands_dir",
    ):
        await room.backend.find()


class OurSlurm(SlurmBackend):
    """A site's own."""


@pytest.mark.parametrize(
    ("backend", "settings", "setting"),
    [
        (SlurmBackend, {}, "c.SlurmBackend.commands_directory"),
        (PbsBackend, {}, "c.PbsBackend.commands_directory"),
        (PbsBackend, {"dialect": "torque"}, "c.PbsBackend.commands_directory"),
        (OurSlurm, {}, "c.OurSlurm.commands_directory"),
        (
            OurSlurm,
            {"identity": "sudo", "sudo": "/no/such/sudo", "commands_directory": "/bin"},
            "c.OurSlurm.sudo",
        ),
        (
            OurSlurm,
            {"identity": "user-token", "rest_url": "http://x", "token_command": ["/no/such/token"]},
            "c.OurSlurm.token_command",
        ),
    ],
)
async def test_whatever_cannot_be_run_the_setting_that_would_help_is_told(
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    backend: type[BatchBackend],
    settings: dict[str, object],
    setting: str,
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    made = backend(root=str(tmp_path / "root"), log_directory="", **settings)
    room = Room(made, user="games")
    await room.open()
    account = made.who.account("games")
    order = Order(JobName("dgw", "c" + "a" * 20, Role.SCHEDULER), account, Role.SCHEDULER, "true")
    try:
        with pytest.raises(
            BackendUnavailable,
            match=rf"cannot be run: No such file or directory; see {re.escape(setting)}$",
        ):
            await made.system.submit(order)
    finally:
        await room.leave()


@pytest.mark.parametrize(
    ("ending", "told"),
    [
        ("import time; time.sleep(60)", "sbatch did not answer"),
        ("import os; os.kill(os.getpid(), 9)", "sbatch: it ended with code -9"),
        ("sys.exit(137)", "sbatch: it ended with code 137"),
        # of a launcher that tells a signal as it is
        ("sys.exit(247)", "sbatch: it ended with code 247"),
        (
            "sys.exit('daskgateway-as-user: sbatch did not answer within 120 s')",
            "sbatch did not answer",
        ),
    ],
    ids=[
        "hanging",
        "killed",
        "killed below a shell",
        "killed below the launcher",
        "given up by the launcher",
    ],
)
async def test_a_submission_whose_answer_was_lost_is_found_by_its_name(
    scripts: Scripts, tmp_path: pathlib.Path, ending: str, told: str
) -> None:
    room = await opened(scripts, tmp_path)
    healthy = (scripts.directory / "sbatch").read_text()
    scripts.write("sbatch", healthy.replace("print(len(jobs))", ending))
    with pytest.raises(BackendUnavailable, match=told):
        await room.backend.start([room.launch(f"default-{n}") for n in range(3)])
    scripts.heal()
    targets = await room.start(*(room.launch(f"default-{n}") for n in range(3)))
    assert [target.handle for target in targets] == ["1/0", "1/1", "1/2"]
    assert scripts.state.read_text().count("default") == 1


async def test_a_squeue_that_lists_nothing_for_a_while_ends_nobody(
    scripts: Scripts, tmp_path: pathlib.Path
) -> None:
    room = await opened(scripts, tmp_path, absent_grace_s=60.0)
    targets = await room.start(room.launch("scheduler"), room.launch())
    await room.until(targets, Phase.RUNNING)
    known = scripts.state.read_text()
    scripts.state.write_text("[]")
    for _ in range(4):
        await asyncio.sleep(0.1)
        assert await room.backend.observations(targets) == {}
    scripts.state.write_text(known)
    await room.until(targets, Phase.RUNNING)


async def test_a_refusal_in_slurms_words_reaches_the_user(
    scripts: Scripts, tmp_path: pathlib.Path
) -> None:
    room = await opened(scripts, tmp_path)
    scripts.write(
        "sbatch",
        "echo 'sbatch: error: Batch job submission failed: Invalid qos specification' >&2; exit 1",
    )
    outcome = (await room.backend.start([room.launch()]))[room.launch().instance]
    assert outcome == StartFailed(
        "Slurm refused the job: Invalid qos specification", permanent=True
    )


async def test_a_thousand_workers_are_few_commands_and_never_hold_up_the_event_loop(
    scripts: Scripts, tmp_path: pathlib.Path
) -> None:
    room = await opened(scripts, tmp_path, command_timeout_s=60.0, observe_interval_s=15.0)
    for name in ("sbatch", "squeue"):
        (scripts.directory / name).rename(scripts.directory / f"real-{name}")
        scripts.write(
            name,
            f'echo {name} >>{tmp_path}/log; sleep 2; exec {scripts.directory}/real-{name} "$@"',
        )
    launches = [room.launch(f"default-{n}") for n in range(1000)]
    async with longest_stall() as worst:
        targets = await room.start(*launches)
        room.patience_s = 60.0
        await room.until(targets, Phase.RUNNING)
    assert len((tmp_path / "log").read_text().split()) <= 5
    assert worst[0] < 0.25  # on a busy machine; measured by itself in `make bench-hpc`
