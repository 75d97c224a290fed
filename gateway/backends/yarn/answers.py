"""What Hadoop's web services say, as data: applications, queues, log files. Pure; what is not
understood is BackendUnavailable, never an empty answer."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from gateway.backends.contract import BackendUnavailable

APPLICATION_ID = re.compile(r"application_[0-9]+_[0-9]+")
ENDED = ("FINISHED", "FAILED", "KILLED")
MAX_DIAGNOSTICS = 20_000
MOST_LOG_BYTES = 2**43  # what is told as longer is no log: a file of ours could not hold it


@dataclass(frozen=True, slots=True)
class Application:
    """An application, as the ResourceManager tells of it."""

    id: str
    state: str
    final: str = ""
    diagnostics: str = ""
    queue: str = ""
    user: str = ""
    name: str = ""
    tags: frozenset[str] = frozenset()
    address: str = ""  # of its master: host:port, empty while it has none
    containers: int = 0  # that run, its master's too
    allocated_mb: int = 0
    attempt: str = ""  # where its master runs
    started_ms: int = 0

    @property
    def ended(self) -> bool:
        """Whether it is over."""
        return self.state in ENDED


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue of the capacity or the fair scheduler."""

    path: str  # its whole name, such as root.default
    running: bool = True
    most_mb: int = 0  # of one container; 0: not told
    most_cores: int = 0
    most: dict[str, int] = field(default_factory=dict)  # of other resource types, by name
    labels: tuple[str, ...] = ()  # of nodes that it may use; `*`: all


@dataclass(frozen=True, slots=True)
class LogPiece:
    """The end of a log file."""

    size: int  # of the whole file, in bytes
    content: bytes  # its last bytes


def applications(said: Any) -> list[Application]:
    """Return the applications of a listing."""
    apps = said.get("apps", "?") if isinstance(said, dict) else "?"
    if apps is not None and not isinstance(apps, dict):
        raise BackendUnavailable(f"the ResourceManager lists no applications: {str(said)[:200]}")
    # what is passed over is asked for by its name before it counts as ended
    found = [application(one) for one in _several((apps or {}).get("app"))]
    return [one for one in found if one is not None]


def _several(said: Any) -> list[Any]:
    """Return what is listed: some versions tell one without a list, and none as null."""
    return said if isinstance(said, list) else [] if said in (None, {}) else [said]


def container_state(said: Any) -> str:
    """Return the state of a container, as its NodeManager says."""
    told = said.get("container") if isinstance(said, dict) else None
    state = told.get("state") if isinstance(told, dict) else None
    if not isinstance(state, str) or not state:
        raise BackendUnavailable(f"a NodeManager tells of no container: {str(said)[:200]}")
    return state


def application(said: Any) -> Application | None:
    """Return an application; None if it has no name that could be one."""
    if not isinstance(said, dict) or not APPLICATION_ID.fullmatch(str(said.get("id"))):
        return None
    address = str(said.get("amRPCAddress") or "")
    return Application(
        id=str(said["id"]),
        state=str(said.get("state") or ""),
        final=str(said.get("finalStatus") or ""),
        diagnostics=str(said.get("diagnostics") or "")[:MAX_DIAGNOSTICS],
        queue=str(said.get("queue") or ""),
        user=str(said.get("user") or ""),
        name=str(said.get("name") or ""),
        tags=frozenset(filter(None, str(said.get("applicationTags") or "").split(","))),
        address=address if re.fullmatch(r"[^\s/]+:[1-9][0-9]*", address) else "",
        containers=_number(said.get("runningContainers")),
        allocated_mb=_number(said.get("allocatedMB")),
        attempt=str(said.get("amContainerLogs") or ""),
        started_ms=_number(said.get("startedTime")),
    )


def open_requests(said: Any) -> int | None:
    """Return how many containers an application has asked for and not been given; None if that is
    not understood. Where there are none, nothing is said of them."""
    if not isinstance(said, dict):
        return None
    listed = said.get("resourceRequests") or []
    listed = [listed] if isinstance(listed, dict) else listed
    if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
        return None
    # a request names its nodes and racks too, each with its own count: `*` is all of it
    return sum(
        _number(one.get("numContainers")) for one in listed if one.get("resourceName") == "*"
    )


def queues(said: Any) -> dict[str, Queue]:
    """Return queues by whole name and, where one alone has it, by last word."""
    found: dict[str, Queue] = {}
    last: dict[str, list[Queue]] = {}
    try:
        top = said["scheduler"]["schedulerInfo"]
        for queue in _queues(top if isinstance(top, dict) else {}, ""):
            found[queue.path] = queue
            last.setdefault(queue.path.rpartition(".")[2], []).append(queue)
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError):
        raise BackendUnavailable(
            f"the ResourceManager tells of no scheduler: {str(said)[:200]}"
        ) from None
    return found | {name: those[0] for name, those in last.items() if len(those) == 1}


def _queues(said: dict[str, Any], above: str) -> Iterator[Queue]:
    name = str(said.get("queuePath") or said.get("queueName") or "")
    if not name and isinstance(said.get("rootQueue"), dict):  # the fair scheduler
        yield from _queues(said["rootQueue"], "")
        return
    if not name:
        return
    path = name if not above or name.startswith(f"{above}.") else f"{above}.{name}"
    below = said.get("queues") or said.get("childQueues") or {}
    children = _several(below.get("queue") if isinstance(below, dict) else below)
    most = said.get("maximumAllocation") or said.get("maxContainerAllocation") or {}
    kinds = (most.get("resourceInformations") or {}).get("resourceInformation") or []
    yield Queue(
        path,
        running=str(said.get("state") or "RUNNING") == "RUNNING",
        most_mb=_number(most.get("memory")),
        most_cores=_number(most.get("vCores")),
        most={
            str(one.get("name")): _number(one.get("value"))
            for one in _several(kinds)
            if isinstance(one, dict)
        },
        labels=tuple(map(str, _several(said.get("nodeLabels")))),
    )
    for child in children:
        if isinstance(child, dict):
            yield from _queues(child, path)


_HEAD = re.compile(rb"\nLogLength:\s*([0-9]{1,20})\s*\nLogContents:\n")
_FILE = re.compile(
    rb"(?:\nContainer: (?P<container>container_\w+) on [^\n]*\n)"
    rb"|(?:\nLogType:(?P<name>[^\n]*)\n[^\0]{0,400}?\nLogLength:\s*(?P<size>[0-9]{1,20})\s*\n"
    rb"LogContents:\n)"
)


def log_piece(raw: bytes, last_bytes: int) -> LogPiece | None:
    """Return the last bytes of a log, without what a NodeManager wrote around them; None if it is
    no log."""
    head = _HEAD.search(b"\n" + raw[:4096])
    if head is None:
        return None
    size = int(head[1])
    if size > MOST_LOG_BYTES:
        return None
    begin = head.end() - 1
    return LogPiece(size, raw[begin : begin + min(size, last_bytes)])


def aggregated(raw: bytes) -> dict[str, dict[str, bytes]]:
    """Return what `yarn logs` wrote of an application, by container and file."""
    found: dict[str, dict[str, bytes]] = {}
    raw, at, container = b"\n" + raw, 0, ""
    while head := _FILE.search(raw, at):
        if head["container"]:
            container = head["container"].decode()
            at = head.end() - 1
            continue
        size = int(head["size"])
        name = head["name"].decode(errors="replace").strip()
        found.setdefault(container, {})[name] = raw[head.end() : head.end() + size]
        at = head.end() + size
    return found


def _number(value: Any) -> int:
    try:
        return max(0, int(value))
    except (TypeError, ValueError, OverflowError):
        return 0
