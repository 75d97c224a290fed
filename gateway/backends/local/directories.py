"""Where the processes of this machine have their files. What root has given to a user, root never
follows by its name afterwards.

    ROOT/                        0700; 0711 where processes run as users, who pass through
        clusters/UID/            root's, 0710 for the group of its user
            .account             root's: the number of its user
            NAME/                the user's, 0700: the files of the launch
                scratch/         the user's: where the process stands, entered by a descriptor
                                 from before it was given
            .old-…/              a NAME that another has replaced, while it is being removed
        logs/UID/.user           root's: whose cluster it is
        logs/UID/NAME.log        root's, 0600; its process has it open

Without users everything is the gateway's own account's.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pathlib
import pwd
import secrets
import stat
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from gateway.backends import logfile
from gateway.backends.as_user import open_plain, put_files, remove_tree
from gateway.backends.contract import BackendUnavailable, Instance, Launch
from gateway.backends.local import log_shares
from gateway.wire import decimal, is_instance_name, is_uid

REMOVE_S = 20.0  # longest try to remove a cluster's files; the next one goes on where it was
REMOVERS = 2  # removals at a time: what a user has filled without end takes no thread of others
ACCOUNT = ".account"
_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Prepared:
    """An instance's files, ready for its process."""

    directory: pathlib.Path
    scratch: int  # descriptor (O_PATH)
    log: int  # descriptor, to write


class Directories:
    """The files of all clusters."""

    def __init__(self, root: str, *, users: bool) -> None:
        self._named = pathlib.Path(os.path.abspath(os.path.expanduser(root)))
        self.root = pathlib.Path(os.path.realpath(self._named))
        self._clusters, self._logs, self._users = self.root / "clusters", self.root / "logs", users
        self._making = threading.Lock()
        self.removers = ThreadPoolExecutor(REMOVERS, thread_name_prefix="local-remove")

    def objection(self) -> str:
        """Return why the directories cannot be used as they are now, an empty text if they can;
        nothing is made."""
        if not self._users:
            return ""
        try:
            self._check_those_there()
            there = [path for path in self._clusters.parents if path.exists()]
            closed = [path for path in there if not path.stat().st_mode & 0o001]
        except BackendUnavailable as error:
            return str(error)
        except OSError as error:
            return f"c.LocalBackend.root: {error.filename}: {error.strerror}"
        return _closed(closed[0]) if closed and closed[0] != self.root else ""

    def _check_those_there(self) -> None:
        places = (self._clusters, *self._clusters.parents, self._named, *self._named.parents)
        self._check(path for path in places if path.exists())

    def make(self) -> None:
        """Make the directories; BackendUnavailable if they cannot be, or could be exchanged by
        users."""
        mode = 0o711 if self._users else 0o700
        try:
            if self._users:
                self._check_those_there()
            self.root.mkdir(parents=True, exist_ok=True, mode=mode)
            self._clusters.mkdir(exist_ok=True, mode=mode)
            self._logs.mkdir(exist_ok=True, mode=0o700)
            if self._users:  # whatever the umask: users pass through, and see nothing
                self.root.chmod(mode)
                self._clusters.chmod(mode)
                self._check((self._logs, self._clusters, *self._clusters.parents))
            closed = [
                path
                for path in self._clusters.parents
                if self._users and not path.stat().st_mode & 0o001
            ]
        except OSError as error:
            raise BackendUnavailable(
                f"c.LocalBackend.root: {error.filename}: {error.strerror}"
            ) from None
        if closed:
            raise BackendUnavailable(_closed(closed[0]))

    def _check(self, paths: Iterable[pathlib.Path]) -> None:
        """Refuse a directory that others than root could put another in the place of."""
        for path in paths:
            status = path.stat()
            others = 0o002 if status.st_gid == 0 else 0o022
            if {status.st_uid, path.lstat().st_uid} != {0} or (
                status.st_mode & others and not status.st_mode & stat.S_ISVTX
            ):
                raise BackendUnavailable(
                    f"c.LocalBackend.root: {path} can be changed by others than root, who could"
                    f" put files into clusters"
                )

    def lock(self) -> int:
        """Return a descriptor that holds them: a second gateway in them would end every process
        that its own database does not know."""
        path = self.root / "gateway.lock"
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise BackendUnavailable(f"c.LocalBackend.root: {path}: {error.strerror}") from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise BackendUnavailable(
                f"c.LocalBackend.root: another gateway uses {self.root}; give each one of its own"
            ) from None
        return descriptor

    @contextlib.contextmanager
    def prepared(self, launch: Launch, account: pwd.struct_passwd | None) -> Iterator[Prepared]:
        """Make an instance's directory with the launch's files, its account's, and its log.
        OSError; ValueError for a name that is none.

        It is given to the user last, when nothing is done in it any more by its name.
        """
        instance = launch.instance
        if not is_uid(instance.uid) or not is_instance_name(instance.name):
            raise ValueError(f"{instance.uid}/{instance.name} is no name of an instance")
        with self._making:  # several of a cluster may be the first
            cluster = self._cluster(instance.uid, account)
        directory = cluster / instance.name
        if os.path.lexists(directory):
            self._set_aside(instance.uid, directory)
        directory.mkdir(mode=0o700)
        with contextlib.ExitStack() as stack:

            def opened(descriptor: int) -> int:
                stack.callback(os.close, descriptor)
                return descriptor

            at = opened(os.open(directory, _DIRECTORY))
            os.mkdir("scratch", 0o700, dir_fd=at)
            scratch = opened(os.open("scratch", _DIRECTORY, dir_fd=at))
            put_files(at, launch.files)
            if account is not None:
                for name in (*launch.files, "scratch"):
                    os.chown(name, account.pw_uid, account.pw_gid, dir_fd=at, follow_symlinks=False)
                os.chown(directory, account.pw_uid, account.pw_gid, follow_symlinks=False)
            yield Prepared(directory, scratch, opened(self._open_log(instance, launch.user)))

    def _cluster(self, uid: str, account: pwd.struct_passwd | None) -> pathlib.Path:
        """Return a cluster's directory, made if need be, which nobody but its user gets into."""
        cluster = self._clusters / uid
        cluster.mkdir(exist_ok=True, mode=0o700)
        if account is not None:
            known = self.account(uid)
            if known is None:
                at = os.open(cluster, _DIRECTORY)
                try:
                    put_files(at, {ACCOUNT: str(account.pw_uid).encode()})
                finally:
                    os.close(at)
            elif known != account.pw_uid:
                raise ValueError(
                    f"cluster {uid} belongs to another account: to number {known}, and"
                    f" {account.pw_name} has {account.pw_uid}"
                )
            os.chown(cluster, 0, account.pw_gid)
            cluster.chmod(0o710)
        return cluster

    def _set_aside(self, uid: str, directory: pathlib.Path) -> None:
        """Make room for a new directory at once: an earlier one may take its time to be removed."""
        old = directory.with_name(f".old-{secrets.token_hex(8)}")
        directory.rename(old)
        owners = self._owners(uid)
        # what is left, the cleanup sees to
        self.removers.submit(remove_tree, str(old), within_s=REMOVE_S, owners=owners)

    def _open_log(self, instance: Instance, user: str) -> int:
        path = self.log(instance)
        path.parent.mkdir(exist_ok=True, mode=0o700)
        log_shares.mark(path.parent, user)
        return os.open(
            path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
        )

    def log(self, instance: Instance) -> pathlib.Path:
        """Return where an instance's log is."""
        return self._logs / instance.uid / f"{instance.name}.log"

    def account(self, uid: str) -> int | None:
        """Return the number of a cluster's account, None if nobody knows."""
        if not self._users:
            return os.geteuid()
        try:
            with open_plain(self._clusters / uid / ACCOUNT, 0) as file:
                return decimal(file.read(20).decode(errors="replace"))
        except OSError:
            return None

    def owner(self, instance: Instance) -> int | None:
        """Return whose an instance's directory is, None if there is none; of one that is not known
        to be sound."""
        try:
            status = (self._clusters / instance.uid / instance.name).lstat()
        except OSError:
            return None
        return status.st_uid if stat.S_ISDIR(status.st_mode) else None

    def _owners(self, uid: str) -> tuple[int, ...]:
        """Return whose directories root may empty; nobody's in particular if all of it is one
        account's."""
        return (self.account(uid) or 0,) if self._users else ()

    def remove_files(self, uid: str) -> None:
        """Remove a cluster's files, not its logs; BackendUnavailable says what stands in the way,
        when the rest is removed."""
        owners, until, failed = self._owners(uid), time.monotonic() + REMOVE_S, None
        cluster = self._clusters / uid
        # whose they are is known until they are gone
        for name in [name for name in _names(cluster) if name != ACCOUNT]:
            try:
                _remove(cluster / name, until, owners)
            except BackendUnavailable as error:
                failed = failed or error
        if failed is not None:
            raise failed
        _remove(cluster, until, owners)

    def shorten_logs(self, uid: str, limit_bytes: int) -> None:
        """Give the oldest part of each of a cluster's logs back to the disk that takes more of it
        than so much."""
        logfile.shorten((self._logs / uid).glob("*.log"), limit_bytes)

    def shorten_logs_beyond(self, limit_bytes: int) -> None:
        """Give the oldest part of logs back to the disk of every user whose logs take more of it
        than so much together."""
        log_shares.shorten_beyond(self._logs, limit_bytes)

    def remove_logs(self, uid: str) -> None:
        """Remove a cluster's logs; BackendUnavailable says what stands in the way."""
        _remove(self._logs / uid, time.monotonic() + REMOVE_S, ())


def closed_above(program: str) -> str:
    """Return which directory keeps other users from a program, as what is to be added to what the
    system says of it; empty if none does. Links are followed."""
    for path in (program, os.path.realpath(program)):
        for place in reversed(pathlib.Path(path).parents):
            with contextlib.suppress(OSError):
                mode = stat.S_IMODE(place.stat().st_mode)
                if not mode & 0o001:
                    return (
                        f": {place} is closed to other users (mode {mode:o}), so clusters cannot"
                        f" run as them; install it elsewhere, or name another Python in"
                        f" c.ClusterConfig.python"
                    )
    return ""


def _closed(path: pathlib.Path) -> str:
    return (
        f"c.LocalBackend.root: {path} is closed to other users, who could not read their own"
        f" certificates"
    )


def _names(directory: pathlib.Path) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError:
        return []


def _remove(path: pathlib.Path, until: float, owners: tuple[int, ...]) -> None:
    try:
        remove_tree(str(path), within_s=max(0.0, until - time.monotonic()), owners=owners)
    except TimeoutError:
        raise BackendUnavailable(
            f"{path}: not removed within {REMOVE_S:g} s; going on with it later"
        ) from None
    except OSError as error:
        raise BackendUnavailable(f"{error.filename}: {error.strerror}") from None
