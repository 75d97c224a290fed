"""What a site's own functions and options mean to users and administrators: over gRPC, as
configured."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from daskgateway.v1 import cluster_pb2 as pb
from daskgateway.v1 import cluster_service_pb2 as service_pb
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.struct_pb2 import Struct
from traitlets.config import Config

from gateway.backends.noop import NoopBackend
from gateway.backends.slurm.backend import SlurmBackend
from gateway.options import (
    Bool,
    Field,
    Float,
    Integer,
    Mapped,
    Refused,
    Select,
    Text,
)
from gateway.server.boot.cluster_config import ClusterConfig
from gateway.server.boot.offers import ConfiguredOffers
from gateway.server.core.model import Principal
from tests.rpc.harness import Harness, as_
from tests.rpc.test_clusters import fields, reason

FAULT = "its administrator finds why in the server's log"


@asynccontextmanager
async def serving(backend: Any = None, **settings: object) -> AsyncIterator[Harness]:
    """A server with these settings of clusters."""
    clusters = ClusterConfig(config=Config({"ClusterConfig": settings}))
    offers: Any = ConfiguredOffers(clusters, {"pretend": backend or NoopBackend()})
    harness = Harness(offers=offers)
    await harness.start()
    try:
        yield harness
    finally:
        await harness.stop()


async def create(harness: Harness, options: Mapping[str, Any], user: str = "alice") -> pb.Cluster:
    """Create a cluster."""
    chosen = Struct()
    chosen.update(options)
    wish = pb.Cluster(spec=pb.ClusterSpec(options=chosen))
    request = service_pb.CreateClusterRequest(cluster=wish)
    return await harness.clusters.CreateCluster(request, metadata=as_(user))


def settings_of(harness: Harness, cluster: pb.Cluster) -> Mapping[str, object]:
    """Return the settings that a cluster was given."""
    found = harness.store.view.cluster(cluster.uid)
    assert found is not None
    return found.spec.settings


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        (Integer("worker_threads", 1), -1, "worker_threads"),
        (Integer("worker_threads", 1), 10**6, "worker_threads"),
        (Integer("worker_cores", 1), 0, "worker_cores"),
        (Float("scheduler_cores", 1), 10**6, "scheduler_cores"),
        (Text("worker_memory", "1 GiB"), "much", "worker_memory"),
        (Text("python", "python"), " ", "command of Python"),
        (Mapped("dask_config"), {"distributed.comm.tls.ca-file": "x"}, "gateway itself"),
        (Mapped("environment"), {"LD_PRELOAD": "x"}, "LD_PRELOAD"),
    ],
)
async def test_a_value_is_held_to_the_rule_of_the_setting_it_has_the_name_of(
    option: Field, value: object, words: str
) -> None:
    async with serving(options=[option]) as harness:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await create(harness, {option.name: value})
        assert reason(refused.value) == "FIELD_INVALID"
        (told,) = fields(refused.value)
        assert told.startswith(f"cluster.spec.options.{option.name}")
        assert words in str(refused.value.details()) + told


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        (Text("partition", "cpu"), "-x", "begins with no '-'"),
        (Text("time_limit", "60"), "soon", "is no time"),
        (Text("gres"), "gpu\n1", "printable"),
    ],
)
async def test_a_value_for_a_job_is_refused_before_anything_is_stored(
    option: Field, value: object, words: str
) -> None:
    async with serving(SlurmBackend(), options=[option]) as harness:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await create(harness, {option.name: value})
        assert reason(refused.value) == "FIELD_INVALID"
        assert words in str(refused.value.details())
        assert list(harness.store.view.clusters()) == []


async def test_an_option_for_python_chooses_it() -> None:
    choices = ("/opt/a/bin/python", "/opt/b/bin/python")
    async with serving(options=[Select("python", choices, choices[0])]) as harness:
        made = await create(harness, {"python": choices[1]})
        assert settings_of(harness, made)["python"] == [choices[1]]
        usual = await create(harness, {})
        assert settings_of(harness, usual)["python"] == [choices[0]]


async def test_a_numbers_kind_is_the_settings() -> None:
    async with serving(options=[Bool("worker_nanny", default=True)]) as harness:
        made = await create(harness, {})
        assert settings_of(harness, made)["worker_nanny"] is True


def hours(values: Mapping[str, object]) -> Mapping[str, object]:
    """Refuse."""
    raise Refused("no hours left")


async def hours_later(values: Mapping[str, object]) -> Mapping[str, object]:
    """Refuse, a moment later."""
    await asyncio.sleep(0)
    raise ValueError("no hours left")


def of_bob(values: Mapping[str, object], user: Principal) -> Mapping[str, object]:
    """Refuse all but bob."""
    if user.user != "bob":
        raise PermissionError("no hours left")
    return {}


@pytest.mark.parametrize("apply", [hours, hours_later, of_bob])
async def test_what_a_sites_callable_says_reaches_the_user(
    apply: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with serving(options=[Integer("gpus", 0)], apply_options=apply) as harness:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await create(harness, {"gpus": 1})
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert refused.value.details() == "cluster.spec.options: no hours left"
        assert list(harness.store.view.clusters()) == []
    assert "c.ClusterConfig.apply_options refuses alice: no hours left" in caplog.text
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_two_arguments_are_the_values_and_the_user() -> None:
    seen = []

    def apply(values: Mapping[str, object], user: Principal) -> Mapping[str, object]:
        seen.append((dict(values), user.user))
        return {"worker_cores": 1 + int(str(values["gpus"]))}

    async with serving(options=[Integer("gpus", 0)], apply_options=apply) as harness:
        made = await create(harness, {"gpus": 2})
        assert settings_of(harness, made)["worker_cores"] == 3.0
    assert seen == [({"gpus": 2}, "alice")]


async def test_an_option_may_be_of_another_kind_than_the_setting_that_is_made_of_it() -> None:
    """A number of GiB, as dask-gateway's own documents have it."""

    def apply(values: Mapping[str, object]) -> Mapping[str, object]:
        if values["worker_memory"] == 7:
            return {}
        return {"worker_memory": int(float(str(values["worker_memory"])) * 2**30)}

    options = [Float("worker_memory", 1, minimum=0.5, maximum=8)]
    async with serving(options=options, apply_options=apply) as harness:
        made = await create(harness, {"worker_memory": 2})
        assert settings_of(harness, made)["worker_memory"] == 2 * 2**30
        with pytest.raises(grpc.aio.AioRpcError) as refused:  # left as it is, and no amount
            await create(harness, {"worker_memory": 7})
        assert "spec.options.worker_memory" in str(refused.value.details())


async def test_a_group_with_options_of_its_own_is_asked_about_and_a_resize_is_not() -> None:
    seen: list[Any] = []

    async def apply(values: Mapping[str, object]) -> Mapping[str, object]:
        seen.append(values["gpus"])
        return {"worker_threads": values["gpus"]}

    options = [Integer("gpus", 0, per_group=True)]
    async with serving(options=options, apply_options=apply) as harness:
        own = Struct()
        own.update({"gpus": 3})
        group = pb.WorkerGroup(options=own, count=1)
        wish = pb.Cluster(spec=pb.ClusterSpec(worker_groups={"big": group}))
        made = await harness.clusters.CreateCluster(
            service_pb.CreateClusterRequest(cluster=wish), metadata=as_("alice")
        )
        stored = harness.store.view.cluster(made.uid)
        assert stored is not None
        assert stored.spec.groups["big"].settings["worker_threads"] == 3
        assert sorted(seen) == [0, 3]
        for size in (2, 3):  # a resize asks nothing, with the group's options or without
            group.count = size
            spec = pb.ClusterSpec(worker_groups={"big": group})
            update = service_pb.UpdateClusterRequest(
                cluster=pb.Cluster(name=made.name, spec=spec),
                update_mask=FieldMask(paths=["spec.worker_groups.big"]),
            )
            await harness.clusters.UpdateCluster(update, metadata=as_("alice"))
        assert sorted(seen) == [0, 3]


async def ends(values: Mapping[str, object]) -> Mapping[str, object]:
    """End the process, as a script does."""
    sys.exit(3)


def broken(values: Mapping[str, object]) -> Mapping[str, object]:
    """Do something wrong."""
    return {"worker_cores": {}["nothing"]}  # type: ignore[index]


@pytest.mark.parametrize(
    ("apply", "words"),
    [
        (broken, "KeyError: 'nothing'"),
        (lambda values: sys.exit(3), "it raised SystemExit: 3"),
        (ends, "it raised SystemExit: 3"),
        (lambda values: {"worker_cores": float("nan")}, "must be a finite number"),
        (lambda values: {"worker_cors": 2}, "did you mean worker_cores?"),
        (lambda values: {"worker_cores": "many"}, "worker_cores = 'many'"),
        (lambda values: {"worker_memory": "much"}, "amount of memory"),
        (lambda values: {"max_workers": 5}, "'max_workers', which is no setting"),
        (lambda values: [1], "[1], which is no mapping"),
        (lambda values: int("many"), "invalid literal"),
    ],
)
async def test_what_it_does_wrong_reaches_the_log_and_a_clear_sentence_the_user(
    apply: Callable[..., Any], words: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(apply_options=apply) as harness:
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await create(harness, {})
        assert failed.value.code() is grpc.StatusCode.INTERNAL
        assert "c.ClusterConfig.apply_options" in str(failed.value.details())
        assert FAULT in str(failed.value.details())
        assert words not in str(failed.value.details())
    told = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert any("c.ClusterConfig.apply_options failed for alice" in line for line in told)
    assert any(words in line for line in told)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (lambda user: [Float("worker_threads", 0.5)], "option 'worker_threads'"),
        (lambda user: [Select("f", (1, 2, 3), 1)], "its choices must be texts"),  # type: ignore[arg-type]
        (lambda user: ["worker_cores"], "is no field"),
        (lambda user: None, "must be a list of fields"),
        (lambda user: {}[user], "KeyError"),
    ],
)
async def test_options_that_cannot_be_shown_are_the_sites_fault_and_told_so(
    options: Callable[..., Any], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(options=options) as harness:
        for call in (
            lambda: harness.clusters.GetClusterOptions(
                service_pb.GetClusterOptionsRequest(), metadata=as_("alice")
            ),
            lambda: create(harness, {}),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                await call()
            assert FAULT in str(failed.value.details())
    assert said in caplog.text


async def test_options_may_be_refused_to_a_user_and_be_async() -> None:
    async def options(user: Principal) -> list[Field]:
        if user.user == "bob":
            raise Refused("bob has no project")
        return [Integer("gpus", 0)]

    async with serving(options=options) as harness:
        request = service_pb.GetClusterOptionsRequest()
        offered = await harness.clusters.GetClusterOptions(request, metadata=as_("alice"))
        assert [field.name for field in offered.fields] == ["gpus"]
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await harness.clusters.GetClusterOptions(request, metadata=as_("bob"))
        assert "bob has no project" in str(refused.value.details())


async def test_a_callable_that_hangs_ends_at_its_deadline_and_holds_up_nobody() -> None:
    forever = threading.Event()
    try:
        async with serving(
            options=[Integer("gpus", 0)],
            apply_options=lambda values: forever.wait(),
            options_timeout_s=0.3,
        ) as harness:
            hanging = asyncio.ensure_future(create(harness, {}))
            listed = await harness.clusters.ListClusters(
                service_pb.ListClustersRequest(), metadata=as_("alice")
            )
            assert list(listed.clusters) == []
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                await hanging
            assert FAULT in str(failed.value.details())
    finally:
        forever.set()
