"""How the gateway itself writes and reads files where users may write too: never through a link, and never what does not end."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping

from gateway.backends.as_user import PIECE_BYTES, open_plain, put_files


def write_files(directory: pathlib.Path, files: Mapping[str, bytes]) -> None:
    """Make a directory of mode 0700 with files of mode 0600; a file that is there already is replaced."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    at = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        put_files(at, files)
    finally:
        os.close(at)


def read_piece(path: str, offset: int, owner: int | None = None) -> bytes:
    """Return at most PIECE_BYTES of a file; nothing if it is not there, or is not to be read (`open_plain`)."""
    try:
        with open_plain(path, owner) as file:
            file.seek(offset)
            return file.read(PIECE_BYTES)
    except OSError:
        return b""
