"""Words for programs that this client acts on, spelt as the protocol spells them (reason.proto)."""

from __future__ import annotations

from daskgateway.v1 import reason_pb2 as pb
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper


def _text(numbers: EnumTypeWrapper, number: int) -> str:
    return numbers.Name(number).removeprefix(numbers.Name(0).removesuffix("UNSPECIFIED"))


def _camel(text: str) -> str:
    return "".join(part.capitalize() for part in text.split("_"))


STOP_REQUESTED = _text(pb.Reason, pb.REASON_STOP_REQUESTED)
MAX_LIFETIME = _text(pb.Reason, pb.REASON_MAX_LIFETIME)
IDLE_TIMEOUT = _text(pb.Reason, pb.REASON_IDLE_TIMEOUT)
NO_CLIENT = _text(pb.Reason, pb.REASON_NO_CLIENT)
NO_TASK = _text(pb.Reason, pb.REASON_NO_TASK)
SCHEDULER_QUEUED = _text(pb.Reason, pb.REASON_SCHEDULER_QUEUED)
WORKERS_GIVEN_UP = _text(pb.Reason, pb.REASON_WORKERS_GIVEN_UP)
ADDRESS_NOT_PERMITTED = _text(pb.Reason, pb.REASON_ADDRESS_NOT_PERMITTED)
WORKERS_AVAILABLE = _camel(_text(pb.ConditionType, pb.CONDITION_TYPE_WORKERS_AVAILABLE))
WITHIN_LIMITS = _camel(_text(pb.ConditionType, pb.CONDITION_TYPE_WITHIN_LIMITS))
