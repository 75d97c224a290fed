"""What others could read is taken for no secret, and what they could change decides nothing."""

from __future__ import annotations

import logging
import os
import pathlib
from collections.abc import Callable

import pytest
from click.testing import CliRunner

from gateway import configfile
from gateway.__main__ import main
from gateway.authenticators import password
from gateway.authenticators.contract import Credentials
from gateway.configfile import ConfigurationError
from gateway.custody import directory_problem, file_problem
from gateway.proxy.http.access import KEY_BYTES, session_key
from gateway.server.boot.edge_token import edge_token
from gateway.server.security import tokens
from gateway.server.security.secrets import Keyring
from gateway.wire import basic_credentials

STRANGER = 4711


def made(path: pathlib.Path, mode: int, content: bytes = b"x") -> pathlib.Path:
    """Return a file of a mode."""
    path.write_bytes(content)
    path.chmod(mode)
    return path


def give_away(path: pathlib.Path) -> None:
    """Give a file to somebody else."""
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    os.chown(path, STRANGER, STRANGER)


@pytest.mark.parametrize(
    ("mode", "secret", "plain"),
    [
        (0o600, "", ""),
        (0o400, "", ""),
        (0o644, "read", ""),
        (0o604, "read", ""),
        (0o660, "change", "change"),
        (0o606, "change", "change"),
    ],
)
def test_a_files_mode(tmp_path: pathlib.Path, mode: int, secret: str, plain: str) -> None:
    path = made(tmp_path / "file", mode)
    assert secret in file_problem(path, secret=True)
    assert bool(file_problem(path, secret=True)) is bool(secret)
    assert plain in file_problem(path, secret=False)
    assert bool(file_problem(path, secret=False)) is bool(plain)


def test_a_group_may_read_what_is_roots(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with keys in /etc/ssl/private, which programs share."""
    path = made(tmp_path / "key.pem", 0o640)
    if path.stat().st_uid == 0:
        assert file_problem(path, secret=True) == ""
        os.chown(path, STRANGER, STRANGER)
        monkeypatch.setattr(os, "geteuid", lambda: STRANGER)
    assert "others can read it (mode 640); chmod 600 it" in file_problem(path, secret=True)


def test_a_file_of_somebody_else(tmp_path: pathlib.Path) -> None:
    path = made(tmp_path / "file", 0o600)
    give_away(path)
    assert f"number {STRANGER}, who can change it" in file_problem(path, secret=False)
    assert file_problem(tmp_path / "none", secret=True) == ""


def test_a_directory_is_ours_alone(tmp_path: pathlib.Path) -> None:
    place = tmp_path / "state"
    assert directory_problem(place) == ""  # it will be made
    place.mkdir(mode=0o700)
    assert directory_problem(place) == ""
    for mode in (0o755, 0o710, 0o701, 0o777):
        place.chmod(mode)
        assert f"others can enter it (mode {mode:o}); chmod 700 it" in directory_problem(place)
    place.chmod(0o700)
    give_away(place)
    assert f"number {STRANGER}" in directory_problem(place)
    assert "no directory" in directory_problem(made(tmp_path / "file", 0o600))


@pytest.mark.parametrize("exists", [True, False])
def test_nobody_else_can_put_another_directory_in_its_place(
    tmp_path: pathlib.Path, exists: bool
) -> None:
    above = tmp_path / "above"
    place = above / "state"
    above.mkdir()
    if exists:
        place.mkdir(mode=0o700)
    # a sticky one, such as /tmp, lets nobody
    for mode, wrong in ((0o755, False), (0o1777, False), (0o777, True), (0o775, True)):
        above.chmod(mode)
        assert bool(directory_problem(place)) is wrong
    above.chmod(0o755)
    link = tmp_path / "link"
    link.symlink_to(above)
    assert directory_problem(link / "state") == ""
    above.chmod(0o777)
    assert str(above) in directory_problem(link / "state")  # what counts is where it leads
    above.chmod(0o755)
    give_away(above)
    assert "could put another one in its place" in directory_problem(place)


def test_a_configuration_file_that_others_can_change_is_not_run(tmp_path: pathlib.Path) -> None:
    path = made(tmp_path / "daskgateway_config.py", 0o664, b"raise SystemExit('it was run')")
    with pytest.raises(ConfigurationError, match="others can change it"):
        configfile.load(str(path))
    path.chmod(0o644)
    give_away(path)
    with pytest.raises(ConfigurationError, match="who can change it"):
        configfile.load(str(path))


def test_secrets_in_a_configuration_file_that_others_can_read_are_told(
    tmp_path: pathlib.Path,
) -> None:
    text = f"c = get_config()\nc.DaskGateway.state_dir = {str(tmp_path / 'state')!r}\n"
    text += "c.DaskGateway.address = c.Proxy.address = '127.0.0.1:0'\n"
    users = made(tmp_path / "users", 0o600, f"alice:{password.hash_password('one')}".encode())
    text += f"c.PasswordAuthenticator.users_file = {str(users)!r}\n"
    path = made(tmp_path / "own_config.py", 0o644, text.encode())
    done = CliRunner().invoke(main, ["check-config", "-f", str(path)])
    # there is no secret in it
    assert (done.exit_code, "own_config.py" in done.output) == (0, False)
    path.write_text(
        text + f"c.PasswordAuthenticator.users = {{'alice':"
        f" {password.hash_password('one')!r}}}\nc.DaskGateway.max_token_ttl_s = 60\n"
    )
    done = CliRunner().invoke(main, ["check-config", "-f", str(path)])
    assert (
        f"note: {path}: others can read it (mode 644); chmod 600 it, or put"
        f" c.PasswordAuthenticator.users elsewhere" in done.output
    )
    path.chmod(0o600)
    done = CliRunner().invoke(main, ["check-config", "-f", str(path)])
    assert (done.exit_code, "own_config.py" in done.output) == (0, False)


LOOSE: dict[str, Callable[[pathlib.Path], list[str]]] = {
    "c.DaskGateway.state_dir: {}/state: others can enter it": lambda place: [
        str((place / "state").chmod(0o755) or "")
    ],
    "c.DaskGateway.state_dir: {}/state/encryption.key": lambda place: [
        str(made(place / "state" / "encryption.key", 0o644) and "")
    ],
    "c.DaskGateway.state_dir: {}/state/edge.token": lambda place: [
        str(made(place / "state" / "edge.token", 0o640 | 0o004) and "")
    ],
    "c.DaskGateway.database: {}/state/gateway.db:": lambda place: [
        str(made(place / "state" / "gateway.db", 0o644) and "")
    ],
    "c.DaskGateway.database: {}/state/gateway.db-wal": lambda place: [
        str(made(place / "state" / "gateway.db-wal", 0o666) and "")
    ],
    "c.DaskGateway.database: {}/other.db": lambda place: [
        f"--DaskGateway.database=sqlite:///{made(place / 'other.db', 0o644)}"
    ],
    "c.Proxy.tls_key: {}/key.pem": lambda place: [
        f"--Proxy.tls_key={made(place / 'key.pem', 0o644)}",
        "--Proxy.tls_cert=c",
    ],
    "c.DaskGateway.tls_key: {}/key.pem": lambda place: [
        f"--DaskGateway.tls_key={made(place / 'key.pem', 0o644)}",
        "--DaskGateway.tls_cert=c",
    ],
    "c.Proxy.tls_cert: {}/cert.pem": lambda place: [
        f"--Proxy.tls_cert={made(place / 'cert.pem', 0o666)}",
        "--Proxy.tls_key=k",
    ],
    "c.PasswordAuthenticator.users_file: {}/users": lambda place: [
        f"--PasswordAuthenticator.users_file={made(place / 'users', 0o644)}"
    ],
}


@pytest.mark.parametrize("words", LOOSE)
def test_check_config_and_the_start_say_what_others_could_read_or_change(
    tmp_path: pathlib.Path, words: str
) -> None:
    (tmp_path / "state").mkdir(mode=0o700)
    settings = [f"--DaskGateway.state_dir={tmp_path}/state", "--DaskGateway.start_proxy=False"]
    given = [word for word in LOOSE[words](tmp_path) if word.startswith("--")]
    for command in ("check-config", "serve"):
        done = CliRunner().invoke(main, [command, *settings, *given])
        assert done.exit_code == 2, done.output
        assert words.format(tmp_path) in done.output
        assert "chmod" in done.output


def test_keys_and_tokens_that_others_can_read_are_none(tmp_path: pathlib.Path) -> None:
    key, token, session = (
        tmp_path / "encryption.key",
        tmp_path / "edge.token",
        tmp_path / "session.key",
    )
    Keyring.load(key)
    assert tokens.parse(edge_token(token)) is not None
    assert len(session_key(session)) == KEY_BYTES
    for path, load in ((key, Keyring.load), (token, edge_token), (session, session_key)):
        load(path)
        path.chmod(0o644)
        with pytest.raises(ConfigurationError, match="others can read it"):
            load(path)
        path.chmod(0o600)
        give_away(path)
        with pytest.raises(ConfigurationError, match="who can change it"):
            load(path)


async def test_a_users_file_that_becomes_others_to_read_or_change_is_not_read_again(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = made(tmp_path / "users", 0o600, f"alice:{password.hash_password('one')}\n".encode())
    authenticator = password.PasswordAuthenticator(users_file=str(path), cache_ttl_s=0.0)
    await authenticator.open()

    async def lets_in(user: str) -> bool:
        value = basic_credentials(user, "one").removeprefix("Basic ")
        return await authenticator.authenticate(Credentials("basic", value, "")) is not None

    assert await lets_in("alice")
    path.chmod(0o666)
    path.write_text(f"mallory:{password.hash_password('one')}\n")
    for _ in range(3):
        assert not await lets_in("mallory")
        assert await lets_in("alice")  # what it held before goes on
    told = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(told) == 1
    assert "others can change it (mode 666); chmod 600 it" in told[0]
    path.chmod(0o600)
    assert await lets_in("mallory")
    assert not await lets_in("alice")
    await authenticator.close()
    path.chmod(0o644)
    with pytest.raises(
        ConfigurationError, match=r"c\.PasswordAuthenticator\.users_file: .*others can read it"
    ):
        await password.PasswordAuthenticator(users_file=str(path)).open()
