"""slurmrestd as it may answer: without end, with lists cut short, in the shapes of its versions."""

from __future__ import annotations

import asyncio
import json
import pathlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp import web

from gateway.backends import slurm_rest
from gateway.backends.contract import BackendUnavailable, Instance, Phase, Role, Target
from gateway.backends.slurm import SlurmBackend

UID = "c" + "a" * 20
JOB = {"name": f"dgw-{UID}-w-default-0", "user_name": "alice", "array_job_id": 7, "job_id": 7, "exit_code": 0, "array_task_id": None}
Answering = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Rest:
    """A slurmrestd that answers with what it is given, and a backend on it."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.directory = directory
        self.answering: Answering | None = None
        self.jobs: list[dict[str, object]] = []
        self.deleted: list[str] = []

    async def _jobs(self, request: web.Request) -> web.StreamResponse:
        return await self.answering(request) if self.answering else web.json_response({"jobs": self.jobs})

    async def _delete(self, request: web.Request) -> web.Response:
        self.deleted.append(request.match_info["job"])
        return web.json_response({})

    async def open(self) -> None:
        """Begin to serve."""
        app = web.Application()
        app.router.add_get("/slurm/v0.0.38/jobs", self._jobs)
        app.router.add_delete("/slurm/v0.0.38/job/{job}", self._delete)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.UnixSite(self._runner, str(self.directory / "s")).start()
        given = {"observe_interval_s": 0.1, "absent_grace_s": 0.0, "first_look_s": 0.0, "command_timeout_s": 5.0, "tag": "dgw"}
        url, token = f"unix:{self.directory}/s", ["/bin/echo", "a.b.c"]
        self.backend = SlurmBackend(root=str(self.directory / "root"), identity="user-token", rest_url=url, token_command=token, **given)
        await self.backend.open(lambda _: None)
        await self.backend._own(UID, "alice")

    async def close(self) -> None:
        """Serve no more."""
        await self.backend.close()
        await self._runner.cleanup()


@pytest.fixture
async def rest(tmp_path: pathlib.Path) -> AsyncIterator[Rest]:
    """A slurmrestd."""
    made = Rest(tmp_path)
    await made.open()
    yield made
    await made.close()


async def test_an_answer_without_end_is_given_up_when_it_is_too_long(rest: Rest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm_rest, "MAX_ANSWER_BYTES", 2**20)
    sent = 0

    async def endless(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        answer = web.StreamResponse()
        await answer.prepare(request)
        while sent < 2**26:
            await answer.write(b" " * 2**16)
            sent += 2**16
        return answer

    rest.answering = endless
    with pytest.raises(BackendUnavailable, match="slurmrestd wrote more than 1 MiB"):
        await rest.backend.listing(0.0)
    assert sent < 2**24


async def test_an_answer_in_pieces_is_read_to_its_end(rest: Rest) -> None:
    async def pieces(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        text = json.dumps({"jobs": [JOB | {"job_state": "RUNNING", "array_task_id": n} for n in range(100)]})
        for start in range(0, len(text), 1000):
            await answer.write(text[start : start + 1000].encode())
            await asyncio.sleep(0)
        return answer

    rest.answering = pieces
    assert len((await rest.backend.listing(0.0)).sights.by_instance) == 100


async def test_a_list_of_waiting_elements_that_was_cut_short_ends_nobody(rest: Rest) -> None:
    rest.jobs = [JOB | {"job_state": "PENDING", "array_task_string": "0-3,9,12,34,36-..."}]
    targets = [Target(Instance(UID, Role.WORKER, f"default-{n}"), f"7/{n}", "alice") for n in (0, 1, 9, 36)]
    for _ in range(2):
        with pytest.raises(BackendUnavailable, match="set SLURM_BITSTR_LEN=0 in the environment of slurmrestd"):
            await rest.backend.observations(targets)
        with pytest.raises(BackendUnavailable, match="SLURM_BITSTR_LEN"):
            await rest.backend.find()
    rest.jobs[0]["array_task_string"] = "0-3,9,12,34,36-40"
    seen = await rest.backend.observations(targets)
    assert {one.phase for one in seen.values()} == {Phase.QUEUED}
    assert len(seen) == len(targets)
    assert rest.deleted == []
