"""The suite of backends over a real API server, by an account with the chart's rights alone."""

from __future__ import annotations

import pathlib
from collections.abc import AsyncIterator

import pytest

from gateway.backends.conformance import Conformance, Room
from tests.backends.real_kubernetes.rooms import fresh_namespace, room_of
from tests.parts.kubernetes import Kubernetes

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def place(kubernetes: Kubernetes) -> tuple[str, pathlib.Path]:
    """One namespace for the module: what a test leaves there, the next one finds."""
    return fresh_namespace(kubernetes)


class TestReal(Conformance):
    """Pods of a real API server, scheduled by the real scheduler onto nodes that pretend."""

    @pytest.fixture
    async def room(
        self, kubernetes: Kubernetes, place: tuple[str, pathlib.Path], tmp_path: pathlib.Path
    ) -> AsyncIterator[Room]:
        made = await room_of(kubernetes, tmp_path, *place)
        yield made
        await made.close()
