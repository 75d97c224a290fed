"""What YARN's and skein's diagnostics mean, in words for users. Pure tables: the first that matches
counts; what none knows is told as Hadoop said it, without its stack."""

from __future__ import annotations

import re
from collections.abc import Sequence

MOST = 400  # characters of Hadoop's own words that are told on

Table = Sequence[tuple[str, str]]

# why an application that was accepted does not run yet
WAITING: Table = (
    (
        r"Queue's AM resource limit exceeded",
        "queue {queue} runs as many applications as it may (its limit for application masters is"
        " reached); it starts when one of them ends",
    ),
    (
        r"User's AM resource limit exceeded",
        "{user} runs as many applications in queue {queue} as one user may; it starts when one of"
        " them ends",
    ),
    (
        r"waiting for resources to be assigned for AM",
        "queue {queue} has no room for its application master yet",
    ),
    (
        r"AM container is launched, waiting for AM container to Register",
        "its application master is starting",
    ),
    (r"recovered after RM restart", "the ResourceManager was restarted and is taking it up again"),
    (r"not yet activated", "queue {queue} has not activated it yet"),
)

# why an application, a container or a submission has ended or was refused
REASONS: Table = (
    (
        r"([0-9.]+ [KMGT]?B) of ([0-9.]+ [KMGT]?B) (physical|virtual) memory used",
        "it was killed for memory: it used {0} of the {1} of {2} memory that it may use",
    ),
    (
        r"running \S+ beyond the '(\w+)' memory limit\. Current usage: ([0-9.]+ [KMGT]?B) of"
        r" ([0-9.]+ [KMGT]?B)",
        "it was killed for memory: it used {1} of {2}",
    ),
    (
        r"requested resource is greater than maximum allowed allocation.*?"
        r"Requested resource=<([^>]*)>, maximum allowed allocation=<([^>]*)>",
        "it asks for more than YARN gives to one container: {0}, and at most {1} is allowed",
    ),
    (
        r"node label not enabled|Invalid label|not accessible.*label|label expression",
        "YARN does not know its node label here, or its queue may not use it: {text}",
    ),
    (r"to unknown queue: ?(\S+)", "there is no queue {0}"),
    (r"Queue (\S+) is STOPPED", "queue {0} is stopped and takes no applications"),
    (r"Queue (\S+) already has [0-9]+ applications", "queue {0} is full: {text}"),
    (
        r"User (\S+) cannot submit applications to queue (\S+)|"
        r"User (\S+) does not have permission to submit \S+ to queue (\S+)",
        "YARN does not let it into its queue: {text}",
    ),
    (
        r"User: (\S+) is not allowed to impersonate (\S+)",
        "Hadoop does not let the gateway ({0}) act for {1}: core-site.xml of the ResourceManager"
        " and the NameNode needs hadoop.proxyuser lines for it",
    ),
    (
        r"Permission denied: user=(\S+), access=(?:READ|EXECUTE|READ_EXECUTE), inode=\"([^\"]+)\"",
        "HDFS does not let {0} read {1}: see the rights of what `files` and `archives` name, and of"
        " the directories above",
    ),
    (
        r"(?:Resource |^)(\S+) is not publicly accessible",
        "its archive {0} cannot be read by everybody in HDFS, so nodes cannot keep it between"
        " clusters: hadoop fs -chmod a+r, and a+x of the directories above",
    ),
    (
        r"No FileSystem for scheme:? \"?([\w.+-]*)\"?",
        "Hadoop has no file system {0}:// here, which `files`, `archives` or `file_systems` name",
    ),
    (
        r"UnknownHostException: (\S+)",
        "Hadoop does not find the host {0}; the addresses in `files`, `archives` or `file_systems`"
        " may name it",
    ),
    (r"to non-leaf queue ?: ?(\S+)", "queue {0} has queues below it: name one of those"),
    (
        r"to ambiguous queue ?: ?(\S+)",
        "there is more than one queue {0}: name it by its whole path",
    ),
    (
        r"Permission denied: user=(\S+), access=(\w+), inode=\"([^\"]+)\"",
        "HDFS does not let {0} write to {2}: an administrator makes /user/{0}, owned by {0}",
    ),
    (r"File (\S+) does not exist", "a file to localise is not there: {0}"),
    (r"File does not exist: (\S+)", "a file to localise is not there: {0}"),
    (
        r"Resource '([^']+)' is not defined",
        "YARN has no resource {0} here, such as GPUs that nobody configured",
    ),
    (r"was killed by user (\S+?)(?: at (\S+))?(?=\s|$)", "it was killed in YARN by {0}"),
    (
        r"Container released on a \*lost\* node|exitCode: -100\b",
        "its node was lost: the NodeManager does not answer any more",
    ),
    (r"preempted by scheduler|exitCode: -102\b", "YARN preempted it: its queue had to give back"),
    (r"exitCode: -101\b", "the disks of its node have failed"),
    (
        r"FSDownload.*?Caused by: java\.io\.\w+: ([^\n]{1,300})",
        "its files could not be brought to the node: {0}",
    ),
    (
        r"exitCode: -1000\b|FSDownload|[Ll]ocalization failed|Failed to download|"
        r"changed on src filesystem",
        "its files could not be brought to the node: {text}",
    ),
    (
        r"AM Container for \S+ exited with +exitCode: (-?[0-9]+)",
        "its application master ended with code {0}",
    ),
    (r"ApplicationMaster for attempt \S+ timed out", "its application master did not answer"),
    (r"Failed to start, exception raised: (.*)", "its node could not start it: {0}"),
)
# what says nothing: the reason stands in the log alone
EMPTY = (
    "Container failed during execution, see logs for more information.",
    "Killed by user request.",
    "Completed successfully.",
)


def waiting(diagnostics: str, queue: str, user: str = "") -> str:
    """Return why an application waits."""
    for pattern, said in WAITING:
        if re.search(pattern, diagnostics):
            return said.format(queue=queue, user=user)
    return short(diagnostics) or f"YARN has not started it yet in queue {queue}"


def pending(queue: str, count: int) -> str:
    """Return why a container waits; YARN itself says nothing."""
    others = f"; {count} of its cluster wait" if count > 1 else ""
    return f"queue {queue} has no room for it yet{others}"


def reason(text: str) -> str:
    """Return why something ended, or was refused; empty if the text says nothing."""
    if not text.strip() or text.strip() in EMPTY:
        return ""
    for pattern, said in REASONS:
        if found := re.search(pattern, text, re.DOTALL):
            return said.format(
                *("" if one is None else one for one in found.groups()), text=short(text)
            )
    return short(text)


def short(text: str) -> str:
    """Return Hadoop's words without a stack, on one line, not too long."""
    lines = []
    for line in text.splitlines():
        if re.match(r"\s+at [\w.$]+\(|Caused by:", line):
            break
        lines.append(line.strip())
    words = " ".join(" ".join(lines).split())
    words = re.sub(r"^Failed to submit application, exception: ", "", words)
    words = re.sub(r"^(?:[\w$]+\.)+(\w+(?:Exception|Error)): ", "", words)
    return words if len(words) <= MOST else words[: MOST - 1] + "…"


# refused once, refused for good: repeating it is hopeless
PERMANENT = re.compile(
    r"unknown queue|maximum allowed allocation|node label|label expression|is not defined|"
    r"non-leaf queue|ambiguous queue|No FileSystem for scheme|applicationTags|"
    r"does not exist|cannot submit applications|not allowed to impersonate"
)


def is_permanent(text: str) -> bool:
    """Whether a refusal will be the same when it is asked for again."""
    return bool(PERMANENT.search(text))


def beyond(size: dict[str, int], most: dict[str, int], queue: str) -> str:
    """Return what a container asks for beyond what its queue gives to one; empty if nothing."""
    for name, unit in (("memory_mb", "MiB of memory"), ("vcores", "cores")):
        if most.get(name) and size[name] > most[name]:
            return (
                f"it asks for {size[name]} {unit}, and queue {queue} gives at most {most[name]} to"
                f" one container"
            )
    for name, kind in (("gpus", "yarn.io/gpu"), ("fpgas", "yarn.io/fpga")):
        if size.get(name) and size[name] > most.get(kind, 0):
            there = f"at most {most[kind]}" if most.get(kind) else "none"
            return f"it asks for {size[name]} {name}, and queue {queue} gives {there}"
    return ""
