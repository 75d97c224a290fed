"""Which pod is which instance: its name and its labels say it, so that it is found again with no
record at all. Pure.

    {tag}-{uid}-{name}      a pod, such as dgw1a2b3c-cabc…-default-7
    {tag}-{uid}             the Secret of a cluster, and the disruption budget of its scheduler

`tag` tells one gateway's objects from another's in the same namespace. Whoever may create pods
there may give them any labels: only a pod whose name is the one that its labels lead to is taken
for ours.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping

from gateway.backends.contract import SCHEDULER_NAME, Instance, Role
from gateway.wire import is_instance_name, is_uid

TAG = re.compile(r"[a-z][a-z0-9]{0,15}")
PREFIX = "daskgateway/"  # of labels and annotations that are the gateway's own
TAG_LABEL, UID_LABEL, NAME_LABEL, ROLE_LABEL, GROUP_LABEL, USER_LABEL = (
    PREFIX + word for word in ("gateway", "cluster", "name", "role", "group", "user")
)
USER_ANNOTATION = PREFIX + "user"  # as the user is called; the label may be a hash of it
MAX_LABEL = 63  # characters of a label's value and of a namespace's name
SELECTED = 200  # names in one selector: some 4 KiB of a URL
_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
_NAMESPACE = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
_OTHERS = re.compile(r"[^a-z0-9-]+")


def pod_name(tag: str, instance: Instance) -> str:
    """Return the name of an instance's pod."""
    return f"{tag}-{instance.uid}-{instance.name}"


def cluster_name(tag: str, uid: str) -> str:
    """Return the name of what a cluster has once: its Secret, its scheduler's disruption budget."""
    return f"{tag}-{uid}"


def group_of(instance: Instance) -> str:
    """Return the group of a worker, an empty text for a scheduler."""
    return "" if instance.role is Role.SCHEDULER else instance.name.rpartition("-")[0]


def labels(tag: str, instance: Instance, user: str) -> dict[str, str]:
    """Return a pod's labels: the common ones of Kubernetes, and ours."""
    group = group_of(instance)
    return {
        "app.kubernetes.io/name": "dask",
        "app.kubernetes.io/component": instance.role.value,
        "app.kubernetes.io/managed-by": "daskgateway",
        TAG_LABEL: tag,
        UID_LABEL: instance.uid,
        NAME_LABEL: instance.name,
        ROLE_LABEL: instance.role.value,
        USER_LABEL: label_value(user),
        **({GROUP_LABEL: group} if group else {}),
    }


def label_value(text: str) -> str:
    """Return a text as a label's value: itself, or a hash where Kubernetes would refuse it."""
    if len(text) <= MAX_LABEL and _LABEL.fullmatch(text):
        return text
    return "sha256-" + hashlib.sha256(text.encode()).hexdigest()[:32]


def is_namespace(text: str) -> bool:
    """Whether a namespace may be called so (RFC 1123 label)."""
    return len(text) <= MAX_LABEL and _NAMESPACE.fullmatch(text) is not None


def namespace(template: str, user: str) -> str:
    """Return the namespace of a user's clusters. A name that is none for a namespace is changed,
    and marked with a hash, so that two users never meet in one."""
    if "{user}" not in template:
        return template
    room = MAX_LABEL - len(template.replace("{user}", ""))
    plain = _NAMESPACE.fullmatch(user) is not None and len(user) <= room
    if not plain:
        mark = hashlib.sha256(user.encode()).hexdigest()[:8]
        kept = _OTHERS.sub("-", user.lower()).strip("-")[: max(0, room - 9)].rstrip("-")
        user = f"{kept}-{mark}" if kept else f"u{mark}"
    return template.replace("{user}", user)


def instance_of(tag: str, name: str, labels: Mapping[str, str]) -> Instance | None:
    """Return which instance a pod is, None if it is none of this gateway's."""
    uid, told = labels.get(UID_LABEL, ""), labels.get(NAME_LABEL, "")
    if labels.get(TAG_LABEL) != tag or not is_uid(uid) or not is_instance_name(told):
        return None
    role = Role.SCHEDULER if told == SCHEDULER_NAME else Role.WORKER
    instance = Instance(uid, role, told)
    return instance if name == pod_name(tag, instance) else None


def selector(tag: str, uid: str = "", names: Iterable[str] = ()) -> str:
    """Return the label selector of all pods of a gateway, of a cluster, or of instances by name."""
    words = [f"{TAG_LABEL}={tag}"] + ([f"{UID_LABEL}={uid}"] if uid else [])
    told = ",".join(sorted(names))
    return ",".join([*words, f"{NAME_LABEL} in ({told})"] if told else words)
