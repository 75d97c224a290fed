"""The administrator changes `identity` from or to users' tokens while clusters live: each goes on,
and ends, as whom it was started; what cannot be done as somebody is said at the start."""

from __future__ import annotations

import logging
import pathlib
import re
from collections.abc import AsyncIterator, Collection, Mapping, Sequence

import pytest
from aiohttp import web

from gateway.backends.batch.commands import Answer
from gateway.backends.batch.system import Cancel, Job, Listed
from gateway.backends.conformance import OTHER_UID, UID
from gateway.backends.contract import (
    BackendUnavailable,
    Instance,
    Launch,
    Phase,
    Role,
    StartFailed,
    Target,
)
from gateway.backends.slurm.both import OwnByCommands
from tests.backends.test_identity_changes import ME, SCHEDULER, Recorded, handle
from tests.waiting import comes

WORKER = Instance(UID, Role.WORKER, "default-0")


class Told(Recorded):
    """Slurm that accepts everything; its token command works unless it is told otherwise."""

    gives_tokens = True

    async def run(
        self,
        argv: Sequence[str],
        *,
        deadline_s: float,
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
    ) -> Answer:
        if argv[0] != "token":
            return await super().run(argv, deadline_s=deadline_s, stdin=stdin, env=env)
        return Answer(0, "a.b.c\n", "") if self.gives_tokens else Answer(1, "", "who is that?")


class Rest:
    """A slurmrestd that accepts everything and lists nothing."""

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[tuple[str, str]] = []

    async def answer(self, request: web.Request) -> web.Response:
        """Take note of what is asked as whom."""
        what = request.path.rpartition("/")[2]
        self.asked.append((request.headers["X-SLURM-USER-NAME"], f"{request.method} {what}"))
        return web.json_response({"job_id": 7, "jobs": []})

    def of(self, method: str) -> list[str]:
        """Return as whom such calls were made."""
        return [user for user, what in self.asked if what.startswith(method)]


@pytest.fixture
async def rest() -> AsyncIterator[Rest]:
    """One of those."""
    made, app = Rest(), web.Application()
    app.router.add_route("*", "/{path:.*}", made.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield made
    finally:
        await runner.cleanup()


async def opened(tmp_path: pathlib.Path, identity: str, url: str, *, tokens: bool = True) -> Told:
    """Return a backend that is open."""
    backend = Told(
        root=str(tmp_path / "root"),
        identity=identity,
        rest_url=url,
        launcher="launcher",
        token_command=["token", "{user}"],
        first_look_s=0.0,
        accounting=False,
    )
    backend.said, backend.gives_tokens = [], tokens
    await backend.open(lambda _: None)
    return backend


async def test_what_users_tokens_started_is_stopped_by_them_when_the_identity_is_service(
    tmp_path: pathlib.Path, rest: Rest, caplog: pytest.LogCaptureFixture
) -> None:
    backend = await opened(tmp_path, "user-token", rest.url)
    job = await handle(backend, SCHEDULER)
    assert rest.of("POST") == ["games"]
    await backend.close()
    rest.asked.clear()
    with caplog.at_level(logging.WARNING):
        backend = await opened(tmp_path, "service", rest.url)
    assert "identity is service, and 1 cluster that lives or ended lately runs as games" in (
        caplog.text
    )
    assert "by c.SlurmBackend.rest_url and token_command, which must stay" in caplog.text
    await backend.stop([Target(SCHEDULER, job, "games")])
    assert rest.of("DELETE") == ["games"]
    assert backend.commands("scancel") == []
    await backend.observations([Target(SCHEDULER, job, "games")])
    assert rest.of("GET")[-1] == "games"
    await handle(backend, WORKER)
    assert rest.of("POST") == ["games"]
    await handle(backend, Instance(OTHER_UID, Role.SCHEDULER, "scheduler"))  # a new cluster
    assert len(backend.commands("sbatch")) == 1
    assert rest.of("POST") == ["games"]
    await backend.close()


async def test_what_the_gateways_account_started_is_stopped_as_it_when_users_have_tokens(
    tmp_path: pathlib.Path, rest: Rest, caplog: pytest.LogCaptureFixture
) -> None:
    backend = await opened(tmp_path, "service", "")
    job = await handle(backend, SCHEDULER)
    await backend.close()
    with caplog.at_level(logging.WARNING):
        backend = await opened(tmp_path, "user-token", rest.url)
    assert f"identity is user-token, and 1 cluster that lives or ended lately runs as {ME}" in (
        caplog.text
    )
    await backend.stop([Target(SCHEDULER, job, "games")])
    assert len(backend.commands("scancel")) == 1
    await backend.observations([Target(SCHEDULER, job, "games")])
    assert len(backend.commands("squeue")) >= 1
    assert rest.asked == []
    await handle(backend, Instance(OTHER_UID, Role.SCHEDULER, "scheduler"))
    assert rest.of("POST") == ["games"]
    assert backend.commands("sbatch") == []
    await backend.close()


async def test_logs_and_files_of_each_are_where_its_own_identity_has_them(
    tmp_path: pathlib.Path, rest: Rest
) -> None:
    backend = await opened(tmp_path, "user-token", rest.url)
    assert await backend.directory("{default}", UID, "games") == ""
    assert await backend.directory("{default}", UID, ME) == f"{tmp_path}/root/logs/{UID}"
    assert (backend.makes_directories("games"), backend.makes_directories(ME)) == (False, True)
    await backend.close()


@pytest.mark.parametrize(
    ("first", "tokens", "words"),
    [
        ("user-token", False, "c.SlurmBackend.token_command gave no token for games: who is that?"),
        ("sudo", True, "sudo does not let .* run launcher as games: sudo: a password is required"),
    ],
)
async def test_what_cannot_be_stopped_any_more_is_said_at_the_start(
    tmp_path: pathlib.Path,
    rest: Rest,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    first: str,
    tokens: bool,
    words: str,
) -> None:
    url = rest.url if first == "user-token" else ""
    backend = await opened(tmp_path, first, url)
    await handle(backend, SCHEDULER)
    await backend.close()
    monkeypatch.setattr(Told, "refuses", True)
    with caplog.at_level(logging.WARNING):
        backend = await opened(tmp_path, "service", url, tokens=tokens)
        await comes(lambda: "clusters that run as games cannot be stopped now" in caplog.text)
    assert any(re.search(words, line) for line in caplog.messages)
    await backend.close()


@pytest.mark.parametrize("identity", ["service", "user-token"])
async def test_nothing_is_said_where_nothing_was_changed(
    tmp_path: pathlib.Path, rest: Rest, caplog: pytest.LogCaptureFixture, identity: str
) -> None:
    backend = await opened(tmp_path, identity, rest.url)
    await handle(backend, SCHEDULER)
    await backend.close()
    with caplog.at_level(logging.WARNING):
        backend = await opened(tmp_path, identity, rest.url)
    assert "identity is" not in caplog.text
    await backend.close()


async def test_no_user_is_the_gateways_own_account(tmp_path: pathlib.Path, rest: Rest) -> None:
    """With a token of that account a user could do whatever the gateway can."""
    backend = await opened(tmp_path, "user-token", rest.url)
    outcome = (await backend.start([Launch(SCHEDULER, ME, ("true",))]))[SCHEDULER]
    assert isinstance(outcome, StartFailed)
    assert outcome.permanent
    assert rest.of("POST") == []
    await backend.close()


class Way:
    """One of two batch systems."""

    def __init__(self, name: str) -> None:
        self.name, self.down = name, ""
        self.cancelled: list[Cancel] = []

    async def submit(self, _: object) -> str:
        return self.name

    async def cancel(self, cancels: Sequence[Cancel]) -> Sequence[str]:
        self.cancelled += cancels
        if self.down:
            raise BackendUnavailable(self.down)
        return [one.id for one in cancels]

    async def jobs(self, users: Collection[str]) -> Listed:
        if self.down:
            raise BackendUnavailable(self.down)
        return Listed([Job(user, "x", user, Phase.RUNNING) for user in users])

    async def ended(self, ids: Collection[str], users: Collection[str]) -> Sequence[Job]:
        return [Job(user, "x", user, Phase.GONE) for user in users]


async def test_where_one_way_is_down_the_other_goes_on() -> None:
    commands, rest = Way("commands"), Way("rest")
    both = OwnByCommands("me", commands, rest)
    listed = await both.jobs(["me", "alice", "bob"])
    assert sorted(job.user for job in listed.jobs) == ["alice", "bob", "me"]
    assert listed.untold == {}
    rest.down = "slurmrestd did not answer"
    listed = await both.jobs(["me", "alice", "bob"])
    assert [job.user for job in listed.jobs] == ["me"]
    assert listed.untold == dict.fromkeys(["alice", "bob"], rest.down)
    with pytest.raises(BackendUnavailable, match="slurmrestd did not"):
        await both.cancel([Cancel("1", "alice"), Cancel("2", "me")])
    assert [one.id for one in commands.cancelled] == ["2"]
    commands.down = "squeue did not answer"
    with pytest.raises(BackendUnavailable):
        await both.jobs(["me", "alice"])
    assert [job.user for job in await both.ended(["1"], ["me", "alice"])] == ["me"]
    assert await both.ended(["1"], ["alice"]) == []
    rest.down = commands.down = ""
    assert set(await both.cancel([Cancel("1", "alice"), Cancel("2", "me")])) == {"1", "2"}
