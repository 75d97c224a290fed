"""What sudo may run as a user: only batch commands, only below its own directories, never as root,
never by a shell."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence

import pytest

from gateway.backends import as_user
from gateway.backends.batch.commands import Answer
from gateway.backends.batch.identity import SudoIdentity, checked_account
from gateway.backends.contract import BackendUnavailable
from tests.parts import as_account, missing

NOBODY = 65534
PYTHON = "/usr/bin/python3"  # one that every account may run
SHOWS = '#!/bin/sh\nprintf "%s|" "$@"; echo; /usr/bin/env | /usr/bin/sort; pwd; umask\n'


@pytest.fixture
def site(tmp_path: pathlib.Path) -> pathlib.Path:
    """A directory with commands that show how they were called, and with others that must never
    be."""
    commands = tmp_path / "commands"
    commands.mkdir()
    for name in (*as_user.COMMANDS, "bash", "scontrol"):
        (commands / name).write_text(SHOWS)
        (commands / name).chmod(0o755)
    return commands


@pytest.mark.parametrize(
    "name",
    [
        "bash",
        "scontrol",
        "sh",
        "/bin/sh",
        "sbatch;id",
        "",
        "../sbatch",
        "/tmp/sbatch",
        "sudo",
        "srun",
    ],
)
def test_only_the_commands_of_batch_systems_run_and_only_from_the_administrators_directories(
    site: pathlib.Path, name: str
) -> None:
    (site.parent / "sbatch").write_text(SHOWS)
    with pytest.raises(as_user.Refused):
        as_user.program(name if name != "/tmp/sbatch" else str(site.parent / "sbatch"), str(site))


def test_commands_are_found_by_name_or_by_their_very_path(site: pathlib.Path) -> None:
    assert as_user.program("squeue", str(site)) == str(site / "squeue")
    assert as_user.program(str(site / "squeue"), str(site)) == str(site / "squeue")
    with pytest.raises(as_user.Refused, match="not found"):
        as_user.program("squeue", str(site.parent))


def test_words_reach_a_command_as_they_are_and_nothing_of_the_callers_environment_does(
    site: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("LD_PRELOAD", "PYTHONPATH", "BASH_ENV", "SBATCH_ACCOUNT", "IFS"):
        monkeypatch.setenv(name, "/evil")
    (site / "slurm.conf").touch()
    monkeypatch.setenv("SLURM_CONF", str(site / "slurm.conf"))
    monkeypatch.setenv("LD_PRELOAD", "")
    words = ["--comment=a b; $(id) `id` && 'x'", "", "--wrap=*"]
    assert as_user.answer(["run", "--", "sbatch", *words], str(site)) == 0
    shown = capfd.readouterr().out.splitlines()
    assert shown[0] == "|".join(words) + "|"
    names = {line.partition("=")[0] for line in shown[1:-2]} - {"_", "PWD", "SHLVL", "OLDPWD"}
    assert names == {"PATH", "HOME", "USER", "LOGNAME", "LC_ALL", "SLURM_CONF"}
    assert shown[-2] == "/"


def test_a_commands_exit_code_is_the_launchers_and_one_that_hangs_is_given_up(
    site: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (site / "sbatch").write_text("#!/bin/sh\nexit 7\n")
    assert as_user.answer(["run", "--", "sbatch"], str(site)) == 7
    (site / "sbatch").write_text("#!/bin/sh\nkill -9 $$\n")
    assert as_user.answer(["run", "--", "sbatch"], str(site)) == 137
    (site / "sbatch").write_text("#!/bin/sh\nexec /bin/sleep 60\n")
    monkeypatch.setattr(as_user, "DEADLINE_S", 0.2)
    with pytest.raises(as_user.Refused, match="did not answer"):
        as_user.answer(["run", "--", "sbatch"], str(site))


@pytest.mark.parametrize(
    "path",
    [
        "relative/daskgateway",
        "/home/alice",
        "/home/alice/.ssh/id_rsa",
        "/x/daskgateway/../y",
        "/x/daskgatewayx",
        "/x/daskgateway\0",
        "",
    ],
)
@pytest.mark.parametrize(
    "words",
    [["write"], ["entries"], ["size"], ["read", "0"], ["remove"]],
    ids=lambda words: words[0],
)
def test_other_paths_are_never_touched(
    path: str, words: Sequence[str], tmp_path: pathlib.Path
) -> None:
    with pytest.raises((as_user.Refused, ValueError)):
        as_user.own_path(path)
    if words != ["write"]:  # which reads standard input first
        with pytest.raises((as_user.Refused, ValueError)):
            as_user.answer([words[0], path, *words[1:]], "")


@pytest.mark.parametrize("offset", ["-1", "²", "٣", "9" * 5000])
def test_an_offset_is_digits_alone(offset: str) -> None:
    with pytest.raises(as_user.Refused, match="daskgateway-as-user"):
        as_user.answer(["read", "/a/daskgateway/x", offset], "")


@pytest.mark.parametrize(
    "words", [[], ["run"], ["run", "sbatch"], ["run", "--"], ["shell"], ["size"]]
)
def test_what_is_no_request_is_refused_with_what_there_is(words: Sequence[str]) -> None:
    with pytest.raises(as_user.Refused, match=r"daskgateway-as-user|command words"):
        as_user.answer(words, "")


def _stdin(monkeypatch: pytest.MonkeyPatch, raw: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(raw)))


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"{",
        b'{"../x": ""}',
        b'{"a/b": ""}',
        b'{".hidden": ""}',
        b'{"": ""}',
        b'{"x\\u0000": ""}',
        b'{"' + b"x" * 300 + b'": ""}',
        b'{"x": "' + b"A" * (as_user.MAX_INPUT_BYTES + 1) + b'"}',
    ],
    ids=range(10),
)
def test_files_have_plain_names_and_there_are_bounds(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, raw: bytes
) -> None:
    _stdin(monkeypatch, raw)
    directory = tmp_path / "daskgateway" / "new"
    with pytest.raises((as_user.Refused, ValueError)):
        as_user.answer(["write", str(directory)], "")
    assert not directory.exists()


def test_files_are_private_replaced_read_in_pieces_and_removed(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    directory, elsewhere = tmp_path / "daskgateway" / "jobs", tmp_path / "elsewhere"
    elsewhere.write_text("not to be written")
    content = bytes(range(256)) * 300  # more than one piece
    for _ in range(2):
        _stdin(monkeypatch, json.dumps({"key.pem": base64.b64encode(content).decode()}).encode())
        assert as_user.answer(["write", str(directory)], "") == 0
        assert directory.stat().st_mode & 0o777 == 0o700
        assert (directory / "key.pem").stat().st_mode & 0o777 == 0o600
        assert (directory / "key.pem").read_bytes() == content
        (directory / "key.pem").unlink()
        (directory / "key.pem").symlink_to(elsewhere)  # the second write must not follow it
    assert elsewhere.read_text() == "not to be written"
    (directory / "key.pem").unlink()
    (directory / "key.pem").write_bytes(content)

    def told(*words: str) -> str:
        assert as_user.answer(words, "") == 0
        return capsys.readouterr().out.strip()

    assert json.loads(told("entries", str(directory))) == ["key.pem"]
    assert told("size", str(directory / "key.pem")) == str(len(content))
    assert told("size", str(directory / "none")) == "0"
    pieces = [
        base64.b64decode(told("read", str(directory / "key.pem"), str(at)))
        for at in (0, as_user.PIECE_BYTES, 10**9)
    ]
    assert b"".join(pieces) == content
    for _ in range(2):
        told("remove", str(directory))
    assert not directory.exists()
    assert json.loads(told("entries", str(directory))) == []


def test_removing_a_link_leaves_what_it_leads_to(tmp_path: pathlib.Path) -> None:
    target = tmp_path / "kept"
    target.mkdir()
    (target / "file").write_text("here")
    (tmp_path / "daskgateway").mkdir()
    (tmp_path / "daskgateway" / "link").symlink_to(target)
    as_user.answer(["remove", str(tmp_path / "daskgateway" / "link")], "")
    assert (target / "file").read_text() == "here"
    assert not (tmp_path / "daskgateway" / "link").is_symlink()


@pytest.mark.parametrize("mode", [0o666, 0o622, 0o644])
def test_only_root_says_where_commands_are(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, mode: int
) -> None:
    config = tmp_path / "as-user.path"
    monkeypatch.setattr(as_user, "CONFIG", str(config))
    assert as_user.search_path() == as_user.SYSTEM_PATH
    config.write_text("/opt/batch/bin\n")
    config.chmod(mode)
    if mode == 0o644 and os.geteuid() == 0:
        assert as_user.search_path() == "/opt/batch/bin"
        os.chown(config, NOBODY, NOBODY)
    with pytest.raises(as_user.Refused, match="must be root's"):
        as_user.search_path()


def test_it_is_not_for_root_and_says_so_in_one_line() -> None:
    if os.geteuid() != 0:
        missing("root", "sudo make test (a program is started as root and as nobody)")
    with tempfile.TemporaryDirectory() as text:  # one that nobody may enter
        place = pathlib.Path(text)
        place.chmod(0o755)
        shutil.copy(as_user.__file__, place / "as_user.py")
        call = [PYTHON, "-I", str(place / "as_user.py"), "entries", f"{place}/daskgateway"]
        refused = subprocess.run(call, capture_output=True, text=True, timeout=30)
        done = subprocess.run(
            [*as_account(NOBODY, NOBODY), *call], capture_output=True, text=True, timeout=30
        )
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == "daskgateway-as-user: this is not for root\n"
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")


# The gateway's side

BAD_NAMES = [
    "root",
    "",
    "Alice",
    "-x",
    "#0",
    "a b",
    "a;id",
    "a\n",
    "../a",
    "a" * 33,
    "%group",
    "+netgroup",
    "a$",
    "ALL",
    "@x",
]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_names_that_are_no_accounts_never_reach_sudo(name: str) -> None:
    with pytest.raises(ValueError, match="no account that jobs may run as"):
        checked_account(name)
    with pytest.raises(ValueError, match="no account that jobs may run as"):
        SudoIdentity("sudo", "/launcher").words(name, ["sbatch"])


async def test_sudo_is_asked_without_a_password_for_one_user_and_the_launcher_alone() -> None:
    asked: list[tuple[list[str], bytes]] = []

    async def run(
        argv: Sequence[str], *, deadline_s: float, stdin: bytes = b"", env: object = None
    ) -> Answer:
        asked.append((list(argv), stdin))
        return (
            Answer(1, "", "sudo: a password is required")
            if argv[6] == "remove"
            else Answer(0, "[]", "")
        )

    identity = SudoIdentity("/usr/bin/sudo", "/launcher", run)
    assert identity.words("alice", ["sbatch", "--hold"]) == [
        *("/usr/bin/sudo", "-n", "-u", "alice", "--", "/launcher"),
        *("run", "--", "sbatch", "--hold"),
    ]
    await identity.write("alice", "/x/daskgateway/y", {"key": b"\0secret"})
    (argv, stdin), *_ = asked
    assert b"secret" not in " ".join(argv).encode()
    assert json.loads(stdin) == {"key": base64.b64encode(b"\0secret").decode()}
    with pytest.raises(
        BackendUnavailable,
        match=r"sudo: a password is required; sudoers does not let .* run /launcher as alice",
    ):
        await identity.remove("alice", "/x/daskgateway/y")


FORGED = {
    "entries": [
        "",
        "[",
        "{}",
        '"x"',
        "[7]",
        '["a/b"]',
        '[".."]',
        '[""]',
        '["a\\u0000"]',
        "[" * 100_000,
        json.dumps(["x"] * (as_user.MAX_NAMES + 1)),
    ],
    "size": ["", "-1", "²", "٣", "1e9", "7 7", "9" * 5000, "[]"],
    "read": ["!", "YQ", "é", base64.b64encode(b"x" * (as_user.PIECE_BYTES + 1)).decode()],
}


@pytest.mark.parametrize(
    ("call", "text"),
    [(call, text) for call, texts in FORGED.items() for text in texts],
    ids=lambda value: value[:12],
)
async def test_what_the_launcher_answers_is_believed_only_if_it_could_have_said_it(
    call: str, text: str
) -> None:
    """It runs as the user, who can take hold of his own processes."""

    async def run(
        argv: Sequence[str], *, deadline_s: float, stdin: bytes = b"", env: object = None
    ) -> Answer:
        return Answer(0, text + "\n", "")

    identity = SudoIdentity("sudo", "/launcher", run)
    calls = {
        "entries": identity.entries("alice", "/d"),
        "size": identity.tail_offset("alice", "/f", 5),
        "read": identity.read("alice", "/f", 0),
    }
    wanted = calls.pop(call)
    for other in calls.values():
        other.close()
    with pytest.raises(
        BackendUnavailable, match=f"{call} as alice: /launcher answered what it never does"
    ):
        await wanted


async def test_the_end_of_a_log_that_is_said_to_be_endless_is_looked_for_in_bounded_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gateway.backends.logfile.MAX_TAIL_BYTES", 10 * as_user.PIECE_BYTES)
    asked: list[str] = []

    async def run(
        argv: Sequence[str], *, deadline_s: float, stdin: bytes = b"", env: object = None
    ) -> Answer:
        asked.append(argv[6])
        return Answer(
            0,
            str(10**17)
            if argv[6] == "size"
            else base64.b64encode(bytes(as_user.PIECE_BYTES)).decode(),
            "",
        )

    async with asyncio.timeout(20):
        assert (
            await SudoIdentity("sudo", "/launcher", run).tail_offset("alice", "/f", 5)
            == 10**17 - 10 * as_user.PIECE_BYTES
        )
    assert asked == ["size"] + ["read"] * 10
