"""Small files of an earlier run, broken in every way: nobody's start ends by them."""

from __future__ import annotations

import base64
import json
import os
import pathlib
from collections.abc import Callable

import pytest

from gateway import files as keptfile
from gateway.backends.batch import kept
from gateway.configfile import ConfigurationError
from gateway.proxy.http.access import session_key
from gateway.proxy.routes import route_file
from gateway.proxy.routes.route_file import KeptRoute
from gateway.proxy.routes.routes import RouteTable
from gateway.server.boot.edge_token import edge_token
from gateway.server.boot.kept_port import keep_port, kept_port
from gateway.server.security.secrets import Keyring

KEY = base64.b64encode(b"k" * 32).decode()
GOOD = ["c" + "a" * 20, "alice", "etl", ["127.0.0.1", 8786], None]


def link(path: pathlib.Path) -> None:
    """Lead somewhere else."""
    path.symlink_to("/etc/hostname")


BROKEN: dict[str, Callable[[pathlib.Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "cut short": lambda path: path.write_bytes(b'{"ticket_keys": [], "rou'),
    "binary": lambda path: path.write_bytes(bytes(range(256))),
    "nested": lambda path: path.write_bytes(b"[" * 50_000),
    "no object": lambda path: path.write_bytes(b"[1, 2]"),
    "digits": lambda path: path.write_bytes(b"9" * 6000),  # more than int() reads
    "other digits": lambda path: path.write_text("²³"),
    "out of range": lambda path: path.write_text("65536"),
    "huge": lambda path: path.write_bytes(b"1" * (keptfile.MAX_BYTES + 1)),
    "a link": link,
    "a directory": lambda path: path.mkdir(),
    "a pipe": lambda path: os.mkfifo(path),
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_port_is_none(tmp_path: pathlib.Path, how: str) -> None:
    path = tmp_path / "listener.port"
    BROKEN[how](path)
    assert kept_port(path) == 0
    keep_port(path, 4711)
    assert kept_port(path) == (0 if how == "a directory" else 4711)


@pytest.mark.parametrize("how", BROKEN)
def test_broken_routes_are_passed_over(tmp_path: pathlib.Path, how: str) -> None:
    path = tmp_path / "routes.json"
    BROKEN[how](path)
    table = RouteTable(path)
    table.load()
    assert len(table) == 0
    assert table.ticket_keys == ()


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_key_of_sessions_is_replaced_or_told(tmp_path: pathlib.Path, how: str) -> None:
    path = tmp_path / "session.key"
    BROKEN[how](path)
    if how in ("a directory", "a link", "huge"):
        with pytest.raises(ConfigurationError, match=r"c\.Proxy\.state_dir: .*session\.key"):
            session_key(path)
    else:
        assert session_key(path) == session_key(path)
        assert path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_token_is_replaced_or_told(tmp_path: pathlib.Path, how: str) -> None:
    path = tmp_path / "edge.token"
    BROKEN[how](path)
    if how in ("a directory", "a link", "huge"):
        with pytest.raises(ConfigurationError, match=r"c\.DaskGateway\.state_dir: .*edge\.token"):
            edge_token(path)
    else:
        assert edge_token(path) == edge_token(path)
        assert path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        7,
        [],
        GOOD[:4],
        [*GOOD, 1],
        [7, *GOOD[1:]],
        ["", *GOOD[1:]],
        [GOOD[0], None, *GOOD[2:]],
        [*GOOD[:3], ["127.0.0.1", 0], None],
        [*GOOD[:3], ["127.0.0.1", 99999], None],  # connecting there raises OverflowError
        [*GOOD[:3], ["127.0.0.1", "8786"], None],
        [*GOOD[:3], ["127.0.0.1", True], None],
        [*GOOD[:3], ["", 8786], None],
        [*GOOD[:3], "127.0.0.1:8786", None],
        [*GOOD[:3], GOOD[3], ["127.0.0.1", -1]],
        [*GOOD[:3], ["x" * 256, 1], None],
    ],
)
def test_an_entry_that_cannot_be_used_is_passed_over_and_the_others_hold(wrong: object) -> None:
    kept = route_file.load(
        json.dumps(
            {"ticket_keys": [KEY, "=", 7, "AAAA"], "routes": [wrong, GOOD], "new": 1}
        ).encode()
    )
    assert kept == route_file.Kept(
        (b"k" * 32,),
        (KeptRoute("c" + "a" * 20, "alice", "etl", ("127.0.0.1", 8786), None),),
        broken=4,
    )


def test_what_is_dumped_is_loaded() -> None:
    routes = (
        KeptRoute("u", "alice", "etl", ("::1", 1), ("node7", 65535)),
        KeptRoute("v", "", "", ("127.0.0.1", 8786), None, True),
    )
    assert route_file.load(route_file.dump([b"k" * 32], routes)) == route_file.Kept(
        (b"k" * 32,), routes, 0
    )


def test_a_link_where_a_file_is_written_is_not_followed(tmp_path: pathlib.Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("kept")
    path = tmp_path / "record"
    path.symlink_to(precious)
    (tmp_path / f"record.{os.getpid()}.new").symlink_to(precious)
    keptfile.write_kept(path, b"new")
    assert precious.read_text() == "kept"
    assert path.read_text() == "new"
    assert not path.is_symlink()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["precious", "record"]


def test_a_tag_is_made_once_and_a_broken_one_is_told_with_what_to_do(
    tmp_path: pathlib.Path,
) -> None:
    made = kept.kept_tag(tmp_path / "tag")
    assert kept.kept_tag(tmp_path / "tag") == made
    for content in (b"", b"9", bytes(range(256))):
        (tmp_path / "tag").write_bytes(content)
        with pytest.raises(
            ValueError,
            match=r"/tag holds no tag.* write into it what the names of this gateway's jobs begin"
            r" with",
        ):
            kept.kept_tag(tmp_path / "tag")


def test_broken_records_of_owners_are_passed_over(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    uids = ["c" + letter * 20 for letter in "abcdef"]
    kept.keep_owner(tmp_path, uids[0], "alice")
    for uid, content in zip(uids[1:], (b"", b"\xff\xfe", b"a b", b"x" * 256)):
        (tmp_path / uid).write_bytes(content)
    (tmp_path / uids[5]).mkdir()
    (tmp_path / f"{uids[0]}.7.new").write_bytes(b"ali")  # left by a process that died
    assert kept.kept_owners(tmp_path) == {uids[0]: "alice"}
    assert len(caplog.records) == 6


def test_a_broken_encryption_key_is_told(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "encryption.key"
    for content in (b"", b"short", bytes(range(256))):
        path.write_bytes(content)
        path.chmod(0o600)
        with pytest.raises(ConfigurationError, match="the key file: keys must be 32 bytes"):
            Keyring.load(path)
