"""The edge as a program: one process or several, from start to SIGTERM. Knows signals and exit
codes, not what an edge does."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import gc
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from typing import Any

import uvloop
from traitlets.config import Config

from gateway.configfile import ConfigurationError
from gateway.networks import parse_address
from gateway.processes import ready_line
from gateway.proxy.app import Edge
from gateway.proxy.config import Proxy
from gateway.proxy.counting.admin import Admin, Numbers
from gateway.proxy.program import late_imports, privileges
from gateway.proxy.program.nursery import Nursery
from gateway.proxy.program.privileges import RightsKept
from gateway.proxy.program.processes import Edges, Tie

logger = logging.getLogger(__name__)

EXIT_RIGHTS = 77  # EX_NOPERM
# after which a thread that reads JSON lets relays have Python's lock; by default 5 ms, several
# times for each message
SWITCH_S = 0.001
# relays leave no cycles behind; looking for them among thousands of live ones costs milliseconds
GC_THRESHOLD = (20_000, 50, 50)


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
            await _first(Tie(control_fd).serve(listening, edge.numbers), ended.wait())
        await edge.stop()


async def _several(options: Proxy, nursery: Nursery, ready_fd: int | None) -> None:
    ended = _until_signalled()
    admin = parse_address(options.admin_address)
    edges = Edges(
        options.processes,
        options.address,
        nursery.begin,
        [*options.own_ports, *([admin[1]] if admin else [])],
    )
    async with _reloading(edges.reload):
        listening = await edges.start()
    logger.info("%d edges listen on %s", options.processes, listening)
    try:
        async with _admin(options, edges.numbers):
            _tell(ready_fd, listening)
            await _first(ended.wait(), edges.lost.wait(), nursery.ended())
    finally:
        await edges.stop()
    if not ended.is_set():
        raise ConfigurationError(
            "the edges end, to be started anew: the process that begins them has ended, and none"
            " could be replaced"
        )


async def _first(*ends: Coroutine[Any, Any, object]) -> None:
    """Wait until one of them is over."""
    waiting = [asyncio.ensure_future(end) for end in ends]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()


def _until_signalled() -> asyncio.Event:
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    return ended


@contextlib.asynccontextmanager
async def _reloading(reload: Callable[[], None]) -> AsyncIterator[None]:
    """Reload at SIGHUP from the end of the block on; one that comes within it, which would end the
    process, is made up for then."""
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
        os.write(ready_fd, ready_line(listening))
        os.close(ready_fd)


def give_up_rights(uid: int, gid: int, bind: bool) -> None:
    """Go on as another account, for good. Ends the process with a message if that cannot be."""
    try:
        directories = late_imports.opened()
        privileges.give_up(uid, gid, bind=bind)
        late_imports.keep_finding(directories)
        os.chdir("/")  # where root stood may be closed
    except (RightsKept, OSError) as error:
        print(f"daskgateway: the edge cannot give root's rights up: {error}", file=sys.stderr)
        sys.exit(EXIT_RIGHTS)


def run(config: Config, ready_fd: int | None = None) -> int:
    """Run the edge until SIGTERM or SIGINT; return the exit code. Writes `ready host:port` to a
    descriptor when it listens."""
    options = Proxy(config=config)
    sys.setswitchinterval(SWITCH_S)
    if os.geteuid() == 0:
        logger.warning(
            "the edge runs as root; run it as an account of its own, to which docs/edge.md says how"
        )
    if options.user:
        print(
            "daskgateway: c.Proxy.user is for an edge that a server starts; this one stays who"
            " starts it",
            file=sys.stderr,
        )
        return 2
    if options.processes == 1:
        return _told(lambda: _one(options, ready_fd, None))

    def begin(settings: Mapping[str, object], tie: int) -> int:
        if ready_fd is not None:
            os.close(ready_fd)
        changed = copy.deepcopy(config)
        changed.Proxy.update(settings)
        return _told(lambda: _one(Proxy(config=changed), None, tie))

    nursery = Nursery(begin)
    try:
        return _told(lambda: _several(options, nursery, ready_fd))
    finally:
        nursery.close()


def _told(work: Callable[[], Coroutine[Any, Any, None]]) -> int:
    """Do it; return the exit code, after its own message if it cannot be done."""
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(work())
    except ConfigurationError as error:
        print(f"daskgateway: {error}", file=sys.stderr)
        return 2
    return 0
