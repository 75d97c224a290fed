"""What the server tells an edge that it starts: its settings, as whom to run, and directories to
enter whatever lies above them.

They go over a Unix socket of the two. A directory is passed as an open descriptor, and found below
/proc/self/fd: so its path may be of any length, lead through what is closed to the edge's account,
or be moved by others, and it is still that directory.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Sequence
from dataclasses import asdict, dataclass

FIRST_FD = 200  # of directories in the edge; beyond what is open in a process that has just begun
MOST_DIRECTORIES = 8
MAX_BYTES = 4 * 2**20


def place(index: int) -> str:
    """Return the path by which the edge finds the directory of this index."""
    return f"/proc/self/fd/{FIRST_FD + index}"


@dataclass(frozen=True, slots=True)
class Orders:
    """What an edge is told."""

    words: tuple[str, ...]  # settings such as --Proxy.trait=value
    # uid, gid, and whether ports below 1024 are bound; None: as whom it was started
    run_as: tuple[int, int, bool] | None = None


def send(channel: socket.socket, orders: Orders, directories: Sequence[int]) -> None:
    """Tell the edge, and say nothing more. OSError if it is gone."""
    content = json.dumps(asdict(orders)).encode()
    socket.send_fds(channel, [content[:1]], directories)
    channel.sendall(content[1:])
    channel.shutdown(socket.SHUT_WR)


def receive(descriptor: int) -> Orders | None:
    """Wait for the orders, with the directories in their places; None if the server has ended, or
    needs no edge."""
    with socket.socket(fileno=descriptor) as channel:
        content, found, _, _ = socket.recv_fds(channel, 1, MOST_DIRECTORIES)
        for index, directory in enumerate(found):
            os.dup2(directory, FIRST_FD + index, inheritable=False)
            os.close(directory)
        while piece := channel.recv(65536):
            content += piece
            if len(content) > MAX_BYTES:
                return None
    try:
        told = json.loads(content)
        account = told["run_as"]
        return Orders(
            tuple(map(str, told["words"])),
            None if account is None else (int(account[0]), int(account[1]), bool(account[2])),
        )
    except (ValueError, KeyError, TypeError, IndexError):  # cut short: the server died
        return None
