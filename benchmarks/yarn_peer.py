"""dask-yarn's way: skein in the client's own process, one application a cluster, its scheduler and
workers as services, and workers by `scale`."""

from __future__ import annotations

import contextlib
import os
import pathlib
import socket
import time
from collections.abc import Iterator
from typing import Any

from benchmarks import processes
from gateway.backends.yarn.settings import SMALL_JVM
from tests.parts.yarn import Hadoop

LIMIT_S = 180.0
# The same for both, as by default: skein loses workers that are asked for soon after a scheduler
# that is larger than they are.
MASTER_MB, SCHEDULER_MB, WORKER_MB = 256, 384, 384


class Skein:
    """A client's driver."""

    def __init__(self, hadoop: Hadoop, directory: pathlib.Path, python: pathlib.Path) -> None:
        self._hadoop, self._directory, self._python = hadoop, directory, python
        self._port = 0

    def __enter__(self) -> Skein:
        os.environ["SKEIN_CONFIG"] = str(self._directory / "skein")
        os.environ["PATH"] = f"{self._hadoop.bin}:{os.environ['PATH']}"
        import skein

        self._skein = skein
        self._security = skein.Security.new_credentials()
        self._client = skein.Client(
            security=self._security,
            log=str(self._directory / "driver.log"),
            java_options=f"{SMALL_JVM} -Xmx256m",
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def _specification(self) -> Any:
        skein = self._skein
        (self._port,) = processes.free_ports(1)
        where = f"tcp://127.0.0.1:{self._port}"
        words = {
            "dask.scheduler": f"scheduler --host 127.0.0.1 --port {self._port}"
            f" --dashboard-address 127.0.0.1:0",
            "dask.worker": f"worker {where} --host 127.0.0.1 --no-nanny --nthreads 1"
            f" --memory-limit {WORKER_MB}MiB --dashboard-address 127.0.0.1:0",
        }
        sizes = {"dask.scheduler": SCHEDULER_MB, "dask.worker": WORKER_MB}
        services = {
            name: skein.Service(
                instances=1 if name == "dask.scheduler" else 0,
                resources=skein.Resources(memory=sizes[name], vcores=1),
                max_restarts=0,
                env={"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"},
                script=f"exec {self._python} -m dask {line}",
            )
            for name, line in words.items()
        }
        master = skein.Master(
            resources=skein.Resources(memory=MASTER_MB, vcores=1),
            security=self._security,
            env={"JAVA_TOOL_OPTIONS": SMALL_JVM},
            script="sleep infinity",
        )
        return skein.ApplicationSpec(name="dask", services=services, master=master)

    @contextlib.contextmanager
    def started(self) -> Iterator[Any]:
        """An application whose scheduler listens."""
        application_id = self._client.submit(self._specification())
        try:
            self._until_listens()
            yield self._client.connect(application_id, security=self._security)
        finally:
            self._client.kill_application(application_id)

    def cluster(self) -> tuple[float, float]:
        """Return the seconds until a scheduler listens, and until a first result."""
        from distributed import Client

        began = time.perf_counter()
        with self.started() as application:
            cluster_s = time.perf_counter() - began
            application.scale("dask.worker", 1)
            with Client(f"tcp://127.0.0.1:{self._port}") as client:
                assert client.submit(int, "7").result(timeout=LIMIT_S) == 7
            return cluster_s, time.perf_counter() - began

    def _until_listens(self) -> None:
        ends = time.monotonic() + LIMIT_S
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._port)):
                return
            if time.monotonic() > ends:
                raise TimeoutError(f"no scheduler listens within {LIMIT_S:g} s")
            time.sleep(0.02)
