"""What the edge needs of the server's when it runs as another account: a directory of its own, and
one with copies of what it may know.

    {state_dir}/edge    the edge's account's: routes, key of sessions
    {state_dir}/door    root's, where the edge's group may pass: server.sock, edge.token, tls.pem,
                        each for the edge's account alone

The state directory itself stays closed to it, and so does whatever lies above: the edge is given
both directories as open descriptors. Where the server is not root, the edge is the server's own
account: `door` is the state directory, and nothing is copied.
"""

from __future__ import annotations

import asyncio
import logging
import os
import pathlib
import stat

from gateway import orders
from gateway.configfile import ConfigurationError
from gateway.files import write_kept
from gateway.server.boot.listening import SOCKET_NAME
from gateway.server.edge.account import Account
from gateway.server.edge.words import word

logger = logging.getLogger(__name__)

# between two looks at the files: the edge then looks at its copy, and five seconds are promised
CHECK_S = 1.0
TOKEN, TLS = "edge.token", "tls.pem"
MAX_TLS_BYTES = 2**20


class EdgeRoom:
    """The directories, made and given away; held open."""

    def __init__(
        self, state_dir: pathlib.Path, account: Account | None, certificate: str, key: str
    ) -> None:
        """`certificate` and `key`: the PEM files of c.Proxy.tls_cert and tls_key, empty if there
        are none."""
        self.account = account
        self._sources = [pathlib.Path(path) for path in (certificate, key) if path]
        self._stamp: tuple[int, ...] = ()
        self._state_dir, self._own = state_dir, state_dir / "edge"
        self.door = state_dir / "door" if account is not None else state_dir
        self.directories: list[int] = []  # descriptors that the edge is given
        # where the server is to listen, and for whom if not for itself
        self.sockets: list[tuple[int, Account | None]] = []

    def make(self) -> None:
        """Make what is needed, with the copies. ConfigurationError if that cannot be."""
        try:
            if self.account is not None:
                _give_directory(self._own, self.account)
                _make_door(self.door, self.account)
                self._copy(TOKEN, (self._state_dir / TOKEN).read_bytes(), self.account)
            given = [self.door] if self.account is None else [self.door, self._own]
            self.directories += map(_opened, given)
            self.sockets.append((self.directories[0], self.account))
            if self.account is not None:
                self.sockets.append((_opened(self._state_dir), None))
        except OSError as error:
            raise ConfigurationError(
                f"c.DaskGateway.state_dir: {error.filename}: {error.strerror}"
            ) from None
        try:
            self._copy_tls()
        except OSError as error:
            raise ConfigurationError(
                f"c.Proxy.tls_cert, tls_key: {error.filename}: {error.strerror}"
            ) from None

    def words(self) -> list[str]:
        """Return what the edge is told of it."""
        door, own = orders.place(0), str(self._own) if self.account is None else orders.place(1)
        token = self._state_dir / TOKEN if self.account is None else f"{door}/{TOKEN}"
        found = [
            word("server_address", f"unix:{door}/{SOCKET_NAME}"),
            word("token_file", str(token)),
            word("state_dir", own),
        ]
        if self.account is not None and self._sources:
            found += [word("tls_cert", f"{door}/{TLS}"), word("tls_key", f"{door}/{TLS}")]
        return found

    def close(self) -> None:
        """Let go of the directories."""
        for descriptor in {*self.directories, *(directory for directory, _ in self.sockets)}:
            os.close(descriptor)
        self.directories, self.sockets = [], []

    async def follow(self) -> None:
        """Hand the certificate over again whenever its files change, for ever, if that is
        needed."""
        while self.account is not None and self._sources:
            await asyncio.sleep(CHECK_S)
            if self._stamp_now() != self._stamp:
                try:
                    await asyncio.to_thread(self._copy_tls)
                    logger.info("the edge's certificate was handed over again")
                except OSError as error:
                    logger.error(
                        "c.Proxy.tls_cert, tls_key: %s: %s; the old one stays",
                        error.filename,
                        error.strerror,
                    )

    def _copy_tls(self) -> None:
        """Copy both into one file, so that one is never seen without the other."""
        if self.account is None:
            return
        self._stamp = self._stamp_now()
        if self._sources:
            self._copy(TLS, b"\n".join(_read(path) for path in self._sources), self.account)
        else:
            (self.door / TLS).unlink(missing_ok=True)

    def _stamp_now(self) -> tuple[int, ...]:
        try:
            found = [path.stat() for path in self._sources]
        except OSError:
            return (-1,)
        return tuple(
            part for status in found for part in (status.st_ino, status.st_mtime_ns, status.st_size)
        )

    def _copy(self, name: str, content: bytes, account: Account) -> None:
        """Write a file that the edge's account alone may read, whole or not at all; the directory
        is root's alone to write."""
        write_kept(self.door / name, content, 0o400, (account.uid, account.gid))


def _opened(directory: pathlib.Path) -> int:
    return os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)


def _read(path: pathlib.Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_TLS_BYTES)


def _make_door(path: pathlib.Path, account: Account) -> None:
    path.mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fchown(descriptor, os.geteuid(), account.gid)
        os.fchmod(descriptor, 0o710)
    finally:
        os.close(descriptor)


def _give_directory(path: pathlib.Path, account: Account) -> None:
    """Give a directory with its plain files to an account. What another account had in it is not
    trusted, and removed."""
    path.mkdir(mode=0o700, exist_ok=True)
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        owner = os.fstat(directory).st_uid
        os.fchmod(directory, 0o700)
        if owner == account.uid:
            return  # and has been: whatever is in it is that account's business
        os.fchown(directory, os.geteuid(), account.gid)  # nobody else changes anything meanwhile
        for name in os.listdir(directory):
            if owner != os.geteuid() or not _give_file(directory, name, account):
                _remove(directory, name)
        os.fchown(directory, account.uid, account.gid)
    finally:
        os.close(directory)


def _give_file(directory: int, name: str, account: Account) -> bool:
    """Give a plain file away that has no other name; whether it is one."""
    try:
        descriptor = os.open(
            name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory
        )
    except OSError:
        return False
    try:
        status = os.fstat(descriptor)
        if (
            not stat.S_ISREG(status.st_mode)
            or status.st_nlink != 1
            or status.st_uid != os.geteuid()
        ):
            return False
        os.fchown(descriptor, account.uid, account.gid)
        return True
    finally:
        os.close(descriptor)


def _remove(directory: int, name: str) -> None:
    try:
        os.unlink(name, dir_fd=directory)
    except IsADirectoryError:
        logger.warning("%s in the edge's directory is a directory, and stays", name)
