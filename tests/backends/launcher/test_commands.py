"""As whom the launcher, a program of its own, runs which commands, and where it finds them."""

from __future__ import annotations

import os
import pathlib
import pwd
import resource
import shutil
import subprocess
from collections.abc import Callable

import pytest

from tests.backends.launcher.asking import (
    ALICE,
    BOB,
    PYTHON,
    SECRET,
    SHOWS,
    account,
    ask,
    owned,
    payload,
    refused,
)
from tests.parts import as_account, executable

# As whom, and how it is started


@pytest.mark.parametrize("flags", [[], ["-E"], ["-s", "-P"]])
def test_it_refuses_to_run_where_others_could_have_put_modules_and_imports_none(
    place: pathlib.Path, flags: list[str]
) -> None:
    (place / "base64.py").write_text("print('planted')\n")
    argv = [
        *account(ALICE),
        PYTHON,
        *([] if flags == ["-s", "-P"] else flags),
        f"{place}/as_user.py",
        "entries",
        "/x/daskgateway",
    ]
    done = subprocess.run(argv, capture_output=True, timeout=30, env={"PYTHONPATH": str(place)})
    assert (done.returncode, done.stdout) == (1, b"")
    assert (
        done.stderr
        == b"daskgateway-as-user: it must be run as python3 -I, which its first line should say\n"
    )


@pytest.mark.parametrize(
    "words",
    [
        ["--ruid=0"],
        ["--euid=0"],
        ["--ruid=5", "--euid=9"],
        ["--rgid=60", "--egid=9", "--ruid=5", "--euid=5"],
    ],
)
def test_it_is_one_user_alone_and_never_root(place: pathlib.Path, words: list[str]) -> None:
    groups = ["--clear-groups", *([] if "--egid=9" in words else ["--regid=60"])]
    argv = [
        "setpriv",
        *groups,
        *words,
        "--",
        PYTHON,
        "-I",
        f"{place}/as_user.py",
        "entries",
        "/x/daskgateway",
    ]
    refused(
        subprocess.run(argv, capture_output=True, timeout=30),
        "not for root" if "0" in words[0][-2:] and "rgid" not in words[0] else "one user",
    )


def test_a_user_without_an_account_runs_nothing(place: pathlib.Path) -> None:
    argv = [*as_account(54321, 54321), PYTHON, "-I", f"{place}/as_user.py", "run", "--", "squeue"]
    refused(subprocess.run(argv, capture_output=True, timeout=30), "54321 is no account")


SPOILT = """
import os, resource, signal, sys
for number in (signal.SIGALRM, signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
os.umask(0)
for descriptor in range(int(sys.argv[1])):
    os.close(descriptor)
os.execv(sys.argv[2], sys.argv[2:])
"""


def spoilt(
    place: pathlib.Path, closed: int, *words: object, **how: object
) -> subprocess.CompletedProcess[bytes]:
    """Run the launcher out of a process that has ignored and blocked signals, no umask and so many
    descriptors closed."""
    argv = [
        *account(ALICE),
        PYTHON,
        "-I",
        "-c",
        SPOILT,
        str(closed),
        PYTHON,
        "-I",
        f"{place}/as_user.py",
        *map(str, words),
    ]
    return subprocess.run(argv, capture_output=True, timeout=60, **how)  # type: ignore[call-overload]


def test_a_commands_code_is_told_whatever_signals_the_caller_ignores(place: pathlib.Path) -> None:
    """With SIGCHLD ignored nobody can wait for a child, and Python takes its end for a good one."""
    executable(place / "bin" / "sbatch", "#!/bin/sh\nexit 7\n")
    assert spoilt(place, 0, "run", "--", "sbatch").returncode == 7


@pytest.mark.parametrize("signals", ["SigBlk", "SigIgn"])
def test_a_command_begins_with_no_signal_blocked_or_ignored(
    place: pathlib.Path, signals: str
) -> None:
    executable(place / "bin" / "sbatch", f"#!/bin/sh\n/bin/grep {signals} /proc/self/status\n")
    held = int(spoilt(place, 0, "run", "--", "sbatch").stdout.split()[1], 16)
    # 32 and 33 are the C library's own: `make` leaves them ignored to all that it starts, and no
    # program can change that.
    assert held & ~(1 << 31 | 1 << 32) == 0


def test_its_own_deadline_holds_whatever_signals_the_caller_blocks(place: pathlib.Path) -> None:
    # its alarm comes after one second
    text = (place / "as_user.py").read_text().replace("DEADLINE_S = 120", "DEADLINE_S = -4")
    (place / "as_user.py").write_text(text)
    reading, writing = os.pipe()
    # which never ends
    done = spoilt(place, 0, "write", f"{place}/home/{ALICE}/daskgateway", stdin=reading)
    os.close(reading)
    os.close(writing)
    assert done.returncode == -14


def test_with_standard_descriptors_closed_no_file_becomes_one_of_them(place: pathlib.Path) -> None:
    directory = place / "home" / ALICE / "daskgateway"
    assert spoilt(place, 3, "entries", directory).returncode in (0, 120)
    done = spoilt(place, 1, "write", directory)
    refused(done, "standard input must be JSON")


def test_what_it_makes_is_private_whatever_the_umask(place: pathlib.Path) -> None:
    directory = place / "home" / ALICE / "daskgateway" / "a" / "b"
    (place / "given").write_bytes(payload(key=SECRET))
    with open(place / "given", "rb") as given:
        assert spoilt(place, 0, "write", directory, stdin=given).returncode == 0
    assert [
        path.stat().st_mode & 0o777
        for path in (directory.parents[1], directory.parent, directory, directory / "key")
    ] == [*(0o700, 0o700, 0o700, 0o600)]
    assert (directory / "key").read_bytes() == SECRET


def test_a_core_of_it_holds_no_secret(place: pathlib.Path) -> None:
    executable(place / "bin" / "sbatch", "#!/bin/sh\nulimit -c\n")
    old = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (old[1], old[1]))
    try:
        assert ask(place, "run", "--", "sbatch").stdout == b"0\n"
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, old)


@pytest.mark.parametrize("limit", ["-n 3", "-f 0"])
def test_what_a_limit_keeps_it_from_is_told_in_one_line(place: pathlib.Path, limit: str) -> None:
    directory = place / "home" / ALICE / "daskgateway"
    argv = [
        *account(ALICE),
        "/bin/sh",
        "-c",
        f'ulimit {limit}; exec "$@"',
        "sh",
        PYTHON,
        "-I",
        f"{place}/as_user.py",
        "write",
        str(directory),
    ]
    done = subprocess.run(argv, input=payload(key=SECRET), capture_output=True, timeout=30)
    assert done.returncode != 0
    assert done.stderr


# Which commands, found where


@pytest.mark.parametrize(
    "name",
    ["bash", "/bin/sh", "sbatch;id", "", "scontrol", "x\ndaskgateway-as-user: y", "x" * 100_000],
)
def test_no_other_command_is_run(place: pathlib.Path, name: str) -> None:
    done = ask(place, "run", "--", name)
    refused(done, "only sbatch")
    assert len(done.stderr) < 1000


def test_a_command_of_another_place_is_not_run(place: pathlib.Path) -> None:
    executable(place / "shared" / "sbatch", SHOWS)
    for name in (f"{place}/shared/sbatch", "../shared/sbatch", "./sbatch"):
        refused(ask(place, "run", "--", name, cwd=place / "shared"), "not found")
    (place / "bin" / "sbatch").unlink()
    refused(ask(place, "run", "--", "sbatch", cwd=place / "shared"), "not found")


def test_a_command_that_everybody_may_write_is_not_run(place: pathlib.Path) -> None:
    (place / "bin" / "sbatch").chmod(0o757)
    refused(ask(place, "run", "--", "sbatch"), "can be written by everybody")
    (place / "bin" / "sbatch").chmod(0o755)
    (place / "bin").chmod(0o757)
    refused(ask(place, "run", "--", "sbatch"), "can be written by everybody")


def test_what_a_hanging_command_has_started_ends_with_it(place: pathlib.Path) -> None:
    (place / "as_user.py").write_text(
        (place / "as_user.py").read_text().replace("DEADLINE_S = 120", "DEADLINE_S = 0.5")
    )
    (place / "as_user.py").write_text(
        (place / "as_user.py")
        .read_text()
        .replace("signal.alarm(DEADLINE_S + 5)", "signal.alarm(30)")
    )
    executable(place / "bin" / "sbatch", "#!/bin/sh\n/bin/sleep 600 &\n/bin/sleep 600\n")
    # whose output would be held open by the first
    refused(ask(place, "run", "--", "sbatch"), "did not answer within 0.5 s")


def test_words_reach_a_command_as_they_are_in_a_clean_environment(place: pathlib.Path) -> None:
    hostile = {
        "LD_PRELOAD": "",
        "BASH_ENV": "/evil",
        "ENV": "/evil",
        "IFS": "/",
        "SBATCH_ACCOUNT": "x",
        "PYTHONPATH": "/evil",
    }
    words = ["--comment=a b; $(id) `id`", "", "--wrap=*"]
    done = ask(
        place,
        "run",
        "--",
        "sbatch",
        *words,
        env={"PATH": "/evil", "HOME": "/evil", **hostile},
        cwd=place / "shared",
    )
    shown = done.stdout.decode().splitlines()
    assert shown[0] == "|".join(words) + "|"
    told_of = dict(line.partition("=")[::2] for line in shown[1:-2])
    home = pwd.getpwnam(ALICE).pw_dir
    kept = {"PATH": f"{place}/bin", "HOME": home, "USER": ALICE, "LOGNAME": ALICE, "LC_ALL": "C"}
    assert {
        name: value
        for name, value in told_of.items()
        if name not in ("_", "PWD", "SHLVL", "OLDPWD")
    } == kept
    assert shown[-2:] == ["/", "0077"]


@pytest.mark.parametrize("name", ["SLURM_CONF", "PBS_CONF_FILE"])
def test_configuration_that_others_may_write_is_not_handed_on(
    place: pathlib.Path, name: str
) -> None:
    good = place / "etc" / "slurm.conf"
    good.write_text("ClusterName=here\n")
    kept = ask(place, "run", "--", "squeue", env={name: str(good)})
    assert f"{name}={good}\n".encode() in kept.stdout
    good.chmod(0o666)
    refused(ask(place, "run", "--", "squeue", env={name: str(good)}), "can be written by others")
    evil = owned(place / "shared" / "evil", BOB)
    shutil.copy(good, evil / "slurm.conf")  # root's, but bob may put another there
    (evil / "slurm.conf").chmod(0o644)
    refused(
        ask(place, "run", "--", "squeue", env={name: f"{evil}/slurm.conf"}), "belongs to neither"
    )
    for text in ("slurm.conf", f"{place}/etc/../etc/slurm.conf", ""):
        refused(ask(place, "run", "--", "squeue", env={name: text}), "must be absolute")


@pytest.mark.parametrize(
    "make",
    [
        lambda path: shutil.chown(path, BOB),
        lambda path: path.rename(f"{path}s") and path.symlink_to(f"{path}s"),
    ],
)
def test_configuration_that_is_not_roots_own_file_is_not_handed_on(
    place: pathlib.Path, make: Callable[[pathlib.Path], object]
) -> None:
    conf = place / "etc" / "slurm.conf"
    conf.write_text("ClusterName=here\n")
    make(conf)
    done = ask(place, "run", "--", "squeue", env={"SLURM_CONF": str(conf)})
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"slurm.conf" in done.stderr


# Where commands are looked for: the administrator's word


def another(path: pathlib.Path) -> None:
    """Give it to somebody."""
    shutil.chown(path, BOB)


def linked(path: pathlib.Path) -> None:
    """A link of root's file."""
    path.rename(f"{path}s")
    path.symlink_to(f"{path}s")


def piped(path: pathlib.Path) -> None:
    """A pipe that nobody writes to."""
    path.unlink()
    os.mkfifo(path, 0o644)


WORDS = {
    "another's": (another, "must be root's"),
    "a directory of another's": (lambda path: another(path.parent), "must be root's"),
    "writable by its group": (lambda path: path.chmod(0o664), "must be root's"),
    "in a directory that others write in": (
        lambda path: path.parent.chmod(0o777),
        "must be root's",
    ),
    "a link": (linked, "is no plain file"),
    "a pipe": (piped, "must be root's"),
    "a directory": (lambda path: (path.unlink(), path.mkdir()), "must be root's"),
    "unreadable": (lambda path: path.chmod(0o600), "cannot be read"),
    "long": (lambda path: path.write_text("/" + "x" * 5000), "at most 4096 bytes"),
    "two lines": (lambda path: path.write_text("/bin\n/usr/bin\n"), "one line"),
    "relative": (lambda path: path.write_text("/bin:commands"), "from / on"),
    "the current directory": (lambda path: path.write_text("/bin::/usr/bin"), "from / on"),
}


@pytest.mark.parametrize("kind", WORDS)
def test_the_directories_of_commands_are_roots_word_alone(place: pathlib.Path, kind: str) -> None:
    make, words = WORDS[kind]
    make(place / "etc" / "as-user.path")
    refused(ask(place, "run", "--", "squeue"), words)
