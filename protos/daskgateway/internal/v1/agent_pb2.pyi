from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AgentDirective(_message.Message):
    __slots__ = ("generation", "groups", "ignore_clients", "report_interval_ms", "beat_interval_ms")
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    IGNORE_CLIENTS_FIELD_NUMBER: _ClassVar[int]
    REPORT_INTERVAL_MS_FIELD_NUMBER: _ClassVar[int]
    BEAT_INTERVAL_MS_FIELD_NUMBER: _ClassVar[int]
    generation: int
    groups: _containers.RepeatedCompositeFieldContainer[GroupDirective]
    ignore_clients: bool
    report_interval_ms: int
    beat_interval_ms: int
    def __init__(self, generation: _Optional[int] = ..., groups: _Optional[_Iterable[_Union[GroupDirective, _Mapping]]] = ..., ignore_clients: _Optional[bool] = ..., report_interval_ms: _Optional[int] = ..., beat_interval_ms: _Optional[int] = ...) -> None: ...

class AgentReport(_message.Message):
    __slots__ = ("sequence", "snapshot", "scheduler_address", "dashboard_address", "versions", "workers", "left", "retired", "clients", "idle_ms", "no_client_ms", "targets", "beat", "no_task_ms")
    class VersionsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class TargetsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    SCHEDULER_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    DASHBOARD_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    WORKERS_FIELD_NUMBER: _ClassVar[int]
    LEFT_FIELD_NUMBER: _ClassVar[int]
    RETIRED_FIELD_NUMBER: _ClassVar[int]
    CLIENTS_FIELD_NUMBER: _ClassVar[int]
    IDLE_MS_FIELD_NUMBER: _ClassVar[int]
    NO_CLIENT_MS_FIELD_NUMBER: _ClassVar[int]
    TARGETS_FIELD_NUMBER: _ClassVar[int]
    BEAT_FIELD_NUMBER: _ClassVar[int]
    NO_TASK_MS_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    snapshot: bool
    scheduler_address: str
    dashboard_address: str
    versions: _containers.ScalarMap[str, str]
    workers: _containers.RepeatedScalarFieldContainer[str]
    left: _containers.RepeatedScalarFieldContainer[str]
    retired: _containers.RepeatedScalarFieldContainer[str]
    clients: int
    idle_ms: int
    no_client_ms: int
    targets: _containers.ScalarMap[str, int]
    beat: bool
    no_task_ms: int
    def __init__(self, sequence: _Optional[int] = ..., snapshot: _Optional[bool] = ..., scheduler_address: _Optional[str] = ..., dashboard_address: _Optional[str] = ..., versions: _Optional[_Mapping[str, str]] = ..., workers: _Optional[_Iterable[str]] = ..., left: _Optional[_Iterable[str]] = ..., retired: _Optional[_Iterable[str]] = ..., clients: _Optional[int] = ..., idle_ms: _Optional[int] = ..., no_client_ms: _Optional[int] = ..., targets: _Optional[_Mapping[str, int]] = ..., beat: _Optional[bool] = ..., no_task_ms: _Optional[int] = ...) -> None: ...

class GroupDirective(_message.Message):
    __slots__ = ("name", "count", "adaptive", "minimum", "maximum", "interval_ms", "wait_count", "target_duration_ms", "surplus")
    NAME_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    ADAPTIVE_FIELD_NUMBER: _ClassVar[int]
    MINIMUM_FIELD_NUMBER: _ClassVar[int]
    MAXIMUM_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_MS_FIELD_NUMBER: _ClassVar[int]
    WAIT_COUNT_FIELD_NUMBER: _ClassVar[int]
    TARGET_DURATION_MS_FIELD_NUMBER: _ClassVar[int]
    SURPLUS_FIELD_NUMBER: _ClassVar[int]
    name: str
    count: int
    adaptive: bool
    minimum: int
    maximum: int
    interval_ms: int
    wait_count: int
    target_duration_ms: int
    surplus: int
    def __init__(self, name: _Optional[str] = ..., count: _Optional[int] = ..., adaptive: _Optional[bool] = ..., minimum: _Optional[int] = ..., maximum: _Optional[int] = ..., interval_ms: _Optional[int] = ..., wait_count: _Optional[int] = ..., target_duration_ms: _Optional[int] = ..., surplus: _Optional[int] = ...) -> None: ...
