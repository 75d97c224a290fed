"""Signing in by a Kerberos ticket: one token for one sign-in (RFC 4559), after which a session is
used; and the gateway has to prove itself too.

gssapi is imported when it is needed, and what it does is done in a thread: a KDC that hangs would
block for half a minute, and nobody waits longer than the timeout.
"""

from __future__ import annotations

import base64
import binascii
import importlib
import importlib.util
import logging
import os
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from gateway.client.calls import errors

logger = logging.getLogger(__name__)

T = TypeVar("T")

INSTALL = (
    "Kerberos needs gssapi: pip install 'dask-gateway-grpc[kerberos]', which needs a C compiler and"
    " the headers of MIT krb5 (Debian: libkrb5-dev; Red Hat: krb5-devel); or conda install"
    " python-gssapi"
)
SPNEGO, KRB5 = "1.3.6.1.5.5.2", "1.2.840.113554.1.2.2"
TIMEOUT_S = 10.0
SCHEME = "Negotiate"
# what texts of the library mean, and what helps; the texts themselves may be in any language
HINTS = (
    ("Cannot contact any KDC", "the KDC does not answer"),
    ("No Kerberos credentials", "there is no Kerberos ticket: run kinit, or name a keytab"),
    ("No credentials cache", "there is no Kerberos ticket: run kinit, or name a keytab"),
    ("Ticket expired", "the Kerberos ticket has expired: run kinit"),
    ("Clock skew", "the clocks of this machine and the KDC or gateway are too far apart"),
    ("not yet valid", "the Kerberos ticket begins later: this machine's clock is behind the KDC's"),
    ("Cannot find KDC", "the realm has no KDC in krb5.conf"),
    ("not found in Kerberos database", "the KDC does not know the gateway's service"),
    ("nonexistent or empty", "the keytab cannot be read, or is empty"),
)


class Handshake:
    """One token, and what the gateway answers to it."""

    def __init__(self, context: Any, token: bytes, service: str, timeout_s: float) -> None:
        self._context, self._service, self._timeout_s = context, service, timeout_s
        self.header = f"{SCHEME} {base64.b64encode(token).decode()}"

    def verify(self, told: str) -> None:
        """Return if the gateway has proved that it is the service that was asked for; NotProved
        otherwise."""
        scheme, _, value = told.partition(" ")
        try:
            reply = base64.b64decode(value.strip(), validate=True)
        except (binascii.Error, ValueError):
            reply = b""
        if scheme.lower() != SCHEME.lower() or not reply:
            raise _not_proved(self._service, "it sends no proof")

        def step() -> bool:
            self._context.step(reply)
            return bool(self._context.complete)

        try:
            complete = within(step, self._timeout_s, "the gateway's proof was not checked")
        except errors.GatewayError:
            raise
        except Exception as error:
            raise _not_proved(self._service, _words(error)) from None
        if not complete:
            raise _not_proved(self._service, "its proof is not complete")


def _not_proved(service: str, why: str) -> errors.NotProved:
    return errors.NotProved(
        f"the gateway does not prove that it is {service}: {why}. Nothing more is sent to it",
        code="UNAUTHENTICATED",
    )


def handshake(
    service: str,
    *,
    principal: str = "",
    keytab: str = "",
    ccache: str = "",
    timeout_s: float = TIMEOUT_S,
) -> Handshake:
    """Return a new token for a service such as HTTP@host; NotSignedIn says why there is none.

    Without a keytab the ticket cache is used: `ccache`, or that of KRB5CCNAME, or the system's.
    """
    gssapi = _gssapi()

    def begin() -> tuple[Any, bytes]:
        context = _context(gssapi, service, _own(gssapi, principal, keytab, ccache))
        return context, context.step() or b""

    try:
        context, token = within(begin, timeout_s, "the KDC does not answer")
    except errors.GatewayError:
        raise
    except Exception as error:
        raise _failed(service, error) from None
    return Handshake(context, token, service, timeout_s)


def has_ticket(timeout_s: float = 2.0) -> bool:
    """Whether there is a ticket, or what gets one, without asking any KDC; False where gssapi is
    not installed."""
    if importlib.util.find_spec("gssapi") is None:
        return False
    try:
        gssapi = _gssapi()  # however long that takes: a slow disk is no want of a ticket
    except errors.NotSignedIn as error:
        logger.debug("%s", error)
        return False

    def look() -> bool:
        # 0 for one that has expired raises
        return int(gssapi.Credentials(usage="initiate").lifetime or 0) > 0

    try:
        return within(look, timeout_s, "")
    except Exception as error:  # an expired ticket is told like this too
        logger.debug("there is no Kerberos ticket to use: %s", _words(error))
        return False


def _gssapi() -> Any:
    try:
        return importlib.import_module("gssapi")
    except ImportError as error:
        words = INSTALL if error.name == "gssapi" else f"gssapi cannot be loaded: {error}"
        raise errors.NotSignedIn(words, code="UNAUTHENTICATED") from None


def _own(gssapi: Any, principal: str, keytab: str, ccache: str) -> Any:
    store = {}
    if keytab:
        store["client_keytab"] = f"FILE:{os.path.expanduser(keytab)}"
        # else the ticket would take the place of the one that its user has
        store["ccache"] = ccache or "MEMORY:daskgateway"
    elif ccache:
        store["ccache"] = ccache
    name = gssapi.Name(principal, gssapi.NameType.kerberos_principal) if principal else None
    return gssapi.Credentials(name=name, usage="initiate", store=store or None)


def _context(gssapi: Any, service: str, own: Any) -> Any:
    """Return one side of a handshake in which both prove who they are."""

    class Context(gssapi.SecurityContext):  # type: ignore[misc]
        """An error is raised where it happens."""

    Context.__DEFER_STEP_ERRORS__ = False
    flag = gssapi.RequirementFlag
    return Context(
        name=gssapi.Name(service, gssapi.NameType.hostbased_service),
        creds=own,
        mech=gssapi.OID.from_int_seq(SPNEGO),
        flags=flag.mutual_authentication | flag.replay_detection,
        usage="initiate",
    )


def within(work: Callable[[], T], timeout_s: float, words: str) -> T:
    """Return what work in a thread of its own returns or raises; NotSignedIn with `words` if it
    takes longer, and then the thread is left to itself."""
    told: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            told.put((work(), None))
        except BaseException as error:
            told.put((None, error))

    threading.Thread(target=run, name="daskgateway-kerberos", daemon=True).start()
    try:
        result, error = told.get(timeout=timeout_s)
    except queue.Empty:
        raise errors.NotSignedIn(
            f"Kerberos: {words} within {timeout_s:g} s", code="UNAVAILABLE"
        ) from None
    if error is not None:
        raise error
    return result  # type: ignore[return-value]


def _failed(service: str, error: Exception) -> errors.NotSignedIn:
    words = _words(error)
    hint = next((hint for text, hint in HINTS if text.lower() in words.lower()), "")
    return errors.NotSignedIn(
        f"Kerberos: {hint or 'no token could be made'} (for {service}: {words})",
        code="UNAUTHENTICATED",
    )


def _words(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
