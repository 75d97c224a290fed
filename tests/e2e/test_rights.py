"""What somebody may no longer do, they can no longer do: tokens of removed admins and users, tokens made by tokens."""

from __future__ import annotations

import pathlib
import time
from collections.abc import Callable, Iterator

import pytest

from gateway.client.errors import AuthenticationFailed, GatewayError, InvalidRequest, PermissionDenied
from gateway.client.gateway import Gateway
from gateway.server.security.password import hash_password
from tests.e2e.gateway_process import GatewayProcess


@pytest.fixture
def gateway(tmp_path: pathlib.Path) -> Iterator[GatewayProcess]:
    """A gateway that does not run yet, with carol and dave in a file of users."""
    users = tmp_path / "users"
    users.write_text("".join(f"{name}:{hash_password('secret')}\n" for name in ("carol", "dave")))
    made = GatewayProcess(tmp_path, f"c.PasswordAuthenticator.users_file = {str(users)!r}")
    yield made
    if made.process is not None and made.process.poll() is None:
        made.stop()


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
    tokens = {name: Gateway(gateway.address, (name, "secret")).create_token().secret for name in ("carol", "dave")}
    users = gateway.directory / "users"
    users.write_text("".join(line for line in users.read_text().splitlines(keepends=True) if not line.startswith("carol")))
    with Gateway(gateway.address, tokens["carol"]) as gone, Gateway(gateway.address, tokens["dave"]) as stays:
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
        assert alice.list_tokens() == []
