"""How long a server's event loop stands still while 1,000 workers are asked for and join, both by
the protocol of its schedulers.

Our server's loop is measured from within (`benchmarks.probe`), and so is dask-gateway's. The
workers run nowhere, all else is real: the wish, planning, storing, starting at the backend of
nothing, and a scheduler's reports of workers that joined, 100 at a time.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Callable

import grpc
from daskgateway.v1 import cluster_pb2 as pb
from daskgateway.v1 import cluster_service_pb2 as service_pb
from daskgateway.v1 import cluster_service_pb2_grpc
from google.protobuf.field_mask_pb2 import FieldMask

from benchmarks import peer_schedulers, probe
from benchmarks.figures import Samples
from benchmarks.our_agents import Agent, agent_tokens
from benchmarks.ours import AUTHORIZATION, OurGateway
from benchmarks.peer import PeerGateway

WORKERS = 1000
CHUNK = 100
METADATA = (("authorization", AUTHORIZATION),)
LIMIT_S = 60.0
NAME, WAITING, SECONDS = (
    "stall 0->1,000 workers, ms",
    "  of it without a CPU, ms",
    "0->1,000 workers joined, s",
)


def measure_ours(samples: Samples, gateway: OurGateway) -> None:
    """Measure our server once, with a cluster of its own that is stopped afterwards."""
    seconds = asyncio.run(_grow_ours(gateway))
    stall_ms, waiting_ms = probe.taken(gateway.stall_file)
    samples.add(NAME, "ours", stall_ms)
    samples.add(WAITING, "ours", waiting_ms)
    samples.add(SECONDS, "ours", seconds)


async def _grow_ours(gateway: OurGateway) -> float:
    async with grpc.aio.insecure_channel(gateway.listener) as channel, asyncio.timeout(LIMIT_S):
        stub = cluster_service_pb2_grpc.ClusterServiceStub(channel)
        create = service_pb.CreateClusterRequest(request_id=str(uuid.uuid4()))
        cluster = await stub.CreateCluster(create, metadata=METADATA)
        await stub.WaitCluster(
            service_pb.WaitClusterRequest(name=cluster.name, states=[pb.CLUSTER_STATE_CREATING]),
            metadata=METADATA,
        )
        tokens = await asyncio.to_thread(agent_tokens, gateway.state_dir)
        async with Agent(channel, cluster.uid, tokens[cluster.uid]) as agent:
            wait = service_pb.WaitClusterRequest(
                name=cluster.name, states=[pb.CLUSTER_STATE_ACTIVE]
            )
            cluster = await stub.WaitCluster(wait, metadata=METADATA)
            probe.taken(gateway.stall_file)
            began = time.perf_counter()
            spec = pb.ClusterSpec(worker_groups={"default": pb.WorkerGroup(count=WORKERS)})
            update = service_pb.UpdateClusterRequest(
                cluster=pb.Cluster(name=cluster.name, spec=spec),
                update_mask=FieldMask(paths=["spec.worker_groups.default"]),
            )
            await stub.UpdateCluster(update, metadata=METADATA)
            cluster = await _until(stub, cluster, lambda status: status.pending == WORKERS)
            names = [f"default-{number}" for number in range(WORKERS)]
            for first in range(0, WORKERS, CHUNK):
                await agent.report(workers=names[first : first + CHUNK], idle_ms=-1)
            await _until(stub, cluster, lambda status: status.running == WORKERS)
            seconds = time.perf_counter() - began
        await stub.StopCluster(service_pb.StopClusterRequest(name=cluster.name), metadata=METADATA)
        wait = service_pb.WaitClusterRequest(name=cluster.name, states=[pb.CLUSTER_STATE_STOPPED])
        await stub.WaitCluster(wait, metadata=METADATA)
        return seconds


async def _until(
    stub: cluster_service_pb2_grpc.ClusterServiceStub,
    cluster: pb.Cluster,
    holds: Callable[[pb.WorkerGroupStatus], bool],
) -> pb.Cluster:
    """Wait until a cluster's workers are so many."""
    while not holds(cluster.status.worker_groups["default"]):
        wait = service_pb.WaitClusterRequest(name=cluster.name, after_revision=cluster.revision)
        cluster = await stub.WaitCluster(wait, metadata=METADATA)
    return cluster


def measure_theirs(samples: Samples, gateway: PeerGateway) -> None:
    """Measure dask-gateway's server once, with a cluster of its own that is stopped afterwards."""
    made = json.load(gateway.request("POST", "/api/v1/clusters/", body=b"{}"))
    name = made["name"]
    token = peer_schedulers.tokens(gateway)[name]
    peer_schedulers.beat(gateway, name, token)
    probe.taken(gateway.stall_file)
    began = time.perf_counter()
    peer_schedulers.grow(gateway, name, token, WORKERS, CHUNK)
    samples.add(SECONDS, "dgw", time.perf_counter() - began)
    stall_ms, waiting_ms = probe.taken(gateway.stall_file)
    samples.add(NAME, "dgw", stall_ms)
    samples.add(WAITING, "dgw", waiting_ms)
    gateway.request("DELETE", f"/api/v1/clusters/{name}").close()
