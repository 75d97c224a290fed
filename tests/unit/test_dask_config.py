"""Whatever YAML can say arrives in schedulers and workers to the letter, and what users say is
merged into what the administrator says."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import dask.config
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from traitlets import TraitError

from gateway import daskconfig
from gateway.backends.contract import Launch, Resources
from gateway.backends.launch import (
    AgentEndpoint,
    LaunchCredentials,
    scheduler_launch,
    worker_launch,
)
from gateway.server.boot.cluster_config import ClusterConfig
from gateway.server.core.admission import GroupWish, Offer, Wish, admit
from gateway.server.core.errors import FieldInvalid
from gateway.server.core.model import Spec
from gateway.server.core.options import Mapped

UID = "c" + "a" * 20


def launches(**settings: object) -> tuple[Launch, Launch]:
    """Return the launches of a scheduler and of a worker."""
    common: dict[str, Any] = {
        "uid": UID,
        "user": "alice",
        "settings": settings,
        "resources": Resources(),
        "credentials": LaunchCredentials(b"ca", b"certificate", b"key", "token"),
    }
    return (
        scheduler_launch(**common, agent=AgentEndpoint("https://127.0.0.1:1", b"ca")),
        worker_launch(**common, name="default-0", scheduler_address="tls://127.0.0.1:1"),
    )


def read_by(launch: Launch, key: str) -> object:
    """Return what Dask reads there."""
    return dask.config.get(key, config=dask.config.collect_env(dict(launch.env)))


def offer(
    *fields: Mapped,
    admins: Mapping[str, object] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Offer:
    """Return an offer with the administrator's own configuration of Dask."""
    settings = {"dask_config": admins or {}, "environment": environment or {}}
    return Offer(("local",), fields, settings)


TEXTS, STRUCTURED = (
    Mapped("dask_config", structured=wide, per_group=True) for wide in (False, True)
)
VARIABLES = Mapped("environment")


def refused(wish: Wish, of: Offer) -> str:
    """Return what is said against a wish."""
    with pytest.raises(FieldInvalid) as caught:
        admit(wish, of)
    (violation,) = caught.value.violations
    return f"{violation.field}: {violation.description}"


YAML = """
distributed:
  worker:
    resources: {GPU: 1, "Big.Mem": 2.5, my_licence: 1}
    preload: [a.py, b.py]
    preload-argv: [[], ["--x", "1"]]
    memory: {target: false, spill: null, pause: 0.8}
  scheduler:
    allowed-failures: 10
    work-stealing: true
    worker-saturation: 1.1
  admin: {log-format: "%(asctime)s - true", "Event-Loop": "no"}
jobqueue:
  CamelCase: {"Key With Spaces": "42", x: "null", empty: {}, none: []}
"""


def test_what_yaml_says_arrives_to_the_letter() -> None:
    """`worker.resources.GPU` became `gpu`; `{"x": true}` became a text."""
    said = yaml.safe_load(YAML)
    for launch in launches(dask_config=said):
        told = dask.config.collect_env(dict(launch.env))
        del (
            told["distributed"]["comm"],
            told["temporary_directory"],
            told["internal_inherit_config"],
        )
        assert told == said


def test_a_real_process_reads_it_so_too() -> None:
    _, worker = launches(dask_config={"distributed.worker.resources.GPU": 2})
    code = "import dask, distributed; print(dask.config.get('distributed.worker.resources'))"
    env = {"PATH": os.environ["PATH"], **worker.env}
    answer = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "{'GPU': 2}"


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text("aBc-_. ", min_size=1), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(plain)
def test_any_value_arrives_to_the_letter(value: object) -> None:
    assert daskconfig.complaint({"jobqueue.X.y": value}) == ""
    for launch in launches(dask_config={"jobqueue.X": {"y": value}}):
        assert dask.config.collect_env(dict(launch.env))["jobqueue"]["X"]["y"] == value


def test_dotted_and_nested_names_are_the_same_at_the_top_alone() -> None:
    dotted = {"distributed.worker.resources": {"a.b": 1}, "distributed.worker.resources.C": 2}
    nested = {"distributed": {"worker": {"resources": {"a.b": 1, "C": 2}}}}
    assert daskconfig.expanded(dotted) == daskconfig.expanded(nested) == nested


def test_users_is_merged_into_the_administrators() -> None:
    of = offer(
        STRUCTURED, admins={"distributed.worker": {"resources": {"FOO": 1}, "a-b": 1, "c": 1}}
    )
    wish = {"distributed": {"worker": {"resources": {"GPU": 2}, "a_b": 3}}}
    spec = admit(Wish(options={"dask_config": wish}), of)
    for launch in launches(**spec.settings):
        assert read_by(launch, "distributed.worker.resources") == {"FOO": 1, "GPU": 2}
        assert read_by(launch, "distributed.worker.a-b") == 3
        assert read_by(launch, "distributed.worker.c") == 1


def test_who_says_nothing_gets_the_administrators() -> None:
    spec = admit(Wish(), offer(STRUCTURED, admins={"distributed.worker.resources.GPU": 1}))
    assert read_by(launches(**spec.settings)[1], "distributed.worker.resources") == {"GPU": 1}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("1.5", 1.5),
        ("False", False),
        ("no", False),
        ("null", None),
        ("", None),
        ("'1'", "1"),
        ("60s", "60s"),
        ("{GPU: 1, b: [true, {c: null}]}", {"GPU": 1, "b": [True, {"c": None}]}),
        ("[1, two]", [1, "two"]),
    ],
)
def test_texts_of_users_are_read_as_yaml(text: str, value: object) -> None:
    """`"False"` was a text, which is true."""
    spec = admit(Wish(options={"dask_config": {"jobqueue.x.Y": text}}), offer(TEXTS))
    for launch in launches(**spec.settings):
        assert dask.config.collect_env(dict(launch.env))["jobqueue"]["x"]["Y"] == value


def test_texts_in_a_structured_option_stay_texts_and_whole_numbers_are_whole() -> None:
    wish = {"jobqueue": {"text": "1", "many": 3.0, "list": [1.0, 1.5]}}
    spec = admit(Wish(options={"dask_config": wish}), offer(STRUCTURED))
    told = dask.config.collect_env(dict(launches(**spec.settings)[0].env))["jobqueue"]
    assert told == {"text": "1", "many": 3, "list": [1, 1.5]}
    assert isinstance(told["many"], int)


def test_a_group_has_its_own() -> None:
    of = offer(STRUCTURED, admins={"distributed.worker.resources.FOO": 1})
    gpu = GroupWish({"dask_config": {"distributed.worker.resources.GPU": 1}})
    spec: Spec = admit(Wish(groups={"gpu": gpu}), of)
    _, worker = launches(**spec.groups["gpu"].settings)
    assert read_by(worker, "distributed.worker.resources") == {"FOO": 1, "GPU": 1}
    _, worker = launches(**spec.groups["default"].settings)
    assert read_by(worker, "distributed.worker.resources") == {"FOO": 1}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{GPU: 1", "is no YAML"),
        ("2024-01-01", "not date; quote it"),
        (".inf", "finite"),
        ("{1: a}", "1 must be a text"),
        ("!!python/object/apply:os.system [true]", "is no YAML"),
        ("!!set {a, b}", "not set"),
        ("x" * 1025, "at most 1024 characters"),
        (
            "[&a [x,x,x,x,x,x,x,x,x], &b [*a,*a,*a,*a,*a,*a,*a,*a,*a],"
            " &c [*b,*b,*b,*b,*b,*b,*b,*b,*b], &d [*c,*c,*c,*c,*c,*c,*c,*c,*c],"
            " [*d,*d,*d,*d,*d,*d,*d,*d,*d]]",
            "at most 10000 values",
        ),
    ],
)
def test_what_cannot_arrive_is_refused_with_its_field(text: str, words: str) -> None:
    told = refused(Wish(options={"dask_config": {"jobqueue.x": text}}), offer(TEXTS))
    assert told.startswith("spec.options.dask_config: ")
    assert words in told


@pytest.mark.parametrize("option", [TEXTS, STRUCTURED])
@pytest.mark.parametrize("key", ["temporary-directory", "distributed.comm.tls.ca-file"])
def test_what_is_the_gateways_is_refused_aloud(option: Mapped, key: str) -> None:
    told = refused(Wish(options={"dask_config": {key: "/evil"}}), offer(option))
    assert "is set by the gateway itself" in told


def test_all_of_it_together_fits_into_a_variable() -> None:
    many = {"jobqueue.x": ["x" * 1000] * 80}
    told = refused(Wish(options={"dask_config": many}), replace_most(offer(STRUCTURED)))
    assert "is too large" in told


def replace_most(of: Offer) -> Offer:
    """Return the offer with more room for options."""
    from dataclasses import replace

    return replace(of, max_options_bytes=192 * 1024)


@pytest.mark.parametrize("value", [{"a": {1: 2}}, {"a": float("inf")}, {"a": {"b": object()}}])
def test_an_administrator_is_told_what_cannot_arrive(value: dict[str, object]) -> None:
    with pytest.raises(TraitError, match="must"):
        ClusterConfig(dask_config=value)


# Variables


def test_a_users_variable_holds_over_the_administrators_configuration() -> None:
    of = offer(VARIABLES, admins={"distributed.scheduler": {"work-stealing": True, "x": 1}})
    wish = Wish(options={"environment": {"DASK_DISTRIBUTED__SCHEDULER__WORK_STEALING": "False"}})
    for launch in launches(**admit(wish, of).settings):
        assert read_by(launch, "distributed.scheduler.work-stealing") is False
        assert read_by(launch, "distributed.scheduler.x") == 1


@pytest.mark.parametrize(
    "name", ["DASK_DISTRIBUTED__WORKER__MEMORY__TARGET", "dask_distributed__worker__memory"]
)
def test_a_users_configuration_holds_over_the_administrators_variable(name: str) -> None:
    of = offer(STRUCTURED, environment={name.replace("dask_", "DASK_"): "0.5", "TZ": "UTC"})
    wish = Wish(options={"dask_config": {"distributed.worker.memory.target": 0.7}})
    for launch in launches(**admit(wish, of).settings):
        assert read_by(launch, "distributed.worker.memory.target") == 0.7
        assert launch.env["TZ"] == "UTC"


@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"])
def test_threads_that_a_user_sets_are_those_of_scheduler_and_workers(name: str) -> None:
    """4 of the user were 1 on workers."""
    spec = admit(
        Wish(options={"environment": {name: "4"}}), offer(VARIABLES, environment={name: "2"})
    )
    for launch in launches(**spec.settings, worker_nanny=True):
        assert launch.env[name] == "4"


@pytest.mark.parametrize("part", ["pre-spawn-environ", "pre_spawn_environ", "environ"])
def test_variables_that_dasks_configuration_has_for_workers_hold(part: str) -> None:
    """Without a nanny nobody set them, and ours, by default, stood in their place."""
    config = {"distributed.nanny": {part: {"OMP_NUM_THREADS": 8, "MKL_NUM_THREADS": None}}}
    spec = admit(Wish(options={"dask_config": config}), offer(STRUCTURED))
    scheduler, worker = launches(**spec.settings, worker_nanny=False)
    assert worker.env["OMP_NUM_THREADS"] == "8"
    assert "MKL_NUM_THREADS" not in worker.env
    assert worker.env["OPENBLAS_NUM_THREADS"] == "1"
    assert "OMP_NUM_THREADS" not in scheduler.env
    _, nannied = launches(**spec.settings, worker_nanny=True)
    told = read_by(nannied, "distributed.nanny")
    assert isinstance(told, dict)
    assert told[part]["OMP_NUM_THREADS"] == 8  # the nanny sets it
    assert "OMP_NUM_THREADS" not in nannied.env  # which it would take for somebody's wish


def test_a_users_variable_holds_over_dasks_configuration_of_workers() -> None:
    config = {"distributed.nanny.pre-spawn-environ": {"OMP_NUM_THREADS": 8}}
    of = offer(VARIABLES, admins=config)
    spec = admit(Wish(options={"environment": {"OMP_NUM_THREADS": "4"}}), of)
    assert [launch.env["OMP_NUM_THREADS"] for launch in launches(**spec.settings)] == ["4", "4"]
