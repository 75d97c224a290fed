"""GPUs and named resources in the words of batch systems, and to Dask."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import dask.config
import pytest

from gateway.backends.base import BaseBackend
from gateway.backends.batch.system import Order, SubmitRefused
from gateway.backends.contract import Launch, Resources, Role
from gateway.backends.kubernetes import manifests
from gateway.backends.kubernetes.settings import KubernetesSettings
from gateway.backends.launch import LaunchCredentials, worker_launch
from gateway.backends.local.backend import LocalBackend
from gateway.backends.named import counts, whole
from gateway.backends.noop import NoopBackend
from gateway.backends.pbs.backend import PbsBackend
from gateway.backends.pbs.commands import Dialect, qsub
from gateway.backends.slurm import words as slurm
from gateway.backends.slurm.backend import SlurmBackend
from tests.unit.slurm_told import NAME

BOTH = Resources(2.0, 2**30, 2, {"nvme": 1.5, "fpga": 1.0})
NOTHING = Resources(2.0, 2**30)


def order(resources: Resources, **settings: object) -> Order:
    """Return a submission of a worker."""
    return Order(NAME, "dgw", Role.WORKER, "", (), resources, settings, "alice")


def gres(resources: Resources, **settings: object) -> list[str]:
    """Return what sbatch is told of generic resources."""
    said = slurm.submit_words("sbatch", order(resources, **settings))
    return [word for word in said if "gres" in word]


def asked(resources: Resources, dialect: Dialect = Dialect.PBS, **settings: Any) -> str:
    """Return what qsub is told after -l, in one line."""
    said = qsub(order(resources, **settings), dialect)
    return " ".join(said[at + 1] for at, word in enumerate(said) if word == "-l")


# Of all


def test_parts_of_one_are_never_given_and_never_less_than_asked_for() -> None:
    assert counts(BOTH, "gpu") == {"gpu": 2, "fpga": 1, "nvme": 2}
    assert counts(NOTHING, "gpu") == {}
    assert whole(BOTH) == replace(BOTH, named={"nvme": 2.0, "fpga": 1.0})
    assert whole(Resources(named={"a": 0.1 * 3 * 10})).named == {"a": 3.0}  # not 4
    for backend in (SlurmBackend(), PbsBackend()):
        assert backend.allots(BOTH) == whole(BOTH)


def test_a_backend_that_does_not_say_how_it_gives_gpus_gives_none() -> None:
    class Own(BaseBackend):
        name = "own"

    assert Own().objection(NOTHING, {}) == ""
    assert Own().objection(Resources(gpus=1), {}) == "the backend own gives no GPUs"
    assert Own().objection(Resources(named={"b": 1, "a": 1}), {}) == "the backend own gives no a, b"
    assert NoopBackend().objection(BOTH, {}) == ""


def test_local_says_that_it_hands_out_none() -> None:
    local = LocalBackend()
    assert local.objection(NOTHING, {}) == ""
    assert local.objection(BOTH, {}).startswith(
        "the backend local hands out no GPUs: its processes"
    )
    assert "hands out no fpga: " in local.objection(Resources(named={"fpga": 1}), {})


# Slurm


def test_slurm_is_asked_for_generic_resources() -> None:
    assert gres(NOTHING) == []
    assert gres(Resources(gpus=1)) == ["--gres=gpu:1"]
    assert gres(BOTH) == ["--gres=gpu:2,fpga:1,nvme:2"]
    assert gres(BOTH, gpu_name="gpu:a100") == ["--gres=gpu:a100:2,fpga:1,nvme:2"]
    assert gres(Resources(gpus=1), gres="nvme:1") == ["--gres=nvme:1,gpu:1"]
    assert gres(NOTHING, gres="gpu:1", gpu_name="gpu") == ["--gres=gpu:1"]
    body: Any = slurm.submit_body(order(BOTH, gpu_name="gpu:a100"), "v0.0.38", "", {})
    assert body["job"]["gres"] == "gpu:a100:2,fpga:1,nvme:2"


@pytest.mark.parametrize(
    ("resources", "settings", "words"),
    [
        (Resources(gpus=1), {"gres": "gpu:a100:1"}, "the setting gres asks for gpu already"),
        (
            Resources(named={"nvme": 1}),
            {"gres": "x:1,nvme"},
            "the setting gres asks for nvme already",
        ),
        (
            Resources(named={"gpu:a100": 1}),
            {"gpu_name": "gpu:v100"},
            "'gpu:a100': GPUs are asked for by worker_gpus or scheduler_gpus",
        ),
        (
            Resources(named={"example.com/fpga": 1}),
            {},
            "'example.com/fpga' is no resource's name here; one looks like fpga or fpga:u280",
        ),
        (Resources(named={"fpga:u280": 1}), {}, ""),
    ],
)
def test_what_slurm_cannot_be_asked_for_is_refused_before_and_in_the_submission(
    resources: Resources, settings: dict[str, object], words: str
) -> None:
    assert SlurmBackend().objection(resources, settings) == words
    if words:
        with pytest.raises(SubmitRefused) as caught:
            gres(resources, **settings)
        assert str(caught.value) == words
        assert caught.value.permanent


@pytest.mark.parametrize("name", ["", "gpu a", "gpu:", ":gpu", "gpu=1", "gpu,x", "9"])
def test_a_name_of_gpus_that_slurm_would_not_take_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is no generic resource; one looks like gpu or gpu:a100"):
        SlurmBackend().checked_setting("gpu_name", name)
    assert SlurmBackend().checked_setting("gpu_name", "gpu:a100-80") == "gpu:a100-80"


# PBS


def test_pbs_is_asked_for_parts_of_the_chunk() -> None:
    assert asked(NOTHING) == "select=1:ncpus=2:mem=1024mb"
    assert asked(BOTH) == "select=1:ncpus=2:mem=1024mb:ngpus=2:fpga=1:nvme=2"
    assert asked(Resources(1.0, 0, 1), gpu_name="nvgpus") == "select=1:ncpus=1:nvgpus=1"
    own = ["select=1:ncpus={cores}{resources}", "place=excl"]
    assert asked(BOTH, resource_list=own) == "select=1:ncpus=2:ngpus=2:fpga=1:nvme=2 place=excl"
    by_number = ["select=1:ngpus={gpus}"]
    assert asked(Resources(gpus=3), resource_list=by_number) == "select=1:ngpus=3"
    assert asked(NOTHING, resource_list=by_number) == "select=1:ngpus=0"
    assert asked(Resources(2.0, 0, 1), Dialect.TORQUE) == "nodes=1:ppn=2:gpus=1"


@pytest.mark.parametrize(
    ("resources", "settings", "words"),
    [
        (
            Resources(gpus=1),
            {"resource_list": ["select=1"]},
            "c.PbsBackend.resource_list has no {resources} or {gpus}, where they would stand",
        ),
        (
            Resources(named={"fpga": 1}),
            {"resource_list": ["select=1:ngpus={gpus}"]},
            "c.PbsBackend.resource_list has no {resources}, where they would stand",
        ),
        (Resources(named={"ncpus": 1}), {}, "'ncpus' is asked for by another option"),
        (Resources(named={"MEM": 1}), {}, "'MEM' is asked for by another option"),
        (
            Resources(named={"ngpus": 1}),
            {},
            "'ngpus': GPUs are asked for by worker_gpus or scheduler_gpus",
        ),
        (
            Resources(named={"ngpus": 1}),
            {"gpu_name": "x"},
            "'ngpus' is asked for by another option",
        ),
        (
            Resources(named={"a:b": 1}),
            {},
            "'a:b' is no resource's name here; one looks like fpga",
        ),
        (NOTHING, {"resource_list": ["select=1"]}, ""),
        (Resources(named={"fpga": 1}), {}, ""),
    ],
)
def test_what_pbs_cannot_be_asked_for_is_refused_before_and_in_the_submission(
    resources: Resources, settings: dict[str, Any], words: str
) -> None:
    assert PbsBackend().objection(resources, settings) == words
    if words:
        with pytest.raises(SubmitRefused) as caught:
            asked(resources, **settings)
        assert str(caught.value) == words


def test_torque_has_no_other_resources() -> None:
    words = "Torque's nodes take no amounts of other resources than cores, memory and GPUs"
    assert PbsBackend(dialect="torque").objection(Resources(named={"fpga": 1}), {}) == words
    assert PbsBackend(dialect="torque").objection(Resources(gpus=1), {}) == ""
    with pytest.raises(ValueError, match="is no resource; one looks like ngpus"):
        PbsBackend().checked_setting("gpu_name", "a:b")
    assert PbsBackend().checked_setting("gpu_name", "") == ""


# Kubernetes


def test_kubernetes_is_asked_for_extended_resources() -> None:
    room = KubernetesSettings()
    both = Resources(1.0, 2**30, 2, {"example.com/fpga": 1.0})
    asked = manifests.resources(room.allots(both), {})
    assert asked["limits"] == asked["requests"]
    assert asked["limits"] == {
        "cpu": "1000m",
        "memory": str(2**30),
        "nvidia.com/gpu": "2",
        "example.com/fpga": "1",
    }
    shared = manifests.resources(Resources(gpus=1), {"gpu_name": "nvidia.com/mig-1g.10gb"})
    assert shared["limits"]["nvidia.com/mig-1g.10gb"] == "1"
    assert "nvidia.com/gpu" not in shared["limits"]
    assert set(manifests.resources(NOTHING, {})["limits"]) == {"cpu", "memory"}
    assert room.allots(BOTH).named == {"nvme": 2.0, "fpga": 1.0}
    assert room.allots(BOTH).gpus == 2


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("example.com/fpga", ""),
        ("fpga", "'fpga' is no resource's name here; one looks like example.com/fpga"),
        ("hugepages-2Mi", "'hugepages-2Mi' is no resource's name here; one looks like"),
        ("a/b/c", "'a/b/c' is no resource's name here; one looks like example.com/fpga"),
        ("nvidia.com/gpu", "'nvidia.com/gpu': GPUs are asked for by worker_gpus"),
        ("amd.com/gpu", "'amd.com/gpu' is asked for by another option"),
    ],
)
def test_what_is_no_extended_resource_is_refused(name: str, words: str) -> None:
    found = KubernetesSettings().objection(Resources(named={name: 1.0}), {})
    assert found.startswith(words)
    assert bool(found) == bool(words)
    assert KubernetesSettings().objection(Resources(gpus=8), {}) == ""
    with pytest.raises(ValueError, match=r"must be an extended resource such as nvidia\.com/gpu"):
        KubernetesSettings().checked_setting("gpu_name", "gpu")


# Dask


def launch(resources: Resources, **settings: object) -> Launch:
    """Return how a worker is started."""
    return worker_launch(
        uid="c" + "a" * 20,
        name="default-0",
        user="alice",
        settings=settings,
        resources=resources,
        credentials=LaunchCredentials(b"", b"", b""),
        scheduler_address="tls://127.0.0.1:1",
    )


def told(resources: Resources, **settings: object) -> object:
    """Return what a worker's Dask reads of its resources."""
    env = dict(launch(resources, **settings).env)
    return dask.config.get("distributed.worker.resources", {}, config=dask.config.collect_env(env))


def test_a_worker_tells_dask_of_its_gpus_and_named_resources() -> None:
    assert told(BOTH) == {"GPU": 2.0, "nvme": 1.5, "fpga": 1.0}
    assert told(Resources(named={"example.com/f.x_y": 1.0})) == {"example.com/f.x_y": 1.0}
    assert told(NOTHING) == {}
    assert told(BOTH, dask_resources=False) == {}
    assert told(BOTH, dask_resources=True, worker_nanny=True) == told(BOTH)


def test_what_a_user_says_to_dask_goes_before() -> None:
    config = {"distributed.worker.resources": {"GPU": 8, "own": 1}}
    assert told(Resources(gpus=2, named={"fpga": 1.0}), dask_config=config) == {
        "GPU": 8,
        "own": 1,
        "fpga": 1.0,
    }
    assert told(BOTH, dask_config=config, dask_resources=False) == {"GPU": 8, "own": 1}
