"""What the server tells an edge that it starts: the words of its command line, and directories that it may enter whatever lies above them.

They go over a Unix socket of the two. A directory is passed as an open descriptor, and found below /proc/self/fd: so its path may be of any
length, lead through what is closed to the edge's account, or be moved by others, and it is still that directory.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Sequence

FIRST_FD = 200  # of directories in the edge; beyond what is open in a process that has just begun
MOST_DIRECTORIES = 8
MAX_BYTES = 4 * 2**20


def place(index: int) -> str:
    """Return the path by which the edge finds the directory of this index."""
    return f"/proc/self/fd/{FIRST_FD + index}"


def send(channel: socket.socket, words: Sequence[str], directories: Sequence[int]) -> None:
    """Tell the edge, and say nothing more. OSError if it is gone."""
    content = json.dumps(list(words)).encode()
    socket.send_fds(channel, [content[:1]], directories)
    channel.sendall(content[1:])
    channel.shutdown(socket.SHUT_WR)


def receive(descriptor: int) -> list[str] | None:
    """Wait for the words, with the directories in their places; None if the server has ended, or needs no edge."""
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
        words = json.loads(content)
    except ValueError:
        return None
    return [str(word) for word in words] if isinstance(words, list) else None
