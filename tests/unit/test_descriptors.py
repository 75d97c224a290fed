"""How many open files are enough."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from gateway.configfile import ConfigurationError
from gateway.descriptors import Demand
from gateway.server.boot.config import DaskGateway
from gateway.server.boot.settings import descriptors_wanted


@pytest.mark.parametrize(
    ("limit", "fits", "told"),
    [
        (2**20, 10_000, ""),
        (20_256, 10_000, ""),
        (
            20_255,
            9_999,
            "the limit on open files, 20255, permits 9999 clusters; c.DaskGateway.max_clusters ="
            " 10000 takes 20256: raise it",
        ),
        (384, 64, "permits 64 clusters"),
    ],
)
def test_what_fits_is_told_with_numbers(limit: int, fits: int, told: str) -> None:
    found, words = descriptors_wanted(DaskGateway()).fitting(limit)
    assert found == fits
    assert told in words
    assert bool(told) == bool(words)


@pytest.mark.parametrize("limit", [0, 64, 256, 383])
def test_what_would_serve_nobody_is_refused_with_the_number_that_is_needed(limit: int) -> None:
    with pytest.raises(
        ConfigurationError,
        match=re.escape(f"open files is {limit}; c.DaskGateway.max_clusters = 10000 takes 20256"),
    ):
        descriptors_wanted(DaskGateway()).fitting(limit)


def test_a_small_wish_needs_little() -> None:
    demand = Demand("connections", "c.Proxy.max_connections", 3, each=2, kept=10, least=64)
    assert demand.fitting(16) == (3, "")
    with pytest.raises(ConfigurationError, match="with less than 16 nothing is served"):
        demand.fitting(15)


@pytest.mark.parametrize(
    ("limits", "most", "raised"),
    [("100, 200", 150, "150 150 200"), ("100, 200", 5000, "200 200 200")],
)
def test_the_limit_is_raised_as_far_as_is_needed_and_permitted(
    limits: str, most: int, raised: str
) -> None:
    program = (
        f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({limits})); from"
        f" gateway.descriptors import raise_descriptor_limit;"
        f"print(raise_descriptor_limit({most}), *resource.getrlimit(resource.RLIMIT_NOFILE))"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True
        ).stdout.strip()
        == raised
    )
