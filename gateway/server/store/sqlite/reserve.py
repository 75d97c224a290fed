"""Space on disk that is the database's own already: whoever fills the disk, what ends can still be
recorded.

Within the file it is free pages, which SQLite fills before the file grows. Its log and the log's
index get blocks beyond their ends (fallocate(2), FALLOC_FL_KEEP_SIZE), where nobody else can take
them. A file of its own, deleted when the disk is full, would be taken by whoever filled it. On file
systems that write nothing in place (btrfs, ZFS) none of it helps.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import pathlib
from collections.abc import Awaitable, Callable

logger = logging.getLogger(__name__)

KEEP_SIZE = 1  # FALLOC_FL_KEEP_SIZE
LOG_SHARE = 0.25  # of the space; what is in the log is moved into the file when it is 4 MiB
INDEX_BYTES = 1024 * 1024  # of the log's index: 32 KiB for each 16 MiB of it
CHUNK_BYTES = 2 * 1024 * 1024  # written in one transaction, with others between

_libc = ctypes.CDLL(None, use_errno=True)
_fallocate = getattr(_libc, "fallocate64", None) or getattr(_libc, "fallocate", None)


class Reserve:
    """The space of one database beside its file: of the log and its index."""

    def __init__(self, size_bytes: int) -> None:
        self._size_bytes, self._told = int(size_bytes * LOG_SHARE), ""

    def hold(self, log: pathlib.Path, index: int) -> None:
        """Hold it; that it cannot be held is logged once."""
        if not self._size_bytes:
            return
        try:
            allocate(index, INDEX_BYTES)
            descriptor = os.open(log, os.O_RDWR | os.O_CLOEXEC)
            try:
                allocate(descriptor, self._size_bytes)
            finally:
                os.close(descriptor)  # SQLite locks nothing in it
        except OSError as error:
            if self._told != str(error):
                logger.warning(
                    "no space is reserved for the log of the database"
                    " (c.DaskGateway.disk_reserve_bytes): %s; when the disk is full nothing"
                    " can be stored, not even what ends",
                    error.strerror,
                )
            self._told = str(error)
        else:
            self._told = ""


def allocate(descriptor: int, size_bytes: int) -> None:
    """Give blocks to the first so many bytes of a file, whose size stays as it is. OSError if there
    are none, or it is not supported."""
    if _fallocate is None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
    if _fallocate(descriptor, KEEP_SIZE, ctypes.c_int64(0), ctypes.c_int64(size_bytes)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


async def spare(
    size_bytes: int,
    spare_bytes: Callable[[], Awaitable[int]],
    put: Callable[[str, bytes], Awaitable[None]],
) -> None:
    """See that the file has free pages, if it has less than half of those wished: values are put
    there, then taken away again.

    What they are made of cannot be compressed: free pages must be on the disk.
    """
    wanted = int(size_bytes * (1 - LOG_SHARE))
    missing = wanted - await spare_bytes()
    if missing <= wanted / 2:
        return
    keys = [f"reserve-{number}" for number in range(-(-missing // CHUNK_BYTES))]
    for key in keys:
        await put(key, os.urandom(CHUNK_BYTES))
    for key in keys:
        await put(key, b"")
