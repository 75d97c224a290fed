"""A refusal repeats what was given, and not pages of it: one bound for every keyword, option, name,
variable and word of a command."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from typing import Any

import dask.config
import pytest
from click.testing import CliRunner
from daskgateway.v1 import cluster_service_pb2 as pb

import gateway
from gateway import Gateway, GatewayCluster
from gateway.__main__ import main
from gateway.client.calls import options, places, settings
from gateway.client.calls.channel import Connection
from gateway.client.dask import adaptive, modes
from gateway.printable import QUOTED, brief, quoted

LONG = 5000
REPEATED = re.compile(r"(.)\1{%d,}" % (2 * QUOTED))  # noqa: UP031
MOST = 1000  # characters of any refusal
VALUES: dict[str, Any] = {
    "letters": "x" * LONG,
    "others": "Ä" * LONG,
    "digits": "1" * LONG,
    "quantity": "9" * LONG + " GiB",
    "number": 10**LONG,
    "list": ["x" * LONG],
    "mapping": {"x" * LONG: "x" * LONG},
    "bytes": b"x" * LONG,
    "path": "users/alice/clusters/" + "x" * LONG,
    "escape": "\x1b" * LONG,
    "address": "https://" + "x" * LONG,
}
KEYWORDS = [
    *("name", "n_workers", "idle_timeout", "create_mode", "options", "labels", "quiet"),
    *("worker_groups", "start_timeout", "auth", "address", "proxy_address", "public_address"),
    *("shutdown_on_close", "max_lifetime", "x" * LONG),
]


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A gateway of no configuration, which tells its options and refuses all else."""

    def call(_: object, rpc: Any, request: Any, **__: object) -> Any:
        from gateway.client.calls import errors

        if isinstance(request, pb.GetClusterOptionsRequest):
            return pb.GetClusterOptionsResponse(fields=offered())
        raise errors.InvalidRequest("no", code="INVALID_ARGUMENT")

    monkeypatch.setattr(Connection, "call", call)
    with dask.config.set({"gateway.address": "http://127.0.0.1:1", "gateway.auth.token": "dgw"}):
        yield


def offered() -> list[pb.OptionField]:
    """Return an option of each kind."""
    return [
        pb.OptionField(name="text", string_field=pb.StringField(max_length=10)),
        pb.OptionField(name="number", float_field=pb.FloatField()),
        pb.OptionField(name="whole", int_field=pb.IntField()),
        pb.OptionField(name="truth", bool_field=pb.BoolField()),
        pb.OptionField(name="choice", select_field=pb.SelectField(choices=["a"], default="a")),
        pb.OptionField(name="texts", mapping_field=pb.MappingField(max_entries=1)),
    ]


def refusal(call: Callable[[], object], number: int) -> str:
    """Return what a call is refused with."""
    try:
        call()
    except (ValueError, TypeError, KeyError, AttributeError, OSError) as error:
        return str(error)
    raise AssertionError(f"call {number} is not refused")


@pytest.mark.parametrize("keyword", KEYWORDS, ids=lambda keyword: keyword[:20])
def test_a_keyword_repeats_its_value_within_a_bound(keyword: str) -> None:
    for kind, value in VALUES.items():
        if (keyword, kind) in {("labels", "mapping"), ("options", "mapping")}:
            continue  # of which the server judges
        try:
            GatewayCluster(**{keyword: value})
        except Exception as error:
            said = str(error)
            assert not REPEATED.search(said), (keyword, kind, said[:200])
            assert len(said) <= MOST, (keyword, kind, said[:200])
        else:
            raise AssertionError(f"{keyword} took {kind}")


def test_so_do_options_and_whatever_else_reads_a_value() -> None:
    made = Gateway().cluster_options()
    deep: dict[str, Any] = {"a": object()}
    for _ in range(100):
        deep = {"k" * 60: deep}
    endless: dict[str, Any] = {}
    endless["a"] = endless
    calls: list[Callable[[], object]] = [
        lambda: GatewayCluster(worker_groups={"a": {"x": deep}}),
        lambda: GatewayCluster(environment=endless),
        lambda: GatewayCluster(worker_groups={"x" * LONG: {"x": object()}}),
        lambda: Gateway("http://" + "x" * LONG),
        lambda: Gateway("https://a/" + "x" * LONG),
        lambda: Gateway("unix:" + "x" * LONG),
        lambda: Gateway(auth="https://" + "x" * LONG),
        lambda: Gateway().list_clusters(status="x" * LONG),
        lambda: modes.CreateMode.of("x" * LONG),
        lambda: adaptive.refuse_unknown(["x" * LONG]),
        lambda: places.filled("{" + "X" * LONG + "}", "gateway.address", {}),
        lambda: settings.normalized("https://h:" + "9" * LONG),
        lambda: getattr(gateway, "x" * LONG),
        lambda: made["x" * LONG],
    ]
    for value in VALUES.values():
        for name in ("text", "number", "whole", "truth", "choice", "texts"):
            fits = isinstance(value, dict) and name == "texts"
            if not fits and (name not in ("number", "whole") or not isinstance(value, int)):
                calls.append(functools.partial(made.__setitem__, name, value))
    for number, call in enumerate(calls):
        said = refusal(call, number)
        assert not REPEATED.search(said), (number, said[:200])
        assert len(said) <= MOST, (number, len(said), said[:200])
    assert options.takes(made.fields["choice"]) == "a"


@pytest.mark.parametrize(
    "words",
    [
        ["clusters", "create", "a", "-o", "LONG"],
        ["clusters", "create", "a", "-o", "LONG=1"],
        ["clusters", "create", "a", "-o", "whole=LONG"],
        ["clusters", "create", "a", "--label", "LONG"],
        ["clusters", "create", "a", "-n", "LONG"],
        ["clusters", "scale", "a", "LONG"],
        ["clusters", "show", "a/b/LONG"],
        ["clusters", "LONG"],
        ["LONG"],
        ["clusters", "list", "--LONG"],
        ["clusters", "list", "LONG", "LONG"],
        ["login", "LONG"],
        ["serve", "--LONG"],
    ],
    ids=" ".join,
)
def test_so_does_the_command_line(words: list[str]) -> None:
    long = [word.replace("LONG", "x" * LONG) for word in words]
    ended = CliRunner().invoke(main, long)
    assert ended.exit_code == 2
    assert not re.search(r"x{%d,}" % 500, ended.output), ended.output[:300]  # noqa: UP031
    assert len(ended.output) <= 2 * MOST


class Fails:
    """What cannot even be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("no")


def test_what_is_repeated_is_one_line_in_quotes_and_ends_in_dots() -> None:
    assert quoted("soon") == "'soon'"
    assert quoted("a\nb") == "'a\\nb'"
    assert quoted("x" * LONG) == "'" + "x" * (QUOTED - 4) + "..."
    assert len(quoted(10**LONG)) <= QUOTED
    assert quoted(Fails()) == "a Fails"
    assert quoted("x" * QUOTED, 10) == "'xxxxxx..."
    assert brief("x" * 10, 10) == "x" * 10
    assert brief("x" * 11, 10) == "x" * 7 + "..."
