"""The edge as a program: one process or several, from start to SIGTERM. Knows signals and exit codes, not what an edge does."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import uvloop
from traitlets.config import Config

from gateway.configfile import ConfigurationError
from gateway.networks import parse_address
from gateway.proxy.admin import Admin, Numbers
from gateway.proxy.app import Edge
from gateway.proxy.config import Proxy
from gateway.proxy.processes import Edges, Tie

logger = logging.getLogger(__name__)

GC_THRESHOLD = (20_000, 50, 50)  # relays leave no cycles behind; looking for them among thousands of live ones costs milliseconds


async def _one(options: Proxy, ready_fd: int | None, control_fd: int | None) -> None:
    ended = _until_signalled()
    edge = Edge(options)
    async with _reloading(edge.reload):
        listening = await edge.start()
    gc.collect()
    gc.freeze()  # what is here stays
    gc.set_threshold(*GC_THRESHOLD)
    logger.info("the edge listens on %s", listening)

    async def numbers() -> Numbers:
        return {"0": edge.numbers()}

    async with _admin(options, numbers):
        _tell(ready_fd, listening)
        if control_fd is None:
            await ended.wait()
        else:
            supervised = asyncio.ensure_future(Tie(control_fd).serve(listening, edge.numbers))
            waiting = asyncio.ensure_future(ended.wait())
            await asyncio.wait([supervised, waiting], return_when=asyncio.FIRST_COMPLETED)
            for task in (supervised, waiting):
                task.cancel()
        await edge.stop()


async def _several(options: Proxy, words: Sequence[str], ready_fd: int | None) -> None:
    ended = _until_signalled()
    admin = parse_address(options.admin_address)
    edges = Edges(options.processes, options.address, words, [*options.own_ports, *([admin[1]] if admin else [])])
    async with _reloading(edges.reload):
        listening = await edges.start()
    logger.info("%d edges listen on %s", options.processes, listening)
    try:
        async with _admin(options, edges.numbers):
            _tell(ready_fd, listening)
            await ended.wait()
    finally:
        await edges.stop()


def _until_signalled() -> asyncio.Event:
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    return ended


@contextlib.asynccontextmanager
async def _reloading(reload: Callable[[], None]) -> AsyncIterator[None]:
    """Reload at SIGHUP from the end of the block on; one that comes within it, which would end the process, is made up for then."""
    early = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, early.set)
    yield
    loop.add_signal_handler(signal.SIGHUP, reload)
    if early.is_set():
        reload()


@contextlib.asynccontextmanager
async def _admin(options: Proxy, numbers: Callable[[], Awaitable[Numbers]]) -> AsyncIterator[None]:
    if not options.admin_address:
        yield
        return
    admin = Admin(options.admin_address, numbers)
    try:
        logger.info("metrics are at http://%s/metrics", await admin.start())
        yield
    finally:
        await admin.stop()


def _tell(ready_fd: int | None, listening: str) -> None:
    if ready_fd is not None:
        os.write(ready_fd, f"ready {listening}\n".encode())
        os.close(ready_fd)


def run(config: Config, words: Sequence[str] = (), ready_fd: int | None = None, control_fd: int | None = None) -> int:
    """Run the edge until SIGTERM or SIGINT; return the exit code. Writes `ready host:port` to a descriptor when it listens.

    The words are the command line, which processes of its own are started with; `control_fd` ties such a one to its supervisor.
    """
    options = Proxy(config=config)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            if options.processes > 1:
                runner.run(_several(options, words, ready_fd))
            else:
                runner.run(_one(options, ready_fd, control_fd))
    except ConfigurationError as error:
        print(f"daskgateway: {error}", file=sys.stderr)
        return 2
    return 0
