"""What a dask-gateway user's notebook and gateway.yaml say holds here where it means the same, and
is told in one line where it means nothing."""

from __future__ import annotations

import asyncio
import inspect
import pathlib
import warnings
from collections.abc import Iterator
from typing import Any

import dask.config
import ipywidgets
import pytest
from daskgateway.v1 import cluster_service_pb2 as service_pb
from distributed import Client

from gateway import (
    AsyncGateway,
    BasicAuth,
    ClusterState,
    Gateway,
    GatewayCluster,
    GatewayWarning,
    __version__,
)
from gateway.client.calls import errors, places, settings, waiting
from gateway.client.calls.options import Options
from gateway.client.form import Form
from gateway.wire import basic_credentials
from tests.client.commands import run
from tests.e2e.gateway_process import PASSWORD, USER, GatewayProcess

HERE = "http://127.0.0.1:8000"


@pytest.fixture(scope="module")
def gateway(served: GatewayProcess) -> Gateway:
    """The gateway as alice calls it."""
    return Gateway(served.address, auth=(USER, PASSWORD))


@pytest.fixture
def signed_in(served: GatewayProcess, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Alice's environment."""
    for name, value in served.environment().items():
        if name.startswith("DASKGATEWAY_"):
            monkeypatch.setenv(name, value)
    monkeypatch.delenv("DASKGATEWAY_ADDRESS")
    return iter([None])


# Where things are


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("http://host", "http://host:80"),
        ("http://host/services/dask-gateway/", "http://host:80/services/dask-gateway"),
        ("http://[::1]", "http://[::1]:80"),
        ("https://host", "https://host:443"),
        ("host", "http://host:8000"),
        ("host:80", "http://host:80"),
        ("http://host:8000", "http://host:8000"),
    ],
)
def test_a_scheme_has_its_own_port(given: str, found: str) -> None:
    assert settings.normalized(given) == found


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("gateway://edge:8786", "edge:8786"),
        ("tls://edge:8786", "edge:8786"),
        ("edge:8786", "edge:8786"),
        ("edge", "edge:8000"),
        ("https://edge", "edge:443"),
        (8786, "127.0.0.1:8786"),
        ("8786", "127.0.0.1:8786"),
        ("dgw://[::1]:1", "[::1]:1"),
    ],
)
def test_the_edge_is_told_as_there(given: Any, found: str) -> None:
    assert settings.load(HERE, proxy_address=given).proxy_address == found
    with dask.config.set({"gateway.proxy-address": given}):
        assert settings.load(HERE).proxy_address == found


@pytest.mark.parametrize("given", ["ftp://edge:1", "edge:x", "tls://edge:1/path", [], True, 70000])
def test_what_is_no_edge_is_told_in_one_line(given: Any) -> None:
    with pytest.raises(ValueError, match=r"^proxy_address must be"):
        settings.load(HERE, proxy_address=given)
    with dask.config.set({"gateway.proxy-address": given or "x:y"}):
        with pytest.raises(ValueError, match=r"^gateway.proxy-address must be"):
            settings.load(HERE)


def test_a_public_address_is_where_dashboards_are(gateway: Gateway, served: GatewayProcess) -> None:
    with GatewayCluster(
        address=served.address,
        auth=(USER, PASSWORD),
        proxy_address=served.address.replace("http", "tls"),
        public_address="https://hub.example.org/services/dask-gateway/",
    ) as cluster:
        assert cluster.dashboard_link == (
            f"https://hub.example.org/services/dask-gateway/clusters/{cluster.uid}/status"
        )
        name = cluster.cluster_id
        with GatewayCluster.from_name(name, address=served.address, auth=(USER, PASSWORD)) as again:
            assert again.dashboard_link.startswith(served.address)
    with pytest.raises(ValueError, match=r"^public_address must look like https://host"):
        Gateway(served.address, public_address="hub.example.org")


def test_variables_of_the_environment_stand_in_values(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, port = gateway.address.removeprefix("http://").split(":")
    monkeypatch.setenv("GW_HOST", host)
    monkeypatch.setenv("GW_PORT", port)
    monkeypatch.setenv("MINE", "2 GiB")
    configured = {
        "gateway.address": "http://{GW_HOST}:{GW_PORT}",
        "gateway.proxy-address": "gateway://{GW_HOST}:{GW_PORT}",
        "gateway.cluster.options": {"worker_memory": "{MINE}", "environment": {"A": "{MINE}"}},
    }
    with dask.config.set(configured):
        assert settings.load().address == gateway.address
        assert settings.load().proxy_address == f"{host}:{port}"
        assert gateway.cluster_options().worker_memory == "2 GiB"
        made = gateway.submit()
        assert made.spec.options["worker_memory"] == "2 GiB"
        assert made.spec.options["environment"] == {"A": "2 GiB"}
        gateway.stop_cluster(made.name)
    with dask.config.set({"gateway.address": "http://{NOWHERE}"}):
        with pytest.raises(
            ValueError, match=r"^gateway.address names \{NOWHERE\}, and the environ"
        ):
            settings.load()
    assert places.filled('{"a": 1} {} {{x', "x", {}) == '{"a": 1} {} {{x'


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("adress", "gateway.adress in Dask's configuration means nothing; did you mean address?"),
        ("proxy_adress", "gateway.proxy_adress .*; did you mean proxy-address?"),
        ("zzz", "gateway.zzz .* means nothing; gateway may hold address, "),
        ("cluster.option", "gateway.cluster.option .* did you mean options?"),
        ("http-client.timeout", "gateway.http-client.timeout .* may hold proxy"),
    ],
)
def test_what_means_nothing_in_the_configuration_is_told(key: str, words: str) -> None:
    with dask.config.set({f"gateway.{key}": "x"}):
        with pytest.warns(GatewayWarning, match=words):
            settings.load(HERE)
        ended = run(HERE, "whoami", environment={"DASK_GATEWAY__RETRY_FOR": "0"})
        assert "daskgateway: gateway." in ended.err


def test_the_whole_of_a_gateway_yaml_is_read_in_silence() -> None:
    theirs: dict[str, Any] = {
        "address": HERE,
        "public-address": None,
        "proxy-address": 8786,
        "auth": {"type": "basic", "kwargs": {"username": "alice", "password": "pw"}},
        "http-client": {"proxy": True},
        "cluster": {"options": {}},
    }
    assert list(places.unknown(theirs, settings.KNOWN)) == []
    for proxy in (True, False, "http://proxy:3128"):  # in place of the section's only name
        assert list(places.unknown({"http-client": proxy}, settings.KNOWN)) == []
    (words,) = places.unknown({"http-client": 3128}, settings.KNOWN)
    assert words == "gateway.http-client in Dask's configuration must hold proxy, and is 3128"
    assert list(places.unknown(settings.DEFAULTS["gateway"], settings.KNOWN)) == []


def test_arguments_of_signing_in_are_filled_and_told_by_their_place(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    monkeypatch.setenv("MY_PASSWORD", "pw")
    kwargs = "{username: alice, password: '{MY_PASSWORD}'}"
    file = tmp_path / "gateway.yaml"
    file.write_text(f"gateway: {{auth: {{type: basic, kwargs: {kwargs}}}}}")
    monkeypatch.setattr(dask.config, "paths", [str(tmp_path)])
    with dask.config.set(next(iter(dask.config.collect_yaml([str(tmp_path)])))):
        found = settings.load(HERE)
        assert found.authorization() == basic_credentials("alice", "pw")
        for name in ("username", "password"):
            assert f"gateway.auth.kwargs.{name} in the conf" in found.caller.source
            assert str(file) in found.caller.source
        monkeypatch.delenv("MY_PASSWORD")
        with pytest.raises(ValueError, match=r"^gateway.auth.kwargs.password names \{MY_PASSW"):
            settings.load(HERE)


def test_a_user_is_a_username(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("getpass.getuser", lambda: "me")
    alice = basic_credentials("alice", "pw")
    assert BasicAuth(username="alice", password="pw").header() == alice
    assert BasicAuth("alice", "pw").header() == alice
    assert BasicAuth(password="pw").header() == basic_credentials("me", "pw")
    with pytest.raises(TypeError, match="user and username are the same"):
        BasicAuth("alice", username="alice")


def test_an_address_for_a_token_is_told() -> None:
    with pytest.raises(ValueError, match=r"is an address and no token; .* in proxy_address"):
        Gateway(HERE, "gateway://edge:8786")


# Notebooks


@pytest.mark.usefixtures("signed_in")
def test_a_notebook_of_a_dask_gateway_user_runs(served: GatewayProcess) -> None:
    gateway = Gateway(address=served.address)
    options = gateway.cluster_options()
    options.worker_memory = "1 GiB"
    cluster = gateway.new_cluster(options, worker_cores=0.5)  # type: ignore[arg-type]
    try:
        assert cluster.describe().spec.options["worker_memory"] == "1 GiB"
        assert cluster.describe().spec.options["worker_cores"] == 0.5
        cluster.scale(1)
        client = cluster.get_client()
        assert client.submit(sum, [1, 2]).result(60) == 3
        assert [one.id for one in gateway.list_clusters(status="running")] == [cluster.name]
        client.close()
    finally:
        cluster.shutdown()
    with GatewayCluster(served.address, cluster_options=options, shutdown_on_close=True) as made:
        assert made.describe().spec.options["worker_memory"] == "1 GiB"
        with GatewayCluster.from_name(made.name, address=served.address) as again:
            assert again.uid == made.uid
    taken = gateway.submit(cluster_options=options)
    gateway.stop_cluster(taken.name)


def test_adapting_is_as_there(gateway: Gateway) -> None:
    made = gateway.submit("adapting", n_workers=1)
    try:
        found = gateway.adapt_cluster(made.name, minimum=None, maximum=2, active=True)
        assert found.wish == "0-2"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", GatewayWarning)  # the gateway may grant fewer
            assert gateway.adapt_cluster(made.name).wish == "0-100"
        assert gateway.adapt_cluster(made.name, active=False).wish == "0"
    finally:
        gateway.stop_cluster(made.name)


def test_what_is_given_twice_is_told(gateway: Gateway) -> None:
    options = gateway.cluster_options()
    with pytest.raises(TypeError, match="options is given twice"):
        gateway.submit(options=options, cluster_options=options)
    with pytest.raises(TypeError, match="cluster_options is given twice"):
        gateway.submit(options, cluster_options=options)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="a gateway is given, which has its own address"):
        GatewayCluster(gateway=gateway, address=HERE)
    with pytest.raises(TypeError, match="a gateway is given, which has its own auth"):
        GatewayCluster(gateway=gateway, auth="dgw_api_x_y")
    with pytest.raises(TypeError, match="where the edge is stands in proxy_address"):
        GatewayCluster(HERE, "gateway://127.0.0.1:8000")
    with pytest.raises(TypeError, match="this gateway has its own address"):
        gateway.submit(address=HERE)
    with pytest.raises(TypeError, match="gateway and address are the same"):
        GatewayCluster(gateway=HERE, address=HERE)


def test_a_client_need_not_become_the_current_one(gateway: Gateway) -> None:
    from distributed.client import default_client

    with GatewayCluster(gateway=gateway) as cluster:
        with cluster.get_client(set_as_default=False) as client:
            with pytest.raises(ValueError, match="No client"):
                default_client()
            assert client.cluster is cluster
        with cluster.get_client() as client:
            assert default_client() is client
            assert cluster.get_client() is client

    async def awaited() -> None:
        made = AsyncGateway.over(gateway.connection).new_cluster()
        async with made as cluster, cluster.get_client(set_as_default=False) as client:
            assert isinstance(client, Client)

    asyncio.run(awaited())


def test_versions_of_both_are_told(gateway: Gateway) -> None:
    both = {"server": {"version": __version__}, "client": {"version": __version__}}
    assert gateway.get_versions() == both
    assert asyncio.run(AsyncGateway.over(gateway.connection).get_versions()) == both


@pytest.mark.parametrize(
    ("status", "states"),
    [
        (None, []),
        ("running", ["ACTIVE"]),
        (["pending", "RUNNING"], ["PENDING", "CREATING", "ACTIVE"]),
        ("stopped", ["STOPPED"]),
        (ClusterState.PENDING, ["PENDING"]),
        (("FAILED", ClusterState.ACTIVE), ["FAILED", "ACTIVE"]),
    ],
)
def test_states_are_named_as_there(status: Any, states: list[str]) -> None:
    assert [str(state) for state in waiting.listed_states(status)] == states


@pytest.mark.parametrize(
    ("status", "meant"),
    [
        ("runing", "'runing' is no state of a cluster; did you mean running?"),
        ("ACTIV", "'ACTIV' .* did you mean active?"),
        (["active", "stoped"], "'stoped' .* did you mean stopped?"),
        ("unknown", "'unknown' .* there are pending"),
    ],
)
def test_a_misspelt_state_is_told_with_what_was_meant(status: Any, meant: str) -> None:
    with pytest.raises(ValueError, match=f"^status: {meant}"):
        waiting.listed_states(status)
    assert waiting.listed_states("CLUSTER_STATE_ACTIVE ") == ["ACTIVE"]


def test_lists_show_the_states_that_are_asked_for(gateway: Gateway) -> None:
    made = gateway.submit("of-a-state")
    gateway.wait(made.name, timeout_s=60)
    assert "of-a-state" in [one.id for one in gateway.list_clusters("running")]
    assert "of-a-state" not in [one.id for one in gateway.list_clusters(["stopped", "failed"])]
    gateway.stop_cluster(made.name)
    gateway.wait(f"alice/{made.uid}", ["STOPPED"], timeout_s=60)
    assert "of-a-state" in [one.id for one in gateway.list_clusters(status="stopped")]
    with pytest.raises(ValueError, match=r"^status: 'waiting' is no state of a cluster; "):
        gateway.list_clusters("waiting")


def test_local_defaults_are_in_the_options_unless_told_otherwise(gateway: Gateway) -> None:
    with dask.config.set({"gateway.cluster.options": {"worker_memory": "3 GiB"}}):
        assert gateway.cluster_options().chosen() == {"worker_memory": "3 GiB"}
        bare = gateway.cluster_options(use_local_defaults=False)
        assert bare.chosen() == {}
        ways: list[Any] = [None, {}, gateway.cluster_options()]
        for way in ways:
            made = gateway.submit(options=way)
            assert made.spec.options["worker_memory"] == "3 GiB"
            gateway.stop_cluster(made.name)
        made = gateway.submit(options=bare)
        assert made.spec.options["worker_memory"] != "3 GiB"
        gateway.stop_cluster(made.name)
    with dask.config.set({"gateway.cluster.options": {"worker_memroy": "3 GiB"}}):
        with pytest.raises(ValueError, match=r"did you mean worker_memory.*in gateway\.clu"):
            gateway.cluster_options()


# Options as a form

FIELDS = [
    {"name": "cores", "int_field": {"default": 2, "minimum": 1, "maximum": 8}},
    {"name": "share", "float_field": {"default": 0.5}},
    {"name": "gpu", "bool_field": {}},
    {"name": "queue", "select_field": {"default": "a", "choices": ["a", "b"]}},
    {"name": "image", "string_field": {"default": "x", "pattern": "[a-z]+"}},
    {"name": "env", "mapping_field": {"default": {"A": "1"}}},
]


@pytest.fixture
def form() -> tuple[Options, Form]:
    """Options with a field of each kind, and their form."""
    offer = service_pb.GetClusterOptionsResponse(
        fields=[service_pb.OptionField(**field) for field in FIELDS]  # type: ignore[arg-type]
    )
    options = Options(offer)
    return options, Form(options)


@pytest.mark.parametrize(
    ("name", "shown", "value"),
    [
        ("cores", 4, 4),
        ("share", 0.25, 0.25),
        ("gpu", True, True),
        ("queue", "b", "b"),
        ("image", "y", "y"),
        ("env", "A=2\nB=x=y", {"A": "2", "B": "x=y"}),
    ],
)
def test_a_form_and_its_options_follow_each_other(
    form: tuple[Options, Form], name: str, shown: Any, value: Any
) -> None:
    options, made = form
    made.inputs[name].value = shown
    assert options[name] == value
    del options[name]
    assert options[name] != value
    options[name] = value
    assert made.inputs[name].value == shown
    assert options.chosen() == {name: value}


def test_a_wrong_value_in_a_form_is_told_beside_it_and_changes_nothing(
    form: tuple[Options, Form],
) -> None:
    options, made = form
    made.inputs["image"].value = "<b>NO</b>"
    assert options.image == "x"
    assert "must match [a-z]+" in made.words["image"].value
    assert "&lt;b&gt;" in made.words["image"].value
    made.inputs["image"].value = "fine"
    assert options.image == "fine"
    assert "must match" not in made.words["image"].value
    made.inputs["env"].value = "A"
    assert "is no line like NAME=text" in made.words["env"].value
    assert options.chosen() == {"image": "fine"}
    made.inputs["cores"].value = 99
    assert made.inputs["cores"].value == options.cores == 8


def test_options_are_a_form_in_a_notebook_only(
    form: tuple[Options, Form], monkeypatch: pytest.MonkeyPatch
) -> None:
    options, _ = form
    assert options._repr_mimebundle_() == {}
    assert isinstance(options.widget(), ipywidgets.VBox)
    assert options.widget() is options.widget()
    monkeypatch.setattr("gateway.client.progress.in_notebook", lambda: True)
    assert "application/vnd.jupyter.widget-view+json" in options._repr_mimebundle_()


def test_every_keyword_of_theirs_is_known() -> None:
    """Those of dask-gateway 2026.3 that are not ours by another name."""
    theirs = {"address", "proxy_address", "public_address", "auth", "asynchronous", "loop"}
    assert theirs <= set(inspect.signature(Gateway.__init__).parameters)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Gateway(HERE, proxy_address=None, public_address=None, auth=None, loop=None)
    assert issubclass(errors.GatewayWarning, UserWarning)


def test_close_takes_shutdown_first_as_there(gateway: Gateway) -> None:
    cluster = GatewayCluster("left-alone", gateway=gateway, shutdown_on_close=True)
    cluster.close(False)
    assert gateway.get_cluster("left-alone").state == "ACTIVE"
    gateway.connect("left-alone").close(True)
    assert gateway.get_cluster("left-alone").state.ending
