"""A program in Go shows a client certificate, through the edge by the name for that."""

from __future__ import annotations

import json
import subprocess

import pytest

from tests.e2e.robots import Room, nightly, nobody, room
from tests.languages import building
from tests.parts.client_certificates import Pair

__all__ = ["nightly", "nobody", "room"]
RUN_S = 240

pytestmark = [pytest.mark.slow, pytest.mark.timeout(building.BUILD_S + 60)]


def test_go_signs_in_by_a_client_certificate(room: Room, nightly: Pair) -> None:
    place = building.built(building.GO)
    environment = building.environment() | {
        "DASKGATEWAY_ADDRESS": room.address,
        "DASKGATEWAY_CA_FILE": str(room.site.path),
        "DASKGATEWAY_CLIENT_CERT": str(nightly.cert),
        "DASKGATEWAY_CLIENT_KEY": str(nightly.key),
    }
    done = subprocess.run(
        [place / "examples" / "go" / "run", "whoami"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=RUN_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"user": "nightly@robots", "way": "mtls"}
