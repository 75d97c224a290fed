"""Small files that one run leaves to the next: read with doubt, written whole or not at all.

Shared by server and edge. What such a file holds may be broken, cut short, or of another version;
that ends nobody's start.
"""

from __future__ import annotations

import os
import pathlib

MAX_BYTES = 64 * 1024


def read_kept(path: pathlib.Path, most_bytes: int = MAX_BYTES) -> bytes | None:
    """Return what a file holds, None if there is none. OSError if it cannot be read, is no plain
    file, or holds more."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        content = file.read(most_bytes + 1) or b""
    if len(content) > most_bytes:
        raise OSError(f"it holds more than {most_bytes} bytes")
    return content


def write_kept(path: pathlib.Path, content: bytes) -> None:
    """Write a file of mode 0600, whole or not at all, and safe on disk when this returns. OSError
    if that cannot be."""
    scratch = path.with_name(f"{path.name}.{os.getpid()}.new")  # processes may share the file
    scratch.unlink(missing_ok=True)
    try:
        descriptor = os.open(
            scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
        )
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    except OSError:
        scratch.unlink(missing_ok=True)
        raise
