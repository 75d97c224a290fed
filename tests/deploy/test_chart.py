"""The Helm chart: what it comes to, what it refuses, and that server and edge take what it says."""

from __future__ import annotations

import base64
import json
import pathlib
import re
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import yaml
from kubernetes.client import models

from gateway import configfile
from gateway.authenticators.password import hash_password
from gateway.proxy.config import Proxy
from gateway.server.boot.settings import examine
from gateway.server.security import tokens
from tests.deploy import helm
from tests.deploy.helm import CASES, CHART, GOLDEN, Manifests, Values, masked, rendered, run

RIGHTS = {  # all that the backend asks for
    ("", "pods"): ["create", "delete", "deletecollection", "list", "watch"],
    ("", "pods/log"): ["get"],
    ("", "secrets"): ["create", "delete", "patch"],
    ("", "events"): ["list"],
    ("policy", "poddisruptionbudgets"): ["create", "patch"],
}
READY: Values = {
    "clusters": {"image": "dask:2026.3", "worker": {"gpus": 1}, "limits": {"gpus": 8}},
    "auth": {"password": {"users": {"alice": hash_password("x")}, "admins": ["alice"]}},
}


def test_helm_finds_nothing_wrong() -> None:
    done = run("lint", str(CHART), "--strict")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", CASES)
def test_the_chart_comes_to_what_is_written_down(name: str) -> None:
    written = GOLDEN / f"{name}.yaml"
    assert masked(rendered(CASES[name])) == written.read_text(), "python -m tests.deploy.helm"


@pytest.mark.parametrize("name", CASES)
def test_every_manifest_has_the_fields_of_kubernetes_and_no_other(name: str) -> None:
    """The client's models know every field and its type, and refuse what is none."""
    foreign = {"PodMonitor"}  # of the Prometheus operator
    for (kind, _), one in rendered(CASES[name]).items():
        if kind not in foreign:
            getattr(models, f"V1{kind}").model_validate(one)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"server": {"replicaz": 2}}, "replicaz"),
        ({"sever": {}}, "sever"),
        ({"server": {"replicas": 2}}, "a file of SQLite is for one server"),
        ({"server": {"replicas": 0}}, "server.replicas"),
        ({"edge": {"replicas": 65}}, "edge.replicas"),
        ({"edge": {"service": {"port": 70_000}}}, "edge.service.port"),
        ({"edge": {"tls": {"mode": "off"}}}, "edge.tls.mode"),
        ({"edge": {"tls": {"mode": "secret"}}}, "edge.tls.secretName: must name a Secret"),
        ({"edge": {"prefix": "no-slash"}}, "edge.prefix"),
        ({"ingress": {"enabled": True}}, "ingress.host: must name the host"),
        ({"publicUrl": "dask.example.org"}, "publicUrl"),
        ({"auth": {"password": {"users": {"alice": "secret"}}}}, "auth.password.users.alice"),
        ({"clusters": {"namespace": "dask-{user}"}}, "clusters.namespace"),
        ({"clusters": {"worker": {"gpus": 1025}}}, "clusters.worker.gpus"),
        ({"clusters": {"worker": {"cores": 0}}}, "clusters.worker.cores"),
        ({"clusters": {"limits": {"workers": -1}}}, "clusters.limits.workers"),
        ({"config": {"clusterConfig": {}}}, "clusterConfig"),
        ({"config": {"ClusterConfig": 1}}, "config.ClusterConfig"),
        ({"persistence": {"size": "much"}}, "persistence.size"),
    ],
)
def test_a_wrong_value_is_refused_by_its_name(values: Values, words: str) -> None:
    done = run("template", "r", str(CHART), "--kube-version=1.34.4", values=values)
    assert done.returncode != 0
    # Helm writes a path with dots, or as a pointer
    assert words in done.stderr or words.replace(".", "/") in done.stderr


def test_every_value_stands_in_the_schema_and_no_other() -> None:
    def compare(values: Mapping[str, Any], schema: Mapping[str, Any], path: str) -> None:
        known = schema.get("properties")
        if known is None:
            return
        assert values.keys() == known.keys(), path
        assert schema["additionalProperties"] is False or path == "", path
        for name, value in values.items():
            if isinstance(value, dict):
                compare(value, known[name], f"{path}.{name}")

    values = yaml.safe_load((CHART / "values.yaml").read_text())
    schema = json.loads((CHART / "values.schema.json").read_text())
    assert schema["additionalProperties"] is False
    compare(values, schema, "")


# Rights


@pytest.mark.parametrize("name", CASES)
def test_nobody_is_given_rights_in_the_whole_cluster(name: str) -> None:
    found = rendered(CASES[name])
    assert not any(kind.startswith("Cluster") for kind, _ in found)
    assert "CustomResourceDefinition" not in {kind for kind, _ in found}


def test_the_role_has_the_rights_that_the_backend_asks_for_and_no_more() -> None:
    found = rendered({"clusters": {"namespace": "elsewhere"}})
    role = found["Role", "r-daskgateway"]
    told = {
        (group, resource): sorted(rule["verbs"])
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }
    assert told == RIGHTS
    binding = found["RoleBinding", "r-daskgateway"]
    assert role["metadata"]["namespace"] == binding["metadata"]["namespace"] == "elsewhere"
    assert binding["subjects"] == [
        {"kind": "ServiceAccount", "name": "r-daskgateway", "namespace": "ns"}
    ]


def pods(found: Manifests) -> Iterator[Any]:
    """Yield the specs of pods."""
    for (kind, _), one in found.items():
        if kind == "Deployment":
            yield one["spec"]["template"]["spec"]


@pytest.mark.parametrize("name", CASES)
def test_pods_pass_the_restricted_level(name: str) -> None:
    for pod in pods(rendered(CASES[name])):
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in (*pod["initContainers"], *pod["containers"]):
            own = container["securityContext"]
            assert own["allowPrivilegeEscalation"] is False
            assert own["readOnlyRootFilesystem"] is True
            assert own["capabilities"] == {"drop": ["ALL"]}
        kinds = {kind for volume in pod["volumes"] for kind in volume if kind != "name"}
        assert kinds <= {"configMap", "emptyDir", "secret", "persistentVolumeClaim"}


def test_the_edge_has_no_key_of_the_servers_and_no_account_of_kubernetes() -> None:
    found = rendered(READY)
    edge = found["Deployment", "r-daskgateway-edge"]["spec"]["template"]["spec"]
    assert edge["automountServiceAccountToken"] is False
    (keys,) = [volume["secret"] for volume in edge["volumes"] if volume["name"] == "keys"]
    assert [item["key"] for item in keys["items"]] == ["edge-token", "ca.crt"]
    assert "r-daskgateway-config" not in json.dumps(edge)


# What server and edge read


def placed(found: Manifests, room: pathlib.Path) -> tuple[str, str]:
    """Return the configurations of server and edge, with files of theirs put below a directory."""
    for name in ("keys", "edge-tls"):
        directory = room / ("tls" if name == "edge-tls" else name)
        directory.mkdir(mode=0o700)
        for key, value in found["Secret", f"r-daskgateway-{name}"]["data"].items():
            (directory / key).write_bytes(base64.b64decode(value))
            (directory / key).chmod(0o600)
    server = found["Secret", "r-daskgateway-config"]["stringData"]["daskgateway_config.py"]
    edge = found["ConfigMap", "r-daskgateway-edge"]["data"]["daskgateway_config.py"]

    def moved(text: str, state: str) -> str:
        there = text.replace("/etc/daskgateway", str(room))
        return there.replace("/var/lib/daskgateway", str(room / state))

    return moved(server, "server"), moved(edge, "edge")


def test_server_and_edge_find_nothing_wrong_with_what_the_chart_says(
    tmp_path: pathlib.Path,
) -> None:
    values = {
        **READY,
        "publicUrl": "https://dask.example.org",
        "config": {
            "ClusterConfig": {"idle_timeout_s": 1800, "ignore_clients": True},
            "KubernetesBackend": {"node_selector": {"pool": "dask"}, "run_as_user": 2000},
            "Proxy": {"max_tunnels": 7},
        },
        "extraConfig": {"b": "c.DaskGateway.drain_s = 7", "a": "c.DaskGateway.drain_s = 3"},
    }
    server, edge = placed(rendered(values), tmp_path)
    (tmp_path / "server.py").write_text(server)
    (tmp_path / "edge.py").write_text(edge)
    examined = examine(configfile.load(str(tmp_path / "server.py")))
    assert list(examined.problems) == []
    clusters, backend = examined.settings.clusters, examined.settings.backends["kubernetes"]
    assert (clusters.idle_timeout_s, clusters.ignore_clients) == (1800, True)
    assert (clusters.worker_gpus, clusters.max_gpus, clusters.max_workers) == (1, 8, None)
    assert examined.settings.server.drain_s == 7  # texts in the order of their names
    assert getattr(backend, "image") == "dask:2026.3"  # noqa: B009
    assert getattr(backend, "node_selector") == {"pool": "dask"}  # noqa: B009
    config = configfile.load(str(tmp_path / "edge.py"))
    configfile.check(config, [Proxy])
    options = Proxy(config=config)
    assert options.problems() == []
    assert (options.max_tunnels, options.prefix) == (7, "")
    token = (tmp_path / "keys" / "edge-token").read_text()
    assert (tokens.parse(token) or ("",))[0] == "edge"


def test_no_value_can_leave_its_place_in_the_configuration(tmp_path: pathlib.Path) -> None:
    nasty = "a\"; raise SystemExit(7)  # \\ ' {{ }} \u2028 😀 <&>\n"
    values = {
        **READY,
        "clusters": {"image": nasty},
        "config": {"KubernetesBackend": {"annotations": {nasty: nasty}}},
        "auth": {"type": nasty},
    }
    found = rendered(values)
    text = found["Secret", "r-daskgateway-config"]["stringData"]["daskgateway_config.py"]
    (tmp_path / "config.py").write_text(text)
    config = configfile.load(str(tmp_path / "config.py"))
    assert config.KubernetesBackend.image == config.DaskGateway.authenticator == nasty
    assert config.KubernetesBackend.annotations == {nasty: nasty}


def test_every_installation_has_keys_and_a_tag_of_its_own() -> None:
    first, second = rendered(READY), rendered({**READY, "global": {"again": True}})
    keys = ("Secret", "r-daskgateway-keys")
    assert first[keys]["data"]["edge-token"] != second[keys]["data"]["edge-token"]
    config = ("Secret", "r-daskgateway-config")
    assert first[config] == second[config]
    tag = re.search(r'tag = "(\w+)"', first[config]["stringData"]["daskgateway_config.py"])
    assert tag is not None
    policy = first["NetworkPolicy", "r-daskgateway-clusters"]["spec"]["podSelector"]
    assert policy == {"matchLabels": {"daskgateway/gateway": tag[1]}}


def test_directories_are_made_private_and_stay_so(tmp_path: pathlib.Path) -> None:
    token = tmp_path / "token"
    token.write_text("dgw_edge_x")
    words = [sys.executable, str(CHART / "files" / "prepare.py"), str(tmp_path / "v"), str(token)]
    (tmp_path / "v").mkdir()
    for text in ("dgw_edge_x", "dgw_edge_y"):
        token.write_text(text)
        subprocess.run(words, check=True, timeout=60)
        state = tmp_path / "v" / "state"
        assert stat.S_IMODE(state.stat().st_mode) == 0o700
        assert (state / "edge.token").read_text() == text
        assert stat.S_IMODE((state / "edge.token").stat().st_mode) == 0o600
        assert {path.name for path in state.iterdir()} <= {"edge.token", "kept"}
        (state / "kept").write_text("x")
        (state / "kept").chmod(0o666)  # as a volume's group would have it
        state.chmod(0o770)
    subprocess.run(words, check=True, timeout=60)
    assert stat.S_IMODE((state / "kept").stat().st_mode) == 0o600


def test_the_golden_files_are_those_of_the_cases() -> None:
    assert {path.stem for path in GOLDEN.iterdir()} == set(helm.CASES)
