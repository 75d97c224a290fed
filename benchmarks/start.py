"""How long it takes to have a cluster, and a first result: ours and dask-gateway's, local backend
on both sides, page cache warm.

`python -m benchmarks.start [rounds]`. Each side has a server, an edge and one user's process that
stay; a round is one cluster of each, and which side goes first turns around. Before each round
everything of the one before has ended.
"""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable

from benchmarks import machine, peer, processes
from benchmarks.figures import Samples, last_line, orders, table
from benchmarks.ours import PASSWORD, USER, OurGateway
from benchmarks.peer import PeerGateway

ROUNDS = 7
READY_ROUNDS = 5
POLL_S = 0.005
ANSWER_S = 120.0  # for one cluster
QUIET_S = 60.0  # how long to wait at most until a round's processes are gone
OURS, DGW = "ours", "dgw"


def main() -> None:
    """Measure and print."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    peer.make_venv()
    print(f"bench-start: {machine.described()}")
    print(
        f"dgw = dask-gateway-server {peer.VERSION}, with our versions of Dask; seconds, {rounds}"
        f" interleaved rounds"
    )
    samples = Samples()
    with processes.scratch() as directory, machine.watched() as load:
        _readiness(samples, directory)
        _clusters(samples, directory, rounds)
    print(table(samples))
    print(f"the machine was busy with {load.cores:.2f} cores, this benchmark's own work included")
    figures = {
        "new_cluster_ratio": samples.ratio("new_cluster_s", OURS, DGW),
        "first_result_ratio": samples.ratio("first_result_s", OURS, DGW),
        "edge_ready_s": samples.median("edge_ready_s", OURS),
        "edge_ready_ratio": samples.ratio("edge_ready_s", OURS, DGW),
        "new_cluster_s": samples.median("new_cluster_s", OURS),
        "first_result_s": samples.median("first_result_s", OURS),
    }
    print(last_line("start", figures))


def _readiness(samples: Samples, directory: pathlib.Path) -> None:
    """Start each server until a user gets an answer through its edge; the first time warms the page
    cache and is not counted."""
    for number, order in enumerate(orders(READY_ROUNDS + 1, [OURS, DGW])):
        for whose in order:
            place = directory / f"ready-{whose}-{number}"
            gateway = (
                OurGateway(place, noop=False) if whose == OURS else PeerGateway(place, noop=False)
            )
            began = time.perf_counter()
            gateway.launch()
            while not gateway.answers():
                time.sleep(POLL_S)
            if number:
                samples.add("edge_ready_s", whose, time.perf_counter() - began)
            gateway.stop()


def _clusters(samples: Samples, directory: pathlib.Path, rounds: int) -> None:
    ours, theirs = (
        OurGateway(directory / OURS, noop=False),
        PeerGateway(directory / DGW, noop=False),
    )
    users: dict[str, subprocess.Popen[str]] = {}
    try:
        ours.start()
        theirs.start()
        places = {OURS: ours.directory, DGW: theirs.directory}
        users[OURS] = _user(
            ours.directory, [sys.executable], "ours", ours.address, "", USER, PASSWORD
        )
        proxy, python = f"gateway://127.0.0.1:{theirs.tcp_port}", peer.VENV / "bin" / "python"
        users[DGW] = _user(
            theirs.directory,
            [str(python)],
            "dgw",
            f"http://127.0.0.1:{theirs.proxy_port}",
            proxy,
            peer.USER,
            "x",
        )
        for number, order in enumerate(orders(rounds + 1, [OURS, DGW])):
            for whose in order:
                found = _ask(users[whose], places[whose])
                for what, value in found.items():
                    if number:  # the first round warms the page cache
                        samples.add(what, whose, value)
                _wait(lambda: not _running(places), "processes of a round are still there")
    finally:
        for user in users.values():
            processes.end(user)
        ours.stop()
        theirs.stop()


def _user(directory: pathlib.Path, python: list[str], *words: str) -> subprocess.Popen[str]:
    script = processes.ROOT / "benchmarks" / "user.py"
    env = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("DASK", "PYTHONPATH"))
    }
    user = processes.start(
        [*python, str(script), *words], directory / "user.log", env=env, cwd=directory
    )
    processes.read_line(user, ANSWER_S)
    return user


def _ask(user: subprocess.Popen[str], directory: pathlib.Path) -> dict[str, float]:
    assert user.stdin is not None
    user.stdin.write("cluster\n")
    user.stdin.flush()
    try:
        found: dict[str, float] = json.loads(processes.read_line(user, ANSWER_S))
    except EOFError:
        raise RuntimeError((directory / "user.log").read_text()[-2000:]) from None
    return found


def _running(places: dict[str, pathlib.Path]) -> list[int]:
    """Return the Dask schedulers and workers below the benchmark's own directories."""
    found = []
    for pid in [int(name) for name in os.listdir("/proc") if name.isdigit()]:
        try:
            words = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            where = os.readlink(f"/proc/{pid}/cwd")
        except OSError:
            continue
        ours = any(where.startswith(str(place)) for place in places.values())
        if b"scheduler" in words or b"worker" in words:
            found += [pid] if ours or _marked(pid, places) else []
    return found


def _marked(pid: int, places: dict[str, pathlib.Path]) -> bool:
    """Whether a process was started with one of our directories in its environment: dask-gateway's
    run elsewhere."""
    try:
        environment = pathlib.Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False
    return any(str(place).encode() in environment for place in places.values())


def _wait(holds: Callable[[], bool], words: str) -> None:
    deadline = time.monotonic() + QUIET_S
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(words)
        time.sleep(0.05)


if __name__ == "__main__":
    main()
