"""Our gateway as a benchmark runs it: its configuration and its process."""

from __future__ import annotations

import json
import pathlib
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence

from benchmarks import processes
from gateway.authenticators.password import hash_password
from gateway.wire import basic_credentials

USER, PASSWORD = "bench", "correct horse battery staple"
AUTHORIZATION = basic_credentials(USER, PASSWORD)
READY_S = 60.0
FOREVER_S = 100_000.0


class OurGateway:
    """Server and edge: passwords, logging and SQLite with synchronous=FULL, as anybody runs
    them."""

    def __init__(
        self, directory: pathlib.Path, *, noop: bool, users: Sequence[str] = (), extra: str = ""
    ) -> None:
        self.directory = directory
        self._users = [USER, *users]  # all with the same password
        directory.mkdir(parents=True)
        self.state_dir = directory / "state"
        self.stall_file = directory / "stall"
        self.port, self.edge_port = processes.free_ports(2)
        # The server's own socket, by which users' calls come from the edge: what is on TCP is for
        # agents, in TLS.
        self.listener, self.address = (
            f"unix:{self.state_dir}/server.sock",
            f"http://127.0.0.1:{self.edge_port}",
        )
        self._config = directory / "daskgateway_config.py"
        self._config.write_text(self._common() + (self._noop() if noop else self._local()) + extra)
        self.process: subprocess.Popen[str] | None = None

    def _common(self) -> str:
        return (
            f"c = get_config()\n"
            f"c.DaskGateway.state_dir = {str(self.state_dir)!r}\n"
            f"c.DaskGateway.address = '127.0.0.1:{self.port}'\n"
            f"c.Proxy.address = '127.0.0.1:{self.edge_port}'\n"
            # one user stands for many
            f"c.DaskGateway.max_clusters_per_user = c.DaskGateway.max_creates_per_minute = 0\n"
            f"c.PasswordAuthenticator.users ="
            f" {dict.fromkeys(self._users, hash_password(PASSWORD))!r}\n"
        )

    def _local(self) -> str:
        return (
            f"c.LocalBackend.root = {str(self.directory / 'local')!r}\n"
            f"c.ClusterConfig.worker_cores = 1\n"
            f"c.ClusterConfig.worker_memory = '512 MB'\n"
            f"c.DaskGateway.stop_clusters_on_exit = True\n"
        )

    def _noop(self) -> str:
        return (
            f"import sys\n"
            f"sys.path.insert(0, {str(processes.ROOT)!r})\n"
            f"from benchmarks import probe\n"
            f"if 'serve' in sys.argv: probe.begin_with_uvloop({str(self.stall_file)!r})\n"
            f"c.DaskGateway.backends = ['noop']\n"
            f"c.DaskGateway.scheduler_start_timeout_s = {FOREVER_S}\n"
            f"c.DaskGateway.worker_connect_timeout_s = {FOREVER_S}\n"
            f"c.DaskGateway.agent_silence_timeout_s = {FOREVER_S}\n"
        )

    def launch(self) -> None:
        """Start it, and do not wait."""
        words = [sys.executable, "-m", "gateway", "serve", "--config", str(self._config)]
        self.process = processes.start(words, self.directory / "server.log", cwd=self.directory)

    def start(self) -> None:
        """Start it, and wait until it says that it serves."""
        self.launch()
        assert self.process is not None
        line = processes.read_line(self.process, READY_S)
        if re.search(r"serves on \S+ ", line) is None:
            raise RuntimeError(
                f"the gateway did not start: {(self.directory / 'server.log').read_text()[-2000:]}"
            )

    def answers(self) -> bool:
        """Whether a user gets an answer through the edge now."""
        path = "/daskgateway.v1.CredentialService/WhoAmI"
        headers = {"Authorization": AUTHORIZATION, "Content-Type": "application/json"}
        request = urllib.request.Request(self.address + path, data=b"{}", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return bool(json.load(answer)["user"] == USER)
        except (urllib.error.URLError, OSError):
            return False

    def stop(self) -> None:
        """End it."""
        if self.process is not None:
            processes.end(self.process)
