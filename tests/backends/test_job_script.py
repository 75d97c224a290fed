"""What a job's script does whatever its user has set, and however it ends: run by the shells that
there are."""

from __future__ import annotations

import os
import pathlib
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping

import pytest

from gateway.backends.batch import arrays
from gateway.backends.batch.script import Dialect, job_script
from gateway.backends.contract import DIRECTORY, NAME, Instance, Launch, Role
from gateway.variables import SHELLS
from tests.parts import as_account, missing
from tests.waiting import until

UID = "c" + "a" * 20
SHELL = {"dash": ["/bin/dash"], "bash": ["/bin/bash"], "bash as sh": ["/bin/bash", "--posix"]}
USER = "games"  # of every Debian; root could not be kept from a closed directory


@pytest.fixture(params=SHELL)
def shell(request: pytest.FixtureRequest) -> list[str]:
    """What runs the script."""
    words = SHELL[request.param]
    if not shutil.which(words[0]):
        missing(words[0], f"apt-get install {request.param.split()[0]}")
    return [*words, "-s"]


@pytest.fixture
def node() -> Iterator[pathlib.Path]:
    """A directory where jobs make theirs."""
    directory = pathlib.Path(tempfile.mkdtemp(prefix="node-"))
    directory.chmod(0o1777)
    yield directory
    shutil.rmtree(directory)


def script(
    code: str,
    env: Mapping[str, str] | None = None,
    files: Mapping[str, bytes] | None = None,
    **dialect: object,
) -> str:
    """Return the script of a worker that runs lines of shell."""
    argv = ("/bin/sh", "-c", code, NAME, DIRECTORY)
    one = Launch(Instance(UID, Role.WORKER, "default-3"), "alice", argv, env or {}, files or {})
    (batch,) = arrays.batches("dgw1", [one], max_size=1)
    return job_script(batch, Dialect("INDEX", **dialect))  # type: ignore[arg-type]


def run(
    shell: list[str], text: str, node: pathlib.Path, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run a script as a batch system does."""
    env = {"PATH": "/usr/bin:/bin", "TMPDIR": str(node), **variables}
    return subprocess.run(
        shell, input=text, env=env, capture_output=True, text=True, timeout=60, cwd="/"
    )


# Variables


def victim(node: pathlib.Path) -> pathlib.Path:
    """What somebody would like to see removed."""
    kept = node / "victim"
    kept.mkdir()
    (kept / "file").write_text("years of work")
    return kept


NAMES = [
    "dgw_directory",
    "dgw_child",
    "dgw_code",
    "dgw_name",
    "DGW_DIRECTORY",
    "TMPDIR",
    "HOME",
    "PWD",
    "OLDPWD",
    "CDPATH",
    "IFS",
    "1",
    "@",
    "_",
]


@pytest.mark.parametrize("name", NAMES)
def test_no_variable_of_the_launch_names_what_is_removed(
    shell: list[str], node: pathlib.Path, name: str
) -> None:
    kept = victim(node)
    done = run(shell, script('echo "$0 $1"', {name: str(kept)}), node)
    assert (done.returncode, done.stderr) == (0, "")
    instance, directory = done.stdout.split()
    assert instance == "default-3"
    assert directory.startswith(f"{node}/daskgateway-")
    assert (kept / "file").read_text() == "years of work"
    assert [path.name for path in node.iterdir()] == ["victim"]


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in NAMES
        if name.isidentifier() and name not in ("TMPDIR", "PWD", "OLDPWD", "_")
    ],
)
def test_no_variable_of_the_jobs_environment_does_either(
    shell: list[str], node: pathlib.Path, name: str
) -> None:
    kept = victim(node)
    done = run(shell, script('echo "$0 $1"'), node, **{name: str(kept)})
    assert (done.returncode, done.stdout.split()[0]) == (0, "default-3")
    assert (kept / "file").exists()
    assert [path.name for path in node.iterdir()] == ["victim"]


def test_programs_of_the_users_path_are_not_the_scripts(
    shell: list[str], node: pathlib.Path
) -> None:
    evil = node / "evil"
    evil.mkdir()
    for name in (
        "rm",
        "chmod",
        "kill",
        "mktemp",
        "mkdir",
        "base64",
        "cp",
        "wait",
        "trap",
        "[",
        "exit",
    ):
        (evil / name).write_text(f"#!/bin/sh\necho {name} >>{node}/evil/called\n")
        (evil / name).chmod(0o755)
    (evil / "profile").write_text(f"echo profile >>{node}/evil/called\n")
    hostile = {
        "PATH": str(evil),
        "ENV": f"{evil}/profile",
        "BASH_ENV": f"{evil}/profile",
        "PYTHONSTARTUP": f"{evil}/profile",
        "IFS": "/",
    }
    done = run(shell, script("echo told", hostile, {"key.pem": b"secret"}), node)
    assert (done.returncode, done.stdout, done.stderr) == (0, "told\n", "")
    assert not (evil / "called").exists()
    assert [path.name for path in node.iterdir()] == ["evil"]


def test_names_that_a_shell_keeps_for_itself_do_not_end_the_script(
    shell: list[str], node: pathlib.Path
) -> None:
    listed = subprocess.run(
        ["/bin/bash", "-c", "compgen -v"], capture_output=True, text=True, check=True
    ).stdout.split()
    names = {
        *listed,
        *SHELLS,
        "RANDOM",
        "SECONDS",
        "LINENO",
        "FUNCNAME",
        "BASH_SOURCE",
        "OPTARG",
        "PS4",
        "MAIL",
        "TERM",
        "COLUMNS",
        "POSIXLY_CORRECT",
    }
    for name in sorted(names):
        done = run(shell, script("echo told", {name: "x"}), node)
        assert (name, done.returncode, done.stdout) == (name, 0, "told\n")
    done = run(shell, script("echo told", dict.fromkeys(names - {"LD_PRELOAD"}, "x")), node)
    assert (done.returncode, done.stdout) == (0, "told\n")
    assert list(node.iterdir()) == []


@pytest.mark.parametrize(
    "name", ["with space", "it's", 'quo"ted', "$(touch x)", "`id`", "-rf", "*", "a\nb", "ü", "\\"]
)
def test_the_node_may_call_its_directory_as_it_likes(
    shell: list[str], node: pathlib.Path, name: str
) -> None:
    place = node / name
    place.mkdir()
    (node / "other").mkdir()
    done = run(
        shell,
        script(
            'cat "$1/key.pem"; [ "$PWD" = "$1/scratch" ] && echo there', {}, {"key.pem": b"secret "}
        ),
        place,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "secret there\n", "")
    assert list(place.iterdir()) == []
    assert sorted(path.name for path in node.iterdir()) == sorted([name, "other"])


@pytest.mark.parametrize("place", ["/nowhere/at/all", "relative", "/dev/null"])
def test_without_a_place_for_its_directory_a_job_ends_and_removes_nothing(
    shell: list[str], node: pathlib.Path, place: str
) -> None:
    kept = victim(node)
    done = subprocess.run(
        shell,
        input=script("echo told"),
        env={"PATH": "/usr/bin:/bin", "TMPDIR": place},
        capture_output=True,
        text=True,
        cwd=kept,
        timeout=20,
    )
    assert (done.returncode, done.stdout) == (70, "")
    assert [path.name for path in kept.iterdir()] == ["file"]


def test_lines_of_the_site_may_be_strict_and_have_words_of_their_own(
    shell: list[str], node: pathlib.Path
) -> None:
    kept = victim(node)
    setup = ["set -eu", f"set -- {kept} b c", "load() { :; }", "load a", "sleep 0 &"]
    done = run(shell, script('echo "$0"; exit 3', setup=setup), node)
    assert (done.returncode, done.stdout, done.stderr) == (3, "default-3\n", "")
    assert [path.name for path in node.iterdir()] == ["victim"]


def test_what_ends_before_a_directory_is_made_removes_no_words_of_the_sites_lines(
    shell: list[str], node: pathlib.Path
) -> None:
    kept = victim(node)
    done = run(shell, script("echo told", setup=[f"set -- {kept}", "trap - EXIT", "exit 9"]), node)
    assert (done.returncode, done.stdout) == (9, "")
    done = run(shell, script("echo told", setup=[f"set -- {kept}"], scratch="/nowhere"), node)
    assert (done.returncode, done.stdout) == (70, "")
    assert (kept / "file").exists()


def test_no_line_removes_or_changes_what_a_variable_names() -> None:
    text = script(
        "echo told",
        {"A": "b"},
        {"key.pem": b"secret"},
        setup=["module load python"],
        log_path="/logs/x.log",
    )
    lines = [
        line
        for line in text.splitlines()
        if any(f"{word} " in line for word in ("rm", "chmod", "mv", "unlink"))
    ]
    assert len(lines) == 1
    assert '"$1"' in lines[0]
    assert "$dgw" not in lines[0]
    assert not any(f"${name}" in lines[0] for name in ("{A", "A", "{T", "T", "{H", "H", "{d", "d"))


# Ends


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT])
@pytest.mark.parametrize("group", [False, True], ids=["the script alone", "with its child"])
def test_after_a_signal_nothing_is_left(
    shell: list[str], node: pathlib.Path, number: signal.Signals, group: bool
) -> None:
    text = script('touch ../../"ready-$0"; exec /bin/sleep 600', {}, {"key.pem": b"secret"})
    given = node / "given"
    given.write_text(text)
    env = {"PATH": "/usr/bin:/bin", "TMPDIR": str(node)}
    # whatever signals the caller ignores, as what runs in the background does some
    words = ["/usr/bin/env", "--default-signal=INT,QUIT,HUP", *shell]
    with open(given) as file:
        child = subprocess.Popen(words, stdin=file, env=env, start_new_session=True)
    try:
        until((node / "ready-default-3").exists, "it runs")
        if group:
            os.killpg(child.pid, number)
        else:
            os.kill(child.pid, number)
        assert child.wait(60) == 128 + signal.SIGTERM if not group else True
        child.wait(60)
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
    assert sorted(path.name for path in node.iterdir()) == ["given", "ready-default-3"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_before_the_launch_has_begun_leaves_nothing(
    shell: list[str], node: pathlib.Path, number: signal.Signals
) -> None:
    """While files are put into its directory: here one that is never there."""
    stage = node / "stage"
    stage.mkdir()
    os.mkfifo(stage / "key.pem")
    (node / "given").write_text(script("echo told", {}, {"key.pem": b""}, stage=str(stage)))
    with open(node / "given") as file:
        env = {"PATH": "/usr/bin:/bin", "TMPDIR": str(node)}
        child = subprocess.Popen(
            shell, stdin=file, env=env, start_new_session=True, stdout=subprocess.PIPE
        )
    assert child.stdout is not None
    until(lambda: any(node.glob("daskgateway-*/scratch")), "its directory is there")
    os.killpg(child.pid, number)
    assert child.stdout.read() == b""
    child.stdout.close()
    assert child.wait(20) in (143, 71)
    assert sorted(path.name for path in node.iterdir()) == ["given", "stage"]


def test_what_its_user_has_closed_or_nested_is_removed(
    shell: list[str], node: pathlib.Path
) -> None:
    if os.geteuid() != 0:
        missing("root", "sudo make test (a job runs as another user)")
    entry = pwd.getpwnam(USER)
    code = (
        "umask 0; mkdir -p a/b/c; touch a/b/c/d; chmod 0 a/b/c a/b a ..;"
        ' /usr/bin/python3 -Ic \'import os\nfor _ in range(5000): os.mkdir("d"); os.chdir("d")\';'
        " echo told"
    )
    done = run([*as_account(entry.pw_uid, entry.pw_gid), *shell], script(code), node)
    assert (done.returncode, done.stdout) == (0, "told\n")
    assert list(node.iterdir()) == []


def test_links_are_removed_and_what_they_lead_to_is_not(
    shell: list[str], node: pathlib.Path
) -> None:
    kept = victim(node)
    done = run(
        shell,
        script(
            f"ln -s {kept} link; rmdir ../scratch 2>/dev/null; ln -s {kept} ../other; echo told"
        ),
        node,
    )
    assert (done.returncode, done.stdout) == (0, "told\n")
    assert [path.name for path in node.iterdir()] == ["victim"]
    assert (kept / "file").exists()


def test_a_command_that_is_not_there_is_told_with_its_code(
    shell: list[str], node: pathlib.Path
) -> None:
    one = Launch(Instance(UID, Role.WORKER, "default-3"), "alice", ("no-such-python",))
    (batch,) = arrays.batches("dgw1", [one], max_size=1)
    done = run(shell, job_script(batch, Dialect("INDEX")), node)
    assert done.returncode == 127
    assert "no-such-python" in done.stderr
    assert list(node.iterdir()) == []
