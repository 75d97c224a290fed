"""What a pod's status says of its instance: where it stands, why it waits, how it ended, in words
for users. Pure: tables and functions over what the API answers.

The words of Kubernetes are kept, for whoever asks an administrator, and before them stands what
they mean.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from gateway.backends.contract import Phase
from gateway.backends.kubernetes.manifests import CONTAINER

MAX_WORDS = 2000  # characters of anything that the API says


class Wait(str, Enum):
    """What a pod waits for: it decides for how long it may."""

    NOTHING = ""
    NODE = "node"  #: no node has room for it
    IMAGE = "image"  #: its image cannot be pulled, which may change
    START = "start"  #: a node has it, and makes it ready
    HOPELESS = "hopeless"  #: what it waits for never comes


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a pod stands."""

    phase: Phase
    message: str = ""
    exit_code: int | None = None
    wait: Wait = Wait.NOTHING
    # whether the status itself says how it ended
    told: bool = False


# reasons of a container that waits: what they mean, and what it waits for
WAITING: Mapping[str, tuple[str, Wait]] = {
    "ContainerCreating": ("its container is being made", Wait.START),
    "PodInitializing": ("what comes before its container runs", Wait.START),
    "ErrImagePull": ("its image cannot be pulled", Wait.IMAGE),
    "ImagePullBackOff": ("its image cannot be pulled", Wait.IMAGE),
    "RegistryUnavailable": ("the registry of its image does not answer", Wait.IMAGE),
    "ImageInspectError": ("its image cannot be read", Wait.IMAGE),
    "SignatureValidationFailed": ("its image is not signed as it must be", Wait.IMAGE),
    "InvalidImageName": ("its image has a name that none can have", Wait.HOPELESS),
    "ErrImageNeverPull": (
        "its image is not on the node, and its pull policy is Never",
        Wait.HOPELESS,
    ),
    "CreateContainerConfigError": (
        "its container cannot be made of what it names, such as a Secret or a key in it",
        Wait.IMAGE,
    ),
    "CreateContainerError": ("its container cannot be made", Wait.IMAGE),
    "RunContainerError": ("its container cannot be run", Wait.IMAGE),
    "CrashLoopBackOff": ("it ends as soon as it is started", Wait.IMAGE),
}
# reasons of a pod as a whole: what they mean
ENDED: Mapping[str, str] = {
    "Evicted": "its node was short of something and has evicted it",
    "Preempted": "a pod of higher priority has taken its place",
    "Preempting": "a pod of higher priority has taken its place",
    "NodeLost": "its node was lost",
    "NodeShutdown": "its node was shut down",
    "Shutdown": "its node was shut down",
    "Terminated": "its node was shut down",
    "NodeAffinity": "its node no longer fits its node selector",
    "DeadlineExceeded": "it has lived for as long as it may (activeDeadlineSeconds)",
    "OutOfcpu": "its node had no cores left for it",
    "OutOfmemory": "its node had no memory left for it",
    "OutOfpods": "its node may run no more pods",
    "UnexpectedAdmissionError": "its node has refused it",
}
# reasons of the condition DisruptionTarget
DISRUPTED: Mapping[str, str] = {
    "PreemptionByScheduler": "a pod of higher priority takes its place",
    "DeletionByTaintManager": "its node was lost or is closed to it",
    "EvictionByEvictionAPI": "its node is being drained",
    "DeletionByPodGC": "its node is gone",
    "TerminationByKubelet": "its node ends it: it is short of something, or shuts down",
}
# reasons of a container that has ended
TERMINATED: Mapping[str, str] = {
    "OOMKilled": "it was killed, for it used more memory than its limit",
    "StartError": "its command cannot be started",
    "ContainerCannotRun": "its command cannot be started",
    "ContainerStatusUnknown": "its node was lost before it told how it ended",
    "DeadlineExceeded": ENDED["DeadlineExceeded"],
}
DELETED = "somebody, or something, has deleted its pod"
SIGNALS = {130: "SIGINT", 137: "SIGKILL", 139: "SIGSEGV", 143: "SIGTERM"}
# reasons of events that say why a pod waits, and what they mean
EVENTS: Mapping[str, str] = {
    "FailedMount": "a volume cannot be mounted",
    "FailedAttachVolume": "a volume cannot be attached",
    "FailedCreatePodSandBox": "its network or sandbox cannot be made",
    "FailedScheduling": "no node has room for it",
    "NetworkNotReady": "the network of its node is not ready",
    "Pulling": "its image is being pulled",
    "Pulled": "its image is on its node",
    "Failed": "its node says",
    "BackOff": "its node says",
}
SCALES_UP = "TriggeredScaleUp"  # the cluster autoscaler brings a node
NO_SCALE_UP = "NotTriggerScaleUp"
HOOK_FAILED = "FailedPostStartHook"
_SPACES = re.compile(r"\s+")
_BEFORE = re.compile(r'Error: |Failed to pull image "[^"]*": ')  # what a status says alike
MAX_REPEATED = 300  # characters by which it is told that a status says it too


def standing(pod: Mapping[str, Any]) -> Standing:
    """Return where a pod stands by what the API says of it."""
    status = _mapping(pod.get("status"))
    state = _container_state(status)
    phase = str(status.get("phase") or "Pending")
    ended = _mapping(state.get("terminated"))
    if phase in ("Succeeded", "Failed"):
        return _ended(status, ended)
    if ended:  # the pod's phase follows
        return _ended(status, ended)
    disrupted = _disruption(status)
    if state.get("running") is not None:
        return Standing(Phase.RUNNING, disrupted)
    return _waits(status, _mapping(state.get("waiting")))


def _ended(status: Mapping[str, Any], ended: Mapping[str, Any]) -> Standing:
    code = ended.get("exitCode")
    exit_code = code if isinstance(code, int) and not isinstance(code, bool) else None
    if exit_code is None and status.get("phase") == "Succeeded":
        exit_code = 0
    reason, why = str(ended.get("reason") or ""), str(status.get("reason") or "")
    words: list[str] = []
    if why in ENDED:
        words.append(_told(ENDED[why], why, status.get("message")))
    elif why:
        words.append(_told("", why, status.get("message")))
    elif disrupted := _disruption(status):
        words.append(disrupted)
    last = str(ended.get("message") or "").strip()[-MAX_WORDS:]
    if reason in TERMINATED and reason != why:
        said = last if reason != "OOMKilled" else ""
        words.append(_told(TERMINATED[reason], reason, said))
        last = "" if said else last
    elif exit_code in SIGNALS and not words:
        words.append(f"it was ended by {SIGNALS[exit_code]}")
    if exit_code and not words:
        words.append(f"exit code {exit_code}")
    if not ended and not words and (before := _failed_before(status)):
        words.append(before)
    message = "; ".join(words)
    if last:
        message = f"{message}: {last}" if message else last
    return Standing(Phase.GONE, message, exit_code, told=bool(ended or words))


def _failed_before(status: Mapping[str, Any]) -> str:
    """Return how a container ended for whose failure the instance was never started."""
    first = status.get("initContainerStatuses")
    for one in first if isinstance(first, list) else ():
        ended = _mapping(_mapping(_mapping(one).get("state")).get("terminated"))
        if ended.get("exitCode"):
            name = str(_mapping(one).get("name"))
            return (
                f"the container {name}, which comes before it, failed: {_ended({}, ended).message}"
            )
    return ""


def _waits(status: Mapping[str, Any], waiting: Mapping[str, Any]) -> Standing:
    scheduled = _condition(status, "PodScheduled")
    if scheduled.get("status") == "False":
        reason = str(scheduled.get("reason") or "")
        words = {
            "Unschedulable": "no node has room for it",
            "SchedulingGated": "it is held back by a scheduling gate",
        }.get(reason, "it has no node yet")
        return Standing(
            Phase.QUEUED, _told(words, reason, scheduled.get("message")), wait=Wait.NODE
        )
    reason = str(waiting.get("reason") or "")
    if reason:
        words, wait = WAITING.get(reason, ("its container waits", Wait.START))
        return Standing(Phase.QUEUED, _told(words, reason, waiting.get("message")), wait=wait)
    if scheduled.get("status") == "True":
        return Standing(Phase.QUEUED, "its node makes it ready", wait=Wait.START)
    return Standing(Phase.QUEUED, "it has no node yet", wait=Wait.NODE)


def removed(pod: Mapping[str, Any], asked: bool) -> Standing:
    """Return how a pod ended that exists no more, by the last that was seen of it. `asked`: whether
    this gateway has asked for its end."""
    last = standing(pod)
    if last.phase is Phase.GONE and (last.told or asked):
        return last
    if asked:
        return Standing(Phase.GONE)
    disrupted = _disruption(_mapping(pod.get("status")))
    words = disrupted or DELETED
    return replace(last, phase=Phase.GONE, message=words, wait=Wait.NOTHING)


def deleted(end: Standing) -> Standing:
    """Return how a pod ended that was deleted, or is, by another than this gateway. A process that
    ends well when it is told to has not ended by itself: there is no exit code 0 then."""
    code = end.exit_code or None
    known = (*DISRUPTED.values(), *ENDED.values(), *TERMINATED.values())
    if any(end.message.startswith(words) for words in known):
        return replace(end, exit_code=code)
    if end.message.startswith(DELETED) or (code is not None and code not in SIGNALS):
        return end
    message = f"{DELETED}: {end.message}" if end.message else DELETED
    return replace(end, exit_code=code, message=message)


def by_hook(end: Standing, message: str) -> Standing:
    """Return how a pod ended whose postStart hook failed, as its Event says: its node ended it for
    that. Whatever its process made of the signal, it has not ended by itself."""
    words = _told("its postStart hook failed, so its node ended it", HOOK_FAILED, message)
    more = f"; {end.message}" if end.message else ""
    return replace(end, exit_code=end.exit_code or None, message=words + more)


def explained(waits: Standing, events: Iterable[tuple[str, str]]) -> Standing:
    """Return a pod that waits with what events (reason and message, the oldest first) say of it."""
    latest = dict(events)
    message = waits.message
    if waits.wait is Wait.NODE:
        if SCALES_UP in latest:
            told = _told("a node is being brought for it", SCALES_UP, latest[SCALES_UP])
            message = f"{told}; {message}"
        elif NO_SCALE_UP in latest:
            told = _told("no node is brought for it", NO_SCALE_UP, latest[NO_SCALE_UP])
            message = f"{message}; {told}"
    elif waits.wait is Wait.START:
        for reason, words in latest.items():
            if reason in EVENTS and reason != "FailedScheduling":
                message = _told(EVENTS[reason], reason, words)
    elif waits.wait is Wait.IMAGE:
        # a status may say no more than that it is tried again
        why = _BEFORE.sub("", latest.get("Failed", ""), count=1)
        if why[:MAX_REPEATED] not in message:
            message = f"{message}; {_told(EVENTS['Failed'], 'Failed', why)}"
    return replace(waits, message=message)


def brings_node(events: Iterable[tuple[str, str]]) -> bool:
    """Whether the autoscaler has said of a pod that it brings a node for it."""
    return any(reason == SCALES_UP for reason, _ in events)


def _told(words: str, reason: str, message: object) -> str:
    said = _SPACES.sub(" ", str(message or "")).strip()[:MAX_WORDS]
    named = f" ({reason})" if reason and words else reason
    return f"{words}{named}" + (f": {said}" if said else "")


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _condition(status: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    conditions = status.get("conditions")
    for one in conditions if isinstance(conditions, list) else ():
        if isinstance(one, Mapping) and one.get("type") == kind:
            return one
    return {}


def _disruption(status: Mapping[str, Any]) -> str:
    condition = _condition(status, "DisruptionTarget")
    if condition.get("status") != "True":
        return ""
    reason = str(condition.get("reason") or "")
    return _told(DISRUPTED.get(reason, "it is to be ended"), reason, condition.get("message"))


def _container_state(status: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the state of the container that is the instance; or of one before it that cannot
    start."""
    states = status.get("containerStatuses")
    for one in states if isinstance(states, list) else ():
        if isinstance(one, Mapping) and one.get("name") == CONTAINER:
            own = _mapping(one.get("state"))
            if _mapping(own.get("waiting")).get("reason") != "PodInitializing":
                return own
    first = status.get("initContainerStatuses")
    for one in first if isinstance(first, list) else ():
        state = _mapping(_mapping(one).get("state"))
        if _mapping(state.get("waiting")).get("reason"):
            return state
    return {"waiting": {"reason": "PodInitializing"}} if first else {}
