"""What sudo or its launcher refuses is the gateway's set-up at fault: told as that, and never the
end of a user's cluster."""

from __future__ import annotations

import pathlib
from collections.abc import Awaitable, Callable

import pytest

from gateway.backends.batch.base import BatchBackend
from gateway.backends.conformance import UID, Room
from gateway.backends.contract import BackendUnavailable, Instance, Role, StartFailed, Target
from gateway.backends.pbs.backend import PbsBackend
from gateway.backends.slurm.backend import SlurmBackend
from tests.parts import executable

NO_LINE = "sudo: a password is required"
BACKENDS: tuple[tuple[type[BatchBackend], dict[str, object]], ...] = (
    (SlurmBackend, {}),
    (PbsBackend, {}),
    (PbsBackend, {"dialect": "torque"}),
)


async def opened(
    tmp_path: pathlib.Path, kind: type[BatchBackend], said: str, code: int, **settings: object
) -> Room:
    """Return a room whose sudo says something and runs nothing; commands that need no sudo list
    nothing."""
    commands = tmp_path / "commands"
    commands.mkdir()
    quoted = said.replace("'", "'\\''")
    answers = {
        "sudo": f"printf '%s\\n' '{quoted}' >&2; exit {code}",
        "scontrol": "exit 0",
        "squeue": "for word; do case $word in --Format=*) mark=${word#*:}; mark=${mark%%,*}; echo"
        ' "ARRAY_JOB_ID$mark";; esac; done',
        "qstat": """case "$*" in *json) printf '{\\n    "timestamp":1,\\n    "pbs_version":"1"\\n}\\n';; *) exit 153;; esac""",  # noqa: E501
        "sacct": "exit 1",
    }
    for name, text in answers.items():
        executable(commands / name, f"#!/bin/sh\n{text}\n")
    given = {"log_directory": "", "observe_interval_s": 60.0, "first_look_s": 0.0, **settings}
    room = Room(
        kind(
            root=str(tmp_path / "root"),
            identity="sudo",
            sudo=str(commands / "sudo"),
            launcher="daskgateway-as-user",
            commands_directory=str(commands),
            **given,
        ),
        user="games",
    )
    await room.open()
    return room


@pytest.mark.parametrize(("kind", "settings"), BACKENDS, ids=["slurm", "pbs", "torque"])
@pytest.mark.parametrize(
    ("code", "said", "told"),
    [
        (1, NO_LINE, "sudoers does not let .* run daskgateway-as-user as games"),
        (
            1,
            "sudo: unable to resolve host login: Name or service not known\n" + NO_LINE,
            "sudoers does not let",
        ),
        (
            1,
            "Sorry, user dgw is not allowed to execute '/x' as games on login.",
            "sudoers does not let",
        ),
        (
            1,
            "dgw is not in the sudoers file.\nThis incident has been reported to the"
            " administrator.",
            "sudoers does not let",
        ),
        (1, "sudo: unknown user games", "this machine has no user games"),
        (1, "sudo: daskgateway-as-user: command not found", r"see c\.(Slurm|Pbs)Backend\.launcher"),
        (
            2,
            "daskgateway-as-user: sbatch: not found in /bin; the directories are those of"
            " /etc/daskgateway/as-user.path",
            "as-user.path",
        ),
        (2, "daskgateway-as-user: only sbatch may be run", "only sbatch"),
        (1, "daskgateway-as-user: [Errno 8] Exec format error: '/bin/sbatch'", "Exec format error"),
    ],
)
async def test_a_submission_that_sudo_or_its_launcher_refuses_is_an_outage(
    tmp_path: pathlib.Path,
    kind: type[BatchBackend],
    settings: dict[str, object],
    code: int,
    said: str,
    told: str,
) -> None:
    room = await opened(tmp_path, kind, said, code, **settings)
    # Torque's script is laid down first; what keeps the launcher from that, such as a full disk,
    # may be the user's own affair.
    blame = (
        ""
        if settings and said.startswith("daskgateway")
        else "the gateway's set-up is at fault, not the job: "
    )
    with pytest.raises(BackendUnavailable, match=f"^(?!.*refused the job).*{blame}.*{told}"):
        await room.backend.start([room.launch("scheduler")])
    await room.leave()


@pytest.mark.parametrize(("kind", "settings"), BACKENDS, ids=["slurm", "pbs", "torque"])
async def test_what_the_command_itself_says_behind_a_warning_of_sudos_is_its_own(
    tmp_path: pathlib.Path, kind: type[BatchBackend], settings: dict[str, object]
) -> None:
    warning = "sudo: unable to resolve host login: Name or service not known\n"
    said = (
        "sbatch: error: Invalid qos specification"
        if kind is SlurmBackend
        else "qsub: Unknown queue"
    )
    room = await opened(
        tmp_path, kind, warning + said, 170 if kind is PbsBackend else 1, **settings
    )
    if settings:  # its script is laid down by the launcher before
        room.backend.who.write = room.backend.who.remove = _nothing  # type: ignore[attr-defined]
    (outcome,) = (await room.backend.start([room.launch("scheduler")])).values()
    assert isinstance(outcome, StartFailed)
    assert outcome.permanent
    assert "set-up" not in outcome.message
    await room.leave()


async def _nothing(*_: object) -> None:
    pass


@pytest.mark.parametrize(
    "call",
    [
        lambda backend, target: backend.stop([target]),
        lambda backend, target: backend.observations([target]),
        lambda backend, target: backend.cleanup(UID),
        lambda backend, target: backend.purge(UID),
    ],
    ids=["stop", "observations", "cleanup", "purge"],
)
async def test_whatever_else_sudo_refuses_names_the_line_too(
    tmp_path: pathlib.Path, call: Callable[[BatchBackend, Target], Awaitable[object]]
) -> None:
    place = f"{tmp_path}/daskgateway/{{uid}}"
    room = await opened(
        tmp_path,
        SlurmBackend,
        NO_LINE,
        1,
        log_directory=f"{place}/logs",
        staging_directory=f"{place}/staged",
    )
    # so listings need sudo
    executable(tmp_path / "commands" / "scontrol", "#!/bin/sh\necho PrivateData = jobs\n")
    backend = room.backend
    assert isinstance(backend, BatchBackend)
    await backend._own(UID, "games")
    with pytest.raises(
        BackendUnavailable,
        match=r"the gateway's set-up is at fault, not the job: .*sudoers does not let",
    ):
        await call(backend, Target(Instance(UID, Role.SCHEDULER, "scheduler"), "7", "games"))
    await room.leave()
