"""What the gateway answers becomes Python's own, whole: no field of the protocol is forgotten, and
none can harm its reader."""

from __future__ import annotations

import copy
import dataclasses
import enum
import pickle
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Any, get_origin, get_type_hints

import pytest
from daskgateway.v1 import cluster_pb2, cluster_service_pb2, credential_service_pb2
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message

from gateway.client import model
from gateway.client.model import values

FILES = [file.DESCRIPTOR for file in (cluster_pb2, cluster_service_pb2, credential_service_pb2)]
ANSWERS: dict[str, type[model.Answer[Message]]] = {
    kind.__name__: kind
    for kind in vars(model).values()
    if isinstance(kind, type) and issubclass(kind, model.Answer)
}
WORDS: dict[str, type[values.Word]] = {
    kind.__name__: kind
    for kind in vars(model).values()
    if isinstance(kind, type) and issubclass(kind, values.Word)
}
# Classes that are not called as their messages are, and those that are made of more than one
# message or of less than a whole one.
MESSAGE_OF = {
    "Caller": "WhoAmIResponse",
    "NewToken": "CreateTokenResponse",
    "DashboardTicket": "CreateDashboardTicketResponse",
}
MESSAGE_OF |= {
    "LogPiece": "StreamLogsResponse",
    "WatchEvent": "WatchClustersResponse",
    "Bookmark": "WatchClustersResponse",
}
# of a watch: the fields of one field, beside the revision
STEPS = {"WatchEvent": "event", "Bookmark": "bookmark"}
OWN = {"Caller": {"source"}}  # what the client knows, and no message tells
SIZES = {"WorkerGroup": {"count", "adaptive"}}
# Messages that never reach a user as such, with where their contents go.
ELSEWHERE = {
    "GetClusterOptionsResponse": "Options",
    "ListClustersResponse": "Page",
    "ListEventsResponse": "Page",
    "ListTokensResponse": "Page",
    "GetSignInOptionsResponse": "Page",
    "WatchEvent": "model.WatchEvent, with the revision of its step",
    "Bookmark": "model.Bookmark, with the revision of its step",
    "Goodbye": "Changes, which obeys it",
    "GenerateClientCertificateResponse": "ClusterCredentials",
    "RevokeTokenResponse": "a tuple of ids",
    "Session": "the client's own sessions",
    "CreateSessionResponse": "the client's own sessions",
    "RenewSessionResponse": "the client's own sessions",
    "EndSessionResponse": "a tuple of ids",
    "KeepAliveResponse": "a tuple of names",
}


def descriptor(name: str) -> Descriptor:
    """Return the message that a class is made from."""
    return next(
        file.message_types_by_name[name] for file in FILES if name in file.message_types_by_name
    )


def fields(kind: type[model.Answer[Message]]) -> set[str]:
    """Return the fields of a class."""
    return {one.name for one in dataclasses.fields(kind)} - {"proto"}


def expected(kind: type[model.Answer[Message]]) -> set[str]:
    """Return the fields of a class's message."""
    message = descriptor(MESSAGE_OF.get(kind.__name__, kind.__name__))
    if step := STEPS.get(kind.__name__):
        return {"revision", *message.fields_by_name[step].message_type.fields_by_name}  # type: ignore[union-attr]
    grouped = {
        field.name for oneof in message.oneofs for field in oneof.fields if len(oneof.fields) > 1
    }
    plain = {field.name for field in message.fields} - grouped
    own = {oneof.name for oneof in message.oneofs if len(oneof.fields) > 1}
    return plain | SIZES.get(kind.__name__, own)


@pytest.mark.parametrize(
    "kind",
    [kind for name, kind in ANSWERS.items() if name != "Answer"],
    ids=lambda kind: kind.__name__,
)
def test_a_class_has_every_field_of_its_message(kind: type[model.Answer[Message]]) -> None:
    assert fields(kind) - OWN.get(kind.__name__, set()) == expected(kind)


def test_every_message_that_is_answered_has_a_class() -> None:
    requests = {
        method.input_type.name
        for file in FILES
        for service in file.services_by_name.values()
        for method in service.methods
    }
    messages = {name for file in FILES for name in file.message_types_by_name} - requests
    assert messages - set(ELSEWHERE) == {MESSAGE_OF.get(name, name) for name in ANSWERS} - {
        "Answer"
    } - set(ELSEWHERE)


def test_every_enum_of_the_protocol_has_a_class_with_its_words() -> None:
    enums: dict[str, EnumDescriptor] = {
        name: one for file in FILES for name, one in file.enum_types_by_name.items()
    }
    assert set(WORDS) == set(enums)
    for name, one in enums.items():
        prefix = one.values_by_number[0].name.removesuffix("UNSPECIFIED")
        told = {value.name.removeprefix(prefix) for value in one.values} - {"UNSPECIFIED"}
        assert {word.value for word in WORDS[name]} == told | {"UNKNOWN"}, name


def filled(message_type: Descriptor, factory: Any, depth: int = 0) -> Any:
    """Return a message in which every field is set to something that is not its default."""
    message = factory()
    for number, field in enumerate(message_type.fields, 1):
        if (
            field.containing_oneof is not None
            and len(field.containing_oneof.fields) > 1
            and field != field.containing_oneof.fields[-1]
        ):
            continue
        fill(message, field, number, depth)
    return message


def fill(message: Any, field: FieldDescriptor, number: int, depth: int) -> None:
    """Set one field."""
    told = getattr(message, field.name)
    kind = field.message_type
    if kind is not None and kind.GetOptions().map_entry:
        of: Any = kind.fields_by_name["value"]
        if isinstance(of.default_value, float):
            told["key"] = number + 0.5
        elif of.message_type is None:
            told["key"] = f"{field.name} {number}"
        else:
            told["key"].CopyFrom(filled(of.message_type, type(told["key"]), depth + 1))
    elif kind is not None and kind.full_name == "google.protobuf.Struct":
        told.update(
            {
                "whole": 60,
                "part": 0.5,
                "text": "x",
                "yes": True,
                "none": None,
                "list": [1, {"a": 2}],
            }
        )
    elif kind is not None and kind.full_name in (
        "google.protobuf.Timestamp",
        "google.protobuf.Duration",
    ):
        told.seconds, told.nanos = 1_000_000 + number, 500_000_000
    elif kind is not None and field.is_repeated:
        told.add().CopyFrom(filled(kind, type(told.add()), depth + 1))
        del told[1]
    elif kind is not None:
        told.CopyFrom(filled(kind, type(told), depth + 1))
    else:
        value: Any = {"str": f"{field.name} {number}", "bool": True, "float": number + 0.5}.get(
            type(field.default_value).__name__, number
        )
        if field.enum_type is not None:
            value = field.enum_type.values[1].number
        if field.is_repeated:
            told.append(value if field.enum_type is not None else f"{field.name} {number}")
        else:
            setattr(message, field.name, value)


def whole(kind: type[model.Answer[Message]]) -> model.Answer[Message]:
    """Return an answer made from a message with every field set."""
    message_type = descriptor(MESSAGE_OF.get(kind.__name__, kind.__name__))
    module = next(
        one
        for one in (cluster_pb2, cluster_service_pb2, credential_service_pb2)
        if hasattr(one, message_type.name)
    )
    message = filled(message_type, getattr(module, message_type.name))
    if step := STEPS.get(kind.__name__):
        inner = getattr(message, step)
        inner.CopyFrom(filled(inner.DESCRIPTOR, type(inner)))
    made: model.Answer[Message] = kind.from_proto(message)  # type: ignore[attr-defined]
    return made


@pytest.mark.parametrize(
    "kind",
    [kind for name, kind in ANSWERS.items() if name != "Answer"],
    ids=lambda kind: kind.__name__,
)
def test_every_field_is_taken_over_in_the_type_that_is_announced(
    kind: type[model.Answer[Message]],
) -> None:
    answer = whole(kind)
    empty = kind.from_proto(type(answer.proto)())  # type: ignore[attr-defined]
    hints = get_type_hints(kind)
    for name in fields(kind) - OWN.get(kind.__name__, set()):
        value = getattr(answer, name)
        if SIZES.get(kind.__name__) is None or name == "adaptive":
            assert value != getattr(empty, name), f"{kind.__name__}.{name} is not taken over"
        check_type(value, hints[name], f"{kind.__name__}.{name}")


def check_type(value: Any, hint: Any, name: str) -> None:
    """Check a value against what its field is announced as, as far as that is simple."""
    told = str(hint)
    if isinstance(value, datetime):
        assert "datetime" in told, name
        assert value.tzinfo is timezone.utc, name
    elif isinstance(value, timedelta):
        assert "timedelta" in told, name
    elif isinstance(value, Mapping):
        assert "Mapping" in told, name
    elif isinstance(hint, type) and get_origin(hint) is None:
        assert type(value) is hint, name


def test_whole_numbers_of_options_are_ints_and_all_else_is_kept() -> None:
    spec = whole(model.ClusterSpec)
    assert isinstance(spec, model.ClusterSpec)
    assert repr(spec.options["whole"]) == "60"
    assert dict(spec.options) == {
        "whole": 60,
        "part": 0.5,
        "text": "x",
        "yes": True,
        "none": None,
        "list": (1, {"a": 2}),
    }
    proto = cluster_pb2.ClusterSpec()
    proto.options.update({"large": 1e300, "endless": float("inf")})
    large = model.ClusterSpec.from_proto(proto).options
    assert (large["large"], large["endless"]) == (1e300, float("inf"))


def test_an_answer_is_frozen_equal_hashed_copied_and_pickled() -> None:
    cluster = whole(model.Cluster)
    again = whole(model.Cluster)
    assert (cluster == again, hash(cluster) == hash(again)) == (True, True)
    assert copy.deepcopy(cluster) == pickle.loads(pickle.dumps(cluster)) == cluster
    with pytest.raises(dataclasses.FrozenInstanceError):
        cluster.name = "other"  # type: ignore[attr-defined]
    with pytest.raises(TypeError):
        cluster.labels["a"] = "b"  # type: ignore[attr-defined]
    page = pickle.loads(pickle.dumps(model.Page(model.Cluster, [cluster], revision=7)))
    assert (page, page.revision, page.columns) == ([cluster], 7, model.Cluster.COLUMNS)


def test_what_came_with_a_newer_gateway_is_unknown_and_not_finished() -> None:
    proto = cluster_pb2.Cluster.FromString(
        cluster_pb2.Cluster(status=cluster_pb2.ClusterStatus(state=99)).SerializeToString()  # type: ignore[arg-type]
    )
    cluster = model.Cluster.from_proto(proto)
    assert (cluster.state, cluster.state.finished, cluster.state.ending) == (
        model.ClusterState.UNKNOWN,
        False,
        False,
    )
    assert proto.status.state == 99
    field = cluster_service_pb2.OptionField(name="of a kind that is not known")
    assert isinstance(model.OptionField.from_proto(field).kind, model.StringField)


def test_a_group_of_no_size_has_no_workers_and_one_between_bounds_no_count() -> None:
    assert model.WorkerGroup.from_proto(cluster_pb2.WorkerGroup()).count == 0
    adaptive = model.WorkerGroup.from_proto(
        cluster_pb2.WorkerGroup(adaptive=cluster_pb2.Adaptive(minimum=1, maximum=3))
    )
    assert (adaptive.count, adaptive.wish) == (None, "1-3")


@pytest.mark.parametrize("seconds", [2**62, -(2**62), 253402300800])
def test_instants_and_durations_beyond_python_become_the_nearest(seconds: int) -> None:
    proto = cluster_pb2.Cluster()
    proto.create_time.seconds = seconds
    proto.spec.lifecycle.idle_timeout.seconds = seconds
    cluster = model.Cluster.from_proto(proto)
    assert cluster.create_time is not None
    assert cluster.create_time.year == (9999 if seconds > 0 else 1)
    assert isinstance(cluster.spec.lifecycle.idle_timeout, timedelta)
    assert cluster._repr_html_()


def test_words_are_texts_and_wrong_ones_are_told() -> None:
    state = model.ClusterState.ACTIVE
    assert (state == "ACTIVE", str(state), f"{state:>8}", f"{state}") == (
        True,
        "ACTIVE",
        "  ACTIVE",
        "ACTIVE",
    )
    assert isinstance(state, enum.Enum)
    with pytest.raises(
        ValueError, match="'ACTVE' is no ClusterState; there are UNKNOWN, PENDING, CREATING"
    ):
        model.ClusterState.known("ACTVE")
