"""A plug-in of nannies is refused in words where no worker has a nanny, and passed on where one
has."""

from __future__ import annotations

import pathlib
from collections.abc import AsyncIterator
from types import SimpleNamespace

import pytest
from distributed import Client, Scheduler, Worker
from distributed.diagnostics.plugin import NannyPlugin, UploadDirectory, WorkerPlugin

from gateway import wire
from gateway.agent import nannies

# a scheduler of Dask's own leaves a socket behind now and then, whose end is not ours to see to
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    """A client of a guarded scheduler without workers."""
    made = Scheduler(dashboard_address="127.0.0.1:0", host="127.0.0.1", port=0)
    nannies.guard(made)
    async with made, Client(made.address, asynchronous=True) as one:
        yield one


class OfNannies(NannyPlugin):
    """Does nothing."""

    name = "of-nannies"


class OfWorkers(WorkerPlugin):
    """Does nothing."""

    name = "of-workers"


async def test_it_is_refused_while_there_are_only_workers_without(
    client: Client, tmp_path: pathlib.Path
) -> None:
    assert client.scheduler is not None
    async with Worker(client.scheduler.address, host="127.0.0.1", nthreads=1):
        with pytest.raises(RuntimeError, match="run without a nanny"):
            await client.register_plugin(OfNannies())
        # in newer versions a plug-in of schedulers, which brings one for nannies
        with pytest.raises(RuntimeError, match="run without a nanny"):
            await client.register_plugin(UploadDirectory(str(tmp_path)))
        await client.register_plugin(OfWorkers())  # others are nothing to us


async def test_before_there_is_a_worker_it_is_known_how_they_are_started(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    await client.register_plugin(OfNannies())
    monkeypatch.setenv(wire.ENV_WITHOUT_NANNY, "1")
    with pytest.raises(RuntimeError, match="run without a nanny"):
        await client.register_plugin(OfNannies())


@pytest.mark.parametrize(
    ("workers", "none"), [([None], True), ([None, "tls://a:1"], False), (["tls://a:1"], False)]
)
def test_one_nanny_is_enough(
    monkeypatch: pytest.MonkeyPatch, workers: list[str | None], none: bool
) -> None:
    monkeypatch.setenv(wire.ENV_WITHOUT_NANNY, "1")  # of a group that differs from its cluster
    there = {str(n): SimpleNamespace(nanny=nanny) for n, nanny in enumerate(workers)}
    assert nannies.none_there(SimpleNamespace(workers=there)) is none


def test_a_scheduler_that_knows_no_such_plugins_is_left_as_it_is() -> None:
    scheduler = SimpleNamespace(handlers={"other": print})
    nannies.guard(scheduler)
    assert scheduler.handlers == {"other": print}
