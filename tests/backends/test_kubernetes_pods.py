"""What is sent to Kubernetes: names, labels, the pod of a launch and its Secret, an administrator's
own fields, and what `check-config` says of settings."""

from __future__ import annotations

import base64
import pathlib
from typing import Any

import pytest

from gateway.backends.conformance import OTHER_UID, UID
from gateway.backends.contract import DIRECTORY, NAME, Instance, Launch, Resources, Role
from gateway.backends.kubernetes import manifests, merge, names
from gateway.backends.kubernetes.backend import KubernetesBackend
from gateway.backends.kubernetes.manifests import Place

PLACE = Place("dgw", "dask")
SECRET = b"v3ry-s3cret"


def launch(name: str = "default-0", **options: Any) -> Launch:
    """Return a launch with a secret file, and a variable that nobody is to see."""
    role = Role.SCHEDULER if name == "scheduler" else Role.WORKER
    return Launch(
        Instance(UID, role, name),
        "Alice O'Hara",
        ("python", "-c", "print('$(HOME) $$ $x')", NAME, f"{DIRECTORY}/scratch"),
        {"KEY": f"{DIRECTORY}/key.pem", "odd name!": "hidden-word"},
        {"key.pem": SECRET},
        Resources(1.5, 2**30),
        options,
    )


def made(name: str = "default-0", backend: KubernetesBackend | None = None, **options: Any) -> Any:
    """Return the pod of a launch."""
    backend = backend or KubernetesBackend(image="dask:1")
    one = launch(name, **options)
    return manifests.pod(PLACE, one, backend.settings_of(one))


@pytest.mark.parametrize("name", ["scheduler", "default-0", "gpu-big-17", "a" * 32 + "-999999999"])
def test_a_pod_says_which_instance_it_is(name: str) -> None:
    pod = made(name)["metadata"]
    instance = launch(name).instance
    assert names.instance_of("dgw", pod["name"], pod["labels"]) == instance
    assert names.instance_of("other", pod["name"], pod["labels"]) is None
    assert len(pod["name"]) <= 253
    assert all(names.label_value(value) == value for value in pod["labels"].values())
    assert pod["annotations"][names.USER_ANNOTATION] == "Alice O'Hara"


def test_no_two_users_share_a_namespace_and_every_one_is_a_name_for_one() -> None:
    users = [
        "alice",
        "Alice",
        "alice@x.org",
        "alice-x-org",
        "ü",
        "a" * 80,
        "a" * 81,
        "-",
        "",
        "a.b",
    ]
    found = [names.namespace("dask-{user}", user) for user in users]
    assert len(set(found)) == len(users)
    assert all(map(names.is_namespace, found)), found
    assert names.namespace("dask-{user}", "alice") == "dask-alice"
    assert names.namespace("dask", "alice") == "dask"


def test_a_pod_passes_the_restricted_level() -> None:
    spec = made()["spec"]
    (container,) = spec["containers"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False
    assert {kind for one in spec["volumes"] for kind in one} == {"name", "secret", "emptyDir"}


def test_secrets_and_environment_are_in_the_secret_alone() -> None:
    text = manifests.encoded(made()).decode()
    assert SECRET.decode() not in text
    assert "hidden-word" not in text
    held = manifests.secret(PLACE, UID, launch())["data"]
    shown = {key: base64.b64decode(value) for key, value in held.items()}
    assert shown["w.default.file.key.pem"] == SECRET
    here = manifests.directory(launch().instance)
    assert shown["w.default.env.KEY"] == f"{here}/key.pem".encode()
    asked = {
        one["name"]: one["valueFrom"]["secretKeyRef"]["key"]
        for one in made()["spec"]["containers"][0]["env"]
    }
    assert asked.keys() == {"KEY", "odd name!"}
    assert set(asked.values()) <= held.keys()
    assert shown[asked["odd name!"]] == b"hidden-word"


def test_a_worker_sees_nothing_of_the_schedulers_part() -> None:
    for name in ("default-0", "scheduler"):
        (volume,) = [one for one in made(name)["spec"]["volumes"] if one["name"] == "secrets"]
        begin = "s." if name == "scheduler" else "w.default."
        assert all(one["key"].startswith(begin) for one in volume["secret"]["items"])
        assert volume["secret"]["defaultMode"] == 0o400


def test_kubernetes_expands_nothing_in_the_words_of_a_launch() -> None:
    container = made()["spec"]["containers"][0]
    here = manifests.directory(launch().instance)
    said = [word.replace("$$", "$") for word in container["args"]]
    assert said == ["python", "-c", "print('$(HOME) $$ $x')", "default-0", f"{here}/scratch"]
    assert container["command"][2].replace("$$", "$") == manifests.SCRIPT
    unescaped = container["args"][2].replace("$$", "")
    assert "$" not in unescaped


def test_requests_are_a_share_and_limits_are_what_was_asked_for() -> None:
    asked = made(requested_cores_share=0.1, requested_memory_share=0.5)
    assert asked["spec"]["containers"][0]["resources"] == {
        "requests": {"cpu": "150m", "memory": str(2**29)},
        "limits": {"cpu": "1500m", "memory": str(2**30)},
    }
    free = made(limit_cores=False)["spec"]["containers"][0]["resources"]
    assert "cpu" not in free["limits"]


def test_gpus_and_named_resources_are_extended_resources() -> None:
    backend = KubernetesBackend(image="dask:1", gpu_name="amd.com/gpu")
    asked = Resources(1.0, 2**30, 2, {"example.com/fpga": 1.0})
    assert backend.objection(asked, backend.cluster_settings()) == ""
    said = manifests.resources(asked, backend.settings_of(launch()))
    for part in ("requests", "limits"):
        assert (said[part]["amd.com/gpu"], said[part]["example.com/fpga"]) == ("2", "1")
    refused = backend.objection(Resources(named={"fpga": 1.0}), backend.cluster_settings())
    assert "one looks like example.com/fpga" in refused


def test_a_group_has_the_shape_that_was_chosen_for_it_and_a_scheduler_has_none() -> None:
    spot = {"node_selector": {"pool": "spot"}, "tolerations": [{"key": "spot"}]}
    backend = KubernetesBackend(
        image="dask:1",
        node_selector={"pool": "safe"},
        shapes={"spot": spot},
        scheduler_settings={"priority_class": "high"},
    )
    worker = made(backend=backend, shape="spot")["spec"]
    assert (worker["nodeSelector"], worker["tolerations"]) == ({"pool": "spot"}, [{"key": "spot"}])
    scheduler = made("scheduler", backend, shape="spot")["spec"]
    assert (scheduler["nodeSelector"], scheduler["priorityClassName"]) == ({"pool": "safe"}, "high")
    with pytest.raises(ValueError, match=r"there is no 'slow'; there are: spot"):
        backend.settings_of(launch(shape="slow"))


def test_the_schedulers_end_takes_what_it_owns() -> None:
    owner = manifests.owner("dgw-x", "u1")
    pod = manifests.pod(PLACE, launch(), {}, [owner])
    for one in (pod, manifests.secret(PLACE, UID, None, [owner])):
        assert one["metadata"]["ownerReferences"] == [owner]
    budget = manifests.budget(PLACE, UID, [owner])
    chosen = budget["spec"]["selector"]["matchLabels"]
    labels = names.labels("dgw", Instance(UID, Role.SCHEDULER, "scheduler"), "a")
    assert chosen.items() <= labels.items()
    assert not chosen.items() <= names.labels("dgw", launch().instance, "a").items()


def test_a_selector_names_whom_it_means_and_no_other() -> None:
    told = names.selector("dgw", OTHER_UID, ["default-1", "default-0"])
    assert told == (
        f"daskgateway/gateway=dgw,daskgateway/cluster={OTHER_UID},"
        "daskgateway/name in (default-0,default-1)"
    )


MERGES: list[tuple[Any, Any, Any]] = [
    ({"a": 1, "b": 2}, {"b": None, "c": 3}, {"a": 1, "c": 3}),
    ({"a": {"b": 1}}, {"a": {"c": 2}}, {"a": {"b": 1, "c": 2}}),
    ({"a": {"b": 1}}, {"a": {"$patch": "replace", "c": 2}}, {"a": {"c": 2}}),
    (
        {"containers": [{"name": "dask", "image": "x"}]},
        {"containers": [{"name": "dask", "tty": True}, {"name": "proxy"}]},
        {"containers": [{"name": "dask", "image": "x", "tty": True}, {"name": "proxy"}]},
    ),
    (
        {"volumes": [{"name": "work"}, {"name": "tmp"}]},
        {"volumes": [{"name": "tmp", "$patch": "delete"}]},
        {"volumes": [{"name": "work"}]},
    ),
    ({"tolerations": [{"key": "a"}]}, {"tolerations": [{"key": "b"}]}, None),
    ({"args": ["a"]}, {"args": ["b"]}, {"args": ["b"]}),
]


@pytest.mark.parametrize(("base", "patch", "result"), MERGES)
def test_fields_are_merged_as_kubernetes_merges_them(base: Any, patch: Any, result: Any) -> None:
    wanted = result or {"tolerations": [{"key": "a"}, {"key": "b"}]}
    assert merge.merged(base, patch) == wanted


def test_an_administrators_fields_join_the_pod() -> None:
    pod = made(
        pod_fields={"hostAliases": [{"ip": "10.0.0.1"}], "volumes": [{"name": "data"}]},
        container_fields={"env": [{"name": "KEY", "value": "other"}]},
    )["spec"]
    assert pod["hostAliases"] == [{"ip": "10.0.0.1"}]
    assert [one["name"] for one in pod["volumes"]] == ["secrets", "work", "tmp", "data"]
    (key,) = [one for one in pod["containers"][0]["env"] if one["name"] == "KEY"]
    assert key["value"] == "other"


WRONG = {
    "image": ("registry.example.org/Dask Image", "must be an image such as"),
    "scratch_size": ("10 gigs", "must be a size such as 10Gi"),
    "shape": ("spot", "must be one of c.KubernetesBackend.shapes, not"),
    "labels": ({"daskgateway/user": "x"}, "is the gateway's own"),
    "tolerations": (["spot"], "must be a list of mappings"),
    "pod_fields": ({"a": object()}, "is nothing that JSON can write"),
    "namespace": ("Dask Clusters", "must be the name of a namespace"),
    "tag": ("-x", "must match"),
    "kubeconfig": ("/nowhere/config", "/nowhere/config"),
    "scheduler_settings": ({"priorityclass": "x"}, "did you mean priority_class?"),
    "shapes": ({"spot": {"scratch_size": "x"}}, "must be a size"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_setting_is_one_line_with_its_name(name: str, tmp_path: pathlib.Path) -> None:
    value, words = WRONG[name]
    given: dict[str, Any] = {"image": "dask:1", "root": str(tmp_path), name: value}
    (line,) = KubernetesBackend(**given).problems()
    assert line.startswith(f"c.KubernetesBackend.{name}: ")
    assert words in line


def test_an_image_must_be_named(tmp_path: pathlib.Path) -> None:
    (line,) = KubernetesBackend(root=str(tmp_path)).problems()
    assert line.startswith("c.KubernetesBackend.image: must name an image")
    assert KubernetesBackend(root=str(tmp_path), image="dask:1").problems() == []


def test_pods_have_names_in_dns_only_where_that_is_wished() -> None:
    backend = KubernetesBackend(image="dask:1", headless_service=True)
    one = launch("default-0")
    place = backend.place_of("dgw", one.instance, "dask")
    spec = manifests.pod(place, one, backend.settings_of(one))["spec"]
    service = manifests.service(place, UID, [])
    assert (spec["hostname"], spec["subdomain"]) == ("default-0", service["metadata"]["name"])
    assert service["spec"]["clusterIP"] == "None"
    labels = manifests.pod(place, one, backend.settings_of(one))["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()
    assert not {"hostname", "subdomain"} & made()["spec"].keys()
