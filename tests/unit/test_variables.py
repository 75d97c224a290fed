"""Variables that are the gateway's own: refused where they are wished, and never in effect."""

from __future__ import annotations

import importlib

import dask.config
import pytest
from traitlets import TraitError

from gateway.backends.contract import DIRECTORY, Launch, Resources
from gateway.backends.launch import (
    AgentEndpoint,
    LaunchCredentials,
    scheduler_launch,
    worker_launch,
)
from gateway.server.boot.cluster_config import ClusterConfig
from gateway.server.core.admission import GroupWish, Offer, Wish, admit
from gateway.server.core.errors import FieldInvalid
from gateway.server.core.options import Mapped
from gateway.variables import MAX_NAMED, SHELLS, complaint, why_not

UID = "c" + "a" * 20
EVIL = "/evil"
OWN = [
    "dgw_directory",
    "DGW_DIRECTORY",
    "dgw_child",
    "DASKGATEWAY_UID",
    "daskgateway_agent_address",
    "LD_PRELOAD",
    "LD_LIBRARY_PATH",
    "PYTHONSTARTUP",
    "PYTHONUNBUFFERED",
    "SPT_NOENV",
    "DASK_TEMPORARY_DIRECTORY",
    "DASK_temporary_directory",
    "DASK_Temporary_Directory__x",
    "DASK_DISTRIBUTED",
    "DASK_distributed__comm",
    "DASK_DISTRIBUTED__COMM__TLS",
    "DASK_DISTRIBUTED__COMM__TLS__CA_FILE",
    "DASK_DISTRIBUTED__COMM__TLS__SCHEDULER",
    "DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION",
    "DASK_DISTRIBUTED__COMM__require_encryption",
    "DASK_INTERNAL_INHERIT_CONFIG",
    *sorted(SHELLS),
]
NO_NAMES = [
    "",
    "1",
    "A B",
    "A-B",
    "DASK_TEMPORARY-DIRECTORY",
    "DASK_DISTRIBUTED.COMM.TLS.CA_FILE",
    "A=B",
    "A\n",
    "ä",
    "$(id)",
    "A\0",
]
FREE = [
    *(
        "PATH",
        "HOME",
        "IFS",
        "BASH_ENV",
        "PYTHONPATH",
        "TMPDIR",
        "OMP_NUM_THREADS",
        "_",
        "a",
        "A1",
        "LANG",
    ),
    *(
        "DASK_DISTRIBUTED__WORKER__MEMORY__SPILL",
        "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT",
        "DASK_ARRAY__CHUNK_SIZE",
        "DASK_TEMPORARY",
    ),
]


@pytest.mark.parametrize("name", OWN)
def test_what_is_the_gateways_or_the_shells_own_cannot_be_set(name: str) -> None:
    assert why_not(name)


@pytest.mark.parametrize("name", NO_NAMES)
def test_what_is_no_name_of_a_variable_cannot_be_set(name: str) -> None:
    assert "is no name of a variable" in why_not(name)


@pytest.mark.parametrize("name", FREE)
def test_all_else_is_the_users(name: str) -> None:
    assert why_not(name) == ""


def test_a_complaint_names_a_few_and_says_that_there_are_more() -> None:
    assert complaint(["PATH"]) == ""
    told = complaint(["dgw_x", "PATH", "LD_" + "X" * 500, "A B", "UID", "1"])
    assert told.startswith("'dgw_x' is set by the gateway itself; 'LD_XXX")
    assert told.endswith(f"; and {5 - MAX_NAMED} more")
    assert len(told) < 400


def offer() -> Offer:
    """Return what a user may have: the variables of the default configuration."""
    settings: dict[str, object] = {
        "environment": {"SITE": "x"},
        "worker_memory": 0,
        "scheduler_memory": 0,
    }
    return Offer(("local",), (Mapped("environment", per_group=True),), settings)


@pytest.mark.parametrize("name", OWN)
def test_a_wish_for_such_a_variable_is_refused_with_its_field(name: str) -> None:
    with pytest.raises(FieldInvalid) as of_cluster:
        admit(Wish(options={"environment": {name: EVIL}}), offer())
    with pytest.raises(FieldInvalid) as of_group:
        admit(Wish(groups={"gpu": GroupWish({"environment": {name: EVIL}})}), offer())
    (violation,), (other,) = of_cluster.value.violations, of_group.value.violations
    assert (violation.field, other.field) == (
        "spec.options.environment",
        "spec.worker_groups.gpu.options.environment",
    )
    assert repr(name) in violation.description


def test_what_apply_options_makes_of_options_is_looked_at_too() -> None:
    from dataclasses import replace

    made = replace(offer(), apply=lambda _: {"environment": {"dgw_directory": EVIL}})
    with pytest.raises(FieldInvalid):
        admit(Wish(), made)


@pytest.mark.parametrize(
    ("trait", "name"),
    [("environment", name) for name in OWN] + [("dask_config", "distributed.comm.tls.ca-file")],
)
def test_an_administrator_is_told_at_the_start(trait: str, name: str) -> None:
    with pytest.raises(
        TraitError, match=r"would load code|is set by the gateway itself|is the shell's own"
    ):
        ClusterConfig(**{trait: {name: EVIL}})


@pytest.mark.parametrize(
    "config",
    [
        {"temporary-directory": "/evil"},
        {"temporary_directory": "/evil"},
        {"distributed.comm.require-encryption": False},
        {"distributed.comm": {"require_encryption": False}},
        {"distributed": {"comm": {"tls": {"ca-file": "/evil"}}}},
        {"distributed.comm.tls.scheduler.cert": "/evil"},
        {"distributed.comm": {"require-encryption": True, "require_encryption": False}},
        {"distributed.comm": None},
        {"distributed": "none"},
    ],
)
def test_keys_of_dask_that_are_ours_are_not_for_the_administrator_either(
    config: dict[str, object],
) -> None:
    with pytest.raises(TraitError, match=r"the gateway (itself|sets itself)"):
        ClusterConfig(dask_config=config)
    for launch in launches(dask_config=config):  # as an older version may have admitted it
        told = dask.config.collect_env(dict(launch.env))
        assert dask.config.get("temporary-directory", config=told) == f"{DIRECTORY}/scratch"
        assert dask.config.get("distributed.comm.require-encryption", config=told) is True
        ca = dask.config.get("distributed.comm.tls.ca-file", config=told)
        assert ca == f"{DIRECTORY}/ca.pem"


def test_what_stands_beside_ours_is_the_administrators() -> None:
    config = {"distributed.comm": {"timeouts": {"connect": "60s"}}, "distributed": {}}
    assert ClusterConfig(dask_config=config).dask_config == config
    assert ClusterConfig(dask_config={"distributed.worker.memory.target": 0.5}).dask_config


def launches(**settings: object) -> tuple[Launch, Launch]:
    """Return the launches of a scheduler and of a worker."""
    credentials = LaunchCredentials(b"ca", b"certificate", b"key", "token")
    common = {
        "uid": UID,
        "user": "alice",
        "settings": settings,
        "resources": Resources(),
        "credentials": credentials,
    }
    return (
        scheduler_launch(**common, agent=AgentEndpoint("https://127.0.0.1:1", b"ca")),  # type: ignore[arg-type]
        worker_launch(**common, name="default-0", scheduler_address="tls://127.0.0.1:1"),  # type: ignore[arg-type]
    )


HOSTILE = {
    **dict.fromkeys(OWN, EVIL),
    "DASK_DISTRIBUTED": "{'comm': {'require-encryption': False, 'tls': {'ca-file': '/evil'}}}",
    "DASK_distributed": "{'comm': {'require-encryption': False, 'tls': {'ca-file': '/evil'}}}",
    "DASK_DISTRIBUTED__COMM": "{'require-encryption': False, 'tls': {'ca-file': '/evil'}}",
    "DASK_DISTRIBUTED.COMM.TLS.CA_FILE": EVIL,
    "DASK_TEMPORARY-DIRECTORY": EVIL,
    "DASK_INTERNAL_INHERIT_CONFIG": dask.config.serialize({"temporary-directory": EVIL}),
}


@pytest.mark.parametrize("where", ["environment", "dask_config"])
def test_whatever_was_admitted_ours_is_in_effect(where: str) -> None:
    wished: dict[str, object] = dict(HOSTILE)
    if where == "dask_config":
        wished = {
            "temporary-directory": EVIL,
            "distributed": {"comm": {}},
            "distributed.comm": {"tls": {}},
            "distributed.comm.tls": {"ca-file": EVIL},
        }
    for launch in launches(**{where: wished}):
        config = dask.config.collect_env(dict(launch.env))
        assert dask.config.get("temporary-directory", config=config) == f"{DIRECTORY}/scratch"
        assert dask.config.get("distributed.comm.require-encryption", config=config) is True
        assert (
            dask.config.get("distributed.comm.tls.ca-file", config=config) == f"{DIRECTORY}/ca.pem"
        )
        assert EVIL not in launch.env.values()
        assert launch.env["DASKGATEWAY_UID"] == UID


def test_what_is_only_a_default_is_the_users_to_change() -> None:
    _, worker = launches(environment={"OMP_NUM_THREADS": "4"})
    assert (worker.env["OMP_NUM_THREADS"], worker.env["MKL_NUM_THREADS"]) == ("4", "1")
    assert list(worker.argv[worker.argv.index("--local-directory") :][:2]) == [
        "--local-directory",
        f"{DIRECTORY}/scratch",
    ]


PRE_SPAWN = "distributed.nanny.pre-spawn-environ"


def test_a_worker_without_a_nanny_has_what_a_nanny_would_set_for_it_and_else_it_is_dasks() -> None:
    importlib.import_module("distributed")  # which brings its configuration
    scheduler, worker = launches(worker_nanny=False)
    # at least Dask's own, in whatever version
    expected = {name: str(value) for name, value in dask.config.get(PRE_SPAWN).items()}
    assert {name: worker.env.get(name) for name in expected} == expected
    assert "--no-nanny" in worker.argv
    assert "DASKGATEWAY_WITHOUT_NANNY" in scheduler.env
    scheduler, worker = launches(worker_nanny=True)
    assert not worker.env.keys() & expected.keys()  # or what users tell Dask would not hold
    assert "--nanny" in worker.argv
    assert "DASKGATEWAY_WITHOUT_NANNY" not in scheduler.env


def test_what_users_tell_dask_of_nannies_reaches_the_worker() -> None:
    wished = {PRE_SPAWN: {"OMP_NUM_THREADS": 4}}
    _, worker = launches(worker_nanny=True, dask_config=wished)
    config = dask.config.collect_env(dict(worker.env))
    assert dask.config.get(PRE_SPAWN, config=config) == {"OMP_NUM_THREADS": 4}
