"""Strategic merge: how an administrator's own fields join a pod that was made here, by the rules
that Kubernetes itself has for pods (API conventions, "strategic merge patch"). Pure.

Mappings are merged; None removes a field; lists of objects that have a key are merged by it, other
lists replaced. `$patch: replace` and `$patch: delete` do what they do in Kubernetes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# by the name of the field: what its elements are told apart by
KEYS = {
    "containers": "name",
    "initContainers": "name",
    "ephemeralContainers": "name",
    "volumes": "name",
    "env": "name",
    "volumeMounts": "mountPath",
    "volumeDevices": "devicePath",
    "ports": "containerPort",
    "imagePullSecrets": "name",
    "hostAliases": "ip",
    "topologySpreadConstraints": "topologyKey",
    "resourceClaims": "name",
    "ownerReferences": "uid",
}
ADDED = frozenset({"tolerations"})  # joined: one more toleration takes none away
PATCH = "$patch"


def merged(base: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """Return a mapping with another merged into it; neither is changed."""
    if patch.get(PATCH) == "replace":
        return {key: value for key, value in patch.items() if key != PATCH}
    result = dict(base)
    for key, value in patch.items():
        if key == PATCH:
            continue
        if value is None:
            result.pop(key, None)
        elif isinstance(value, Mapping):
            below = result.get(key)
            result[key] = merged(below if isinstance(below, Mapping) else {}, value)
        elif isinstance(value, list | tuple):
            result[key] = _merged_list(key, result.get(key), list(value))
        else:
            result[key] = value
    return result


def _merged_list(field: str, base: Any, patch: list[Any]) -> list[Any]:
    told = list(base) if isinstance(base, list | tuple) else []
    if field in ADDED:
        return told + [one for one in patch if one not in told]
    key = KEYS.get(field)
    objects = all(isinstance(one, Mapping) for one in (*told, *patch))
    if key is None or not objects:
        return patch
    if any(one.get(PATCH) == "replace" for one in patch):
        return [dict(one) for one in patch if one.get(PATCH) != "replace"]
    result = {one.get(key, object()): dict(one) for one in told}
    for one in patch:
        name = one.get(key, object())
        if one.get(PATCH) == "delete":
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name, {}), one)
    return list(result.values())


def problem(value: object, where: str) -> str:
    """Return what is wrong with fields that are to be merged, an empty text if nothing is: texts,
    numbers, truth values, lists and mappings with texts as names."""
    if isinstance(value, Mapping):
        for key, below in value.items():
            if not isinstance(key, str):
                return f"{where}: names of fields are texts, not {key!r}"
            if wrong := problem(below, f"{where}.{key}"):
                return wrong
        return ""
    if isinstance(value, list | tuple):
        return next(
            (wrong for n, one in enumerate(value) if (wrong := problem(one, f"{where}[{n}]"))), ""
        )
    if value is None or isinstance(value, str | int | float | bool):
        return ""
    return f"{where}: {value!r:.60} is nothing that JSON can write"
