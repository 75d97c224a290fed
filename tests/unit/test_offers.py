"""What the configuration offers, and what a cluster that asks for nothing gets of it."""

from __future__ import annotations

import sys

import pytest
from traitlets.config import Config

from gateway.authenticators.password import hash_password
from gateway.backends.base import BaseBackend
from gateway.backends.kubernetes.backend import KubernetesBackend
from gateway.backends.launch import LaunchCredentials, worker_launch
from gateway.backends.local.backend import LocalBackend
from gateway.backends.slurm.backend import SlurmBackend
from gateway.configfile import ConfigurationError
from gateway.server.boot.cluster_config import ClusterConfig
from gateway.server.boot.offers import ConfiguredOffers, problems
from gateway.server.boot.settings import settings
from gateway.server.core import limits
from gateway.server.core.admission import GroupWish, Wish, admit
from gateway.server.core.model import DEFAULT_GROUP, Count, Principal
from gateway.server.core.options import Integer


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


@pytest.mark.parametrize(
    ("settings", "python"),
    [
        ({}, ["python"]),
        ({"python": "/opt/dask/bin/python"}, ["/opt/dask/bin/python"]),
    ],
)
async def test_python_is_that_of_the_backends_image_where_nothing_else_is_said(
    settings: dict[str, object], python: list[str]
) -> None:
    """The server's own path was taken in its place: no image had it."""
    clusters = ClusterConfig(config=Config({"ClusterConfig": settings}))
    offer = await ConfiguredOffers(clusters, {"kubernetes": KubernetesBackend()}).offer(
        Principal("alice")
    )
    assert admit(Wish(), offer).settings["python"] == python


async def test_python_is_the_servers_own_where_the_backend_has_none() -> None:
    spec = admit(Wish(), await offers().offer(Principal("alice")))
    launch = worker_launch(
        uid="c1",
        name="default-0",
        user="alice",
        settings=spec.settings,
        resources=spec.groups[DEFAULT_GROUP].resources,
        credentials=LaunchCredentials(b"", b"", b""),
        scheduler_address="tls://127.0.0.1:1",
    )
    assert launch.argv[0] == sys.executable


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


@pytest.mark.parametrize(
    ("configured", "most", "default"),
    [
        ({}, None, 0),
        ({"max_gpus": 8}, 8, 0),
        ({"worker_gpus": 2}, 2, 2),
        ({"max_gpus": 0}, None, 0),
    ],
)
async def test_users_choose_gpus_where_the_administrator_says_that_there_are_some(
    configured: dict[str, object], most: int | None, default: int
) -> None:
    offer = await offers(**configured).offer(Principal("alice"))
    found = {field.name: field for field in offer.fields}.get("worker_gpus")
    assert isinstance(found, Integer) == (most is not None)
    if isinstance(found, Integer):
        assert (found.minimum, found.maximum, found.default) == (0, most, default)


async def test_gpus_that_are_configured_are_those_of_a_cluster_that_asks_for_none() -> None:
    clusters = ClusterConfig(worker_gpus=2, worker_resources={"fpga": 1}, max_gpus=5)
    configured = ConfiguredOffers(clusters, {"slurm": SlurmBackend(gpu_name="gpu:a100")})
    offer = await configured.offer(Principal("alice"))
    spec = admit(Wish(groups={"default": GroupWish(size=Count(4))}), offer)
    resources = spec.groups[DEFAULT_GROUP].resources
    assert (resources.gpus, resources.named) == (2, {"fpga": 1.0})
    assert spec.settings["gpu_name"] == "gpu:a100"
    assert limits.grant(spec, {}).desired == {"default": 2}


@pytest.mark.parametrize(
    ("backends", "clusters", "problem", "hint"),
    [
        (["local"], {"worker_gpus": 1}, "worker_gpus: the backend local hands out no GPUs", ""),
        (
            ["local"],
            {"scheduler_resources": {"a": 1}},
            "scheduler_resources: the backend local",
            "",
        ),
        (["local"], {"max_gpus": 1}, "", "max_gpus: the backend local hands out no GPUs"),
        (["local"], {}, "", ""),
        (["local"], {"max_gpus": 0}, "", ""),
        (["slurm"], {"worker_gpus": 1, "worker_resources": {"fpga": 1}}, "", ""),
        (["slurm"], {"worker_resources": {"a/b": 1}}, "worker_resources: 'a/b' is no", ""),
        (["slurm", "local"], {"worker_gpus": 1}, "", "worker_gpus: the backend local hands out"),
        (
            ["slurm"],
            {"worker_resources": {"fpga": 1}, "max_resources": {"nvme": 1}},
            "worker_resources: fpga is none that is given: c.ClusterConfig.max_resources names",
            "",
        ),
        (["slurm"], {"worker_resources": {"fpga": 1}, "max_resources": {"fpga": 1}}, "", ""),
    ],
)
def test_gpus_that_no_backend_gives_are_a_wrong_configuration(
    backends: list[str], clusters: dict[str, object], problem: str, hint: str
) -> None:
    made = {"local": LocalBackend(), "slurm": SlurmBackend()}
    found = problems(
        ClusterConfig(config=Config({"ClusterConfig": clusters})), {n: made[n] for n in backends}
    )
    for told, expected in ((found.problems, problem), (found.hints, hint)):
        assert len(told) == bool(expected)
        assert all(line.startswith(f"c.ClusterConfig.{expected}") for line in told)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("worker_gpus", 1025, "1025"),
        ("scheduler_gpus", -1, "-1"),
        ("max_gpus", -1, "-1"),
        ("max_gpus", 2**31, "2147483648"),
        ("worker_resources", {"gpu": 1}, "GPUs are asked for by worker_gpus"),
        ("scheduler_resources", {"a b": 1}, "is no name of a resource"),
        ("max_resources", {"fpga": "much"}, "must be a number between 0 and 1000000000"),
        ("max_resources", {f"r{n}": 1 for n in range(17)}, "at most 16 entries"),
    ],
)
def test_amounts_that_no_cluster_can_have_are_refused_at_the_start(
    name: str, value: object, words: str
) -> None:
    with pytest.raises(ConfigurationError, match=rf"c\.ClusterConfig\.{name}: .*{words}"):
        settings(Config({"ClusterConfig": {name: value}}))
