"""Who somebody is, by a Kerberos ticket: SPNEGO (RFC 4178) in `authorization: Negotiate` (RFC
4559), judged with the keys of a keytab. No KDC is asked.

A token is good once. The library's replay cache sees to that on one host, and what is written down
in the database (`once`) for all servers of it. Only the mechanism Kerberos V5 is taken, only for
the service that the gateway is, and only what is complete after one step.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import errno
import hashlib
import importlib.util
import logging
import os
import pathlib
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from traitlets import Dict, Float, List, Set, Unicode

from gateway.authenticators import keytab as keytabs
from gateway.authenticators.contract import (
    Authenticator,
    AuthenticatorUnavailable,
    Credentials,
    Sessions,
    SignInRefused,
)
from gateway.configfile import ConfigurationError
from gateway.custody import file_problem
from gateway.server.core.model import Principal

logger = logging.getLogger(__name__)

INSTALL = (
    "pip install 'dask-gateway-grpc[kerberos]', which needs a C compiler and the headers of MIT"
    " krb5 (Debian: libkrb5-dev; Red Hat: krb5-devel)"
)
THREADS = 4  # a sign-in takes about a millisecond, unless the replay cache's disk is slow
MAX_WAITING = 64
MAX_TOKEN = 16 * 1024  # letters, as many as an authorization header may have
KRB5 = "1.2.840.113554.1.2.2"
KRB5_ERRORS = 2529638912  # minor statuses of krb5 begin here (ERROR_TABLE_BASE_krb5)
# what is told of a token that proves nothing, by the minor status beyond that
WHY = {
    31: "it was made with another key or changed on the way; the gateway's keytab may be older"
    " than its key in the KDC",
    32: "the ticket has expired; get a new one with kinit",
    33: "the ticket is not valid yet: the gateway's clock is behind the KDC's",
    34: "it was used before: each call needs a new token",
    35: "it is for another service",
    37: "the clocks of client and gateway are more than five minutes apart",
    44: "it was made with another version of the service's key",
    45: "the gateway has no key for that service",
    144: "it is for another service",
    181: "the gateway has no key for that service",
}
# in the answer to a token that is refused, the library tells in numbers why (RFC 4120, §5.9.1)
_REASON = re.compile(rb"\xa6\x03\x02\x01(.)", re.DOTALL)
GENERIC = 60  # none of Kerberos' own, such as that the replay cache cannot be written
SYSTEM_ERRORS = tuple(
    os.strerror(number)
    for number in (errno.EACCES, errno.EDQUOT, errno.EIO, errno.ENOENT, errno.ENOSPC, errno.EROFS)
)
# a token is accepted for at most five minutes around its clock; then it is refused as too old
ONCE_S = 900.0
# DER of the object identifier of Kerberos V5, and the two bytes that begin an AP-REQ (RFC 4121)
_AP_REQ = bytes.fromhex("06092a864886f7120102020100")
_PROOF_BYTES = 64  # at the end of an AP-REQ: of the sealed authenticator, with its checksum


@dataclass(frozen=True, slots=True)
class _Accepted:
    """What a token proved."""

    name: str  # of the client: alice@EXAMPLE.ORG
    reply: bytes  # by which the server proves itself
    target: str  # of the service


class KerberosAuthenticator(Authenticator):
    """Users with Kerberos tickets."""

    schemes = ("negotiate",)
    description = "a Kerberos ticket"
    client_way = "kerberos"
    sessions = Sessions.ADVISED
    challenge = "Negotiate"
    at_a_time = 2 * THREADS

    keytab = Unicode(
        "",
        help="Keytab with the key of the service that the gateway is, such as"
        " HTTP/dask.example.org; mode 0600. Empty: the system's, such as /etc/krb5.keytab.",
    ).tag(config=True)
    service_name = Unicode(
        "HTTP", help="Name of that service, which clients ask tickets for. curl asks for HTTP."
    ).tag(config=True)
    hostnames = List(
        Unicode(),
        help="Hosts that tickets may be for, as in HTTP/dask.example.org. Empty: all hosts that the"
        " keytab has keys of.",
    ).tag(config=True)
    replay_cache = Unicode(
        "",
        help="File of tokens that were used, of this host. Empty: where the Kerberos library keeps"
        " it, such as /var/tmp. Servers of one database tell each other besides.",
    ).tag(config=True)
    admins = Set(
        Unicode(), help="Principals that may act for every user, such as alice@EXAMPLE.ORG."
    ).tag(config=True)
    groups = Dict(List(Unicode()), help="Groups by principal: Kerberos itself tells none.").tag(
        config=True
    )
    timeout_s = Float(
        10.0, min=0.1, max=60, help="Seconds that a token may take to be judged."
    ).tag(config=True)

    def problems(self) -> list[str]:
        """Return what is wrong with the keytab, with names in the settings, and with what is
        installed."""
        if importlib.util.find_spec("gssapi") is None:
            return [f"c.DaskGateway.authenticator: kerberos needs gssapi: {INSTALL}"]
        found = []
        if self.keytab:
            try:
                found += self._wrong_keytab(pathlib.Path(self.keytab))
            except (OSError, ValueError) as error:
                words = getattr(error, "strerror", None) or str(error)
                found.append(f"c.KerberosAuthenticator.keytab: {self.keytab}: {words}")
        for setting, names in (("admins", self.admins), ("groups", self.groups)):
            for name in sorted(names):
                if "@" not in name:
                    found.append(
                        f"c.KerberosAuthenticator.{setting}: {name!r} has no realm; principals are"
                        " written alice@EXAMPLE.ORG"
                    )
        if self.replay_cache and not os.path.isdir(os.path.dirname(self.replay_cache) or "."):
            found.append(
                f"c.KerberosAuthenticator.replay_cache: {self.replay_cache} is in no directory that"
                " there is"
            )
        return found

    def _wrong_keytab(self, path: pathlib.Path) -> list[str]:
        """Return what is wrong with the keytab; OSError or ValueError if it cannot be read."""
        with path.open("rb") as file:
            held = keytabs.principals(file.read(keytabs.MAX_BYTES))
        found = []
        if wrong := file_problem(path, secret=True):
            found.append(f"c.KerberosAuthenticator.keytab: {wrong}")
        ours = [one for one in held if self._is_ours(one)]
        if not ours:
            hosts = self.hostnames or ["dask.example.org"]
            wanted = ", ".join(f"{self.service_name}/{host}" for host in hosts)
            there = ", ".join(sorted(held)[:5]) or "no principal at all"
            found.append(
                f"c.KerberosAuthenticator.keytab: {path} has no key of {wanted}; it has {there}"
            )
        for realm in sorted({one.rpartition("@")[2] for one in ours}):
            if why := self.why_not(f"somebody@{realm}"):
                found.append(
                    f"c.DaskGateway.user_name: Kerberos calls users somebody@{realm}: {why}; set"
                    f" c.DaskGateway.user_name = '{{user}}@{realm}'"
                )
        return found

    def _is_ours(self, principal: str) -> bool:
        """Whether a service's principal is one that the gateway is."""
        service, slash, host = principal.rpartition("@")[0].partition("/")
        if service != self.service_name or not slash:
            return False
        return not self.hostnames or host.lower() in {one.lower() for one in self.hostnames}

    async def open(self) -> None:
        """Make ready; ConfigurationError if nobody could be let in."""
        if wrong := self.problems():
            raise ConfigurationError("\n".join(wrong))
        self._gssapi: Any = importlib.import_module("gssapi")

        class Context(self._gssapi.SecurityContext):  # type: ignore[name-defined,misc]
            """One handshake."""

        # otherwise a token that is refused is no error, but one more step
        Context.__DEFER_STEP_ERRORS__ = False
        self._context: Any = Context
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="kerberos")
        self._waiting = 0

    async def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def authenticate(self, credentials: Credentials) -> Principal | None:
        """Return who a token is from; SignInRefused says why it proves nothing."""
        token = _decoded(credentials.value)
        if credentials.scheme not in self.schemes or not token:
            return None
        if self._waiting >= MAX_WAITING:
            raise AuthenticatorUnavailable(f"{MAX_WAITING} tickets are waiting to be judged")
        self._waiting += 1
        try:
            async with asyncio.timeout(self.timeout_s):
                accepted = await asyncio.get_running_loop().run_in_executor(
                    self._threads, self._accepted, token
                )
        except TimeoutError:
            raise AuthenticatorUnavailable(
                f"a ticket could not be judged within {self.timeout_s:g} s; the disk of the replay"
                " cache may be slow"
            ) from None
        finally:
            self._waiting -= 1
        if not self._is_ours(accepted.target):
            raise SignInRefused(WHY[35])
        if not await self.once(f"kerberos:{_proof(token)}", accepted.name, ONCE_S):
            raise SignInRefused(WHY[34])
        reply = base64.b64encode(accepted.reply).decode()
        return Principal(
            accepted.name,
            accepted.name in self.admins,
            tuple(self.groups.get(accepted.name, ())),
            reply=f"Negotiate {reply}" if reply else "",
        )

    def _accepted(self, token: bytes) -> _Accepted:
        """Return what a token proves; in a thread, as the replay cache is locked and written."""
        gssapi = self._gssapi
        store = {}
        if self.keytab:
            store["keytab"] = f"FILE:{self.keytab}"
        if self.replay_cache:
            store["rcache"] = f"file2:{self.replay_cache}"
        try:
            own = gssapi.Credentials(usage="accept", store=store or None)
        except gssapi.exceptions.GSSError as error:
            logger.error("the keytab cannot be used: %s", _words(error))
            raise AuthenticatorUnavailable("the gateway's keytab cannot be used") from None
        context = self._context(creds=own, usage="accept")
        try:
            reply = context.step(token)
            if not context.complete:
                raise SignInRefused("it takes more than one step; Kerberos alone is accepted")
            if context.mech.dotted_form != KRB5:
                raise SignInRefused("it is of another mechanism; Kerberos alone is accepted")
            return _Accepted(str(context.initiator_name), reply or b"", str(context.target_name))
        except gssapi.exceptions.GSSError as error:
            raise _failure(error) from None


def _decoded(value: str) -> bytes:
    """Return a token as bytes, none if it is malformed. One that is empty would be answered with a
    hint, and prove nothing."""
    try:
        return base64.b64decode(value, validate=True) if len(value) <= MAX_TOKEN else b""
    except (binascii.Error, ValueError):
        return b""


def _failure(error: Any) -> Exception:
    """Return what a failed step means: that the token proves nothing, or that nobody can tell."""
    words = _words(error)
    told = _REASON.search(getattr(error, "token", None) or b"")
    # without SPNEGO around it the minor status is Kerberos' own
    reason = told[1][0] if told is not None else int(error.min_code) - KRB5_ERRORS
    if reason == GENERIC and any(one in words for one in SYSTEM_ERRORS):
        logger.error("no Kerberos sign-in can be judged: %s", words)
        return AuthenticatorUnavailable("the gateway's replay cache cannot be used")
    logger.info("a Kerberos sign-in is refused: %s", words)
    return SignInRefused(WHY.get(reason, "it is no Kerberos token that is valid here"))


def _words(error: Any) -> str:
    return " ".join(str(error).split())[:300]


def _proof(token: bytes) -> str:
    """Return by what a token is known again, however it is wrapped: the end of the sealed
    authenticator in it, which only who holds the ticket can make."""
    at = token.find(_AP_REQ)
    request = token[at + len(_AP_REQ) :] if at >= 0 else token
    if at >= 0 and len(request) > 4 and request[0] == 0x6E:
        octets = request[1] & 0x7F if request[1] & 0x80 else 0
        size = int.from_bytes(request[2 : 2 + octets]) if octets else request[1]
        request = request[: 2 + octets + size]
    return hashlib.sha256(request[-_PROOF_BYTES:]).hexdigest()[:40]
