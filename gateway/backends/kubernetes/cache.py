"""What is known of a gateway's pods in one namespace: lists, watches and answers taken in, in
whatever order they come. Pure.

A watch may be late, repeat itself, play back what is over, or lack something. So nothing older than
what is known is taken in, what is gone stays gone unless a list has it, and what vanished with no
word of its end is asked for once more by a list. A list is the truth of its moment.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from gateway.backends.contract import Instance, Phase
from gateway.backends.kubernetes import names, states
from gateway.backends.kubernetes.manifests import CONTAINER
from gateway.backends.kubernetes.states import Standing
from gateway.wire import decimal

PART = 250  # pods of a list that are taken in at once
MAX_BURIED = 100_000  # pods that are remembered to be gone, the oldest forgotten first


@dataclass(frozen=True, slots=True)
class Pod:
    """One pod, as far as anybody here asks."""

    name: str
    uid: str
    version: int  # its resourceVersion, by which older news is told from newer
    instance: Instance
    standing: Standing
    user: str = ""
    node: str = ""
    deleting: bool = False  # somebody has asked for its end
    hooked: bool = False  # its container has a postStart hook, with whose failure it ends


@dataclass(frozen=True, slots=True)
class Change:
    """What has become of a pod; `gone`: it exists no more, and so it ended."""

    pod: Pod
    gone: Standing | None = None


def pod_of(tag: str, body: Mapping[str, Any]) -> Pod | None:
    """Return what the API says of a pod, None if it is none of this gateway's."""
    metadata = body.get("metadata")
    if not isinstance(metadata, Mapping):
        return None
    name, labels = str(metadata.get("name") or ""), metadata.get("labels")
    instance = names.instance_of(tag, name, labels if isinstance(labels, Mapping) else {})
    if instance is None:
        return None
    annotations = metadata.get("annotations")
    user = annotations.get(names.USER_ANNOTATION) if isinstance(annotations, Mapping) else ""
    spec = body.get("spec")
    return Pod(
        name,
        str(metadata.get("uid") or ""),
        decimal(str(metadata.get("resourceVersion") or "")) or 0,
        instance,
        states.standing(body),
        str(user or ""),
        str(spec.get("nodeName") or "") if isinstance(spec, Mapping) else "",
        bool(metadata.get("deletionTimestamp")),
        isinstance(spec, Mapping) and _hooked(spec),
    )


def _hooked(spec: Mapping[str, Any]) -> bool:
    containers = spec.get("containers")
    for one in containers if isinstance(containers, list) else ():
        if isinstance(one, Mapping) and one.get("name") == CONTAINER:
            lifecycle = one.get("lifecycle")
            return isinstance(lifecycle, Mapping) and bool(lifecycle.get("postStart"))
    return False


@dataclass(slots=True)
class Cache:
    """The pods of one gateway in one namespace."""

    tag: str
    pods: dict[Instance, Pod] = field(default_factory=dict)
    version: str = ""  # from which a watch goes on
    # uids of pods that are gone, and the version at which they were
    buried: dict[str, int] = field(default_factory=dict)
    # vanished, and nobody knows why: the next list decides
    doubtful: dict[Instance, Pod] = field(default_factory=dict)

    def listed(
        self, pods: Sequence[Pod], version: str, asked: Collection[Instance] = ()
    ) -> list[Change]:
        """Take in all pods that there were at a version. `asked`: whose end was asked for."""
        return [one for part in self.listing(pods, version, asked) for one in part]

    def listing(
        self, pods: Sequence[Pod], version: str, asked: Collection[Instance] = ()
    ) -> Iterator[list[Change]]:
        """Take in all pods that there were at a version, in parts. Between two of them events may
        be heard, which are newer than the list."""
        now, seen = decimal(version) or 0, set()
        for start in range(0, len(pods), PART):
            changes: list[Change] = []
            for pod in pods[start : start + PART]:
                seen.add(pod.instance)
                if now and self.buried.get(pod.uid, 0) > now:
                    continue  # its end was heard while the list was on its way
                self.buried.pop(pod.uid, None)
                changes += self._take(pod)
            yield changes
        known = [*self.doubtful.values(), *self.pods.values()]
        for start in range(0, len(known), PART):
            changes = []
            for pod in known[start : start + PART]:
                # what was made after the list is not in it
                if pod.instance in seen or (now and pod.version > now):
                    continue
                if pod in (self.pods.get(pod.instance), self.doubtful.get(pod.instance)):
                    self.pods.pop(pod.instance, None)
                    self.doubtful.pop(pod.instance, None)
                    changes.append(self._bury(pod, _ended(pod, pod.instance in asked), now))
            yield changes
        self.version = version

    def created(self, body: Mapping[str, Any]) -> Pod | None:
        """Take in a pod that the API says it has made; its version is not one to watch from."""
        pod = pod_of(self.tag, body)
        if pod is not None:
            self._take(pod)
        return pod

    def heard(
        self, kind: str, body: Mapping[str, Any], asked: Collection[Instance] = ()
    ) -> list[Change]:
        """Take in one event of a watch."""
        metadata = body.get("metadata")
        version = metadata.get("resourceVersion") if isinstance(metadata, Mapping) else None
        if version:
            self.version = str(version)
        if kind not in ("ADDED", "MODIFIED", "DELETED"):
            return []
        pod = pod_of(self.tag, body)
        if pod is None or pod.uid in self.buried:
            return []
        if kind != "DELETED":
            return self._take(pod)
        known = self.pods.get(pod.instance)
        if known is None or known.uid != pod.uid or pod.version < known.version:
            return []
        del self.pods[pod.instance]
        ours = pod.instance in asked
        if not pod.deleting and pod.standing.phase is not Phase.GONE and not ours:
            self.doubtful[pod.instance] = pod
            return []
        return [self._bury(pod, states.removed(body, ours), pod.version)]

    def _take(self, pod: Pod) -> list[Change]:
        known = self.pods.get(pod.instance)
        if known is not None and pod.version <= known.version and pod.version:
            return []
        changes = []
        if known is not None and known.uid != pod.uid:
            changes.append(self._bury(known, _ended(known, asked=False), known.version))
        self.doubtful.pop(pod.instance, None)
        self.pods[pod.instance] = pod
        same = known is not None and (known.uid, known.standing) == (pod.uid, pod.standing)
        return changes if same else [*changes, Change(pod)]

    def _bury(self, pod: Pod, end: Standing, version: int) -> Change:
        self.buried[pod.uid] = version
        while len(self.buried) > MAX_BURIED:
            del self.buried[next(iter(self.buried))]
        return Change(pod, end)


def _ended(pod: Pod, asked: bool) -> Standing:
    """Return how a pod ended that a list lacks, by the last that was seen of it."""
    if pod.standing.phase is Phase.GONE:
        return pod.standing
    if asked:
        return Standing(Phase.GONE)
    why = pod.standing.message if pod.standing.phase is Phase.RUNNING else ""
    words = why or states.DELETED
    return replace(Standing(Phase.GONE), message=words)
