"""What one user may have, and how that is told. An admin who acts for a user counts for that
user."""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
import uuid
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from daskgateway.v1 import cluster_pb2 as pb
from daskgateway.v1 import cluster_service_pb2 as service_pb
from daskgateway.v1 import credential_service_pb2 as credential_pb
from google.protobuf.field_mask_pb2 import FieldMask

from gateway.backends.contract import Target
from gateway.server.core.quotas import Quotas
from gateway.server.store.sqlite.store import SqliteStore
from gateway.server.usecases.rates import MAX_USERS, Rates
from tests.rpc.harness import Harness, PretendBackend, as_
from tests.rpc.test_clusters import active, create, details, fields, reason
from tests.waiting import comes


@pytest.fixture(params=["memory", "sqlite"])
async def limited(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> AsyncIterator[Harness]:
    """A server that permits one user little."""
    made = Harness(quotas=Quotas(clusters=3, creates_per_minute=5, tokens=2))
    if request.param == "sqlite":
        made.store = SqliteStore(tmp_path / "gateway.db")
    await made.start()
    yield made
    await made.stop()


async def refusal(call: Any) -> grpc.aio.AioRpcError:
    """Return the error of a call for which there is no room."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert reason(refused.value) == "OVERLOADED"
    return refused.value


def subjects(error: grpc.aio.AioRpcError) -> list[str]:
    """Return whose quota it is."""
    return [violation.subject for violation in details(error)["QuotaFailure"].violations]


async def test_a_user_has_so_many_living_clusters_whoever_asks_for_them(limited: Harness) -> None:
    made = [
        await limited.clusters.CreateCluster(create(f"c{n}"), metadata=as_("alice"))
        for n in range(2)
    ]
    request = create("c2")
    request.parent = "users/alice"
    made.append(await limited.clusters.CreateCluster(request, metadata=as_("root")))
    request = create("c3")
    request.parent = "users/alice"
    for caller in ("alice", "root"):
        error = await refusal(limited.clusters.CreateCluster(request, metadata=as_(caller)))
        assert subjects(error) == ["users/alice"]
        assert "3 clusters" in (error.details() or "")
    await limited.clusters.CreateCluster(create("of-bob"), metadata=as_("bob"))
    # who has none of these
    await limited.clusters.CreateCluster(create("of-root"), metadata=as_("root"))
    await limited.clusters.StopCluster(
        service_pb.StopClusterRequest(name=made[0].name), metadata=as_("alice")
    )
    wait = service_pb.WaitClusterRequest(name=made[0].name, states=[pb.CLUSTER_STATE_STOPPED])
    await limited.clusters.WaitCluster(wait, metadata=as_("alice"))
    limited.ahead_ms = 60_000
    await limited.clusters.CreateCluster(create("c4"), metadata=as_("alice"))


async def test_of_many_that_come_at_once_no_more_are_taken(limited: Harness) -> None:
    calls = [
        limited.clusters.CreateCluster(create(f"c{n}"), metadata=as_("alice")) for n in range(5)
    ]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert len([answer for answer in answers if isinstance(answer, pb.Cluster)]) == 3


async def test_a_user_makes_so_many_a_minute_and_is_told_when_there_is_room(
    limited: Harness,
) -> None:
    async def make(caller: str = "alice", parent: str = "") -> None:
        request = create("")
        request.parent = parent
        cluster = await limited.clusters.CreateCluster(request, metadata=as_(caller))
        await limited.clusters.StopCluster(
            service_pb.StopClusterRequest(name=cluster.name), metadata=as_(caller)
        )
        wait = service_pb.WaitClusterRequest(name=cluster.name, states=[pb.CLUSTER_STATE_STOPPED])
        await limited.clusters.WaitCluster(wait, metadata=as_(caller))

    for _ in range(4):
        await make()
    await make("root", "users/alice")
    for caller in ("alice", "root"):
        request = create("")
        request.parent = "users/alice"
        error = await refusal(limited.clusters.CreateCluster(request, metadata=as_(caller)))
        assert subjects(error) == ["users/alice"]
        delay = details(error)["RetryInfo"].retry_delay
        assert 0 < delay.seconds + delay.nanos / 1e9 <= 12
    await make("bob")
    limited.ahead_ms = 12_001  # a fifth of a minute
    await make()
    await refusal(limited.clusters.CreateCluster(create(""), metadata=as_("alice")))


async def test_what_is_refused_or_only_checked_or_repeated_counts_for_nothing(
    limited: Harness,
) -> None:
    request = create("once")
    for _ in range(20):
        await limited.clusters.CreateCluster(request, metadata=as_("alice"))
        checked = create("")
        checked.validate_only = True
        await limited.clusters.CreateCluster(checked, metadata=as_("alice"))
        with pytest.raises(grpc.aio.AioRpcError):
            await limited.clusters.CreateCluster(create("Not An Id"), metadata=as_("alice"))
    await limited.clusters.CreateCluster(create(""), metadata=as_("alice"))


async def test_who_repeats_a_call_gets_its_answer_though_there_is_no_room_for_another(
    limited: Harness,
) -> None:
    requests = [create("") for _ in range(3)]
    made = [
        await limited.clusters.CreateCluster(request, metadata=as_("alice")) for request in requests
    ]
    for _ in range(2):  # use up the minute
        await refusal(limited.clusters.CreateCluster(create(""), metadata=as_("alice")))
    again = await limited.clusters.CreateCluster(requests[0], metadata=as_("alice"))
    assert again.uid == made[0].uid


async def test_a_user_has_so_many_tokens_and_expired_ones_make_room(limited: Harness) -> None:
    def ask(display_name: str, seconds: int = 3600) -> Any:
        request = credential_pb.CreateTokenRequest(
            display_name=display_name, request_id=str(uuid.uuid4())
        )
        request.ttl.seconds = seconds
        return limited.credentials.CreateToken(request, metadata=as_("alice"))

    await ask("long")
    await ask("short", 60)
    error = await refusal(ask("more"))
    assert subjects(error) == ["users/alice"]
    limited.ahead_ms = 61_000
    await ask("later")
    listed = await limited.credentials.ListTokens(
        credential_pb.ListTokensRequest(), metadata=as_("alice")
    )
    assert {token.display_name for token in listed.tokens} == {"long", "later"}


def environment(count: int, size: int, character: str = "x") -> dict[str, str]:
    """Return variables."""
    return {f"V{n}": character * size for n in range(count)}


async def test_the_options_of_one_cluster_have_so_many_bytes_together(harness: Harness) -> None:
    """Each may be within its own bounds: 64 variables of 8 KiB were half a megabyte, in every
    record of a cluster."""
    request = create("large")
    request.cluster.spec.options.update({"environment": environment(12, 8000)})
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await harness.clusters.CreateCluster(request, metadata=as_("alice"))
    assert fields(refused.value) == {"cluster.spec.options"}
    request.cluster.spec.options.update({"environment": environment(7, 8000)})
    await harness.clusters.CreateCluster(request, metadata=as_("alice"))
    request = create("wide")
    # bytes, not characters
    request.cluster.spec.options.update({"environment": environment(5, 8000, "\u00e9")})
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await harness.clusters.CreateCluster(request, metadata=as_("alice"))
    assert fields(refused.value) == {"cluster.spec.options"}


async def test_groups_added_one_by_one_do_not_pass_by_the_bounds(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.server.core.options.MAX_TEXT", 40)
    made = await harness.clusters.CreateCluster(create(), metadata=as_("alice"))
    harness.offers.max_options_bytes = 100
    refused: list[set[str]] = []
    for n in range(10):
        update = service_pb.UpdateClusterRequest(
            update_mask=FieldMask(paths=[f"spec.worker_groups.g{n}"])
        )
        update.cluster.name = made.name
        update.cluster.spec.worker_groups[f"g{n}"].options.update(
            {"worker_memory": "1.0000000000000000 GiB"}
        )
        try:
            await harness.clusters.UpdateCluster(update, metadata=as_("alice"))
        except grpc.aio.AioRpcError as error:
            refused.append(fields(error))
    assert refused == [{"cluster.spec.options"}] * 8


async def test_the_names_that_groups_of_one_cluster_ever_had_are_bounded(harness: Harness) -> None:
    """What is known of a group that had workers is kept, so that no worker's name comes twice."""
    cluster, agent = await active(harness)
    refused: set[str] = set()
    for n in range(100):
        update = service_pb.UpdateClusterRequest(
            update_mask=FieldMask(paths=["spec.worker_groups"])
        )
        update.cluster.name = cluster.name
        update.cluster.spec.worker_groups[f"g{n}"].count = 1
        try:
            updated = await harness.clusters.UpdateCluster(update, metadata=as_("alice"))
        except grpc.aio.AioRpcError as error:
            refused = fields(error)
            break
        wait = service_pb.WaitClusterRequest(name=cluster.name, after_revision=updated.revision)
        await harness.clusters.WaitCluster(wait, metadata=as_("alice"))
    assert refused == {"cluster.spec.worker_groups"}
    assert 16 <= n <= 64
    update = service_pb.UpdateClusterRequest(update_mask=FieldMask(paths=["spec.worker_groups"]))
    update.cluster.name = cluster.name
    update.cluster.spec.worker_groups["g0"].count = 1  # one that it had is no new one
    await harness.clusters.UpdateCluster(update, metadata=as_("alice"))
    agent.call.cancel()


async def test_all_groups_of_a_cluster_have_so_many_workers_together(harness: Harness) -> None:
    groups = {f"g{n}": pb.WorkerGroup(count=60_000) for n in range(2)}
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await harness.clusters.CreateCluster(create(worker_groups=groups), metadata=as_("alice"))
    assert fields(refused.value) == {"cluster.spec.worker_groups"}


def test_a_bucket_fills_again_and_holds_no_more_than_it_can() -> None:
    now = [0.0]
    rates = Rates(60, lambda: now[0])
    assert [rates.take("alice") for _ in range(60)] == [0.0] * 60
    assert rates.take("alice") == pytest.approx(1.0)
    now[0] = 2.5
    assert [rates.take("alice") for _ in range(2)] == [0.0] * 2
    assert rates.take("alice") == pytest.approx(0.5)
    now[0] = 1000.0
    rates.give_back("alice")
    assert [rates.take("alice") for _ in range(60)] == [0.0] * 60
    assert rates.take("alice") > 0
    assert rates.take("bob") == 0.0
    assert Rates(0).take("alice") == 0.0


def test_buckets_are_bounded_and_full_ones_are_forgotten() -> None:
    now = [0.0]
    rates = Rates(60, lambda: now[0])
    for n in range(MAX_USERS + 100):
        rates.take(f"user{n}")
    assert len(rates._buckets) == MAX_USERS
    now[0] = 61.0
    rates.take("alice")
    assert list(rates._buckets) == ["alice"]


class Talking(PretendBackend):
    """A machine room whose logs never end."""

    async def logs(
        self, target: Target, *, tail_lines: int = 0, follow: bool = False
    ) -> AsyncIterator[str]:
        yield "begun\n"
        if follow:
            await asyncio.Event().wait()


async def test_a_user_follows_so_many_logs_at_a_time() -> None:
    harness = Harness(backend=Talking(), quotas=Quotas(followed_logs=5))
    await harness.start()
    try:
        cluster, agent = await active(harness, worker_groups={"default": pb.WorkerGroup(count=3)})
        await comes(
            lambda: harness.store.view.cluster(cluster.uid).groups["default"].next_sequence == 3
        )

        def follow(*instances: str) -> Any:
            request = service_pb.StreamLogsRequest(
                name=cluster.name, instances=instances, follow=True
            )
            return harness.clusters.StreamLogs(request, metadata=as_("alice"))

        first = follow()  # all four
        assert (await first.read()).text == "begun\n"
        second = follow("scheduler")
        await second.read()
        error = await refusal(follow("default-0").read())
        assert subjects(error) == ["users/alice"]
        as_admin = harness.clusters.StreamLogs(
            service_pb.StreamLogsRequest(name=cluster.name, follow=True), metadata=as_("root")
        )
        await as_admin.read()  # who follows them counts, not whose they are
        whole = harness.clusters.StreamLogs(
            service_pb.StreamLogsRequest(name=cluster.name), metadata=as_("alice")
        )
        assert (await whole.read()).text == "begun\n"
        second.cancel()
        async with asyncio.timeout(20):
            while True:
                third = follow("default-0")
                # until the second's end was noticed
                with contextlib.suppress(grpc.aio.AioRpcError):
                    await third.read()
                    break
        for call in (first, third, whole, as_admin, agent.call):
            call.cancel()
    finally:
        await harness.stop()


async def test_instances_that_never_were_are_refused_by_name_and_very_many_are_looked_for_in_turns(
    harness: Harness,
) -> None:
    cluster, agent = await active(harness, worker_groups={"default": pb.WorkerGroup(count=2)})
    await comes(
        lambda: harness.store.view.cluster(cluster.uid).groups["default"].next_sequence == 2
    )
    for name in (
        "default-2",
        "default-00",
        "default-",
        "other-0",
        "default-x",
        "default-" + "9" * 400,
        "",
        "-1",
        "Scheduler",
    ):
        request = service_pb.StreamLogsRequest(name=cluster.name, instances=["scheduler", name])
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await harness.clusters.StreamLogs(request, metadata=as_("alice")).read()
        assert fields(refused.value) == {"instances"}
    request = service_pb.StreamLogsRequest(
        name=cluster.name, instances=["scheduler", "default-1", "default-1"]
    )
    async for _ in harness.clusters.StreamLogs(request, metadata=as_("alice")):
        pass
    agent.call.cancel()
