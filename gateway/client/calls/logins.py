"""Sign-ins that `daskgateway login` has left: kept in a file that its user alone reads, renewed
when they are about to end, by one process at a time.

A provider that gives a new refresh token with each renewal takes a second use of the old one for a
theft, and ends the sign-in: so whoever renews holds a lock on the file, and reads it again first.
Who has signed in with a password has a session of the gateway's there, whose token stays the same
when it is renewed: that needs no lock.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pathlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from gateway.client.calls import errors, grants
from gateway.client.calls.auths import Auth
from gateway.client.calls.grants import Grant, Program
from gateway.client.calls.sessions import SignIn, Stored, When

try:
    import fcntl
except ImportError:  # Windows, where processes are not kept apart
    fcntl = None  # type: ignore[assignment]

FILE = "~/.config/daskgateway/logins.json"
MAX_BYTES = 1024 * 1024
RENEW_S = 30.0  # before an access token ends
RENEW_PART = 0.2  # of its life, where that is less


@dataclass(frozen=True)
class Login:
    """A sign-in at one gateway."""

    program: Program
    grant: Grant
    way: str = ""  # what the gateway calls it
    renew_at: float = 0.0  # s since the epoch


@dataclass(frozen=True)
class KeptSession:
    """A session at one gateway, of who has signed in there with a password."""

    token: str
    way: str  # what the gateway calls it
    renew_at: float  # s since the epoch
    ends_at: float  # unless it is renewed, which other processes may have done

    def __repr__(self) -> str:
        return f"KeptSession({self.way!r})"


class LoginFile:
    """The file, by gateways' addresses."""

    def __init__(self, path: str | os.PathLike[str] = FILE) -> None:
        self.path = pathlib.Path(os.path.expanduser(path))

    def read(self, address: str) -> Login | KeptSession | None:
        """Return the sign-in at a gateway, None if there is none; ValueError if the file cannot be
        used, with what to do."""
        found = self._content().get(address)
        kept = None if found is None else _kept(found)
        if found is not None and kept is None:
            raise ValueError(
                f"{self.path}: the sign-in at {address} is of another version of this"
                " program, or broken; remove the file, and `daskgateway login` again"
            )
        return kept

    def check(self) -> None:
        """ValueError if the file cannot be used or written: told before anybody signs in."""
        content = self._content()
        with self.locked():
            if self.path.exists():
                self._write(content)

    def keep(self, address: str, login: Login | KeptSession) -> None:
        """Keep a sign-in."""
        with self.locked():
            self._write({**self._content(), address: _plain(login)})

    def forget(self, address: str) -> Login | KeptSession | None:
        """Forget the sign-in at a gateway; return what there was."""
        if address not in self._content():
            return None
        with self.locked():
            content = self._content()
            gone = content.pop(address, None)
            if gone is not None:
                self._write(content)
            return _kept(gone)

    def renewed(self, address: str, renew: Callable[[Login], Grant]) -> Login | None:
        """Return the sign-in at a gateway with an access token that lasts, renewed by `renew`
        unless another process just did; None if there is none."""
        login = self.read(address)
        if isinstance(login, KeptSession):
            return None
        if login is None or time.time() < login.renew_at:
            return login
        with self.locked():
            content = self._content()
            login = _login(content.get(address))
            if login is None or time.time() < login.renew_at:
                return login
            # what the provider gives must not be lost: it takes back what it gave before
            self._write(content)
            fresh = made(login.program, renew(login), login.way)
            try:
                self._write({**content, address: _plain(fresh)})
            except ValueError as error:
                errors.warn(f"the sign-in at {address} is renewed for this process alone: {error}")
            return fresh

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes, and threads, from changing the file meanwhile."""
        lock = self.path.with_name(f"{self.path.name}.lock")
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(lock, flags, 0o600)
        except OSError as error:
            raise self._unwritten(error) from None
        try:
            if fcntl is not None:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _unwritten(self, error: OSError) -> ValueError:
        return ValueError(f"{self.path} cannot be written: {error.strerror or error}")

    def _content(self) -> dict[str, Any]:
        try:
            with self.path.open("rb") as file:
                status, raw = os.fstat(file.fileno()), file.read(MAX_BYTES + 1)
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise ValueError(f"{self.path}: {error.strerror or error}") from None
        if os.name == "posix" and status.st_uid != os.geteuid():
            raise ValueError(
                f"{self.path}: it belongs to another user (uid {status.st_uid}), and so do the"
                " sign-ins in it; remove it, and `daskgateway login` again"
            )
        if os.name == "posix" and status.st_mode & 0o077:
            raise ValueError(
                f"{self.path}: others can read it, and what is in it lets them in as you; chmod 600"
                " it"
            )
        try:
            content = json.loads(raw) if len(raw) <= MAX_BYTES else None
        except (ValueError, RecursionError):
            content = None
        if not isinstance(content, dict):
            raise ValueError(
                f"{self.path}: it holds no sign-ins that can be read; remove it, and `daskgateway"
                " login` again"
            )
        return content

    def _write(self, content: Mapping[str, Any]) -> None:
        """Write it whole or not at all; nobody else reads it at any moment."""
        scratch = self.path.with_name(f"{self.path.name}.{os.getpid()}.new")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        try:
            scratch.unlink(missing_ok=True)
            try:
                with os.fdopen(os.open(scratch, flags, 0o600), "w") as file:
                    json.dump(content, file, indent=2)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(scratch, self.path)
            except BaseException:
                scratch.unlink(missing_ok=True)
                raise
        except OSError as error:
            raise self._unwritten(error) from None


def made(program: Program, grant: Grant, way: str) -> Login:
    """Return a sign-in that was just made, or renewed."""
    left_s = max(0.0, grant.expires_at - time.time())
    return Login(program, grant, way, grant.expires_at - min(RENEW_S, left_s * RENEW_PART))


def _plain(login: Login | KeptSession) -> dict[str, Any]:
    return {"session": asdict(login)} if isinstance(login, KeptSession) else asdict(login)


def _kept(found: Any) -> Login | KeptSession | None:
    """Return a sign-in out of the file; None if it is none, or of another version."""
    try:
        told = found["session"]
        token, way = told["token"], told["way"]
        if isinstance(token, str) and isinstance(way, str) and token.isascii() and token:
            return KeptSession(token, way, float(told["renew_at"]), float(told["ends_at"]))
    except (TypeError, KeyError, ValueError):
        pass
    return _login(found)


def _login(found: Any) -> Login | None:
    try:
        program, grant = Program(**found["program"]), Grant(**found["grant"])
        texts = (*asdict(program).values(), grant.access_token, grant.refresh_token)
        if not all(isinstance(one, str) and one.isascii() for one in texts):
            return None
        float(grant.expires_at)
        return Login(program, grant, str(found["way"]), float(found["renew_at"]))
    except (TypeError, KeyError, ValueError):  # none, or of another version
        return None


class Renewing:
    """An access token that is had when it is needed, and renewed in time. Used by many threads."""

    def __init__(self, get: Callable[[], Login]) -> None:
        """`get` returns a sign-in that lasts; it may wait for the provider."""
        self._get, self._lock = get, threading.Lock()
        self._kept: Login | None = None

    def token(self) -> str:
        """Return an access token; while the provider is away the last one, as long as it is
        good."""
        with self._lock:
            kept = self._kept
            if kept is None or time.time() >= kept.renew_at:
                try:
                    kept = self._kept = self._get()
                except errors.Unreachable:
                    if kept is None or time.time() >= kept.grant.expires_at:
                        raise
            return kept.grant.access_token


def of_file(address: str, file: LoginFile | None = None) -> Renewing:
    """Return what `daskgateway login` has left for a gateway."""
    kept = file or LoginFile()

    def renew(login: Login) -> Grant:
        if not login.grant.refresh_token:
            raise errors.AuthenticationFailed(
                f"the sign-in at {address} is over, and the identity provider gave nothing to renew"
                " it by; `daskgateway login` again",
                code="UNAUTHENTICATED",
            )
        try:
            return grants.renewed(login.program, login.grant.refresh_token)
        except grants.Refused as error:
            raise errors.AuthenticationFailed(
                f"the sign-in at {address} is over ({error}); `daskgateway login` again",
                code="UNAUTHENTICATED",
            ) from None

    def get() -> Login:
        found = kept.renewed(address, renew)
        if found is None:
            raise errors.AuthenticationFailed(
                f"nobody is signed in at {address} any more; `daskgateway login` again",
                code="UNAUTHENTICATED",
            )
        return found

    return Renewing(get)


def of_program(program: Program) -> Renewing:
    """Return the tokens of a program's own."""
    return Renewing(lambda: made(program, grants.of_its_own(program), ""))


class StoredLogin(Auth):
    """Whoever has signed in at a gateway with `daskgateway login`."""

    def __init__(self, address: str) -> None:
        self._address, self._tokens = address, of_file(address)

    def header(self) -> str:
        """Return the header's value; the sign-in is renewed when it is about to end."""
        return f"Bearer {self._tokens.token()}"

    def __repr__(self) -> str:
        return f"StoredLogin({self._address!r})"


class StoredSession(Auth):
    """Whoever has signed in at a gateway with `daskgateway login` and a password: by the session
    that was made then."""

    session = When.FIRST

    def __init__(self, address: str, kept: KeptSession) -> None:
        self._address, self._kept = address, kept

    def header(self) -> str:
        """Return the header's value."""
        return f"Bearer {self._kept.token}"

    def begin(self, host: str) -> SignIn:
        """Raise AuthenticationFailed: only its user can sign in anew."""
        raise errors.AuthenticationFailed(
            f"the session at {self._address} is over; `daskgateway login` again",
            code="UNAUTHENTICATED",
        )

    def stored(self) -> Stored | None:
        """Return the session."""
        now = time.time()
        return Stored(self._kept.token, self._kept.renew_at - now, self._kept.ends_at - now)

    def same(self) -> object:
        """Return what is equal for the same session."""
        return ("stored", hashlib.sha256(self._kept.token.encode()).digest())

    def __repr__(self) -> str:
        return f"StoredSession({self._address!r})"


def stored(address: str) -> Auth | None:
    """Return whoever has signed in at a gateway with `daskgateway login`, None if nobody has;
    ValueError if the file cannot be used."""
    kept = LoginFile().read(address)
    if isinstance(kept, KeptSession):
        return StoredSession(address, kept)
    return StoredLogin(address) if kept is not None else None
