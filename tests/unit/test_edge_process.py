"""The keeper of the edge outlives what goes wrong on the server's machine: nobody else would start
the edge again."""

from __future__ import annotations

import asyncio
import pathlib

import pytest

from gateway.server.edge import process as edge_process
from gateway.server.edge.process import EdgeProcess
from gateway.server.edge.record import EdgeRecord

GONE = EdgeRecord(2**22 + 1, "0", address="127.0.0.1:9")  # no process has such a pid


async def test_the_edge_is_started_again_though_the_machine_was_out_of_something(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edge_process, "RESTART_S", 0.0)
    failures: list[Exception] = [
        OSError(24, "Too many open files"),
        BlockingIOError(11, "no more processes"),
    ]
    started = asyncio.Event()

    async def launch(_: str) -> EdgeRecord:
        if failures:
            raise failures.pop()
        started.set()
        await asyncio.Event().wait()
        return GONE

    edge = EdgeProcess(tmp_path, [], "127.0.0.1:9")
    edge._record = GONE
    monkeypatch.setattr(edge, "_spawn", launch)
    keeping = asyncio.ensure_future(edge.keep())
    async with asyncio.timeout(10):
        await asyncio.wait(
            [keeping, asyncio.ensure_future(started.wait())], return_when=asyncio.FIRST_COMPLETED
        )
    assert not keeping.done()
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)


async def test_an_edge_that_cannot_be_noted_serves_all_the_same(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(edge_process, "write_kept", full)
    edge = EdgeProcess(tmp_path, ["--Proxy.server_address=unix:/nowhere"], "127.0.0.1:0")
    token = tmp_path / "edge.token"
    token.write_bytes(b"token")
    edge._words += [f"--Proxy.token_file={token}", f"--Proxy.state_dir={tmp_path / 'edge'}"]
    try:
        address = await edge.start()
        _, writer = await asyncio.open_connection(*address.rsplit(":", 1))
        writer.close()
    finally:
        await edge.stop()
