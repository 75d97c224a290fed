"""What a server refuses is named within a bound, however long the key is that is wrong."""

from __future__ import annotations

import re
from typing import Any

import grpc
import pytest
from daskgateway.v1 import cluster_pb2 as pb
from daskgateway.v1 import cluster_service_pb2 as service_pb
from daskgateway.v1 import credential_service_pb2 as credential_pb
from google.protobuf.struct_pb2 import Struct

from tests.rpc.harness import Harness, as_

MOST = 150  # characters of one key in a row


def options(**values: Any) -> Struct:
    """Return options."""
    found = Struct()
    found.update(values)
    return found


@pytest.mark.parametrize("letters", [300, 600, 3000])
async def test_a_long_key_is_repeated_within_a_bound(harness: Harness, letters: int) -> None:
    key = "x" * letters
    group = pb.WorkerGroup(count=1)
    specs = [
        pb.ClusterSpec(options=options(**{key: 1})),
        pb.ClusterSpec(worker_groups={key: group}),
        pb.ClusterSpec(worker_groups={"a": pb.WorkerGroup(count=1, options=options(**{key: 1}))}),
        pb.ClusterSpec(options=options(environment={f"{key}=": "a"})),
        pb.ClusterSpec(options=options(queue=key)),
        pb.ClusterSpec(backend=key),
    ]
    calls = [
        harness.clusters.CreateCluster(
            service_pb.CreateClusterRequest(cluster=pb.Cluster(spec=spec)), metadata=as_("alice")
        )
        for spec in specs
    ]
    calls += [
        harness.credentials.RevokeToken(
            credential_pb.RevokeTokenRequest(id=key), metadata=as_("alice")
        ),
        harness.clusters.GetCluster(
            service_pb.GetClusterRequest(name=f"users/alice/clusters/{key}"),
            metadata=as_("alice"),
        ),
        harness.channel.unary_unary(f"/daskgateway.v1.ClusterService/{key}", bytes, bytes)(
            b"", metadata=as_("alice")
        ),
    ]
    for number, call in enumerate(calls):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        said = caught.value.details() or ""
        most = 400 if number == len(calls) - 1 else MOST
        assert not re.search("x" * (most + 1), said), (number, said[:200])
