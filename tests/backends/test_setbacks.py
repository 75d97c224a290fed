"""What cannot be removed is tried ever more seldom, and holds up nobody else."""

from __future__ import annotations

import asyncio
import itertools
import logging
import pathlib
import pwd

import pytest

from gateway.backends import doubtful_files as files
from gateway.backends import setbacks
from gateway.backends.batch import directories
from gateway.backends.contract import BackendUnavailable
from gateway.backends.doubtful_files import write_files
from gateway.backends.setbacks import Setbacks
from tests.backends.pretend import PretendBackend, PretendSystem

UID = "c" + "a" * 20


async def test_what_fails_is_tried_ever_more_seldom_and_at_once_again_when_it_has_been_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, tries, fails = [0.0], [], [True]
    monkeypatch.setattr(setbacks, "monotonic", lambda: now[0])

    async def work() -> None:
        tries.append(now[0])
        if fails:
            raise BackendUnavailable(f"it failed at {now[0]:g}")

    kept = Setbacks()
    for second in range(30_000):
        now[0] = float(second)
        with pytest.raises(BackendUnavailable, match="it failed at"):
            await kept.attempt("a", work)
    gaps = [after - before for before, after in itertools.pairwise(tries)]
    assert gaps == [5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 640.0, 1280.0, 2560.0, *[3600.0] * 6]
    await kept.attempt("b", lambda: asyncio.sleep(0))
    now[0] += 3600
    fails.clear()
    await kept.attempt("a", work)
    await kept.attempt("a", work)
    assert tries[-2:] == [now[0]] * 2


async def test_what_is_remembered_of_failures_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setbacks, "MAX_KEPT", 2)

    async def work() -> None:
        raise BackendUnavailable("no")

    kept = Setbacks()
    for key in "abc":
        with pytest.raises(BackendUnavailable):
            await kept.attempt(key, work)
    assert list(kept._known) == ["b", "c"]


@pytest.mark.parametrize("call", ["cleanup", "purge"])
async def test_what_a_batch_system_left_and_cannot_be_removed_is_tried_seldom(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    backend = PretendBackend(
        PretendSystem(), root=str(tmp_path), tag="dgw", staging_directory="{root}/staged/{uid}"
    )
    await backend.open(lambda _: None)
    account = backend.who.account("alice")
    await backend._own(UID, account)
    for place in ("staged", "logs"):
        write_files(tmp_path / place / UID, {"file": b""})
    tries = []

    def busy(path: str, owners: object) -> None:
        tries.append(path)
        raise OSError(16, "Device or resource busy", path)

    monkeypatch.setattr(files, "remove_tree", busy)
    for _ in range(5):
        with pytest.raises(BackendUnavailable, match=f"{UID}: Device or resource busy"):
            await getattr(backend, call)(UID)
    assert len(tries) == 1
    assert backend.owners == {UID: account}
    await backend.close()


@pytest.mark.parametrize("call", ["cleanup", "purge"])
async def test_files_of_an_account_that_is_gone_are_left_to_the_site(
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    call: str,
) -> None:
    home = "{home}/.daskgateway/{uid}"
    backend = PretendBackend(
        PretendSystem(), root=str(tmp_path), tag="dgw", staging_directory=home, log_directory=home
    )
    await backend.open(lambda _: None)
    await backend._own(UID, "gone")

    def unknown(name: str) -> pwd.struct_passwd:
        raise KeyError(name)

    monkeypatch.setattr(pwd, "getpwnam", unknown)
    monkeypatch.setattr(directories, "_homes", {})
    with caplog.at_level(logging.WARNING):
        await getattr(backend, call)(UID)
    assert "left to the site: this machine has no user 'gone'" in caplog.text
    await backend.close()


async def test_removals_take_no_thread_of_others(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, goes_on = asyncio.Semaphore(0), asyncio.Event()
    loop = asyncio.get_running_loop()

    def endless(path: str, owners: object) -> None:
        loop.call_soon_threadsafe(begun.release)
        asyncio.run_coroutine_threadsafe(goes_on.wait(), loop).result()

    monkeypatch.setattr(files, "remove_tree", endless)
    removals = [
        asyncio.create_task(files.remove(str(tmp_path / str(number)))) for number in range(50)
    ]
    async with asyncio.timeout(20):
        for _ in range(files.REMOVERS):
            await begun.acquire()
        assert await asyncio.to_thread(lambda: "free") == "free"
    goes_on.set()
    await asyncio.gather(*removals)
