"""What the server does beside dask-gateway's: durable creates, gets, lists of 1,000, and how long its loop stands still meanwhile.

`python -m benchmarks.control [rounds]`. Backends of nothing on both sides, SQLite files on the same disk, sign-in and logging on, no TLS,
straight to the servers (neither edge nor Go proxy between). Nobody is pinned: each server has the whole machine but its load generator.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys

import grpc
from daskgateway.v1 import cluster_service_pb2 as service_pb
from daskgateway.v1 import cluster_service_pb2_grpc

from benchmarks import load, machine, peer, peer_schedulers, processes
from benchmarks.figures import Samples, last_line, orders, table
from benchmarks.our_agents import activate
from benchmarks.ours import AUTHORIZATION, OurGateway
from benchmarks.peer import PeerGateway
from benchmarks.stall import measure_ours, measure_theirs
from benchmarks.visible import measure_visible

ROUNDS = 5
CLUSTERS = 1000  # of each side, made over all rounds
CREATES_IN_FLIGHT, LISTS_IN_FLIGHT, GETS_IN_FLIGHT = 16, 16, 64
CREATES_S = 300.0
PEER_STALL_ROUNDS = 2  # each takes it about ten seconds
OURS, DGW = "ours", "dgw"
METADATA = (("authorization", AUTHORIZATION),)
SERVICE = "/daskgateway.v1.ClusterService"


def main() -> None:
    """Measure and print."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    peer.make_venv()
    print(f"bench-control: {machine.described()}")
    print(f"dgw = dask-gateway-server {peer.VERSION}; {rounds} interleaved rounds")
    samples = Samples()
    with processes.scratch() as directory, machine.watched() as busy:
        ours, theirs = OurGateway(directory / OURS, noop=True), PeerGateway(directory / DGW, noop=True)
        try:
            ours.start()
            theirs.start()
            _creates(samples, ours, theirs, rounds)
            _calls(samples, ours, theirs, rounds)
            _stalls(samples, ours, theirs, rounds)
        finally:
            ours.stop()
            theirs.stop()
        measure_visible(samples, directory / "visible", rounds)
    print(table(samples))
    print(f"the machine was busy with {busy.cores:.2f} cores, this benchmark's own work included")
    print(last_line("control", _figures(samples)))


def _figures(samples: Samples) -> dict[str, float]:
    return {
        "creates_per_s_ratio": samples.ratio("creates/s", OURS, DGW),
        "list_1000_ratio": samples.ratio("lists of 1,000/s", OURS, DGW),
        "get_ratio": samples.ratio("gets/s", OURS, DGW),
        "stall_ms": samples.median("stall 0->1,000 workers, ms", OURS),
        "worker_visible_s": samples.median("worker visible, s", OURS),
        "creates_per_s": samples.median("creates/s", OURS),
        "lists_1000_per_s": samples.median("lists of 1,000/s", OURS),
        "gets_per_s": samples.median("gets/s", OURS),
        "dgw_stall_ms": samples.median("stall 0->1,000 workers, ms", DGW),
    }


def _creates(samples: Samples, ours: OurGateway, theirs: PeerGateway, rounds: int) -> None:
    cookie = theirs.cookie()
    for order in orders(rounds, [DGW, OURS]):
        for whose in order:
            address, credentials = (ours.listener, AUTHORIZATION) if whose == OURS else (str(theirs.port), cookie)
            words = [whose, address, credentials, str(CLUSTERS // rounds), str(CREATES_IN_FLIGHT)]
            call = [sys.executable, "-m", "benchmarks.creates", *words]
            done = subprocess.run(call, capture_output=True, text=True, timeout=CREATES_S, check=True, cwd=processes.ROOT)
            samples.add("creates/s", whose, CLUSTERS // rounds / float(done.stdout))


def _calls(samples: Samples, ours: OurGateway, theirs: PeerGateway, rounds: int) -> None:
    """Gets and lists, once every cluster of both sides is as if its scheduler ran."""
    names = json.load(theirs.request("GET", "/api/v1/clusters/"))
    peer_schedulers.activate(theirs, list(names))
    with grpc.insecure_channel(ours.listener, [("grpc.max_receive_message_length", 2**26)]) as channel:
        stub = cluster_service_pb2_grpc.ClusterServiceStub(channel)
        found, _ = _whole_list(stub)
        asyncio.run(activate(ours.listener, ours.state_dir, [cluster.uid for cluster in found]))
        found, pages = _whole_list(stub)
        get, page = service_pb.GetClusterRequest(name=found[0].name), pages[0]
        get_bytes = 5 + stub.GetCluster(get, metadata=METADATA).ByteSize()
    ours_list, theirs_list = [5 + answer.ByteSize() for _, answer in pages], len(theirs.request("GET", "/api/v1/clusters/").read())
    one = f"/api/v1/clusters/{next(iter(names))}"
    theirs_get, cookie = len(theirs.request("GET", one).read()), theirs.cookie()
    print(
        f"a list of {len(found):,}: ours {len(pages)} call(s), {sum(ours_list):,} bytes; dgw {len(names):,} in 1 call, {theirs_list:,} bytes"
        f" (with every cluster's private key)\none cluster: ours {get_bytes:,} bytes, dgw {theirs_get:,} bytes"
    )
    assert ours.process is not None
    assert theirs.process is not None
    get_words = load.grpc_words(ours.directory, ours.listener, f"{SERVICE}/GetCluster", get, AUTHORIZATION)
    list_words = load.grpc_words(ours.directory, ours.listener, f"{SERVICE}/ListClusters", page[0], AUTHORIZATION)
    runs = {
        ("gets/s", OURS): (get_words, ours.process.pid, GETS_IN_FLIGHT, get_bytes, 1),
        ("gets/s", DGW): (load.rest_words(theirs.port, one, cookie), theirs.process.pid, GETS_IN_FLIGHT, theirs_get, 1),
        ("lists of 1,000/s", OURS): (list_words, ours.process.pid, LISTS_IN_FLIGHT, ours_list[0], len(pages)),
        ("lists of 1,000/s", DGW): (
            load.rest_words(theirs.port, "/api/v1/clusters/", cookie),
            theirs.process.pid,
            LISTS_IN_FLIGHT,
            theirs_list,
            1,
        ),
    }
    for order in orders(rounds, [DGW, OURS]):
        for what in ("gets/s", "lists of 1,000/s"):
            for whose in order:
                words, pid, in_flight, answer_bytes, calls = runs[what, whose]
                run = load.run(words, pid, in_flight, answer_bytes)
                samples.add(what, whose, run.rate / calls)
                samples.add(f"{what.removesuffix('/s')}: CPU us each", whose, run.cpu_us * calls)


def _whole_list(
    stub: cluster_service_pb2_grpc.ClusterServiceStub,
) -> tuple[list[service_pb.Cluster], list[tuple[service_pb.ListClustersRequest, service_pb.ListClustersResponse]]]:
    """Return the user's clusters, and the requests and answers it took."""
    pages = []
    request = service_pb.ListClustersRequest(page_size=CLUSTERS)
    while True:
        answer = stub.ListClusters(request, metadata=METADATA)
        pages.append((request, answer))
        if not answer.next_page_token:
            return [cluster for _, one in pages for cluster in one.clusters], pages
        request = service_pb.ListClustersRequest(page_size=CLUSTERS, page_token=answer.next_page_token)


def _stalls(samples: Samples, ours: OurGateway, theirs: PeerGateway, rounds: int) -> None:
    for number, order in enumerate(orders(rounds, [OURS, DGW])):
        for whose in order:
            if whose == OURS:
                measure_ours(samples, ours)
            elif number < PEER_STALL_ROUNDS:
                measure_theirs(samples, theirs)


if __name__ == "__main__":
    main()
