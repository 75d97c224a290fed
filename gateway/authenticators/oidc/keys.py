"""The keys that an OpenID provider signs with, kept here, and whether a token is signed by one.

They are fetched anew while they are used, so that a key that is taken back counts no longer. A
token of a key that is not known yet has them fetched at once, a few times a minute: whoever sends
made-up keys must not make the gateway ask without end. While the provider does not answer, the last
good ones hold for a bounded time.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import jwt

from gateway.authenticators.contract import AuthenticatorUnavailable, SignInRefused

logger = logging.getLogger(__name__)

# what algorithms sign with: kind and curve of the key. Those of shared secrets are not among them.
ALGORITHMS: Mapping[str, tuple[str, str]] = {
    **{f"{kind}{size}": ("RSA", "") for kind in ("RS", "PS") for size in (256, 384, 512)},
    "ES256": ("EC", "P-256"),
    "ES384": ("EC", "P-384"),
    "ES512": ("EC", "P-521"),
    "EdDSA": ("OKP", "Ed25519"),
}
FRESH_S = 300.0  # after which they are fetched anew before one of them counts again
AHEAD_S = 200.0  # and after which already while they count, so that sign-ins seldom wait
ASK_AGAIN_S = 10.0  # after the provider did not answer
MOST_FETCHED, WITHIN_S = 6, 60.0  # for keys that are not known, so often
# a token that says it is older than the last fetch by so much was signed by a key that was there
SETTLED_S = 60.0
MAX_KEYS = 64
MIN_RSA_BITS = 2048
MAX_TOKEN = 16 * 1024  # letters
REQUIRED = ("exp", "iat", "sub", "aud", "iss")
# what a token lacks that is signed as it must be
UNMET = (
    jwt.InvalidAudienceError,
    jwt.InvalidIssuerError,
    jwt.MissingRequiredClaimError,
)


class Keys:
    """The keys of one provider. Used on one event loop."""

    def __init__(
        self,
        fetch: Callable[[], Awaitable[Any]],
        hold_s: float,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`fetch` returns the set as the provider publishes it (RFC 7517); `hold_s`: for so long it
        counts while the provider does not answer."""
        self._fetch, self._hold_s, self._clock, self._now = fetch, hold_s, clock, now
        self._known: Sequence[Mapping[str, Any]] = ()
        self._fetched_at = self._failed_at = -math.inf
        self._fetched_when = -math.inf  # on the wall clock
        self._wanted: deque[float] = deque(maxlen=MOST_FETCHED)  # when unknown keys were asked for
        self._fetching: asyncio.Task[None] | None = None
        self._made: dict[tuple[int, str], Any] = {}

    async def fitting(self, key_id: str | None, algorithm: str, issued_at: float) -> list[Any]:
        """Return the keys that a token may be signed by; AuthenticatorUnavailable if that cannot be
        told now. `issued_at` is what the token says, in s since the epoch."""
        age_s = self._clock() - self._fetched_at
        if age_s >= self._hold_s:
            await self._anew()
        elif age_s >= AHEAD_S and self._clock() - self._failed_at >= ASK_AGAIN_S:
            # of a provider that did not answer lately nobody waits for an answer
            if age_s < FRESH_S or self._failed_at > self._fetched_at:
                self._begin()
            else:
                with contextlib.suppress(AuthenticatorUnavailable):
                    await self._anew()
        found = self._found(key_id, algorithm)
        if found or issued_at < self._fetched_when - SETTLED_S:
            return found
        if len(self._wanted) == MOST_FETCHED and self._clock() - self._wanted[0] < WITHIN_S:
            raise AuthenticatorUnavailable(
                "the identity provider's keys were fetched just now, and more often than they may"
                " be: whether it has a new one is not known yet"
            )
        self._wanted.append(self._clock())
        await self._anew()
        return self._found(key_id, algorithm)

    def close(self) -> None:
        """Fetch nothing more."""
        if self._fetching is not None:
            self._fetching.cancel()

    async def _anew(self) -> None:
        """Fetch them, with all others who want that now; AuthenticatorUnavailable if that
        fails."""
        if self._clock() - self._fetched_at >= self._hold_s and (
            self._clock() - self._failed_at < min(1.0, ASK_AGAIN_S)
        ):
            raise AuthenticatorUnavailable("the identity provider did not answer just now")
        await asyncio.shield(self._begin())

    def _begin(self) -> asyncio.Task[None]:
        if self._fetching is None:
            self._fetching = asyncio.get_running_loop().create_task(self._fetched())
            self._fetching.add_done_callback(self._done)
        return self._fetching

    def _done(self, task: asyncio.Task[None]) -> None:
        self._fetching = None
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.warning("the identity provider's keys are not fetched: %s", error)

    async def _fetched(self) -> None:
        when = self._now()
        try:
            found = signing_keys(await self._fetch())
        except AuthenticatorUnavailable:
            self._failed_at = self._clock()
            raise
        self._known, self._made = found, {}
        self._fetched_at, self._fetched_when = self._clock(), when

    def _found(self, key_id: str | None, algorithm: str) -> list[Any]:
        found = []
        for number, key in enumerate(self._known):
            same = key_id is None or key.get("kid") == key_id
            if same and fits(key, algorithm):
                made = self._made.get((number, algorithm))
                if made is None:
                    made = self._made[(number, algorithm)] = jwt.PyJWK(dict(key), algorithm).key
                found.append(made)
        return found


def signing_keys(told: Any) -> Sequence[Mapping[str, Any]]:
    """Return the public keys of a set (RFC 7517) that sign; AuthenticatorUnavailable if it is no
    set, or none of them does."""
    keys = told.get("keys") if isinstance(told, Mapping) else None
    if not isinstance(keys, list) or len(keys) > MAX_KEYS:
        raise AuthenticatorUnavailable(
            f"the identity provider publishes no set of at most {MAX_KEYS} keys"
        )
    found = [key for key in keys if isinstance(key, Mapping) and _signs(key)]
    if not found:
        raise AuthenticatorUnavailable("the identity provider publishes no key that signs")
    return found


def _signs(key: Mapping[str, Any]) -> bool:
    """Whether a key is a sound one for signatures."""
    operations = key.get("key_ops")
    if key.get("use", "sig") != "sig" or (
        isinstance(operations, list) and "verify" not in operations
    ):
        return False
    algorithm = next((one for one in ALGORITHMS if fits(key, one)), None)
    if algorithm is None:
        return False
    try:
        made = jwt.PyJWK(dict(key), algorithm).key
    except (jwt.PyJWTError, ValueError, TypeError):
        return False
    return key.get("kty") != "RSA" or made.key_size >= MIN_RSA_BITS


def fits(key: Mapping[str, Any], algorithm: str) -> bool:
    """Whether an algorithm may be used with a key."""
    kind, curve = ALGORITHMS[algorithm]
    return (
        key.get("kty") == kind
        and (not curve or key.get("crv") == curve)
        and key.get("alg", algorithm) == algorithm
    )


def taken_apart(token: str, algorithms: Sequence[str]) -> tuple[Mapping[str, Any], float] | None:
    """Return header of a token and when it says it was issued; None if it is no signed token that
    could be right. Nothing of this is verified."""
    if len(token) > MAX_TOKEN or token.count(".") != 2 or not token.isascii():
        return None
    try:
        told = jwt.decode_complete(token, options={"verify_signature": False})
    except (jwt.PyJWTError, ValueError, RecursionError):
        return None
    header, issued_at = told["header"], told["payload"].get("iat")
    key_id = header.get("kid")
    sound = (
        header.get("alg") in algorithms
        and "crit" not in header
        and "b64" not in header
        and (key_id is None or isinstance(key_id, str))
        and isinstance(issued_at, int | float)
        and not isinstance(issued_at, bool)
    )
    return (header, float(issued_at)) if sound else None


def verified(
    token: str, algorithm: str, keys: Sequence[Any], issuer: str, audience: str, leeway_s: float
) -> Mapping[str, Any] | None:
    """Return the claims of a token that one of the keys has signed, for this audience, now; None
    for any other. SignInRefused where a key has signed it, and for another time."""
    for key in keys:
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                audience=audience,
                issuer=issuer,
                leeway=leeway_s,
                options={"require": list(REQUIRED)},
            )
        except jwt.ExpiredSignatureError:
            raise SignInRefused("the token of the identity provider has expired") from None
        except jwt.ImmatureSignatureError:
            raise SignInRefused(
                "the token of the identity provider is not valid yet: the clocks of provider and"
                f" gateway are more than {leeway_s:g} s apart"
            ) from None
        except UNMET as error:  # what comes after the signature, and so is no stranger's doing
            logger.warning(
                "a token that the identity provider has signed is refused: %s",
                _unmet(error, token, audience),
            )
            return None
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError):
            continue
        return claims
    return None


def _unmet(error: jwt.PyJWTError, token: str, audience: str) -> str:
    """Return why a token whose signature is right does not count, for who configures both sides."""
    told = jwt.decode_complete(token, options={"verify_signature": False})["payload"]
    named = isinstance(error, jwt.MissingRequiredClaimError)
    if isinstance(error, jwt.InvalidAudienceError) or (named and "aud" not in told):
        whose = (
            f"is for the audience {told['aud']!r:.200}" if "aud" in told else "names no audience"
        )
        return (
            f"it {whose}, and c.OIDCAuthenticator.audience is {audience!r:.200}: let the provider"
            " name that as aud in tokens of the client which it was given to"
        )
    return str(error)
