"""What the configuration offers, and what a cluster that asks for nothing gets of it."""

from __future__ import annotations

import pytest
from traitlets.config import Config

from gateway.authenticators.password import hash_password
from gateway.backends.base import BaseBackend
from gateway.backends.local.backend import LocalBackend
from gateway.backends.slurm.backend import SlurmBackend
from gateway.configfile import ConfigurationError
from gateway.server.boot.cluster_config import ClusterConfig
from gateway.server.boot.offers import ConfiguredOffers
from gateway.server.boot.settings import settings
from gateway.server.core import limits
from gateway.server.core.admission import GroupWish, Wish, admit
from gateway.server.core.model import DEFAULT_GROUP, Count, Principal


def offers(**settings: object) -> ConfiguredOffers:
    """Return the offers of a configuration of clusters."""
    return ConfiguredOffers(
        ClusterConfig(config=Config({"ClusterConfig": settings})), {"local": BaseBackend()}
    )


@pytest.mark.parametrize(
    ("memory", "size_bytes"),
    [("4 GiB", 4 * 2**30), (3_000_000_001, 3_000_000_001), ("2 GiB", 2 * 2**30)],
)
async def test_a_cluster_that_asks_for_nothing_gets_what_the_administrator_set(
    memory: object, size_bytes: int
) -> None:
    """The options on offer by default had defaults of their own, which overrode these settings
    without a word."""
    offer = await offers(worker_memory=memory, worker_cores=96.0).offer(Principal("alice"))
    spec = admit(Wish(), offer)
    resources = spec.groups[DEFAULT_GROUP].resources
    assert (resources.cores, resources.memory_bytes) == (96.0, size_bytes)


async def test_who_asks_for_something_else_gets_that() -> None:
    offer = await offers(worker_memory="4 GiB", worker_cores=2.0).offer(Principal("alice"))
    resources = (
        admit(Wish(options={"worker_memory": "1 GiB", "worker_cores": 0.5}), offer)
        .groups[DEFAULT_GROUP]
        .resources
    )
    assert (resources.cores, resources.memory_bytes) == (0.5, 2**30)
    assert {field.name: field.default for field in offer.fields}["worker_memory"] == "4 GiB"


@pytest.mark.parametrize("name", ["worker_memory", "scheduler_memory"])
def test_a_process_without_limit_in_a_cluster_with_one_is_a_wrong_configuration(name: str) -> None:
    config = Config({"ClusterConfig": {name: "0", "max_memory": "3 GiB"}})
    with pytest.raises(ConfigurationError, match=rf"c\.ClusterConfig\.{name}: must be more than 0"):
        settings(config)
    sign_in = {"password": hash_password("wonderland")}
    settings(Config({"ClusterConfig": {name: "0"}, "PasswordAuthenticator": sign_in}))


async def test_what_a_backend_gives_is_what_its_offer_counts() -> None:
    clusters = ClusterConfig(config=Config({"ClusterConfig": {"max_cores": 4.0}}))
    backends = {"slurm": SlurmBackend(), "local": LocalBackend()}
    configured = ConfiguredOffers(clusters, backends)
    for name in backends:
        wish = Wish(name, {"worker_cores": 0.1}, {"default": GroupWish(size=Count(40))})
        spec = admit(wish, await configured.offer(Principal("alice")))
        assert limits.grant(spec, {}).desired == {"default": 3}
