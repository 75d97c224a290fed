"""What is sent to Kubernetes: the pod of an instance, the Secret of a cluster, the disruption
budget of a scheduler, the Service that gives pods names. Pure.

A pod passes the `restricted` Pod Security level. Files and environment come out of the Secret, so
that neither is shown to who may look at pods. The instance's directory is made in the pod by a few
lines of shell, which then become the launch.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.backends.contract import Instance, Launch, Resources, Role
from gateway.backends.kubernetes import merge, names
from gateway.backends.named import Naming, counts, gpu_name

GPU = "nvidia.com/gpu"  # what GPUs are called, where nothing else is said
# of an extended resource; what is a GPU by another maker's name is asked for as one
NAMING = Naming(
    re.compile(r"[a-z0-9][a-z0-9.-]*/[A-Za-z0-9](?:[A-Za-z0-9_.-]*[A-Za-z0-9])?"),
    "example.com/fpga",
    frozenset({GPU, "amd.com/gpu", "gpu.intel.com/i915", "gpu.intel.com/xe"}),
)
CONTAINER = "dask"
WORK, SECRETS = "/daskgateway", "/daskgateway-secrets"
EXIT_NO_DIRECTORY, EXIT_NO_FILE = 70, 71
# The directory is this process's own, and so are its files: those of the Secret belong to root.
SCRIPT = f"""umask 077
d=$1; shift
mkdir -p "$d/scratch" || exit {EXIT_NO_DIRECTORY}
for f in {SECRETS}/*; do
[ ! -e "$f" ] || cat "$f" >"$d/${{f##*/}}" || exit {EXIT_NO_FILE}
done
cd "$d/scratch" || exit {EXIT_NO_DIRECTORY}
exec "$@"
"""
# whom a cluster autoscaler must not move
KEEP = {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"}
OWNER = "daskgateway-owner"  # field manager of the Secret's owner
_KEY = re.compile(r"[-._A-Za-z0-9]{1,200}")

Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Place:
    """Where pods go, and as whom they run; 0: as the image or the platform says."""

    tag: str
    namespace: str
    run_as_user: int = 1000
    run_as_group: int = 1000
    grace_s: int = 10
    named: bool = False  # pods have names in DNS, by a Service of their cluster


def section(instance: Instance) -> str:
    """Return what begins the keys of an instance's part of the Secret: instances with the same
    section have the same files and environment."""
    return "s" if instance.role is Role.SCHEDULER else f"w.{names.group_of(instance)}"


def directory(instance: Instance) -> str:
    """Return the path of an instance's own directory in its pod. It is the same for all of a
    section: each has a file system of its own."""
    return f"{WORK}/{instance.uid}-{section(instance)}"


def _variable(name: str) -> str:
    """Return the key of a variable: its name, where a key may be called so."""
    return name if _KEY.fullmatch(name) else "x" + hashlib.sha256(name.encode()).hexdigest()


def contents(launch: Launch) -> dict[str, bytes]:
    """Return what the Secret holds for a launch, by key."""
    begin = section(launch.instance)
    found = {f"{begin}.file.{name}": content for name, content in launch.files.items()}
    for name, value in launch.placed(directory(launch.instance)).env.items():
        found[f"{begin}.env.{_variable(name)}"] = value.encode()
    return found


def digest(launch: Launch) -> bytes:
    """Return a hash of what the Secret holds for a launch."""
    found = contents(launch)
    words = hashlib.sha256()
    for key in sorted(found):
        words.update(f"{key}\0{len(found[key])}\0".encode() + found[key])
    return words.digest()


def owner(name: str, uid: str) -> Body:
    """Return the reference to the pod whose end takes an object with it."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "name": name,
        "uid": uid,
        "blockOwnerDeletion": False,
        "controller": False,
    }


def secret(place: Place, uid: str, launch: Launch | None, owners: Sequence[Body] = ()) -> Body:
    """Return one part of a cluster's Secret, for a server-side apply by a field manager of its own:
    what a launch needs, or (no launch) whose end takes the Secret."""
    body: Body = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": names.cluster_name(place.tag, uid),
            "labels": {
                "app.kubernetes.io/managed-by": "daskgateway",
                names.TAG_LABEL: place.tag,
                names.UID_LABEL: uid,
            },
        },
        "type": "Opaque",
    }
    if owners:
        body["metadata"]["ownerReferences"] = list(owners)
    if launch is not None:
        body["data"] = {
            key: base64.b64encode(content).decode() for key, content in contents(launch).items()
        }
    return body


def budget(place: Place, uid: str, owners: Sequence[Body]) -> Body:
    """Return what keeps a scheduler's pod from being evicted while a node is drained."""
    labels = {names.TAG_LABEL: place.tag, names.UID_LABEL: uid}
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {
            "name": names.cluster_name(place.tag, uid),
            "labels": {"app.kubernetes.io/managed-by": "daskgateway", **labels},
            "ownerReferences": list(owners),
        },
        "spec": {
            "minAvailable": 1,
            "selector": {"matchLabels": {**labels, names.ROLE_LABEL: Role.SCHEDULER.value}},
        },
    }


def service(place: Place, uid: str, owners: Sequence[Body]) -> Body:
    """Return the headless Service of a cluster: DNS knows its pods by `hostname` and by this name,
    from when they have an address. Any port of theirs is meant."""
    labels = {names.TAG_LABEL: place.tag, names.UID_LABEL: uid}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": names.cluster_name(place.tag, uid),
            "labels": {"app.kubernetes.io/managed-by": "daskgateway", **labels},
            "ownerReferences": list(owners),
        },
        "spec": {"clusterIP": "None", "publishNotReadyAddresses": True, "selector": labels},
    }


def pod(
    place: Place, launch: Launch, settings: Mapping[str, Any], owners: Sequence[Body] = ()
) -> Body:
    """Return the pod of a launch."""
    instance = launch.instance
    annotations = {names.USER_ANNOTATION: launch.user}
    annotations |= KEEP if instance.role is Role.SCHEDULER else {}
    metadata: Body = {
        "name": names.pod_name(place.tag, instance),
        "labels": {**_texts(settings, "labels"), **names.labels(place.tag, instance, launch.user)},
        "annotations": {**_texts(settings, "annotations"), **annotations},
    }
    if owners:
        metadata["ownerReferences"] = list(owners)
    spec = merge.merged(_spec(place, launch, settings), settings.get("pod_fields") or {})
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def _texts(settings: Mapping[str, Any], name: str) -> dict[str, str]:
    return {str(key): str(value) for key, value in (settings.get(name) or {}).items()}


def _spec(place: Place, launch: Launch, settings: Mapping[str, Any]) -> Body:
    spec: Body = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": place.grace_s,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            **({"runAsUser": place.run_as_user} if place.run_as_user else {}),
            **(
                {
                    "runAsGroup": place.run_as_group,
                    "fsGroup": place.run_as_group,
                    "fsGroupChangePolicy": "OnRootMismatch",
                }
                if place.run_as_group
                else {}
            ),
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(place, launch, settings)],
        **_host(place, launch.instance),
        "volumes": [
            _secret_volume(place, launch),
            {"name": "work", "emptyDir": _sized(settings)},
            {"name": "tmp", "emptyDir": _sized(settings)},
            *(dict(one) for one in settings.get("volumes") or ()),
        ],
    }
    if pulled := settings.get("image_pull_secrets"):
        spec["imagePullSecrets"] = [{"name": str(name)} for name in pulled]
    for field, name in (
        ("nodeSelector", "node_selector"),
        ("tolerations", "tolerations"),
        ("affinity", "affinity"),
        ("priorityClassName", "priority_class"),
        ("serviceAccountName", "service_account"),
        ("runtimeClassName", "runtime_class"),
        ("schedulerName", "pod_scheduler"),
    ):
        if settings.get(name):
            spec[field] = settings[name]
    return spec


def _host(place: Place, instance: Instance) -> Body:
    """Return a pod's name in DNS: {instance}.{Service}.{namespace}.svc; none if an instance is
    called as no host may be."""
    if not place.named or not names.is_namespace(instance.name):
        return {}
    return {
        "hostname": instance.name,
        "subdomain": names.cluster_name(place.tag, instance.uid),
    }


def _sized(settings: Mapping[str, Any]) -> Body:
    return {"sizeLimit": settings["scratch_size"]} if settings.get("scratch_size") else {}


def _secret_volume(place: Place, launch: Launch) -> Body:
    begin = section(launch.instance)
    return {
        "name": "secrets",
        "secret": {
            "secretName": names.cluster_name(place.tag, launch.instance.uid),
            "defaultMode": 0o400,
            "items": [
                {"key": f"{begin}.file.{name}", "path": name} for name in sorted(launch.files)
            ],
        },
    }


def _container(place: Place, launch: Launch, settings: Mapping[str, Any]) -> Body:
    instance = launch.instance
    here = directory(instance)
    begin, secret_name = section(instance), names.cluster_name(place.tag, instance.uid)
    container: Body = {
        "name": CONTAINER,
        "image": settings.get("image") or "",
        "command": ["/bin/sh", "-c", _literal(SCRIPT), "daskgateway", here],
        "args": [_literal(word) for word in launch.placed(here).argv],
        "env": [
            {
                "name": name,
                "valueFrom": {
                    "secretKeyRef": {
                        "name": secret_name,
                        "key": f"{begin}.env.{_variable(name)}",
                    }
                },
            }
            for name in sorted(launch.env)
        ],
        "resources": resources(launch.resources, settings),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": bool(settings.get("read_only_root", True)),
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "secrets", "mountPath": SECRETS, "readOnly": True},
            {"name": "work", "mountPath": WORK},
            {"name": "tmp", "mountPath": "/tmp"},
            *(dict(one) for one in settings.get("volume_mounts") or ()),
        ],
        # the last lines of the log of what failed come with the pod's status
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
    if settings.get("image_pull_policy"):
        container["imagePullPolicy"] = settings["image_pull_policy"]
    return merge.merged(container, settings.get("container_fields") or {})


def _literal(word: str) -> str:
    """Return a word of which Kubernetes expands nothing: it would read $(NAME)."""
    return word.replace("$", "$$")


def resources(asked: Resources, settings: Mapping[str, Any]) -> Body:
    """Return requests and limits. Limits are what the cluster was given; requests may be a share of
    it, where the administrator lets nodes be filled beyond what is asked for."""
    millis = math.ceil(round(asked.cores * 1000, 6))
    limits: Body = {"cpu": f"{millis}m"} if settings.get("limit_cores", True) else {}
    requests: Body = {"cpu": f"{max(1, _share(millis, settings, 'requested_cores_share'))}m"}
    if asked.memory_bytes:
        limits["memory"] = str(asked.memory_bytes)
        share = _share(asked.memory_bytes, settings, "requested_memory_share")
        requests["memory"] = str(max(1, share))
    for name, count in counts(asked, gpu_name(settings, GPU)).items():
        # requests of extended resources are their limits
        limits[name] = requests[name] = str(count)
    if scratch := settings.get("scratch_request"):
        requests["ephemeral-storage"] = scratch
    return {"requests": requests, "limits": limits}


def _share(whole: int, settings: Mapping[str, Any], name: str) -> int:
    return math.ceil(whole * float(settings.get(name, 1.0)))


def encoded(body: Body) -> bytes:
    """Return an object as it is sent."""
    return json.dumps(body, separators=(",", ":")).encode()
