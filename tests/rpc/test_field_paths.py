"""`BadRequest.field` has one form: a path from the request on, of protobuf's names."""

from __future__ import annotations

import ast
import pathlib
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from daskgateway.v1 import cluster_pb2
from daskgateway.v1 import cluster_service_pb2 as pb
from daskgateway.v1 import credential_service_pb2 as credential_pb
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from gateway.server.core.errors import FieldInvalid, ScopeMissing, Violation, key
from gateway.server.core.model import Principal
from gateway.server.core.quantities import exact_duration
from gateway.server.rpc import places
from gateway.server.usecases import credentials
from tests.rpc.harness import Harness, as_
from tests.rpc.test_bounds import requests
from tests.rpc.test_clusters import create, details, fields

SERVER = pathlib.Path(__file__).resolve().parents[2] / "gateway" / "server"


def named() -> Iterator[tuple[str, str]]:
    """Yield every field that a validator names, with where: what is filled in is a key."""
    for file in sorted(SERVER.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if (
                not isinstance(node, ast.Call)
                or not isinstance(node.func, ast.Name)
                or not node.args
            ):
                continue
            if node.func.id != "Violation":
                continue
            first, place = node.args[0], f"{file.relative_to(SERVER)}:{node.lineno}"
            if isinstance(first, ast.Constant):
                yield place, str(first.value)
            elif isinstance(first, ast.JoinedStr):
                text = "".join(
                    str(part.value) if isinstance(part, ast.Constant) else "{}"
                    for part in first.values
                )
                if not text.startswith(("{}", "users/")):  # a quota's subject is no field
                    yield place, text.replace("{}", "x")


@pytest.mark.parametrize(("place", "field"), sorted(named()))
def test_every_field_that_a_validator_names_is_one_of_a_request(place: str, field: str) -> None:
    known = [
        kind
        for kind in requests()
        if places.exists(
            places.located(FieldInvalid([Violation(field, "")]), kind).violations[0].field, kind
        )
    ]
    # what is filled in is a key; in these it is a field's name
    filled = f"cluster.{field}".replace("lifecycle.x", "lifecycle.idle_timeout")
    filled = filled.replace("adaptive.x", "adaptive.interval")
    assert known or any(places.exists(filled, kind) for kind in requests()), place


CREATE: Any = pb.CreateClusterRequest.DESCRIPTOR
UPDATE: Any = pb.UpdateClusterRequest.DESCRIPTOR


@pytest.mark.parametrize(
    ("field", "path"),
    [
        ("spec.options.worker_cores", "cluster.spec.options.worker_cores"),
        ("spec.worker_groups.gpu-large.count", "cluster.spec.worker_groups.gpu-large.count"),
        ("labels", "cluster.labels"),
        ("cluster_id", "cluster_id"),
        ("cluster.name", "cluster.name"),
        ("request", "request"),
        ("name", "cluster.name"),
    ],
)
def test_what_use_cases_name_is_found_in_the_request(field: str, path: str) -> None:
    error = places.located(FieldInvalid([Violation(field, "is wrong")]), UPDATE)
    if field == "cluster_id":
        error = places.located(FieldInvalid([Violation(field, "is wrong")]), CREATE)
    assert [violation.field for violation in error.violations] == [path]
    assert str(error) == f"{path}: is wrong"
    assert places.exists(path, CREATE if field == "cluster_id" else UPDATE)


@pytest.mark.parametrize(
    ("name", "step"),
    [("a-b_C9", "a-b_C9"), ("a.b", "`a.b`"), ("a b", "`a b`"), ("", "``"), ("a`b", "`a``b`")],
)
def test_keys_are_told_so_that_they_can_be_read_again(name: str, step: str) -> None:
    assert key(name) == step
    if name:
        assert places.steps(f"cluster.spec.options.{step}.x") == [
            "cluster",
            "spec",
            "options",
            name,
            "x",
        ]


@pytest.mark.parametrize(
    "path",
    ["spec.options", "cluster.spec.workerGroups", "cluster.nothing", "cluster.spec.backend.x", "x"],
)
def test_what_is_no_place_is_none(path: str) -> None:
    assert not places.exists(path, CREATE)


async def test_every_kind_of_violation_of_a_create_is_told_in_this_form(harness: Harness) -> None:
    request = pb.CreateClusterRequest(cluster_id="Not Right", request_id="x")
    spec = request.cluster.spec
    spec.backend = "nothing"
    spec.options.update({"a.b": 1, "worker_cores": 900})
    spec.worker_groups["gpu-large"].count = -1
    spec.worker_groups["Bad Name"].options.update({"nothing here": 1})
    spec.lifecycle.idle_timeout.seconds = -5
    request.cluster.labels["x" * 200] = ""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await harness.clusters.CreateCluster(request, metadata=as_("alice"))
    assert {
        "cluster_id",
        "request_id",
        "cluster.labels",
        "cluster.spec.backend",
        "cluster.spec.options.`a.b`",
        "cluster.spec.options.worker_cores",
        "cluster.spec.worker_groups.gpu-large.count",
        "cluster.spec.worker_groups.`Bad Name`",
        "cluster.spec.worker_groups.`Bad Name`.options.`nothing here`",
        "cluster.spec.lifecycle.idle_timeout",
    } == fields(refused.value)
    for field in fields(refused.value):
        assert places.exists(field, CREATE), field


async def test_groups_are_named_beside_the_mask_as_every_language_can(harness: Harness) -> None:
    made = await harness.clusters.CreateCluster(create("etl"), metadata=as_("alice"))

    async def update(size: int, paths: list[str], names: list[str]) -> cluster_pb2.Cluster:
        request = pb.UpdateClusterRequest(
            cluster=cluster_pb2.Cluster(name=made.name),
            update_mask=FieldMask(paths=paths) if paths else None,
            worker_groups=names,
        )
        request.cluster.spec.worker_groups["gpu-2x"].count = size
        told: cluster_pb2.Cluster = await harness.clusters.UpdateCluster(
            request, metadata=as_("alice")
        )
        return told

    assert (await update(1, [], ["gpu-2x"])).spec.worker_groups["gpu-2x"].count == 1
    assert (await update(2, ["labels"], ["gpu-2x"])).spec.worker_groups["gpu-2x"].count == 2
    told = await update(3, ["spec.worker_groups.`gpu-2x`"], [])
    assert told.spec.worker_groups["gpu-2x"].count == 3
    assert "default" in told.spec.worker_groups
    for names in (["nothing"], ["a.b"], [""]):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await update(4, [], names)
        assert all(places.exists(field, UPDATE) for field in fields(refused.value))
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await update(4, [], [])
    assert "worker_groups" in (refused.value.details() or "")


async def test_a_missing_scope_is_named(harness: Harness) -> None:
    for name in ("users/alice/clusters/a", "users/bob/clusters/a"):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await harness.clusters.StopCluster(
                pb.StopClusterRequest(name=name), metadata=as_("reader")
            )
        assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
        info = details(refused.value)["ErrorInfo"]
        assert (info.reason, dict(info.metadata)) == (
            "NOT_PERMITTED",
            {"scope": "SCOPE_CLUSTERS_WRITE"},
        )
        assert "SCOPE_CLUSTERS_WRITE" in (refused.value.details() or "")
    assert ScopeMissing.reason == "NOT_PERMITTED"


async def test_durations_are_told_as_people_read_them(harness: Harness) -> None:
    for request, call, words in (
        (
            credential_pb.CreateTokenRequest(ttl=Duration(seconds=5)),
            harness.credentials.CreateToken,
            "ttl: must be between 1 min and 3",
        ),
        (
            pb.WatchClustersRequest(bookmark_interval=Duration(seconds=5000)),
            lambda request, metadata: harness.clusters.WatchClusters(
                request, metadata=metadata
            ).read(),
            "bookmark_interval: must be between 1 s and 10 min",
        ),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call(request, metadata=as_("alice"))
        assert (refused.value.details() or "").startswith(words)
        assert "e+" not in (refused.value.details() or "")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.1, "0.1 s"),
        (1, "1 s"),
        (59.9, "59 s"),
        (60, "1 min"),
        (5400, "1 h 30 min"),
        (31_622_400, "366 d"),
        (3599.9, "59 min 59 s"),
        (90_061, "1 d 1 h 1 min 1 s"),
    ],
)
def test_a_bound_never_says_more_than_there_is(seconds: float, words: str) -> None:
    assert exact_duration(seconds) == words


def test_a_bound_that_credentials_set_says_so() -> None:
    words = credentials._bounds(60, 3599.9, Principal("a", expires_at=3_599_900), 0)
    assert (
        words == "must be between 1 min and 59 min 59 s, when the credentials expire that you show"
    )
