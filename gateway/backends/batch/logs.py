"""How an instance's log is read: found among the files of its directory, in pieces, as whom it
belongs to."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from gateway.backends import logfile
from gateway.backends.batch.directories import removable
from gateway.backends.batch.identity import Identity
from gateway.backends.batch.logfiles import log_of
from gateway.backends.contract import Instance
from gateway.backends.reading import SLOWER, turns

logger = logging.getLogger(__name__)

# between two looks at a log that is followed: after it grew, and while it is quiet for long
FOLLOW_S = (1.0, 5.0)


@dataclass(frozen=True, slots=True)
class LogPlace:
    """Where an instance's log lies."""

    identity: Identity
    account: str
    directory: str
    prefix: str = ""  # of the cluster's files, where the directory is not its own

    async def path(self, instance: Instance) -> str:
        """Return the log's path, an empty text if there is none yet."""
        name = log_of(
            instance, await self.identity.entries(self.account, self.directory), self.prefix
        )
        return f"{self.directory}/{name}" if name else ""

    async def remove(self) -> None:
        """Remove every log of the cluster; what may not be removed, as in a user's own directory,
        is left to the site."""
        left = []
        for path in await removable(self.identity, self.account, self.directory, self.prefix):
            try:
                await self.identity.remove(self.account, path)
            except PermissionError:
                left.append(path)
        if left:
            logger.info(
                "logs may not be removed here and are left to the site: %s%s",
                left[0],
                f" and {len(left) - 1} more" * (len(left) > 1),
            )

    async def last_words(self, instance: Instance) -> str:
        """Return the last lines of a log, at most logfile.TAIL_BYTES; empty if there is none."""
        path = await self.path(instance)
        if not path:
            return ""
        raw = await self.identity.read(
            self.account,
            path,
            await self.identity.tail_offset(self.account, path, logfile.TAIL_LINES),
        )
        return raw[-logfile.TAIL_BYTES :].decode(errors="replace").strip()

    async def pieces(
        self,
        instance: Instance,
        tail_lines: int,
        follow: bool,
        running: Callable[[], Awaitable[bool]],
    ) -> AsyncIterator[str]:
        """Yield the log in pieces; when following, go on until nothing more is written and the
        instance runs no longer."""
        path, offset, wait_s = "", 0, FOLLOW_S[0]
        while True:
            # asked before reading, so that the last words are not missed
            writing = follow and await running()
            # each may take a process: who follows many of them waits for his own turn
            async with turns():
                if not path and (path := await self.path(instance)):
                    offset = await self.identity.tail_offset(self.account, path, tail_lines)
                raw = await self.identity.read(self.account, path, offset) if path else b""
            if raw:
                wait_s = FOLLOW_S[0]
                end = raw.rfind(b"\n") + 1 if len(raw) == logfile.PIECE_BYTES else 0
                whole = raw[:end] if end else raw
                offset += len(whole)
                yield whole.decode(errors="replace")
            elif not writing:
                return
            else:
                await asyncio.sleep(wait_s)
                wait_s = min(FOLLOW_S[1], wait_s * SLOWER)
