"""Backends that lose logs or leave secrets."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

from gateway.backends.contract import (
    Launch,
    Target,
)
from tests.backends.broken.base import Local, noticed_by


@noticed_by("test_logs_outlive_the_instance_and_end_with_the_purge")
class LogsEndWithTheProcess(Local):
    """Removes logs too early."""

    async def cleanup(self, uid: str) -> None:
        await super().cleanup(uid)
        await super().purge(uid)


@noticed_by("test_logs_outlive_the_instance_and_end_with_the_purge")
class PurgesNothing(Local):
    """Keeps logs for ever."""

    async def purge(self, uid: str) -> None:
        pass


@noticed_by("test_a_long_log_comes_whole_in_pieces_and_its_end_alone_if_wished")
class LogInOnePiece(Local):
    """Yields a log however long it is."""

    async def logs(
        self, target: Target, *, tail_lines: int = 0, follow: bool = False
    ) -> AsyncIterator[str]:
        yield "".join(
            [piece async for piece in super().logs(target, tail_lines=tail_lines, follow=follow)]
        )


@noticed_by("test_a_long_log_comes_whole_in_pieces_and_its_end_alone_if_wished")
class LosesTheEndOfLogs(Local):
    """Yields the first piece of a log alone."""

    async def logs(
        self, target: Target, *, tail_lines: int = 0, follow: bool = False
    ) -> AsyncIterator[str]:
        async for piece in super().logs(target, tail_lines=tail_lines, follow=follow):
            yield piece
            return


@noticed_by("test_a_long_log_comes_whole_in_pieces_and_its_end_alone_if_wished")
class BreaksCharacters(Local):
    """Cuts logs within characters."""

    async def logs(
        self, target: Target, *, tail_lines: int = 0, follow: bool = False
    ) -> AsyncIterator[str]:
        async for piece in super().logs(target, tail_lines=tail_lines, follow=follow):
            raw = piece.encode()
            for start in range(0, len(raw), 1001):
                yield raw[start : start + 1001].decode(errors="replace")


@noticed_by("test_secrets_are_removed_with_their_cluster")
class KeepsSecrets(Local):
    """Leaves the cluster's files."""

    async def cleanup(self, uid: str) -> None:
        pass


@noticed_by("test_the_directory_of_an_instance_is_its_own_and_goes_with_it")
class DirectoriesForEverybody(Local):
    """Lets everybody look into what an instance's directory has."""

    def _spawn(self, launch: Launch) -> Any:
        return super()._spawn(
            replace(launch, argv=("/bin/sh", "-c", 'chmod 755 ..; exec "$@"', "sh", *launch.argv))
        )


@noticed_by("test_the_directory_of_an_instance_is_its_own_and_goes_with_it")
class LeavesDirectories(Local):
    """Removes secrets, and nothing else of what there was."""

    async def cleanup(self, uid: str) -> None:
        for path in (self._directories.root / "clusters" / uid).glob("*/*.pem"):
            path.unlink()


@noticed_by("test_cleaning_up_one_cluster_touches_no_other")
class CleansUpEverything(Local):
    """Removes every cluster's logs with one's."""

    async def purge(self, uid: str) -> None:
        await asyncio.to_thread(shutil.rmtree, self._directories.root / "logs")


@noticed_by("test_forgetting_is_no_error_however_often")
class CannotForgetTwice(Local):
    """Raises for a cluster that it does not know."""

    async def purge(self, uid: str) -> None:
        await asyncio.to_thread(shutil.rmtree, self._directories.root / "logs" / uid)
