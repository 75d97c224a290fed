"""A real Kubernetes in a private directory, on free ports of 127.0.0.1: etcd, API server,
controllers, scheduler, and nodes that only pretend to run pods (kwok). About five seconds until it
is ready.

Its programs are built once by `tests/parts/kubernetes/build.sh`. Pods that must run are for
`kubernetes_node`, which adds a real kubelet.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

from tests.parts import missing
from tests.parts.kubernetes_pki import CLUSTER_NAMES, SERVICE_IP, Pki
from tests.ports import free_ports

VERSION = "1.34.4"
PROGRAMS = (
    pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
    / "daskgateway"
    / f"kubernetes-{VERSION}"
)
INSTALL = "make parts (Kubernetes takes a quarter of an hour; it needs Go)"
START_S = 150.0
FAKE = "kwok.x-k8s.io/node"  # annotation and taint of nodes that only pretend
TOLERATION = {"key": FAKE, "operator": "Exists", "effect": "NoSchedule"}


def binary(name: str) -> str:
    """Return the path of one of its programs."""
    path = PROGRAMS / name
    return str(path) if path.exists() else missing(name, INSTALL)


def own_address() -> str:
    """Return an address of this machine other than loopback; loopback if it has none."""
    done = subprocess.run(["hostname", "-I"], capture_output=True, text=True, check=False)
    return next((one for one in done.stdout.split() if "." in one), "127.0.0.1")


class Kubernetes:
    """A cluster that is ours alone."""

    def __init__(
        self,
        *,
        fakes: int = 5,
        quick_loss: bool = False,
        address: str = "",
        audit: bool = False,
        nice: int = 0,  # so much lower is the priority of its programs
    ) -> None:
        for name in ("etcd", "kube-apiserver", "kubectl", *(("kwok",) if fakes else ())):
            binary(name)
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="kube-"))
        self.directory.chmod(0o755)
        (self.directory / "log").mkdir()
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.address = address or own_address()
        self._fakes, self._quick_loss, self._nice = fakes, quick_loss, nice
        self.audit_log = self.directory / "audit.log"  # one JSON a request, where it is asked for
        self._audit = self._audit_flags() if audit else []
        ports = free_ports(6)
        self._etcd, self._peer, self._api, self._kcm, self._scheduler, self._kwok = ports
        self.server = f"https://127.0.0.1:{self._api}"
        self.pki = Pki(self.directory / "pki")
        self.admin = self.pki.kubeconfig(self.server, "admin", "system:masters")

    # Start and end

    def start(self) -> None:
        """Start everything; nodes are ready when this returns."""
        self._start_etcd()
        self.start_apiserver()
        self._start_controllers()
        if self._fakes:
            self._start_kwok()
        self.until(
            lambda: bool(self._try("get", "serviceaccount", "default")), "there are accounts"
        )

    def stop(self) -> None:
        """End everything that was started, and remove the directory."""
        for name in reversed(list(self.processes)):
            self.end(name, signal.SIGKILL)  # nothing of it is needed again
        shutil.rmtree(self.directory, ignore_errors=True)

    def end(self, name: str, how: int = signal.SIGTERM) -> None:
        """End one program."""
        process = self.processes.pop(name)
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.send_signal(how)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def spawn(self, name: str, *words: str, program: str = "") -> None:
        """Start a program of Kubernetes, or another."""
        path = self.directory / "log" / f"{name}.out"
        nicely = ["nice", f"-n{self._nice}"] if self._nice else []
        with path.open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [*nicely, program or binary(name), *words],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                cwd="/",
            )

    def until(self, holds: Callable[[], bool], what: str, within_s: float = START_S) -> None:
        """Wait until something holds."""
        deadline = time.monotonic() + within_s
        while not holds():
            dead = [name for name, one in self.processes.items() if one.poll() is not None]
            if dead or time.monotonic() > deadline:
                logs = {
                    path.name: path.read_text(errors="replace")[-1500:]
                    for path in (self.directory / "log").iterdir()
                    if not dead or path.stem in dead
                }
                raise AssertionError(f"not within {within_s:g} s: {what}; dead: {dead}\n{logs}")
            time.sleep(0.1)

    def _start_etcd(self) -> None:
        client, peer = f"http://127.0.0.1:{self._etcd}", f"http://127.0.0.1:{self._peer}"
        self.spawn(
            "etcd",
            "--name=e",
            f"--data-dir={self.directory}/etcd",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=e={peer}",
            "--unsafe-no-fsync",
            "--log-level=warn",
        )

    def start_apiserver(self, *more: str) -> None:
        """Start the API server, or start it again."""
        pki = self.pki.directory
        certificate, key = self.pki.make(
            "apiserver", names=["127.0.0.1", SERVICE_IP, self.address, *CLUSTER_NAMES]
        )
        kubelet_certificate, kubelet_key = self.pki.make("apiserver-kubelet", "system:masters")
        seconds = ["--default-not-ready-toleration-seconds=3"]
        seconds += ["--default-unreachable-toleration-seconds=3"]
        self.spawn(
            "kube-apiserver",
            "--bind-address=127.0.0.1",
            f"--secure-port={self._api}",
            f"--advertise-address={self.address}",
            "--endpoint-reconciler-type=none",
            f"--etcd-servers=http://127.0.0.1:{self._etcd}",
            f"--client-ca-file={self.pki.ca}",
            f"--tls-cert-file={certificate}",
            f"--tls-private-key-file={key}",
            f"--service-account-key-file={pki}/sa.pub",
            f"--service-account-signing-key-file={pki}/sa.key",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--service-cluster-ip-range=10.96.0.0/16",
            f"--kubelet-client-certificate={kubelet_certificate}",
            f"--kubelet-client-key={kubelet_key}",
            f"--kubelet-certificate-authority={self.pki.ca}",
            "--kubelet-preferred-address-types=InternalIP",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction,ResourceQuota,LimitRanger,PodSecurity",
            "--anonymous-auth=false",
            "--delete-collection-workers=8",
            *(seconds if self._quick_loss else ()),
            *self._audit,
            *more,
        )
        self.until(lambda: self._try("get", "--raw=/readyz").startswith("ok"), "the API answers")

    def _audit_flags(self) -> list[str]:
        """Have the API server note who asked for what, and what it answered."""
        policy = self.directory / "audit.yaml"
        rules = [
            {"level": "Metadata", "userGroups": ["system:serviceaccounts"]},
            {"level": "None"},
        ]
        told = {"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": rules}
        policy.write_text(json.dumps({**told, "omitStages": ["RequestReceived"]}))
        return [f"--audit-policy-file={policy}", f"--audit-log-path={self.audit_log}"]

    def _start_controllers(self) -> None:
        pki, role = self.pki, "system:kube-controller-manager"
        grace = ["--node-monitor-grace-period=6s", "--node-monitor-period=1s"]
        self.spawn(
            "kube-controller-manager",
            f"--kubeconfig={pki.kubeconfig(self.server, role)}",
            "--bind-address=127.0.0.1",
            f"--secure-port={self._kcm}",
            f"--root-ca-file={pki.ca}",
            f"--service-account-private-key-file={pki.directory}/sa.key",
            "--use-service-account-credentials=true",
            "--leader-elect=false",
            *(grace if self._quick_loss else ()),
        )
        config = self.directory / "scheduler.yaml"
        config.write_text(
            json.dumps(
                {
                    "apiVersion": "kubescheduler.config.k8s.io/v1",
                    "kind": "KubeSchedulerConfiguration",
                    "clientConnection": {
                        "kubeconfig": str(pki.kubeconfig(self.server, "system:kube-scheduler")),
                        "qps": 500,
                        "burst": 1000,
                    },
                    "leaderElection": {"leaderElect": False},
                }
            )
        )
        self.spawn(
            "kube-scheduler",
            f"--config={config}",
            "--bind-address=127.0.0.1",
            f"--secure-port={self._scheduler}",
        )

    def _start_kwok(self) -> None:
        self.spawn(
            "kwok",
            f"--kubeconfig={self.admin}",
            f"--config={PROGRAMS / 'stages.yaml'}",
            "--manage-all-nodes=false",
            f"--manage-nodes-with-annotation-selector={FAKE}=fake",
            f"--server-address=127.0.0.1:{self._kwok}",
            *(("--node-lease-duration-seconds=8",) if self._quick_loss else ()),
        )
        for number in range(self._fakes):
            self.apply(fake_node(f"fake-{number}"))

    def compact(self) -> int:
        """Have etcd forget all versions but the present one; that version."""
        done = self._etcd_call("range", {"key": "AA=="})
        version = int(done["header"]["revision"])
        self._etcd_call("compaction", {"revision": str(version), "physical": True})
        return version

    def _etcd_call(self, what: str, body: dict[str, Any]) -> Any:
        url = f"http://127.0.0.1:{self._etcd}/v3/kv/{what}"
        with urllib.request.urlopen(url, json.dumps(body).encode(), timeout=60) as answer:
            return json.load(answer)

    # Commands

    def kubectl(
        self, *words: str, stdin: str = "", check: bool = True, within_s: float = 120.0
    ) -> str:
        """Run kubectl as an administrator and return what it said."""
        done = self._run(*words, stdin=stdin, within_s=within_s)
        assert not check or done.returncode == 0, f"{words}: {done.stderr}{done.stdout}"
        return done.stdout

    def _run(
        self, *words: str, stdin: str, within_s: float = 120.0
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [binary("kubectl"), f"--kubeconfig={self.admin}", *words],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=within_s,
            check=False,
        )

    def refusal(self, *words: str, stdin: str = "") -> str:
        """Run kubectl and return why it failed; an empty text if it did not."""
        done = self._run(*words, stdin=stdin)
        return (done.stderr or "it failed") if done.returncode else ""

    def _try(self, *words: str) -> str:
        return self.kubectl(*words, check=False)

    def apply(self, *objects: dict[str, Any]) -> None:
        """Create or change objects."""
        told = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        self.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(told))

    def get(self, *words: str) -> Any:
        """Return what kubectl gets, as JSON."""
        return json.loads(self.kubectl("get", *words, "-o", "json"))

    def namespace(self, name: str, *, restricted: bool = True) -> str:
        """Make a namespace in which only pods of the `restricted` level may be."""
        labels = {"pod-security.kubernetes.io/enforce": "restricted"} if restricted else {}
        self.apply(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
        )
        self.until(
            lambda: bool(self._try("get", "serviceaccount", "default", "-n", name)),
            f"namespace {name} has its account",
        )
        return name

    def account(self, namespace: str, name: str, rules: list[dict[str, Any]]) -> pathlib.Path:
        """Make a service account with the rights of a Role, and the kubeconfig of it."""
        where = {"namespace": namespace, "name": name}
        group = "rbac.authorization.k8s.io"
        self.apply(
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": where},
            {"apiVersion": f"{group}/v1", "kind": "Role", "metadata": where, "rules": rules},
            {
                "apiVersion": f"{group}/v1",
                "kind": "RoleBinding",
                "metadata": where,
                "roleRef": {"apiGroup": group, "kind": "Role", "name": name},
                "subjects": [{"kind": "ServiceAccount", **where}],
            },
        )
        token = self.kubectl("create", "token", name, "-n", namespace, "--duration=24h").strip()
        return self.pki.token_kubeconfig(self.server, f"{namespace}-{name}", token, namespace)


def fake_node(name: str, cores: int = 500) -> dict[str, Any]:
    """Return a node that only pretends."""
    size = {"cpu": str(cores), "memory": "4000Gi", "pods": "2000", "ephemeral-storage": "10Ti"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "annotations": {FAKE: "fake", "node.alpha.kubernetes.io/ttl": "0"},
            "labels": {"kubernetes.io/hostname": name, "type": "kwok"},
        },
        "spec": {"taints": [{"key": FAKE, "value": "fake", "effect": "NoSchedule"}]},
        "status": {"allocatable": size, "capacity": size},
    }


@contextlib.contextmanager
def running(**options: Any) -> Iterator[Kubernetes]:
    """A Kubernetes that runs."""
    made = Kubernetes(**options)
    try:
        made.start()
        yield made
    finally:
        made.stop()
