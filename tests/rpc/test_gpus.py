"""GPUs and named resources over the wire: what a user may ask for, what is told of it, and what a
backend cannot give."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from daskgateway.v1 import cluster_pb2 as pb
from daskgateway.v1 import cluster_service_pb2 as service_pb
from google.protobuf.struct_pb2 import Struct

from gateway.backends.local.backend import LocalBackend
from gateway.options import Integer, Mapped
from tests.rpc.harness import Harness, as_
from tests.rpc.test_clusters import details
from tests.rpc.test_site_options import serving

FIELDS = [
    Integer("worker_gpus", 0, minimum=0, maximum=4, per_group=True),
    Mapped("worker_resources", structured=True, per_group=True),
]


def of(**options: Any) -> Struct:
    """Return options."""
    made = Struct()
    made.update(options)
    return made


async def create(harness: Harness, own: Struct, **groups: pb.WorkerGroup) -> pb.Cluster:
    """Create a cluster."""
    spec = pb.ClusterSpec(options=own, worker_groups=groups)
    request = service_pb.CreateClusterRequest(cluster=pb.Cluster(spec=spec))
    made: pb.Cluster = await harness.clusters.CreateCluster(request, metadata=as_("alice"))
    return made


async def test_gpus_are_given_counted_clamped_and_told_by_group() -> None:
    limits = {"max_gpus": 5, "max_resources": {"fpga": 8}}
    async with serving(options=FIELDS, **limits) as harness:
        offer = await harness.clusters.GetClusterOptions(
            service_pb.GetClusterOptionsRequest(), metadata=as_("alice")
        )
        assert (offer.limits.gpus, dict(offer.limits.resources)) == (5, {"fpga": 8.0})
        made = await create(
            harness,
            of(worker_gpus=1),
            default=pb.WorkerGroup(count=1),
            big=pb.WorkerGroup(options=of(worker_gpus=2, worker_resources={"fpga": 1}), count=3),
        )
        default, big = (made.status.worker_groups[name] for name in ("default", "big"))
        assert (default.worker_gpus, dict(default.worker_resources)) == (1, {})
        assert (big.worker_gpus, dict(big.worker_resources)) == (2, {"fpga": 1.0})
        assert (default.desired, big.wished, big.desired, big.limit) == (1, 3, 2, 2)
        (within,) = [c for c in made.status.conditions if c.type == "WithinLimits"]
        assert within.message == (
            "group big: 2 of 3 workers, by the limit of 5 GPUs for one cluster"
        )


@pytest.mark.parametrize(
    ("options", "field", "words"),
    [
        ({"worker_gpus": 5}, "worker_gpus", "must be at most 4"),
        ({"worker_gpus": -1}, "worker_gpus", "must be at least 0"),
        ({"worker_gpus": 0.5}, "worker_gpus", "must be a whole number"),
        ({"worker_gpus": "many"}, "worker_gpus", "must be a whole number"),
        ({"worker_resources": {"tape": 1}}, "worker_resources", "there are fpga"),
        ({"worker_resources": {"fpga": -1}}, "worker_resources", "fpga: must be a number between"),
        ({"worker_resources": {"fpga": [1]}}, "worker_resources", "fpga: must be a number between"),
        ({"worker_resources": "fpga"}, "worker_resources", "must map texts"),
        ({"worker_resources": {"gpu": 9}}, "worker_resources", "GPUs are asked for by worker_gpus"),
    ],
)
async def test_what_is_wrong_with_an_amount_is_told_by_its_field(
    options: dict[str, object], field: str, words: str
) -> None:
    async with serving(options=FIELDS, max_resources={"fpga": 8}) as harness:
        for path, wish in (
            ("spec.options", {"own": of(**options)}),
            ("spec.worker_groups.x.options", {"x": pb.WorkerGroup(options=of(**options))}),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await create(harness, **{"own": of(), **wish})  # type: ignore[arg-type]
            (violation,) = details(caught.value)["BadRequest"].field_violations
            assert violation.field == f"cluster.{path}.{field}"
            assert words in violation.description


async def test_a_backend_without_gpus_says_so_and_nothing_is_stored() -> None:
    async with serving(LocalBackend(), options=FIELDS) as harness:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await create(harness, of(worker_gpus=1))
        (violation,) = details(caught.value)["BadRequest"].field_violations
        assert violation.field == "cluster.spec.options.worker_gpus"
        assert violation.description.startswith(
            "the backend local hands out no GPUs: its processes"
        )
        assert list(harness.store.view.clusters()) == []
        assert (await create(harness, of())).uid
