"""The certificate that gRPC, browsers and HTTP clients see: read at the start, and again when its
files change."""

from __future__ import annotations

import asyncio
import logging
import os
import pathlib
import ssl

from gateway.configfile import ConfigurationError
from gateway.custody import file_problem

logger = logging.getLogger(__name__)

# between two looks at the files: within five seconds of a change, whichever way they come
CHECK_S = 1.0


class ServedCertificate:
    """A certificate with its key, as the files hold them; none if no files are named."""

    def __init__(self, certificate: str, key: str) -> None:
        self._certificate, self._key = certificate, key
        self._stamp: tuple[int, ...] = ()
        self.context: ssl.SSLContext | None = None  # None: HTTP in clear text

    @property
    def secure(self) -> bool:
        """Whether TLS is spoken."""
        return self.context is not None

    def load(self) -> None:
        """Read the files; ConfigurationError if they cannot be used."""
        if not self._certificate:
            return
        stamp = self._stamp_now()
        if wrong := file_problem(pathlib.Path(self._key), secret=True):
            raise ConfigurationError(f"c.Proxy.tls_key: {wrong}")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["h2", "http/1.1"])
        context.options |= ssl.OP_NO_RENEGOTIATION  # a client could ask for it without end
        try:
            # without a password OpenSSL would ask the terminal for one, and wait
            context.load_cert_chain(self._certificate, self._key, password="")
        except (OSError, ssl.SSLError) as error:
            raise ConfigurationError(f"c.Proxy.tls_cert, tls_key: {error}") from None
        self.context, self._stamp = context, stamp

    def reload(self) -> None:
        """Read the files again; if they cannot be used, that is logged and the old certificate
        stays."""
        if not self._certificate:
            return
        stamp = self._stamp_now()
        try:
            self.load()
            logger.info("the certificate was read again")
        except ConfigurationError as error:
            self._stamp = stamp
            logger.error("%s; the old one stays", error)

    async def follow(self) -> None:
        """Take up a new certificate whenever the files change, for ever."""
        while True:
            await asyncio.sleep(CHECK_S)
            if self._stamp_now() != self._stamp:
                self.reload()

    def _stamp_now(self) -> tuple[int, ...]:
        """Return what changes when the files do; their identity too, as a link may be turned to
        files of the same age."""
        try:
            found = [os.stat(path) for path in (self._certificate, self._key)]
        except OSError:
            return ()
        return tuple(
            part
            for stat in found
            for part in (stat.st_ino, stat.st_mtime_ns, stat.st_size, stat.st_mode, stat.st_uid)
        )
