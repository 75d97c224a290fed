"""One Kubernetes for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.parts.kubernetes import Kubernetes, running


@pytest.fixture(scope="package")
def kubernetes() -> Iterator[Kubernetes]:
    """A Kubernetes that runs, and notes who asks for what."""
    with running(audit=True) as made:
        yield made
