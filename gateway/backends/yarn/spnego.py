"""Who the gateway is to Hadoop's web services that ask for Kerberos (SPNEGO, RFC 4559): a token for
a question, after which Hadoop's cookie does."""

from __future__ import annotations

import asyncio
import base64
import importlib
from typing import Any

from gateway.backends.contract import BackendUnavailable

SCHEME = "Negotiate"
SPNEGO = "1.3.6.1.5.5.2"


class SignIn:
    """By a keytab or, without one, by the ticket cache that the environment names."""

    def __init__(self, principal: str, keytab: str, timeout_s: float) -> None:
        self._principal, self._keytab, self._timeout_s = principal, keytab, timeout_s

    async def header(self, host: str) -> str:
        """Return a header `Authorization` for a host. BackendUnavailable with what is wrong."""
        try:
            # a KDC that hangs holds up a thread, for half a minute, and nobody else
            async with asyncio.timeout(self._timeout_s):
                token = await asyncio.to_thread(self._token, host)
        except TimeoutError:
            raise BackendUnavailable(
                f"Kerberos: no ticket for HTTP/{host} within {self._timeout_s:g} s"
            ) from None
        return f"{SCHEME} {base64.b64encode(token).decode()}"

    def _token(self, host: str) -> bytes:
        try:
            gssapi: Any = importlib.import_module("gssapi")
        except ImportError:
            raise BackendUnavailable(
                f"HTTP/{host} asks for Kerberos, and gssapi is not installed: pip install"
                f" 'dask-gateway-grpc[kerberos]'"
            ) from None
        try:
            store = {
                "client_keytab": f"FILE:{self._keytab}",
                # else the ticket would take the place of another's
                "ccache": f"MEMORY:daskgateway-yarn-{self._principal}",
            }
            name = (
                gssapi.Name(self._principal, gssapi.NameType.kerberos_principal)
                if self._principal
                else None
            )
            own = gssapi.Credentials(
                name=name, usage="initiate", store=store if self._keytab else None
            )
            context = gssapi.SecurityContext(
                name=gssapi.Name(f"HTTP@{host}", gssapi.NameType.hostbased_service),
                creds=own,
                mech=gssapi.OID.from_int_seq(SPNEGO),
                usage="initiate",
            )
            return context.step() or b""
        except gssapi.exceptions.GSSError as error:
            said = " ".join(str(error).split())
            raise BackendUnavailable(f"Kerberos: no ticket for HTTP/{host}: {said}") from None


def asks(status: int, challenge: str) -> bool:
    """Whether an answer asks for Kerberos."""
    return status == 401 and any(
        one.strip().partition(" ")[0].lower() == SCHEME.lower() for one in challenge.split(",")
    )
