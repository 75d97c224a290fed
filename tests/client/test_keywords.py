"""Keywords and options of a cluster: a name that is neither is refused with what was meant, by
whatever way it was given."""

from __future__ import annotations

import asyncio
import inspect
import json
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import dask.config
import numpy
import pytest

from gateway import AsyncGateway, Gateway, GatewayCluster
from gateway.client.calls import errors
from tests.client.commands import run
from tests.e2e.gateway_process import PASSWORD, USER, GatewayProcess

OPTIONS = (
    "from gateway.options import Float, Mapped, Select\n"
    "c.ClusterConfig.options = [\n"
    "    Select('python_version', ('3.10', '3.11'), '3.10'),\n"
    "    Float('worker_cores', 1.0, minimum=0.1, maximum=8.0, per_group=True),\n"
    "    Mapped('variables'),\n"
    "]"
)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """A gateway with two options."""
    directory: pathlib.Path = tmp_path_factory.mktemp("gateway")
    made = GatewayProcess(directory, OPTIONS)
    try:
        made.start()
        yield made
    finally:
        made.end()


@pytest.fixture(scope="module")
def gateway(served: GatewayProcess) -> Gateway:
    """The gateway as alice calls it."""
    return Gateway(served.address, auth=(USER, PASSWORD))


def submitted(gateway: Gateway, **kwargs: Any) -> None:
    gateway.submit(**kwargs)


def newly(gateway: Gateway, **kwargs: Any) -> None:
    gateway.new_cluster(**kwargs)


def made(gateway: Gateway, **kwargs: Any) -> None:
    GatewayCluster(gateway=gateway, **kwargs)


def awaited(gateway: Gateway, **kwargs: Any) -> None:
    asyncio.run(AsyncGateway.over(gateway.connection).submit(**kwargs))


WAYS = [submitted, newly, made, awaited]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"idle_timeout_s": 60}, "idle_timeout_s is neither .*mean idle_t"),
        ({"n_worker": 2}, "n_worker is neither .*; did you mean n_workers?"),
        ({"num_workers": 2}, "num_workers is neither .*; did you mean n_workers?"),
        ({"worker_core": 2}, "worker_core is neither .*; did you mean worker_cores?"),
        ({"cores": 2}, "cores is neither .*; did you mean worker_cores?"),
        ({"lables": {}}, "lables is neither .*; did you mean labels?"),
        ({"shutdown_on_exit": False}, "shutdown_on_exit is neither .*mean shutdown_on_close?"),
        ({"zzz": 1}, "zzz is neither .*keywords are .*options are python_v"),
        ({"options": {"n_workers": 2}}, "n_workers is a keyword and no option: give it beside"),
        (
            {"options": {"n_worker": 2}},
            "n_worker is no option .*n_workers, which is",
        ),
        ({"options": {"python": "3.10"}}, "python is no option .*mean python_version?"),
        (
            {"worker_groups": {"gpu": {"n_worker": 2}}},
            r"n_worker is no option of this gateway \(in worker group gpu\).*n_workers",
        ),
    ],
    ids=lambda one: str(one)[:30],
)
def test_an_unknown_name_is_refused_with_what_was_meant(
    gateway: Gateway, way: Callable[..., None], given: dict[str, Any], words: str
) -> None:
    before = len(gateway.list_clusters(show_finished=True))
    with pytest.raises(errors.InvalidRequest, match=words) as refused:
        way(gateway, **given)
    assert isinstance(refused.value, ValueError)
    assert isinstance(refused.value, TypeError) == ("neither" in words)
    assert refused.value.violations
    assert len(gateway.list_clusters(show_finished=True)) == before


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_a_number_for_a_text_is_refused_with_the_text(
    gateway: Gateway, way: Callable[..., None]
) -> None:
    with pytest.raises(errors.InvalidRequest, match=r"they are texts: write '3\.10', in quotes"):
        way(gateway, python_version=3.10)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"n_workers": "many"}, "n_workers must be a whole number"),
        ({"n_workers": 1.9}, "n_workers must be a whole number"),
        ({"idle_timeout": "soon"}, "idle_timeout must be a number of seconds or a duration"),
    ],
)
def test_a_wrong_value_is_told_before_anybody_is_asked(
    gateway: Gateway, way: Callable[..., None], given: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        way(gateway, **given)


def test_what_the_configuration_names_is_told_with_its_place(gateway: Gateway) -> None:
    with dask.config.set({"gateway.cluster.options": {"worker_core": 2}}):
        with pytest.raises(errors.InvalidRequest, match=r"in gateway\.cluster\.options in"):
            gateway.submit()
    with dask.config.set({"gateway.cluster.options": {"python_version": 3.10}}):
        with pytest.raises(errors.InvalidRequest, match=r"'3\.10', in quotes .it stands"):
            gateway.submit()


def test_submit_says_that_there_is_nothing_to_close(gateway: Gateway) -> None:
    with pytest.raises(TypeError, match="use new_cluster for shutdown_on_close=True"):
        gateway.submit(shutdown_on_close=True)
    taken = gateway.submit(shutdown_on_close=False, quiet=False, start_timeout="1 minute")
    gateway.stop_cluster(taken.name)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_an_option_that_is_said_twice_is_refused_with_both(
    gateway: Gateway, way: Callable[..., None]
) -> None:
    with pytest.raises(
        ValueError, match=r"^worker_cores is given twice, 2 in options and 3 as a keyword; give it"
    ):
        way(gateway, options={"worker_cores": 2}, worker_cores=3)
    with pytest.raises(ValueError, match=r"^env is given twice, with two values; give it once"):
        way(gateway, options={"env": {"SECRET": "a"}}, env={"SECRET": "b"})


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"A": "b", "LONG": "x" * 200_000}, "^variables: LONG .*at most"),
        ({"A": "b", "LONG": "x" * 9_000}, "^variables: keys must .* values at most 8192; 'LONG'"),
        ({"A": "b", "TRUE": True}, "^variables: must map texts to texts, and 'TRUE' is otherwise"),
    ],
    ids=lambda one: str(one)[:30],
)
def test_what_is_wrong_in_a_mapping_is_told_by_its_key(
    gateway: Gateway, value: dict[str, Any], words: str
) -> None:
    with pytest.raises(errors.InvalidRequest, match=words) as refused:
        gateway.submit(options={"variables": value})
    assert "xxx" not in str(refused.value)


def test_a_form_is_changed_by_keywords_and_the_same_is_no_contradiction(gateway: Gateway) -> None:
    form = gateway.cluster_options()
    form.worker_cores = 2
    for options in (form, {"worker_cores": 3.0}):
        made = gateway.submit(options=options, worker_cores=3)
        gateway.stop_cluster(made.name)
        assert made.spec.options["worker_cores"] == 3


@pytest.mark.parametrize("other", [Gateway.new_cluster, AsyncGateway.submit])
def test_every_way_takes_the_same_keywords(other: Callable[..., Any]) -> None:
    assert inspect.signature(other).parameters == inspect.signature(Gateway.submit).parameters


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            {"name": "My_ETL 2"},
            "^name must be small letters.*not 'My_ETL 2'; did you mean 'my-etl-",
        ),
        ({"name": "2nd"}, "^name must be small letters.*not '2nd'$"),
        ({"backend": "slurm"}, "^backend must be one of local, not 'slurm'"),
        ({"worker_cores": "two"}, "^worker_cores must be a number, not 'two'"),
        ({"worker_cores": 900}, "^worker_cores must be at most .*, not 900"),
        ({"python_version": None}, "^python_version must be one of .*, not None"),
        ({"maximum": 4}, "maximum is neither .*; did you mean n_workers?"),
        ({"quiet": "maybe"}, "^quiet must be true or false, not 'maybe'"),
    ],
    ids=lambda one: str(one)[:30],
)
def test_a_wrong_value_is_told_with_its_name_as_it_was_given(
    gateway: Gateway, way: Callable[..., None], given: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        way(gateway, **given)


def test_a_text_is_read_by_the_kind_of_its_option(gateway: Gateway) -> None:
    made = gateway.submit(
        worker_cores="0.5", worker_groups={"gpu": {"n_workers": "0", "worker_cores": "1"}}
    )
    gateway.stop_cluster(made.id)
    assert made.spec.options["worker_cores"] == 0.5
    assert made.spec.worker_groups["gpu"].options["worker_cores"] == 1


def test_numbers_are_read_alike_everywhere(gateway: Gateway) -> None:
    with GatewayCluster(
        gateway=gateway,
        n_workers="0",  # type: ignore[arg-type]
        worker_cores=numpy.float32(0.5),
        worker_groups={"gpu": "0"},  # type: ignore[dict-item]
    ) as cluster:
        with pytest.raises(ValueError, match="the number of workers must be a whole number"):
            cluster.scale(1.9)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=r"no worker group 'defualt'; did you mean default\?"):
            cluster.scale(1, group="defualt")
        with pytest.raises(ValueError, match=r"no worker group 'fast'\. It has default, gpu;"):
            cluster.adapt(0, 1, group="fast")
        with pytest.raises(ValueError, match="n_workers must be a whole number"):
            cluster.wait_for_workers(1.5)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="timeout must be"):
            cluster.wait_for_workers(1, timeout="soon")
        name = cluster.cluster_id
        with pytest.raises(ValueError, match="no worker group 'gpuu'; did you mean gpu"):
            gateway.scale_cluster(name, 1, group="gpuu")
        with pytest.raises(ValueError, match="no worker group 'gpuu'; did you mean gpu"):
            gateway.adapt_cluster(name, 0, 1, group="gpuu")
        assert set(gateway.get_cluster(name).spec.worker_groups) == {"default", "gpu"}
        cluster.scale("0", group="gpu")  # type: ignore[arg-type]
        gateway.scale_cluster(name, numpy.int64(0), group="gpu")  # type: ignore[arg-type]


def test_a_word_of_the_command_line_is_read_by_the_kind_of_its_option(
    served: GatewayProcess,
) -> None:
    words = ["clusters", "create", "typed", "--no-wait", "--output", "json"]
    ended = run(
        served.address,
        *words,
        *("-o", "python_version=3.10", "-o", "worker-cores=0.5", "-n", "0-2"),
        *("--idle-timeout", "1 h 30 min", "--max-lifetime", "never", "--label", "year=2026"),
    )
    assert ended.code == 0, ended.err
    spec = json.loads(ended.out)["spec"]
    assert spec["options"] == {"python_version": "3.10", "worker_cores": 0.5, "variables": {}}
    assert spec["workerGroups"]["default"] == {"adaptive": {"maximum": 2}}
    assert spec["lifecycle"]["idleTimeout"] == "5400s"
    assert spec["lifecycle"]["maxLifetime"] == "0s"
    assert json.loads(ended.out)["labels"] == {"year": "2026"}
    assert run(served.address, "clusters", "stop", "typed").code == 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["-o", "python_version=3.1"], "must be one of 3.10, 3.11, not '3.1'"),
        (["-o", "python_versoin=3.10"], "no option python_versoin; did you mean python_version?"),
        (["-o", "zzz=3"], "no option zzz; see `daskgateway options`"),
        (["-o", "worker_cores=two"], "must be a number, not 'two'"),
        (["-o", "worker_cores"], "options look like name=value"),
        (["-o", "worker_cores=1", "-o", "worker-cores=2"], "worker_cores is given twice"),
        (["-n", "1.9"], "--workers must be a whole number"),
        (["-n", "3-1"], "minimum <= maximum"),
        (["--idle-timeout", "soon"], "--idle-timeout must be a number of seconds or a duration"),
        (["--timeout", "soon"], "--timeout must be a number of seconds or a duration"),
        (["--label", "year"], "labels look like name=text"),
    ],
    ids=lambda one: " ".join(one) if isinstance(one, list) else "",
)
def test_a_wrong_word_of_the_command_line_is_told_in_one_line(
    served: GatewayProcess, words: list[str], told: str
) -> None:
    ended = run(served.address, "clusters", "create", "wrong", "--no-wait", *words)
    assert ended.code == 2
    assert told in ended.err
    assert ended.out == ""


def test_a_misspelt_group_of_the_command_line_makes_none(served: GatewayProcess) -> None:
    run(served.address, "clusters", "create", "grouped", "--no-wait")
    for words in (["scale", "grouped", "1"], ["adapt", "grouped", "--maximum", "1"]):
        ended = run(served.address, "clusters", *words, "--group", "defualt")
        assert (ended.code, ended.out) == (2, "")
        assert "no worker group 'defualt'; did you mean default?" in ended.err
    ended = run(served.address, "clusters", "create", "My ETL", "--no-wait")
    assert ended.err.startswith("daskgateway: name must be small letters")
    run(served.address, "clusters", "stop", "grouped")
