from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from typing import ClassVar as _ClassVar

DESCRIPTOR: _descriptor.FileDescriptor

class ConditionType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CONDITION_TYPE_UNSPECIFIED: _ClassVar[ConditionType]
    CONDITION_TYPE_SCHEDULER_REACHABLE: _ClassVar[ConditionType]
    CONDITION_TYPE_WORKERS_AVAILABLE: _ClassVar[ConditionType]
    CONDITION_TYPE_WITHIN_LIMITS: _ClassVar[ConditionType]
    CONDITION_TYPE_BACKEND_AVAILABLE: _ClassVar[ConditionType]

class Reason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REASON_UNSPECIFIED: _ClassVar[Reason]
    REASON_CREATED: _ClassVar[Reason]
    REASON_PENDING: _ClassVar[Reason]
    REASON_CREATING: _ClassVar[Reason]
    REASON_ACTIVE: _ClassVar[Reason]
    REASON_STOPPING: _ClassVar[Reason]
    REASON_STOPPED: _ClassVar[Reason]
    REASON_FAILED: _ClassVar[Reason]
    REASON_STOP_REQUESTED: _ClassVar[Reason]
    REASON_MAX_LIFETIME: _ClassVar[Reason]
    REASON_IDLE_TIMEOUT: _ClassVar[Reason]
    REASON_NO_CLIENT: _ClassVar[Reason]
    REASON_SCHEDULER_STARTED: _ClassVar[Reason]
    REASON_SCHEDULER_QUEUED: _ClassVar[Reason]
    REASON_SCHEDULER_REQUEUED: _ClassVar[Reason]
    REASON_SCHEDULER_START_FAILED: _ClassVar[Reason]
    REASON_SCHEDULER_START_TIMEOUT: _ClassVar[Reason]
    REASON_SCHEDULER_CLOSED: _ClassVar[Reason]
    REASON_SCHEDULER_EXITED: _ClassVar[Reason]
    REASON_AGENT_SILENT: _ClassVar[Reason]
    REASON_AGENT_HEARD: _ClassVar[Reason]
    REASON_ADDRESS_NOT_PERMITTED: _ClassVar[Reason]
    REASON_WORKER_START_FAILED: _ClassVar[Reason]
    REASON_WORKER_EXITED: _ClassVar[Reason]
    REASON_WORKER_CLOSED: _ClassVar[Reason]
    REASON_WORKER_LOST: _ClassVar[Reason]
    REASON_WORKER_NOT_CONNECTED: _ClassVar[Reason]
    REASON_WORKER_REQUEUED: _ClassVar[Reason]
    REASON_WORKERS_GIVEN_UP: _ClassVar[Reason]
    REASON_LIMITS_CHANGED: _ClassVar[Reason]
    REASON_REPORTING: _ClassVar[Reason]
    REASON_NOT_ACTIVE: _ClassVar[Reason]
    REASON_ALL_RUNNING: _ClassVar[Reason]
    REASON_STARTING: _ClassVar[Reason]
    REASON_QUEUED: _ClassVar[Reason]
    REASON_WORKERS_FAIL: _ClassVar[Reason]
    REASON_WITHIN: _ClassVar[Reason]
    REASON_CLAMPED: _ClassVar[Reason]
    REASON_ANSWERS: _ClassVar[Reason]
    REASON_BACKEND_UNAVAILABLE: _ClassVar[Reason]
    REASON_NO_TASK: _ClassVar[Reason]
    REASON_NOT_KEPT_ALIVE: _ClassVar[Reason]
CONDITION_TYPE_UNSPECIFIED: ConditionType
CONDITION_TYPE_SCHEDULER_REACHABLE: ConditionType
CONDITION_TYPE_WORKERS_AVAILABLE: ConditionType
CONDITION_TYPE_WITHIN_LIMITS: ConditionType
CONDITION_TYPE_BACKEND_AVAILABLE: ConditionType
REASON_UNSPECIFIED: Reason
REASON_CREATED: Reason
REASON_PENDING: Reason
REASON_CREATING: Reason
REASON_ACTIVE: Reason
REASON_STOPPING: Reason
REASON_STOPPED: Reason
REASON_FAILED: Reason
REASON_STOP_REQUESTED: Reason
REASON_MAX_LIFETIME: Reason
REASON_IDLE_TIMEOUT: Reason
REASON_NO_CLIENT: Reason
REASON_SCHEDULER_STARTED: Reason
REASON_SCHEDULER_QUEUED: Reason
REASON_SCHEDULER_REQUEUED: Reason
REASON_SCHEDULER_START_FAILED: Reason
REASON_SCHEDULER_START_TIMEOUT: Reason
REASON_SCHEDULER_CLOSED: Reason
REASON_SCHEDULER_EXITED: Reason
REASON_AGENT_SILENT: Reason
REASON_AGENT_HEARD: Reason
REASON_ADDRESS_NOT_PERMITTED: Reason
REASON_WORKER_START_FAILED: Reason
REASON_WORKER_EXITED: Reason
REASON_WORKER_CLOSED: Reason
REASON_WORKER_LOST: Reason
REASON_WORKER_NOT_CONNECTED: Reason
REASON_WORKER_REQUEUED: Reason
REASON_WORKERS_GIVEN_UP: Reason
REASON_LIMITS_CHANGED: Reason
REASON_REPORTING: Reason
REASON_NOT_ACTIVE: Reason
REASON_ALL_RUNNING: Reason
REASON_STARTING: Reason
REASON_QUEUED: Reason
REASON_WORKERS_FAIL: Reason
REASON_WITHIN: Reason
REASON_CLAMPED: Reason
REASON_ANSWERS: Reason
REASON_BACKEND_UNAVAILABLE: Reason
REASON_NO_TASK: Reason
REASON_NOT_KEPT_ALIVE: Reason
