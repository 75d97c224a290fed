"""What the gateway answers, as small frozen classes with Python's own types. Knows nothing of
connections."""

from gateway.client.model.access import (
    Caller,
    DashboardTicket,
    DeviceLogin,
    NewToken,
    Scope,
    SignInOption,
    Token,
)
from gateway.client.model.answer import Answer, Page
from gateway.client.model.cluster import Cluster
from gateway.client.model.events import Bookmark, Event, LogPiece, WatchEvent, WatchEventType
from gateway.client.model.offer import (
    BoolField,
    FloatField,
    IntField,
    Limits,
    MappingField,
    OptionField,
    SelectField,
    StringField,
)
from gateway.client.model.spec import Adaptive, ClusterSpec, Lifecycle, WorkerGroup
from gateway.client.model.status import (
    ClusterState,
    ClusterStatus,
    Condition,
    ConditionStatus,
    Endpoints,
    WorkerGroupStatus,
)

__all__ = [
    "Adaptive",
    "Answer",
    "BoolField",
    "Bookmark",
    "Caller",
    "Cluster",
    "ClusterSpec",
    "ClusterState",
    "ClusterStatus",
    "Condition",
    "ConditionStatus",
    "DashboardTicket",
    "DeviceLogin",
    "Endpoints",
    "Event",
    "FloatField",
    "IntField",
    "Lifecycle",
    "Limits",
    "LogPiece",
    "MappingField",
    "NewToken",
    "OptionField",
    "Page",
    "Scope",
    "SelectField",
    "SignInOption",
    "StringField",
    "Token",
    "WatchEvent",
    "WatchEventType",
    "WorkerGroup",
    "WorkerGroupStatus",
]
