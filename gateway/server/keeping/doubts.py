"""Whether the database may be believed when it does not know what runs; if not, nothing is ended
before the administrator says so.

What is doubted stands in a file of the state directory, with every cluster that runs unknown.
`daskgateway confirm-database` shows it, asks, and leaves the administrator's word in another; that
word is about this database and those clusters, and about no others.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import pathlib
from collections.abc import Collection, Sequence

from gateway.backends.contract import Observation
from gateway.server.keeping.witness import INTERVAL_S, Witness, read_json, write_json
from gateway.server.store.contract import Store

logger = logging.getLogger(__name__)

DOUBT_FILE, WORD_FILE = "database-doubt.json", "database-confirmed.json"
MAX_TOLD = 1000  # clusters in the file
MAX_LOGGED = 10  # clusters in a line of the log
COMMAND = "daskgateway confirm-database"


class Doubts:
    """Port `Consent` of the sweep."""

    def __init__(
        self,
        state_dir: pathlib.Path,
        database: pathlib.Path,
        store: Store,
        strange: str,
        backends: Collection[str],
    ) -> None:
        self._directory, self._database, self._store, self._strange = (
            state_dir,
            database,
            store,
            strange,
        )
        self._witness = Witness(state_dir)
        self._backends, self._unswept = frozenset(backends), set(backends)
        self._unknown: dict[str, list[Observation]] = {}  # by backend, as of its last sweep
        self._confirmed: frozenset[str] = frozenset()
        self._owing: set[str] = set()  # backends that the administrator's word was not done on yet
        self._told: tuple[str, frozenset[str]] = ("", frozenset())

    def holds(self) -> bool:
        """Whether clusters may run that the database does not know; so it is until every backend
        was looked through once."""
        return bool(self._strange or self._unswept or any(self._unknown.values()))

    async def open(self) -> None:
        """Say what is doubted already."""
        await self._hear_word()
        await self._tell()

    async def keep(self) -> None:
        """Write down what the database is, and look whether its files are there, until
        cancelled."""
        while True:
            if not self._strange:
                await self._witness.note(self._store)
            await asyncio.sleep(INTERVAL_S)
            await self._store.healthy()

    async def close(self) -> None:
        """Write down what the database is at last."""
        if not self._strange:
            await self._witness.note(self._store)

    async def permitted(
        self, backend: str, left_over: Sequence[Observation], unknown: Sequence[Observation]
    ) -> Sequence[Observation]:
        """Return what may be ended of what a sweep found that the database does not intend."""
        await self._hear_word()
        self._unswept.discard(backend)
        self._unknown[backend] = [
            seen for seen in unknown if seen.instance.uid not in self._confirmed
        ]
        allowed = [seen for seen in unknown if seen.instance.uid in self._confirmed]
        if self._confirmed:
            self._owing.add(backend) if allowed else self._owing.discard(backend)
            if not self._owing:
                self._confirmed = frozenset()
                _remove(self._directory / WORD_FILE)
        await self._tell()
        if self._strange:
            return []
        if left_over or allowed:
            await self._witness.note(self._store)
        return [*left_over, *allowed]

    async def _hear_word(self) -> None:
        """Take in what the administrator has confirmed."""
        path = self._directory / WORD_FILE
        word = await asyncio.to_thread(read_json, path)
        if not word:
            return
        if word.get("database") != self._store.identity:
            logger.warning(
                "%s is about another database than the one that is there now, and means nothing",
                path,
            )
            _remove(path)
            return
        confirmed = _uids(word.get("clusters"))
        if confirmed is None:
            logger.error("%s cannot be read, and means nothing; run `%s` again", path, COMMAND)
            _remove(path)
            return
        if self._strange or confirmed != self._confirmed:
            logger.warning(
                "the administrator has confirmed the database %s: %d unknown clusters are ended",
                self._database,
                len(confirmed),
            )
            self._owing = set(self._backends)
        self._strange, self._confirmed = "", confirmed
        await self._witness.note(self._store)
        if not confirmed:
            _remove(path)

    async def _tell(self) -> None:
        """Say in the log, and in the file, what is doubted, when it is more than before; and when
        nothing is any more."""
        path = self._directory / DOUBT_FILE
        clusters = _clusters(self._unknown)
        doubt = self._strange or (
            "does not know all that runs, as a backup would not" if clusters else ""
        )
        before, self._told = self._told, (doubt, frozenset(uid for _, uid, _, _ in clusters))
        if not doubt:
            if before[0]:
                logger.info("the database %s is not doubted any more", self._database)
            if not self._unswept:  # until then what an earlier server wrote may hold still
                _remove(path)
            return
        fields = ("backend", "uid", "user", "processes")
        told: dict[str, object] = {
            "database": self._store.identity,
            "path": str(self._database),
            "why": doubt,
        }
        told |= {
            "clusters": [
                dict(zip(fields, cluster, strict=True)) for cluster in clusters[:MAX_TOLD]
            ],
            "count": len(clusters),
        }
        try:
            await asyncio.to_thread(write_json, path, told)
        except OSError as error:
            logger.error("%s: %s", path, error.strerror)
        if before[0] != doubt or not self._told[1] <= before[1]:
            self._complain(doubt, clusters)

    def _complain(self, doubt: str, clusters: Sequence[tuple[str, str, str, int]]) -> None:
        named = ", ".join(
            f"{uid} of {user or 'unknown'} on {backend}"
            for backend, uid, user, _ in clusters[:MAX_LOGGED]
        )
        more = f", and {len(clusters) - MAX_LOGGED} more" if len(clusters) > MAX_LOGGED else ""
        running = (
            f"; {len(clusters)} clusters run that it does not know ({named}{more})"
            if clusters
            else ""
        )
        logger.error(
            "the database %s %s%s. Nothing is ended for that. If another database is the right"
            " one, stop the server, put it there and"
            " start again; if this one is to stay, run `%s`, which lists what it would end, and"
            " asks",
            self._database,
            doubt,
            running,
            COMMAND,
        )


def _remove(path: pathlib.Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)


def _uids(clusters: object) -> frozenset[str] | None:
    """Return the uids in a list of clusters, None if it is none."""
    if not isinstance(clusters, list):
        return None
    found = [cluster.get("uid") if isinstance(cluster, dict) else None for cluster in clusters]
    uids = [uid for uid in found if isinstance(uid, str)]
    return frozenset(uids) if len(uids) == len(found) else None


def _clusters(unknown: dict[str, list[Observation]]) -> list[tuple[str, str, str, int]]:
    """Return backend, uid, user and number of processes of every cluster that is unknown."""
    counted: dict[tuple[str, str], tuple[str, int]] = {}
    for backend, found in unknown.items():
        for seen in found:
            user, count = counted.get((backend, seen.instance.uid), ("", 0))
            counted[backend, seen.instance.uid] = (user or seen.user, count + 1)
    return [
        (backend, uid, user, count) for (backend, uid), (user, count) in sorted(counted.items())
    ]
