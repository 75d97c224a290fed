"""How soon a cluster on Kubernetes is of use, beside dask-gateway's controller: the second part of
`make bench-kubernetes`, which needs root as containers do.

One real kubelet runs the pods of both. Ours is asked for by our client, through server and edge;
theirs by its API, and its scheduler is reached at its pod's address (`benchmarks.kubernetes_peer`
says why). A cluster is of use when a client of Dask talks to its scheduler; it has no workers.
"""

from __future__ import annotations

import os
import pathlib
import sys
import tempfile
import time

from benchmarks import machine
from benchmarks.figures import Samples, last_line, orders, table
from benchmarks.kubernetes_peer import KubernetesPeer
from benchmarks.ours import PASSWORD, USER, OurGateway
from gateway import Gateway, GatewayCluster
from gateway.backends.kubernetes import names
from tests.parts import kubernetes_node
from tests.parts.kubernetes import Kubernetes
from tests.parts.kubernetes_node import Node

ROUNDS = 7
NAMESPACE = "dask"
USABLE = "new_cluster() until a client talks to its scheduler, s"


def our_gateway(kube: Kubernetes, node: Node, directory: pathlib.Path) -> OurGateway:
    """Return a gateway that serves clusters there, with the chart's rights."""
    kube.namespace(NAMESPACE)
    settings = kubernetes_node.gateway(kube, node, NAMESPACE, directory / "pods")
    return OurGateway(directory / "ours", noop=False, extra=settings)


def our_cluster(kube: Kubernetes, gateway: Gateway) -> float:
    """Return the seconds from asking for a cluster until a client talks to its scheduler."""
    began = time.perf_counter()
    with GatewayCluster(gateway=gateway) as cluster, cluster.get_client() as client:
        client.scheduler_info()
        seconds = time.perf_counter() - began
    words = ("get", "pods", "-l", names.TAG_LABEL, "-n", NAMESPACE, "-o", "name")
    kube.until(lambda: not kube.kubectl(*words).strip(), "its pods are gone")
    return seconds


def measured(kube: Kubernetes, node: Node, directory: pathlib.Path, rounds: int) -> Samples:
    """Measure both in turn."""
    samples = Samples()
    theirs = KubernetesPeer(kube, node, directory / "theirs")
    ours = our_gateway(kube, node, directory)
    try:
        theirs.start()
        ours.start()
        with Gateway(ours.address, auth=(USER, PASSWORD)) as gateway:
            our_cluster(kube, gateway)  # what is done once
            theirs.cluster()
            for order in orders(rounds, ["ours", "dgw"]):
                for side in order:
                    took = our_cluster(kube, gateway) if side == "ours" else theirs.cluster()
                    samples.add(USABLE, side, took)
    finally:
        theirs.stop()
        ours.stop()
    return samples


def ratio(rounds: int = ROUNDS) -> float:
    """Measure both, print what was found, and return ours / theirs."""
    with kubernetes_node.running() as (kube, node), tempfile.TemporaryDirectory() as directory:
        samples = measured(kube, node, pathlib.Path(directory), rounds)
    print(table(samples))
    return samples.ratio(USABLE, "ours", "dgw")


def main() -> None:
    """Measure and print."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    print(f"machine: {machine.described()}; load {os.getloadavg()[0]:.1f}", flush=True)
    print(last_line("kubernetes", {"new_cluster_vs_dgw": ratio(rounds)}))


if __name__ == "__main__":
    main()
