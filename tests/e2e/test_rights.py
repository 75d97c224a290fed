"""What somebody may no longer do, they can no longer do: tokens of removed admins and users, tokens
made by tokens."""

from __future__ import annotations

import contextlib
import http.client
import os
import pathlib
import signal
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import dask
import grpc
import pytest
from daskgateway.v1 import cluster_service_pb2 as pb
from daskgateway.v1 import cluster_service_pb2_grpc

from gateway import GatewayCluster
from gateway.authenticators.password import hash_password
from gateway.client.calls.errors import (
    AuthenticationFailed,
    GatewayError,
    InvalidRequest,
    PermissionDenied,
)
from gateway.client.gateway import Gateway
from gateway.wire import basic_credentials
from tests.e2e.gateway_process import GatewayProcess


@pytest.fixture
def gateway(tmp_path: pathlib.Path) -> Iterator[GatewayProcess]:
    """A gateway that does not run yet, with carol and dave in a file of users."""
    users = tmp_path / "users"
    users.touch(mode=0o600)
    users.write_text("".join(f"{name}:{hash_password('secret')}\n" for name in ("carol", "dave")))
    made = GatewayProcess(tmp_path, f"c.PasswordAuthenticator.users_file = {str(users)!r}")
    yield made
    if made.process is not None and made.process.poll() is None:
        made.stop()
    for pid in made.processes():
        os.kill(pid, signal.SIGKILL)


def until(condition: Callable[[], bool], within_s: float = 60.0) -> None:
    """Wait for something that the server is to notice by itself."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def refused(call: Callable[[], object], kind: type[GatewayError]) -> bool:
    """Whether a call fails so."""
    try:
        call()
    except kind:
        return True
    return False


def test_the_token_of_a_removed_admin_is_that_of_an_ordinary_user(gateway: GatewayProcess) -> None:
    gateway.start("--PasswordAuthenticator.admins={'alice'}")
    token = Gateway(gateway.address, ("alice", "wonderland")).create_token("admin's").secret
    with Gateway(gateway.address, token) as admin:
        assert admin.list_clusters(everybody=True) == []
    gateway.stop()
    gateway.start()
    with Gateway(gateway.address, token) as former:
        assert former.list_clusters() == []
        with pytest.raises(PermissionDenied):
            former.list_clusters(everybody=True)


def test_a_removed_users_token_lets_nobody_in(gateway: GatewayProcess) -> None:
    gateway.start("--PasswordAuthenticator.identity_kept_s=0.2")
    tokens = {
        name: Gateway(gateway.address, (name, "secret")).create_token().secret
        for name in ("carol", "dave")
    }
    users = gateway.directory / "users"
    users.write_text(
        "".join(
            line
            for line in users.read_text().splitlines(keepends=True)
            if not line.startswith("carol")
        )
    )
    with (
        Gateway(gateway.address, tokens["carol"]) as gone,
        Gateway(gateway.address, tokens["dave"]) as stays,
    ):
        until(lambda: refused(gone.list_clusters, AuthenticationFailed))
        assert stays.list_clusters() == []


def test_a_token_made_by_a_token_outlives_it_by_nothing(gateway: GatewayProcess) -> None:
    gateway.start()
    with Gateway(gateway.address, ("alice", "wonderland")) as alice:
        parent = alice.create_token("parent", ttl_s=3600)
        with Gateway(gateway.address, parent.secret) as by_token:
            with pytest.raises(InvalidRequest) as caught:
                by_token.create_token("child", ttl_s=7200)
            assert [one.field for one in caught.value.violations] == ["ttl"]
            child = by_token.create_token("child")
            assert child.token.expire_time is not None
            assert parent.token.expire_time is not None
            assert child.token.expire_time <= parent.token.expire_time
            assert child.token.parent == parent.token.id
        with Gateway(gateway.address, child.secret) as grandchild:
            assert grandchild.list_clusters() == []
            alice.revoke_token(parent.token.id)
            with pytest.raises(AuthenticationFailed):
                grandchild.list_clusters()
        # what is left is the session that alice's calls use
        assert [one for one in alice.list_tokens() if not one.way] == []


def test_a_link_to_a_dashboard_opens_once_whichever_edge_it_comes_to(
    gateway: GatewayProcess,
) -> None:
    gateway.start("--Proxy.processes=2")
    carol = Gateway(gateway.address, ("carol", "secret"))
    with GatewayCluster("etl", gateway=carol):
        address = carol.dashboard_url("etl")

        def opens(_: int) -> int:
            parts = urlsplit(address)
            # a new one, which the kernel gives to either edge
            connection = http.client.HTTPConnection(parts.netloc, timeout=120)
            connection.request("GET", f"{parts.path}?{parts.query}")
            with contextlib.closing(connection):
                return connection.getresponse().status

        with ThreadPoolExecutor(8) as threads:
            assert sorted(threads.map(opens, range(24))) == [303] + [401] * 23


def ending(what: Callable[[], object]) -> tuple[threading.Thread, list[float]]:
    """Do in a thread what lasts until it is ended; note when that was, on the monotonic clock."""
    at: list[float] = []

    def run() -> None:
        with contextlib.suppress(Exception):
            what()
        at.append(time.monotonic())

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, at


def lines(url: str, headers: dict[str, str]) -> None:
    """Read events until there are no more."""
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=90) as stream:
        while line := stream.readline():
            assert not line.startswith(b"event: error")


def refused_page(opener: urllib.request.OpenerDirector, url: str) -> None:
    """Look at a page again and again until it is refused."""
    while True:
        with opener.open(url, timeout=120) as page:
            assert page.status == 200
        time.sleep(0.5)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_all_that_a_removed_user_has_open_ends_within_a_minute(gateway: GatewayProcess) -> None:
    gateway.start()
    carol = Gateway(gateway.address, ("carol", "secret"))
    bearer = f"Bearer {carol.create_token().secret}"
    basic = basic_credentials("carol", "secret")
    with dask.config.set({"gateway.tunnel": "always"}):
        cluster = GatewayCluster("etl", gateway=carol, shutdown_on_close=False)
        client = cluster.get_client()
    # this very one: the client soon has another way
    tunnel = client.scheduler_comm.comm  # type: ignore[union-attr]
    name = f"users/carol/clusters/{cluster.uid}"
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    opener.open(carol.dashboard_url("etl"), timeout=120).close()
    channel = grpc.insecure_channel(gateway.address.removeprefix("http://"))
    stub = cluster_service_pb2_grpc.ClusterServiceStub(channel)
    watch_all, follow = pb.WatchClustersRequest(), pb.StreamLogsRequest(name=name, follow=True)
    threads = {
        "a watch by token": lambda: list(
            stub.WatchClusters(watch_all, metadata=(("authorization", bearer),))
        ),
        "a watch by password": lambda: list(
            stub.WatchClusters(watch_all, metadata=(("authorization", basic),))
        ),
        "followed logs": lambda: list(
            stub.StreamLogs(follow, metadata=(("authorization", basic),))
        ),
        "events over HTTP": lambda: lines(f"{gateway.address}/v1/watch", {"Authorization": bearer}),
        "logs over HTTP": lambda: lines(
            f"{gateway.address}/v1/logs?follow=1&name={name}", {"Authorization": basic}
        ),
        "the dashboard": lambda: refused_page(
            opener, f"{gateway.address}/clusters/{cluster.uid}/status"
        ),
        "the tunnel": lambda: until(lambda: tunnel.closed(), 90),
    }
    running = {what: ending(do) for what, do in threads.items()}
    time.sleep(3)
    assert [what for what, (thread, _) in running.items() if not thread.is_alive()] == []
    removed_at = time.monotonic()
    users = gateway.directory / "users"
    users.write_text(
        "".join(
            line
            for line in users.read_text().splitlines(keepends=True)
            if not line.startswith("carol")
        )
    )
    lasted_s = {}
    for what, (thread, at) in running.items():
        thread.join(max(0.0, removed_at + 60 - time.monotonic()))
        lasted_s[what] = round(at[0] - removed_at, 1) if at else None
    assert [what for what, took in lasted_s.items() if took is None] == [], lasted_s
    channel.close()
    client.close(timeout=2)
    cluster.close()
