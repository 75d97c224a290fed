"""dask-gateway-server of PyPI as the one we are compared with: its environment, its configuration,
its process.

It gets the very versions of Dask and of what Dask imports that we run with, so that schedulers and
workers start equally.
"""

from __future__ import annotations

import base64
import pathlib
import subprocess
import sys
import time
import urllib.error
import urllib.request
from typing import Any

from benchmarks import processes

VERSION = "2026.3.0"
VENV = processes.ROOT / ".venv-dgw"
USER = "bench"
REQUIREMENTS = (
    f"dask-gateway=={VERSION}",
    f"dask-gateway-server[local]=={VERSION}",
    "bokeh",
    "numpy",
    "pandas",
    "pyarrow",
)
SHARED = (
    "dask",
    "distributed",
    "tornado",
    "msgpack",
    "cloudpickle",
    "bokeh",
    "numpy",
    "pandas",
    "pyarrow",
    "cryptography",
    "aiohttp",
)
ENCRYPTION_KEY = "A" * 43 + "="  # without one it refuses a database in a file
READY_S = 60.0
FOREVER_S = 100_000.0


def make_venv() -> None:
    """Make its environment once, with our versions of what both have."""
    stamp = VENV / ".made"
    if stamp.exists():
        return
    frozen = subprocess.run(
        [sys.executable, "-m", "pip", "freeze"], capture_output=True, text=True, check=True
    ).stdout
    pins = [line for line in frozen.splitlines() if line.partition("==")[0].lower() in SHARED]
    subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=True)
    pip = [
        str(VENV / "bin" / "python"),
        "-m",
        "pip",
        "--disable-pip-version-check",
        "--quiet",
        "install",
    ]
    subprocess.run([*pip, *REQUIREMENTS, *pins], check=True)
    stamp.touch()


class PeerGateway:
    """A dask-gateway-server with its Go proxy."""

    def __init__(self, directory: pathlib.Path, *, noop: bool) -> None:
        self.directory = directory
        directory.mkdir(parents=True)
        self.port, self.proxy_port, self.tcp_port = processes.free_ports(3)
        self.database = directory / "gateway.sqlite"
        self.stall_file = directory / "stall"
        self.names_file = directory / "workers"
        self._config = directory / "dask_gateway_config.py"
        self._config.write_text(self._noop() if noop else self._local())
        self.process: subprocess.Popen[str] | None = None

    def _common(self) -> str:
        return (
            f"c.DaskGateway.authenticator_class = 'dask_gateway_server.auth.SimpleAuthenticator'\n"
            f"c.DaskGateway.address = '127.0.0.1:{self.port}'\n"
            f"c.Proxy.address = '127.0.0.1:{self.proxy_port}'\n"
            f"c.Proxy.tcp_address = '127.0.0.1:{self.tcp_port}'\n"
            f"c.DBBackendBase.db_url = 'sqlite:///{self.database}'\n"
            f"c.DBBackendBase.db_encrypt_keys = [{ENCRYPTION_KEY!r}]\n"
        )

    def _local(self) -> str:
        return self._common() + (
            "c.DaskGateway.backend_class ="
            " 'dask_gateway_server.backends.local.UnsafeLocalBackend'\n"
            "c.LocalClusterConfig.worker_cores = 1\n"
            "c.LocalClusterConfig.worker_memory = '512 M'\n"
            # its defaults are no longer installed by distributed
            "c.LocalClusterConfig.scheduler_cmd = ['dask', 'scheduler']\n"
            "c.LocalClusterConfig.worker_cmd = ['dask', 'worker']\n"
        )

    def _noop(self) -> str:
        return self._common() + (
            f"import os, sys\n"
            f"sys.path.insert(0, {str(processes.ROOT)!r})\n"
            f"os.environ['BENCH_STALL_FILE'] = {str(self.stall_file)!r}\n"
            f"os.environ['BENCH_NAMES_FILE'] = {str(self.names_file)!r}\n"
            f"c.DaskGateway.backend_class = 'benchmarks.peer_noop.NoopBackend'\n"
            f"c.NoopBackend.cluster_heartbeat_timeout = {FOREVER_S}\n"
            f"c.NoopBackend.cluster_start_timeout = {FOREVER_S}\n"
            f"c.NoopBackend.worker_start_timeout = {FOREVER_S}\n"
        )

    def launch(self) -> None:
        """Start it, and do not wait."""
        words = [str(VENV / "bin" / "dask-gateway-server"), "-f", str(self._config)]
        env = {
            "PATH": f"{VENV / 'bin'}:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self.directory),
            "PYTHONUNBUFFERED": "1",
        }
        self.process = processes.start(
            words, self.directory / "server.log", env=env, cwd=self.directory
        )

    def start(self) -> None:
        """Start it, and wait until its proxy answers."""
        self.launch()
        deadline = time.monotonic() + READY_S
        while not self.answers():
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"dask-gateway-server is not ready:"
                    f" {(self.directory / 'server.log').read_text()[-2000:]}"
                )
            time.sleep(0.05)

    def answers(self) -> bool:
        """Whether a user gets an answer through its proxy now."""
        try:
            self.request("GET", "/api/v1/clusters/", port=self.proxy_port).close()
        except (urllib.error.URLError, OSError):
            return False
        return True

    def request(
        self,
        method: str,
        path: str,
        *,
        port: int = 0,
        headers: dict[str, str] | None = None,
        body: bytes | None = None,
    ) -> Any:
        """Make one call; by default straight to the server."""
        told = headers or {
            "Authorization": "Basic " + base64.b64encode(f"{USER}:x".encode()).decode()
        }
        request = urllib.request.Request(
            f"http://127.0.0.1:{port or self.port}{path}", data=body, method=method, headers=told
        )
        return urllib.request.urlopen(request, timeout=30)

    def cookie(self) -> str:
        """Return the cookie that its client would send from the second call on."""
        with self.request("GET", "/api/v1/clusters/") as answer:
            return str(answer.headers["Set-Cookie"]).partition(";")[0]

    def stop(self) -> None:
        """End it."""
        if self.process is not None:
            processes.end(self.process)
