"""Where a gateway's secrets could have got to, and whether they are there: in whatever spelling a
log, an address or a dump may have them."""

from __future__ import annotations

import base64
import contextlib
import os
import pathlib
import sqlite3
import stat
import threading
from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import quote, quote_plus

SHORTEST = 8  # letters; fewer are found anywhere by chance
LOOK_S = 0.1  # between two looks at command lines


def spellings(secret: str) -> dict[str, bytes]:
    """Return how a secret may be written down, by what that is called."""
    assert len(secret) >= SHORTEST, "what is so short is found by chance"
    raw = secret.encode()
    found = {
        "raw": raw,
        "urlencoded": quote(secret, safe="").encode(),
        "urlencoded, as forms are": quote_plus(secret).encode(),
        "urlencoded, every letter": "".join(f"%{one:02X}" for one in raw).encode(),
        "hex": raw.hex().encode(),
        "hex, in capitals": raw.hex().upper().encode(),
        "escaped": secret.encode("unicode_escape"),
    }
    for before in range(3):  # what stands before it shifts what it becomes in base64
        shifted = base64.b64encode(b"\0" * before + raw)
        # letters that other bytes have a part in are left out
        whole = shifted[-(-before * 8 // 6) : (before + len(raw)) * 8 // 6]
        found[f"base64, after {before}"] = whole
        found[f"base64url, after {before}"] = whole.translate(bytes.maketrans(b"+/", b"-_"))
    return found


def found_in(secrets: Mapping[str, str], places: Mapping[str, bytes]) -> list[str]:
    """Return where each secret is found, as a sentence that does not tell it."""
    spelt = [
        (name, how, text)
        for name, secret in secrets.items()
        for how, text in spellings(secret).items()
    ]
    return [
        f"{name} stands in {place} ({how})"
        for place, content in places.items()
        for name, how, text in spelt
        if text in content
    ]


def children(pid: int) -> list[int]:
    """Return the processes that a process has begun, such as those that ask a directory."""
    task = pathlib.Path(f"/proc/{pid}/task")
    found = []
    for one in task.iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a thread that is over
            found.append((one / "children").read_text().split())
    return [int(child) for some in found for child in some]


def within(root: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yield what is no directory below one; what goes meanwhile, as a worker's own files do, is
    passed over."""
    for folder, _, names in os.walk(root):
        yield from (pathlib.Path(folder, name) for name in names)


def files(root: pathlib.Path, names: Iterable[str]) -> dict[str, bytes]:
    """Return the content of files below a directory, by patterns of their names."""
    patterns, found = list(names), {}
    for path in within(root):
        if any(path.match(pattern) for pattern in patterns) and path.is_file():
            with contextlib.suppress(FileNotFoundError):
                found[f"the file {path.relative_to(root)}"] = path.read_bytes()
    return found


def open_files(root: pathlib.Path) -> dict[str, bytes]:
    """Return the content of files below a directory that every account may read."""
    found = {}
    for path in within(root):
        with contextlib.suppress(FileNotFoundError):
            status = path.lstat()
            if stat.S_ISREG(status.st_mode) and status.st_mode & 0o004:
                what = f"the file {path.relative_to(root)}, which all may read"
                found[what] = path.read_bytes()
    return found


def database(path: pathlib.Path) -> dict[str, bytes]:
    """Return a database's files, and what a dump of it says."""
    found = {
        f"the database's {one.name}": one.read_bytes()
        for one in sorted(path.parent.glob(f"{path.name}*"))
    }
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as opened:
        found["the database's dump"] = "\n".join(opened.iterdump()).encode()
    return found


def environments(pids: Iterable[int]) -> dict[str, bytes]:
    """Return the environments of processes."""
    found = {}
    for pid in pids:
        with contextlib.suppress(OSError):
            found[f"the environment of {pid}"] = pathlib.Path(f"/proc/{pid}/environ").read_bytes()
    return found


class CommandLines:
    """Every command line of the machine that is seen, as `ps` shows them to everybody."""

    def __init__(self) -> None:
        self._seen: set[bytes] = set()
        self._over = threading.Event()
        self._looking = threading.Thread(target=self._look, daemon=True)

    @property
    def seen(self) -> dict[str, bytes]:
        """What was seen up to now."""
        self._look_once()
        return {"a command line": b"\n".join(list(self._seen))}

    def _look(self) -> None:
        while not self._over.wait(LOOK_S):
            self._look_once()

    def _look_once(self) -> None:
        for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                self._seen.add(path.read_bytes())

    def close(self) -> None:
        """Look no more."""
        self._over.set()
        self._looking.join()


@contextlib.contextmanager
def command_lines() -> Iterator[CommandLines]:
    """Look at command lines while it lasts."""
    made = CommandLines()
    made._looking.start()
    try:
        yield made
    finally:
        made.close()
