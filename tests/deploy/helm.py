"""The chart as Helm renders it, with the values of each golden file; what is made anew each time is
masked.

`python -m tests.deploy.helm` writes the golden files.
"""

from __future__ import annotations

import functools
import json
import pathlib
import shutil
import subprocess
from collections.abc import Mapping
from typing import Any

import yaml

from tests.parts.kubernetes import VERSION, binary

ROOT = pathlib.Path(__file__).parents[2]
CHART = ROOT / "deploy" / "helm" / "daskgateway"
GOLDEN = pathlib.Path(__file__).with_name("golden")
HASH = "scrypt$16384$8$1$c2FsdHNhbHQ=$ZGVyaXZlZA=="
MADE = "made anew by each release"

Values = Mapping[str, Any]
Manifests = dict[tuple[str, str], dict[str, Any]]  # by kind and name

CASES: Mapping[str, Values] = {
    "default": {},
    "load-balancer": {
        "publicUrl": "https://dask.example.org",
        "clusters": {"image": "dask:2026.3", "limits": {"gpus": 8}},
        "auth": {"password": {"users": {"alice": HASH}, "admins": ["alice"]}},
        "edge": {"replicas": 3, "service": {"type": "LoadBalancer"}},
        "metrics": {"podMonitor": {"enabled": True}},
    },
    "ingress-jupyterhub": {
        "publicUrl": "https://hub.example.org/services/dask",
        "auth": {"type": "jupyterhub"},
        "clusters": {"image": "dask:2026.3", "namespace": "dask-clusters"},
        "edge": {"tls": {"mode": "none"}, "trustedProxies": ["10.0.0.0/8"]},
        "ingress": {"enabled": True, "host": "hub.example.org", "tlsSecretName": "hub-tls"},
        "networkPolicy": {"clustersEgress": False},
        "config": {"ClusterConfig": {"idle_timeout_s": 1800, "ignore_clients": True}},
        "extraConfig": {"10-first": "c.DaskGateway.drain_s = 20", "20-then": "x = 'a \"b\" $c'"},
    },
    "own-parts": {
        "fullnameOverride": "gw",
        "clusters": {"image": "dask:2026.3"},
        "edge": {"tls": {"mode": "secret", "secretName": "edge-cert"}},
        "secrets": {"existingSecret": "gw-own"},
        "persistence": {"existingClaim": "gw-state"},
        "serviceAccount": {"name": "gw-account"},
        "rbac": {"enabled": False},
        "networkPolicy": {"enabled": False},
        "extraConfig": "c.DaskGateway.drain_s = 20",
    },
}


def program() -> str:
    """Return the path of Helm: one that is installed, or what the tests' parts have built."""
    return shutil.which("helm") or binary("helm")


def run(*words: str, values: Values | None = None) -> subprocess.CompletedProcess[str]:
    """Run Helm with values."""
    given = ["--values", "-"] if values is not None else []
    return subprocess.run(
        [program(), *words, *given],
        input=yaml.safe_dump(values) if values is not None else None,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def rendered(values: Values) -> Manifests:
    """Return what the chart comes to, with keys that are made once for each values."""
    told = [one for one in yaml.safe_load_all(_text(json.dumps(values, ensure_ascii=False))) if one]
    found = {(one["kind"], one["metadata"]["name"]): one for one in told}
    assert len(found) == len(told)
    return found


@functools.cache
def _text(values: str) -> str:
    words = ("template", "r", str(CHART), f"--kube-version={VERSION}", "-n=ns")
    done = run(*words, values=json.loads(values))
    assert done.returncode == 0, done.stderr
    return done.stdout


def masked(found: Manifests) -> str:
    """Return manifests as one text, without what is made anew."""
    for (kind, _), one in found.items():
        if kind == "Secret" and "data" in one:
            one["data"] = dict.fromkeys(one["data"], MADE)
    ordered = [found[key] for key in sorted(found)]
    return yaml.safe_dump_all(ordered, sort_keys=True, width=120)


if __name__ == "__main__":
    for name, values in CASES.items():
        (GOLDEN / f"{name}.yaml").write_text(masked(rendered(values)))
