"""The certificate that browsers and HTTP clients see: read at the start, and again when its files change."""

from __future__ import annotations

import asyncio
import logging
import os
import ssl

from gateway.configfile import ConfigurationError

logger = logging.getLogger(__name__)

CHECK_S = 5.0


class ServedCertificate:
    """A certificate with its key, as the files hold them; none if no files are named."""

    def __init__(self, certificate: str, key: str) -> None:
        self._certificate, self._key = certificate, key
        self._stamp: tuple[int, int] = (0, 0)
        self.context: ssl.SSLContext | None = None  # None: HTTP in clear text

    @property
    def secure(self) -> bool:
        """Whether TLS is spoken."""
        return self.context is not None

    def load(self) -> None:
        """Read the files; ConfigurationError if they cannot be used."""
        if not self._certificate:
            return
        stamp = (os.stat(self._certificate).st_mtime_ns, os.stat(self._key).st_mtime_ns) if self._readable() else (0, 0)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        try:
            context.load_cert_chain(self._certificate, self._key)
        except (OSError, ssl.SSLError) as error:
            raise ConfigurationError(f"c.Proxy.tls_cert, tls_key: {error}") from None
        self.context, self._stamp = context, stamp

    def _readable(self) -> bool:
        return os.path.exists(self._certificate) and os.path.exists(self._key)

    async def follow(self) -> None:
        """Take up a new certificate when the files change; a broken one is logged and the old one stays."""
        while True:
            await asyncio.sleep(CHECK_S)
            if not self._readable():
                continue
            stamp = (os.stat(self._certificate).st_mtime_ns, os.stat(self._key).st_mtime_ns)
            if stamp != self._stamp:
                try:
                    self.load()
                    logger.info("the certificate was read again")
                except ConfigurationError as error:
                    self._stamp = stamp
                    logger.error("%s; the old one stays", error)
