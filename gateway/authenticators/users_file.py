"""The file of users and the hashes of their passwords, as it is now: read again when it changes.

While it cannot be read, what it held before holds for a bounded time: a mistake in it must neither
let in who was removed for ever, nor put everybody out at once.
"""

from __future__ import annotations

import logging
import os
import pathlib
import time
from collections.abc import Callable, Collection
from time import monotonic

from gateway.authenticators.contract import AuthenticatorUnavailable
from gateway.configfile import ConfigurationError
from gateway.custody import file_problem

logger = logging.getLogger(__name__)

# an empty file may be one that is just being written, until it has been empty for so long
SETTLE_S = 5.0

Stamp = tuple[int, int, int, int]


class UsersFile:
    """The file."""

    def __init__(
        self,
        path: str,
        check_hash: Callable[[str], object],
        why_not: Callable[[str], str],
        outage_s: float,
    ) -> None:
        """Read it; ConfigurationError if that cannot be. `why_not`: why a name in it cannot be a
        user's. `outage_s`: for so long what it held holds while it cannot be read."""
        self._path, self._check_hash, self._outage_s = pathlib.Path(path), check_hash, outage_s
        self._why_not = why_not
        self._users: dict[str, str] = {}
        self._stamp: Stamp | None = None  # of what was read last, usable or not
        self._fault = ""
        self._failed_at = 0.0  # when it could first not be read
        try:
            self._read(self._path.stat())
        except OSError as error:
            told = f"{path}: {error.strerror or error}"
            raise ConfigurationError(f"c.PasswordAuthenticator.users_file: {told}") from None
        except ConfigurationError as error:
            raise ConfigurationError(f"c.PasswordAuthenticator.users_file: {error}") from None

    def stored(self, user: str) -> str | None:
        """Return the hash of a user, None if there is no such user; AuthenticatorUnavailable if
        that is not known any more."""
        self._look()
        if self._fault and monotonic() - self._failed_at >= self._outage_s:
            raise AuthenticatorUnavailable(f"users_file: {self._fault}")
        return self._users.get(user)

    def names(self) -> Collection[str]:
        """Return the users that it held when it was read last."""
        return self._users.keys()

    def _look(self) -> None:
        try:
            status = self._path.stat()
            if _stamp(status) != self._stamp and not (
                status.st_size == 0 and self._users and time.time() - status.st_mtime < SETTLE_S
            ):
                self._read(status)
        except OSError as error:
            self._stamp = None
            self._failed(f"{self._path}: {error.strerror}")
        except ConfigurationError as error:
            self._failed(str(error))

    def _read(self, status: os.stat_result) -> None:
        self._stamp = _stamp(status)
        if wrong := file_problem(self._path, secret=True):
            raise ConfigurationError(wrong)
        try:
            text = self._path.read_text()
        except UnicodeDecodeError:
            raise ConfigurationError(f"{self._path}: is no text in UTF-8") from None
        self._users = self._parsed(text)
        if self._fault:
            logger.warning("users_file: %s is read again", self._path)
            self._fault = ""

    def _parsed(self, text: str) -> dict[str, str]:
        users = {}
        for number, line in enumerate(text.splitlines(), 1):
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            user, colon, stored = line.strip().partition(":")
            try:
                if not colon or not user or not user.isprintable():
                    raise ValueError("must be user:hash")
                if why := self._why_not(user):
                    raise ValueError(f"{user!r}: {why}")
                self._check_hash(stored)
            except ValueError as error:
                raise ConfigurationError(f"{self._path}, line {number}: {error}") from None
            users[user] = stored
        return users

    def _failed(self, fault: str) -> None:
        if not self._fault:
            self._failed_at = monotonic()
        if fault != self._fault:
            logger.error(
                "users_file: %s; what it held before holds for %g s in all", fault, self._outage_s
            )
        self._fault = fault


def names_in(path: str) -> Collection[str]:
    """Return the users that a file names, none where it cannot be read: what is wrong with it is
    told elsewhere."""
    try:
        lines = pathlib.Path(path).read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return ()
    pairs = (line.strip().partition(":") for line in lines if not line.lstrip().startswith("#"))
    return tuple(dict.fromkeys(user for user, colon, _ in pairs if user and colon))


def _stamp(status: os.stat_result) -> Stamp:
    return (status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_size)
