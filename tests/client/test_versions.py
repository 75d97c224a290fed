"""What differs between a client and a scheduler is told in one line, with what to do."""

from __future__ import annotations

import platform
import warnings
from collections.abc import Mapping

import pytest
from daskgateway.v1 import cluster_pb2 as pb
from distributed.versions import VersionMismatchWarning

from gateway.agent import agent
from gateway.client.dask import versions
from gateway.client.model import Cluster

HERE = {"python": "3.11.7", "dask": "2026.8.0", "distributed": "2026.8.0", "msgpack": "1.1.0"}
HERE |= {"cloudpickle": "3.1.0", "numpy": "2.0.0"}


def found(there: Mapping[str, str], here: Mapping[str, str] = HERE) -> list[str]:
    """Return the names of what differs."""
    return [name for name, _, _ in versions.differences(there, lambda name: here.get(name, ""))]


@pytest.mark.parametrize(
    ("ours", "theirs", "same"),
    [
        ("3.0", "3.0.0", True),
        ("3", "3.0.0.0", True),
        ("2026.08.0", "2026.8", True),
        ("v1.0", "1.0", True),
        ("1.0-rc1", "1.0rc1", True),
        ("1.0-1", "1.0.post1", True),
        ("1.0", " 1.0\n", True),
        ("2.1+CU121", "2.1+cu121", True),
        ("2.1", "2.1+cu121", False),  # another build is another version
        ("3.0", "3.0.1", False),
        ("3.0", "3.0rc1", False),
        ("3.0", "1!3.0", False),
        ("3.10", "3.1", False),
        ("trunk", "trunk", True),  # no version, but the same
        ("trunk", "main", False),
        ("3.0", "trunk", False),
        ("3.0", "3.0" + ".0" * 1000, False),  # longer than any version
        ("3" * 5000, "4" * 5000, False),  # nor is such a number made
    ],
)
def test_versions_are_compared_as_pep_440_does(ours: str, theirs: str, same: bool) -> None:
    for one, other in ((ours, theirs), (theirs, ours)):
        assert found(HERE | {"numpy": one}, HERE | {"numpy": other}) == ([] if same else ["numpy"])


@pytest.mark.parametrize(
    ("there", "names"),
    [
        ({}, []),  # an older gateway told none
        (HERE, []),
        (HERE | {"python": "3.11.2"}, []),  # pickles and bytecode agree
        (HERE | {"python": "3.12.1"}, ["python"]),
        (HERE | {"python": "3.1"}, ["python"]),
        (HERE | {"dask": "2026.8.1"}, ["dask"]),
        (HERE | {"msgpack": "0.6.2", "cloudpickle": "2.0.0"}, ["msgpack", "cloudpickle"]),
        (HERE | {"numpy": "1.26.0"}, ["numpy"]),
        (HERE | {"pandas": "2.2.0", "tornado": "6.4"}, []),  # which only the scheduler has
        (HERE | {"xgboost": "2.0"}, ["xgboost"]),  # which the administrator named
        (HERE | {"python": ""}, []),
        (HERE | {"numpy": "1", "distributed": "1", "a": "1"}, ["distributed", "a", "numpy"]),
    ],
)
def test_what_differs_is_found_the_most_important_first(
    there: Mapping[str, str], names: list[str]
) -> None:
    assert found(there) == names


def test_it_is_one_line_that_says_what_to_do() -> None:
    there = HERE | {"python": "3.12.1", "msgpack": "0.6.2", "xgboost": "2.0"}
    differ = versions.differences(there, lambda name: HERE.get(name, ""))
    assert versions.words("etl", differ) == (
        "cluster etl runs other versions than this process: python 3.11.7 here, 3.12.1 there;"
        " msgpack 1.1.0 here, 0.6.2 there; xgboost is not installed here, 2.0 there. What is sent"
        " between them may fail: use Python 3.12 here, and pip install 'msgpack==0.6.2'"
        " 'xgboost==2.0', or ask for a cluster with your versions"
    )
    assert versions.words("etl", []) == ""


def test_a_scheduler_cannot_make_it_long_or_move_the_cursor() -> None:
    there = {f"p{n}": "1" * 1000 for n in range(60)} | {"evil\x1b[2J\n": "\x1b]0;x\x07"}
    told = versions.words("etl", versions.differences(there, lambda _: "0"))
    assert told.isprintable()
    assert len(told) < 2000
    assert "; and 53 more. " in told


def cluster(there: Mapping[str, str]) -> Cluster:
    """Return a cluster whose scheduler told its versions."""
    status = pb.ClusterStatus(versions=there)
    return Cluster.from_proto(pb.Cluster(name="users/alice/clusters/etl", status=status))


def test_it_is_a_warning_of_dasks_own_kind_and_who_agrees_hears_nothing() -> None:
    with pytest.warns(VersionMismatchWarning, match="python .* here, 2.7.18 there"):
        versions.tell(cluster({"python": "2.7.18"}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        versions.tell(cluster(agent.versions()))  # as an agent in this very process tells them
        versions.tell(cluster({}))


def test_the_agent_tells_what_the_gateway_names(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "click" not in agent.versions()
    monkeypatch.setenv("DASKGATEWAY_PACKAGES", "click, no-such-package,,")
    told = agent.versions()
    assert told["click"] == versions.version_here("click")
    assert told["python"] == platform.python_version() == versions.version_here("python")
    assert "no-such-package" not in told
    assert versions.version_here("no-such-package") == ""
