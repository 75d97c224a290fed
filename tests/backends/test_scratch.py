"""Dask's scratch: in a directory of the process's own on every backend, wherever others have laid
out something in the shared place."""

from __future__ import annotations

import os
import pathlib
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.backends.conformance import UID, Room
from gateway.backends.contract import Launch, Resources, Target
from gateway.backends.launch import (
    AgentEndpoint,
    LaunchCredentials,
    scheduler_launch,
    worker_launch,
)
from gateway.backends.local.backend import LocalBackend
from gateway.server.security.certificates import make_cluster_credentials
from tests.backends.pretend import PretendBackend, PretendSystem
from tests.waiting import comes

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
PATIENCE_S = 120.0  # until what Python programs do, which begin slowly on a busy machine
TEXT = "what the victim has written\n"


@pytest.fixture
def shared(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """The place that Dask would take: with links of somebody else's to a file, under the names that
    it would lock and truncate."""
    (tmp_path / "victim").write_text(TEXT)
    place = tmp_path / "shared"
    place.mkdir()
    for name in ("dask-scratch-space", f"dask-scratch-space-{os.geteuid()}"):
        (place / name).mkdir()
        for lock in ("global.lock", "purge.lock"):
            (place / name / lock).symlink_to(tmp_path / "victim")
    monkeypatch.setenv("TMPDIR", str(place))
    # of the gateway itself, which its clusters do not inherit
    monkeypatch.setenv("DASK_TEMPORARY_DIRECTORY", str(place))
    return place


@pytest.fixture(params=["local", "batch"])
async def room(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> AsyncIterator[Room]:
    """A backend that runs processes here."""
    system = PretendSystem(kill_delay_s=PATIENCE_S)  # a shell that is killed cleans up nothing
    given = {"root": str(tmp_path / "root")}
    backend = (
        LocalBackend(**given)
        if request.param == "local"
        else PretendBackend(system, tag="dgw", observe_interval_s=0.1, **given)
    )
    made = Room(backend, patience_s=PATIENCE_S)
    try:
        await made.open()
        yield made
    finally:
        try:
            await made.close()
        finally:
            await system.close()


def launches(nanny: bool = False) -> tuple[Launch, Launch]:
    """Return real launches of a scheduler and of a worker, which finds no scheduler."""
    secrets = make_cluster_credentials(UID, now=int(time.time() * 1000), lifetime_s=3600)
    common: dict[str, Any] = {
        "uid": UID,
        "user": "alice",
        "settings": {"scheduler_host": "127.0.0.1", "worker_nanny": nanny},
        "resources": Resources(1, 2**28),
    }
    keys = LaunchCredentials(
        secrets.ca_certificate, secrets.scheduler_certificate, secrets.scheduler_key, "token"
    )
    scheduler = scheduler_launch(
        **common, credentials=keys, agent=AgentEndpoint("https://127.0.0.1:1", b"ca")
    )
    keys = LaunchCredentials(secrets.ca_certificate, secrets.worker_certificate, secrets.worker_key)
    worker = worker_launch(
        **common, credentials=keys, name="default-0", scheduler_address="tls://127.0.0.1:1"
    )
    return scheduler, worker


def scratches(place: pathlib.Path) -> list[pathlib.Path]:
    """Return where schedulers, workers and nannies have their scratch, below a directory; each
    within one of its instance's own."""
    found = [path for path in place.glob("**/scratch/dask-scratch-space") if path.is_dir()]
    assert all(path.parents[1].stat().st_mode & 0o777 == 0o700 for path in found)
    return found


def laid_out(shared: pathlib.Path) -> list[pathlib.Path]:
    """Return what is in the shared place."""
    return sorted(shared.glob("dask-scratch-space*/*"))


@pytest.mark.parametrize("nanny", [False, True])
async def test_what_others_have_laid_out_in_the_shared_place_is_not_touched(
    room: Room, shared: pathlib.Path, tmp_path: pathlib.Path, nanny: bool
) -> None:
    before = laid_out(shared)
    targets = await room.start(*launches(nanny))
    place = tmp_path if isinstance(room.backend, LocalBackend) else shared
    await comes(lambda: len(scratches(place)) == 2, PATIENCE_S)
    await room.backend.stop(targets)
    await room.until_gone(targets)
    await room.backend.cleanup(UID)
    assert (tmp_path / "victim").read_text() == TEXT
    assert laid_out(shared) == before
    await comes(lambda: scratches(tmp_path) == [] and not list(shared.glob("daskgateway-*")))


async def test_scratch_is_gone_after_the_end_by_force_too(
    room: Room, shared: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    if not isinstance(room.backend, LocalBackend):
        return  # a job whose shell is killed leaves its directory to the node's own cleaning
    (target,) = await room.start(launches()[0])
    await comes(lambda: bool(scratches(tmp_path)), PATIENCE_S)
    os.kill(int(target.handle.partition(":")[0]), 9)
    await room.until_gone([Target(target.instance, target.handle)])
    await room.backend.cleanup(UID)
    assert scratches(tmp_path) == []
