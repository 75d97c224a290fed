"""What may be asked for in a new cluster: the options of a gateway as typed fields, and the
limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from daskgateway.v1 import cluster_service_pb2 as pb

from gateway.client.model import show
from gateway.client.model.answer import Answer
from gateway.client.model.values import ReadOnly


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class StringField(Answer[pb.StringField]):
    """A text."""

    default: str
    """Value if none is given."""
    max_length: int
    """Most characters allowed; 0 for any number."""
    pattern: str
    """Regular expression (Python's `re`) that the whole text matches; empty for any."""

    @classmethod
    def from_proto(cls, proto: pb.StringField) -> StringField:
        """Return what a message says."""
        return cls(
            proto=proto, default=proto.default, max_length=proto.max_length, pattern=proto.pattern
        )


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class BoolField(Answer[pb.BoolField]):
    """A truth value."""

    default: bool
    """Value if none is given."""

    @classmethod
    def from_proto(cls, proto: pb.BoolField) -> BoolField:
        """Return what a message says."""
        return cls(proto=proto, default=proto.default)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class IntField(Answer[pb.IntField]):
    """A whole number."""

    default: int
    """Value if none is given."""
    minimum: int | None
    """Least value allowed; None for any."""
    maximum: int | None
    """Greatest value allowed; None for any."""

    @classmethod
    def from_proto(cls, proto: pb.IntField) -> IntField:
        """Return what a message says."""
        least = proto.minimum if proto.HasField("minimum") else None
        most = proto.maximum if proto.HasField("maximum") else None
        return cls(proto=proto, default=proto.default, minimum=least, maximum=most)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class FloatField(Answer[pb.FloatField]):
    """A decimal number."""

    default: float
    """Value if none is given."""
    minimum: float | None
    """Least value allowed; None for any."""
    maximum: float | None
    """Greatest value allowed; None for any."""

    @classmethod
    def from_proto(cls, proto: pb.FloatField) -> FloatField:
        """Return what a message says."""
        least = proto.minimum if proto.HasField("minimum") else None
        most = proto.maximum if proto.HasField("maximum") else None
        return cls(proto=proto, default=proto.default, minimum=least, maximum=most)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class SelectField(Answer[pb.SelectField]):
    """One of several texts."""

    default: str
    """Value if none is given."""
    choices: tuple[str, ...]
    """Values allowed."""

    @classmethod
    def from_proto(cls, proto: pb.SelectField) -> SelectField:
        """Return what a message says."""
        return cls(proto=proto, default=proto.default, choices=tuple(proto.choices))


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class MappingField(Answer[pb.MappingField]):
    """Texts by name, such as environment variables."""

    default: Mapping[str, str]
    """Value if none is given."""
    max_entries: int
    """Most entries allowed; 0 for any number."""
    structured: bool
    """Whether values may be whatever YAML can say: texts, numbers, lists, mappings and so on."""

    @classmethod
    def from_proto(cls, proto: pb.MappingField) -> MappingField:
        """Return what a message says."""
        return cls(
            proto=proto,
            default=ReadOnly(proto.default),
            max_entries=proto.max_entries,
            structured=proto.structured,
        )


Kind: TypeAlias = StringField | BoolField | IntField | FloatField | SelectField | MappingField


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class OptionField(Answer[pb.OptionField]):
    """One thing a user may choose."""

    name: str
    """Its name, as in `options.worker_cores`."""
    label: str
    """For people; may be empty."""
    description: str
    """More for people; may be empty."""
    per_group: bool
    """Whether a worker group may have a value of its own."""
    kind: Kind
    """Its type, default and bounds."""

    @classmethod
    def from_proto(cls, proto: pb.OptionField) -> OptionField:
        """Return what a message says; a kind that came with a newer gateway is taken for any
        text."""
        return cls(
            proto=proto,
            name=proto.name,
            label=proto.label,
            description=proto.description,
            per_group=proto.per_group,
            kind=_kind(proto),
        )


def _kind(proto: pb.OptionField) -> Kind:
    kind = proto.WhichOneof("kind")
    if kind == "bool_field":
        return BoolField.from_proto(proto.bool_field)
    if kind == "int_field":
        return IntField.from_proto(proto.int_field)
    if kind == "float_field":
        return FloatField.from_proto(proto.float_field)
    if kind == "select_field":
        return SelectField.from_proto(proto.select_field)
    if kind == "mapping_field":
        return MappingField.from_proto(proto.mapping_field)
    return StringField.from_proto(proto.string_field)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Limits(Answer[pb.Limits]):
    """Limits of one cluster; None is no limit."""

    workers: int | None
    """Most workers over all groups."""
    cores: float | None
    """Most cores, scheduler and workers together."""
    memory_bytes: int | None
    """Most memory in bytes, scheduler and workers together."""
    gpus: int | None
    """Most GPUs, scheduler and workers together."""
    resources: Mapping[str, float]
    """Most of each resource that the machine room names; where there are some, there are no
    others."""

    @property
    def words(self) -> str:
        """The limits in one line; empty where there are none."""
        told = [f"{self.workers} workers"] if self.workers is not None else []
        told += [f"{self.cores:.15g} cores"] if self.cores is not None else []
        told += [show.size(self.memory_bytes)] if self.memory_bytes is not None else []
        told += show.beside(self.gpus, self.resources)
        return f"at most {', '.join(told)}" if told else ""

    @classmethod
    def from_proto(cls, proto: pb.Limits) -> Limits:
        """Return what a message says."""
        return cls(
            proto=proto,
            workers=proto.workers if proto.HasField("workers") else None,
            cores=proto.cores if proto.HasField("cores") else None,
            memory_bytes=proto.memory_bytes if proto.HasField("memory_bytes") else None,
            gpus=proto.gpus if proto.HasField("gpus") else None,
            resources=ReadOnly(proto.resources),
        )
