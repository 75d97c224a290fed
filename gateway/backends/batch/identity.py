"""As whom jobs and their files are: the gateway's own account, or each user's by sudo and a small
launcher. Knows no batch system.

`service` needs no rights at all: jobs run as the account of the gateway. `sudo` runs
`daskgateway-as-user` (gateway.backends.as_user) as the user; one line of sudoers permits that and
nothing else. Names of users are checked here and again by the launcher.
"""

from __future__ import annotations

import asyncio
import base64
import getpass
import json
import os
import pathlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeVar

from gateway.backends import doubtful_files as own_files
from gateway.backends import logfile
from gateway.backends.as_user import MAX_NAMES, PIECE_BYTES, Refused, list_names
from gateway.backends.batch import commands
from gateway.backends.contract import BackendUnavailable
from gateway.backends.reading import in_reader
from gateway.wire import decimal

T = TypeVar("T")

ACCOUNT = re.compile(r"[a-z_][a-z0-9_.-]{0,31}")
NEVER = ("root",)
LAUNCHER_DEADLINE_S = 30.0

# What sudo and the launcher say when they have not run what was asked for. A warning of sudo's is
# no such word: the command's own follow.
_NOT_RUN = re.compile(
    r"sudo(-rs)?: |Sorry, user \S+ (is not allowed|may not)|\S+ is (not in the sudoers file|not"
    r" allowed to run sudo)"
)
_NO_SLURM_CONF = re.compile(
    r"establish a configuration source|resolve_ctls_from_dns_srv|slurm\.conf: No such file"
    r"|Unable to process configuration file"
)
_KEEP = (
    "; sudo drops SLURM_CONF: where slurm.conf is not at Slurm's own place, sudoers needs"
    ' Defaults:{me} env_keep += "SLURM_CONF"'
)
_LAUNCHER_SAYS = "daskgateway-as-user: "
_LATE = "did not answer within"  # it did run the command
_REPORTED = "This incident "  # the line that sudo may add
_HINTS = (
    ("unknown user", "this machine has no user {account}"),
    ("command not found", "see {section}.launcher"),
)
_NO_LINE = "sudoers does not let {me} run {launcher} as {account}"


class Identity(Protocol):
    """Who does it."""

    def account(self, user: str) -> str:
        """Return the system account that a user's jobs run as; ValueError says why there is
        none."""

    def words(self, account: str, argv: Sequence[str]) -> list[str]:
        """Return the words that run a command as an account."""

    def judged(self, account: str, answer: commands.Answer) -> commands.Answer:
        """Return what the command of those words answered; BackendUnavailable if it was never run,
        which is no fault of its words."""

    async def write(self, account: str, directory: str, files: Mapping[str, bytes]) -> None:
        """Make a directory of mode 0700, its parents too, with files of mode 0600. OSError or
        BackendUnavailable."""

    async def entries(self, account: str, directory: str) -> list[str]:
        """Return the names in a directory; none if it is not there."""

    async def tail_offset(self, account: str, path: str, lines: int) -> int:
        """Return where the last lines of a file begin."""

    async def read(self, account: str, path: str, offset: int) -> bytes:
        """Return at most logfile.PIECE_BYTES of a file; nothing if it is not there."""

    async def remove(self, account: str, path: str) -> None:
        """Remove a directory with all in it, or a file; what is not there is no error."""


def _last(answer: commands.Answer) -> str:
    """Return the last line of a complaint: what sudo warns of stands before the command's own
    words."""
    lines = [
        line for line in answer.err.splitlines() if line.strip() and not line.startswith(_REPORTED)
    ]
    return lines[-1] if lines else ""


def _names(text: str) -> list[str] | None:
    """Return the names of files that are told, None if it is anything else."""
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(told, list) or len(told) > MAX_NAMES:
        return None
    return (
        told
        if all(
            isinstance(name, str) and name not in ("", ".", "..") and not {"/", "\0"} & set(name)
            for name in told
        )
        else None
    )


def _piece(text: str) -> bytes | None:
    """Return the piece of a file that is told, None if it is anything else."""
    try:
        told = base64.b64decode(text.strip(), validate=True)
    except ValueError:
        return None
    return told if len(told) <= PIECE_BYTES else None


def checked_account(user: str) -> str:
    """Return a user's name as a system account; ValueError if it cannot be one, or is root."""
    if not ACCOUNT.fullmatch(user) or user in NEVER:
        raise ValueError(
            f"{user!r} is no account that jobs may run as: it must match {ACCOUNT.pattern} and not"
            f" be root"
        )
    return user


class ServiceIdentity:
    """Everything as the gateway's own account; also where files are the gateway's and jobs are
    not."""

    def account(self, user: str) -> str:
        """Return the gateway's own account."""
        return getpass.getuser()

    def words(self, account: str, argv: Sequence[str]) -> list[str]:
        """Return the command as it is."""
        return list(argv)

    def judged(self, account: str, answer: commands.Answer) -> commands.Answer:
        """Return the answer: nothing stands between."""
        return answer

    async def write(self, account: str, directory: str, files: Mapping[str, bytes]) -> None:
        """Make a private directory with files."""
        await asyncio.to_thread(own_files.write_files, pathlib.Path(directory), files)

    async def entries(self, account: str, directory: str) -> list[str]:
        """Return the names in a directory."""
        try:
            return await in_reader(list_names, directory)
        except Refused as error:
            raise BackendUnavailable(str(error)) from None

    def owner(self, account: str) -> int | None:
        """Return whose files may be read (uid); None for anybody's. Asked in a thread."""
        return None

    async def tail_offset(self, account: str, path: str, lines: int) -> int:
        """Return where the last lines begin; 0 if the file is not there or not to be read."""

        def look() -> int:
            try:
                return logfile.tail_offset(pathlib.Path(path), lines, self.owner(account))
            except OSError:
                return 0

        return await in_reader(look)

    async def read(self, account: str, path: str, offset: int) -> bytes:
        """Return a piece of a file."""
        return await in_reader(lambda: own_files.read_piece(path, offset, self.owner(account)))

    async def remove(self, account: str, path: str) -> None:
        """Remove a directory or file."""

        def owners() -> tuple[int, ...]:
            try:
                owner = self.owner(account)
            except OSError:  # there is no such account any more
                owner = os.geteuid()
            return () if owner is None else (owner,)

        await own_files.remove(path, await asyncio.to_thread(owners))


class SudoIdentity:
    """Everything as the user, by `sudo -n -u USER LAUNCHER …`."""

    def __init__(
        self,
        sudo: str,
        launcher: str,
        run: commands.Run = commands.run,
        *,
        section: str = "c.BatchBackend",
    ) -> None:
        self._sudo, self._launcher, self._run, self._section = sudo, launcher, run, section

    def account(self, user: str) -> str:
        """Return the account of the user's own name."""
        return checked_account(user)

    def words(self, account: str, argv: Sequence[str]) -> list[str]:
        """Return the launcher's words around a command."""
        return [
            self._sudo,
            "-n",
            "-u",
            checked_account(account),
            "--",
            self._launcher,
            "run",
            "--",
            *argv,
        ]

    def judged(self, account: str, answer: commands.Answer) -> commands.Answer:
        """Return the answer of a command that was run; BackendUnavailable, with what to look at, if
        sudo or the launcher refused."""
        last = _last(answer)
        if answer.code != 0 and _NO_SLURM_CONF.search(answer.err):
            words = last[: commands.MAX_WORDS_BYTES] + _KEEP.format(me=getpass.getuser())
            raise BackendUnavailable(f"the gateway's set-up is at fault, not the job: {words}")
        if answer.code == 1 and _NOT_RUN.match(last):
            hint = next((hint for words, hint in _HINTS if words in last), _NO_LINE)
            last += "; " + hint.format(
                account=account,
                me=getpass.getuser(),
                launcher=self._launcher,
                section=self._section,
            )
        elif answer.code not in (1, 2) or not last.startswith(_LAUNCHER_SAYS) or _LATE in last:
            return answer
        raise BackendUnavailable(
            f"the gateway's set-up is at fault, not the job: {last[: commands.MAX_WORDS_BYTES]}"
        )

    async def _ask(self, account: str, *words: str, stdin: bytes = b"") -> str:
        argv = [self._sudo, "-n", "-u", checked_account(account), "--", self._launcher, *words]
        answer = await self._run(argv, deadline_s=LAUNCHER_DEADLINE_S, stdin=stdin)
        if answer.code != 0:
            if _last(answer).startswith(_LAUNCHER_SAYS):  # such as a full disk
                raise BackendUnavailable(f"{words[0]} as {account}: {answer.complaint}")
            raise BackendUnavailable(
                f"{words[0]} as {account}: {self.judged(account, answer).complaint}"
            )
        return answer.out

    async def write(self, account: str, directory: str, files: Mapping[str, bytes]) -> None:
        """Make a private directory with files."""
        content = json.dumps(
            {name: base64.b64encode(content).decode() for name, content in files.items()}
        )
        await self._ask(account, "write", directory, stdin=content.encode())

    async def _told(self, read: Callable[[str], T | None], account: str, *words: str) -> T:
        """Return what an answer tells. The user may have written it himself: the launcher runs as
        him, so that he can take hold of it."""
        answer = await self._ask(account, *words)
        told = await in_reader(read, answer)
        if told is None:
            raise BackendUnavailable(
                f"{words[0]} as {account}: {self._launcher} answered what it never does"
            )
        return told

    async def entries(self, account: str, directory: str) -> list[str]:
        """Return the names in a directory."""
        return await self._told(_names, account, "entries", directory)

    async def tail_offset(self, account: str, path: str, lines: int) -> int:
        """Return where the last lines begin, if that is within logfile.MAX_TAIL_BYTES; else where
        these begin."""
        position = end = await self._told(lambda text: decimal(text.strip()), account, "size", path)
        missing = lines
        while lines and position > max(0, end - logfile.MAX_TAIL_BYTES):
            start = max(0, position - logfile.PIECE_BYTES)
            piece = (await self.read(account, path, start))[: position - start]
            # the last line's own end
            index = len(piece) - (1 if position == end and piece.endswith(b"\n") else 0)
            while (index := piece.rfind(b"\n", 0, index)) >= 0:
                missing -= 1
                if missing == 0:
                    return start + index + 1
            position = start
        return position if lines else 0

    async def read(self, account: str, path: str, offset: int) -> bytes:
        """Return a piece of a file."""
        return await self._told(_piece, account, "read", path, str(offset))

    async def remove(self, account: str, path: str) -> None:
        """Remove a directory or file."""
        await self._ask(account, "remove", path)


class EachAsStarted:
    """New clusters by one identity; whatever has begun as the account that it was begun as, though
    the administrator has changed the setting since: what is the gateway's own account's is done as
    that, all else by sudo."""

    def __init__(self, new: Identity, own: Identity, others: Identity) -> None:
        self._new, self._own, self._others = new, own, others

    def account(self, user: str) -> str:
        """Return the account that a new cluster of a user runs as; ValueError says why there is
        none."""
        account = self._new.account(user)
        if self._new is self._others and account == getpass.getuser():
            raise ValueError(f"{user!r} is the gateway's own account, which no user's jobs run as")
        return account

    def _of(self, account: str) -> Identity:
        return self._own if account == getpass.getuser() else self._others

    def words(self, account: str, argv: Sequence[str]) -> list[str]:
        """Return the words that run a command as an account."""
        return self._of(account).words(account, argv)

    def judged(self, account: str, answer: commands.Answer) -> commands.Answer:
        """Return what the command of those words answered."""
        return self._of(account).judged(account, answer)

    async def write(self, account: str, directory: str, files: Mapping[str, bytes]) -> None:
        """Make a private directory with files."""
        await self._of(account).write(account, directory, files)

    async def entries(self, account: str, directory: str) -> list[str]:
        """Return the names in a directory."""
        return await self._of(account).entries(account, directory)

    async def tail_offset(self, account: str, path: str, lines: int) -> int:
        """Return where the last lines of a file begin."""
        return await self._of(account).tail_offset(account, path, lines)

    async def read(self, account: str, path: str, offset: int) -> bytes:
        """Return a piece of a file."""
        return await self._of(account).read(account, path, offset)

    async def remove(self, account: str, path: str) -> None:
        """Remove a directory or file."""
        await self._of(account).remove(account, path)
