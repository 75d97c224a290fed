"""dask-gateway's way on Kubernetes: its API server and its controller (PyPI's wheel) as processes
beside the API server of Kubernetes, its DaskCluster and Traefik's routes as bare definitions.

Traefik itself is left out, and with it the time until it has a route (it waits up to 2 s between
two of them): a scheduler is reached at its pod's address. Its controller cannot start a scheduler
of today's distributed, which has no `dask-scheduler`: the command is the one that there is.
"""

from __future__ import annotations

import base64
import json
import os
import pathlib
import subprocess
import time
import urllib.error
import urllib.request
from typing import Any

from benchmarks import peer, processes
from tests.parts import kubernetes_image
from tests.parts.kubernetes import Kubernetes
from tests.parts.kubernetes_node import Node

NAMESPACE, IMAGE = "peer", "peer"
LIMIT_S = 180.0
WAIT_S = 60.0  # of one call
# what its client needs beside what the image of schedulers has
PACKAGES = (
    "dask_gateway",
    "aiohttp",
    "aiohappyeyeballs",
    "aiosignal",
    "attr",
    "frozenlist",
    "idna",
    "multidict",
    "propcache",
    "yarl",
)
CONFIG = """
c.DaskGateway.backend_class = 'dask_gateway_server.backends.kubernetes.KubeBackend'
c.DaskGateway.authenticator_class = 'dask_gateway_server.auth.SimpleAuthenticator'
c.DaskGateway.address = '{address}:{port}'
c.KubeController.address = '{address}:{controller_port}'
for one in (c.KubeBackend, c.KubeController):
    one.gateway_instance = 'bench'
    one.api_url = 'http://{address}:{port}/api'
c.KubeClusterConfig.namespace = '{namespace}'
c.KubeClusterConfig.image = '{image}'
c.KubeClusterConfig.image_pull_policy = 'Never'
c.KubeClusterConfig.scheduler_cmd = ['python', '-m', 'dask', 'scheduler']
c.KubeClusterConfig.worker_cmd = ['python', '-m', 'dask', 'worker']
c.KubeClusterConfig.scheduler_cores = 0.01
c.KubeClusterConfig.scheduler_cores_limit = 4
c.KubeClusterConfig.scheduler_memory = '500 M'
"""


def definition(group: str, version: str, kind: str, *, status: bool = False) -> dict[str, Any]:
    """Return a custom resource of which everything is let through."""
    plural = f"{kind.lower()}s"
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural, "singular": kind.lower()},
            "versions": [
                {
                    "name": version,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": schema},
                    **({"subresources": {"status": {}}} if status else {}),
                }
            ],
        },
    }


class KubernetesPeer:
    """Its API server and its controller."""

    def __init__(self, kube: Kubernetes, node: Node, directory: pathlib.Path) -> None:
        self._kube, self._node, self._directory = kube, node, directory
        directory.mkdir()
        self._port, self._controller_port = processes.free_ports(2)
        self.address = node.bridge.address
        self._processes: list[subprocess.Popen[str]] = []

    def start(self) -> None:
        """Make what it needs in Kubernetes, and start both."""
        install()
        site = next((peer.VENV / "lib").glob("python3.*/site-packages"))
        packages = [site / name for name in PACKAGES]
        kubernetes_image.dask(self._directory, name=IMAGE, packages=packages)
        self._node.take(self._directory / f"{IMAGE}.tar")
        self._kube.namespace(NAMESPACE, restricted=False)
        self._kube.apply(
            definition("gateway.dask.org", "v1alpha1", "DaskCluster", status=True),
            definition("traefik.io", "v1alpha1", "IngressRoute"),
            definition("traefik.io", "v1alpha1", "IngressRouteTCP"),
        )
        config = self._directory / "dask_gateway_config.py"
        config.write_text(
            CONFIG.format(
                address=self.address,
                port=self._port,
                controller_port=self._controller_port,
                namespace=NAMESPACE,
                image=kubernetes_image.called(IMAGE),
            )
        )
        program = str(peer.VENV / "bin" / "dask-gateway-server")
        for words in ([program], [program, "kube-controller"]):
            log = self._directory / f"{words[-1].rpartition('/')[2]}.log"
            self._processes.append(
                processes.start(
                    [*words, "--config", str(config)],
                    log,
                    cwd=self._directory,
                    env={**os.environ, "KUBECONFIG": str(self._kube.admin)},
                )
            )
        self._kube.until(self._answers, "dask-gateway answers")

    def stop(self) -> None:
        """End both."""
        for process in self._processes:
            processes.end(process)

    def _answers(self) -> bool:
        try:
            self._call("GET", "/api/v1/clusters/")
        except OSError:
            return False
        return True

    def _call(self, method: str, path: str) -> Any:
        told = "Basic " + base64.b64encode(f"{peer.USER}:x".encode()).decode()
        request = urllib.request.Request(
            f"http://{self.address}:{self._port}{path}",
            data=b"{}" if method == "POST" else None,
            method=method,
            headers={"Authorization": told, "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=WAIT_S) as answer:
            return json.loads(answer.read() or b"null")

    def cluster(self) -> float:
        """Return the seconds from asking for a cluster until a client talks to its scheduler."""
        from distributed import Client
        from distributed.security import Security

        began = time.perf_counter()
        name = self._call("POST", "/api/v1/clusters/")["name"]
        try:
            found = self._until_running(name)
            certificate, key = self._directory / "cert.pem", self._directory / "key.pem"
            certificate.write_text(found["tls_cert"])
            key.write_text(found["tls_key"])
            security = Security(
                tls_ca_file=str(certificate),
                tls_client_cert=str(certificate),
                tls_client_key=str(key),
                require_encryption=True,
            )
            namespace, _, uid = name.partition(".")
            pod = self._kube.get("pod", f"dask-scheduler-{uid}", "-n", namespace)
            address = f"tls://{pod['status']['podIP']}:8786"
            with Client(address, security=security) as client:
                client.scheduler_info()
                return time.perf_counter() - began
        finally:
            self._call("DELETE", f"/api/v1/clusters/{name}")
            self._until_gone()

    def _until_running(self, name: str) -> Any:
        ends = time.monotonic() + LIMIT_S
        while time.monotonic() < ends:
            try:
                found = self._call("GET", f"/api/v1/clusters/{name}?wait")
            except urllib.error.HTTPError as error:
                if error.code != 404:  # its cache may not know it yet
                    raise
                time.sleep(0.02)
                continue
            if found["status"] == "RUNNING":
                return found
            if found["status"] in ("FAILED", "STOPPED"):
                break
        raise RuntimeError(f"dask-gateway's cluster did not start: {self._logs()}")

    def _until_gone(self) -> None:
        words = ("get", "pods", "-n", NAMESPACE, "-o", "name")
        self._kube.until(lambda: not self._kube.kubectl(*words).strip(), "its pods are gone")

    def _logs(self) -> str:
        return "\n".join(path.read_text()[-3000:] for path in self._directory.glob("*.log"))


def install() -> None:
    """Make its environment once, with what it needs for Kubernetes."""
    peer.make_venv()
    stamp = peer.VENV / ".kubernetes"
    if not stamp.exists():
        pip = [str(peer.VENV / "bin" / "python"), "-m", "pip", "--disable-pip-version-check"]
        wanted = f"dask-gateway-server[kubernetes]=={peer.VERSION}"
        subprocess.run([*pip, "--quiet", "install", wanted], check=True)
        stamp.touch()
