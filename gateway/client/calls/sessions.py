"""Sessions of this process: who signs in by what is dear, or good only once, does so once, and goes
on with a token that is renewed in time.

All gateways of a process that sign in alike share one. Calls whose token was taken back meanwhile
are made again after another sign-in, once. Where the gateway knows no sessions, or has none for
these credentials, they are sent with each call as before.
"""

from __future__ import annotations

import logging
import os
import platform
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

from daskgateway.v1 import credential_service_pb2 as pb

from gateway.client.calls import api, errors

logger = logging.getLogger(__name__)

RENEW_AT = 1 / 2  # of the time that a session lasts
AGAIN_S = 60.0  # until a renewal or a sign-in that has failed is tried again
MAX_KEPT = 256


class When(Enum):
    """When a way to sign in is exchanged for a session."""

    NEVER = "never"  # its credentials are sent with each call
    LATER = "later"  # with the second call: a program that makes one call needs no session
    FIRST = "first"  # before the first call: its credentials are good once


class SignIn(Protocol):
    """One sign-in: what is sent, and what the gateway has to prove."""

    header: str

    def verify(self, told: str) -> None:
        """Return if the gateway has proved itself, where it has to."""


Call = Callable[[Any, Any, str], Any]  # of an RPC, with a request and an authorization header


@dataclass
class _Token:
    """A session as it is now. Two clocks: one stands still while a machine sleeps, one is set."""

    text: str
    renew_at: tuple[float, float]  # monotonic, and of the day
    ends_at: float  # monotonic

    def due(self) -> bool:
        """Whether it is to be renewed."""
        return time.monotonic() >= self.renew_at[0] or time.time() >= self.renew_at[1]


@dataclass(frozen=True)
class Stored:
    """A session that was made before, by another process."""

    token: str
    renew_in_s: float  # below 0: at once
    lasts_s: float

    def __repr__(self) -> str:
        return f"Stored(lasts_s={self.lasts_s:.0f})"


class Kept:
    """The session of one way to sign in to one gateway."""

    def __init__(
        self, begin: Callable[[], SignIn], when: When, stored: Stored | None = None
    ) -> None:
        self._begin, self._when = begin, when
        self._token: _Token | None = None
        if stored is not None:
            now, renew_s = time.monotonic(), stored.renew_in_s
            renew_at = (now + renew_s, time.time() + renew_s)
            self._token = _Token(stored.token, renew_at, now + stored.lasts_s)
        self._lock = threading.Lock()
        self._called = when is When.FIRST  # whether a call was answered
        self._not_before = 0.0  # monotonic: of another try, after one that has failed

    def authorization(self, call: Call, plain: Callable[[], str]) -> str:
        """Return what a call is to send: the session's token, or `plain` credentials."""
        token = self._token
        if token is not None and not token.due():
            return f"Bearer {token.text}"
        if not self._called:
            return plain()
        if token is not None:
            return self._renewed(call, token) or self.authorization(call, plain)
        if self._when is not When.FIRST and time.monotonic() < self._not_before:
            return plain()
        return self._made(call) or plain()

    def answered(self) -> None:
        """A call was answered: from now on a session is worth while."""
        self._called = True

    def refused(self, authorization: str) -> bool:
        """Whether it was the session's token that was refused: then it is forgotten, and a call may
        be made again."""
        with self._lock:
            token = self._token
            if token is not None and authorization == f"Bearer {token.text}":
                self._token = None
                return True
            # another thread has signed in meanwhile
            return authorization.startswith("Bearer ") and token is not None

    def end(self, call: Call) -> bool:
        """End the session; return whether there was one."""
        with self._lock:
            token, self._token = self._token, None
        if token is None:
            return False
        call(api.END_SESSION, pb.EndSessionRequest(), f"Bearer {token.text}")
        return True

    def _made(self, call: Call) -> str:
        """Sign in, if no other thread has meanwhile; return what to send, empty if there are no
        sessions."""
        with self._lock:
            if self._token is not None:
                return f"Bearer {self._token.text}"
            sign_in = self._begin()
            request = pb.CreateSessionRequest(display_name=_name())
            try:
                answer = call(api.CREATE_SESSION, request, sign_in.header)
            except errors.GatewayError as error:
                never = isinstance(error, errors.NoSession) or error.code == "UNIMPLEMENTED"
                if self._when is When.FIRST and not never:
                    raise
                self._not_before = time.monotonic() + (float("inf") if never else AGAIN_S)
                logger.debug("no session is made: %s", error)
                return ""
            sign_in.verify(answer.authenticate)
            self._token = _token(answer.secret, answer.session)
            return f"Bearer {self._token.text}"

    def _renewed(self, call: Call, token: _Token) -> str:
        """Renew the session; return what to send, empty if it is over."""
        if not self._lock.acquire(blocking=time.monotonic() >= token.ends_at):
            return f"Bearer {token.text}"  # another thread is about it
        try:
            if self._token is not token:
                return f"Bearer {self._token.text}" if self._token is not None else ""
            try:
                answer = call(api.RENEW_SESSION, pb.RenewSessionRequest(), f"Bearer {token.text}")
            except errors.AuthenticationFailed:
                self._token = None
                return ""
            except errors.GatewayError as error:
                if time.monotonic() >= token.ends_at:
                    raise
                logger.debug("the session is not renewed now: %s", error)
                again = (time.monotonic() + AGAIN_S, time.time() + AGAIN_S)
                self._token = _Token(token.text, again, token.ends_at)
            else:
                self._token = _token(token.text, answer.session)
                if self._token.ends_at <= token.ends_at + 1.0:  # it may not last longer
                    self._token.renew_at = (self._token.ends_at, time.time() + _lasts(answer))
            return f"Bearer {token.text}"
        finally:
            self._lock.release()


def _token(text: str, session: pb.Session) -> _Token:
    lasts_s = session.lasts.seconds + session.lasts.nanos / 1e9
    now = time.monotonic()
    renew_s = lasts_s * RENEW_AT
    return _Token(text, (now + renew_s, time.time() + renew_s), now + lasts_s)


def _lasts(answer: pb.RenewSessionResponse) -> float:
    return float(answer.session.lasts.seconds)


def _name() -> str:
    return f"{platform.node()}, process {os.getpid()}"[:100]


_lock = threading.Lock()
_kept: dict[object, Kept] = {}


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()
    _kept.clear()  # a lock in it may be held by a thread that the child has not


os.register_at_fork(after_in_child=_after_fork)


def kept(
    key: object, begin: Callable[[], SignIn], when: When, stored: Stored | None = None
) -> Kept:
    """Return this process's session of a way to sign in, made when first asked for."""
    with _lock:
        found = _kept.get(key)
        if found is None:
            if len(_kept) >= MAX_KEPT:
                del _kept[next(iter(_kept))]
            found = _kept[key] = Kept(begin, when, stored)
        return found
