"""Plays the schedulers of dask-gateway's clusters that run nowhere: the heartbeats of its own
protocol."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from cryptography.fernet import Fernet

from benchmarks.peer import ENCRYPTION_KEY, PeerGateway

THREADS = 8
JOIN_S = 60.0
POLL_S = 0.05


def tokens(gateway: PeerGateway) -> Mapping[str, str]:
    """Return the schedulers' tokens by cluster, read where the server keeps them."""
    fernet = Fernet(ENCRYPTION_KEY)
    with sqlite3.connect(gateway.database) as database:
        rows = database.execute("SELECT name, token FROM clusters").fetchall()
    database.close()
    return {name: fernet.decrypt(token).decode() for name, token in rows}


def beat(
    gateway: PeerGateway, name: str, token: str, count: int = 0, active: Sequence[str] = ()
) -> None:
    """Send a heartbeat: how many workers the scheduler wants, and those that it has."""
    message = {
        "api_address": "http://127.0.0.1:1",
        "scheduler_address": "tls://127.0.0.1:1",
        "dashboard_address": "http://127.0.0.1:1",
        "count": count,
        "active_workers": list(active),
        "closing_workers": [],
        "closed_workers": [],
    }
    headers = {"Authorization": f"token {token}", "Content-Type": "application/json"}
    gateway.request(
        "POST",
        f"/api/v1/clusters/{name}/heartbeat",
        headers=headers,
        body=json.dumps(message).encode(),
    ).close()


def activate(gateway: PeerGateway, names: Sequence[str]) -> None:
    """Let every cluster's scheduler report once, so that it is RUNNING."""
    known = tokens(gateway)
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(lambda name: beat(gateway, name, known[name]), names))


def grow(gateway: PeerGateway, name: str, token: str, count: int, chunk: int) -> None:
    """Ask for workers as a scheduler that was told to scale does, and let them join, a chunk with
    each heartbeat."""
    beat(gateway, name, token, count)
    deadline = time.monotonic() + JOIN_S
    while len(workers := _workers(gateway, name)) < count:
        if time.monotonic() > deadline:
            raise TimeoutError(f"only {len(workers)} of {count} workers were started")
        time.sleep(POLL_S)
    for last in range(chunk, count + chunk, chunk):
        beat(gateway, name, token, count, workers[:last])


def _workers(gateway: PeerGateway, name: str) -> list[str]:
    """Return the workers that its backend was asked to start."""
    lines = gateway.names_file.read_text().splitlines()
    return [
        worker for cluster, _, worker in (line.partition(" ") for line in lines) if cluster == name
    ]
