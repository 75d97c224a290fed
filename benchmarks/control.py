"""What the server does beside dask-gateway's: durable creates, gets, lists of 1,000, and how long
its loop stands still meanwhile.

`python -m benchmarks.control [rounds]`. Backends of nothing on both sides, SQLite files on the same
disk, sign-in and logging on, no TLS, straight to the servers (neither edge nor Go proxy between).
Nobody is pinned: each server has the whole machine but its load generator.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time

import grpc
from daskgateway.v1 import cluster_pb2 as pb
from daskgateway.v1 import cluster_service_pb2 as service_pb
from daskgateway.v1 import cluster_service_pb2_grpc

from benchmarks import load, machine, peer, peer_schedulers, processes
from benchmarks.figures import Samples, last_line, orders, table
from benchmarks.our_agents import held
from benchmarks.ours import AUTHORIZATION, OurGateway
from benchmarks.peer import PeerGateway
from benchmarks.stall import measure_ours, measure_theirs
from benchmarks.visible import measure_visible

ROUNDS = 5
CLUSTERS = 1000  # of each side, made over all rounds
CREATES_IN_FLIGHT, LISTS_IN_FLIGHT, GETS_IN_FLIGHT = 16, 16, 64
CREATES_S = 300.0
PEER_STALL_ROUNDS = 2  # each takes it about ten seconds
SETTLED_S = 60.0
OURS, DGW = "ours", "dgw"
CREATES, GETS, LISTS = "creates/s", "gets/s", "lists of 1,000/s"
GETS_APART = "gets/s, a connection each"  # what 64 clients of one call each would see
LIST_PATH = "/api/v1/clusters/"
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
        ours, theirs = (
            OurGateway(directory / OURS, noop=True),
            PeerGateway(directory / DGW, noop=True),
        )
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
        "creates_per_s_ratio": samples.ratio(CREATES, OURS, DGW),
        "list_1000_ratio": samples.ratio(LISTS, OURS, DGW),
        "get_ratio": samples.ratio(GETS, OURS, DGW),
        "stall_ms": samples.median("stall 0->1,000 workers, ms", OURS),
        "worker_visible_s": samples.median("worker visible, s", OURS),
        "creates_per_s": samples.median(CREATES, OURS),
        "lists_1000_per_s": samples.median(LISTS, OURS),
        "gets_per_s": samples.median(GETS, OURS),
        "get_apart_ratio": samples.median(GETS_APART, OURS) / samples.median(GETS, DGW),
        "dgw_stall_ms": samples.median("stall 0->1,000 workers, ms", DGW),
    }


def _creates(samples: Samples, ours: OurGateway, theirs: PeerGateway, rounds: int) -> None:
    cookie = theirs.cookie()
    for order in orders(rounds, [DGW, OURS]):
        for whose in order:
            address, credentials = (
                (ours.listener, AUTHORIZATION) if whose == OURS else (str(theirs.port), cookie)
            )
            words = [whose, address, credentials, str(CLUSTERS // rounds), str(CREATES_IN_FLIGHT)]
            call = [sys.executable, "-m", "benchmarks.creates", *words]
            done = subprocess.run(
                call,
                capture_output=True,
                text=True,
                timeout=CREATES_S,
                check=True,
                cwd=processes.ROOT,
            )
            samples.add(CREATES, whose, CLUSTERS // rounds / float(done.stdout))


def _calls(samples: Samples, ours: OurGateway, theirs: PeerGateway, rounds: int) -> None:
    """Gets and lists, while every cluster of both sides is as if its scheduler ran."""
    peer_schedulers.activate(theirs, list(json.load(theirs.request("GET", LIST_PATH))))
    with grpc.insecure_channel(ours.listener) as channel:
        stub = cluster_service_pb2_grpc.ClusterServiceStub(channel)
        # an agent reports only once its scheduler was started
        _settle(stub, pb.CLUSTER_STATE_CREATING)
        with held(ours, [cluster.uid for answer in _pages(stub) for cluster in answer.clusters]):
            _settle(stub, pb.CLUSTER_STATE_ACTIVE)
            calls = _our_calls(ours, stub) | _their_calls(theirs)
            for order in orders(rounds, [DGW, OURS]):
                for what in (GETS, GETS_APART, LISTS):
                    for whose in [whose for whose in order if (what, whose) in calls]:
                        call = calls[what, whose]
                        run = load.run(call)
                        samples.add(what, whose, run.rate / call.calls)
                        samples.add(
                            f"  CPU us of {what.replace('/s', '')}", whose, run.cpu_us * call.calls
                        )


def _settle(stub: cluster_service_pb2_grpc.ClusterServiceStub, state: pb.ClusterState) -> None:
    """Wait until every cluster is in a state and nothing changes any more."""
    deadline, revision = time.monotonic() + SETTLED_S, 0
    while time.monotonic() < deadline:
        pages = _pages(stub)
        starting = [
            cluster for page in pages for cluster in page.clusters if cluster.status.state != state
        ]
        if pages[-1].revision == revision and not starting:
            return
        revision = pages[-1].revision
        time.sleep(1)
    raise TimeoutError(
        f"{len(starting)} clusters have not settled within {SETTLED_S:g} s, revision {revision}:"
        f" {starting[:1]}"
    )


def _our_calls(
    ours: OurGateway, stub: cluster_service_pb2_grpc.ClusterServiceStub
) -> dict[tuple[str, str], load.Call]:
    assert ours.process is not None
    pages = _pages(stub)
    get = service_pb.GetClusterRequest(name=pages[0].clusters[0].name)
    get_bytes, list_bytes = (
        5 + stub.GetCluster(get, metadata=METADATA).ByteSize(),
        [5 + page.ByteSize() for page in pages],
    )
    print(
        f"ours: a list of {sum(len(p.clusters) for p in pages):,} is {len(pages)} call(s),"
        f" {sum(list_bytes):,} bytes; one is {get_bytes:,}"
    )
    get_words = load.grpc_words(
        ours.directory, ours.listener, f"{SERVICE}/GetCluster", get, AUTHORIZATION
    )
    first = service_pb.ListClustersRequest(page_size=CLUSTERS)
    list_words = load.grpc_words(
        ours.directory, ours.listener, f"{SERVICE}/ListClusters", first, AUTHORIZATION
    )
    return {
        (GETS, OURS): load.Call(
            get_words, ours.process.pid, GETS_IN_FLIGHT, get_bytes, connections=1
        ),
        (GETS_APART, OURS): load.Call(get_words, ours.process.pid, GETS_IN_FLIGHT, get_bytes),
        (LISTS, OURS): load.Call(
            list_words, ours.process.pid, LISTS_IN_FLIGHT, list_bytes[0], len(pages), connections=1
        ),
    }


def _their_calls(theirs: PeerGateway) -> dict[tuple[str, str], load.Call]:
    assert theirs.process is not None
    cookie = theirs.cookie()
    whole = theirs.request("GET", LIST_PATH).read()
    names = list(json.loads(whole))
    one = len(theirs.request("GET", LIST_PATH + names[0]).read())
    print(
        f"dgw: a list of {len(names):,} is 1 call, {len(whole):,} bytes, every private key"
        f" included; one is {one:,}"
    )
    return {
        (GETS, DGW): load.Call(
            load.rest_words(theirs.port, LIST_PATH + names[0], cookie),
            theirs.process.pid,
            GETS_IN_FLIGHT,
            one,
        ),
        (LISTS, DGW): load.Call(
            load.rest_words(theirs.port, LIST_PATH, cookie),
            theirs.process.pid,
            LISTS_IN_FLIGHT,
            len(whole),
        ),
    }


def _pages(
    stub: cluster_service_pb2_grpc.ClusterServiceStub,
) -> list[service_pb.ListClustersResponse]:
    """Return the answers that a list of all the user's clusters takes."""
    pages: list[service_pb.ListClustersResponse] = []
    while not pages or pages[-1].next_page_token:
        token = pages[-1].next_page_token if pages else ""
        pages.append(
            stub.ListClusters(
                service_pb.ListClustersRequest(page_size=CLUSTERS, page_token=token),
                metadata=METADATA,
            )
        )
    return pages


def _stalls(samples: Samples, ours: OurGateway, theirs: PeerGateway, rounds: int) -> None:
    for number, order in enumerate(orders(rounds, [OURS, DGW])):
        for whose in order:
            if whose == OURS:
                measure_ours(samples, ours)
            elif number < PEER_STALL_ROUNDS:
                measure_theirs(samples, theirs)


if __name__ == "__main__":
    main()
