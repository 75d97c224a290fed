"""The launcher as it is installed: a program of its own, run as users of the system, with what
others put in its way."""

from __future__ import annotations

import base64
import json
import os
import pathlib
import pwd
import resource
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence

import pytest

from gateway.backends import as_user
from tests.parts import as_account, executable, missing

ALICE, BOB = "games", "news"  # of every Debian; bob is whom alice has to fear
PYTHON = "/usr/bin/python3"  # one that every account may run
SECRET = b"a private key\n"
SHOWS = '#!/bin/sh\nprintf "%s|" "$@"; echo; /usr/bin/env; pwd; umask\n'


@pytest.fixture
def place() -> Iterator[pathlib.Path]:
    """Root's directory, which everybody may look into: the launcher is in it, its configuration,
    commands, and homes."""
    if os.geteuid() != 0:
        missing("root", "sudo make test (the launcher is run as users)")
    directory = pathlib.Path(tempfile.mkdtemp(prefix="launcher-"))
    directory.chmod(0o755)
    for name in ("etc", "bin", "home", "shared"):
        (directory / name).mkdir(mode=0o755)
    for name in as_user.COMMANDS:
        executable(directory / "bin" / name, SHOWS)
    (directory / "etc" / "as-user.path").write_text(f"{directory}/bin\n")
    text = pathlib.Path(as_user.__file__).read_text()
    text = text.replace(f'CONFIG = "{as_user.CONFIG}"', f'CONFIG = "{directory}/etc/as-user.path"')
    (directory / "as_user.py").write_text(text)
    for user in (ALICE, BOB):
        owned(directory / "home" / user, user, 0o700)
    (directory / "shared").chmod(0o1777)
    yield directory
    shutil.rmtree(directory)


def owned(directory: pathlib.Path, user: str, mode: int = 0o755) -> pathlib.Path:
    """Make a directory that is a user's."""
    directory.mkdir()
    directory.chmod(mode)
    shutil.chown(directory, user)
    return directory


def account(user: str) -> list[str]:
    """Return the words that run a command as a user."""
    entry = pwd.getpwnam(user)
    return as_account(entry.pw_uid, entry.pw_gid)


def ask(
    place: pathlib.Path,
    *words: object,
    user: str = ALICE,
    stdin: bytes = b"",
    env: Mapping[str, str] | None = None,
    cwd: object = None,
) -> subprocess.CompletedProcess[bytes]:
    """Run the launcher as a user."""
    variables = [
        f"{name}={value}" for name, value in ({"PATH": "/usr/bin:/bin"} | dict(env or {})).items()
    ]
    argv = [
        *account(user),
        "/usr/bin/env",
        "-i",
        *variables,
        PYTHON,
        "-I",
        f"{place}/as_user.py",
        *map(str, words),
    ]
    return subprocess.run(argv, capture_output=True, timeout=60, input=stdin, cwd=cwd)  # type: ignore[call-overload]


def told(done: subprocess.CompletedProcess[bytes]) -> object:
    """Return what a call that went well printed, as JSON."""
    assert (done.returncode, done.stderr) == (0, b"")
    return json.loads(done.stdout)


def refused(done: subprocess.CompletedProcess[bytes], words: str) -> None:
    """A call was refused, in one line, with these words."""
    lines = done.stderr.decode().splitlines()
    assert (done.returncode, done.stdout, len(lines)) == (2, b"", 1), done
    assert lines[0].startswith("daskgateway-as-user: ")
    assert words in lines[0]


def payload(**files: bytes) -> bytes:
    """Return files as the launcher takes them."""
    return json.dumps(
        {name: base64.b64encode(content).decode() for name, content in files.items()}
    ).encode()


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


# Which paths


CALLS: dict[str, Sequence[str]] = {
    "write": [],
    "entries": [],
    "size": [],
    "read": ["0"],
    "remove": [],
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    "path",
    [
        "relative/daskgateway/x",
        "/home/x",
        "/x/daskgateway/../y/z",
        "/x/daskgatewayx/y",
        "",
        "/x/DASKGATEWAY/y",
    ],
)
def test_a_path_that_is_not_below_a_directory_of_ours_is_refused(
    place: pathlib.Path, call: str, path: str
) -> None:
    refused(
        ask(place, call, path, *CALLS[call], stdin=b"{}"), "must be absolute, without .., and below"
    )


@pytest.mark.parametrize("call", ["size", "read", "remove"])
def test_the_named_directory_itself_is_neither_read_nor_removed(
    place: pathlib.Path, call: str
) -> None:
    home = place / "home" / ALICE
    owned(home / "daskgateway", ALICE)
    refused(ask(place, call, home / "daskgateway", *CALLS[call]), "below a directory named")
    assert (home / "daskgateway").exists()


def private(place: pathlib.Path) -> pathlib.Path:
    """Return a directory of alice's that has nothing to do with the gateway."""
    directory = owned(place / "home" / ALICE / ".ssh", ALICE, 0o700)
    (directory / "key").write_bytes(SECRET)
    shutil.chown(directory / "key", ALICE)
    return directory


def by_bob(place: pathlib.Path) -> pathlib.Path:
    """A link of bob's to where alice's secrets are, named as ours."""
    return link(place / "shared" / "daskgateway", private(place), BOB)


def by_alice(place: pathlib.Path) -> pathlib.Path:
    """The same by alice."""
    return link(place / "home" / ALICE / "daskgateway", private(place), ALICE)


def by_root(place: pathlib.Path) -> pathlib.Path:
    """The same by root."""
    return link(place / "home" / ALICE / ".daskgateway", private(place), "root")


def further_down(place: pathlib.Path) -> pathlib.Path:
    """A link below a directory of ours."""
    owned(place / "home" / ALICE / "daskgateway", ALICE)
    return link(place / "home" / ALICE / "daskgateway" / "logs", private(place), ALICE)


def on_the_way(place: pathlib.Path) -> pathlib.Path:
    """A link of bob's above: to a directory of alice's that is named as ours, but was never
    meant."""
    source = owned(place / "home" / ALICE / "src", ALICE)
    owned(source / "daskgateway", ALICE)
    (source / "daskgateway" / "key").write_bytes(SECRET)
    shutil.chown(source / "daskgateway" / "key", ALICE)
    return link(place / "shared" / "way", source, BOB) / "daskgateway"


def in_a_ring(place: pathlib.Path) -> pathlib.Path:
    """Links that lead to each other."""
    return (
        link(place / "home" / ALICE / "ring", place / "home" / ALICE / "ring", ALICE)
        / "daskgateway"
    )


def link(path: pathlib.Path, target: pathlib.Path, owner: str) -> pathlib.Path:
    """Make a link that is somebody's."""
    path.symlink_to(target)
    os.lchown(path, pwd.getpwnam(owner).pw_uid, -1)
    return path


LINKS = [by_bob, by_alice, by_root, further_down, on_the_way, in_a_ring]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("make", LINKS, ids=lambda make: make.__name__)
def test_no_link_leads_to_what_is_not_ours(
    place: pathlib.Path, call: str, make: Callable[[pathlib.Path], pathlib.Path]
) -> None:
    directory = make(place)
    path = directory if call in ("write", "entries") else directory / "key"
    refused(
        ask(place, call, path, *CALLS[call], stdin=payload(key=b"planted")),
        "is a link where a directory",
    )
    kept = [path for path in (place / "home" / ALICE).rglob("key") if not path.is_symlink()]
    assert [path.read_bytes() for path in kept] == [SECRET] * len(kept)
    assert kept or make is in_a_ring


def test_links_of_roots_and_the_users_own_may_stand_above(place: pathlib.Path) -> None:
    real = owned(place / "home" / "real", ALICE)
    link(place / "home" / "root's", real, "root")
    os.symlink("../home/root's", place / "home" / "relative")
    directory = place / "home" / "relative" / "daskgateway"
    assert ask(place, "write", directory, stdin=payload(key=SECRET)).returncode == 0
    assert (real / "daskgateway" / "key").read_bytes() == SECRET
    assert told(ask(place, "entries", directory)) == ["key"]


@pytest.mark.parametrize("call", CALLS)
def test_a_directory_of_another_user_on_the_way_is_refused(place: pathlib.Path, call: str) -> None:
    """He could put another in the place of what is written there, while it is used."""
    owned(place / "shared" / "bobs", BOB, 0o777)
    owned(place / "shared" / "bobs" / "daskgateway", ALICE)
    path = f"{place}/shared/bobs/daskgateway/x/y"
    refused(
        ask(place, call, path, *CALLS[call], stdin=b"{}"),
        "'bobs' belongs to neither root nor this user",
    )
    assert list((place / "shared" / "bobs" / "daskgateway").iterdir()) == []


@pytest.mark.parametrize(("mode", "group"), [(0o777, ALICE), (0o775, "users"), (0o770, BOB)])
@pytest.mark.parametrize("call", CALLS)
def test_a_directory_that_others_write_in_is_refused(
    place: pathlib.Path, call: str, mode: int, group: str
) -> None:
    directory = owned(place / "home" / ALICE / "daskgateway", ALICE)
    shutil.chown(directory, group=group)
    directory.chmod(mode)
    refused(
        ask(place, call, f"{directory}/x/y", *CALLS[call], stdin=b"{}"),
        "others can write in 'daskgateway'",
    )


def test_a_private_group_may_write_and_a_shared_directory_may_be_sticky(
    place: pathlib.Path,
) -> None:
    directory = owned(place / "home" / ALICE / "daskgateway", ALICE)
    shutil.chown(directory, group=ALICE)
    directory.chmod(0o775)
    assert ask(place, "write", directory, stdin=payload(key=SECRET)).returncode == 0
    assert directory.stat().st_mode & 0o777 == 0o700  # where secrets lie
    (place / "shared" / "daskgateway").mkdir()
    (place / "shared" / "daskgateway").chmod(0o1777)
    assert (
        ask(
            place, "write", place / "shared" / "daskgateway" / ALICE, stdin=payload(key=SECRET)
        ).returncode
        == 0
    )


def test_secrets_are_never_put_into_a_directory_of_anybody_elses(place: pathlib.Path) -> None:
    (place / "shared" / "daskgateway").mkdir()
    (place / "shared" / "daskgateway").chmod(0o1777)  # root's
    refused(
        ask(place, "write", place / "shared" / "daskgateway", stdin=payload(key=SECRET)),
        "must be this user's own",
    )
    assert list((place / "shared" / "daskgateway").iterdir()) == []


def test_what_is_not_there_is_nothing_and_no_error(place: pathlib.Path) -> None:
    missing_one = place / "home" / ALICE / "daskgateway" / "none" / "file"
    assert told(ask(place, "entries", missing_one)) == []
    assert told(ask(place, "size", missing_one)) == 0
    assert ask(place, "read", missing_one, 0).stdout == b"\n"
    assert ask(place, "remove", missing_one).returncode == 0
    owned(place / "home" / ALICE / "daskgateway", ALICE)
    (place / "home" / ALICE / "daskgateway" / "none").touch()  # where a directory should be
    assert told(ask(place, "size", missing_one)) == 0
    done = ask(place, "remove", missing_one)
    assert (done.returncode, b"Not a directory" in done.stderr) == (1, True)


# Which files


def pipe(path: pathlib.Path) -> None:
    """Nobody writes to it."""
    os.mkfifo(path)


def device(path: pathlib.Path) -> None:
    """It never ends."""
    os.mknod(path, 0o666 | 0o020000, os.makedev(1, 5))


def bobs(path: pathlib.Path) -> None:
    """A file that is not alice's."""
    path.write_bytes(SECRET)
    shutil.chown(path, BOB)


def second_name(path: pathlib.Path) -> None:
    """Another name of a file of alice's, which others can give where the system lets them."""
    os.link(private(path.parents[3]) / "key", path)


def symlink(path: pathlib.Path) -> None:
    """A link to a file of alice's."""
    path.symlink_to(private(path.parents[3]) / "key")


@pytest.mark.parametrize(
    "make",
    [pipe, device, bobs, second_name, symlink, pathlib.Path.mkdir],
    ids=lambda make: make.__name__,
)
def test_what_is_no_plain_file_of_the_users_is_read_as_nothing(
    place: pathlib.Path, make: Callable[[pathlib.Path], None]
) -> None:
    path = owned(place / "home" / ALICE / "daskgateway", ALICE) / "log"
    make(path)
    assert told(ask(place, "size", path)) == 0
    assert ask(place, "read", path, 0).stdout == b"\n"


@pytest.mark.parametrize("offset", ["-1", "²", "٣", "9" * 5000, "", "0x1", "1_0", " 1"])
def test_an_offset_is_digits_alone(place: pathlib.Path, offset: str) -> None:
    done = ask(place, "read", "/a/daskgateway/x", offset)
    assert (done.returncode, b"read FILE OFFSET" in done.stderr) == (2, True)


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["run"],
        ["run", "sbatch"],
        ["run", "--"],
        ["shell"],
        ["size"],
        ["write", "/a/daskgateway", "x"],
    ],
)
def test_what_is_no_request_is_refused_with_what_there_is(
    place: pathlib.Path, words: list[str]
) -> None:
    done = ask(place, *words)
    assert done.returncode == 2
    assert b"command words" in done.stderr or b"daskgateway-as-user remove PATH" in done.stderr


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"{",
        b"\xff",
        b"[" * 100_000,
        b'{"x": ' + b"[" * 100_000,
        b'{"x": null}',
        b'{"x": 7}',
        b'{"x": "no base64!"}',
        b'{"x": "YQ"}',
        b'{"x": "\xc3\xbc"}',
        b'{"../x": ""}',
        b'{"a/b": ""}',
        b'{".hidden": ""}',
        b'{"": ""}',
        b'{"x\\n": ""}',
        b'{"x\\u0000": ""}',
        b'{"' + b"x" * 300 + b'": ""}',
        json.dumps(dict.fromkeys(map(str, range(as_user.MAX_FILES + 1)), "")).encode(),
        b'{"x": "' + b"A" * as_user.MAX_INPUT_BYTES + b'"}',
    ],
    ids=range(20),
)
def test_files_to_write_have_plain_names_and_are_few_and_small(
    place: pathlib.Path, raw: bytes
) -> None:
    directory = place / "home" / ALICE / "daskgateway"
    refused(ask(place, "write", directory, stdin=raw), "standard input must be JSON")
    assert not directory.exists()


def test_what_stands_in_a_files_place_is_replaced_and_not_followed(place: pathlib.Path) -> None:
    secret = private(place) / "key"
    directory = owned(place / "home" / ALICE / "daskgateway", ALICE)
    for name, target in (("link", secret), ("other", "/dev/zero")):
        link(directory / name, pathlib.Path(target), ALICE)
    os.mkfifo(directory / "pipe")
    assert (
        ask(place, "write", directory, stdin=payload(link=b"1", other=b"2", pipe=b"3")).returncode
        == 0
    )
    assert [(directory / name).read_bytes() for name in ("link", "other", "pipe")] == [
        b"1",
        b"2",
        b"3",
    ]
    assert secret.read_bytes() == SECRET


def test_a_directory_with_files_without_end_is_not_listed(place: pathlib.Path) -> None:
    (place / "as_user.py").write_text(
        (place / "as_user.py").read_text().replace("MAX_NAMES = 100_000", "MAX_NAMES = 10")
    )
    directory = owned(place / "home" / ALICE / "daskgateway", ALICE)
    for number in range(10):
        (directory / str(number)).touch()
    assert len(told(ask(place, "entries", directory))) == 10  # type: ignore[arg-type]
    (directory / "more").touch()
    refused(ask(place, "entries", directory), "has more than 10 files")


# Removing


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_tree_of_100000_levels_with_few_descriptors_is_removed(place: pathlib.Path) -> None:
    directory = owned(place / "home" / ALICE / "daskgateway", ALICE)
    code = (
        "import os\nos.chdir(os.sys.argv[1])\nfor _ in range(100_000):\n    os.mkdir('d');"
        " os.chdir('d')"
    )
    subprocess.run(
        [*account(ALICE), PYTHON, "-I", "-c", code, str(directory)], check=True, timeout=120
    )
    argv = [
        "/bin/sh",
        "-c",
        'ulimit -n 24; exec "$@"',
        "sh",
        PYTHON,
        "-I",
        f"{place}/as_user.py",
        "remove",
        f"{directory}/d",
    ]
    # as often as the gateway asks: each goes on where the last one's time was over
    for _ in range(10):
        done = subprocess.run([*account(ALICE), *argv], capture_output=True, timeout=60)
        if done.returncode == 0:
            break
        assert b"going on with it later" in done.stderr
    assert (done.returncode, done.stderr, list(directory.iterdir())) == (0, b"", [])


def test_what_its_user_has_closed_is_removed(place: pathlib.Path) -> None:
    directory = owned(place / "home" / ALICE / "daskgateway", ALICE) / "x"
    code = "umask 0; mkdir -p $1/a/b; touch $1/a/b/c; chmod 0 $1/a/b $1/a $1"
    subprocess.run([*account(ALICE), "/bin/sh", "-c", code, "sh", str(directory)], check=True)
    assert ask(place, "remove", directory).returncode == 0
    assert not directory.exists()


def test_links_within_are_removed_and_what_they_lead_to_is_not(place: pathlib.Path) -> None:
    kept = private(place)
    directory = owned(place / "home" / ALICE / "daskgateway", ALICE)
    inner = owned(directory / "x", ALICE)
    link(inner / "to-a-directory", kept, ALICE)
    link(directory / "link", kept, ALICE)
    assert [
        ask(place, "remove", directory / name).returncode for name in ("x", "link", "link/")
    ] == [0, 0, 0]
    assert (list(directory.iterdir()), (kept / "key").read_bytes()) == ([], SECRET)


def test_what_cannot_be_removed_is_told_in_one_line_that_stays_the_same(
    place: pathlib.Path,
) -> None:
    directory = owned(place / "home" / ALICE / "daskgateway", ALICE) / "x"
    owned(directory, ALICE)
    owned(directory / "\x1b[2Jbobs", BOB, 0o700)
    (directory / "\x1b[2Jbobs" / "file").touch()
    answers = {
        (done.returncode, done.stderr)
        for done in (ask(place, "remove", directory) for _ in range(2))
    }
    assert answers == {(1, b"daskgateway-as-user: [Errno 13] Permission denied: 'x'\n")}


def test_removing_is_given_up_in_time(place: pathlib.Path) -> None:
    (place / "as_user.py").write_text(
        (place / "as_user.py").read_text().replace("REMOVE_S = 25.0", "REMOVE_S = 0.0")
    )
    directory = owned(place / "home" / ALICE / "daskgateway", ALICE)
    owned(directory / "x", ALICE)
    done = ask(place, "remove", directory / "x")
    assert (done.returncode, b"not removed within 0 s; going on with it later" in done.stderr) == (
        1,
        True,
    )
