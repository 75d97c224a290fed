"""What the chart's Role grants: it is written down, each right is needed, and every call outside of
it is refused by the real API server."""

from __future__ import annotations

import asyncio
import json
import pathlib
from collections.abc import Awaitable, Iterator
from typing import Any

import pytest

from gateway.backends.conformance import UID
from gateway.backends.contract import BackendUnavailable, Phase, Target
from gateway.backends.kubernetes import api, waiting
from gateway.backends.kubernetes.refusals import Kind, Refusal
from tests.backends.real_kubernetes.rooms import (
    ACCOUNT,
    KubernetesRoom,
    fresh_namespace,
    rights,
    room_of,
)
from tests.deploy.helm import rendered
from tests.parts.kubernetes import Kubernetes

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

GOLDEN = pathlib.Path(__file__).with_name("rights.golden")
PATIENCE_S = 120.0
Right = tuple[str, str]  # verb and resource, such as get and pods/log
# a server-side apply of what is not there is noted as the patch that it is
APPLIED = ("secrets", "poddisruptionbudgets.policy")
# Kubernetes grants these to everybody: what one's own rights are
EVERYBODYS = {
    "selfsubjectaccessreviews.authorization.k8s.io",
    "selfsubjectrulesreviews.authorization.k8s.io",
    "selfsubjectreviews.authentication.k8s.io",
}


def named(resource: str, group: str) -> str:
    """Return a resource as kubectl calls it."""
    name, slash, part = resource.partition("/")
    return (f"{name}.{group}" if group else name) + slash + part


def granted(rules: list[dict[str, Any]]) -> set[Right]:
    """Return the rights of rules."""
    return {
        (verb, named(resource, group))
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def rules_of(granted: set[Right]) -> list[dict[str, Any]]:
    """Return rules that come to these rights."""
    found = []
    for verb, resource in sorted(granted):
        name, slash, part = resource.partition("/")
        plain, _, group = name.partition(".")
        found.append({"apiGroups": [group], "resources": [plain + slash + part], "verbs": [verb]})
    return found


def test_the_charts_role_is_the_one_that_is_written_down() -> None:
    found = rendered({"clusters": {"image": "dask:2026.3"}})
    kinds = [kind for kind, _ in found if kind.endswith(("Role", "RoleBinding"))]
    assert sorted(kinds) == ["Role", "RoleBinding"]
    (role,) = [one for (kind, _), one in found.items() if kind == "Role"]
    assert all(set(rule) == {"apiGroups", "resources", "verbs"} for rule in role["rules"])
    by_resource: dict[str, list[str]] = {}
    for verb, resource in sorted(granted(role["rules"])):
        by_resource.setdefault(resource, []).append(verb)
    lines = [
        f"  {resource}: {', '.join(by_resource[resource])}" for resource in sorted(by_resource)
    ]
    assert "\n".join(["in one namespace, by a Role:", *lines, ""]) == GOLDEN.read_text()
    assert granted(role["rules"]) == granted(rights())


# Each right is needed


def noted(kube: Kubernetes, account: str) -> Iterator[tuple[Right, int]]:
    """Yield what the API server notes of an account: what it asked for, and the answer's code."""
    for line in kube.audit_log.read_text().splitlines(keepends=True):
        if not line.endswith("\n"):
            return  # it is just being written
        one = json.loads(line)
        if one["user"]["username"] == account and "objectRef" in one:
            told = one["objectRef"]
            resource = told["resource"] + (
                f"/{told['subresource']}" if "subresource" in told else ""
            )
            right = one["verb"], named(resource, told.get("apiGroup", ""))
            yield right, one.get("responseStatus", {}).get("code", 0)


def as_noted(right: Right) -> Right:
    """Return what a use of a right is noted as."""
    verb, resource = right
    return ("patch", resource) if verb == "create" and resource in APPLIED else right


async def tried(call: Awaitable[Any]) -> Any:
    """Await what may be refused."""
    try:
        return await call
    except BackendUnavailable:
        return None


async def all_that_it_does(room: KubernetesRoom) -> None:
    """Have the backend make every kind of call once, as far as it may: a scheduler, workers, one
    of them without a place, their ends one by one and together, what is left."""
    names = ["scheduler", *(f"default-{n}" for n in range(5))]
    launches = [room.launch(name) for name in names]
    nowhere = room.launch("default-9", options={"node_selector": {"no": "such"}})
    targets = [Target(one.instance, "", room.user) for one in [*launches, nowhere]]
    await tried(room.backend.start([*launches, nowhere]))
    for _ in range(50):
        seen = await tried(room.backend.observations(targets)) or {}
        running = [one for one in seen.values() if one.phase is Phase.RUNNING]
        if not seen or len(running) == len(launches):
            break
        await asyncio.sleep(0.1)
    await tried(room.backend.observations(targets))
    await tried(room.backend.stop(targets[1:2]))
    await tried(room.backend.stop([targets[0], *targets[2:]]))
    for _ in range(50):
        seen = await tried(room.backend.observations(targets)) or {}
        if all(one.phase is Phase.GONE for one in seen.values()):
            break
        await asyncio.sleep(0.1)
    await tried(room.backend.cleanup(UID))
    await tried(room.backend.purge(UID))


async def test_every_right_is_needed_and_no_other(
    kubernetes: Kubernetes, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same work by an account with all rights, which is refused nothing, and by one account for
    each right, which has all others: it is refused what needs that right."""
    monkeypatch.setattr(waiting, "ASK_AFTER_S", 0.0)
    every = granted(rights())
    namespace = kubernetes.namespace("dask-rights")
    accounts = {"all": every}
    for number, right in enumerate(sorted(every)):
        accounts[f"lacks-{number}"] = every - {right}

    def refused_or_used(name: str) -> bool:
        told = list(noted(kubernetes, f"system:serviceaccount:{namespace}:{name}"))
        if name == "all":
            return {as_noted(right) for right in every} <= {right for right, _ in told}
        (lacking,) = every - accounts[name]
        return (as_noted(lacking), 403) in told

    async def work(name: str) -> str:
        config = await asyncio.to_thread(
            kubernetes.account, namespace, name, rules_of(accounts[name])
        )
        room = await room_of(kubernetes, tmp_path / name, namespace, config)
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not refused_or_used(name):
                    await all_that_it_does(room)
        except TimeoutError:
            return f"{name}: {sorted(every - accounts[name])} is not needed, or not all are used"
        finally:
            await room.leave()
        return ""

    turns = asyncio.Semaphore(4)

    async def in_turn(name: str) -> str:
        async with turns:
            return await work(name)

    wrong = await asyncio.gather(*(in_turn(name) for name in accounts))
    assert not [one for one in wrong if one]
    told = list(noted(kubernetes, f"system:serviceaccount:{namespace}:all"))
    assert not [(right, code) for right, code in told if code in (401, 403)]
    assert {right for right, _ in told} == {as_noted(right) for right in every}


# What is outside


def all_resources(kube: Kubernetes) -> list[tuple[str, str, bool, str, list[str]]]:
    """Return every resource that there is: prefix of its path, name, whether namespaced, as kubectl
    calls it, its verbs."""
    groups = json.loads(kube.kubectl("get", "--raw=/apis"))["groups"]
    places = [("/api/v1", "")]
    for group in groups:
        places.append((f"/apis/{group['preferredVersion']['groupVersion']}", group["name"]))
    found = []
    for prefix, group in places:
        for one in json.loads(kube.kubectl("get", f"--raw={prefix}"))["resources"]:
            called = named(one["name"], group)
            if called not in EVERYBODYS:
                found.append((prefix, one["name"], one["namespaced"], called, one["verbs"]))
    return found


METHODS = {
    "create": "POST",
    "get": "GET",
    "list": "GET",
    "watch": "GET",
    "update": "PUT",
    "patch": "PATCH",
    "delete": "DELETE",
    "deletecollection": "DELETE",
}


def request(verb: str, prefix: str, resource: str, namespace: str) -> tuple[str, str, list[Any]]:
    """Return method, path and query of a call; an empty namespace: of the whole cluster."""
    name, slash, part = resource.partition("/")
    path = f"{prefix}/namespaces/{namespace}/{name}" if namespace else f"{prefix}/{name}"
    if slash or verb in ("get", "update", "patch", "delete"):
        path += "/some-name" + slash + part
    return METHODS[verb], path, [("watch", "true")] if verb == "watch" else []


async def test_every_call_outside_of_the_role_is_refused(kubernetes: Kubernetes) -> None:
    """All verbs of all resources that the API server has: in the gateway's namespace all but what
    is granted, in another namespace and in the whole cluster everything."""
    namespace, config = await asyncio.to_thread(fresh_namespace, kubernetes)
    resources = await asyncio.to_thread(all_resources, kubernetes)
    every = granted(rights())
    calls = []
    for prefix, resource, namespaced, called, verbs in resources:
        for verb in verbs:
            if not namespaced:
                calls.append(request(verb, prefix, resource, ""))
                continue
            calls.append(request(verb, prefix, resource, "default"))
            if (verb, called) not in every:
                calls.append(request(verb, prefix, resource, namespace))
            if verb in ("list", "watch"):
                calls.append(request(verb, prefix, resource, ""))
    asked = {f"{method} {path}" for method, path, _ in calls}
    for words in (
        f"GET /api/v1/namespaces/{namespace}/secrets",
        f"GET /api/v1/namespaces/{namespace}/secrets/some-name",
        f"POST /api/v1/namespaces/{namespace}/pods/some-name/exec",
        f"POST /api/v1/namespaces/{namespace}/serviceaccounts/some-name/token",
        "POST /api/v1/namespaces/default/pods",
        "GET /api/v1/nodes",
        "GET /api/v1/pods",
        "GET /apis/apiextensions.k8s.io/v1/customresourcedefinitions",
    ):
        assert words in asked
    connection = await api.connected(str(config), "", timeout_s=60.0, concurrency=16)
    try:
        answers = await asyncio.gather(*(refused(connection, *call) for call in calls))
    finally:
        await connection.close()
    assert not [one for one in answers if one]
    assert len(calls) > 500
    # and what is granted is
    assert f"system:serviceaccount:{namespace}:{ACCOUNT}" in kubernetes.audit_log.read_text()


async def refused(connection: api.Api, method: str, path: str, query: list[Any]) -> str:
    """Return what is wrong if a call is not refused for want of a right."""
    body: object = {} if method in ("POST", "PUT", "PATCH") else None
    kind = "application/merge-patch+json" if method == "PATCH" else api.JSON
    try:
        await connection.call(method, path, query, body, kind=kind)
    except Refusal as error:
        if (error.status, error.kind) == (403, Kind.RIGHTS):
            return ""
        return f"{method} {path}: {error.status} {error}"
    return f"{method} {path}: it is let through"
