"""What an administrator may set for the server. Clusters' settings are in `cluster_config.py`; the
edge, backends and authenticators bring their own classes.

Read with `gateway.configfile`; these files know what the settings mean, not where they come from.
"""

from __future__ import annotations

from traitlets import (
    Bool,
    Float,
    Int,
    List,
    Unicode,
)

from gateway.configfile import LogLevel
from gateway.files import default_state_dir
from gateway.server.boot.sign_in_settings import SignInSettings
from gateway.server.core.facts import Patience
from gateway.server.core.quantities import (
    MAX_DURATION_S,
)
from gateway.server.core.quotas import Quotas
from gateway.server.store.contract import Keeping


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
    log_level = LogLevel(
        "INFO",
        help="What is logged to standard error. DEBUG is the gateway's own: libraries would tell"
        " credentials there.",
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
            sessions=self.max_sessions_per_user,
            followed_logs=self.max_followed_logs_per_user,
        )
