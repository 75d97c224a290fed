"""Logs of containers: brought from NodeManagers while they have them, kept here until their cluster
is purged, and fetched from what Hadoop has collected if nothing else is left."""

from __future__ import annotations

import asyncio
import os
import pathlib
import shutil
from collections.abc import Mapping, Sequence

from gateway.backends import logfile
from gateway.backends.batch import commands
from gateway.backends.contract import BackendUnavailable, Instance, Role
from gateway.backends.one_at_a_time import Turns
from gateway.backends.yarn import answers, script
from gateway.backends.yarn.held import Container, Held
from gateway.backends.yarn.rest import Rest
from gateway.wire import is_instance_name

PEEK_BYTES = 64 * 1024
AGAIN_S = 1.0  # between two looks for what Hadoop collects


class Logs:
    """Those below a directory."""

    def __init__(self, directory: pathlib.Path, rest: Rest, most_bytes: int) -> None:
        self._directory, self._rest, self._most_bytes = directory, rest, most_bytes
        self._turns = Turns()

    def path(self, instance: Instance) -> pathlib.Path:
        """Return where the log of an instance is kept."""
        return self._directory / instance.uid / f"{instance.name}.log"

    def begin(self, uid: str, instances: Sequence[Instance]) -> None:
        """Make room for the logs of what is to be started; what had these names before is
        dropped. OSError if that cannot be."""
        (self._directory / uid).mkdir(mode=0o700, parents=True, exist_ok=True)
        for instance in instances:
            self.path(instance).unlink(missing_ok=True)

    def known(self, uid: str) -> bool:
        """Whether there are, or were, logs of a cluster that was not purged."""
        return (self._directory / uid).is_dir()

    def remove(self, uid: str) -> None:
        """Remove the logs of a cluster."""
        shutil.rmtree(self._directory / uid, ignore_errors=True)

    def last_words(self, instance: Instance) -> str:
        """Return the end of a log that is here."""
        return logfile.tail(self.path(instance))

    async def pull(self, instance: Instance, container: Container) -> bool:
        """Bring what is new of a log from its node; return whether the node has one.
        BackendUnavailable if the node cannot be asked."""
        if not container.container or not container.node:
            return False
        async with self._turns.of(instance):
            path = self.path(instance)
            have = await asyncio.to_thread(_size, path)
            piece = await self._piece(container, script.LOG, PEEK_BYTES)
            if piece is None:
                return False
            if (new := piece.size - have) > len(piece.content):
                wanted = min(new + PEEK_BYTES, self._most_bytes)
                piece = await self._piece(container, script.LOG, wanted) or piece
                new = piece.size - have
            if new > 0:
                content = piece.content[-new:]
                await asyncio.to_thread(_write, path, piece.size - len(content), content)
                await asyncio.to_thread(logfile.shorten, [path], self._most_bytes)
            return True

    async def exit_code(self, container: Container) -> int | None:
        """Return with what a container's program has ended, None if that is not known."""
        if not container.container or not container.node:
            return None
        piece = await self._piece(container, script.EXIT, 100)
        return None if piece is None else parse_code(piece.content)

    async def _piece(
        self, container: Container, name: str, last_bytes: int
    ) -> answers.LogPiece | None:
        return await self._rest.log(container.node, container.container, name, last_bytes)

    async def collected(
        self, held: Held, environment: Mapping[str, str], timeout_s: float, patience_s: float
    ) -> dict[Instance, int | None]:
        """Keep what Hadoop has collected of an application that has ended, for instances of which
        nothing more is here; return their exit codes. Empty if it collects nothing."""
        loop = asyncio.get_running_loop()
        give_up = loop.time() + patience_s
        variables = dict(environment)
        if held.record is not None and held.record.shape.account:
            variables["HADOOP_PROXY_USER"] = held.record.shape.account
        while True:
            answer = await commands.run(
                ["yarn", "logs", "-applicationId", held.id],
                deadline_s=timeout_s,
                env=variables,
            )
            raw = answer.out.encode(errors="replace")
            found = answers.aggregated(raw) if answer.code == 0 else {}
            if any(script.LOG in files for files in found.values()) or loop.time() > give_up:
                return await asyncio.to_thread(self._keep, held, found)
            await asyncio.sleep(AGAIN_S)

    def _keep(
        self, held: Held, found: Mapping[str, Mapping[str, bytes]]
    ) -> dict[Instance, int | None]:
        named = {one.container: instance for instance, one in held.containers.items()}
        codes: dict[Instance, int | None] = {}
        for container, files in found.items():
            name = files.get(script.NAMED, b"").decode(errors="replace").strip()
            instance = named.get(container)
            if instance is None and is_instance_name(name):
                role = Role.SCHEDULER if name == "scheduler" else Role.WORKER
                instance = Instance(held.uid, role, name)
            if instance is None or script.LOG not in files:
                continue
            codes[instance] = parse_code(files.get(script.EXIT, b""))
            path = self.path(instance)
            if self.known(held.uid) and _size(path) < len(files[script.LOG]):
                path.unlink(missing_ok=True)
                _write(path, 0, files[script.LOG][-self._most_bytes :])
        return codes


def parse_code(text: bytes) -> int | None:
    """Return the exit code that a container has written down; anybody could have."""
    word = text.decode(errors="replace").strip()
    return int(word) if word.isdigit() and len(word) <= 3 else None


def _size(path: pathlib.Path) -> int:
    try:
        return os.lstat(path).st_size
    except OSError:
        return 0


def _write(path: pathlib.Path, offset: int, content: bytes) -> None:
    try:
        descriptor = os.open(
            path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, mode=0o600
        )
    except FileNotFoundError:
        return  # it was purged meanwhile
    except OSError as error:
        raise BackendUnavailable(f"{path}: {error.strerror}") from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.seek(offset)
            file.write(content)
    except OSError as error:  # a disk that is full
        raise BackendUnavailable(f"{path}: {error.strerror}") from None
