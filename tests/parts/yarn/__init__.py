"""A real Hadoop in a private directory: NameNode, DataNode, ResourceManager and NodeManager on free
ports of 127.0.0.1, from Maven's artifacts.

Nothing of it is installed but jars, in a cache outside the tree. Everything is started in the
foreground and ended by its pid, and so is what the NodeManager has started.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

from tests.parts import executable, missing, program
from tests.parts.yarn.configuration import CORES, MEMORY_MB, Ports, write_configuration
from tests.ports import free_ports

JARS = (
    pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
    / "daskgateway"
    / "parts"
    / "hadoop-3.4.2"
)
INSTALL = "sh scripts/install_parts.sh (Java, and Hadoop's jars by Maven)"
START_S = 180.0
STOP_S = 20.0
# what halves the processor time of a start; the rest keeps a daemon small
SMALL = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Djava.net.preferIPv4Stack=true")
OPENED = "--add-opens=java.base/java.lang=ALL-UNNAMED"  # of ResourceManager and NodeManager
CLASSES = {
    "namenode": "org.apache.hadoop.hdfs.server.namenode.NameNode",
    "datanode": "org.apache.hadoop.hdfs.server.datanode.DataNode",
    "resourcemanager": "org.apache.hadoop.yarn.server.resourcemanager.ResourceManager",
    "nodemanager": "org.apache.hadoop.yarn.server.nodemanager.NodeManager",
}
HEAP = {"namenode": 160, "datanode": 128, "resourcemanager": 256, "nodemanager": 192}
# The three commands that a gateway runs on a machine of a Hadoop cluster, as far as it uses them.
COMMANDS = """#!/bin/sh
name=$(basename "$0")
[ "$name $1" = "yarn classpath" ] && {{ echo "{conf}:{jars}"; exit 0; }}
case "$name $1" in
  "yarn logs") class=org.apache.hadoop.yarn.client.cli.LogsCLI; shift;;
  "hadoop fs") class=org.apache.hadoop.fs.FsShell; shift;;
  *) echo "$name: no such command: $1" >&2; exit 1;;
esac
exec java -Xmx128m {small} -cp "{conf}:{folder}/*" $class "$@"
"""


class Hadoop:
    """A cluster of one node that is ours alone."""

    def __init__(
        self,
        *,
        node_expiry_s: float = 120.0,
        recovery: bool = True,
        node: tuple[int, int] = (MEMORY_MB, CORES),
    ) -> None:
        self.java = program("java", INSTALL)
        if not (JARS / "complete").exists():
            missing("Hadoop", INSTALL)
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="hadoop-"))
        self.directory.chmod(0o755)
        self.conf, self.bin, self.log = (self.directory / name for name in ("conf", "bin", "log"))
        self.ports = Ports(*free_ports(len(Ports._fields)))
        self.node_expiry_s, self.recovery = node_expiry_s, recovery
        self.node = node  # its memory, MiB, and cores
        self.rm_url = f"http://127.0.0.1:{self.ports.rm_web}"
        self.nm_url = f"http://127.0.0.1:{self.ports.nm_web}"
        self.hdfs_url = f"http://127.0.0.1:{self.ports.nn_web}"
        self.daemons: dict[str, subprocess.Popen[bytes]] = {}

    # Start and end

    def start(self) -> None:
        """Start everything; the node runs and HDFS can be written when this returns."""
        for directory in (self.bin, self.log, self.directory / "tmp"):
            directory.mkdir()
        for name in ("hdfs", "datanode"):
            (self.conf / "webapps" / name).mkdir(parents=True)
        self.write_configuration()
        self._write_commands()
        self._format()
        for name in CLASSES:
            self.start_daemon(name)
        self.until_node_runs()
        user = getpass.getuser()
        for path, mode in (("/tmp", "1777"), ("/tmp/logs", "1777"), (f"/user/{user}", "755")):
            self.make_directory(path, mode)

    def write_configuration(self) -> None:
        """Write the configuration; daemons that are started later read it."""
        write_configuration(
            self.conf,
            self.directory,
            JARS,
            self.ports,
            node_expiry_s=self.node_expiry_s,
            recovery=self.recovery,
            node=self.node,
        )

    def _write_commands(self) -> None:
        jars = ":".join(str(path) for path in sorted(JARS.glob("*.jar")))
        text = COMMANDS.format(conf=self.conf, jars=jars, folder=JARS, small=" ".join(SMALL))
        for name in ("yarn", "hadoop"):
            executable(self.bin / name, text)

    def _words(self, name: str, *more: str) -> list[str]:
        opened = [OPENED] if name in ("resourcemanager", "nodemanager") else []
        folders = {"hadoop.log.dir": "log", "yarn.log.dir": "log", "java.io.tmpdir": "tmp"}
        return [
            self.java,
            f"-Xmx{HEAP[name]}m",
            *SMALL,
            *(f"-D{key}={self.directory / value}" for key, value in folders.items()),
            *opened,
            "-cp",
            f"{self.conf}:{JARS}/*",
            CLASSES[name],
            *more,
        ]

    def _format(self) -> None:
        done = subprocess.run(
            self._words("namenode", "-format", "-nonInteractive"),
            capture_output=True,
            text=True,
            timeout=START_S,
            cwd=self.directory,
        )
        assert done.returncode == 0, done.stderr[-3000:]

    def start_daemon(self, name: str) -> None:
        """Start a daemon, or start it again."""
        with (self.log / f"{name}.log").open("ab") as log:
            self.daemons[name] = subprocess.Popen(
                self._words(name),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.environment(),
                cwd=self.directory,
                start_new_session=True,
            )

    def stop_daemon(self, name: str, how: signal.Signals = signal.SIGTERM) -> None:
        """End a daemon, and wait for it."""
        process = self.daemons[name]
        if process.poll() is None:
            process.send_signal(how)
            process.send_signal(signal.SIGCONT)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def stop(self) -> None:
        """End everything that was started, and remove the directory."""
        # the NodeManager first: it ends its containers
        for name in ("nodemanager", "resourcemanager", "datanode", "namenode"):
            if name in self.daemons:
                self.stop_daemon(name)
        self._end_containers()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _end_containers(self) -> None:
        """End what a NodeManager that was killed has left: every process with our directory in its
        environment."""
        mark = str(self.directory).encode()
        for entry in pathlib.Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                with contextlib.suppress(OSError):
                    variables = (entry / "environ").read_bytes().split(b"\0")
                    if any(one.startswith(b"NM_HOST=") for one in variables) and any(
                        mark in one for one in variables
                    ):
                        os.kill(int(entry.name), signal.SIGKILL)

    # What tests ask

    def environment(self) -> dict[str, str]:
        """Return the environment of what uses this Hadoop."""
        kept = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("HADOOP_", "YARN_", "SKEIN_"))
        }
        return kept | {"PATH": f"{self.bin}:{os.environ['PATH']}"}

    def ask(self, url: str, method: str = "GET", body: Any = None) -> Any:
        """Return what a REST call answers."""
        request = urllib.request.Request(
            url,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            text = answer.read().decode()
        return json.loads(text) if text else None

    def applications(self, *states: str) -> list[dict[str, Any]]:
        """Return every application in one of the states; by default those that have not ended."""
        wanted = ",".join(states) or "NEW,NEW_SAVING,SUBMITTED,ACCEPTED,RUNNING"
        told = self.ask(f"{self.rm_url}/ws/v1/cluster/apps?states={wanted}")
        found: list[dict[str, Any]] = (told.get("apps") or {}).get("app") or []
        return found

    def kill(self, application_id: str) -> None:
        """End an application as an administrator does."""
        url = f"{self.rm_url}/ws/v1/cluster/apps/{application_id}/state?user.name=admin"
        self.ask(url, "PUT", {"state": "KILLED"})

    def listed(self, path: str) -> list[str]:
        """Return the names in a directory of HDFS; none if it is not there."""
        try:
            told = self._hdfs(path, "LISTSTATUS", "GET")
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return []
            raise
        return [one["pathSuffix"] for one in told["FileStatuses"]["FileStatus"]]

    def make_directory(self, path: str, mode: str, owner: str = "") -> None:
        """Make a directory of HDFS, with a mode and an owner."""

        def made() -> bool:
            try:
                self._hdfs(path, f"MKDIRS&permission={mode}", "PUT")
            except (OSError, urllib.error.HTTPError):
                return False
            return True

        self.until(made, f"{path} is made")
        self._hdfs(path, f"SETPERMISSION&permission={mode}", "PUT")
        if owner:
            self._hdfs(path, f"SETOWNER&owner={owner}", "PUT")

    def _hdfs(self, path: str, operation: str, method: str) -> Any:
        user = getpass.getuser()
        return self.ask(f"{self.hdfs_url}/webhdfs/v1{path}?op={operation}&user.name={user}", method)

    def containers_of(self, application_id: str) -> list[int]:
        """Return the processes of an application's containers."""
        return marked(application_id)

    def until_node_runs(self) -> None:
        """Wait until the ResourceManager says that the node runs."""

        def runs() -> bool:
            try:
                told = self.ask(f"{self.rm_url}/ws/v1/cluster/nodes")
            except (OSError, ValueError):
                return False
            nodes = (told.get("nodes") or {}).get("node") or []
            return any(node["state"] == "RUNNING" for node in nodes)

        self.until(runs, "the node runs")

    def until(self, holds: Callable[[], bool], what: str) -> None:
        """Wait until something holds; AssertionError with the ends of all logs if it does not."""
        deadline = time.monotonic() + START_S
        while not holds():
            dead = [name for name, one in self.daemons.items() if one.poll() is not None]
            if dead or time.monotonic() > deadline:
                logs = {
                    path.name: path.read_text(errors="replace")[-2000:]
                    for path in self.log.glob("*.log")
                }
                raise AssertionError(f"not within {START_S:g} s: {what}; ended: {dead}\n{logs}")
            time.sleep(0.2)


def marked(application_id: str) -> list[int]:
    """Return the processes with an application's id in their environment."""
    found = []
    mark = application_id.removeprefix("application_").encode()
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                variables = (entry / "environ").read_bytes().split(b"\0")
                if any(one.startswith(b"CONTAINER_ID=") and mark in one for one in variables):
                    found.append(int(entry.name))
    return sorted(found)


@contextlib.contextmanager
def running(**options: Any) -> Iterator[Hadoop]:
    """A Hadoop that runs."""
    hadoop = Hadoop(**options)
    try:
        hadoop.start()
        yield hadoop
    finally:
        hadoop.stop()
