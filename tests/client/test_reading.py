"""One reader takes numbers, sizes, durations and names wherever the client is given them."""

from __future__ import annotations

import pathlib
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy
import pytest
from daskgateway.v1 import cluster_service_pb2 as service_pb

from gateway import Gateway
from gateway.client.calls import creating, messages, reading
from gateway.client.calls.options import parsed
from gateway.client.dask.adaptive import bounds, workers_for
from gateway.client.model import OptionField


@pytest.mark.parametrize(
    "given",
    [
        2,
        "2",
        " 2 ",
        2.0,
        "2.0",
        numpy.int64(2),
        numpy.uint8(2),
        numpy.float32(2),
        Decimal(2),
        Fraction(4, 2),
        numpy.array(2),
    ],
    ids=repr,
)
def test_a_whole_number_is_read_however_it_is_written(given: Any) -> None:
    assert reading.count(given, "n") == 2
    assert type(reading.count(given, "n")) is int
    assert reading.sizing(given) == 2


@pytest.mark.parametrize(
    "given",
    [
        1.9,
        "1.9",
        -1,
        "-1",
        True,
        None,
        "two",
        "",
        b"2",
        [],
        float("nan"),
        float("inf"),
        2**31,
        numpy.float64(1.9),
        numpy.bool_(True),
        numpy.array([1, 2]),
        object,
        1j,
        "1e400",
    ],
    ids=str,
)
def test_what_is_no_whole_number_is_refused_in_one_line(given: Any) -> None:
    with pytest.raises(ValueError, match=r"^n_workers must be a whole number from 0") as refused:
        reading.count(given, "n_workers")
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize(
    "given", [(0, 3), [0, 3], ("0", 3.0), (numpy.int64(0), numpy.int32(3)), "0-3", " 0 - 3 "]
)
def test_bounds_are_read_however_they_are_written(given: Any) -> None:
    assert reading.sizing(given) == (0, 3)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ((1,), "two bounds"),
        ((1, 2, 3), "two bounds"),
        ((3, 1), "minimum <= maximum"),
        ((0, 0), "maximum >= 1"),
        ((0, "many"), "the maximum of n_workers must be a whole number"),
        ((-1, 2), "the minimum of n_workers must be a whole number"),
        ("3-1", "minimum <= maximum"),
        ({"minimum": 1}, "must be a whole number"),
    ],
)
def test_wrong_bounds_are_told(given: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        reading.sizing(given)


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        ("1 hour", 3600),
        ("1h30m", 5400),
        ("1 h 30 min", 5400),  # as answers show it
        ("2 d", 172800),
        ("5 min", 300),
        ("90", 90),
        (90, 90),
        (1.5, 1.5),
        ("0", 0),
        ("never", 0),
        (timedelta(minutes=2), 120),
        (numpy.int64(60), 60),
        (numpy.float64(0.5), 0.5),
        (numpy.timedelta64(2, "m"), 120),
        ("Hour", 3600),
        ("100 ms", 0.1),
    ],
)
def test_a_duration_is_read_however_it_is_written(given: Any, seconds: float) -> None:
    assert reading.seconds(given, "idle_timeout") == pytest.approx(seconds)


@pytest.mark.parametrize(
    "given",
    [
        "soon",
        "",
        "1 fortnight",
        "h1",
        "-3",
        -3,
        "-1 hour",
        float("nan"),
        float("inf"),
        "inf",
        True,
        [],
        {},
        "1 hour ago",
        timedelta(seconds=-1),
        10000000000000.0,
        "1h 30",
        numpy.datetime64("2026"),
    ],
    ids=str,
)
def test_what_is_no_duration_is_refused_in_one_line(given: Any) -> None:
    with pytest.raises(ValueError, match=r"^idle_timeout must be a") as refused:
        reading.seconds(given, "idle_timeout")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("life", creating.LIVES)
def test_every_keyword_of_a_duration_is_read_alike(life: str) -> None:
    with pytest.raises(ValueError, match=f"^{life} must be a number of seconds or a duration"):
        creating.ask(None, {life: "soon"}, {}, frozenset())
    asked = creating.ask(None, {life: "1 h 30 min"}, {}, frozenset())
    assert getattr(asked.request.cluster.spec.lifecycle, life).seconds == 5400


@pytest.mark.parametrize(
    ("named", "words"),
    [
        ({"n_workers": "many"}, "n_workers must be"),
        ({"worker_groups": {"gpu": {"n_workers": 1.5}}}, "worker_groups.'gpu'..'n_workers'. must"),
        ({"worker_groups": ["gpu"]}, "worker_groups must map"),
        ({"worker_groups": {"gpu": "lots"}}, "worker_groups.'gpu'. must be"),
        ({"labels": {"a": ["b"]}}, "labels.'a'. must be a text"),
        ({"labels": "a"}, "labels must map names to texts"),
        ({"backend": 5}, "backend must be a text"),
        ({"options": 5}, "options must map names to values"),
        ({"options": {"x": object()}}, "x must be a number, a text, true or false"),
        ({"options": {"x": {1, 2}}}, "x must be a number, a text, true or false"),
        ({"options": {"x": float("nan")}}, "x must be finite"),
        ({"options": {5: 5}}, "a name in options must be a text"),
    ],
)
def test_every_other_keyword_is_refused_in_one_line(named: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words) as refused:
        creating.ask(None, named, {}, frozenset())
    assert "\n" not in str(refused.value)


def test_numbers_of_numpy_and_paths_are_sent_as_options() -> None:
    given = {"cores": numpy.int64(2), "share": numpy.float32(0.5), "gpu": numpy.bool_(True)}
    given |= {"home": pathlib.Path("/home/a"), "env": {"A": numpy.int8(1)}, "few": (1, "b")}
    options = creating.ask(None, {}, given, frozenset()).request.cluster.spec.options
    assert dict(options) == {
        "cores": 2,
        "share": 0.5,
        "gpu": True,
        "home": "/home/a",
        "env": options["env"],
        "few": options["few"],
    }


def test_numbers_become_texts_in_labels_and_a_group_may_be_a_mere_number() -> None:
    named = {"labels": {"year": 2026}, "worker_groups": {"gpu": numpy.int64(2)}}
    asked = creating.ask("etl", named, {}, frozenset()).request
    assert dict(asked.cluster.labels) == {"year": "2026"}
    assert asked.cluster.spec.worker_groups["gpu"].count == 2


def test_the_name_of_a_cluster_is_told_with_what_would_be_right() -> None:
    for name in ("etl", "alice/etl", "users/alice/clusters/etl"):
        assert messages.full_name(name) == f"users/{'alice' if '/' in name else '-'}/clusters/etl"
    for name in ("a/b/c", "/etl", "users//clusters/etl"):
        with pytest.raises(ValueError, match=r"^the name of a cluster must look like 'etl', or "):
            messages.full_name(name)
    for name, meant in (("My ETL", "my-etl"), ("alice/ETL", "etl"), ("etl_1", "etl-1")):
        with pytest.raises(ValueError, match=f"must be small letters, .* did you mean '{meant}'"):
            messages.full_name(name)
    with pytest.raises(ValueError, match=r"not ''$"):
        messages.full_name("alice/")


@pytest.mark.parametrize("given", ["/month", "1 month", "3 moths", "1:30:00"])
def test_a_unit_that_is_none_is_told_with_those_there_are(given: str) -> None:
    with pytest.raises(ValueError, match=f"weeks, days, hours, minutes and seconds.*{given}"):
        reading.seconds(given, "idle_timeout")


def test_a_name_is_a_text() -> None:
    with pytest.raises(ValueError, match=r"^name must be a text, not 5"):
        creating.ask(5, {}, {}, frozenset())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^the name of a cluster must be a text"):
        messages.stop(None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="the number of workers must be a whole number"):
        messages.scale("etl", 1.9)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (True, True),
        ("no", False),
        (" False ", False),
        (0, False),
        ("on", True),
        (numpy.bool_(True), True),
    ],
)
def test_a_truth_is_read_however_it_is_written(given: Any, found: bool) -> None:
    assert reading.truth(given, "shutdown_on_close") is found


@pytest.mark.parametrize("given", ["maybe", 2, None, [], 0.5])
def test_what_is_no_truth_is_refused(given: Any) -> None:
    with pytest.raises(ValueError, match=r"^shutdown_on_close must be true or false, not"):
        reading.truth(given, "shutdown_on_close")


def test_amounts_and_bounds_are_read_alike() -> None:
    assert workers_for("16", 4.0, up=True) == 4
    assert workers_for(numpy.int64(16), 4.0, up=True) == 4
    with pytest.raises(ValueError, match="an amount of cores or memory must be"):
        workers_for("a lot", 4.0, up=True)
    with pytest.raises(ValueError, match="an amount of cores or memory must be"):
        workers_for(-1, 4.0, up=True)
    assert bounds("1", numpy.int64(3), [], []) == (1, 3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^minimum must be a whole number"):
        bounds(0.5, 3, [], [])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^maximum must be a whole number"):
        bounds(0, 2.5, [], [])


def test_one_name_is_as_good_as_a_list_of_one() -> None:
    assert reading.names("scheduler", "instances") == ["scheduler"]
    assert reading.names(("a", "b"), "instances") == ["a", "b"]
    with pytest.raises(ValueError, match="instances must be names, not 5"):
        reading.names(5, "instances")
    gateway = Gateway("http://127.0.0.1:1", auth="dgw_api_x_y")
    with pytest.raises(ValueError, match="a name in clusters must be a text"):
        gateway.watch(clusters=[5])  # type: ignore[list-item]


FIELDS = {
    "python_version": {"select_field": {"default": "3.10", "choices": ["3.10", "3.11"]}},
    "image": {"string_field": {"default": "a"}},
    "cores": {"int_field": {"default": 1, "maximum": 8}},
    "share": {"float_field": {"default": 1.0}},
    "gpu": {"bool_field": {}},
    "env": {"mapping_field": {}},
    "config": {"mapping_field": {"structured": True}},
}


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("python_version", "3.10", "3.10"),
        ("python_version", '"3.10"', "3.10"),
        ("image", "1e3", "1e3"),
        ("image", "true", "true"),
        ("image", "null", "null"),
        ("image", "007", "007"),
        ("image", '{"a": 1}', '{"a": 1}'),
        ("image", '"4 GiB"', "4 GiB"),
        ("cores", "2", 2),
        ("cores", "2.0", 2),
        ("share", "1", 1.0),
        ("gpu", "true", True),
        ("gpu", "Yes", True),
        ("gpu", "0", False),
        ("env", "A=1,B=x=y", {"A": "1", "B": "x=y"}),
        ("env", '{"A": 1}', {"A": "1"}),
        ("env", "", {}),
        ("config", "a.b=0.5,c=x,d=true", {"a.b": 0.5, "c": "x", "d": True}),
        ("config", '{"a": [1, null]}', {"a": [1, None]}),
    ],
)
def test_a_word_is_read_by_the_kind_of_its_option(name: str, text: str, value: Any) -> None:
    field = OptionField.from_proto(service_pb.OptionField(name=name, **FIELDS[name]))  # type: ignore[arg-type]
    assert parsed(field, text) == value
    assert type(parsed(field, text)) is type(value)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("python_version", "3.1", "must be one of 3.10, 3.11, not '3.1'"),
        ("cores", "two", "must be a number, not 'two'"),
        ("cores", "9", "must be at most 8"),
        ("gpu", "maybe", "must be true or false, not 'maybe'"),
        ("env", "A", r"must map texts to texts, as JSON \(.* or as A=b,C=d, not 'A'"),
        ("env", "{A: b}", "as JSON .*, not '{A: b}'"),
        ("env", "A=x,y", "as JSON .*, not 'A=x,y'"),
        ("config", "[1]", r"must map texts to whatever YAML can say, as JSON .*, not '\[1\]'"),
    ],
)
def test_a_wrong_word_is_told_with_what_would_be_right(name: str, text: str, words: str) -> None:
    field = OptionField.from_proto(service_pb.OptionField(name=name, **FIELDS[name]))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=words):
        parsed(field, text)
