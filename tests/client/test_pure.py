"""What the client decides without any gateway."""

from __future__ import annotations

import dask.config
import pytest
from daskgateway.v1 import cluster_pb2
from daskgateway.v1 import cluster_service_pb2 as service_pb

from gateway.client.calls import api, errors, settings
from gateway.client.calls import messages as requests
from gateway.client.calls.channel import Connection
from gateway.client.calls.options import Options
from gateway.client.dask.adaptive import bounds, workers_for
from gateway.client.model import Cluster


@pytest.mark.parametrize(
    ("given", "full"),
    [
        ("etl", "users/-/clusters/etl"),
        ("alice/etl", "users/alice/clusters/etl"),
        ("users/a/clusters/b", "users/a/clusters/b"),
    ],
)
def test_people_write_short_names(given: str, full: str) -> None:
    assert requests.full_name(given) == full


def test_amounts_become_workers() -> None:
    assert workers_for("64 GiB", 2**34, up=True) == 4
    assert workers_for(5, 2.0, up=True) == 3
    assert workers_for(5, 2.0, up=False) == 2
    with pytest.raises(ValueError, match="a number of workers"):
        workers_for(5, 0, up=True)


def test_the_narrowest_bounds_hold() -> None:
    assert bounds(1, None, [], []) == (1, 100)
    assert bounds(200, None, [], []) == (200, 200)
    assert bounds(0, float("inf"), [(4, 2.0)], [(9, 2.0), (None, 0)]) == (2, 4)
    with pytest.raises(ValueError, match="not 0 and 0"):
        bounds(0, 0, [], [])


def test_a_request_says_groups_and_lifecycle() -> None:
    made = requests.create(
        "x",
        workers=(0, 3),
        worker_groups={"gpu": {"n_workers": 2, "worker_cores": 4}},
        max_lifetime_s=90.5,
        no_client_timeout_s=0,
    )
    spec = made.cluster.spec
    assert (
        spec.worker_groups["default"].adaptive.minimum,
        spec.worker_groups["default"].adaptive.maximum,
    ) == (0, 3)
    assert spec.worker_groups["gpu"].count == 2
    assert spec.worker_groups["gpu"].options["worker_cores"] == 4
    assert (spec.lifecycle.max_lifetime.seconds, spec.lifecycle.max_lifetime.nanos) == (
        90,
        500_000_000,
    )
    assert spec.lifecycle.HasField("no_client_timeout")
    assert not spec.lifecycle.HasField("idle_timeout")


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("https://dask.example.org", "https://dask.example.org:443"),
        ("dask.example.org", "http://dask.example.org:8000"),
        ("dgw://h:1", "http://h:1"),
        ("http://[::1]:9", "http://[::1]:9"),
    ],
)
def test_addresses_are_made_whole(given: str, found: str) -> None:
    assert settings.normalized(given) == found


def test_what_is_no_address_is_told() -> None:
    with pytest.raises(ValueError, match="not a gateway's address"):
        settings.normalized("ftp://x")


def offered() -> Options:
    """Options with one field of each kind."""
    return Options(
        service_pb.GetClusterOptionsResponse(
            fields=[
                service_pb.OptionField(
                    name="cores", int_field=service_pb.IntField(default=1, minimum=1, maximum=4)
                ),
                service_pb.OptionField(
                    name="memory",
                    string_field=service_pb.StringField(default="2 GiB", max_length=10),
                ),
                service_pb.OptionField(name="gpu", bool_field=service_pb.BoolField()),
                service_pb.OptionField(
                    name="queue",
                    select_field=service_pb.SelectField(default="a", choices=["a", "b"]),
                ),
                service_pb.OptionField(
                    name="env", mapping_field=service_pb.MappingField(max_entries=1)
                ),
                service_pb.OptionField(
                    name="rows", int_field=service_pb.IntField(default=1, maximum=12_345_678)
                ),
            ]
        )
    )


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("cores", 5, "at most 4"),
        ("cores", 1.5, "whole number"),
        ("cores", True, "must be a number"),
        ("memory", 3, "must be a text"),
        ("memory", "x" * 11, "at most 10 characters"),
        ("gpu", 1, "true or false"),
        ("queue", "c", "one of a, b"),
        ("env", {"a": "1", "b": "2"}, "at most 1 entries"),
        ("env", "a=1", "map texts to texts"),
    ],
)
def test_a_wrong_option_is_told_when_it_is_set(name: str, value: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        offered()[name] = value


def test_options_are_attributes_and_items() -> None:
    options = offered()
    options.cores = 3
    assert (options["cores"], options.memory, options.chosen()) == (3, "2 GiB", {"cores": 3})
    del options["cores"]
    assert options.cores == 1
    with pytest.raises(AttributeError, match="there is no option 'colour'"):
        options.colour = "red"
    with pytest.raises(AttributeError, match="there are cores, env, gpu, memory, queue, rows"):
        _ = options.colour
    assert ">2 GiB</td>" in options._repr_html_()
    assert "Options<cores=1" in repr(options)


def test_options_say_what_they_take_and_mean() -> None:
    assert {name: offered().described(name)[0] for name in offered()} == {
        "cores": "a whole number from 1 up to 4",
        "memory": "a text",
        "gpu": "true or false",
        "queue": "a or b",
        "env": "texts by name, at most 1",
        "rows": "a whole number up to 12345678",
    }
    field = service_pb.OptionField(
        name="time", label="Minutes", description="of a run", per_group=True
    )
    assert Options(service_pb.GetClusterOptionsResponse(fields=[field])).described("time") == (
        "a text",
        "Minutes: of a run (also for one worker group)",
    )


def test_an_explanation_always_says_something() -> None:
    assert Cluster.from_proto(cluster_pb2.Cluster()).explanation == "the server gave no reason"


def test_a_list_shows_of_a_failed_cluster_the_first_line_and_not_the_log_behind_it() -> None:
    failed = cluster_pb2.Cluster(name="users/a/clusters/b", owner="a")
    failed.status.message = "its job was cancelled (CANCELLED)\nlast words\nof its log"
    assert Cluster.from_proto(failed).cells()[-1] == "its job was cancelled (CANCELLED)"


def test_variables_of_the_environment_say_what_has_hyphens() -> None:
    told = dask.config.collect_env(
        {
            "DASK_GATEWAY__CA_FILE": "/ca.pem",
            "DASK_GATEWAY__RETRY_FOR": "3s",
            "DASK_GATEWAY__ADDRESS": "h",
        }
    )
    config = dask.config.update(told, settings.DEFAULTS, priority="new-defaults", defaults=[])  # type: ignore[arg-type]
    kept = dask.config.config.pop("gateway")
    try:
        dask.config.config["gateway"] = config["gateway"]
        found = settings.load()
        with pytest.raises(ValueError, match=r"gateway\.ca-file: the file /ca\.pem cannot be read"):
            settings.load("https://h")
    finally:
        dask.config.config["gateway"] = kept
    assert found.retry_s == 3


def test_a_certificate_that_is_not_trusted_is_told_at_once_with_the_setting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refused(*_: object) -> None:
        raise errors.Unavailable(
            "Tls handshake failed: CERTIFICATE_VERIFY_FAILED: self signed certificate",
            code="UNAVAILABLE",
        )

    connection = Connection(settings.Settings("https://dask.example.org:443", settings.Auth()))
    monkeypatch.setattr(connection, "_grpc", refused)
    monkeypatch.setattr(connection, "_http", refused)
    monkeypatch.setattr("time.sleep", lambda _: pytest.fail("it is tried again"))
    with pytest.raises(
        errors.Unavailable, match=r"is not trusted; name the CA that signed it.* gateway.ca-file"
    ):
        connection.call(api.GET_CLUSTER, service_pb.GetClusterRequest())
