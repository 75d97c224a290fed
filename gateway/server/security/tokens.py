"""Secrets that stand for somebody: `dgw_<kind>_<id>_<secret>`. Stored only as hashes.

The secret is random with 256 bits, so one round of SHA-256 is enough: there is nothing to guess
from a dictionary.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import string
from dataclasses import dataclass

from gateway.wire import TOKEN_PREFIX, user_mark

MAX_LENGTH = 128
_ALPHABET = string.ascii_letters + string.digits
_ID_LENGTH = 16
_SECRET_LENGTH = 43  # of 62 letters: 256 bits
_FORM = re.compile(
    rf"{TOKEN_PREFIX}_(api|agent|edge|session)_([A-Za-z0-9]{{{_ID_LENGTH}}})_([A-Za-z0-9]{{{_SECRET_LENGTH}}})"
)


@dataclass(frozen=True, slots=True)
class MintedToken:
    """A new token: its text is shown once, its hash is stored."""

    text: str
    id: str
    secret_hash: bytes


def mint(kind: str, user: str = "") -> MintedToken:
    """Return a new token of a kind: api, session, agent or edge. The id of a user's begins with the
    user's mark; what makes it one of its kind is the rest, and its secret."""
    mark = user_mark(user) if user else ""
    token_id = mark + _random_text(_ID_LENGTH - len(mark))
    text = f"{TOKEN_PREFIX}_{kind}_{token_id}_{_random_text(_SECRET_LENGTH)}"
    return MintedToken(text, token_id, hashed(text))


def _random_text(length: int) -> str:
    """Return random letters of the alphabet, all equally likely: bytes beyond its greatest multiple
    are thrown away."""
    letters: list[str] = []
    usable = 256 - 256 % len(_ALPHABET)
    while len(letters) < length:
        letters += [
            _ALPHABET[byte % len(_ALPHABET)]
            for byte in secrets.token_bytes(2 * length)
            if byte < usable
        ]
    return "".join(letters[:length])


def parse(text: str) -> tuple[str, str, str] | None:
    """Return kind, id and secret of a token's text, None if it is malformed."""
    match = _FORM.fullmatch(text) if len(text) <= MAX_LENGTH else None
    return (match[1], match[2], match[3]) if match else None


def hashed(text: str) -> bytes:
    """Return what is stored of a token."""
    return hashlib.sha256(text.encode()).digest()


def matches(text: str, secret_hash: bytes) -> bool:
    """Whether a token's text is that of a hash, in constant time."""
    return hmac.compare_digest(hashed(text), secret_hash)
