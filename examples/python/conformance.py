"""A client of the gateway's API in Python, made from the generated stubs alone, and one conformance
run: what a client does in its life, each step told as a line of JSON. The same run is written in
the directories beside this one.

    python conformance.py grpc|connect CLUSTER-ID

DASKGATEWAY_ADDRESS, DASKGATEWAY_USER and DASKGATEWAY_PASSWORD say where the gateway is and who
calls; DASKGATEWAY_CA_FILE names a CA beside those of the system. Needs grpcio, protobuf,
googleapis-common-protos, and cryptography for the key of a certificate. Who uses Dask from Python
wants `daskgateway.Gateway` instead.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import pathlib
import sys
import time
import uuid
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import grpc
import scheduler
from connect_channel import ConnectChannel
from daskgateway.v1 import (
    cluster_pb2,
    cluster_service_pb2,
    cluster_service_pb2_grpc,
    credential_service_pb2,
    credential_service_pb2_grpc,
)
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.rpc import code_pb2, error_details_pb2, status_pb2

PATIENCE_S = 90.0
Saw = dict[str, Any]


class Skipped(Exception):
    """A step that cannot be taken by this way."""


class Services:
    """The gateway's services, by gRPC or by Connect: the same generated stubs."""

    def __init__(self, way: str, authorization: str) -> None:
        address = urlsplit(os.environ.get("DASKGATEWAY_ADDRESS", ""))
        if address.scheme not in ("http", "https") or not address.netloc:
            raise SystemExit("DASKGATEWAY_ADDRESS must be http://host:port or https://host:port")
        ca_file = os.environ.get("DASKGATEWAY_CA_FILE") or None
        self.path = address.path.rstrip("/")
        self.metadata = (("authorization", authorization),) if authorization else ()
        self.channel: Any
        if way == "connect":
            self.channel = ConnectChannel(address.geturl().rstrip("/"), ca_file)
        elif address.scheme == "https":
            roots = pathlib.Path(ca_file).read_bytes() if ca_file else None
            credentials = grpc.ssl_channel_credentials(root_certificates=roots)
            self.channel = grpc.secure_channel(address.netloc, credentials)
        else:
            self.channel = grpc.insecure_channel(address.netloc)
        self.clusters = cluster_service_pb2_grpc.ClusterServiceStub(self.channel)
        self.credentials = credential_service_pb2_grpc.CredentialServiceStub(self.channel)

    def call(self, method: Any, request: Any, timeout_s: float = PATIENCE_S) -> Any:
        """Return the answer of a unary call."""
        return method(request, timeout=timeout_s, metadata=self.metadata)

    def told(self, method: Any, request: Any) -> tuple[Any, bool]:
        """Return the answer, and whether it is a remembered one."""
        answer, call = method.with_call(request, timeout=PATIENCE_S, metadata=self.metadata)
        trailers = dict(call.trailing_metadata() or ())
        return answer, trailers.get("x-idempotent-replay") == "1"


class Run:
    """What one step leaves to the next."""

    def __init__(self, way: str, cluster_id: str) -> None:
        user, password = (
            os.environ.get(f"DASKGATEWAY_{name}", "") for name in ("USER", "PASSWORD")
        )
        shown = base64.b64encode(f"{user}:{password}".encode()).decode()
        self.gateway, self.nobody = Services(way, f"Basic {shown}"), Services(way, "")
        self.id = cluster_id
        self.cluster: Any = None
        self.asked: Any = None
        self.first_etag = ""
        self.revision = 0  # up to which the watch has told everything

    def sign_in(self) -> Saw:
        request = credential_service_pb2.GetSignInOptionsRequest()
        offered = self.nobody.call(self.nobody.credentials.GetSignInOptions, request)
        who = self.gateway.call(
            self.gateway.credentials.WhoAmI, credential_service_pb2.WhoAmIRequest()
        )
        return {"ways": [option.name for option in offered.options], "user": who.user}

    def create(self) -> Saw:
        self.asked = cluster_service_pb2.CreateClusterRequest(
            parent="users/-", cluster_id=self.id, cluster=sized(0), request_id=str(uuid.uuid4())
        )
        made, replayed = self.gateway.told(self.gateway.clusters.CreateCluster, self.asked)
        self.cluster, self.first_etag = made, made.etag
        return {
            "name": made.name,
            "owner": made.owner,
            "labels": dict(made.labels),
            "state": state(made),
            "replayed": replayed,
        }

    def repeat(self) -> Saw:
        """The same call with the same request_id: its effect is answered again, and nothing is
        made."""
        again, replayed = self.gateway.told(self.gateway.clusters.CreateCluster, self.asked)
        other = copied(self.asked, cluster_id=f"{self.id}-other")
        reused = refusal(lambda: self.gateway.call(self.gateway.clusters.CreateCluster, other))
        return {"same": again.uid == self.cluster.uid, "replayed": replayed, "reused": reused}

    def wait(self) -> Saw:
        self.cluster = self.wait_for(cluster_pb2.CLUSTER_STATE_ACTIVE)
        return {"state": state(self.cluster)}

    def wait_for(self, wanted: int) -> Any:
        """A call waits for a minute at most, so it is repeated."""
        request = cluster_service_pb2.WaitClusterRequest(
            name=self.cluster.name, states=[wanted], timeout=Duration(seconds=20)
        )
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            now = self.gateway.call(self.gateway.clusters.WaitCluster, request)
            if now.status.state == wanted:
                return now
            if now.HasField("stop_time"):
                raise AssertionError(f"it ended: {now.status.reason}: {now.status.message}")
        raise AssertionError(f"it is {state(now)}")

    def watch(self) -> Saw:
        """A watch from the beginning: what there is, then a bookmark that says that this was
        all."""
        with self.watching(0) as told:
            first = next(told)
            for step in told:
                if step.bookmark.initial_state_complete:
                    self.revision = step.revision
                    break
        kind = cluster_service_pb2.WatchEventType.Name(first.event.type)
        return {"first": kind, "name": first.event.cluster.name, "complete": self.revision > 0}

    @contextlib.contextmanager
    def watching(self, start_revision: int) -> Any:
        request = cluster_service_pb2.WatchClustersRequest(
            clusters=[self.cluster.name], start_revision=start_revision
        )
        told = self.gateway.call(self.gateway.clusters.WatchClusters, request)
        try:
            yield told
        finally:
            told.cancel()

    def scale(self) -> Saw:
        before, self.cluster = self.cluster, self.resize(1)
        return {
            "count": self.cluster.spec.worker_groups["default"].count,
            "wished": self.cluster.status.worker_groups["default"].wished,
            "generations": self.cluster.generation - before.generation,
        }

    def resize(self, count: int, etag: str = "") -> Any:
        wish = copied(sized(count), name=self.cluster.name, etag=etag)
        request = cluster_service_pb2.UpdateClusterRequest(
            cluster=wish,
            update_mask=FieldMask(paths=["spec.worker_groups.default"]),
            request_id=str(uuid.uuid4()),
        )
        return self.gateway.call(self.gateway.clusters.UpdateCluster, request)

    def resume(self) -> Saw:
        """The watch goes on where it ended: nothing of what happened meanwhile is missing."""
        types = set()
        with self.watching(self.revision) as told:
            for step in told:
                if not step.HasField("event"):
                    continue
                assert step.revision > self.revision, f"{step.revision} was told before"
                types.add(cluster_service_pb2.WatchEventType.Name(step.event.type))
                if step.event.cluster.status.worker_groups["default"].running == 1:
                    return {"types": sorted(types), "running": 1}
        raise AssertionError("the watch has ended by itself")

    def conflict(self) -> Saw:
        """A change that rests on what was read before the last change is refused."""
        stale = refusal(lambda: self.resize(0, self.first_etag))
        request = cluster_service_pb2.GetClusterRequest(name=self.cluster.name)
        now = self.gateway.call(self.gateway.clusters.GetCluster, request)
        changed = self.resize(0, now.etag)
        return {"stale": stale, "current": changed.spec.worker_groups["default"].count}

    def exists(self) -> Saw:
        again = copied(self.asked, request_id=str(uuid.uuid4()))
        return refusal(lambda: self.gateway.call(self.gateway.clusters.CreateCluster, again))

    def pages(self) -> Saw:
        """Two clusters on pages of one: the newest comes first."""
        clusters, call = self.gateway.clusters, self.gateway.call
        request = cluster_service_pb2.CreateClusterRequest(
            cluster_id=f"{self.id}-second", cluster=sized(0), request_id=str(uuid.uuid4())
        )
        second = call(clusters.CreateCluster, request)
        ours, names, largest, token = {self.cluster.uid, second.uid}, [], 0, None
        while token != "":
            asked = cluster_service_pb2.ListClustersRequest(page_size=1, page_token=token)
            page = call(clusters.ListClusters, asked)
            largest = max(largest, len(page.clusters))
            names += [one.name for one in page.clusters if one.uid in ours]
            token = page.next_page_token
        call(clusters.StopCluster, cluster_service_pb2.StopClusterRequest(name=second.name))
        return {"names": names, "largest": largest}

    def logs(self) -> Saw:
        request = cluster_service_pb2.StreamLogsRequest(
            name=self.cluster.name, instances=["scheduler"]
        )
        pieces = list(self.gateway.call(self.gateway.clusters.StreamLogs, request))
        text = "".join(piece.text for piece in pieces)
        return {
            "instances": sorted({piece.instance for piece in pieces}),
            "scheduler": "Scheduler at:" in text,
        }

    def errors(self) -> Saw:
        clusters, call = self.gateway.clusters, self.gateway.call
        wrong = cluster_service_pb2.CreateClusterRequest(cluster_id="Not an id", cluster=sized(-1))
        one = cluster_service_pb2.GetClusterRequest(name=self.cluster.name)
        missing, another = (
            cluster_service_pb2.GetClusterRequest(name=f"users/{user}/clusters/nosuch")
            for user in ("-", "bob")
        )
        return {
            "invalid": refusal(lambda: call(clusters.CreateCluster, wrong)),
            "missing": refusal(lambda: call(clusters.GetCluster, missing)),
            "another's": refusal(lambda: call(clusters.GetCluster, another)),
            "nobody": refusal(lambda: self.nobody.call(self.nobody.clusters.GetCluster, one)),
        }

    def deadline(self) -> Saw:
        """The client's own deadline ends a call: one that waits on purpose is answered just before,
        a watch that would go on is ended."""
        request = cluster_service_pb2.WatchClustersRequest(clusters=[self.cluster.name])
        began = time.monotonic()
        refused = refusal(
            lambda: list(self.gateway.call(self.gateway.clusters.WatchClusters, request, 2.0))
        )
        return {"code": refused["code"], "early": time.monotonic() - began < 30}

    def scheduler(self) -> Saw:
        """Connect to the scheduler itself, by TLS with the certificate that the gateway signs for
        a key made here."""
        if self.gateway.path:
            raise Skipped("only HTTP passes here; Dask's own client takes a WebSocket")
        key = scheduler.new_key()
        request = credential_service_pb2.GenerateClientCertificateRequest(
            name=self.cluster.name, public_key=scheduler.public_pem(key)
        )
        signed = self.gateway.call(self.gateway.credentials.GenerateClientCertificate, request)
        address = self.cluster.status.endpoints.scheduler
        return {
            "with a certificate": scheduler.greeting(address, signed, key),
            "without": scheduler.greeting(address, signed, None),
        }

    def stop(self) -> Saw:
        request = cluster_service_pb2.StopClusterRequest(
            name=self.cluster.name, request_id=str(uuid.uuid4())
        )
        stopping = self.gateway.call(self.gateway.clusters.StopCluster, request)
        ended = self.wait_for(cluster_pb2.CLUSTER_STATE_STOPPED)
        return {"first": state(stopping), "then": state(ended), "reason": ended.status.reason}

    def leave_nothing(self) -> None:
        """After a step that failed the cluster must not live on."""
        if self.cluster is not None:
            request = cluster_service_pb2.StopClusterRequest(name=self.cluster.name)
            with contextlib.suppress(grpc.RpcError):
                self.gateway.call(self.gateway.clusters.StopCluster, request, 10.0)


def sized(count: int) -> Any:
    group = cluster_pb2.WorkerGroup(count=count)
    spec = cluster_pb2.ClusterSpec(worker_groups={"default": group})
    return cluster_pb2.Cluster(labels={"made-by": "conformance"}, spec=spec)


def copied(message: Any, **fields: str) -> Any:
    made = type(message)()
    made.CopyFrom(message)
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def state(cluster: Any) -> str:
    return str(cluster_pb2.ClusterState.Name(cluster.status.state))


def refusal(do: Callable[[], Any]) -> Saw:
    """Return what a refusal tells programs: its code, and what its details say."""
    try:
        do()
    except grpc.RpcError as error:
        told: Any = error
    else:
        raise AssertionError("the call was answered, and should have been refused")
    found: Saw = {"code": told.code().name}
    status, info, request = (
        status_pb2.Status(),
        error_details_pb2.ErrorInfo(),
        error_details_pb2.BadRequest(),
    )
    for name, value in told.trailing_metadata() or ():
        if name == "grpc-status-details-bin":
            status.ParseFromString(value)
            assert status.code == code_pb2.Code.Value(found["code"])
    for detail in status.details:
        if detail.Unpack(info):
            found |= {"reason": info.reason, "domain": info.domain}
        elif detail.Unpack(request):
            found["fields"] = sorted({one.field for one in request.field_violations})
    return found


STEPS = (
    "sign-in",
    "create",
    "repeat",
    "wait",
    "watch",
    "scale",
    "resume",
    "conflict",
    "exists",
    "pages",
    "logs",
    "errors",
    "deadline",
    "scheduler",
    "stop",
)


def main() -> int:
    if len(sys.argv) != 3 or sys.argv[1] not in ("grpc", "connect"):
        print("usage: python conformance.py grpc|connect CLUSTER-ID", file=sys.stderr)
        return 2
    run = Run(sys.argv[1], sys.argv[2])
    try:
        for step in STEPS:
            line: Saw = {"step": step, "ok": True}
            try:
                line["saw"] = getattr(run, step.replace("-", "_"))()
            except Skipped as reason:
                line["skipped"] = str(reason)
            except (grpc.RpcError, AssertionError, OSError, ValueError) as error:
                line |= {"ok": False, "error": str(error)}
            print(json.dumps(line), flush=True)
            if not line["ok"]:
                return 1
    finally:
        run.leave_nothing()
        run.gateway.channel.close()
        run.nobody.channel.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
