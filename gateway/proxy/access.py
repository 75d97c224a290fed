"""Who may see a dashboard: by the server's ticket, then by a session of the edge's own. Verified here, without asking anybody."""

from __future__ import annotations

import base64
import hmac
import json
import logging
import os
import pathlib
import time
from collections.abc import Callable, Sequence

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from gateway.configfile import ConfigurationError
from gateway.keptfile import read_kept, write_kept
from gateway.wire import split_ticket

logger = logging.getLogger(__name__)

MAX_COOKIE = 1024
KEY_BYTES = 32


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
    """Return the key of sessions, made and kept with mode 0600 if there is none. ConfigurationError if it can be neither read nor kept."""
    try:
        kept = read_kept(path)
        if kept is not None and len(kept) == KEY_BYTES:
            return kept
        if kept is not None:
            logger.warning("%s does not hold a key of %d bytes; a new one is made, which ends every browser's session", path, KEY_BYTES)
        key = os.urandom(KEY_BYTES)
        write_kept(path, key)
    except OSError as error:
        raise ConfigurationError(f"c.Proxy.state_dir: {path}: {error.strerror or error}") from None
    return key
