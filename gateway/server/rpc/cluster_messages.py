"""Clusters as they are sent, each made once: a list of a thousand costs a thousand look-ups. What
cannot be shown harms no other.

A record may be unshowable though none is accepted today: an older version, a backend or a disk may
have left it. It is passed over in lists and watches; who asks for it by name is told what can be
told, so that it can be stopped.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from daskgateway.v1 import cluster_pb2 as pb
from daskgateway.v1 import cluster_service_pb2 as service_pb

from gateway.server.core.errors import FieldInvalid, Violation
from gateway.server.core.model import Cluster
from gateway.server.core.texts import sound
from gateway.server.rpc import messages
from gateway.server.rpc.passed_over import PassedOver
from gateway.server.usecases.paging import MAX_PAGE_BYTES
from gateway.server.usecases.services import Endpoint

logger = logging.getLogger(__name__)

# The tag of a cluster in a list: its field's number, and that a length follows.
LISTED = bytes(
    [service_pb.ListClustersResponse.DESCRIPTOR.fields_by_name["clusters"].number << 3 | 2]
)
# The tag of its revision, which is set once it is stored: a number follows.
REVISION = bytes([pb.Cluster.DESCRIPTOR.fields_by_name["revision"].number << 3])
# clusters whose last message is kept, and what these take together
CACHED, CACHED_BYTES = 20_000, 64 * 1024 * 1024
CHECKED = 1000  # new clusters whose message was made and that are not stored yet
TOLD_CACHED = 200  # changes that watches are being told of, about 1 KiB each
UNSHOWABLE = "UNSHOWABLE"  # reason of a cluster of which only the least can be told
MAX_TEXT = 256  # characters of what is told of such a one


class Unshowable(ValueError):
    """A cluster cannot be told to a client."""


@dataclass(frozen=True, slots=True)
class _Kept:
    revision: int
    # as an element of ListClustersResponse.clusters: tag, length, message; empty if it cannot be
    # shown
    listed: bytes
    head: int  # bytes before the message

    @property
    def encoded(self) -> bytes:
        """The message."""
        return self.listed[self.head :]


class ClusterMessages:
    """Makes messages of clusters and keeps the last of each, serialized."""

    def __init__(self, endpoint: Callable[[], Endpoint]) -> None:
        self._endpoint = endpoint
        self._kept: dict[str, _Kept] = {}
        self._kept_bytes = 0
        self._checked: dict[str, tuple[Cluster, bytes]] = {}
        self._told: dict[tuple[str, int, bool], bytes] = {}
        self._passed_over = PassedOver(
            logger, "this cluster cannot be shown; lists and watches pass it over"
        )

    def check(self, cluster: Cluster) -> None:
        """Raise FieldInvalid if a cluster that is about to be stored could not be shown. May be
        called in any thread."""
        try:
            encoded = _encoded(cluster, self._endpoint())
        except Unshowable as error:
            raise FieldInvalid(
                [Violation(_field_at_fault(cluster), f"cannot be shown: {error}")]
            ) from None
        if not cluster.revision:  # a new one, whose creation is answered by this very message
            self._checked[cluster.uid] = (cluster, encoded)
            while len(self._checked) > CHECKED:  # those that were refused after all
                self._checked.pop(next(iter(self._checked)), None)

    def encoded(self, cluster: Cluster) -> bytes:
        """Return a cluster as it is sent to who asked for it; of one that cannot be shown, the
        least."""
        kept = self._of(cluster)
        return kept.encoded if kept.listed else _least(cluster).SerializeToString()

    def told(self, cluster: Cluster, added: bool) -> bytes | None:
        """Return what a watch is told of a cluster, None if it cannot be shown: thousands of
        watches may be told the same."""
        key = (cluster.uid, cluster.revision, added)
        told = self._told.get(key)
        if told is None and (kept := self._of(cluster)).listed:
            event = service_pb.WatchEvent(
                type=service_pb.WATCH_EVENT_TYPE_ADDED
                if added
                else service_pb.WATCH_EVENT_TYPE_MODIFIED
            )
            event.cluster.ParseFromString(kept.encoded)
            told = service_pb.WatchClustersResponse(
                revision=cluster.revision, event=event
            ).SerializeToString()
            while len(self._told) >= TOLD_CACHED:
                del self._told[next(iter(self._told))]
            self._told[key] = told
        return told

    def size_bytes(self, cluster: Cluster) -> int | None:
        """Return what a cluster adds to a list, None if it cannot be shown."""
        return len(self._of(cluster).listed) or None

    def listed(self, clusters: Iterable[Cluster], rest: service_pb.ListClustersResponse) -> bytes:
        """Return a list as it is sent: protobuf's messages may be joined end to end."""
        return b"".join(
            [*[self._of(cluster).listed for cluster in clusters], rest.SerializeToString()]
        )

    def _of(self, cluster: Cluster) -> _Kept:
        kept = self._kept.get(cluster.uid)
        if kept is not None and kept.revision == cluster.revision and cluster.revision:
            return kept
        try:
            encoded = self._as_checked(cluster) or _encoded(cluster, self._endpoint())
            head = LISTED + varint(len(encoded))
            kept = _Kept(cluster.revision, head + encoded, len(head))
        except Unshowable as error:
            self._passed_over.tell(f"cluster {cluster.uid} of {cluster.owner}", error)
            kept = _Kept(cluster.revision, b"", 0)
        if cluster.revision:
            self._keep(cluster.uid, kept)
        return kept

    def _as_checked(self, cluster: Cluster) -> bytes:
        """Return the message of a new cluster as it was checked, with the revision it was given;
        nothing if it has changed since."""
        before, encoded = self._checked.pop(cluster.uid, (None, b""))
        if before is None:
            return b""
        revision, created_revision = cluster.revision, cluster.created_revision
        if replace(before, revision=revision, created_revision=created_revision) != cluster:
            return b""
        return encoded + REVISION + varint(cluster.revision)

    def _keep(self, uid: str, kept: _Kept) -> None:
        before = self._kept.pop(uid, None)
        self._kept_bytes += len(kept.listed) - (len(before.listed) if before is not None else 0)
        self._kept[uid] = kept
        while len(self._kept) > CACHED or self._kept_bytes > CACHED_BYTES:
            self._kept_bytes -= len(self._kept.pop(next(iter(self._kept))).listed)


def _encoded(cluster: Cluster, endpoint: Endpoint) -> bytes:
    try:
        encoded: bytes = messages.cluster_of(cluster, endpoint).SerializeToString()
    # protobuf's runtimes raise different types for what is out of bounds
    except Exception as error:
        raise Unshowable(f"{type(error).__name__}: {error}") from None
    if len(encoded) > MAX_PAGE_BYTES:
        raise Unshowable(f"it has {len(encoded)} bytes; clients take {MAX_PAGE_BYTES}")
    return encoded


def _field_at_fault(cluster: Cluster) -> str:
    """Return which part of a wish it is that cannot be shown."""
    parts: dict[str, Callable[[], object]] = {
        "labels": lambda: pb.Cluster(labels=dict(cluster.labels)),
        "spec.options": lambda: messages.struct(cluster.spec.options),
        "spec.worker_groups": lambda: (
            messages.worker_groups(cluster),
            messages.group_statuses(cluster),
        ),
        "spec.lifecycle": lambda: (
            messages.lifecycle(cluster.spec.lifecycle),
            messages.expire_time(cluster),
        ),
    }
    for field, make in parts.items():
        try:
            make()
        except Exception:
            return field
    return "cluster"


def _least(cluster: Cluster) -> pb.Cluster:
    """Return what can be told of any cluster."""
    owner, cluster_id = sound(cluster.owner, MAX_TEXT), sound(cluster.cluster_id, MAX_TEXT)
    told = pb.Cluster(
        name=f"users/{owner}/clusters/{cluster_id}", uid=cluster.uid, etag=cluster.etag, owner=owner
    )
    told.revision = cluster.revision
    told.status.state = messages.STATES[cluster.state]
    told.status.reason = UNSHOWABLE
    told.status.message = (
        "the rest of its record cannot be shown, the server's log says why; it can be stopped"
    )
    if cluster.state.finished:
        told.stop_time.FromMilliseconds(min(max(1, cluster.stopped_at), messages.LAST_AT))
    return told


def varint(number: int) -> bytes:
    """Return a number as protobuf writes lengths: seven bits a byte, the least first
    (protobuf.dev/programming-guides/encoding)."""
    written = bytearray()
    while number > 0x7F:
        written.append(number & 0x7F | 0x80)
        number >>= 7
    written.append(number)
    return bytes(written)
