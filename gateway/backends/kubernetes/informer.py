"""Keeps a cache of a gateway's pods in one namespace true: one list, then one watch, and a list
again where the watch has lost its way. No call is made for a pod by itself.

The decisions are `cache.Cache`'s. Whoever must be sure asks for a list that begins after the
question (`fresh`); those who ask at the same time share it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import random
from collections.abc import Callable, Collection, Sequence
from typing import Any

from gateway.backends.contract import BackendUnavailable, Instance
from gateway.backends.kubernetes import api, names
from gateway.backends.kubernetes.api import Api
from gateway.backends.kubernetes.cache import Cache, Change, Pod, pod_of
from gateway.backends.kubernetes.refusals import Kind, Refusal, refusal, words

logger = logging.getLogger(__name__)

PAGE = 100  # pods of one answer: what it takes to read them, 6 ms, holds up the event loop
WATCH_S = (240, 360)  # after which the API is to end a watch by itself
LATE_S = 5.0
# a watch with nothing to tell has a bookmark a minute
SILENCE_S = 130.0
BACK_OFF_S = (0.2, 30.0)  # doubled from the first to the last while the API does not answer
AT_ONCE = 20  # events that one turn of the event loop may get

Told = Callable[[Sequence[Change]], None]


class Informer:
    """A cache that follows one namespace."""

    def __init__(
        self,
        connection: Api,
        namespace: str,
        tag: str,
        told: Told,
        asked: Callable[[], Collection[Instance]],
        *,
        relist_s: float,
    ) -> None:
        self.namespace, self.cache = namespace, Cache(tag)
        self._api, self._told, self._asked, self._relist_s = connection, told, asked, relist_s
        self._trouble = f"the pods of namespace {namespace} have not been listed yet"
        self._awake = asyncio.Event()  # the trouble is over before it was looked again
        self._settled = asyncio.Event()  # it is known whether the API answers
        self._listing: asyncio.Task[None] | None = None
        self._next: asyncio.Task[None] | None = None
        self._task = asyncio.create_task(self._run(), name=f"pods of {namespace}")

    async def close(self) -> None:
        """Follow no more."""
        tasks = [one for one in (self._task, self._listing, self._next) if one is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def known(self) -> Cache:
        """Return the cache; BackendUnavailable while nobody can say whether it is true. If it was
        not when it was last seen to, it is asked for anew."""
        await self._settled.wait()
        if self._trouble:
            await self.fresh()
            self._trouble = ""
            self._awake.set()
        return self.cache

    async def fresh(self) -> Cache:
        """Return the cache as a list makes it that begins from now on. BackendUnavailable."""
        if self._next is None:
            self._next = asyncio.create_task(self._after(self._listing))
        await asyncio.shield(self._next)
        return self.cache

    async def _after(self, listing: asyncio.Task[None] | None) -> None:
        if listing is not None:
            await asyncio.wait([listing])
        self._listing, self._next = asyncio.current_task(), None  # who comes now waits for another
        try:
            await self._list()
        except Refusal as error:
            raise BackendUnavailable(words(error, "listing pods")) from None
        finally:
            self._listing = None

    async def _list(self) -> None:
        found: list[Pod] = []
        query = [("labelSelector", names.selector(self.cache.tag)), ("limit", str(PAGE))]
        more: list[tuple[str, str]] = []
        while True:
            try:
                answer = await self._api.call("GET", api.pods(self.namespace), query + more)
            except Refusal as error:
                if error.kind is Kind.EXPIRED and more:  # it took too long: from the start
                    found, more = [], []
                    continue
                raise
            bodies = answer.get("items") or []
            found += [pod for body in bodies if (pod := pod_of(self.cache.tag, body)) is not None]
            metadata = answer.get("metadata") or {}
            if not metadata.get("continue"):
                break
            more = [("continue", metadata["continue"])]
        version = str(metadata.get("resourceVersion") or "")
        for changes in self.cache.listing(found, version, self._asked()):
            self._tell(changes)
            await asyncio.sleep(0)  # others have their turn

    def _tell(self, changes: Sequence[Change]) -> None:
        if changes:
            self._told(changes)

    async def _run(self) -> None:
        wait_s, list_at = BACK_OFF_S[0], 0.0
        loop = asyncio.get_running_loop()
        while True:
            try:
                if self._trouble or loop.time() >= list_at:
                    await self.fresh()
                    list_at = loop.time() + self._relist_s * random.uniform(0.8, 1.2)
                    if self._trouble and self._settled.is_set():
                        logger.info("the pods of namespace %s are seen again", self.namespace)
                    self._trouble = ""
                    self._settled.set()
                if await self._watch(max(1.0, list_at - loop.time())):
                    wait_s = BACK_OFF_S[0]
            except Refusal as error:
                if error.kind is Kind.EXPIRED:
                    logger.info("namespace %s: %s; listing anew", self.namespace, error)
                    list_at = 0.0
                else:
                    self._in_trouble(words(error, "watching pods"))
            except BackendUnavailable as error:
                self._in_trouble(str(error))
            except asyncio.CancelledError:
                raise
            except Exception:
                logger.exception("following the pods of namespace %s failed", self.namespace)
                self._in_trouble("what Kubernetes says of its pods could not be read")
            if self._trouble:
                self._awake.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait_s * random.uniform(0.5, 1.0)):
                        await self._awake.wait()
                wait_s = min(BACK_OFF_S[1], 2 * wait_s)

    def _in_trouble(self, why: str) -> None:
        self._trouble = why
        self._settled.set()

    async def _watch(self, most_s: float) -> bool:
        """Take in events until the API ends the watch; whether there was one."""
        ends_s = int(min(random.uniform(*WATCH_S), most_s) + 1)
        query = [
            ("labelSelector", names.selector(self.cache.tag)),
            ("watch", "true"),
            ("allowWatchBookmarks", "true"),
            ("resourceVersion", self.cache.version),
            ("timeoutSeconds", str(ends_s)),
        ]
        heard = 0
        path = api.pods(self.namespace)
        with contextlib.suppress(TimeoutError):
            async with (
                asyncio.timeout(ends_s + LATE_S),  # if the API does not end it, it is ended here
                self._api.stream(path, query, silence_s=SILENCE_S) as pieces,
            ):
                async for line in self.events(api.lines(pieces)):
                    self._hear(line)
                    heard += 1
                    if heard % AT_ONCE == 0:
                        await asyncio.sleep(0)
        return bool(heard)

    def events(self, lines: Any) -> Any:
        """Return the events of a watch as they come; for tests, which make them come otherwise."""
        return lines

    def _hear(self, line: bytes) -> None:
        if not line.strip():
            return
        event = api.decoded(line)
        body = event.get("object") or {}
        if event.get("type") == "ERROR":
            code = body.get("code")
            raise refusal(code if isinstance(code, int) else 500, json.dumps(body).encode())
        self._tell(self.cache.heard(str(event.get("type")), body, self._asked()))
        if self.cache.doubtful and self._next is None:
            self._next = asyncio.create_task(self._after(self._listing))
            self._next.add_done_callback(_seen_to)


def _seen_to(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.debug("a list of pods failed: %s", error)
