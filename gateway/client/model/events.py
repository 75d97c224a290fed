"""What the gateway tells as it happens: events, changes of a watch, pieces of logs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar

from daskgateway.v1 import cluster_service_pb2 as pb

from gateway.client.model import show
from gateway.client.model.answer import Answer
from gateway.client.model.cluster import Cluster
from gateway.client.model.values import Word, instant, word


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Event(Answer[pb.Event]):
    """Something that happened to a cluster."""

    COLUMNS: ClassVar[tuple[str, ...]] = ("TIME", "EVENT", "INSTANCE", "MESSAGE")

    revision: int
    """Revision of the change it belongs to."""
    time: datetime | None
    """When."""
    reason: str
    """What, as one UPPER_SNAKE word; for programs."""
    message: str
    """What, as a sentence; for people."""
    instance: str
    """Name of the worker or `scheduler` it happened to; empty for the cluster as a whole."""

    def cells(self) -> tuple[str, ...]:
        """Return what stands for it in a table."""
        return (
            show.when(self.time),
            self.reason,
            show.harmless(self.instance),
            show.harmless(self.message),
        )

    @classmethod
    def from_proto(cls, proto: pb.Event) -> Event:
        """Return what a message says."""
        time = instant(proto, "time")
        return cls(
            proto=proto,
            revision=proto.revision,
            time=time,
            reason=proto.reason,
            message=proto.message,
            instance=proto.instance,
        )


class WatchEventType(Word):
    """What happened to a cluster in a watch."""

    UNKNOWN = "UNKNOWN"
    """What came with a newer gateway."""
    ADDED = "ADDED"
    """It is new to this watch."""
    MODIFIED = "MODIFIED"
    """It has changed."""
    REMOVED = "REMOVED"
    """It was purged; only its name, uid, owner and revision are told."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class WatchEvent(Answer[pb.WatchClustersResponse]):
    """A change of one cluster."""

    COLUMNS: ClassVar[tuple[str, ...]] = ("CHANGE", *Cluster.COLUMNS)

    revision: int
    """A watch that starts after this revision goes on here."""
    type: WatchEventType
    """What happened."""
    cluster: Cluster
    """The cluster as it now is."""

    def cells(self) -> tuple[str, ...]:
        """Return what stands for it in a table."""
        return self.type.value, *self.cluster.cells()

    @classmethod
    def from_proto(cls, proto: pb.WatchClustersResponse) -> WatchEvent:
        """Return what a message says that tells of an event."""
        kind = word(WatchEventType, pb.WatchEventType, proto.event.type)
        return cls(
            proto=proto,
            revision=proto.revision,
            type=kind,
            cluster=Cluster.from_proto(proto.event.cluster),
        )


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Bookmark(Answer[pb.WatchClustersResponse]):
    """All is well so far: everything up to this revision has been told."""

    revision: int
    """A watch that starts after this revision goes on here."""
    initial_state_complete: bool
    """True once: what there was when the watch began has been told."""

    @classmethod
    def from_proto(cls, proto: pb.WatchClustersResponse) -> Bookmark:
        """Return what a message says that is a bookmark."""
        return cls(
            proto=proto,
            revision=proto.revision,
            initial_state_complete=proto.bookmark.initial_state_complete,
        )


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class LogPiece(Answer[pb.StreamLogsResponse]):
    """A piece of a log: whole lines where possible, at most 64 KiB."""

    instance: str
    """Whose log: `scheduler` or a worker's name."""
    text: str
    """What was written; what was not UTF-8 is replaced."""

    @classmethod
    def from_proto(cls, proto: pb.StreamLogsResponse) -> LogPiece:
        """Return what a message says."""
        return cls(proto=proto, instance=proto.instance, text=proto.text)

    def __iter__(self) -> Iterator[str]:
        """Yield instance and text: a piece may be taken apart like a pair."""
        return iter((self.instance, self.text))
