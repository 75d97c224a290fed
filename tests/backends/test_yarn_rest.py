"""Hadoop's web services where they lie, hang, or are not Hadoop's: a server that answers whatever a
test has it answer."""

from __future__ import annotations

import asyncio
import contextlib
import json
import pathlib
import ssl
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web

from gateway.backends.contract import BackendUnavailable
from gateway.backends.yarn.rest import MAX_OF_A_NODE, NotThere, Rest
from tests.parts import fronts
from tests.ports import free_port

pytestmark = pytest.mark.timeout(120)
ONE = "application_1_0001"
TOLD = {"id": ONE, "state": "RUNNING", "applicationTags": "dgw1"}
UNKNOWN = {
    "RemoteException": {
        "exception": "NotFoundException",
        "message": f"java.lang.Exception: app with id: {ONE} not found",
        "javaClassName": "org.apache.hadoop.yarn.webapp.NotFoundException",
    }
}
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@contextlib.asynccontextmanager
async def serving(answer: Answer, secure: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """A server; its address."""
    app, port = web.Application(), free_port()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port, ssl_context=secure).start()
        yield f"http{'s' if secure else ''}://127.0.0.1:{port}"
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def asking(*urls: str, timeout_s: float = 30.0, **more: Any) -> AsyncIterator[Rest]:
    """A client."""
    rest = Rest(urls, timeout_s, **more)
    try:
        yield rest
    finally:
        await rest.close()


def says(content: object, status: int = 200, kind: str = "application/json") -> Answer:
    """Answer always the same."""
    text = content if isinstance(content, str) else json.dumps(content)

    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=text, status=status, content_type=kind)

    return answer


async def hangs(_: web.Request) -> web.Response:
    """Answer never."""
    await asyncio.Event().wait()
    raise AssertionError


NO_WORD = [
    pytest.param(says("<html>Sign in</html>", kind="text/html"), id="a page"),
    pytest.param(says("<html>Not Found</html>", 404, "text/html"), id="a page of a proxy"),
    pytest.param(says({"error": "not found"}, 404), id="an answer of a proxy"),
    pytest.param(says({}), id="nothing"),
    pytest.param(says([]), id="a list"),
    pytest.param(says({"apps": "?", "app": "?", "scheduler": "?"}), id="texts"),
    pytest.param(says({"apps": [TOLD], "app": [TOLD], "scheduler": []}), id="lists"),
    pytest.param(says({"apps": 7, "app": {"id": ONE}, "scheduler": {"x": 1}}), id="half of it"),
    pytest.param(says({"app": {**TOLD, "id": "application_1_0002"}}), id="another application"),
    pytest.param(says("[" * 100_000), id="too deep"),
    pytest.param(says('{"apps": \\ud800'), id="no JSON"),
    pytest.param(says("", 500), id="an error"),
    pytest.param(says("", 302), id="a redirect to nowhere"),
    pytest.param(
        says("This is standby RM. The redirect url is: /", kind="text/plain"), id="standby"
    ),
]


@pytest.mark.parametrize("answer", NO_WORD)
async def test_what_is_no_word_of_the_resourcemanager_ends_no_application(answer: Answer) -> None:
    async with serving(answer) as url, asking(url) as rest:
        for ask in (rest.live("dgw1"), rest.application(ONE), rest.queues()):
            with pytest.raises(BackendUnavailable) as error:
                await ask
            assert len(str(error.value)) < 600


async def test_an_application_is_unknown_by_hadoops_own_word_alone() -> None:
    async with serving(says(UNKNOWN, 404)) as url, asking(url) as rest:
        assert await rest.application(ONE) is None
        assert not await rest.container_runs(url, "container_1_0001_01_000002")


async def test_a_container_that_its_node_has_not_heard_of_yet_does_not_run_yet() -> None:
    """It was told as running on a busy machine, though its files were still to come."""
    async with serving(says(UNKNOWN, 404)) as url, asking(url) as rest:
        assert await rest.localises(url, "container_1_0001_01_000002")


async def test_one_application_that_is_told_without_a_list_is_one() -> None:
    async with serving(says({"apps": {"app": TOLD}})) as url, asking(url) as rest:
        assert [one.id for one in await rest.live("dgw1")] == [ONE]


async def test_numbers_and_labels_of_queues_that_are_none_stall_nobody() -> None:
    leaf = {
        "queueName": "dask",
        "maximumAllocation": {"memory": 1e999, "vCores": "many", "resourceInformations": {}},
        "nodeLabels": "fast",
        "usedCapacity": "NaN%",
    }
    top = {"type": "capacityScheduler", "queueName": "root", "queues": {"queue": leaf}}
    async with serving(says({"scheduler": {"schedulerInfo": top}})) as url, asking(url) as rest:
        queue = (await rest.queues())["root.dask"]
    assert (queue.most_mb, queue.most_cores, queue.labels) == (0, 0, ("fast",))


@pytest.mark.parametrize("said", [{}, [], {"container": []}, {"container": {"state": 7}}])
async def test_a_nodemanager_that_lies_has_neither_ended_nor_brought_anything(said: object) -> None:
    async with serving(says(said)) as url, asking(url) as rest:
        for ask in (rest.container_runs(url, "container_1"), rest.localises(url, "container_1")):
            with pytest.raises(BackendUnavailable, match="tells of no container"):
                await ask


@pytest.mark.parametrize("length", ["9" * 19, "9" * 4000, str(2**50)])
async def test_a_log_that_is_told_as_longer_than_any_is_none(length: str) -> None:
    text = f"LogType:dask.log\nLogLength:{length}\nLogContents:\nhere\n"
    async with serving(says(text, kind="text/plain")) as url, asking(url) as rest:
        assert await rest.log(url, "container_1", "dask.log", 100) is None


async def test_an_answer_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def endless(request: web.Request) -> web.StreamResponse:
        packing = zlib.compressobj()
        response = web.StreamResponse(headers={"Content-Encoding": "deflate"})
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            while True:  # a thousand times as much, once it is unpacked
                await response.write(packing.compress(b" " * 2**20))
                await asyncio.sleep(0)  # else all buffers are filled first
        return response

    monkeypatch.setattr("gateway.backends.yarn.rest.MAX_ANSWER_BYTES", 2**22)
    async with serving(endless) as url, asking(url) as rest:
        with pytest.raises(BackendUnavailable, match="wrote more than 4 MiB"):
            await rest.live("dgw1")


async def test_an_answer_that_comes_by_drops_is_given_up_in_time() -> None:
    async def slow(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            while True:
                await response.write(b" ")
                await asyncio.sleep(0.05)
        return response

    async with serving(slow) as url, asking(url, timeout_s=0.5) as rest:
        with pytest.raises(BackendUnavailable, match=r"did not answer within 0\.5 s"):
            await rest.live("dgw1")


async def test_of_two_resourcemanagers_the_active_one_answers_everybody_at_once() -> None:
    """Each question finds it, whatever the others have found meanwhile."""
    active = says({"apps": {"app": [TOLD]}})
    standby = says("This is standby RM. The redirect url is: /", kind="text/plain")
    async with serving(standby) as one, serving(active) as two, asking(one, two) as rest:
        for _ in range(3):
            found = await asyncio.gather(*(rest.live("dgw1") for _ in range(30)))
            assert all(len(listed) == 1 for listed in found)
        before = rest.count
        await rest.live("dgw1")
        assert rest.count == before + 1  # it is asked first now


async def test_a_standby_that_sends_to_the_active_one_is_followed() -> None:
    async with serving(says({"apps": None})) as two:

        async def sends(request: web.Request) -> web.Response:
            raise web.HTTPTemporaryRedirect(two + str(request.rel_url))

        async with serving(sends) as one, asking(one) as rest:
            assert await rest.live("dgw1") == []


async def test_a_certificate_that_nobody_vouches_for_is_told_and_one_of_the_ca_file_is_right(
    tmp_path: pathlib.Path,
) -> None:
    certificate, key = fronts.self_signed(tmp_path, "127.0.0.1")
    secure = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    secure.load_cert_chain(certificate, key)
    async with serving(says({"apps": None}), secure) as url:
        async with asking(url) as rest:
            with pytest.raises(BackendUnavailable, match=f"{url}.*CERTIFICATE_VERIFY_FAILED"):
                await rest.live("dgw1")
        async with asking(url, ca_file=str(certificate)) as rest:
            assert await rest.live("dgw1") == []
        async with asking(url, ca_file=str(tmp_path / "gone.pem")) as rest:
            with pytest.raises(BackendUnavailable, match=r"ca_file: .*gone\.pem: No such file"):
                await rest.live("dgw1")


async def test_of_two_resourcemanagers_that_do_not_answer_both_are_told() -> None:
    closed = f"http://127.0.0.1:{free_port()}"
    async with serving(says("", 503)) as one, asking(one, closed) as rest:
        with pytest.raises(BackendUnavailable) as error:
            await rest.live("dgw1")
    assert f"{one}/ws/v1/cluster/apps answered 503" in str(error.value)
    assert f"{closed}/ws/v1/cluster/apps: " in str(error.value)


async def test_a_node_that_hangs_holds_up_neither_another_nor_the_resourcemanager() -> None:
    async with (
        serving(hangs) as dead,
        serving(says({"container": {"state": "RUNNING"}})) as node,
        serving(says({"apps": None})) as manager,
        asking(manager, timeout_s=60.0) as rest,
    ):
        late = [
            asyncio.create_task(rest.container_runs(dead, f"container_{number}"))
            for number in range(100)
        ]
        await asyncio.sleep(0)
        async with asyncio.timeout(30):
            assert await rest.live("dgw1") == []
            assert await rest.container_runs(node, "container_1")
        assert rest.count == MAX_OF_A_NODE + 2
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)


async def test_no_page_is_no_log_and_no_end_of_a_container() -> None:
    async with serving(says("<html>404</html>", 404, "text/html")) as url, asking(url) as rest:
        assert await rest.log(url, "container_1", "dask.exit", 100) is None
        with pytest.raises(BackendUnavailable):
            await rest.container_runs(url, "container_1")


def test_what_is_not_there_is_no_outage() -> None:
    assert not issubclass(NotThere, BackendUnavailable)
