"""What an administrator may set for the server and for clusters. The edge, backends and
authenticators bring their own classes.

Read with `gateway.configfile`; this file knows what the settings mean, not where they come from.
"""

from __future__ import annotations

import json
import sys
import typing
from collections.abc import Mapping
from dataclasses import replace

from traitlets import (
    Any,
    Bool,
    Callable,
    Dict,
    Enum,
    Float,
    Int,
    List,
    TraitError,
    Unicode,
    Union,
    validate,
)
from traitlets.config import Configurable

from gateway import daskconfig
from gateway.files import default_state_dir
from gateway.server.boot.fields import check_fields
from gateway.server.boot.sign_in_settings import SignInSettings
from gateway.server.core import options as option_types
from gateway.server.core.admission import MAX_OPTIONS_BYTES
from gateway.server.core.facts import Patience
from gateway.server.core.model import Lifecycle, Limits
from gateway.server.core.quantities import (
    MAX_CORES,
    MAX_COUNT,
    MAX_DURATION_S,
    MAX_THREADS,
    MIN_CORES,
    MIN_MEMORY_BYTES,
    format_bytes,
    parse_bytes,
)
from gateway.server.core.quotas import Quotas
from gateway.server.core.texts import is_sound
from gateway.server.store.contract import Keeping
from gateway.variables import why_not

MOST_CORES = 64.0  # of a worker that users may ask for, where the administrator names no options


class DaskGateway(SignInSettings):
    """The server."""

    state_dir = Unicode(
        help="Directory of everything the server keeps: database, keys, sockets. Made 0700."
    ).tag(config=True)
    database = Unicode(
        "", help="Database as a URL: sqlite:////path/gateway.db. Empty: gateway.db in state_dir."
    ).tag(config=True)
    address = Unicode(
        "127.0.0.1:8001",
        help="host:port of the gRPC listener for agents and for edges on other machines, in TLS"
        " always. Port 0: any free one.",
    ).tag(config=True)
    agent_address = Unicode(
        "",
        help="Address that agents dial, such as https://gateway.example.org:8001, or unix:/path."
        " Empty: that of the listener.",
    ).tag(config=True)
    check_agent_address = Bool(
        True,
        help="Dial agent_address at start, as agents do, and refuse to start where that cannot"
        " work. False: where nodes reach it and this machine does not.",
    ).tag(config=True)
    public_url = Unicode(
        "",
        help="Address that users know the edge by, such as https://dask.example.org. Empty: that"
        " of Proxy.address.",
    ).tag(config=True)
    tls_cert = Unicode(
        "",
        help="PEM file with the listener's certificate chain; read again when it changes. Empty: a"
        " certificate of the installation's own"
        " authority, which is made in state_dir; agents know it, and an edge elsewhere is given"
        " server-ca.pem out of there.",
    ).tag(config=True)
    tls_key = Unicode("", help="PEM file with the key of tls_cert.").tag(config=True)
    tls_ca = Unicode(
        "",
        help="PEM file with the CA that agents verify tls_cert by. Empty: tls_cert itself, which"
        " clusters then do not outlive.",
    ).tag(config=True)
    backends = List(
        Unicode(),
        ["local"],
        help="Names of the backends on offer (entry points gateway.backends); the first is the"
        " default.",
    ).tag(config=True)
    start_proxy = Bool(
        True, help="Start an edge as a child. False: run `daskgateway proxy` beside the server."
    ).tag(config=True)
    reflection = Bool(
        True, help="Answer gRPC reflection, so that grpcurl needs no .proto files."
    ).tag(config=True)
    drain_s = Float(
        10.0,
        min=0,
        max=MAX_DURATION_S,
        help="Seconds from SIGTERM to exit at most: watches are told to come back, calls may"
        " finish.",
    ).tag(config=True)
    stop_clusters_on_exit = Bool(
        False, help="Stop every cluster on SIGTERM. By default they live on and are found again."
    ).tag(config=True)
    max_clusters = Int(
        10_000,
        min=1,
        help="Living clusters of all users. Each takes two open files of the server"
        " (RLIMIT_NOFILE), which says so if that permits fewer.",
    ).tag(config=True)
    max_clusters_per_user = Int(
        100,
        min=0,
        help="Living clusters of one user, whoever asks for them. 0: no limit but max_clusters.",
    ).tag(config=True)
    max_creates_per_minute = Int(
        120,
        min=0,
        help="Clusters that one user may ask for within a minute; as many at once, if there were"
        " none before. 0: no limit.",
    ).tag(config=True)
    max_ended_per_user = Int(
        200,
        min=0,
        help="Ended clusters of one user that are kept with their logs, for retention_s; of more,"
        " those that ended first go. 0: no limit.",
    ).tag(config=True)
    max_events_per_cluster = Int(
        1_000,
        min=100,
        max=100_000,
        help="Events of one cluster that are kept, up to 1 KiB each: the newest. Of an ended one:"
        " 100.",
    ).tag(config=True)
    max_events_per_user = Int(
        10_000,
        min=0,
        help="Events of all clusters of one user that are kept: the newest, and a tenth more for a"
        " while. 0: no limit.",
    ).tag(config=True)
    max_followed_logs_per_user = Int(
        256,
        min=0,
        help="Logs that one user follows at a time, each worker's counted; one call follows 256 at"
        " most. 0: no limit.",
    ).tag(config=True)
    max_tokens_per_user = Int(100, min=0, help="Valid API tokens of one user. 0: no limit.").tag(
        config=True
    )
    min_free_bytes = Int(
        256 * 2**20,
        min=0,
        help="Free space on the database's disk below which no new cluster is accepted. 0: no"
        " limit.",
    ).tag(config=True)
    disk_reserve_bytes = Int(
        32 * 2**20,
        min=0,
        help="Space on disk that is given to the database beforehand, so that what ends can be"
        " recorded when others have filled the disk."
        " 0: none.",
    ).tag(config=True)
    max_calls = Int(
        1_000,
        min=1,
        help="Unary calls worked on at a time; as many wait, and more are refused with"
        " RESOURCE_EXHAUSTED.",
    ).tag(config=True)
    max_calls_per_user = Int(
        100,
        min=1,
        help="Unary calls of one user worked on at a time; as many wait, users in turn, and more"
        " are refused.",
    ).tag(config=True)
    max_streams = Int(
        20_000, min=1, help="Open streams of all kinds; more are refused with RESOURCE_EXHAUSTED."
    ).tag(config=True)
    max_streams_per_user = Int(200, min=1, help="Open streams of one user.").tag(config=True)
    max_token_ttl_s = Float(
        366 * 86400.0, min=60, max=MAX_DURATION_S, help="Longest life of an API token, in seconds."
    ).tag(config=True)
    retention_s = Float(
        86400.0,
        min=0,
        max=MAX_DURATION_S,
        help="Seconds that a finished cluster's record and logs are kept.",
    ).tag(config=True)
    scheduler_start_timeout_s = Float(
        120.0,
        min=1,
        max=MAX_DURATION_S,
        help="Seconds from a scheduler's process running to its first report.",
    ).tag(config=True)
    worker_connect_timeout_s = Float(
        300.0,
        min=1,
        max=MAX_DURATION_S,
        help="Seconds from a worker's process running to its scheduler knowing it.",
    ).tag(config=True)
    worker_settle_s = Float(
        60.0,
        min=0,
        max=MAX_DURATION_S,
        help="Seconds after it joined its scheduler within which the end of a worker counts as a"
        " failed start: the next one is started after a pause, which doubles up to a minute.",
    ).tag(config=True)
    worker_attempts = Int(
        10,
        min=0,
        help="Workers of a group that may end so, one after the other, until no more are started"
        " before the cluster is scaled; it says so. 0: any number.",
    ).tag(config=True)
    agent_silence_timeout_s = Float(
        300.0,
        min=1,
        max=MAX_DURATION_S,
        help="Seconds without a sign of life of its scheduler (one every 5 s, of its event loop)"
        " after which a"
        " cluster has failed; counted from the last one, and only while the server listens. An"
        " open connection is none; at least 20 s.",
    ).tag(config=True)
    log_level = Enum(
        ["DEBUG", "INFO", "WARNING", "ERROR"], "INFO", help="What is logged to standard error."
    ).tag(config=True)

    def _state_dir_default(self) -> str:
        return str(default_state_dir())

    def patience(self, dialled: str = "") -> Patience:
        """Return how long the reconciler waits for what. `dialled`: where agents find the
        server."""
        return Patience(
            dialled=dialled,
            scheduler_start_s=self.scheduler_start_timeout_s,
            agent_silence_s=self.agent_silence_timeout_s,
            worker_connect_s=self.worker_connect_timeout_s,
            worker_settle_s=self.worker_settle_s,
            worker_attempts=self.worker_attempts,
            retention_s=self.retention_s,
        )

    def keeping(self) -> Keeping:
        """Return how much the database keeps of what clusters leave behind."""
        return Keeping(
            events_per_cluster=self.max_events_per_cluster, events_per_user=self.max_events_per_user
        )

    def quotas(self) -> Quotas:
        """Return how much one user may have."""
        return Quotas(
            clusters=self.max_clusters_per_user,
            ended=self.max_ended_per_user,
            creates_per_minute=self.max_creates_per_minute,
            tokens=self.max_tokens_per_user,
            followed_logs=self.max_followed_logs_per_user,
        )


def _memory(default: str, text: str) -> Union:
    return Union([Unicode(), Int()], default_value=default, help=f"{text}, such as 4 GiB.").tag(
        config=True
    )


# a trait, which reads as float or None
def _seconds(text: str, default: float | None = None) -> typing.Any:
    said = f"Seconds {text}. None: for ever."
    return Float(default, allow_none=True, min=0, max=MAX_DURATION_S, help=said).tag(config=True)


class ClusterConfig(Configurable):
    """Every cluster, as far as its user does not choose otherwise among the options on offer."""

    options = Union(
        [List(), Callable()],
        help="Options that users may choose: a list of fields (Float, Integer, Text, Select, Bool,"
        " Mapped of gateway.options), or a callable, sync or async, that returns one for a user (it"
        " is given a Principal). An option named as a setting of clusters, such as worker_memory,"
        " overrides that setting, and takes only what the setting takes. What a callable raises as"
        " gateway.options.Refused, or as a plain ValueError, its user reads.",
    ).tag(config=True)
    apply_options = Any(
        None,
        help="Callable, sync or async, that makes settings of clusters out of options of other"
        " names: it is given the values of all options, and the user (a Principal) if it takes two"
        " arguments. It refuses as `options` does.",
    ).tag(config=True)
    options_timeout_s = Float(
        10.0, min=0.1, max=600, help="Seconds that a callable of options may take to answer."
    ).tag(config=True)
    worker_cores = Float(1.0, min=MIN_CORES, max=MAX_CORES, help="Cores of a worker.").tag(
        config=True
    )
    worker_memory = _memory("2 GiB", "Memory of a worker")
    worker_threads = Int(
        0, min=0, max=MAX_THREADS, help="Threads of a worker; 0: as many as cores, at least 1."
    ).tag(config=True)
    worker_nanny = Bool(
        True,
        help="Run each worker under a nanny process, as Dask does by itself: it restarts a worker"
        " that outgrows its memory, and plug-ins of nannies work. False saves about half a second"
        " of each start and 55 MiB of each worker.",
    ).tag(config=True)
    compared_packages = List(
        Unicode(),
        [],
        maxlen=32,
        help="Packages whose versions a cluster tells beside those of Dask. Clients compare them"
        " with their own before they connect.",
    ).tag(config=True)
    scheduler_cores = Float(1.0, min=MIN_CORES, max=MAX_CORES, help="Cores of a scheduler.").tag(
        config=True
    )
    scheduler_memory = _memory("2 GiB", "Memory of a scheduler")
    scheduler_host = Unicode(
        "",
        help="Host that schedulers listen on. Empty: as the backend needs it, 127.0.0.1 on local,"
        " a node's own address elsewhere.",
    ).tag(config=True)
    worker_host = Unicode("", help="Host that workers listen on; empty: dask chooses.").tag(
        config=True
    )
    python = Union(
        [List(Unicode()), Unicode()],
        default_value=[sys.executable],
        help="Command of Python for scheduler and workers: its path, or a list of words.",
    ).tag(config=True)
    dashboard = Bool(True, help="Whether schedulers serve a dashboard.").tag(config=True)
    environment = Dict(
        help="Environment variables of scheduler and workers; users may add some if on offer."
    ).tag(config=True)
    dask_config = Dict(
        help="Dask's configuration of schedulers and workers, by dotted or nested names, as YAML"
        " would have it; users' is merged into it if an option of this name is on offer."
    ).tag(config=True)
    max_workers = Int(
        None,
        allow_none=True,
        min=0,
        max=MAX_COUNT,
        help="Most workers of one cluster. None: no limit.",
    ).tag(config=True)
    max_cores = Float(
        None,
        allow_none=True,
        min=0,
        max=1e9,
        help="Most cores of one cluster with its scheduler. None: no limit.",
    ).tag(config=True)
    max_memory = Union(
        [Unicode(), Int()],
        default_value=None,
        allow_none=True,
        help="Most memory of one cluster with its scheduler. None: no limit.",
    ).tag(config=True)
    max_options_bytes = Int(
        MAX_OPTIONS_BYTES,
        min=1024,
        max=192 * 1024,
        help="Bytes of all that a user chooses for one cluster and its groups, such as environment"
        " variables.",
    ).tag(config=True)
    idle_timeout_s = _seconds("without task and client, if its user names no other time", 3600.0)
    idle_timeout_max_s = _seconds("that a cluster may do nothing, whatever its user wants")
    max_lifetime_s = _seconds("that a cluster may live, if its user names no other time")
    max_lifetime_max_s = _seconds("that a cluster may live, whatever its user wants")
    no_client_timeout_s = _seconds(
        "that a cluster may run with no client, if its user names no other time"
    )
    no_client_timeout_max_s = _seconds(
        "that a cluster may run with no client, whatever its user wants"
    )
    no_task_timeout_s = _seconds("without task, if its user names no other time", 12 * 3600.0)
    no_task_timeout_max_s = _seconds("that a cluster may have no task, whatever its user wants")
    ignore_clients = Bool(
        False, help="Whether connected clients are ignored when idleness is judged."
    ).tag(config=True)

    def _options_default(self) -> list[option_types.Field]:
        """Return what users may choose if nothing else is said; who chooses nothing gets the
        settings of this class."""
        cores, memory = self.worker_cores, _as_text(self.worker_memory)
        return [
            option_types.Float(
                "worker_cores",
                cores,
                minimum=min(0.1, cores),
                maximum=max(MOST_CORES, cores),
                label="Cores of a worker",
                per_group=True,
            ),
            option_types.Text(
                "worker_memory",
                memory,
                max_length=40,
                label="Memory of a worker",
                description="such as 4 GiB",
                per_group=True,
            ),
            option_types.Mapped(
                "environment", label="Environment variables", description="of scheduler and workers"
            ),
        ]

    @validate("worker_memory", "scheduler_memory", "max_memory")
    def _is_memory(self, proposal: Mapping[str, object]) -> object:
        value = proposal["value"]
        try:
            size = None if value is None else parse_bytes(value)  # type: ignore[arg-type]
        except ValueError as error:
            raise TraitError(str(error)) from None
        if size is not None and 0 < size < MIN_MEMORY_BYTES:
            raise TraitError("must be 0 or at least 1 MiB")
        return size

    @validate("python")
    def _is_command(self, proposal: Mapping[str, object]) -> object:
        value = proposal["value"]
        words = [value] if isinstance(value, str) else value
        if not isinstance(words, list) or not words or not all(map(str.strip, words)):
            raise TraitError(
                f"must be the command of Python, such as /opt/bin/python, not {value!r}"
            )
        return words

    @validate("dask_config", "environment")
    def _are_settable(self, proposal: Mapping[str, object]) -> object:
        value = proposal["value"]
        if proposal["trait"].name == "dask_config":  # type: ignore[attr-defined]
            if wrong := daskconfig.complaint(value):  # type: ignore[arg-type]
                raise TraitError(wrong)
            return value
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise TraitError(
                f"must hold texts, finite numbers, truth values, lists and mappings only ({error})"
            ) from None
        for name, text in value.items() if isinstance(value, dict) else ():
            if not name or "=" in str(name) or not is_sound(f"{name}{text}"):
                raise TraitError(
                    f"{name!r}: a name must not be empty or hold '=', and nothing holds NUL"
                )
            if why := why_not(str(name)):
                raise TraitError(f"{name!r} {why}")
        return value

    @validate("options")
    def _are_fields(self, proposal: Mapping[str, object]) -> object:
        value = proposal["value"]
        if isinstance(value, list):
            check_fields(value)
        return value

    @validate("apply_options")
    def _is_callable(self, proposal: Mapping[str, object]) -> object:
        if proposal["value"] is not None and not callable(proposal["value"]):
            raise TraitError(f"must be callable or None, not {proposal['value']!r:.100}")
        return proposal["value"]

    def settings(self) -> dict[str, object]:
        """Return what launching needs, by name."""
        names: tuple[str, ...] = (
            "worker_cores",
            "worker_memory",
            "worker_threads",
            "worker_nanny",
            "compared_packages",
            "scheduler_cores",
            "scheduler_memory",
        )
        names += (
            "scheduler_host",
            "worker_host",
            "python",
            "dashboard",
            "environment",
            "dask_config",
        )
        return {name: getattr(self, name) for name in names}

    def limits(self) -> Limits:
        """Return the limits of one cluster."""
        return Limits(
            self.max_workers,
            self.max_cores,
            None if self.max_memory is None else parse_bytes(self.max_memory),
        )

    def lifecycle(self) -> Lifecycle:
        """Return the lifecycle of a cluster that asks for none."""
        return replace(self._lives("_s"), ignore_clients=self.ignore_clients)

    def most(self) -> Lifecycle:
        """Return the lifecycle that nobody may exceed."""
        return self._lives("_max_s")

    def _lives(self, end: str) -> Lifecycle:
        names = ("idle_timeout", "max_lifetime", "no_client_timeout", "no_task_timeout")
        return Lifecycle(**{f"{name}_s": getattr(self, f"{name}{end}") for name in names})


def _as_text(memory: str | int) -> str:
    """Return an amount of memory as people read it, if that is the same amount; else its bytes."""
    size = parse_bytes(memory)
    return format_bytes(size) if parse_bytes(format_bytes(size)) == size else str(size)
