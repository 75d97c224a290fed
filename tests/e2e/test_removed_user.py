"""A user is taken out of the configuration while a cluster of that user lives."""

from __future__ import annotations

import pathlib

import pytest

from gateway import Gateway
from gateway.authenticators.password import hash_password
from tests.e2e.gateway_process import PASSWORD, USER, GatewayProcess
from tests.waiting import until


@pytest.mark.timeout(300)
def test_the_start_names_a_removed_user_and_an_administrator_sees_and_stops_what_is_left(
    tmp_path: pathlib.Path,
) -> None:
    served = GatewayProcess(tmp_path, f"c.PasswordAuthenticator.admins = {{{USER!r}}}")
    try:
        served.start()
        Gateway(served.address, auth=("bob", "builder")).new_cluster("left", quiet=True).close(
            shutdown=False
        )
        assert served.stop() == 0
        with served.config.open("a") as config:
            config.write(
                f"c.PasswordAuthenticator.users = {{{USER!r}: {hash_password(PASSWORD)!r}}}\n"
            )
        served.start()
        log = tmp_path / "server.log"
        until(lambda: "user bob is no user any more, and 1 of" in log.read_text(), "it is said")
        with Gateway(served.address, auth=(USER, PASSWORD)) as root:
            (left,) = root.list_clusters(everybody=True)
            assert "its owner bob is no user any more" in str(left)
            root.stop_cluster("bob/left")
            root.wait(left.name, ("STOPPED",), timeout_s=60)
    finally:
        served.end()
