"""Who blocks and who awaits have the same methods, with the same parameters and the same
results."""

from __future__ import annotations

import inspect
import re
import sys
from typing import Any

import pytest

from gateway import AsyncGateway, AsyncGatewayCluster, Gateway, GatewayCluster
from gateway.client.dask.remote import RemoteCluster

PAIRS = [(Gateway, AsyncGateway), (GatewayCluster, AsyncGatewayCluster)]
# How results differ: what is awaited, streamed, or another object of the same pair.
ASYNC = {
    "Changes": "AsyncGenerator[WatchEvent | Bookmark, None]",
    "LogPieces": "AsyncGenerator[LogPiece, None]",
    "GatewayCluster": "AsyncGatewayCluster",
    "Gateway": "AsyncGateway",
}
# the same in both
SAME = {"over", "blocking", "adapt", "get_client", "from_name", "sync", "heed_signals"}


def public(kind: type[Any]) -> dict[str, Any]:
    """Return what a class of ours has to offer, its bases of ours included."""
    ours = [base for base in reversed(kind.__mro__) if base.__module__.startswith("gateway.")]
    return {
        name: one for base in ours for name, one in vars(base).items() if not name.startswith("_")
    }


def functions(kind: type[Any]) -> dict[str, Any]:
    """Return the public methods and properties of a class, as functions."""
    found = {}
    for name, one in public(kind).items():
        one = one.fget if isinstance(one, property) else getattr(one, "__func__", one)
        if inspect.isfunction(one):
            found[name] = one
    return found


@pytest.mark.parametrize(("blocks", "awaits"), PAIRS, ids=["gateway", "cluster"])
def test_both_have_the_same_members(blocks: type[Any], awaits: type[Any]) -> None:
    assert set(public(blocks)) == set(public(awaits))
    for name, one in public(blocks).items():
        assert isinstance(one, property) == isinstance(public(awaits)[name], property), name


@pytest.mark.parametrize(("blocks", "awaits"), PAIRS, ids=["gateway", "cluster"])
def test_both_take_the_same_and_answer_the_same(blocks: type[Any], awaits: type[Any]) -> None:
    for name, one in functions(blocks).items():
        other = functions(awaits)[name]
        mine, theirs = inspect.signature(one), inspect.signature(other)
        assert list(mine.parameters.values()) == list(theirs.parameters.values()), name
        result = str(theirs.return_annotation)
        if name in SAME or isinstance(public(blocks)[name], property):
            result = re.sub("^Async", "", result)
            assert result == str(mine.return_annotation), name
        elif str(mine.return_annotation) in ASYNC:
            assert result == ASYNC[str(mine.return_annotation)], name
        elif inspect.iscoroutinefunction(other):
            assert result == str(mine.return_annotation), name
        else:
            assert result == f"Awaitable[{mine.return_annotation}]", name
        if blocks is Gateway and name not in SAME | {
            "new_cluster",
            "connect",
            "watch",
            "stream_logs",
            "over",
        }:
            assert inspect.iscoroutinefunction(other) or isinstance(
                public(blocks)[name], property
            ), name


def test_every_public_method_says_what_it_does() -> None:
    for kind in (kind for pair in PAIRS for kind in pair):
        assert inspect.getdoc(kind)
        for name, one in functions(kind).items():
            assert one.__doc__, f"{kind.__name__}.{name}"


@pytest.mark.parametrize("name", ["new_cluster", "submit"])
def test_keywords_for_a_cluster_are_the_same_wherever_it_is_asked_for(name: str) -> None:
    of_cluster = dict(inspect.signature(RemoteCluster.__init__).parameters)
    for left_out in ("self", "gateway", "auth", "asynchronous", "loop"):
        del of_cluster[left_out]
    taken = dict(inspect.signature(getattr(Gateway, name)).parameters)
    del taken["self"]
    assert taken == of_cluster


def test_a_gateway_is_asynchronous_by_class_or_by_keyword() -> None:
    by_keyword = Gateway("http://127.0.0.1:9", "token", asynchronous=True)
    assert isinstance(by_keyword, AsyncGateway)
    assert (by_keyword.asynchronous, by_keyword.address) == (True, "http://127.0.0.1:9")
    blocking = by_keyword.blocking()
    assert (type(blocking), blocking.asynchronous, blocking.connection) == (
        Gateway,
        False,
        by_keyword.connection,
    )
    assert repr(by_keyword) == "AsyncGateway<http://127.0.0.1:9>"
    assert repr(Gateway("http://127.0.0.1:9", auth="token")) == "Gateway<http://127.0.0.1:9>"


def test_a_cluster_that_is_awaited_does_not_block() -> None:
    with pytest.raises(TypeError, match="for calls that block there is GatewayCluster"):
        AsyncGatewayCluster("etl", "http://127.0.0.1:9", asynchronous=False)


def test_a_class_derived_from_gateway_stays_one() -> None:
    class Mine(Gateway):
        """A user's own."""

    with Mine("http://127.0.0.1:9") as mine:
        assert type(mine) is Mine


def test_what_is_exported_is_what_a_type_checker_sees() -> None:
    import ast

    import gateway

    tree = ast.parse(inspect.getsource(sys.modules["gateway"]))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.name
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == set(gateway.__all__) - {"__version__"} == set(gateway._HOMES)
