"""Somebody signs in from a terminal with a password: a session is kept in place of it, which many
processes use; and what the file may be that keeps it."""

from __future__ import annotations

import errno
import json
import os
import pathlib
import re
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from gateway import Gateway
from gateway.client.calls.errors import AuthenticationFailed, GatewayWarning
from gateway.client.calls.grants import Grant, Program
from gateway.client.calls.logins import KeptSession, Login, LoginFile, made
from tests.e2e.conftest import served
from tests.e2e.gateway_process import PASSWORD, USER, GatewayProcess

__all__ = ["served"]
pytestmark = pytest.mark.timeout(300)
FILE = ".config/daskgateway/logins.json"


def run(
    home: pathlib.Path, *words: str, secret: str = "", before: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run a command of somebody who has this home directory; `before` is what a shell does
    first."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("DASKGATEWAY_")
    }
    words = (sys.executable, "-m", "gateway", *words)
    if before:
        words = ("/bin/sh", "-c", f'{before}; exec "$@"', "sh", *words)
    return subprocess.run(
        words,
        input=secret,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env={**environment, "HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1"},
    )


def signed_in(home: pathlib.Path, gateway: GatewayProcess) -> KeptSession:
    """Sign alice in; return what is kept."""
    at = ("--address", gateway.address)
    done = run(home, "login", *at, "--user", USER, secret=f"{PASSWORD}\n")
    assert (done.returncode, done.stdout) == (0, f"signed in as {USER}\n"), done.stderr
    kept = LoginFile(home / FILE).read(gateway.address)
    assert isinstance(kept, KeptSession)
    return kept


def test_a_session_is_kept_in_place_of_a_password_and_taken_back_by_a_logout(
    served: GatewayProcess, tmp_path: pathlib.Path
) -> None:
    at = ("--address", served.address)
    first = signed_in(tmp_path, served)
    file = tmp_path / FILE
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert PASSWORD not in file.read_text()
    told = run(tmp_path, "whoami", *at)
    assert told.stdout.splitlines()[0] == USER, told
    way = rf"`daskgateway login` at {re.escape(served.address)}, signed in by password, until 20"
    assert re.search(way, told.stdout), told
    told = run(tmp_path, "whoami", *at, "--output", "json")
    assert json.loads(told.stdout)["way"] == "password", told
    # who guesses wrongly is still who was signed in
    wrong = run(tmp_path, "login", *at, "--user", "bob", secret="a guess\n")
    assert wrong.returncode == 1, wrong
    assert "of the user 'bob'" in wrong.stderr
    assert run(tmp_path, "whoami", *at).stdout.splitlines()[0] == USER
    # another sign-in takes the place of the first, which ends
    second = signed_in(tmp_path, served)
    with Gateway(served.address, auth=first.token) as gateway, pytest.raises(AuthenticationFailed):
        gateway.whoami()
    done = run(tmp_path, "logout", *at)
    assert (done.returncode, done.stdout) == (0, "signed out\n"), done
    assert json.loads(file.read_text()) == {}
    with Gateway(served.address, auth=second.token) as gateway, pytest.raises(AuthenticationFailed):
        gateway.whoami()
    assert run(tmp_path, "logout", *at).stdout == "nobody was signed in here\n"


def test_processes_that_renew_one_session_at_once_all_go_on(
    served: GatewayProcess, tmp_path: pathlib.Path
) -> None:
    kept = signed_in(tmp_path, served)
    at, file = ("--address", served.address), LoginFile(tmp_path / FILE)
    file.keep(served.address, KeptSession(kept.token, kept.way, 0.0, 0.0))
    with ThreadPoolExecutor(3) as pool:
        told = list(pool.map(lambda _: run(tmp_path, "whoami", *at), range(3)))
    assert [one.stdout.splitlines()[:1] for one in told] == [[USER]] * 3, told
    # one that was taken back says so, and does not ask without end
    with Gateway(served.address, auth=(USER, PASSWORD)) as gateway:
        for one in gateway.list_tokens():
            if "daskgateway login" in one.display_name:
                gateway.revoke_token(one.id)
    for renew_at in (0.0, time.time() + 1000):
        file.keep(served.address, KeptSession(kept.token, kept.way, renew_at, renew_at + 1000))
        over = run(tmp_path, "whoami", *at)
        assert over.returncode == 1
        assert "is over; `daskgateway login` again" in over.stderr, over


def test_a_disk_that_takes_nothing_is_told_before_anybody_signs_in_and_read_nevertheless(
    served: GatewayProcess, tmp_path: pathlib.Path
) -> None:
    at, full = ("--address", served.address), "ulimit -f 0"
    signed_in(tmp_path, served)
    before = (tmp_path / FILE).read_bytes()
    with Gateway(served.address, auth=(USER, PASSWORD)) as gateway:

        def kept() -> list[str]:  # not that of this process, which begins with its second call
            tokens = gateway.list_tokens()
            return [one.id for one in tokens if "daskgateway login" in one.display_name]

        sessions = kept()
        told = run(tmp_path, "login", *at, "--user", USER, secret=f"{PASSWORD}\n", before=full)
        assert told.returncode == 2
        assert "logins.json cannot be written: File too large" in told.stderr, told
        assert kept() == sessions  # nothing was begun that nobody keeps
    assert (tmp_path / FILE).read_bytes() == before
    assert not list((tmp_path / FILE).parent.glob("*.new"))
    told = run(tmp_path, "whoami", *at, before=full)
    assert told.stdout.splitlines()[0] == USER, told
    read_only = pathlib.Path("/proc")  # where nobody makes a file, root neither
    told = run(read_only, "login", *at, "--user", USER, secret=f"{PASSWORD}\n")
    assert told.returncode == 2
    assert "/proc/.config/daskgateway/logins.json cannot be written" in told.stderr, told


@pytest.mark.parametrize("fails_at", [1, 2], ids=["before it is renewed", "after"])
def test_a_disk_that_is_full_at_a_renewal_breaks_nothing_that_is_kept(
    fails_at: int, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, file = "http://127.0.0.1:1", LoginFile(tmp_path / "logins.json")
    program = Program("https://login.example.org", "cli")
    file.keep(address, made(program, Grant("old", 0.0, "refresh"), "oidc"))
    before, written, asked = file.path.read_bytes(), [0], list[Login]()

    def full(_: int) -> None:
        written[0] += 1
        if written[0] == fails_at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def renew(login: Login) -> Grant:
        asked.append(login)
        return Grant("fresh", time.time() + 600, "next")

    monkeypatch.setattr(os, "fsync", full)
    words = "logins.json cannot be written: No space left on device"
    if fails_at == 1:  # what the provider gives once must not be lost: it is not asked
        with pytest.raises(ValueError, match=words):
            file.renewed(address, renew)
        assert not asked
    else:
        with pytest.warns(GatewayWarning, match=f"renewed for this process alone: .*{words}"):
            fresh = file.renewed(address, renew)
        assert fresh is not None
        assert fresh.grant.access_token == "fresh"
    assert file.path.read_bytes() == before
    assert not list(tmp_path.glob("*.new"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "remove it, and `daskgateway login` again"),
        ("[]", "remove it, and `daskgateway login` again"),
        ('{"%s": 7}', "of another version of this program, or broken"),
        ('{"%s": {"session": {"token": 7}}}', "of another version of this program, or broken"),
        ('{"%s": {"program": {"issuer": "x"}}}', "of another version of this program, or broken"),
        ('{"http://elsewhere": 7}', ""),
    ],
)
def test_a_file_that_is_broken_is_told_and_never_taken_for_nobodys(
    text: str, words: str, tmp_path: pathlib.Path
) -> None:
    address = "http://127.0.0.1:8000"
    file = LoginFile(tmp_path / "logins.json")
    file.path.touch(mode=0o600)
    file.path.write_text(text.replace("%s", address))
    if not words:
        assert file.read(address) is None
        return
    with pytest.raises(ValueError, match=words):
        file.read(address)


def test_a_file_of_another_user_or_that_others_read_is_not_used(tmp_path: pathlib.Path) -> None:
    file = LoginFile(tmp_path / "logins.json")
    kept = KeptSession("dgw_session_x", "password", 0.0, 0.0)
    file.keep("http://127.0.0.1:1", kept)
    assert file.read("http://127.0.0.1:1") == kept
    for mode in (0o604, 0o640, 0o666):
        file.path.chmod(mode)
        with pytest.raises(ValueError, match="chmod 600"):
            file.read("http://127.0.0.1:1")
        with pytest.raises(ValueError, match="chmod 600"):
            file.keep("http://127.0.0.1:1", kept)
    file.path.chmod(0o600)
    if os.geteuid() == 0:
        os.chown(file.path, 12345, 12345)
        with pytest.raises(ValueError, match=r"another user \(uid 12345\)"):
            file.read("http://127.0.0.1:1")
    assert "dgw_session_x" not in repr(kept)
