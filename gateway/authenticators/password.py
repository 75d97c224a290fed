"""Who somebody is, by user name and password (RFC 7617). Passwords are known only as scrypt hashes
(RFC 7914).

Checking costs about 50 ms of CPU by design, so it runs in threads, and a password that was right is
remembered for a while.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import hashlib
import hmac
import logging
import os
import time
from collections import OrderedDict
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from traitlets import Dict, Float, List, Set, TraitError, Unicode, validate

from gateway.authenticators.contract import (
    Authenticator,
    AuthenticatorUnavailable,
    Credentials,
    NameRefused,
    Sessions,
)
from gateway.authenticators.users_file import UsersFile, names_in
from gateway.configfile import ConfigurationError
from gateway.server.core.model import Principal
from gateway.wire import parse_basic

logger = logging.getLogger(__name__)

COST, BLOCK, PARALLEL = 2**14, 8, 1  # 16 MiB and about 50 ms
MAX_COST = 2**18
MAX_PASSWORD_BYTES = 1024
KEPT = 10_000  # passwords remembered as right
# half of the machine is for those who have signed in
THREADS = max(1, min(4, (os.cpu_count() or 1) // 2))
# of the hash of a password's hash, by which it is seen that the password was changed
STAMP_LETTERS = 16
MAX_WAITING = 64  # checks queued behind the threads; beyond, callers are told to come again


def hash_password(password: str) -> str:
    """Return the hash of a password with its parameters: `scrypt$n$r$p$salt$hash`."""
    if not _possible(password):
        raise ValueError(f"a password must have 1 to {MAX_PASSWORD_BYTES} bytes, and no NUL")
    salt = os.urandom(16)
    derived = _derive(password, salt, COST, BLOCK, PARALLEL)
    return f"scrypt${COST}${BLOCK}${PARALLEL}${_text(salt)}${_text(derived)}"


def check_password(password: str, stored: str) -> bool:
    """Whether a password is that of a hash, in constant time for equal parameters."""
    cost, block, parallel, salt, derived = parse_hash(stored)
    return hmac.compare_digest(_derive(password, salt, cost, block, parallel), derived)


def parse_hash(stored: str) -> tuple[int, int, int, bytes, bytes]:
    """Return the parts of a hash; ValueError if it is none."""
    parts = stored.split("$")
    try:
        if len(parts) != 6 or parts[0] != "scrypt":
            raise ValueError
        cost, block, parallel = (int(part) for part in parts[1:4])
        salt, derived = (
            base64.b64decode(parts[4], validate=True),
            base64.b64decode(parts[5], validate=True),
        )
        if (
            not 2 <= cost <= MAX_COST
            or cost & (cost - 1)
            or not 1 <= block <= 32
            or not 1 <= parallel <= 16
            or len(derived) != 32
        ):
            raise ValueError
    except ValueError:
        raise ValueError(
            "must be a hash that `daskgateway hash-password` prints, never a password itself"
        ) from None
    return cost, block, parallel, salt, derived


def _derive(password: str, salt: bytes, cost: int, block: int, parallel: int) -> bytes:
    return hashlib.scrypt(
        password.encode(),
        salt=salt,
        n=cost,
        r=block,
        p=parallel,
        maxmem=256 * block * (cost + parallel + 2),
        dklen=32,
    )


def _possible(password: str) -> bool:
    """Whether this can be a password at all. scrypt takes NUL at the end for no letter."""
    return 0 < len(password.encode()) <= MAX_PASSWORD_BYTES and "\0" not in password


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


# costs what a real one does, and never fits
_DUMMY = f"scrypt${COST}${BLOCK}${PARALLEL}${_text(b'no such user....')}${_text(bytes(32))}"


def _dummy(like: str) -> str:
    """Return what costs as much as a hash, and never fits."""
    return "$".join([*like.split("$")[:4], *_DUMMY.split("$")[4:]])


@dataclass(frozen=True, slots=True)
class _Right:
    """That a password was right: whose, against which hash, and until when that is remembered (on
    the monotonic clock)."""

    user: str
    stored: str
    until: float


class PasswordAuthenticator(Authenticator):
    """Users with passwords, listed here or in a file, or one password for everybody."""

    schemes = ("basic",)
    description = "user name and password"
    client_way = "basic"
    sessions = Sessions.ADVISED
    at_a_time = THREADS + 1  # so that no thread waits until a turn is given

    users = Dict(Unicode(), help="Hashes (`daskgateway hash-password`) by user name.").tag(
        config=True
    )
    users_file = Unicode(
        "",
        help="File of lines `user:hash`, mode 0600; read again when it changes. While it cannot be"
        " read, what it held before holds for"
        " identity_outage_s.",
    ).tag(config=True)
    password = Unicode(
        "",
        help="Hash of one password that lets in any user name. For a trial, not for an"
        " institution.",
    ).tag(config=True)
    admins = Set(Unicode(), help="Users that may act for every user.").tag(config=True)
    groups = Dict(List(Unicode()), help="Groups by user name.").tag(config=True)
    cache_ttl_s = Float(300.0, min=0, help="Seconds that a right password is remembered.").tag(
        config=True
    )

    @validate("password")
    def _is_hash(self, proposal: dict[str, str]) -> str:
        if proposal["value"]:
            _check_hash(proposal["value"])
        return proposal["value"]

    @validate("users")
    def _are_hashes(self, proposal: dict[str, dict[str, str]]) -> dict[str, str]:
        for user, stored in proposal["value"].items():
            if not isinstance(user, str):
                raise TraitError(f"{user!r} is no user name: it must be a text, in quotes")
            if not user or ":" in user or not user.isprintable():
                raise TraitError(f"{user!r} is no user name: it cannot be sent with a password")
            _check_hash(stored, user)
        return proposal["value"]

    def problems(self) -> list[str]:
        """Return what is wrong with the users and their file, one line each."""
        if not self.users and not self.users_file and not self.password:
            return [
                "c.PasswordAuthenticator.users: nobody could sign in; set users, users_file or"
                " password (see `daskgateway hash-password`)"
            ]
        found = []
        named = (("users", self.users), ("admins", self.admins), ("groups", self.groups))
        for setting, users in named:
            for user in sorted(users):
                if why := self.why_not(user):
                    found.append(f"c.PasswordAuthenticator.{setting}: {user!r}: {why}")
        if self.users_file:
            try:
                UsersFile(self.users_file, parse_hash, self.why_not, self.identity_outage_s)
            except ConfigurationError as error:
                found.append(str(error))
        return found

    async def open(self) -> None:
        """Make ready; ConfigurationError if nobody could be let in."""
        if wrong := self.problems():
            raise ConfigurationError("\n".join(wrong))
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="passwords")
        self._waiting = 0
        self._key = os.urandom(32)
        # by the keyed hash of what was sent: no password stays in memory
        self._right: OrderedDict[bytes, _Right] = OrderedDict()
        self._file = (
            UsersFile(self.users_file, parse_hash, self.why_not, self.identity_outage_s)
            if self.users_file
            else None
        )

    async def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def remembered(self, credentials: Credentials) -> Principal | None:
        """Return the user whose password this was within `cache_ttl_s`."""
        if credentials.scheme not in self.schemes:
            return None
        known = self._right.get(self._mark(credentials))
        if (
            known is not None
            and known.until > time.monotonic()
            and known.stored == self._stored(known.user)
        ):
            return self._principal(known.user, known.stored)
        return None

    def _mark(self, credentials: Credentials) -> bytes:
        # at each call: unlike OpenSSL's HMAC it does not let go of Python's lock meanwhile
        shown = credentials.value.encode(errors="surrogatepass")
        return hashlib.blake2b(shown, key=self._key, digest_size=32).digest()

    async def authenticate(self, credentials: Credentials) -> Principal | None:
        """Return the user if the password is right."""
        if (known := self.remembered(credentials)) is not None:
            return known
        pair = parse_basic(f"{credentials.scheme} {credentials.value}")
        sent, password = pair if pair is not None else ("", "")
        user = self._meant(sent)
        stored = self._stored(user)
        possible = pair is not None and stored is not None and bool(user) and _possible(password)
        nobodys = self._nobodys(sent)  # for all alike, too
        right = await self._check(
            password[:MAX_PASSWORD_BYTES], stored if stored is not None else nobodys
        )
        if not right or not possible or stored is None:
            return None
        if user != sent and not (self.any_case and user.lower() == sent.lower()):
            raise NameRefused(sent, f"the user's name is written {user!r}")
        self._right[self._mark(credentials)] = _Right(
            user, stored, time.monotonic() + self.cache_ttl_s
        )
        while len(self._right) > KEPT:
            self._right.popitem(last=False)
        return self._principal(user, stored)

    def _meant(self, sent: str) -> str:
        """Return the user whose password is looked at: the one that was named, or the only one of
        other letters or another realm, who is told so if the password is right."""
        plain = sent.strip().lower()
        local, same, alike = _local(plain), list[str](), list[str]()
        for user in self.listed():  # also where it is not needed: it takes its time for all alike
            if user.lower() == plain:
                same.append(user)
            elif local and _local(user.lower()) == local:
                alike.append(user)
        if self._stored(sent) is not None:
            return sent
        others = same or alike
        return others[0] if len(others) == 1 else sent

    def listed(self) -> Collection[str]:
        """Return the users in the configuration and in the file, as it is or was read last."""
        file: UsersFile | None = getattr(self, "_file", None)
        named = file.names() if file is not None else ()
        if file is None and self.users_file:  # before it is opened, as check-config asks
            named = names_in(self.users_file)
        return tuple(dict.fromkeys((*self.users, *named)))

    def _nobodys(self, sent: str) -> str:
        """Return what the password of who is no user is checked against: as dear as that of one of
        the users, and for a name always of the same. Hashes may be of different costs."""
        users = tuple(self.listed())
        mark = hashlib.blake2b(sent.encode(errors="replace"), key=self._key, digest_size=8).digest()
        like = self._stored(users[int.from_bytes(mark) % len(users)]) if users else None
        return _dummy(like) if like is not None else _DUMMY

    async def identity(self, user: str) -> Principal | None:
        """Return a user who has a password."""
        stored = self._stored(user)
        return None if stored is None else self._principal(user, stored)

    def _principal(self, user: str, stored: str) -> Principal:
        return Principal(
            user, user in self.admins, tuple(self.groups.get(user, ())), stamp=_stamp(stored)
        )

    def _stored(self, user: str) -> str | None:
        """Return the hash of a user's password, None if there is no such user;
        AuthenticatorUnavailable if that is not known."""
        own = self.users.get(user)
        return (
            own
            or (self._file.stored(user) if self._file is not None else None)
            or self.password
            or None
        )

    async def _check(self, password: str, stored: str) -> bool:
        if self._waiting >= MAX_WAITING:
            raise AuthenticatorUnavailable(f"{MAX_WAITING} passwords are waiting to be checked")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._threads, check_password, password, stored
            )
        finally:
            self._waiting -= 1


def _local(name: str) -> str:
    """Return a name without its realm: `alice` of alice@example.org and of EXAMPLE\\alice."""
    return name.rpartition("\\")[2].partition("@")[0]


@functools.lru_cache(KEPT)
def _stamp(stored: str) -> str:
    return hashlib.sha256(stored.encode()).hexdigest()[:STAMP_LETTERS]


def _check_hash(stored: str, user: str = "") -> None:
    try:
        parse_hash(stored)
    except ValueError as error:
        raise TraitError(f"{user + ': ' if user else ''}{error}") from None
