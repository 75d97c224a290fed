"""What a cluster is to the server: frozen data. No behaviour beyond derived properties, no I/O, no
clock.

Instants are milliseconds since the epoch (`_at`), durations seconds (`_s`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from gateway.backends.contract import SCHEDULER_NAME, Instance, Resources, Role

DEFAULT_GROUP = "default"


class State(StrEnum):
    """Where a cluster stands."""

    PENDING = "PENDING"
    CREATING = "CREATING"
    ACTIVE = "ACTIVE"
    STOPPING = "STOPPING"
    STOPPED = "STOPPED"
    FAILED = "FAILED"

    @property
    def finished(self) -> bool:
        """Whether nothing of the cluster runs or will run."""
        return self in (State.STOPPED, State.FAILED)


@dataclass(frozen=True, slots=True)
class Count:
    """A group of exactly so many workers."""

    workers: int = 0


@dataclass(frozen=True, slots=True)
class Adaptive:
    """A group as large as its load needs, between two bounds."""

    minimum: int
    maximum: int
    interval_s: float | None = None  # between two looks at the load; None: the agent's own choice
    wait_count: int = 0  # looks in a row until a worker too many goes; 0: the agent's own choice
    target_duration_s: float | None = None  # that the work may take; None: as Dask is configured


Size = Count | Adaptive


@dataclass(frozen=True, slots=True)
class WorkerGroup:
    """The wish for workers of one kind."""

    size: Size = Count()
    options: Mapping[str, object] = field(default_factory=dict)  # overrides, as given
    settings: Mapping[str, object] = field(default_factory=dict)  # resolved at creation
    resources: Resources = Resources()  # of each worker


@dataclass(frozen=True, slots=True)
class Lifecycle:
    """When the server ends a cluster by itself; None means never."""

    idle_timeout_s: float | None = None
    max_lifetime_s: float | None = None
    no_client_timeout_s: float | None = None
    ignore_clients: bool = False
    no_task_timeout_s: float | None = None
    keepalive_timeout_s: float | None = None  # None: nobody needs to keep it alive


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one cluster with its scheduler; None means unbounded."""

    workers: int | None = None
    cores: float | None = None
    memory_bytes: int | None = None
    gpus: int | None = None
    # of resources that the machine room names, and then there are no others; empty: any, unbounded
    named: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Spec:
    """The whole wish."""

    backend: str
    # every published field with its value
    options: Mapping[str, object] = field(default_factory=dict)
    # what launching needs, resolved at creation
    settings: Mapping[str, object] = field(default_factory=dict)
    groups: Mapping[str, WorkerGroup] = field(
        default_factory=lambda: {DEFAULT_GROUP: WorkerGroup()}
    )
    lifecycle: Lifecycle = Lifecycle()
    limits: Limits = Limits()
    scheduler: Resources = Resources()


@dataclass(frozen=True, slots=True)
class StopWish:
    """That a cluster is to end, and how that is to be told."""

    goal: State  # STOPPED or FAILED
    reason: str
    message: str
    at: int


class Launching(StrEnum):
    """Where the server stands with one instance it intends."""

    INTENDED = "INTENDED"  # stored before it is started: a restart starts or adopts it
    STARTED = "STARTED"  # the backend has accepted it
    RUNNING = "RUNNING"  # the backend sees it run
    LEAVING = "LEAVING"  # it has ended or was retired; what remains of it is to be removed
    STOPPING = "STOPPING"  # asked to end


@dataclass(frozen=True, slots=True)
class Scheduler:
    """The scheduler of a cluster as far as it is known."""

    launching: Launching | None = None  # None: not intended yet, or observed gone
    handle: str = ""
    failures: int = 0  # starts that failed one after the other
    retry_at: int = 0
    launched_at: int = 0
    running_at: int = 0
    address: str = ""  # such as tls://10.0.0.7:8786
    dashboard_address: str = ""  # host:port
    versions: Mapping[str, str] = field(default_factory=dict)
    silent_since_at: int = 0  # 0 while its agent is connected


@dataclass(frozen=True, slots=True)
class Worker:
    """One worker that is intended or exists. Its row goes when it is observed gone."""

    uid: str
    name: str
    group: str
    launching: Launching = Launching.INTENDED
    handle: str = ""
    created_at: int = 0
    since_at: int = 0  # when it last changed: launched, connected, left, asked to stop
    connected: bool = False  # whether its scheduler knows it now
    connected_at: int = 0  # when its scheduler first knew it; 0 if never
    message: str = ""

    @property
    def instance(self) -> Instance:
        """Its identity to the backend."""
        return Instance(self.uid, Role.WORKER, self.name)


@dataclass(frozen=True, slots=True)
class GroupStatus:
    """How many workers of a group there are."""

    desired: int = 0
    pending: int = 0
    running: int = 0
    target: int = 0  # what the agent last asked for, if adaptive
    next_sequence: int = 0  # of worker names, never reused
    failures: int = 0  # worker starts that failed one after the other
    failure: str = ""  # why the last of them failed, and which worker; empty once one has connected
    retry_at: int = 0
    lost_at: int = 0  # when a worker last ended that was not asked to
    # rounds of workers, one after the other, of which some ended soon after they had joined
    died: int = 0
    died_at: int = 0  # when the last such round began to die


@dataclass(frozen=True, slots=True)
class Activity:
    """What the agent last told about use."""

    clients: int = 0
    idle_since_at: int = 0  # 0 while busy
    no_client_since_at: int = 0  # 0 while a client is connected
    no_task_since_at: int = 0  # 0 while there is a task


@dataclass(frozen=True, slots=True)
class Condition:
    """A fact that holds beside the state."""

    type: str
    holds: bool
    reason: str
    message: str
    at: int


@dataclass(frozen=True, slots=True)
class Cluster:
    """One cluster, wish and observation."""

    uid: str
    owner: str
    cluster_id: str
    spec: Spec
    labels: Mapping[str, str] = field(default_factory=dict)
    state: State = State.PENDING
    reason: str = ""
    message: str = ""
    state_at: int = 0
    stop: StopWish | None = None
    generation: int = 1
    observed_generation: int = 0
    revision: int = 0  # stamped by the store
    created_revision: int = 0  # stamped by the store
    created_at: int = 0
    started_at: int = 0
    updated_at: int = 0
    stopped_at: int = 0
    purge_at: int = 0
    kept_alive_at: int = 0  # when the process that is to stop it last gave a sign of life
    scheduler: Scheduler = Scheduler()
    groups: Mapping[str, GroupStatus] = field(default_factory=dict)
    activity: Activity = Activity()
    conditions: tuple[Condition, ...] = ()

    @property
    def name(self) -> str:
        """Resource name."""
        return f"users/{self.owner}/clusters/{self.cluster_id}"

    @property
    def holds_name(self) -> bool:
        """Whether no other cluster of its owner may take its id: until it is told to stop."""
        return self.stop is None and not self.state.finished

    @property
    def etag(self) -> str:
        """Changes with the wish."""
        return f'"{self.uid}-{self.generation}"'

    @property
    def scheduler_instance(self) -> Instance:
        """The scheduler's identity to the backend."""
        return Instance(self.uid, Role.SCHEDULER, SCHEDULER_NAME)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a cluster."""

    uid: str
    at: int
    reason: str
    message: str
    instance: str = ""
    revision: int = 0  # stamped by the store


class Scope(StrEnum):
    """What credentials may do."""

    CLUSTERS_READ = "clusters:read"
    CLUSTERS_WRITE = "clusters:write"
    TOKENS = "tokens"


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls, or in whose name something is done."""

    user: str
    admin: bool = False
    groups: tuple[str, ...] = ()
    scopes: frozenset[Scope] = frozenset(Scope)
    #: until when this holds; what is opened or made with it lasts no longer. 0: no end is known
    expires_at: int = 0
    #: changes with what the credentials were checked by, such as a password's hash, and tells
    #: nothing of it
    stamp: str = ""
    token_id: str = ""  #: of the token that was shown; empty for who signed in
    #: by which of the ways to sign in that the site has; of a session's token, that of the session
    way: str = ""
    #: what is told back to who signed in, such as the server's half of a mutual authentication
    reply: str = field(default="", compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Session:
    """What a sign-in told, for as long as its session may be renewed."""

    way: str  # by which its user signed in
    # ms since the epoch: useless from then on, unless it is renewed. It can be, until its token
    # expires
    lapses_at: int
    # these hold where the authenticator cannot be asked about users
    admin: bool = False
    groups: tuple[str, ...] = ()
    stamp: str = ""  # what the sign-in was checked by
    # sealed: by what the source is asked whether the sign-in still stands; empty: it is not asked
    proof: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Token:
    """An API token, or that of a session, as stored: its secret only as a hash."""

    id: str
    user: str
    secret_hash: bytes
    display_name: str = ""
    scopes: frozenset[Scope] = frozenset(Scope)
    created_at: int = 0
    expires_at: int = 0
    parent: str = ""  # id of the token that it was made with; empty if by somebody who signed in
    depth: int = 0  # how many tokens stand above it
    session: Session | None = None  # of a session's token

    @property
    def good_until(self) -> int:
        """When its secret opens nothing more, as things are now."""
        return min(self.expires_at, self.session.lapses_at) if self.session else self.expires_at


@dataclass(frozen=True, slots=True)
class Remembered:
    """The effect of a mutation, by principal, method and request_id."""

    user: str
    method: str
    request_id: str
    digest: bytes  # of the request without its request_id
    uid: str  # of the cluster, or id of the token
    at: int
