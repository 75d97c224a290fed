"""Whether there is room on the database's disk for more: below a bound no new cluster is accepted,
while what there is may be ended."""

from __future__ import annotations

import asyncio
import logging
import os
import pathlib
from collections.abc import Awaitable, Callable

from gateway.server.store.contract import StoreUnreachable

logger = logging.getLogger(__name__)

LOOK_S = 5.0


class Room:
    """The free space of a directory's file system."""

    def __init__(
        self, directory: pathlib.Path, least_bytes: int, reserve: Callable[[], Awaitable[None]]
    ) -> None:
        self._directory, self._least_bytes, self._reserve = directory, least_bytes, reserve
        self._full = False

    def full(self) -> bool:
        """Whether there was too little at the last look."""
        return self._full

    def look(self) -> None:
        """Look how much is free, and log when that begins or ceases to be too little."""
        try:
            found = os.statvfs(self._directory)
        except OSError as error:  # the store says so itself
            logger.debug("%s: %s", self._directory, error)
            return
        free_bytes = found.f_bavail * found.f_frsize
        before, self._full = self._full, free_bytes < self._least_bytes
        if self._full and not before:
            logger.error(
                "the disk of the database (%s) has %d MiB left: no new cluster is accepted below"
                " %d MiB (c.DaskGateway.min_free_bytes)."
                " Make room; what users write is below the backends' directories, which can be on"
                " a disk of their own",
                self._directory,
                free_bytes // 2**20,
                self._least_bytes // 2**20,
            )
        elif before and not self._full:
            logger.info(
                "the disk of the database (%s) has room again: new clusters are accepted",
                self._directory,
            )

    async def keep(self) -> None:
        """Look from time to time, until cancelled; while there is room, see to the reserve for when
        there is none."""
        while True:
            await asyncio.to_thread(self.look)
            if not self._full:
                try:
                    await self._reserve()
                except StoreUnreachable as error:  # the store says so itself
                    logger.debug("no space was reserved: %s", error)
            await asyncio.sleep(LOOK_S)
