"""The search finds a secret that was planted: in every place, in every spelling."""

from __future__ import annotations

import base64
import contextlib
import os
import pathlib
import secrets
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from urllib.parse import quote

import pytest

from tests.canary import searching

SECRET = "a b/c+d=%é" + secrets.token_urlsafe(24)
WRITTEN: list[Callable[[str], str]] = [
    str,
    lambda text: quote(text, safe=""),
    lambda text: text.encode().hex(),
    lambda text: text.encode().hex().upper(),
    lambda text: base64.b64encode(text.encode()).decode(),
    lambda text: base64.urlsafe_b64encode(text.encode()).decode(),
    lambda text: base64.b64encode(f"alice:{text}".encode()).decode(),
    lambda text: base64.b64encode(f"bob:{text} and more".encode()).decode(),
    lambda text: base64.b64encode(f"carol{text}!".encode()).decode(),
    repr,
    ascii,
]


@pytest.mark.parametrize("number", range(len(WRITTEN)))
def test_a_planted_secret_is_found_in_every_spelling_and_not_told(number: int) -> None:
    content = f"a line with {WRITTEN[number](SECRET)} in it\n".encode()
    told = searching.found_in({"the token": SECRET}, {"a log": content, "another": b"nothing"})
    assert told, WRITTEN[number](SECRET)
    assert all(one.startswith("the token stands in a log") for one in told)
    assert not any(SECRET in one for one in told)
    assert searching.found_in({"the token": SECRET[::-1]}, {"a log": content}) == []


def test_a_planted_secret_is_found_in_every_place(tmp_path: pathlib.Path) -> None:
    secret = secrets.token_hex(16)
    (tmp_path / "deep").mkdir()
    for name, mode in (("server.log", 0o600), ("deep/script", 0o644), ("deep/key.pem", 0o600)):
        (tmp_path / name).write_text(f"# {secret}\n")
        (tmp_path / name).chmod(mode)
    path = tmp_path / "gateway.db"
    words = [sys.executable, "-c", "input()", secret]
    with contextlib.closing(sqlite3.connect(path)) as opened, searching.command_lines() as lines:
        opened.execute("PRAGMA journal_mode=WAL")
        opened.execute("CREATE TABLE one (text)")
        opened.execute("INSERT INTO one VALUES (?)", (secret,))
        opened.commit()
        child = subprocess.Popen(
            words, stdin=subprocess.PIPE, env={**os.environ, "A_TOKEN": secret}
        )
        try:
            places = {
                **searching.files(tmp_path, ["*.log"]),
                **searching.open_files(tmp_path),
                **searching.database(path),
                **searching.environments([child.pid]),
                **lines.seen,
            }
            told = "\n".join(searching.found_in({"it": secret}, places))
        finally:
            child.communicate()
    for place in (
        "the file server.log",
        "the file deep/script, which all may read",
        "the database's gateway.db-wal",
        "the database's dump",
        f"the environment of {child.pid}",
        "a command line",
    ):
        assert f"it stands in {place} (raw)" in told, told
    assert "key.pem" not in told


def test_what_is_so_short_that_it_is_found_by_chance_is_no_secret_to_search_for() -> None:
    with pytest.raises(AssertionError, match="by chance"):
        searching.spellings("short")
