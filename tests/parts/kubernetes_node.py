"""A real node for `kubernetes.Kubernetes`: containerd and kubelet, whose pods run on this machine.

All of it lives in namespaces of its own for processes and mounts: the end of one process ends every
container, and what was mounted goes with the last of them. What is left then is a bridge and some
cgroups, which are removed by name. Debian's containerd and runc, as root; cgroups of version 1 or
2.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import pathlib
import select
import subprocess
import time
from collections.abc import Iterator

import yaml

from tests.parts import kubernetes_image, missing, program
from tests.parts.kubernetes import INSTALL, Kubernetes, binary
from tests.ports import free_ports

PLUGINS = pathlib.Path("/usr/lib/cni")
CGROUPS = pathlib.Path("/sys/fs/cgroup")
NODE = "real"
# Directories of Debian's programs that are not to be found by any other; private to the node.
PRIVATE = (
    "/run/containerd",
    "/run/netns",
    "/run/runc",
    "/var/lib/cni",
    "/var/lib/kubelet",
    "/var/log/containers",
)
# What kubelet and network would set for the whole machine: they find it done, and this machine
# keeps what it has.
SET = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
    "net/ipv4/ip_forward": "1",
}
INSIDE = """set -eu
mount --make-rshared /
for directory in {private}; do
mkdir -p "$directory"
mount -t tmpfs -o mode=755 tmpfs "$directory"
done
for file in {set}; do
[ ! -e "/proc/sys/$file" ] || mount --bind "{directory}/set/$file" "/proc/sys/$file"
done
: >{directory}/prepared
exec sleep infinity
"""
CONTAINERD = """version = 2
root = "{d}/containerd"
state = "/run/containerd"
[grpc]
address = "/run/containerd/c.sock"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{pause}"
disable_apparmor = true
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{plugins}"
conf_dir = "{d}/cni"
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "overlayfs"
default_runtime_name = "runc"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = false
"""
SOCKET = "/run/containerd/c.sock"
RIGHTS = pathlib.Path(__file__).parents[2] / "deploy/helm/daskgateway/files/rights.yaml"
GATEWAY = """
c.DaskGateway.backends = ['kubernetes']
c.DaskGateway.address = '{address}:{port}'
c.Proxy.scheduler_networks = ['{network}']
c.KubernetesBackend.root = {root!r}
c.KubernetesBackend.kubeconfig = {kubeconfig!r}
c.KubernetesBackend.image = '{image}'
c.KubernetesBackend.image_pull_policy = 'Never'
c.KubernetesBackend.limit_cores = False
c.KubernetesBackend.requested_cores_share = 0.01
c.KubernetesBackend.stop_grace_s = 5
c.ClusterConfig.scheduler_memory = '500 MiB'
"""


class Bridge:
    """A bridge of this machine, with a network of its own; its name is reserved by its being
    there."""

    def __init__(self) -> None:
        for number in range(64):
            self.name = f"dgk{number}"
            self._remove_if_left()
            done = _ip("link", "add", self.name, "type", "bridge", check=False)
            if done.returncode == 0:
                break
            if "File exists" not in done.stderr:
                missing(f"a bridge ({done.stderr.strip()})", "sh scripts/install_parts.sh, as root")
        else:
            raise AssertionError("every bridge of tests is taken: ip link delete dgk0 …")
        self.network = ipaddress.ip_network(f"10.{140 + number}.7.0/24")
        self.address = str(self.network[1])
        try:
            _ip("link", "set", self.name, "alias", f"pid {os.getpid()}")
            _ip("addr", "add", f"{self.address}/24", "dev", self.name)
            _ip("link", "set", self.name, "up")
        except BaseException:
            self.remove()
            raise

    def _remove_if_left(self) -> None:
        alias = pathlib.Path(f"/sys/class/net/{self.name}/ifalias")
        with contextlib.suppress(OSError, IndexError):
            if not pathlib.Path("/proc", alias.read_text().split()[1]).exists():
                self.remove()

    def remove(self) -> None:
        """Remove it."""
        _ip("link", "delete", self.name, check=False)


def _ip(*words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [program("ip", "make parts"), *words], capture_output=True, text=True, check=False
    )
    assert not check or done.returncode == 0, f"ip {' '.join(words)}: {done.stderr}"
    return done


class Node:
    """A node whose pods run."""

    def __init__(self, kubernetes: Kubernetes, bridge: Bridge) -> None:
        self._kubernetes, self.bridge = kubernetes, bridge
        self.directory = kubernetes.directory
        self._inside: list[str] = []
        self._first = -1  # the namespaces' first process, as a file descriptor

    def start(self) -> None:
        """Start it; it is ready when this returns."""
        self._enter()
        self._start_containerd()
        self._import()
        self._start_kubelet()
        self._kubernetes.until(self._ready, "the node is ready")

    def _enter(self) -> None:
        """Make the namespaces, whose first process ends with this one."""
        for name, value in SET.items():
            path = self.directory / "set" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(value)
        script = INSIDE.format(
            private=" ".join(PRIVATE), set=" ".join(SET), directory=self.directory
        )
        words = ["--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child"]
        self._kubernetes.spawn(
            "inside", *words, "--mount-proc", "sh", "-c", script, program="setpriv"
        )
        self._kubernetes.until((self.directory / "prepared").exists, "the node has its namespaces")
        first = child(self._kubernetes.processes["inside"].pid)
        self._first = os.pidfd_open(first)
        self._inside = ["nsenter", f"--target={first}", "--mount", "--pid", "--"]

    def _start_containerd(self) -> None:
        d = self.directory
        (d / "cni").mkdir()
        network = {
            "cniVersion": "0.4.0",
            "name": "pods",
            "plugins": [
                {
                    "type": "bridge",
                    "bridge": self.bridge.name,
                    "isGateway": True,
                    "ipMasq": False,
                    "ipam": {
                        "type": "host-local",
                        "dataDir": str(d / "addresses"),
                        "ranges": [[{"subnet": str(self.bridge.network)}]],
                        "routes": [{"dst": "0.0.0.0/0"}],
                    },
                }
            ],
        }
        (d / "cni" / "10-pods.conflist").write_text(json.dumps(network))
        config = d / "containerd.toml"
        pause = kubernetes_image.called("pause")
        config.write_text(CONTAINERD.format(d=d, pause=pause, plugins=PLUGINS))
        self._spawn("containerd", program("containerd", "make parts"), "--config", str(config))
        self._kubernetes.until(
            lambda: self.run("ctr", "version", check=False).returncode == 0, "containerd answers"
        )

    def _spawn(self, name: str, *words: str) -> None:
        self._kubernetes.spawn(name, *self._inside[1:], *words, program=self._inside[0])

    def run(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command where the node's processes are; `ctr` talks to its containerd."""
        if words[0] == "ctr":
            ctr = program("ctr", "make parts")
            words = (ctr, "--address", SOCKET, "--namespace", "k8s.io", *words[1:])
        done = subprocess.run(
            [*self._inside, *words], capture_output=True, text=True, timeout=120, check=False
        )
        assert not check or done.returncode == 0, f"{words}: {done.stderr}"
        return done

    def _import(self) -> None:
        images = self.directory / "images"
        images.mkdir()
        kubernetes_image.pause(images)
        kubernetes_image.dask(images)
        for name in ("pause", "dask"):
            self.take(images / f"{name}.tar")

    def take(self, image: pathlib.Path) -> None:
        """Have it hold an image, whose file is removed."""
        self.run("ctr", "images", "import", str(image))
        image.unlink()

    def _start_kubelet(self) -> None:
        d, pki = self.directory, self._kubernetes.pki
        for hierarchy in hierarchies():
            (hierarchy / self.bridge.name).mkdir(exist_ok=True)
        user = f"system:node:{NODE}"
        kubeconfig = pki.kubeconfig(self._kubernetes.server, user, "system:nodes")
        certificate, key = pki.make(user, "system:nodes", names=[self.bridge.address], file="node")
        port, health = free_ports(2)
        config = {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{self.bridge.name}",
            "failSwapOn": False,
            "containerRuntimeEndpoint": f"unix://{SOCKET}",
            "address": self.bridge.address,
            "port": port,
            "readOnlyPort": 0,
            "healthzBindAddress": "127.0.0.1",
            "healthzPort": health,
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": str(pki.ca)},
            },
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": str(certificate),
            "tlsPrivateKeyFile": str(key),
            "podLogsDir": str(d / "podlogs"),
            "volumePluginDir": str(d / "plugins"),
            "resolvConf": "",
            "makeIPTablesUtilChains": False,
            "evictionHard": {"memory.available": "50Mi", "nodefs.available": "1%"},
            "imageGCHighThresholdPercent": 100,
            "maxPods": 60,
            "nodeStatusUpdateFrequency": "2s",
            "registerWithTaints": [],
        }
        (d / "kubelet.json").write_text(json.dumps(config))
        self._spawn(
            "kubelet",
            binary("kubelet"),
            f"--config={d}/kubelet.json",
            f"--kubeconfig={kubeconfig}",
            f"--root-dir={d}/kubelet",
            f"--cert-dir={d}/kubelet-pki",
            f"--hostname-override={NODE}",
            f"--node-ip={self.bridge.address}",
        )

    def _ready(self) -> bool:
        told = self._kubernetes.kubectl("get", "node", NODE, "-o", "json", check=False)
        conditions = json.loads(told)["status"].get("conditions", []) if told else []
        return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)

    def stop(self) -> None:
        """End every process of it, and remove what they leave."""
        processes = self._kubernetes.processes
        for name in ("inside", "kubelet", "containerd"):
            if name in processes:
                processes[name].kill()
                processes.pop(name).wait()
        if self._first >= 0:
            # it ends when every process of its namespace has ended
            ended, _, _ = select.select([self._first], [], [], 60)
            assert ended, "processes of the node do not end"
            os.close(self._first)
        for hierarchy in hierarchies():
            _remove_cgroup(hierarchy / self.bridge.name)


def gateway(kubernetes: Kubernetes, node: Node, namespace: str, root: pathlib.Path) -> str:
    """Return the settings of a gateway whose clusters are pods there, with the rights that the
    chart gives it and no more. The namespace must be there."""
    rights = yaml.safe_load(RIGHTS.read_text())
    return GATEWAY.format(
        address=node.bridge.address,
        port=free_ports(1)[0],
        network=node.bridge.network,
        root=str(root),
        kubeconfig=str(kubernetes.account(namespace, "gateway", rights)),
        image=kubernetes_image.called("dask"),
    )


def child(pid: int) -> int:
    """Return the one process that another has started."""
    for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # what follows the name, in which there may be anything: the state, the parent
            if path.read_text().rpartition(")")[2].split()[1] == str(pid):
                return int(path.parent.name)
    raise AssertionError(f"process {pid} has started none")


def hierarchies() -> list[pathlib.Path]:
    """Return where cgroups are made: one directory for version 2, several for version 1."""
    if (CGROUPS / "cgroup.controllers").exists():
        return [CGROUPS]
    return [path for path in CGROUPS.iterdir() if path.is_dir() and not path.is_symlink()]


def _remove_cgroup(path: pathlib.Path) -> None:
    """Remove a cgroup and those below it; the kernel may need a moment after their processes."""
    deadline = time.monotonic() + 30
    while path.exists():
        for directory, _, _ in os.walk(path, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(directory)
        if path.exists():
            assert time.monotonic() < deadline, f"{path} is not empty"
            time.sleep(0.1)


def check() -> None:
    """Have a test skipped or failed where a node cannot be."""
    if os.geteuid() != 0:
        missing("a node, which root alone starts,", "sudo make parts, and the tests as root")
    for name in ("containerd", "ctr", "runc", "ip", "busybox", "gcc", "unshare", "nsenter"):
        program(name, "make parts")
    if not (PLUGINS / "bridge").exists():
        missing("CNI's plugin bridge", "make parts")
    if not os.access(binary("kubelet"), os.X_OK):
        missing("kubelet", INSTALL)


@contextlib.contextmanager
def running() -> Iterator[tuple[Kubernetes, Node]]:
    """A Kubernetes with one node whose pods run."""
    check()
    bridge = Bridge()
    try:
        kubernetes = Kubernetes(fakes=0, address=bridge.address)
        node = Node(kubernetes, bridge)
        try:
            kubernetes.start()
            node.start()
            yield kubernetes, node
        finally:
            try:
                node.stop()
            finally:
                kubernetes.stop()
    finally:
        bridge.remove()
