"""Edges begin as forks of a process that has loaded everything and does nothing else: quickly, and
though it may read no program any more.

The supervisor cannot fork itself: it has an event loop, and what else does not survive that. It
asks the nursery over a socket, with the socket that ties the new edge to it; the edge becomes the
supervisor's own child, as it is the nearest that takes orphans in (prctl(2),
PR_SET_CHILD_SUBREAPER). When the socket closes the nursery ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import gc
import json
import logging
import os
import signal
import socket
from collections.abc import Callable, Mapping
from typing import NoReturn

from gateway import processes

logger = logging.getLogger(__name__)

MAX_ORDER_BYTES = 64 * 1024
ANSWER_S = 20.0
_PR_SET_CHILD_SUBREAPER = 36

Begin = Callable[[Mapping[str, object], int], int]  # settings and the tie's descriptor → exit code


class NurseryLost(OSError):
    """No edge can be begun any more."""


class Child:
    """A process that the nursery began, which is this one's child."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return the exit code if it has ended, as subprocess.Popen has it: negative for a
        signal."""
        if self.returncode is None:
            self._take(os.WNOHANG)
        return self.returncode

    def wait(self) -> int:
        """Wait for its end; return the exit code."""
        if self.returncode is None:
            self._take(0)
        assert self.returncode is not None
        return self.returncode

    def _take(self, flags: int) -> None:
        try:
            pid, status = os.waitpid(self.pid, flags)
        except ChildProcessError:  # somebody else has taken it
            self.returncode = 0
            return
        if pid == self.pid:
            self.returncode = os.waitstatus_to_exitcode(status)

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it by force."""
        self.send_signal(signal.SIGKILL)


class Nursery:
    """The supervisor's end."""

    def __init__(self, begin: Begin) -> None:
        """Fork the nursery. Nothing may run yet but this thread."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl PR_SET_CHILD_SUBREAPER")
        gc.collect()
        gc.freeze()  # what is here is shared by all edges as long as nobody writes to it
        pid = os.fork()
        if not pid:
            ours.close()
            _serve(theirs, begin)
        theirs.close()
        self._socket, self._asking = ours, asyncio.Lock()
        self._process = Child(pid)

    async def begin(self, settings: Mapping[str, object], tie: int) -> Child:
        """Begin an edge; return its process. NurseryLost if the nursery has ended, other OSErrors
        if there can be no edge now."""
        async with self._asking:
            return await asyncio.to_thread(self._ask, settings, tie)

    def _ask(self, settings: Mapping[str, object], tie: int) -> Child:
        try:
            self._socket.settimeout(ANSWER_S)
            socket.send_fds(self._socket, [json.dumps(settings).encode()], [tie])
            answer = self._socket.recv(64).decode()
        except OSError as error:  # a late answer would be taken for the next one's
            self._socket.close()
            raise NurseryLost(
                errno.EPIPE, f"the process that begins edges does not answer ({error})"
            ) from None
        if not answer:
            raise NurseryLost(errno.EPIPE, "the process that begins edges has ended")
        number = int(answer)
        if number < 0:
            raise OSError(-number, os.strerror(-number))
        return Child(number)

    async def ended(self) -> None:
        """Wait for the nursery's end, which is not its own wish."""
        await processes.ended(self._process.pid)

    def close(self) -> None:
        """Let the nursery end."""
        self._socket.close()
        self._process.wait()


def _serve(orders: socket.socket, begin: Begin) -> NoReturn:
    """Fork edges as they are asked for, until the supervisor has gone."""
    # of the group; the end comes by the socket
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    while True:
        content, ties, _, _ = socket.recv_fds(orders, MAX_ORDER_BYTES, 1)
        if not content or not ties:
            os._exit(0)
        try:
            answer = _fork_twice(orders, begin, json.loads(content), ties[0])
        except OSError as error:
            answer = -(error.errno or errno.EAGAIN)
        os.close(ties[0])
        # the supervisor has gone, which is seen at the next turn
        with contextlib.suppress(OSError):
            orders.send(str(answer).encode())


def _fork_twice(
    orders: socket.socket, begin: Begin, settings: Mapping[str, object], tie: int
) -> int:
    """Return the pid of an edge; its parent has ended by then, so that it is the supervisor's.
    OSError if there can be none."""
    reading, writing = os.pipe()
    try:
        pid = os.fork()
    except OSError:
        os.close(reading)
        os.close(writing)
        raise
    if not pid:
        os.close(reading)
        _between(orders, begin, settings, tie, writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        told = pipe.read()
    os.waitpid(pid, 0)
    number = int(told or -errno.EAGAIN)
    if number < 0:
        raise OSError(-number, os.strerror(-number))
    return number


def _between(
    orders: socket.socket, begin: Begin, settings: Mapping[str, object], tie: int, writing: int
) -> NoReturn:
    try:
        pid = os.fork()
    except OSError as error:
        os.write(writing, str(-(error.errno or errno.EAGAIN)).encode())
        os._exit(1)
    if pid:
        os.write(writing, str(pid).encode())
        os._exit(0)
    os.close(writing)
    orders.close()
    code = 70  # EX_SOFTWARE
    try:
        os.setsid()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        code = begin(settings, tie)
    except Exception:
        logger.exception("an edge failed")
    finally:
        os._exit(code)
