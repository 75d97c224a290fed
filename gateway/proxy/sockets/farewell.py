"""The last words to a connection that is not served."""

from __future__ import annotations

import socket
from socket import SocketType

LINGER_BYTES = 64 * 1024


def refuse(newcomer: SocketType, words: bytes) -> None:
    """Say why and close. What was received is read first: closing over unread bytes would reset the
    connection and lose the words."""
    try:
        newcomer.recv(LINGER_BYTES, socket.MSG_DONTWAIT)
        newcomer.send(words, socket.MSG_DONTWAIT)
        newcomer.shutdown(socket.SHUT_WR)
    except OSError:
        pass
    newcomer.close()
