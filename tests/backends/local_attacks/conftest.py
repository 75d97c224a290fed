"""A machine with users who do not trust each other."""

from __future__ import annotations

import os
import pathlib
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator

import pytest

from gateway.backends.contract import (
    Target,
)
from gateway.backends.local.backend import LocalBackend
from tests.backends.test_local import Room
from tests.parts import missing


@pytest.fixture
def site() -> Iterator[pathlib.Path]:
    """A directory of root's that everybody may pass through."""
    if os.geteuid() != 0:
        missing("root", "sudo make test (processes run as other users)")
    directory = pathlib.Path(tempfile.mkdtemp(prefix="local-"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
async def room(site: pathlib.Path) -> AsyncIterator[Room]:
    """A backend that runs each cluster as its user."""
    made = Room(
        LocalBackend(root=str(site / "root"), run_as_user=True, min_uid=1, stop_grace_s=0.5)
    )
    await made.backend.open(made.push)
    yield made
    left = [Target(seen.instance, seen.handle) for seen in await made.backend.find()]
    await made.backend.stop(left)
    for target in left:
        await made.gone(target.instance)
    await made.backend.close()
