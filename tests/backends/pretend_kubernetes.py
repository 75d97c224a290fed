"""An API of Kubernetes that only pretends: as much of it as the backend uses, in memory, with pods
that run and end by themselves. For tests of what a real one does seldom, and where none is at hand.
"""

from __future__ import annotations

import asyncio
import json
import pathlib
import re
from collections.abc import Mapping
from typing import Any

from aiohttp import web

LABEL_IN = re.compile(r"([^\s,]+) in \(([^)]*)\)")
NAMESPACED = "/api/v1/namespaces/{namespace}"


class PretendKubernetes:
    """Pods and Secrets of all namespaces."""

    def __init__(self) -> None:
        self.version = 0
        self.pods: dict[tuple[str, str], dict[str, Any]] = {}
        self.others: dict[str, Any] = {}  # Secrets and budgets, by path
        self.made: list[str] = []  # names of pods, in the order of their creation
        self.calls: list[tuple[str, str]] = []
        self.refusals: list[tuple[int, str, str]] = []  # for the next creations
        self.logs: dict[str, str] = {}  # by the pod's name
        self.events: dict[str, list[dict[str, Any]]] = {}  # by the pod's name
        self.oldest = 0  # version that a watch may go on from
        self.page = 10  # pods of one answer
        self.schedules = True
        self._history: list[tuple[int, str, str, dict[str, Any]]] = []
        self._changed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._runner: web.AppRunner | None = None
        self.url = ""

    async def open(self) -> None:
        """Listen; on the same port again after a close."""
        app = web.Application(client_max_size=2**24)
        app.router.add_get(f"{NAMESPACED}/pods", self._list)
        app.router.add_post(f"{NAMESPACED}/pods", self._create)
        app.router.add_delete(f"{NAMESPACED}/pods", self._delete_some)
        app.router.add_delete(NAMESPACED + "/pods/{name}", self._delete_one)
        app.router.add_get(NAMESPACED + "/pods/{name}/log", self._log)
        app.router.add_get(f"{NAMESPACED}/events", self._events)
        app.router.add_route("*", "/{path:.*}", self._other)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        port = int(self.url.rpartition(":")[2]) if self.url else 0
        await web.TCPSite(self._runner, "127.0.0.1", port, reuse_address=True).start()
        self.url = self.url or f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def close(self) -> None:
        """Answer no more."""
        runner, self._runner = self._runner, None
        self._changed.set()  # who watches goes
        self._changed = asyncio.Event()
        if runner is not None:
            await runner.cleanup()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def kubeconfig(self, path: pathlib.Path) -> str:
        """Write how it is reached."""
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": {"server": self.url}}],
            "users": [{"name": "u", "user": {"token": "t"}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        }
        path.write_text(json.dumps(config))
        return str(path)

    def tell(self, kind: str, pod: dict[str, Any]) -> None:
        """Change a pod, and tell all who watch."""
        self.version += 1
        pod["metadata"]["resourceVersion"] = str(self.version)
        copy = json.loads(json.dumps(pod))
        self._history.append((self.version, kind, pod["metadata"]["namespace"], copy))
        self._changed.set()
        self._changed = asyncio.Event()

    def later(self, work: Any) -> None:
        """Do something beside what is asked."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _create(self, request: web.Request) -> web.Response:
        self.calls.append(("POST", request.path))
        if self.refusals:
            status, reason, message = self.refusals.pop(0)
            return refused(status, reason, message)
        pod = await request.json()
        namespace, name = request.match_info["namespace"], pod["metadata"]["name"]
        if (namespace, name) in self.pods:
            return refused(409, "AlreadyExists", f'pods "{name}" already exists')
        if pod["spec"].get("priorityClassName") == "nosuch":
            words = f'pods "{name}" is forbidden: no PriorityClass with name nosuch was found'
            return refused(403, "Forbidden", words)
        pod["metadata"] |= {"namespace": namespace, "uid": f"u{self.version + 1}"}
        pod["status"] = {"phase": "Pending"}
        self.pods[namespace, name] = pod
        self.made.append(name)
        self.tell("ADDED", pod)
        if self.schedules:
            self.later(self._run(namespace, name, pod))
        return web.json_response(pod, status=201)

    async def _run(self, namespace: str, name: str, pod: dict[str, Any]) -> None:
        await asyncio.sleep(0.02)
        if self.pods.get((namespace, name)) is pod:
            self.status(namespace, name, {"running": {}}, "Running")

    def status(self, namespace: str, name: str, state: Any, phase: str, **more: Any) -> None:
        """Give a pod a status."""
        pod = self.pods[namespace, name]
        states = [{"name": "dask", "state": state}]
        pod["status"] = {"phase": phase, "containerStatuses": states, **more}
        self.tell("MODIFIED", pod)

    def remove(self, namespace: str, name: str) -> None:
        """Remove a pod, and what it owns."""
        pod = self.pods.pop((namespace, name), None)
        if pod is None:
            return
        self.tell("DELETED", pod)
        uid = pod["metadata"]["uid"]
        for (where, other), one in list(self.pods.items()):
            owners = one["metadata"].get("ownerReferences") or []
            if where == namespace and any(owner["uid"] == uid for owner in owners):
                self.remove(where, other)

    async def _end(self, namespace: str, name: str, grace_s: float) -> None:
        pod = self.pods[namespace, name]
        if grace_s and "deletionTimestamp" not in pod["metadata"]:
            pod["metadata"]["deletionTimestamp"] = "2026-11-27T00:00:00Z"
            self.tell("MODIFIED", pod)
            await asyncio.sleep(0.02)
        if self.pods.get((namespace, name)) is pod:
            self.remove(namespace, name)

    async def _delete_one(self, request: web.Request) -> web.Response:
        self.calls.append(("DELETE", request.path))
        where = request.match_info["namespace"], request.match_info["name"]
        body = await request.json()
        pod = self.pods.get(where)
        if pod is None:
            return refused(404, "NotFound", "not found")
        if (body.get("preconditions") or {}).get("uid") not in (None, pod["metadata"]["uid"]):
            return refused(409, "Conflict", "the UID in the precondition does not match")
        self.later(self._end(*where, body["gracePeriodSeconds"]))
        return web.json_response({})

    async def _delete_some(self, request: web.Request) -> web.Response:
        self.calls.append(("DELETE", request.path))
        grace_s = (await request.json())["gracePeriodSeconds"]
        for namespace, name in self._selected(request):
            self.later(self._end(namespace, name, grace_s))
        return web.json_response({})

    def _selected(self, request: web.Request) -> list[tuple[str, str]]:
        chosen = request.query.get("labelSelector", "")
        return [
            where
            for where, pod in self.pods.items()
            if where[0] == request.match_info["namespace"]
            and selected(chosen, pod["metadata"]["labels"])
        ]

    async def _list(self, request: web.Request) -> web.StreamResponse:
        watch = request.query.get("watch") == "true"
        self.calls.append(("WATCH" if watch else "LIST", request.path))
        if watch:
            return await self._watch(request)
        found = self._selected(request)
        start = int(request.query.get("continue") or 0)
        more = start + self.page
        metadata = {"resourceVersion": str(self.version)}
        if more < len(found):
            metadata["continue"] = str(more)
        items = [self.pods[where] for where in found[start:more]]
        return web.json_response({"metadata": metadata, "items": items})

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        last = int(request.query["resourceVersion"])
        now = asyncio.get_running_loop().time()
        ends_at = now + float(request.query["timeoutSeconds"])
        if last < self.oldest:
            status = json.loads(refused(410, "Expired", "too old resource version").text or "")
            await answer.write(json.dumps({"type": "ERROR", "object": status}).encode() + b"\n")
            return answer
        namespace, chosen = request.match_info["namespace"], request.query["labelSelector"]
        while self._runner is not None:
            changed = self._changed
            for version, kind, where, pod in [one for one in self._history if one[0] > last]:
                last = version
                if where == namespace and selected(chosen, pod["metadata"]["labels"]):
                    line = json.dumps({"type": kind, "object": pod}).encode() + b"\n"
                    await answer.write(line)
            try:
                async with asyncio.timeout_at(ends_at):
                    await changed.wait()
            except TimeoutError:
                break
        return answer

    async def _log(self, request: web.Request) -> web.Response:
        self.calls.append(("LOG", request.path))
        name = request.match_info["name"]
        if name not in self.logs or (request.match_info["namespace"], name) not in self.pods:
            return refused(404, "NotFound", f"{request.path} not found")
        return web.Response(text=self.logs[name])

    async def _events(self, request: web.Request) -> web.Response:
        self.calls.append(("EVENTS", request.path))
        uid = request.query["fieldSelector"].rpartition("=")[2]
        named = {pod["metadata"]["uid"]: name for (_, name), pod in self.pods.items()}
        return web.json_response({"items": self.events.get(named.get(uid, ""), [])})

    async def _other(self, request: web.Request) -> web.Response:
        self.calls.append((request.method, request.path))
        if request.method == "PATCH":
            self.others.setdefault(request.path, {}).update(await request.json())
            return web.json_response({})
        if request.method == "DELETE" and self.others.pop(request.path, None) is not None:
            return web.json_response({})
        return refused(404, "NotFound", f"{request.path} not found")


def selected(chosen: str, labels: Mapping[str, str]) -> bool:
    """Whether a label selector chooses these labels."""
    for key, values in LABEL_IN.findall(chosen):
        if labels.get(key.lstrip(",")) not in values.split(","):
            return False
    plain = [word for word in LABEL_IN.sub("", chosen).split(",") if word]
    return all(labels.get(word.partition("=")[0]) == word.partition("=")[2] for word in plain)


def refused(status: int, reason: str, message: str) -> web.Response:
    """Return an answer that is no success."""
    told = {"kind": "Status", "code": status, "reason": reason, "message": message}
    headers = {"Retry-After": "0.05"} if status == 429 else {}
    return web.json_response(told, status=status, headers=headers)
