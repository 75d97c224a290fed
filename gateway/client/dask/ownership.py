"""What ends with what: a process's clusters when the interpreter ends, a cluster object's clients
with it.

A forked child owns nothing: what its parent made is the parent's to stop.
"""

from __future__ import annotations

import asyncio
import atexit
import os
from contextlib import suppress
from dataclasses import replace
from typing import Any

from distributed.client import Client

from gateway.client.calls import api
from gateway.client.calls import messages as requests
from gateway.client.calls.channel import Connection

# of each stop when the interpreter ends; the server's own timeouts end what could not be told
EXIT_TIMEOUT_S = 5.0

# by resource name, with the pid of the process that owns it
_owned: dict[str, tuple[Connection, int]] = {}


def own(connection: Connection, name: str) -> None:
    """Stop a cluster when this process ends."""
    _owned[name] = (connection, os.getpid())


def disown(name: str) -> None:
    """Let a cluster be."""
    _owned.pop(name, None)


async def close_clients(cluster: Any) -> None:
    """Close the clients that were made of a cluster object and live on its event loop."""
    clients = [
        one
        for one in list(getattr(Client, "_instances", ()))
        if one.cluster is cluster and one.loop is cluster.loop
    ]
    await asyncio.gather(*(one._close() for one in clients), return_exceptions=True)


@atexit.register
def _stop_all() -> None:
    for name, (connection, pid) in list(_owned.items()):
        if pid == os.getpid():
            quick = Connection(replace(connection.settings, retry_s=0.0))
            with suppress(Exception):  # nobody is left to tell
                quick.call(api.STOP_CLUSTER, requests.stop(name), timeout_s=EXIT_TIMEOUT_S)
    _owned.clear()
