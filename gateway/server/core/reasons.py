"""Why a cluster stands where it stands, which conditions it has, and what happened to it: closed
lists of words, those of reason.proto."""

from __future__ import annotations

from enum import StrEnum


class ConditionType(StrEnum):
    """What a condition is about."""

    SCHEDULER_REACHABLE = "SchedulerReachable"
    WORKERS_AVAILABLE = "WorkersAvailable"
    WITHIN_LIMITS = "WithinLimits"
    BACKEND_AVAILABLE = "BackendAvailable"
    OWNER_KNOWN = "OwnerKnown"


class Reason(StrEnum):
    """The word for programs beside each sentence for people: in a cluster's status, in a condition,
    in an event."""

    # it was made, and entered a state
    CREATED = "CREATED"
    PENDING = "PENDING"
    CREATING = "CREATING"
    ACTIVE = "ACTIVE"
    STOPPING = "STOPPING"
    STOPPED = "STOPPED"
    FAILED = "FAILED"
    # why it ends
    STOP_REQUESTED = "STOP_REQUESTED"
    MAX_LIFETIME = "MAX_LIFETIME"
    IDLE_TIMEOUT = "IDLE_TIMEOUT"
    NO_CLIENT = "NO_CLIENT"
    # its scheduler
    SCHEDULER_STARTED = "SCHEDULER_STARTED"
    SCHEDULER_QUEUED = "SCHEDULER_QUEUED"
    SCHEDULER_REQUEUED = "SCHEDULER_REQUEUED"
    SCHEDULER_START_FAILED = "SCHEDULER_START_FAILED"
    SCHEDULER_START_TIMEOUT = "SCHEDULER_START_TIMEOUT"
    SCHEDULER_CLOSED = "SCHEDULER_CLOSED"
    SCHEDULER_EXITED = "SCHEDULER_EXITED"
    AGENT_SILENT = "AGENT_SILENT"
    AGENT_HEARD = "AGENT_HEARD"
    ADDRESS_NOT_PERMITTED = "ADDRESS_NOT_PERMITTED"
    # its workers
    WORKER_START_FAILED = "WORKER_START_FAILED"
    WORKER_EXITED = "WORKER_EXITED"
    WORKER_CLOSED = "WORKER_CLOSED"
    WORKER_LOST = "WORKER_LOST"
    WORKER_NOT_CONNECTED = "WORKER_NOT_CONNECTED"
    WORKER_REQUEUED = "WORKER_REQUEUED"
    WORKERS_GIVEN_UP = "WORKERS_GIVEN_UP"
    # what the administrator changed
    LIMITS_CHANGED = "LIMITS_CHANGED"
    # of conditions
    REPORTING = "REPORTING"
    NOT_ACTIVE = "NOT_ACTIVE"
    ALL_RUNNING = "ALL_RUNNING"
    STARTING = "STARTING"
    QUEUED = "QUEUED"
    WORKERS_FAIL = "WORKERS_FAIL"
    WITHIN = "WITHIN"
    CLAMPED = "CLAMPED"
    ANSWERS = "ANSWERS"
    BACKEND_UNAVAILABLE = "BACKEND_UNAVAILABLE"
    # and why else it ends
    NO_TASK = "NO_TASK"
    NOT_KEPT_ALIVE = "NOT_KEPT_ALIVE"
    # its owner
    OWNER_UNKNOWN = "OWNER_UNKNOWN"
    OWNER_KNOWN = "OWNER_KNOWN"
