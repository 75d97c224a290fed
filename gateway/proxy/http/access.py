"""What lets somebody in to a cluster: the server's ticket, then a session of the edge's own.
Verified here, without asking anybody."""

from __future__ import annotations

import base64
import hmac
import json
import logging
import os
import pathlib
import time
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from gateway.configfile import ConfigurationError
from gateway.custody import file_problem
from gateway.files import read_kept, write_kept
from gateway.wire import Ticket, split_ticket

logger = logging.getLogger(__name__)

MAX_COOKIE = 1024
KEY_BYTES = 32
SESSION_ID_BYTES = 16


def now_ms() -> int:
    """Return the present instant."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True)
class SessionGrant:
    """That somebody reaches one cluster, what that rests on, and until when it holds at the
    latest."""

    uid: str
    user: str
    expires_at: int  # ms since the epoch
    session_id: str = ""  # of a browser's session, or of a tunnel's
    token_id: str = ""  # of the API token that was shown; empty for who signed in
    stamp: str = ""  # what the sign-in was checked by, as the authenticator marks it
    # whether the sign-in was an admin's; counts where the authenticator cannot be asked
    admin: bool = False

    @property
    def rests_on(self) -> tuple[str | bool, ...]:
        """Everything that decides on it but time."""
        return (self.uid, self.user, self.session_id, self.token_id, self.stamp, self.admin)


def good_ticket(text: str, uid: str, keys: Sequence[bytes], now: int) -> Ticket | None:
    """Return what a ticket says, None if it is not good for this cluster now. Whether it was used,
    the server knows."""
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
        return ticket
    return None


class Sessions:
    """Sessions, each for one cluster: signed with a key that outlives the edge, so that a restart
    logs nobody out."""

    def __init__(self, key: bytes, duration_s: float, now: Callable[[], int] = now_ms) -> None:
        self._key, self._duration_s, self._now = key, duration_s, now

    def begin(self, access: Ticket) -> SessionGrant:
        """Return a new session, on what a ticket permits: it lasts as long as sessions do, and no
        longer than what that rests on."""
        latest = self._now() + int(self._duration_s * 1000)
        expires_at = min(latest, access.holds_until or latest)
        session_id = os.urandom(SESSION_ID_BYTES).hex()
        return SessionGrant(
            access.uid,
            access.user,
            expires_at,
            session_id,
            access.token_id,
            access.stamp,
            access.admin,
        )

    def text(self, grant: SessionGrant) -> str:
        """Return a cookie's value."""
        body = json.dumps(astuple(grant)).encode()
        return f"{_text(body)}.{_text(self._sign(body))}"

    def grant(self, cookie: str, uid: str) -> SessionGrant | None:
        """Return a cookie's session, None if it is not good for this cluster now."""
        if len(cookie) > MAX_COOKIE:
            return None
        first, _, second = cookie.partition(".")
        try:
            body, signature = _raw(first), _raw(second)
            if not hmac.compare_digest(signature, self._sign(body)):
                return None
            grant = SessionGrant(*json.loads(body))
        except (ValueError, TypeError):
            return None
        return (
            grant
            if grant.uid == uid and grant.session_id and grant.expires_at > self._now()
            else None
        )

    def _sign(self, body: bytes) -> bytes:
        # what an older edge signed is another thing
        return hmac.digest(self._key, b"session 2:" + body, "sha256")


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _raw(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)


def session_key(path: pathlib.Path) -> bytes:
    """Return the key of sessions, made and kept with mode 0600 if there is none. ConfigurationError
    if it can be neither read nor kept."""
    try:
        kept = read_kept(path)
        if kept is not None and len(kept) == KEY_BYTES:
            if wrong := file_problem(path, secret=True):
                raise ConfigurationError(f"c.Proxy.state_dir: {wrong}")
            return kept
        if kept is not None:
            logger.warning(
                "%s does not hold a key of %d bytes; a new one is made, which ends every browser's"
                " session",
                path,
                KEY_BYTES,
            )
        key = os.urandom(KEY_BYTES)
        write_kept(path, key)
    except OSError as error:
        raise ConfigurationError(f"c.Proxy.state_dir: {path}: {error.strerror or error}") from None
    return key
