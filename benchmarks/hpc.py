"""Submissions, commands and seconds for 10, 100 and 1,000 workers on a real Slurm whose commands
are delayed by 2 s each: `make bench-hpc`.

Ours is the whole server in this process, its event loop watched, asked by its own API. The other
way is dask-gateway's: one sbatch a worker, each through the launcher of its own package, under
sudo, 20 at a time, which is its default (held, so that they only wait). Both are measured by the
log of the delayed commands. Jobs of workers only sleep: what is measured is the way to Slurm, not
Dask.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import uvloop
from traitlets.config import Config

from benchmarks import machine, probe
from tests.parts.slurm import Slurm, last_core, running

DELAY_S = 2
PEER = "dask-gateway-server==2026.3.0"
PARALLELISM = 20  # of the peer, by default
ROUNDS = {10: 3, 100: 3, 1000: 3}
PEER_ROUNDS = {10: 3, 100: 3, 1000: 1}  # the last takes it nearly two minutes
LIMIT_S = 600.0
NODE_CPUS = 300  # of each of four virtual nodes: room for all
USER, PASSWORD = "alice", "wonderland"
DELAYED = """#!/bin/sh
echo "{name} begin $(date +%s.%N)" >>{log}
sleep {delay}
{command} "$@"
code=$?
echo "{name} end $(date +%s.%N)" >>{log}
exit $code
"""
SLEEPER = (
    '#!/bin/sh\ncase " $* " in *" dask worker "*) exec sleep 3600;; esac\nexec {python} "$@"\n'
)


@dataclass
class Commands:
    """The delayed commands, and what was run of them."""

    directory: pathlib.Path

    @property
    def log(self) -> pathlib.Path:
        """The file that every command writes when it begins and ends."""
        return self.directory / "commands.log"

    def make(self) -> None:
        """Write the commands."""
        for name in ("sbatch", "squeue", "scancel", "sacct"):
            path = self.directory / name
            path.write_text(
                DELAYED.format(name=name, log=self.log, delay=DELAY_S, command=shutil.which(name))
            )
            path.chmod(0o755)
        self.reset()

    def reset(self) -> None:
        """Forget what was run."""
        self.log.write_text("")

    def count(self, name: str = "") -> int:
        """Return how many commands were begun."""
        return sum(
            line.startswith(name) and " begin " in line
            for line in self.log.read_text().splitlines()
        )

    def last_submission_at(self) -> float:
        """Return when the last sbatch ended."""
        return max(
            float(line.split()[2])
            for line in self.log.read_text().splitlines()
            if line.startswith("sbatch end")
        )


@contextlib.asynccontextmanager
async def our_server(
    slurm: Slurm, directory: pathlib.Path, commands: Commands
) -> AsyncIterator[object]:
    """Our whole server in this process."""
    from gateway.authenticators.password import hash_password
    from gateway.server.app import App
    from gateway.server.boot.settings import settings

    python = directory / "python"
    python.write_text(SLEEPER.format(python=sys.executable))
    python.chmod(0o755)
    config = Config()
    config.DaskGateway.update(
        {"state_dir": str(directory / "state"), "address": "127.0.0.1:0", "start_proxy": False}
    )
    config.DaskGateway.backends = ["slurm"]
    config.PasswordAuthenticator.users = {USER: hash_password(PASSWORD)}
    config.SlurmBackend.update(
        {
            "root": str(directory / "slurm"),
            "commands_directory": str(commands.directory),
            "local": True,
        }
    )
    config.ClusterConfig.update({"scheduler_host": "127.0.0.1", "python": [str(python)]})
    config.ClusterConfig.update(
        {"worker_memory": "10 MiB", "scheduler_memory": "1 GiB", "options": []}
    )
    app = App(settings(config))
    await app.start()
    gc.collect()
    gc.freeze()  # as `serve` does
    try:
        yield app
    finally:
        await app.stop()


async def ours(
    slurm: Slurm, directory: pathlib.Path, commands: Commands, workers: int
) -> dict[str, float]:
    """Measure our way once."""
    from gateway import Gateway

    stall_file = directory / "stall"
    probe.begin(asyncio.get_running_loop(), str(stall_file))
    async with our_server(slurm, directory, commands) as app:
        gateway = Gateway(f"unix:{directory}/state/server.sock", auth=(USER, PASSWORD))
        made = await asyncio.to_thread(gateway.submit, "bench")
        await asyncio.to_thread(gateway.wait, made.name, ("ACTIVE",), timeout_s=LIMIT_S)
        backend = app.settings.backends["slurm"]  # type: ignore[attr-defined]
        commands.reset()
        probe.taken(stall_file)
        began_at = time.time()
        await asyncio.to_thread(gateway.scale_cluster, "bench", workers)
        seen = await until_seen_running(backend, workers)
        stall_ms, without_cpu_ms = probe.taken(stall_file)
        result = {
            "submissions": commands.count("sbatch"),
            "commands": commands.count(),
            "submitted_s": commands.last_submission_at() - began_at,
            "running_s": time.time() - began_at,
            "stall_ms": stall_ms,
            "without_cpu_ms": without_cpu_ms,
        }
        assert seen == workers
        await asyncio.to_thread(gateway.stop_cluster, "bench")
        await asyncio.to_thread(gateway.wait, f"{USER}/{made.uid}", ("STOPPED",), timeout_s=LIMIT_S)
        gateway.close()
    return result


async def until_seen_running(backend: object, workers: int) -> int:
    """Wait until the server has seen every worker run; return how many."""
    from gateway.backends.contract import Phase, Role

    async with asyncio.timeout(LIMIT_S):
        while True:
            sights = backend.ledger.listing.sights.by_instance  # type: ignore[attr-defined]
            there = [
                i
                for i, s in sights.items()
                if i.role is Role.WORKER and s.observation.phase is Phase.RUNNING
            ]
            seen = len(there)
            if seen == workers:
                return seen
            await asyncio.sleep(0.2)


def theirs(launcher: pathlib.Path, commands: Commands, workers: int) -> dict[str, float]:
    """Measure the way of one sbatch a worker, through the peer's own launcher."""
    return asyncio.run(_theirs(launcher, commands, workers))


async def _theirs(launcher: pathlib.Path, commands: Commands, workers: int) -> dict[str, float]:
    commands.reset()
    permits = asyncio.Semaphore(PARALLELISM)

    async def start(number: int) -> None:
        words = [
            str(commands.directory / "sbatch"),
            "--parsable",
            "--job-name=dask-gateway",
            "--chdir=/tmp",
            "--output=/dev/null",
        ]
        # it is submitting that is measured
        words += ["--cpus-per-task=1", "--mem=10M", "--export=SLURM_CONF", "--hold"]
        env = {"SLURM_CONF": os.environ["SLURM_CONF"], "PATH": os.environ["PATH"]}
        request = {
            "action": "start",
            "cmd": words,
            "env": env,
            "stdin": f"#!/bin/sh\n\nexec sleep 3600 # worker {number}\n",
        }
        async with permits:
            child = await asyncio.create_subprocess_exec(
                *("sudo", "-nHu", "root", sys.executable, str(launcher)),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={},
            )
            out, _ = await child.communicate(json.dumps(request).encode())
            answer = json.loads(out)
            assert answer["ok"], answer
            assert answer["returncode"] == 0, answer

    began_at = time.time()
    await asyncio.gather(*(start(number) for number in range(workers)))
    submitted_s = commands.last_submission_at() - began_at
    result = {
        "submissions": commands.count("sbatch"),
        "commands": commands.count(),
        "submitted_s": submitted_s,
    }
    await asyncio.to_thread(subprocess.run, ["scancel", "--name=dask-gateway"], check=True)
    return result


def bare(slurm: Slurm, workers: int) -> float:
    """Return what Slurm itself needs until so many elements of one array run."""
    words = [
        "sbatch",
        "--parsable",
        "--mem=10",
        "--output=/dev/null",
        "--chdir=/",
        f"--array=0-{workers - 1}",
        "--job-name=bare",
    ]
    began = time.perf_counter()
    slurm.command(*words, "--wrap", "exec sleep 3600")
    while len(slurm.jobs("RUNNING")) < workers:
        time.sleep(0.2)
    seconds = time.perf_counter() - began
    slurm.command("scancel", "--name=bare")
    wait_empty(slurm)
    return seconds


def wait_empty(slurm: Slurm) -> None:
    """Wait until Slurm runs nothing."""
    while slurm.jobs("PENDING", "RUNNING", "COMPLETING"):
        time.sleep(0.5)


@contextlib.contextmanager
def parts() -> Iterator[tuple[Slurm, pathlib.Path, Commands, pathlib.Path]]:
    """Slurm, a directory, the delayed commands and the peer's launcher."""
    with (
        running(rest=False, cpus=NODE_CPUS, apart=True) as slurm,
        tempfile.TemporaryDirectory() as text,
    ):
        # commands too
        os.sched_setaffinity(0, os.sched_getaffinity(0) - {last_core()} or {last_core()})
        directory = pathlib.Path(text)
        os.environ["SLURM_CONF"] = str(slurm.conf)
        (directory / "commands").mkdir()
        commands = Commands(directory / "commands")
        commands.make()
        pip = [
            sys.executable,
            "-m",
            "pip",
            "--disable-pip-version-check",
            "--quiet",
            "install",
            "--no-deps",
        ]
        subprocess.run([*pip, "--target", str(directory / "peer"), PEER], check=True)
        yield (
            slurm,
            directory,
            commands,
            directory / "peer" / "dask_gateway_server" / "backends" / "jobqueue" / "launcher.py",
        )


def main() -> None:
    """Measure, and print a table and one line of JSON; the numbers of workers may be given."""
    wished = [int(word) for word in sys.argv[1:]] or list(ROUNDS)
    print(
        f"machine: {machine.described()}; Slurm's commands delayed by {DELAY_S} s each", flush=True
    )
    heads = zip(
        ("submissions", "commands", "submitted, s", "running, s", "stall, ms", "no CPU, ms"),
        COLUMNS,
    )
    print(
        f"{'workers':>8} {'way':<22} "
        + " ".join(f"{head:>{width.split('.')[0]}}" for head, (_, width) in heads),
        flush=True,
    )
    figures: dict[str, float] = {}
    with parts() as (slurm, directory, commands, launcher):
        for workers in wished:
            mine, other, alone = [], [], []
            for number in range(ROUNDS[workers]):
                place = directory / f"{workers}-{number}"
                place.mkdir()
                # as the server itself runs
                with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                    mine.append(runner.run(ours(slurm, place, commands, workers)))
                wait_empty(slurm)
                if number < PEER_ROUNDS[workers]:
                    other.append(theirs(launcher, commands, workers))
                    wait_empty(slurm)
                alone.append(bare(slurm, workers))
            row(workers, "one array (ours)", mine)
            row(workers, "one job each (dgw's)", other)
            row(
                workers,
                "bare sbatch --array",
                [{"submissions": 1, "commands": 1, "running_s": seconds} for seconds in alone],
            )
            figures[f"commands_{workers}"] = max(one["commands"] for one in mine)
            figures[f"seconds_{workers}_ratio"] = round(
                median(mine, "submitted_s") / median(other, "submitted_s"), 4
            )
            figures["stall_ms"] = round(max(one["stall_ms"] for one in mine), 1)
    print(json.dumps({f"hpc.{name}": value for name, value in figures.items()}))


def row(workers: int, way: str, measured: list[dict[str, float]]) -> None:
    """Print medians."""
    cells = [
        f"{median(measured, name):{width}}"
        if name in measured[0]
        else " " * int(width.split(".")[0])
        for name, width in COLUMNS
    ]
    print(f"{workers:>8} {way:<22} {' '.join(cells)}", flush=True)


COLUMNS = (
    ("submissions", "11.0f"),
    ("commands", "8.0f"),
    ("submitted_s", "12.1f"),
    ("running_s", "10.1f"),
    ("stall_ms", "9.1f"),
    ("without_cpu_ms", "10.1f"),
)


def median(measured: list[dict[str, float]], name: str) -> float:
    """Return the median of one figure."""
    return statistics.median(one[name] for one in measured)


if __name__ == "__main__":
    main()
