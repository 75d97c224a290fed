"""What the server says against a scheduler's address is what the edge says, as far as it can
know."""

from __future__ import annotations

import pytest
from traitlets.config import Config

from gateway.authenticators.password import hash_password
from gateway.configfile import ConfigurationError
from gateway.networks import DEFAULT_NETWORKS
from gateway.server.boot.reach import judge, scheduler_networks
from gateway.server.boot.settings import Settings, bound_address, settings

LISTENERS = ("127.0.0.1:8000", "127.0.0.1:8001", "")
PASSWORD = hash_password("wonderland")


def configured(config: Config) -> Settings:
    """Return settings with which somebody can sign in."""
    config.PasswordAuthenticator.password = PASSWORD
    return settings(config)


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("tls://10.1.2.3:8786", ""),  # in a private network
        ("127.0.0.1:8786", ""),
        ("tls://a-node.example:8786", ""),  # a name: the edge looks it up
        ("", ""),
        (
            "tls://203.0.113.7:8786",
            "203.0.113.7:8786, which c.Proxy.scheduler_networks does not permit",
        ),
        ("tls://[2001:db8::1]:8786", "which c.Proxy.scheduler_networks does not permit"),
        ("169.254.1.1:8786", "whatever c.Proxy.scheduler_networks says"),
        ("127.0.0.1:8001", "a port of the gateway itself or one of c.Proxy.own_ports"),
        ("127.0.0.1:5432", "a port of the gateway itself or one of c.Proxy.own_ports"),
    ],
)
def test_what_the_edge_never_connects_to_is_named_with_the_setting(address: str, why: str) -> None:
    named = {"own_ports": [5432], "scheduler_networks": list(DEFAULT_NETWORKS)}
    said = judge(configured(Config(Proxy=named)), LISTENERS)(address, "local")
    assert why in said
    assert bool(why) == bool(said)


def test_what_is_this_machines_own_is_only_for_backends_that_run_here() -> None:
    found = judge(configured(Config(DaskGateway={"backends": ["local", "slurm"]})), LISTENERS)
    assert found("127.0.0.1:8786", "local") == ""
    assert "set its `local`, as in c.SlurmBackend.local = True" in found("127.0.0.1:8786", "slurm")
    assert found("10.1.2.3:8786", "slurm") == ""
    both = Config(DaskGateway={"backends": ["local", "slurm"]}, SlurmBackend={"local": True})
    assert judge(configured(both), LISTENERS)("127.0.0.1:8786", "slurm") == ""


def test_a_backend_that_was_taken_out_of_the_configuration_is_named_as_the_reason() -> None:
    found = judge(configured(Config(DaskGateway={"backends": ["slurm"]})), LISTENERS)
    said = found("127.0.0.1:8786", "local")
    assert said.endswith("and its backend local is none of c.DaskGateway.backends any more")


def test_where_every_backend_runs_here_private_networks_are_none_of_the_edges_business() -> None:
    assert scheduler_networks(configured(Config())) == ["127.0.0.0/8", "::1/128"]
    assert "does not permit" in judge(configured(Config()), LISTENERS)("10.1.2.3:8786", "local")
    for host, more in (
        ("10.1.2.3", ["10.1.2.3/32"]),
        ("fd00::1", ["fd00::1/128"]),
        ("127.0.0.1", []),
    ):
        assert scheduler_networks(configured(Config(ClusterConfig={"scheduler_host": host}))) == [
            "127.0.0.0/8",
            "::1/128",
            *more,
        ]
    for elsewhere in (
        Config(ClusterConfig={"scheduler_host": "a-node"}),
        Config(DaskGateway={"backends": ["local", "slurm"]}),
        Config(Proxy={"scheduler_networks": list(DEFAULT_NETWORKS)}),
    ):
        assert scheduler_networks(configured(elsewhere)) == list(DEFAULT_NETWORKS)
    assert scheduler_networks(
        configured(Config(Proxy={"scheduler_networks": ["10.7.0.0/16"]}))
    ) == ["10.7.0.0/16"]


def test_an_edge_that_runs_by_itself_is_judged_for_only_by_what_the_server_is_told() -> None:
    alone = Config(DaskGateway={"start_proxy": False})
    assert judge(configured(alone), LISTENERS)("203.0.113.7:8786", "local") == ""
    alone.Proxy.scheduler_networks = ["127.0.0.0/8"]
    assert "c.Proxy.scheduler_networks" in judge(configured(alone), LISTENERS)(
        "203.0.113.7:8786", "local"
    )
    # its ports may be another machine's
    assert judge(configured(alone), LISTENERS)("127.0.0.1:8001", "local") == ""


def test_networks_that_are_none_are_told() -> None:
    with pytest.raises(ConfigurationError, match=r"c\.Proxy\.scheduler_networks: '10\.0\.0\.1/8'"):
        judge(configured(Config(Proxy={"scheduler_networks": ["10.0.0.1/8"]})), ())


@pytest.mark.parametrize(
    ("configured", "bound"),
    [
        ("0.0.0.0:0", "0.0.0.0:8001"),
        (":8001", "0.0.0.0:8001"),
        ("[::]:8001", "[::]:8001"),
        ("127.0.0.1:0", "127.0.0.1:8001"),
        ("node.example:8001", "node.example:8001"),
    ],
)
def test_serve_names_the_address_it_is_bound_to_and_not_the_one_it_is_reached_by(
    configured: str, bound: str
) -> None:
    assert bound_address(configured, 8001) == bound
