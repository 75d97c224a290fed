"""A real impostor: it takes a port that the server has left, plays the server as well as anybody
can, and records what it is told."""

from __future__ import annotations

import contextlib
import pathlib
import socket
import ssl
import threading

from gateway.server.security.authority import Authority
from gateway.server.security.listener_certificate import OwnCertificate
from tests.security.test_listener import now_ms

# an empty SETTINGS frame: what an HTTP/2 server says first (RFC 9113, 3.4)
SETTINGS = b"\0\0\0\x04\0\0\0\0\0"
TLS_RECORD = b"\x16"


class Impostor:
    """On one port: HTTP/2 in clear text, and TLS with a certificate of the right names, signed by
    an authority of the right name."""

    def __init__(self, port: int, directory: pathlib.Path, host: str = "127.0.0.1") -> None:
        directory.mkdir()
        shown = OwnCertificate(Authority.load(directory), [], now_ms).shown()
        (directory / "both.pem").write_bytes(shown.certificate + shown.key)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(directory / "both.pem")
        self._context.set_alpn_protocols(["h2"])
        self.port, self.connections = port, 0
        self.refused = 0  # TLS handshakes that callers gave up, not knowing our authority
        self.heard = b""  # in clear text, or out of TLS
        self._listening = socket.create_server((host, port))
        self._open: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Leave the port, and everybody."""
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for made in list(self._open):
            with contextlib.suppress(OSError):
                made.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                made, _ = self._listening.accept()
            except OSError:
                return
            self.connections += 1
            self._open.add(made)
            threading.Thread(target=self._listen_to, args=(made,), daemon=True).start()

    def _listen_to(self, made: socket.socket) -> None:
        try:
            with made:
                made.settimeout(30)
                if made.recv(1, socket.MSG_PEEK) == TLS_RECORD:
                    with self._context.wrap_socket(made, server_side=True) as secure:
                        self._record(secure)
                else:
                    self._record(made)
        except ssl.SSLError:
            self.refused += 1
        except OSError:
            pass
        finally:
            self._open.discard(made)

    def _record(self, made: socket.socket) -> None:
        made.sendall(SETTINGS)
        while piece := made.recv(65536):
            self.heard += piece
