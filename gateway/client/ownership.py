"""Which clusters end with this process: they are stopped when the interpreter ends.

A forked child owns nothing: what its parent made is the parent's to stop.
"""

from __future__ import annotations

import atexit
import os
from contextlib import suppress
from dataclasses import replace

from daskgateway.v1 import cluster_pb2

from gateway.client import requests
from gateway.client.channel import Connection
from gateway.client.requests import CLUSTERS

EXIT_TIMEOUT_S = 5.0  # of each stop when the interpreter ends; the server's own timeouts end what could not be told

_owned: dict[str, tuple[Connection, int]] = {}  # by resource name, with the pid of the process that owns it


def own(connection: Connection, name: str) -> None:
    """Stop a cluster when this process ends."""
    _owned[name] = (connection, os.getpid())


def disown(name: str) -> None:
    """Let a cluster be."""
    _owned.pop(name, None)


@atexit.register
def _stop_all() -> None:
    for name, (connection, pid) in list(_owned.items()):
        if pid == os.getpid():
            quick = Connection(replace(connection.settings, retry_s=0.0))
            with suppress(Exception):  # nobody is left to tell
                quick.call(CLUSTERS, "StopCluster", requests.stop(name), cluster_pb2.Cluster, timeout_s=EXIT_TIMEOUT_S)
    _owned.clear()
