"""The Helm chart on a real API server: installed, upgraded, rolled back and removed by who has
rights in one namespace only, in which only pods of the `restricted` level may be. Its pods only
pretend to run (kwok)."""

from __future__ import annotations

import json
import pathlib
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.deploy.helm import CASES, CHART, HASH, Values, program, rendered
from tests.parts import kubernetes
from tests.parts.kubernetes import TOLERATION, Kubernetes

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
PLACE = "site"
OURS = "deployments,services,pods,networkpolicies,roles,rolebindings,serviceaccounts,configmaps"
OURS += ",secrets,persistentvolumeclaims"
GIVEN: Values = {
    "clusters": {"image": "dask:2026.3"},
    "auth": {"password": {"users": {"alice": HASH}}},
    "server": {"tolerations": [TOLERATION]},
    "edge": {"tolerations": [TOLERATION]},
}


@pytest.fixture(scope="module")
def room() -> Iterator[Kubernetes]:
    """One Kubernetes for the module."""
    with kubernetes.running(fakes=2) as made:
        yield made


@pytest.fixture(scope="module")
def installer(room: Kubernetes) -> pathlib.Path:
    """Who installs: an account that is `admin` of one namespace, and nothing elsewhere."""
    room.namespace(PLACE)
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "installer-is-admin", "namespace": PLACE},
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": "ClusterRole",
            "name": "admin",
        },
        "subjects": [{"kind": "ServiceAccount", "name": "installer", "namespace": PLACE}],
    }
    room.apply(binding)
    return room.account(PLACE, "installer", [])


def helm(account: pathlib.Path, *words: str, values: Values | None = None) -> str:
    """Run Helm as an account, and return what it said."""
    given = ["--values", "-"] if values is not None else []
    done = subprocess.run(
        [program(), f"--kubeconfig={account}", f"--namespace={PLACE}", *words, *given],
        input=yaml.safe_dump(values) if values is not None else None,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, f"helm {words}: {done.stderr}{done.stdout}"
    assert "Warning" not in done.stderr + done.stdout
    return done.stdout


def there(room: Kubernetes) -> set[str]:
    """Return the release's objects, by kind and name, but for what Kubernetes is deleting."""
    found = room.get(OURS, "-l", "app.kubernetes.io/instance=dask", "-n", PLACE)["items"]
    return {
        f"{one['kind']}/{one['metadata']['name']}"
        for one in found
        if "deletionTimestamp" not in one["metadata"]
    }


def secret(room: Kubernetes, name: str) -> Any:
    """Return what a Secret of the release holds."""
    return room.get("secret", f"dask-daskgateway-{name}", "-n", PLACE)["data"]


def template(room: Kubernetes, component: str) -> Any:
    """Return what the pods of a Deployment are made by: they are replaced where it changes."""
    found = room.get("deployment", f"dask-daskgateway-{component}", "-n", PLACE)
    assert found["status"]["readyReplicas"] == 1
    return found["spec"]["template"]


def volume(room: Kubernetes) -> None:
    """Make a volume for the server's claim."""
    room.apply(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": "state"},
            "spec": {
                "capacity": {"storage": "5Gi"},
                "accessModes": ["ReadWriteOnce"],
                "hostPath": {"path": "/nonexistent"},
            },
        }
    )


def test_install_upgrade_rollback_uninstall_and_install_again(
    room: Kubernetes, installer: pathlib.Path
) -> None:
    volume(room)
    wait = ("--wait", "--timeout=180s")
    told = helm(installer, "install", "dask", str(CHART), *wait, values=GIVEN)
    assert "daskgateway 0.1.0 is here: https://dask-daskgateway.site.svc" in told
    installed = there(room)
    keys, shown = secret(room, "keys"), secret(room, "edge-tls")
    server, edge = template(room, "server"), template(room, "edge")

    limited = {**GIVEN, "clusters": {"image": "dask:2026.3", "limits": {"workers": 9}}}
    helm(installer, "upgrade", "dask", str(CHART), *wait, values=limited)
    assert (secret(room, "keys"), secret(room, "edge-tls")) == (keys, shown)
    assert template(room, "server") != server  # it reads its configuration once
    assert template(room, "edge") == edge  # nothing of its own has changed: sessions live on

    moved = {**limited, "publicUrl": "https://dask.example.org"}
    helm(installer, "upgrade", "dask", str(CHART), *wait, values=moved)
    assert secret(room, "keys") == keys  # clusters that run know the server by them
    assert secret(room, "edge-tls") != shown

    helm(installer, "rollback", "dask", "1", *wait)
    assert secret(room, "keys") == keys
    assert template(room, "server") == server
    assert template(room, "edge") == edge

    helm(installer, "uninstall", "dask", "--wait")
    kept = {"Secret/dask-daskgateway-keys", "PersistentVolumeClaim/dask-daskgateway"}
    room.until(lambda: there(room) == kept, "all but the keys and the volume is gone")
    helm(installer, "install", "dask", str(CHART), *wait, values=GIVEN)
    assert secret(room, "keys") == keys
    now = there(room)
    assert {one for one in now if not one.startswith("Pod/")} == {
        one for one in installed if not one.startswith("Pod/")
    }
    helm(installer, "uninstall", "dask", "--wait")


@pytest.mark.parametrize("name", CASES)
def test_the_api_server_takes_every_manifest_and_warns_of_none(room: Kubernetes, name: str) -> None:
    """Deployments whose pods the level `restricted` would refuse are warned of."""
    for place in ("ns", "dask-clusters"):
        level = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
        room.apply(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": place, "labels": level}}
        )
    foreign = {"PodMonitor"}  # of the Prometheus operator
    told = [one for (kind, _), one in rendered(CASES[name]).items() if kind not in foreign]
    for one in told:
        one["metadata"].setdefault("namespace", "ns")
    done = subprocess.run(
        [
            kubernetes.binary("kubectl"),
            f"--kubeconfig={room.admin}",
            *("apply", "--dry-run=server", "--validate=strict", "-f", "-"),
        ],
        input=json.dumps({"apiVersion": "v1", "kind": "List", "items": told}),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) == len(told)
