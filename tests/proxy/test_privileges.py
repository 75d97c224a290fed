"""A process that began as root gives its rights up for good, and still finds the modules it needs
later."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import textwrap

import pytest

from gateway.proxy.program.privileges import RightsKept, give_up
from tests.parts import missing

UID = 61_555


@pytest.fixture(autouse=True)
def as_root() -> None:
    """Only root has rights to give up."""
    if os.geteuid() != 0:
        missing("root", "sudo make test")


def run(program: str, *words: str, prelude: str = "") -> str:
    """Run a program that gives its rights up first; return what it prints."""
    head = (
        f"import os, sys, pathlib\n{prelude}\n"
        "from gateway.proxy.program import late_imports, privileges\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", head + textwrap.dedent(program), *words],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(("bind", "capabilities"), [(False, 0), (True, 1 << 10)])
def test_nothing_is_left_but_what_was_asked_for(bind: bool, capabilities: int) -> None:
    told = run(
        f"""
        privileges.give_up({UID}, {UID}, bind={bind})
        print(os.getresuid(), os.getresgid(), os.getgroups())
        print(pathlib.Path("/proc/self/status").read_text())
        """
    )
    account, status = told.split("\n", 1)
    assert account == f"{(UID,) * 3} {(UID,) * 3} []"
    found = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert {int(found[name], 16) for name in ("CapPrm", "CapEff", "CapBnd")} == {capabilities}
    assert {int(found[name], 16) for name in ("CapInh", "CapAmb")} == {0}
    assert found["NoNewPrivs"] == "1"


def test_there_is_no_way_back(tmp_path: pathlib.Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("x")
    secret.chmod(0o600)
    told = run(
        f"""
        import ctypes, socket, subprocess
        privileges.give_up({UID}, {UID}, bind=True)
        def fails(work):
            try:
                work()
            except (PermissionError, subprocess.CalledProcessError):
                print("refused")
            else:
                print("done")
        fails(lambda: os.setuid(0))
        fails(lambda: os.setgroups([0]))
        fails(lambda: os.kill({os.getpid()}, 0))
        fails(lambda: open({str(secret)!r}))
        fails(lambda: os.chown({str(secret)!r}, {UID}, {UID}))
        fails(lambda: subprocess.run(["/bin/su", "-c", "true"], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True))
        with socket.socket() as low:
            low.bind(("127.0.0.1", 0))
        with socket.socket() as low:
            fails(lambda: low.bind(("127.0.0.2", 811)))
        sys.stdout.flush()
        os.execv("/bin/cat", ["cat", "/proc/self/status"])
        """  # noqa: E501
    )
    assert told.split("Name:")[0].split() == ["refused"] * 6 + ["done"]
    assert "CapEff:\t0000000000000000" in told  # programs that are run then have not even the one


@pytest.mark.parametrize(("uid", "gid"), [(0, UID), (UID, 0), (0, 0), (-1, UID)])
def test_root_is_no_account_to_become(uid: int, gid: int) -> None:
    with pytest.raises(RightsKept):
        give_up(uid, gid, bind=False)


def test_with_another_thread_nothing_goes_on() -> None:
    told = run(
        f"""
        import threading
        end = threading.Event()
        threading.Thread(target=end.wait).start()
        try:
            privileges.give_up({UID}, {UID}, bind=False)
        except privileges.RightsKept as error:
            print(error, os.geteuid())
        end.set()
        """
    )
    assert "more than one thread" in told
    assert told.endswith("0\n")


LATE = """
import late_package
directories = late_imports.opened()
privileges.give_up(61555, 61555, bind=False)
for name in ("late_module", "late_package.inner"):
    try:
        __import__(name)
    except ModuleNotFoundError:
        print("closed")
late_imports.keep_finding(directories)
import late_module, late_package.inner, encodings.idna, wsgiref.validate
print(late_module.VALUE, late_package.inner.VALUE)
try:
    import late_nothing
except ModuleNotFoundError as error:
    print(error)
"""


def test_modules_in_closed_directories_are_found_later(tmp_path: pathlib.Path) -> None:
    closed = tmp_path / "closed"
    (closed / "lib" / "late_package").mkdir(parents=True)
    (closed / "lib" / "late_module.py").write_text("VALUE = 1\n")
    (closed / "lib" / "late_package" / "__init__.py").touch()
    (closed / "lib" / "late_package" / "inner.py").write_text("VALUE = 2\n")
    closed.chmod(0o700)
    assert (
        run(LATE, prelude=f"sys.path.append({str(closed / 'lib')!r})")
        == "closed\nclosed\n1 2\nNo module named 'late_nothing'\n"
    )


def test_where_everything_may_be_read_nothing_is_kept_open(tmp_path: pathlib.Path) -> None:
    told = run(
        """
        sys.path[:] = ["/usr/lib", "/nowhere"]
        directories = late_imports.opened()
        privileges.give_up(61555, 61555, bind=False)
        late_imports.keep_finding(directories)
        print(list(directories), [finder for finder in sys.meta_path if isinstance(finder, late_imports._Finder)])
        print([fd for fd in os.listdir("/proc/self/fd") if int(fd) >= late_imports.FIRST_FD])
        """  # noqa: E501
    )
    assert told == "['/usr/lib'] []\n[]\n"
