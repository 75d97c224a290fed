"""What Hadoop's web services answer: the ResourceManager's listing of all our applications in one
call, ends of applications, queues; the NodeManagers' word on containers, and their logs.

https://hadoop.apache.org/docs/stable/hadoop-yarn/hadoop-yarn-site/ResourceManagerRest.html
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from weakref import WeakValueDictionary

from gateway.backends.contract import BackendUnavailable
from gateway.backends.yarn import answers, spnego
from gateway.backends.yarn.spnego import SignIn

if TYPE_CHECKING:
    import aiohttp

MAX_ANSWER_BYTES = 64 * 2**20
# requests at a time: of a ResourceManager, of one NodeManager, and of all of those
MAX_REQUESTS, MAX_OF_A_NODE, MAX_OF_NODES = 16, 4, 64
LIVE = "NEW,NEW_SAVING,SUBMITTED,ACCEPTED,RUNNING"
# what is long and not looked at
LEFT_OUT = "resourceRequests"
OVER = ("DONE", "EXITED_WITH_SUCCESS", "EXITED_WITH_FAILURE", "COMPLETE")

BEFORE = ("NEW", "LOCALIZING", "LOCALIZED", "SCHEDULED", "REINITIALIZING")


class NotThere(Exception):
    """Hadoop says that there is no such thing, or not any more."""


class NoPage(BackendUnavailable):
    """There is no such page, which is not Hadoop's word on what was asked for: a proxy's, or of a
    server that has not begun yet."""


class Rest:
    """Web services of one Hadoop cluster."""

    def __init__(
        self,
        urls: Sequence[str],
        timeout_s: float,
        *,
        node_scheme: str = "http",
        sign_in: SignIn | None = None,
        ca_file: str = "",
    ) -> None:
        self._urls = [url.rstrip("/") for url in urls]
        self._timeout_s, self._node_scheme = timeout_s, node_scheme
        self._sign_in = sign_in or SignIn("", "", timeout_s)
        # of places that somebody asks or waits for
        self._lines: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._nodes = asyncio.Semaphore(MAX_OF_NODES)
        self._ca_file = ca_file
        self._session: aiohttp.ClientSession | None = None
        self.count = 0  # requests that were made, for whoever measures

    async def close(self) -> None:
        """Let go of connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    # The ResourceManager

    async def live(self, tag: str) -> list[answers.Application]:
        """Return every application with a tag that has not ended."""
        path = f"/ws/v1/cluster/apps?applicationTags={quote(tag)}&states={LIVE}"
        return answers.applications(await self._ask_rm(f"{path}&deSelects={LEFT_OUT}"))

    async def application(self, application_id: str) -> answers.Application | None:
        """Return an application, None if the ResourceManager does not know it (any more)."""
        try:
            said = await self._ask_rm(f"/ws/v1/cluster/apps/{quote(application_id)}")
        except NotThere:
            return None
        found = answers.application(said.get("app") if isinstance(said, dict) else None)
        if found is None or found.id != application_id or not found.state:
            raise BackendUnavailable(
                f"the ResourceManager tells nothing of {application_id}: {str(said)[:200]}"
            )
        return found

    async def open_requests(self, application_id: str) -> int | None:
        """Return how many containers an application waits for by the ResourceManager's word; None
        if that cannot be told."""
        try:
            said = await self._ask_rm(f"/ws/v1/cluster/apps/{quote(application_id)}")
        except NotThere:
            return None
        return answers.open_requests(said.get("app") if isinstance(said, dict) else None)

    async def queues(self) -> dict[str, answers.Queue]:
        """Return all queues by their names, whole and last word; empty if the scheduler has none
        that are understood."""
        return answers.queues(await self._ask_rm("/ws/v1/cluster/scheduler"))

    async def _ask_rm(self, path: str) -> Any:
        """Return what the ResourceManager answers; of several, the first that is active."""
        complaints = []
        for url in list(self._urls):  # others, who ask at the same time, put them in another order
            try:
                answer = await self._json(url + path)
            except BackendUnavailable as error:
                complaints.append(str(error))
                continue
            if self._urls[0] != url:  # next time, it is asked first
                self._urls.sort(key=lambda one: one != url)
            return answer
        raise BackendUnavailable(
            "; ".join(complaints) or "there is no address of a ResourceManager"
        )

    # NodeManagers

    async def container_runs(self, node: str, container: str) -> bool:
        """Whether a NodeManager still has something of a container running; `node` is its web
        address. BackendUnavailable if it cannot be asked."""
        try:
            said = await self._json(f"{self._node(node)}/containers/{quote(container)}")
        except NotThere:
            return False
        return answers.container_state(said) not in OVER

    async def localises(self, node: str, container: str) -> bool:
        """Whether a container's files are still being brought to its node, or are yet to be: an
        application's master counts it before the node has heard of it."""
        try:
            said = await self._json(f"{self._node(node)}/containers/{quote(container)}")
        except NotThere:
            return True
        return answers.container_state(said) in BEFORE

    async def log(
        self, node: str, container: str, name: str, last_bytes: int
    ) -> answers.LogPiece | None:
        """Return the last bytes of a container's log file with its whole size; None if there is
        none."""
        path = f"/containers/{quote(container)}/logs/{quote(name)}?size=-{last_bytes}"
        try:
            status, raw = await self._get(self._node(node) + path, "*/*")
        except (NotThere, NoPage):
            return None
        return answers.log_piece(raw, last_bytes) if status == 200 else None

    def _node(self, node: str) -> str:
        base = node if "://" in node else f"{self._node_scheme}://{node}"
        return f"{base.rstrip('/')}/ws/v1/node"

    # HTTP

    async def _json(self, url: str) -> Any:
        status, raw = await self._get(url, "application/json")
        try:
            return json.loads(raw)
        except (ValueError, RecursionError):
            raise BackendUnavailable(
                f"{url.partition('?')[0]} answered {status}, and no JSON: {raw[:200]!r}"
            ) from None

    async def _get(self, url: str, accept: str) -> tuple[int, bytes]:
        """Return status and body of a good answer; NotThere, or BackendUnavailable."""
        headers = {"Accept": accept}
        got, raw = await self._once(url, headers)
        challenge = ", ".join(got.headers.getall("WWW-Authenticate", []))
        if spnego.asks(got.status, challenge):
            # a ResourceManager that stands by sends to the other one: that one asks
            sign = await self._sign_in.header(got.url.host or "")
            got, raw = await self._once(str(got.url), headers | {"Authorization": sign})
        place = url.partition("?")[0]
        named = b"NotFoundException" in raw
        if got.status == 404 or (got.status == 400 and named):
            words = f"{place} answered {got.status}: {bytes(raw[:200])!r}"
            raise NotThere(words) if named else NoPage(words)
        if got.status == 401:
            raise BackendUnavailable(
                f"{place} wants to know who asks (401 {challenge.partition(',')[0]}), and does not"
                f" take the gateway's sign-in: it signs in by Kerberos alone"
            )
        if got.status >= 400 or b"This is standby RM" in raw[:200]:
            raise BackendUnavailable(f"{place} answered {got.status}: {bytes(raw[:200])!r}")
        return got.status, bytes(raw)

    def _trusted(self) -> ssl.SSLContext | bool:
        """Return by what servers are verified; BackendUnavailable if that cannot be read."""
        try:
            return ssl.create_default_context(cafile=self._ca_file) if self._ca_file else True
        except OSError as error:
            words = f"c.YarnBackend.ca_file: {self._ca_file}: {error.strerror or error}"
            raise BackendUnavailable(words) from None

    @asynccontextmanager
    async def _turn(self, url: str) -> AsyncIterator[None]:
        """Wait for a turn: a node that hangs holds up nobody who asks another, and no node
        anybody who asks the ResourceManager."""
        place = url.partition("/ws/")[0]
        manager = place in self._urls
        line = self._lines.get(place)
        if line is None:
            line = asyncio.Semaphore(MAX_REQUESTS if manager else MAX_OF_A_NODE)
            self._lines[place] = line
        async with line, contextlib.nullcontext() if manager else self._nodes:
            self.count += 1
            yield

    async def _once(
        self, url: str, headers: Mapping[str, str]
    ) -> tuple[aiohttp.ClientResponse, bytearray]:
        """Return one answer, whatever it is, with its body."""
        import aiohttp

        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=self._timeout_s),
                # after a sign-in Hadoop sends a cookie, in quotes, from whatever address it has
                cookie_jar=aiohttp.CookieJar(unsafe=True),
                # who waits for a turn, waits above
                connector=aiohttp.TCPConnector(limit=0, ssl=self._trusted()),
            )
        place = url.partition("?")[0]
        try:
            async with self._turn(url), self._session.get(url, headers=headers) as got:
                raw = bytearray()
                async for piece in got.content.iter_any():
                    raw += piece
                    if len(raw) > MAX_ANSWER_BYTES:
                        raise BackendUnavailable(
                            f"{place} wrote more than {MAX_ANSWER_BYTES // 2**20} MiB"
                        )
        except TimeoutError:
            raise BackendUnavailable(
                f"{place} did not answer within {self._timeout_s:g} s"
            ) from None
        except (aiohttp.ClientError, OSError) as error:
            raise BackendUnavailable(f"{place}: {error or type(error).__name__}") from None
        return got, raw
