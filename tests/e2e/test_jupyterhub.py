"""A user of a real JupyterHub computes with the Hub's token, beside those who have a password; a
token that is revoked makes no more calls."""

from __future__ import annotations

import asyncio
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.metadata import entry_points

import pytest

from gateway.client.calls.errors import AuthenticationFailed
from gateway.client.gateway import Gateway
from tests.e2e.gateway_process import GatewayProcess
from tests.parts import missing
from tests.parts.jupyterhub import Hub, started_hub

__all__ = ["started_hub"]
SCRIPT = """
from gateway import GatewayCluster

with GatewayCluster(n_workers=1) as cluster, cluster.get_client() as client:
    print(client.submit(sum, [1, 2, 3]).result(120))
"""
PATIENCE_S = 60.0


@pytest.fixture
def served(tmp_path: pathlib.Path, started_hub: Hub) -> Iterator[GatewayProcess]:
    """A gateway for the Hub's users and for those of its own."""
    if not any(one.name == "jupyterhub" for one in entry_points(group="gateway.authenticators")):
        missing("the entry point jupyterhub", "pip install -e '.[test]'")
    asyncio.run(started_hub.answering())
    made = GatewayProcess(
        tmp_path,
        "c.DaskGateway.authenticators = ['jupyterhub', 'password']",
        "c.DaskGateway.same_people = True",
        f"c.JupyterHubAuthenticator.api_url = {started_hub.api!r}",
        f"c.JupyterHubAuthenticator.api_token = {started_hub.service!r}",
        "c.JupyterHubAuthenticator.cache_ttl_s = 1.0",
    )
    try:
        made.start()
        yield made
    finally:
        if made.process is not None and made.process.poll() is None:
            made.stop()
        for pid in made.processes():
            os.kill(pid, signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_notebook_of_the_hub_computes_with_no_argument(
    served: GatewayProcess, started_hub: Hub, tmp_path: pathlib.Path
) -> None:
    hub = started_hub
    asyncio.run(hub.change("erin", admin=False, groups=("physics",)))
    number, token = asyncio.run(hub.token("erin"))
    environment = {
        **os.environ,
        "JUPYTERHUB_API_TOKEN": token,
        "DASK_GATEWAY__ADDRESS": served.address,
        "DASK_GATEWAY__AUTH__TYPE": "jupyterhub",
    }
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert (done.stdout, done.returncode) == ("6\n", 0), done.stderr
    by_hub = Gateway(served.address, auth=token)
    caller = by_hub.whoami()
    assert (caller.user, caller.groups, caller.admin) == ("erin", ("physics",), False)
    assert caller.way == "jupyterhub"
    assert Gateway(served.address, auth=("alice", "wonderland")).whoami().user == "alice"
    ways = [(one.name, one.client_way) for one in by_hub.sign_in_options()]
    assert ways == [("jupyterhub", "jupyterhub"), ("password", "basic"), ("api-token", "token")]
    own = by_hub.create_token("laptop").secret
    asyncio.run(hub.ask("DELETE", f"users/erin/tokens/{number}"))
    deadline = time.monotonic() + PATIENCE_S

    def until_refused() -> None:
        while time.monotonic() < deadline:
            by_hub.whoami()
            time.sleep(0.2)

    with pytest.raises(AuthenticationFailed, match=r"does not accept the credentials"):
        until_refused()
    caller = Gateway(served.address, auth=own).whoami()
    assert (caller.groups, caller.way) == (("physics",), "")  # an API token is no way to sign in
    log = (tmp_path / "server.log").read_text()
    for secret in (token, own, hub.service):
        assert secret not in log
