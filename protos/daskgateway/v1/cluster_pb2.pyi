import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import struct_pb2 as _struct_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ClusterState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CLUSTER_STATE_UNSPECIFIED: _ClassVar[ClusterState]
    CLUSTER_STATE_PENDING: _ClassVar[ClusterState]
    CLUSTER_STATE_CREATING: _ClassVar[ClusterState]
    CLUSTER_STATE_ACTIVE: _ClassVar[ClusterState]
    CLUSTER_STATE_STOPPING: _ClassVar[ClusterState]
    CLUSTER_STATE_STOPPED: _ClassVar[ClusterState]
    CLUSTER_STATE_FAILED: _ClassVar[ClusterState]

class ConditionStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CONDITION_STATUS_UNSPECIFIED: _ClassVar[ConditionStatus]
    CONDITION_STATUS_TRUE: _ClassVar[ConditionStatus]
    CONDITION_STATUS_FALSE: _ClassVar[ConditionStatus]
    CONDITION_STATUS_UNKNOWN: _ClassVar[ConditionStatus]
CLUSTER_STATE_UNSPECIFIED: ClusterState
CLUSTER_STATE_PENDING: ClusterState
CLUSTER_STATE_CREATING: ClusterState
CLUSTER_STATE_ACTIVE: ClusterState
CLUSTER_STATE_STOPPING: ClusterState
CLUSTER_STATE_STOPPED: ClusterState
CLUSTER_STATE_FAILED: ClusterState
CONDITION_STATUS_UNSPECIFIED: ConditionStatus
CONDITION_STATUS_TRUE: ConditionStatus
CONDITION_STATUS_FALSE: ConditionStatus
CONDITION_STATUS_UNKNOWN: ConditionStatus

class Adaptive(_message.Message):
    __slots__ = ("minimum", "maximum", "interval", "wait_count", "target_duration")
    MINIMUM_FIELD_NUMBER: _ClassVar[int]
    MAXIMUM_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_FIELD_NUMBER: _ClassVar[int]
    WAIT_COUNT_FIELD_NUMBER: _ClassVar[int]
    TARGET_DURATION_FIELD_NUMBER: _ClassVar[int]
    minimum: int
    maximum: int
    interval: _duration_pb2.Duration
    wait_count: int
    target_duration: _duration_pb2.Duration
    def __init__(self, minimum: _Optional[int] = ..., maximum: _Optional[int] = ..., interval: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., wait_count: _Optional[int] = ..., target_duration: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class Cluster(_message.Message):
    __slots__ = ("name", "uid", "etag", "generation", "revision", "owner", "labels", "spec", "status", "create_time", "start_time", "update_time", "stop_time", "purge_time")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    UID_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    UPDATE_TIME_FIELD_NUMBER: _ClassVar[int]
    STOP_TIME_FIELD_NUMBER: _ClassVar[int]
    PURGE_TIME_FIELD_NUMBER: _ClassVar[int]
    name: str
    uid: str
    etag: str
    generation: int
    revision: int
    owner: str
    labels: _containers.ScalarMap[str, str]
    spec: ClusterSpec
    status: ClusterStatus
    create_time: _timestamp_pb2.Timestamp
    start_time: _timestamp_pb2.Timestamp
    update_time: _timestamp_pb2.Timestamp
    stop_time: _timestamp_pb2.Timestamp
    purge_time: _timestamp_pb2.Timestamp
    def __init__(self, name: _Optional[str] = ..., uid: _Optional[str] = ..., etag: _Optional[str] = ..., generation: _Optional[int] = ..., revision: _Optional[int] = ..., owner: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ..., spec: _Optional[_Union[ClusterSpec, _Mapping]] = ..., status: _Optional[_Union[ClusterStatus, _Mapping]] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., update_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., stop_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., purge_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ClusterSpec(_message.Message):
    __slots__ = ("backend", "options", "worker_groups", "lifecycle")
    class WorkerGroupsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: WorkerGroup
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[WorkerGroup, _Mapping]] = ...) -> None: ...
    BACKEND_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    WORKER_GROUPS_FIELD_NUMBER: _ClassVar[int]
    LIFECYCLE_FIELD_NUMBER: _ClassVar[int]
    backend: str
    options: _struct_pb2.Struct
    worker_groups: _containers.MessageMap[str, WorkerGroup]
    lifecycle: Lifecycle
    def __init__(self, backend: _Optional[str] = ..., options: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., worker_groups: _Optional[_Mapping[str, WorkerGroup]] = ..., lifecycle: _Optional[_Union[Lifecycle, _Mapping]] = ...) -> None: ...

class ClusterStatus(_message.Message):
    __slots__ = ("state", "reason", "message", "state_time", "reconciling", "observed_generation", "conditions", "worker_groups", "endpoints", "versions", "clients", "idle_time", "expire_time", "expire_reason", "keepalive_time", "environment", "dask_config")
    class WorkerGroupsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: WorkerGroupStatus
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[WorkerGroupStatus, _Mapping]] = ...) -> None: ...
    class VersionsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class EnvironmentEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    STATE_TIME_FIELD_NUMBER: _ClassVar[int]
    RECONCILING_FIELD_NUMBER: _ClassVar[int]
    OBSERVED_GENERATION_FIELD_NUMBER: _ClassVar[int]
    CONDITIONS_FIELD_NUMBER: _ClassVar[int]
    WORKER_GROUPS_FIELD_NUMBER: _ClassVar[int]
    ENDPOINTS_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    CLIENTS_FIELD_NUMBER: _ClassVar[int]
    IDLE_TIME_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_REASON_FIELD_NUMBER: _ClassVar[int]
    KEEPALIVE_TIME_FIELD_NUMBER: _ClassVar[int]
    ENVIRONMENT_FIELD_NUMBER: _ClassVar[int]
    DASK_CONFIG_FIELD_NUMBER: _ClassVar[int]
    state: ClusterState
    reason: str
    message: str
    state_time: _timestamp_pb2.Timestamp
    reconciling: bool
    observed_generation: int
    conditions: _containers.RepeatedCompositeFieldContainer[Condition]
    worker_groups: _containers.MessageMap[str, WorkerGroupStatus]
    endpoints: Endpoints
    versions: _containers.ScalarMap[str, str]
    clients: int
    idle_time: _timestamp_pb2.Timestamp
    expire_time: _timestamp_pb2.Timestamp
    expire_reason: str
    keepalive_time: _timestamp_pb2.Timestamp
    environment: _containers.ScalarMap[str, str]
    dask_config: _struct_pb2.Struct
    def __init__(self, state: _Optional[_Union[ClusterState, str]] = ..., reason: _Optional[str] = ..., message: _Optional[str] = ..., state_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., reconciling: _Optional[bool] = ..., observed_generation: _Optional[int] = ..., conditions: _Optional[_Iterable[_Union[Condition, _Mapping]]] = ..., worker_groups: _Optional[_Mapping[str, WorkerGroupStatus]] = ..., endpoints: _Optional[_Union[Endpoints, _Mapping]] = ..., versions: _Optional[_Mapping[str, str]] = ..., clients: _Optional[int] = ..., idle_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., expire_reason: _Optional[str] = ..., keepalive_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., environment: _Optional[_Mapping[str, str]] = ..., dask_config: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ...) -> None: ...

class Condition(_message.Message):
    __slots__ = ("type", "status", "reason", "message", "transition_time")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    TRANSITION_TIME_FIELD_NUMBER: _ClassVar[int]
    type: str
    status: ConditionStatus
    reason: str
    message: str
    transition_time: _timestamp_pb2.Timestamp
    def __init__(self, type: _Optional[str] = ..., status: _Optional[_Union[ConditionStatus, str]] = ..., reason: _Optional[str] = ..., message: _Optional[str] = ..., transition_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class Endpoints(_message.Message):
    __slots__ = ("scheduler", "dashboard")
    SCHEDULER_FIELD_NUMBER: _ClassVar[int]
    DASHBOARD_FIELD_NUMBER: _ClassVar[int]
    scheduler: str
    dashboard: str
    def __init__(self, scheduler: _Optional[str] = ..., dashboard: _Optional[str] = ...) -> None: ...

class Lifecycle(_message.Message):
    __slots__ = ("idle_timeout", "max_lifetime", "no_client_timeout", "ignore_clients", "no_task_timeout", "keepalive_timeout")
    IDLE_TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    MAX_LIFETIME_FIELD_NUMBER: _ClassVar[int]
    NO_CLIENT_TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    IGNORE_CLIENTS_FIELD_NUMBER: _ClassVar[int]
    NO_TASK_TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    KEEPALIVE_TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    idle_timeout: _duration_pb2.Duration
    max_lifetime: _duration_pb2.Duration
    no_client_timeout: _duration_pb2.Duration
    ignore_clients: bool
    no_task_timeout: _duration_pb2.Duration
    keepalive_timeout: _duration_pb2.Duration
    def __init__(self, idle_timeout: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., max_lifetime: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., no_client_timeout: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., ignore_clients: _Optional[bool] = ..., no_task_timeout: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., keepalive_timeout: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class WorkerGroup(_message.Message):
    __slots__ = ("options", "count", "adaptive")
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    ADAPTIVE_FIELD_NUMBER: _ClassVar[int]
    options: _struct_pb2.Struct
    count: int
    adaptive: Adaptive
    def __init__(self, options: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., count: _Optional[int] = ..., adaptive: _Optional[_Union[Adaptive, _Mapping]] = ...) -> None: ...

class WorkerGroupStatus(_message.Message):
    __slots__ = ("desired", "pending", "running", "worker_cores", "worker_memory_bytes", "wished", "limit", "environment", "worker_gpus", "worker_resources")
    class EnvironmentEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class WorkerResourcesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    DESIRED_FIELD_NUMBER: _ClassVar[int]
    PENDING_FIELD_NUMBER: _ClassVar[int]
    RUNNING_FIELD_NUMBER: _ClassVar[int]
    WORKER_CORES_FIELD_NUMBER: _ClassVar[int]
    WORKER_MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    WISHED_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    ENVIRONMENT_FIELD_NUMBER: _ClassVar[int]
    WORKER_GPUS_FIELD_NUMBER: _ClassVar[int]
    WORKER_RESOURCES_FIELD_NUMBER: _ClassVar[int]
    desired: int
    pending: int
    running: int
    worker_cores: float
    worker_memory_bytes: int
    wished: int
    limit: int
    environment: _containers.ScalarMap[str, str]
    worker_gpus: int
    worker_resources: _containers.ScalarMap[str, float]
    def __init__(self, desired: _Optional[int] = ..., pending: _Optional[int] = ..., running: _Optional[int] = ..., worker_cores: _Optional[float] = ..., worker_memory_bytes: _Optional[int] = ..., wished: _Optional[int] = ..., limit: _Optional[int] = ..., environment: _Optional[_Mapping[str, str]] = ..., worker_gpus: _Optional[int] = ..., worker_resources: _Optional[_Mapping[str, float]] = ...) -> None: ...
