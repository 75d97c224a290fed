"""The pool of pipes against the kernel's own limit, which holds for everybody but root."""

from __future__ import annotations

import multiprocessing
import os
import pathlib
from multiprocessing.connection import Connection

from gateway.proxy.relay.pipes import PIPE_BYTES, PipePool

NOBODY = 65534
SOFT_LIMIT = pathlib.Path("/proc/sys/fs/pipe-user-pages-soft")


def _lease_all(answers: Connection, wished: int) -> None:
    """As nobody: lease as many as are to be had, give one back, lease again."""
    if os.geteuid() == 0:
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    pool = PipePool(wished)
    held = [pipe for pipe in (pool.lease() for _ in range(wished)) if pipe is not None]
    refused = pool.refused
    pool.give_back(held.pop(), empty=False)  # closed: the kernel has its pages back
    again = pool.lease()
    answers.send((len(held) + 1, refused, again is not None, pool.leased))


def test_the_kernels_limit_for_unprivileged_users_is_where_leasing_ends() -> None:
    allowed = int(SOFT_LIMIT.read_text()) * os.sysconf("SC_PAGE_SIZE") // PIPE_BYTES
    wished = allowed + 20
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_lease_all, args=(theirs, wished))
    process.start()
    theirs.close()
    most, refused, again, leased = ours.recv()
    process.join(20)
    assert 0 < most <= (allowed or wished)  # 0: this machine has no limit
    assert refused == wished - most
    assert again
    assert leased == most
