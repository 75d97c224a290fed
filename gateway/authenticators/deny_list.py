"""Client certificates that count no longer, as a file names them: by serial number or fingerprint,
in the words that openssl prints. Read again when it changes.

While it cannot be read, what it named before holds for a bounded time: a mistake in it must neither
let in for ever what was taken back, nor put everybody out at once.
"""

from __future__ import annotations

import logging
import os
import pathlib
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from gateway.authenticators.contract import AuthenticatorUnavailable
from gateway.custody import file_problem

logger = logging.getLogger(__name__)

LOOK_S = 1.0  # between two looks at whether the file has changed
MAX_BYTES = 16 * 2**20
LIKE = "must be serial=0A1B… or sha256 Fingerprint=AA:BB:…, as `openssl x509 -noout` prints them"
_SERIAL = re.compile(r"serial\s*[=:]\s*(?:0x)?(?P<hex>[0-9a-f]{1,2}(?::?[0-9a-f]{1,2})*)", re.I)
_FINGERPRINT = re.compile(
    r"sha-?256(?:\s+fingerprint)?\s*[=:]\s*(?P<hex>[0-9a-f]{2}(?::?[0-9a-f]{2}){31})", re.I
)


@dataclass(frozen=True, slots=True)
class Denied:
    """What a file names."""

    serials: frozenset[int] = field(default_factory=frozenset)
    fingerprints: frozenset[str] = field(default_factory=frozenset)  # SHA-256, hexadecimal

    def names(self, serial: int, fingerprint: str) -> bool:
        """Whether a certificate was taken back."""
        return serial in self.serials or fingerprint in self.fingerprints


def parsed(text: str) -> Denied:
    """Return what lines name; ValueError tells the first that is none."""
    serials, fingerprints = set[int](), set[str]()
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].strip()
        if not words:
            continue
        if found := _SERIAL.fullmatch(words):
            serials.add(int(found["hex"].replace(":", ""), 16))
        elif found := _FINGERPRINT.fullmatch(words):
            fingerprints.add(found["hex"].replace(":", "").lower())
        else:
            raise ValueError(f"line {number}: {LIKE}, not {words[:80]!r}")
    return Denied(frozenset(serials), frozenset(fingerprints))


def read(path: pathlib.Path) -> Denied:
    """Return what a file names; OSError, or ValueError with what is wrong with it."""
    if wrong := file_problem(path, secret=False):
        raise ValueError(wrong)
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ValueError(f"{path}: it has more than {MAX_BYTES // 2**20} MiB")
    try:
        return parsed(content.decode())
    except UnicodeDecodeError:
        raise ValueError(f"{path}: it is no text in UTF-8") from None
    except ValueError as error:
        raise ValueError(f"{path}, {error}") from None


class DenyList:
    """The file, as it is now."""

    def __init__(
        self, path: str, outage_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """An empty path names nothing, for ever. `outage_s`: for so long what it named holds while
        it cannot be read. OSError or ValueError if it cannot be read now."""
        self._path, self._outage_s, self._clock = (
            pathlib.Path(path) if path else None,
            outage_s,
            clock,
        )
        self._denied, self._fault, self._looked_at = Denied(), "", clock()
        self._failed_at = 0.0  # when it could first not be read
        self._stamp: tuple[int, ...] = ()
        if self._path is not None:
            self._stamp = _stamp(self._path.stat())
            self._denied = read(self._path)

    def now(self) -> Denied:
        """Return what the file names; AuthenticatorUnavailable if that is not known any more."""
        if self._path is not None and self._clock() - self._looked_at >= LOOK_S:
            self._looked_at = self._clock()
            self._follow(self._path)
        if self._fault and self._clock() - self._failed_at >= self._outage_s:
            raise AuthenticatorUnavailable(f"deny_list: {self._fault}")
        return self._denied

    def _follow(self, path: pathlib.Path) -> None:
        try:
            stamp = _stamp(path.stat())
            if stamp == self._stamp:
                return
            self._denied, self._stamp = read(path), stamp
        except (OSError, ValueError) as error:
            self._stamp = ()
            fault = f"{path}: {error.strerror}" if isinstance(error, OSError) else str(error)
            if not self._fault:
                self._failed_at = self._clock()
            if fault != self._fault:
                logger.error(
                    "c.MutualTlsAuthenticator.deny_list: %s; what it named before holds for %g s in"
                    " all, then nobody is let in by a certificate",
                    fault,
                    self._outage_s,
                )
            self._fault = fault
            return
        self._fault = ""
        logger.info("%s was read again", path)


def _stamp(status: os.stat_result) -> tuple[int, ...]:
    return (status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_size)
