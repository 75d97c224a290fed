"""What the configuration offers, and what a cluster that asks for nothing gets of it."""

from __future__ import annotations

import pytest
from traitlets.config import Config

from gateway.server.boot.config import ClusterConfig, ConfiguredOffers
from gateway.server.core.admission import Wish, admit
from gateway.server.core.model import DEFAULT_GROUP, Principal


def offers(**settings: object) -> ConfiguredOffers:
    """Return the offers of a configuration of clusters."""
    return ConfiguredOffers(
        ClusterConfig(config=Config({"ClusterConfig": settings})), {"local": {}}
    )


@pytest.mark.parametrize(
    ("memory", "size_bytes"),
    [("4 GiB", 4 * 2**30), (3_000_000_001, 3_000_000_001), ("2 GiB", 2 * 2**30)],
)
def test_a_cluster_that_asks_for_nothing_gets_what_the_administrator_set(
    memory: object, size_bytes: int
) -> None:
    """The options on offer by default had defaults of their own, which overrode these settings
    without a word."""
    spec = admit(Wish(), offers(worker_memory=memory, worker_cores=96.0).offer(Principal("alice")))
    resources = spec.groups[DEFAULT_GROUP].resources
    assert (resources.cores, resources.memory_bytes) == (96.0, size_bytes)


def test_who_asks_for_something_else_gets_that() -> None:
    offer = offers(worker_memory="4 GiB", worker_cores=2.0).offer(Principal("alice"))
    resources = (
        admit(Wish(options={"worker_memory": "1 GiB", "worker_cores": 0.5}), offer)
        .groups[DEFAULT_GROUP]
        .resources
    )
    assert (resources.cores, resources.memory_bytes) == (0.5, 2**30)
    assert {field.name: field.default for field in offer.fields}["worker_memory"] == "4 GiB"
