"""What settings of dask-gateway's server are called here, for who brings a configuration file from
there: docs/from-dask-gateway.md in complaints."""

from __future__ import annotations

OPTIONS = "c.ClusterConfig.options, a list; a handler is c.ClusterConfig.apply_options"
AUTHENTICATORS = "c.DaskGateway.authenticator, a name"
PASSWORDS = (
    "c.PasswordAuthenticator.users, a hash each of `daskgateway hash-password`; .password is one"
    " hash for all"
)
NO_COOKIE = (
    "nothing: calls leave no cookie; c.DaskGateway.session_ttl_s is how long a sign-in holds"
)
# of classes by which people sign in there
CACHED = "c.DaskGateway.session_ttl_s, for which a sign-in holds that is dear"
NO_CLIENT_CERTIFICATE = (
    "nothing: the gateway shows the Hub no certificate of its own; let c.JupyterHubAuthenticator"
    ".api_url lead to an address of the Hub's that asks for none"
)
# what stands for authenticator_class, by the last part of its value
AUTHENTICATOR_CLASSES = {
    "SimpleAuthenticator": '"password", with c.PasswordAuthenticator.users',
    "DummyAuthenticator": '"password", with c.PasswordAuthenticator.users',
    "BasicAuthenticator": '"password", with c.PasswordAuthenticator.users',
    "KerberosAuthenticator": '"kerberos", with c.DaskGateway.user_name for its realm',
    "JupyterHubAuthenticator": '"jupyterhub", with c.JupyterHubAuthenticator.api_url and api_token',
}
OWN_CLASS = (
    "the name of an entry point; classes of dask-gateway's contract are none here, and"
    " docs/reference/authenticators.md has this one. There are oidc, ldap and mtls too"
)
BACKENDS = "c.DaskGateway.backends, a list of names: local, slurm, pbs, yarn, kubernetes"
KEYS = "nothing: keys are files in c.DaskGateway.state_dir"
GRACE = "c.LocalBackend.stop_grace_s"
FOUND = "nothing: the backend finds its processes by itself"
COMMANDS = "commands_directory of the batch system's backend, such as c.SlurmBackend"
SETUP = "setup of the batch system's backend, a list of lines, such as c.SlurmBackend.setup"
POD_FIELDS = (
    "c.KubernetesBackend.pod_fields, and node_selector, tolerations, affinity, volumes beside it"
)
SCHEDULER_PODS = "c.KubernetesBackend.scheduler_settings, the same by names of settings"
NO_RESOURCE = "nothing: there is no custom resource, and no controller of one"
# settings that clusters have there, in ClusterConfig and in each backend's class of that kind
OF_CLUSTERS = {
    "account": "account of the batch system's backend",
    "adaptive_period": "the user's adapt(interval=...)",
    "cluster_max_cores": "c.ClusterConfig.max_cores",
    "cluster_max_memory": "c.ClusterConfig.max_memory",
    "cluster_max_workers": "c.ClusterConfig.max_workers",
    "environment": "c.ClusterConfig.environment",
    "idle_timeout": "c.ClusterConfig.idle_timeout_s",
    "image": "c.KubernetesBackend.image",
    "image_pull_policy": "c.KubernetesBackend.image_pull_policy",
    "image_pull_secrets": "c.KubernetesBackend.image_pull_secrets, a list of names",
    "localize_files": "c.YarnBackend.files, or archives",
    "namespace": "c.KubernetesBackend.namespace",
    "partition": "c.SlurmBackend.partition",
    "project": "c.PbsBackend.project",
    "qos": "c.SlurmBackend.qos",
    "queue": "c.PbsBackend.queue, or c.YarnBackend.queue",
    "scheduler_cmd": "c.ClusterConfig.python",
    "scheduler_cores": "c.ClusterConfig.scheduler_cores",
    "scheduler_cores_limit": "c.KubernetesBackend.limit_cores, and requested_cores_share",
    "scheduler_extra_container_config": SCHEDULER_PODS,
    "scheduler_extra_pod_annotations": SCHEDULER_PODS,
    "scheduler_extra_pod_config": SCHEDULER_PODS,
    "scheduler_extra_pod_labels": SCHEDULER_PODS,
    "scheduler_memory": "c.ClusterConfig.scheduler_memory ('2 G' is '2 GiB' here)",
    "scheduler_memory_limit": "c.KubernetesBackend.requested_memory_share",
    "scheduler_resource_list": "c.PbsBackend.resource_list, a list of words",
    "scheduler_setup": SETUP,
    "staging_directory": "root, log_directory and staging_directory of the backend",
    "use_stagein": "nothing: what a job needs travels in its script",
    "worker_cmd": "c.ClusterConfig.python",
    "worker_cores": "c.ClusterConfig.worker_cores",
    "worker_cores_limit": "c.KubernetesBackend.limit_cores, and requested_cores_share",
    "worker_extra_container_config": "c.KubernetesBackend.container_fields",
    "worker_extra_pod_annotations": "c.KubernetesBackend.annotations",
    "worker_extra_pod_config": POD_FIELDS,
    "worker_extra_pod_labels": "c.KubernetesBackend.labels",
    "worker_memory": "c.ClusterConfig.worker_memory ('2 G' is '2 GiB' here)",
    "worker_memory_limit": "c.KubernetesBackend.requested_memory_share",
    "worker_resource_list": "c.PbsBackend.resource_list, a list of words",
    "worker_setup": SETUP,
    "worker_threads": "c.ClusterConfig.worker_threads",
}
# settings that backends have there, in a class of their own or in one that several share
OF_BACKENDS = {
    "api_url": "c.DaskGateway.agent_address",
    "app_client_cache_max_size": FOUND,
    "backoff_base_delay": FOUND,
    "backoff_max_delay": FOUND,
    "cancel_command": COMMANDS,
    "check_timeouts_period": FOUND,
    "cluster_config_class": "nothing: settings of clusters are c.ClusterConfig's and the backend's",
    "cluster_heartbeat_period": "nothing: schedulers report as things happen",
    "cluster_heartbeat_timeout": "c.DaskGateway.agent_silence_timeout_s",
    "cluster_options": OPTIONS,
    "cluster_start_timeout": "c.DaskGateway.scheduler_start_timeout_s",
    "cluster_status_period": "observe_interval_s of the backend",
    "clusters_directory": "c.LocalBackend.root",
    "common_annotations": "c.KubernetesBackend.annotations",
    "common_labels": "c.KubernetesBackend.labels",
    "completed_cluster_cleanup_period": "c.DaskGateway.retention_s",
    "completed_cluster_max_age": "c.DaskGateway.retention_s",
    "crd_version": NO_RESOURCE,
    "dask_gateway_jobqueue_launcher": "launcher of the batch system's backend",
    "db_cleanup_period": "c.DaskGateway.retention_s",
    "db_cluster_max_age": "c.DaskGateway.retention_s",
    "db_debug": "nothing",
    "db_encrypt_keys": KEYS,
    "db_url": "c.DaskGateway.state_dir, or c.DaskGateway.database",
    "gateway_hostname": "nothing: what a job needs travels in its script",
    "gateway_instance": "c.KubernetesBackend.tag",
    "inherited_environment": "c.ClusterConfig.environment: processes have the gateway's own, but"
    " few of its variables with run_as_user",
    "k8s_api_rate_limit": "c.KubernetesBackend.concurrency",
    "k8s_api_rate_limit_burst": "c.KubernetesBackend.concurrency",
    "label_selector": NO_RESOURCE,
    "parallelism": FOUND,
    "proxy_prefix": "c.Proxy.prefix",
    "proxy_tcp_entrypoint": NO_RESOURCE,
    "proxy_web_entrypoint": NO_RESOURCE,
    "proxy_web_middlewares": NO_RESOURCE,
    "sigint_timeout": GRACE,
    "sigkill_timeout": GRACE,
    "sigterm_timeout": GRACE,
    "status_command": COMMANDS,
    "stop_clusters_on_shutdown": "c.DaskGateway.stop_clusters_on_exit",
    "submit_command": COMMANDS,
    "worker_start_failure_limit": "c.DaskGateway.worker_attempts",
    "worker_start_timeout": "c.DaskGateway.worker_connect_timeout_s",
    "worker_status_period": "observe_interval_s of the backend",
}
# by class and setting there
NAMES = {
    **{
        f"{name}.{setting}": words
        for name in ("Authenticator", "SimpleAuthenticator", "KerberosAuthenticator")
        for setting, words in (("cookie_name", NO_COOKIE), ("cache_max_age", CACHED))
    },
    "BasicAuthenticator.password": PASSWORDS,
    "DummyAuthenticator.password": PASSWORDS,
    "JupyterHubAuthenticator.cache_max_age": "c.JupyterHubAuthenticator.cache_ttl_s, 60 s at most",
    "JupyterHubAuthenticator.cookie_name": NO_COOKIE,
    "JupyterHubAuthenticator.jupyterhub_api_token": "c.JupyterHubAuthenticator.api_token",
    "JupyterHubAuthenticator.jupyterhub_api_url": "c.JupyterHubAuthenticator.api_url",
    "JupyterHubAuthenticator.jupyterhub_service_name": "c.JupyterHubAuthenticator.service_name",
    "JupyterHubAuthenticator.tls_ca": "the environment variable SSL_CERT_FILE of the gateway",
    "JupyterHubAuthenticator.tls_cert": NO_CLIENT_CERTIFICATE,
    "JupyterHubAuthenticator.tls_key": NO_CLIENT_CERTIFICATE,
    "JupyterHubAuthenticator.use_service_access_scopes": "always so here: a token needs the scope"
    " access:services!service=NAME of c.JupyterHubAuthenticator.service_name",
    "DaskGateway.authenticator_class": AUTHENTICATORS,
    "DaskGateway.backend_class": BACKENDS,
    "DaskGateway.cluster_options": OPTIONS,
    "DaskGateway.db_encrypt_keys": KEYS,
    "DaskGateway.db_url": "c.DaskGateway.state_dir, or c.DaskGateway.database",
    "Proxy.api_token": "c.Proxy.token_file, for an edge on another machine",
    "Proxy.externally_managed": "c.DaskGateway.start_proxy, the other way round",
    "Proxy.gateway_url": "c.Proxy.server_address, for an edge on another machine",
    "Proxy.max_events": "nothing",
    "Proxy.proxy_status_period": "nothing: the server sees at once that its edge has ended",
    "Proxy.public_url": "c.DaskGateway.public_url",
    "Proxy.tcp_address": "c.Proxy.address: all that is reached from outside has one port",
    "SimpleAuthenticator.password": PASSWORDS,
    "UserLimits.max_clusters": "c.DaskGateway.max_clusters_per_user",
    "UserLimits.max_cores": "c.ClusterConfig.max_cores, of each cluster",
    "UserLimits.max_memory": "c.ClusterConfig.max_memory, of each cluster",
}
# classes of theirs whose settings stand on others here
CLASSES = {
    "Authenticator": "that which c.DaskGateway.authenticator names",
    "Backend": "c.DaskGateway, and the backend's own class, such as c.LocalBackend",
    "DBBackendBase": "c.DaskGateway, and the backend's own class, such as c.LocalBackend",
    "DatabaseBackend": "c.DaskGateway, and the backend's own class, such as c.LocalBackend",
    "JobQueueBackend": "c.SlurmBackend or c.PbsBackend",
    "JobQueueClusterConfig": "c.SlurmBackend or c.PbsBackend",
    "KubeBackend": "c.KubernetesBackend",
    "KubeBackendAndControllerMixin": "c.KubernetesBackend",
    "KubeClusterConfig": "c.KubernetesBackend, and c.ClusterConfig",
    "KubeController": "c.KubernetesBackend: there is no controller",
    "LocalClusterConfig": "c.ClusterConfig",
    "PBSBackend": "c.PbsBackend",
    "PBSClusterConfig": "c.PbsBackend",
    "SimpleAuthenticator": "c.PasswordAuthenticator",
    "SlurmClusterConfig": "c.SlurmBackend",
    "UnsafeLocalBackend": "c.LocalBackend, where run_as_user is False",
    "UserLimits": "c.DaskGateway.max_clusters_per_user, and c.ClusterConfig for each cluster",
    "YarnClusterConfig": "c.YarnBackend",
}
# the file that their server reads where none is named
DEFAULT_FILE = "dask_gateway_config.py"
# names of dask-gateway's client
CLIENT = {
    "ClusterReport": "Cluster",
    "ClusterStatus": "ClusterState",
    "GatewayAuth": "Auth",
    "GatewayClusterError": "ClusterFailed of daskgateway.errors",
    "GatewaySecurity": "what a cluster has as its attribute security",
    "GatewayServerError": "GatewayError, or ServerFailed of daskgateway.errors",
    "JupyterHubAuth": 'auth="jupyterhub"',
    "get_auth": "the argument auth, or gateway.auth in Dask's configuration",
}
# what an import of theirs becomes, by what fails
IMPORTS = {
    "dask_gateway_server": "options are imported from gateway.options",
    "gateway.options": "dask-gateway's String, Mapping and Options are Text, Mapped and a list",
}


def here(section: str, name: str) -> str:
    """Return what a setting of a class there is here, to be put behind a complaint; empty where
    there was none of that name."""
    words = NAMES.get(f"{section}.{name}", "")
    if not words and section.endswith("ClusterConfig"):
        words = OF_CLUSTERS.get(name, "")
    if not words and section.endswith(("Backend", "BackendBase", "Controller", "Mixin")):
        words = OF_BACKENDS.get(name, "")
    if words:
        return f"; dask-gateway's {name} is {words}"
    return f"; dask-gateway's {section} is {CLASSES[section]}" if section in CLASSES else ""


def authenticator(value: object) -> str:
    """Return what a value of authenticator_class is here, likewise."""
    name = getattr(value, "__name__", None) or str(value).rpartition(".")[2]
    words = AUTHENTICATOR_CLASSES.get(name, OWN_CLASS)
    return f"; dask-gateway's authenticator_class is c.DaskGateway.authenticator here: {words}"


def imported(error: BaseException) -> str:
    """Return what is to be imported in place of what could not be, likewise."""
    if not isinstance(error, ImportError):
        return ""
    name = error.name or ""
    words = IMPORTS.get(name) or IMPORTS.get(name.partition(".")[0])
    return f"; {words}" if words else ""


def of_client(name: str, module: str) -> str:
    """Return what a name of dask-gateway's client is here, as a sentence; empty if it is none."""
    if name not in CLIENT:
        return ""
    return f"{module} has no {name}: dask-gateway's {name} is {CLIENT[name]}"
