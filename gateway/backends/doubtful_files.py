"""How the gateway itself writes, reads and removes files where users may write too: never through a
link, and never what does not end."""

from __future__ import annotations

import asyncio
import functools
import os
import pathlib
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor

from gateway.backends.as_user import PIECE_BYTES, open_plain, put_files, remove_tree

# removals at a time, in threads of their own: what somebody has filled without end takes none of
# the others'
REMOVERS = 2


def write_files(directory: pathlib.Path, files: Mapping[str, bytes]) -> None:
    """Make a directory of mode 0700 with files of mode 0600; a file that is there already is
    replaced."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    at = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        put_files(at, files)
    finally:
        os.close(at)


def read_piece(path: str, offset: int, owner: int | None = None) -> bytes:
    """Return at most PIECE_BYTES of a file; nothing if it is not there, or is not to be read
    (`open_plain`)."""
    try:
        with open_plain(path, owner) as file:
            file.seek(offset)
            return file.read(PIECE_BYTES)
    except OSError:
        return b""


async def remove(path: str, owners: Collection[int] = ()) -> None:
    """Remove a directory with all in it, or a file; what is not there is no error. OSError if
    something is left.

    With owners (uids) given, no directory of anybody else's is entered: with more rights than a
    user's own, it could be emptied by it.
    """
    await asyncio.get_running_loop().run_in_executor(
        _removers(), lambda: remove_tree(path, owners=owners)
    )


@functools.cache
def _removers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(REMOVERS, thread_name_prefix="remove")
