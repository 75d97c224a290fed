"""Small files that one run leaves to the next: where they are, read with doubt, written whole or
not at all.

Shared by server, edge and backends. What such a file holds may be broken, cut short, or of another
version; that ends nobody's start.
"""

from __future__ import annotations

import os
import pathlib

MAX_BYTES = 64 * 1024


def default_state_dir() -> pathlib.Path:
    """Return where a gateway keeps what it keeps, unless it is told otherwise: /var/lib/daskgateway
    for root, else a directory of the user (XDG Base Directory Specification)."""
    if os.geteuid() == 0:
        return pathlib.Path("/var/lib/daskgateway")
    base = os.environ.get("XDG_STATE_HOME") or pathlib.Path.home() / ".local" / "state"
    return pathlib.Path(base) / "daskgateway"


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


def write_kept(
    path: pathlib.Path,
    content: bytes,
    mode: int = 0o600,
    owner: tuple[int, int] | None = None,
) -> None:
    """Write a file that others cannot read, whole or not at all, and safe on disk when this
    returns. OSError if that cannot be.

    `owner`: uid and gid that it is given to; without, it is this process's own. Nobody sees it
    with another mode or owner, nor half of it.
    """
    scratch = path.with_name(f"{path.name}.{os.getpid()}.new")  # processes may share the file
    scratch.unlink(missing_ok=True)
    try:
        descriptor = os.open(
            scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
        )
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(descriptor, mode)
            if owner is not None:
                os.fchown(descriptor, *owner)
            os.fsync(descriptor)
        scratch.replace(path)
        _sync_directory(path.parent)
    except OSError:
        scratch.unlink(missing_ok=True)
        raise


def _sync_directory(path: pathlib.Path) -> None:
    """Have the names in a directory on disk: until then a crash may bring the old file back."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
