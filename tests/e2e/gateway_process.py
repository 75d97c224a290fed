"""A real gateway in processes of its own, below a private directory, on free ports of 127.0.0.1."""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
import signal
import subprocess
import sys
from collections.abc import Sequence

from gateway.server.edge.record import read_record, runs
from tests.ports import free_port

USER, PASSWORD = "alice", "wonderland"
MADE: list[GatewayProcess] = []  # by this process, in their order


def kill(pid: int) -> None:
    """End a process by force, if it is there."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


class GatewayProcess:
    """Server and edge, each on a port that is its own from one start to the next."""

    def __init__(self, directory: pathlib.Path, *settings: str) -> None:
        from gateway.authenticators.password import hash_password

        self.directory = directory
        self.local = directory / "local"
        self.config = directory / "daskgateway_config.py"
        self.config.write_text(
            f"c = get_config()\n"
            f"c.DaskGateway.state_dir = {str(directory / 'state')!r}\n"
            f"c.DaskGateway.address = '127.0.0.1:{free_port()}'\n"
            f"c.DaskGateway.disk_reserve_bytes = {2**20}\n"
            f"c.Proxy.address = '127.0.0.1:{free_port()}'\n"
            f"c.LocalBackend.root = {str(self.local)!r}\n"
            f"c.PasswordAuthenticator.users = {{'alice': {hash_password(PASSWORD)!r}, 'bob':"
            f" {hash_password('builder')!r}}}\n"
            f"c.ClusterConfig.max_workers = 6\n"
            # one process each, which tests count, and sooner there; test_nannies has the default
            f"c.ClusterConfig.worker_nanny = False\n" + "".join(f"{line}\n" for line in settings)
        )
        MADE.append(self)
        self.address = ""
        self.process: subprocess.Popen[str] | None = None

    def start(
        self,
        *settings: str,
        module: str = "gateway",
        environment: dict[str, str] | None = None,
        before: Sequence[str] = (),
    ) -> None:
        """Serve; settings are words such as --Class.trait=value, `before` those of a program that
        runs the server."""
        words = [
            *before,
            sys.executable,
            "-m",
            module,
            "serve",
            "--config",
            str(self.config),
            *settings,
        ]
        log = (self.directory / "server.log").open("a")
        with log:
            self.process = subprocess.Popen(
                words,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
                env=os.environ | (environment or {}),
            )
        assert self.process.stdout is not None
        found = re.search(r"serves on (\S+) ", self.process.stdout.readline())
        if found is None:  # it ends by itself, or it never will
            self.kill()
            raise AssertionError((self.directory / "server.log").read_text())
        self.address = found[1]

    def kill(self) -> None:
        """End the server with no warning; edge and clusters stay."""
        assert self.process is not None
        assert self.process.stdout is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.process.stdout.close()

    def stop(self) -> int:
        """End the server as an administrator does; return its exit code."""
        assert self.process is not None
        assert self.process.stdout is not None
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(60)
        self.process.stdout.close()
        return code

    def end_clusters(self, timeout_s: float) -> None:
        """Stop all clusters of the first user, and wait until they are gone."""
        from gateway import Gateway

        with Gateway(self.address, auth=(USER, PASSWORD)) as gateway:
            for cluster in gateway.list_clusters():
                gateway.stop_cluster(f"{USER}/{cluster.uid}")
                gateway.wait(f"{USER}/{cluster.uid}", ("STOPPED", "FAILED"), timeout_s=timeout_s)

    def end(self) -> None:
        """Leave nothing running: server, edge and clusters, whatever has become of them."""
        if self.process is not None and self.process.stdout is not None:
            if self.process.poll() is None:
                self.process.send_signal(signal.SIGTERM)
                try:
                    self.process.wait(60)
                except subprocess.TimeoutExpired:
                    self.process.kill()
                    self.process.wait()
            self.process.stdout.close()
        edge = read_record(self.directory / "state" / "edge.json")
        if edge is not None and runs(edge):
            kill(edge.pid)
        for pid in self.processes():
            kill(pid)

    def environment(self) -> dict[str, str]:
        """Return the environment of a user's process."""
        user = {
            "DASKGATEWAY_ADDRESS": self.address,
            "DASKGATEWAY_USER": USER,
            "DASKGATEWAY_PASSWORD": PASSWORD,
        }
        return os.environ | user

    def processes(self) -> list[int]:
        """Return the pids of everything the local backend runs."""
        from gateway.backends.local import proc

        return [process.pid for process, _ in proc.marked({"DASKGATEWAY_ROOT": str(self.local)})]
