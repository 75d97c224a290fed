"""Who may see a dashboard: by the server's ticket, then by a session of the edge's own. Verified here, without asking anybody."""

from __future__ import annotations

import base64
import hmac
import json
import os
import pathlib
import time
from collections.abc import Callable, Sequence

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from gateway.wire import split_ticket

MAX_COOKIE = 1024


def now_ms() -> int:
    """Return the present instant."""
    return time.time_ns() // 1_000_000


def ticket_user(text: str, uid: str, keys: Sequence[bytes], now: int) -> str | None:
    """Return whose ticket this is, None if it is not good for this cluster now."""
    parts = split_ticket(text)
    if parts is None:
        return None
    payload, signature, ticket = parts
    if ticket.uid != uid or ticket.expires_at <= now:
        return None
    for key in keys:
        try:
            Ed25519PublicKey.from_public_bytes(key).verify(signature, payload)
        except (InvalidSignature, ValueError):
            continue
        return ticket.user
    return None


class Sessions:
    """Browser sessions, each for one cluster: signed with a key that outlives the edge, so that a restart logs nobody out."""

    def __init__(self, key: bytes, duration_s: float, now: Callable[[], int] = now_ms) -> None:
        self._key, self._duration_s, self._now = key, duration_s, now

    def issue(self, uid: str, user: str) -> str:
        """Return a cookie's value."""
        body = json.dumps([uid, user, self._now() + int(self._duration_s * 1000)]).encode()
        return f"{_text(body)}.{_text(self._sign(body))}"

    def user(self, cookie: str, uid: str) -> str | None:
        """Return whose session this is, None if it is not good for this cluster now."""
        if len(cookie) > MAX_COOKIE:
            return None
        first, _, second = cookie.partition(".")
        try:
            body, signature = _raw(first), _raw(second)
            if not hmac.compare_digest(signature, self._sign(body)):
                return None
            session_uid, user, expires_at = json.loads(body)
        except (ValueError, TypeError):
            return None
        return str(user) if session_uid == uid and expires_at > self._now() else None

    def _sign(self, body: bytes) -> bytes:
        return hmac.digest(self._key, body, "sha256")


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _raw(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)


def session_key(path: pathlib.Path) -> bytes:
    """Return the key of sessions, made and kept with mode 0600 if there is none."""
    try:
        kept = path.read_bytes()
        if len(kept) == 32:
            return kept
    except FileNotFoundError:
        pass
    key = os.urandom(32)
    scratch = path.with_suffix(".new")
    with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(key)
    scratch.replace(path)
    return key
