"""Pipes through which the kernel moves bulk from socket to socket: how many there may be, and what
happens when there are no more.

The kernel lets an unprivileged user hold fs.pipe-user-pages-soft pages in pipes, 64 MiB by default,
which is 64 pipes of 1 MiB over all of the user's processes. So pipes are leased while a flow is
bulk, and a flow that gets none copies instead.
"""

from __future__ import annotations

import fcntl
import os

PIPE_BYTES = 1024 * 1024  # measured: pipes of 64 KiB cost 2.8 times the CPU
KEPT_PIPES = 8  # empty pipes that stay open; more are closed when they come back

Pipe = tuple[int, int]  # its reading and its writing end


class PipePool:
    """Leases pipes, at most so many at a time."""

    __slots__ = ("_most", "_spare", "leased", "refused")

    def __init__(self, most: int) -> None:
        self._most = most
        self._spare: list[Pipe] = []
        self.leased = 0
        self.refused = 0  # leases that could not be had, since the start

    def lease(self) -> Pipe | None:
        """Return a pipe that is empty, None if none is to be had."""
        if self._spare:
            self.leased += 1
            return self._spare.pop()
        made = _make() if self.leased < self._most else None
        if made is None:
            self.refused += 1
        else:
            self.leased += 1
        return made

    def give_back(self, pipe: Pipe, *, empty: bool) -> None:
        """Take a pipe back; one that still holds bytes is of no use to anybody."""
        self.leased -= 1
        if empty and len(self._spare) < KEPT_PIPES:
            self._spare.append(pipe)
        else:
            _close(pipe)

    def close(self) -> None:
        """Close what is spare."""
        while self._spare:
            _close(self._spare.pop())


def _make() -> Pipe | None:
    try:
        pipe = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:  # no descriptors
        return None
    try:
        size = fcntl.fcntl(pipe[1], fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    except OSError:  # EPERM: the user's share is used up, or /proc/sys/fs/pipe-max-size is smaller
        size = 0
    if size < PIPE_BYTES:
        _close(pipe)
        return None
    return pipe


def _close(pipe: Pipe) -> None:
    os.close(pipe[0])
    os.close(pipe[1])
