"""What settings of dask-gateway's server are called here, for who brings a configuration file from
there: docs/from-dask-gateway.md in complaints."""

from __future__ import annotations

from collections.abc import Iterable

OPTIONS = "c.ClusterConfig.options, a list; a handler is c.ClusterConfig.apply_options"
AUTHENTICATORS = "c.DaskGateway.authenticators, names, and passwords in c.PasswordAuthenticator"
# by class and setting there
NAMES = {
    "Backend.cluster_options": OPTIONS,
    "ClusterConfig.adaptive_period": "the user's adapt(interval=...)",
    "ClusterConfig.cluster_max_cores": "c.ClusterConfig.max_cores",
    "ClusterConfig.cluster_max_memory": "c.ClusterConfig.max_memory",
    "ClusterConfig.cluster_max_workers": "c.ClusterConfig.max_workers",
    "ClusterConfig.scheduler_cmd": "c.ClusterConfig.python",
    "ClusterConfig.worker_cmd": "c.ClusterConfig.python",
    "ClusterConfig.scheduler_setup": "the setting setup of a batch system's backend",
    "ClusterConfig.worker_setup": "the setting setup of a batch system's backend",
    "DBBackendBase.db_encrypt_keys": "nothing: keys are files in c.DaskGateway.state_dir",
    "DBBackendBase.db_url": "c.DaskGateway.state_dir, or c.DaskGateway.database",
    "DaskGateway.authenticator_class": AUTHENTICATORS,
    "DaskGateway.backend_class": "c.DaskGateway.backends, a list of names such as local",
    "DaskGateway.cluster_options": OPTIONS,
    "DaskGateway.db_encrypt_keys": "nothing: keys are files in c.DaskGateway.state_dir",
    "DaskGateway.db_url": "c.DaskGateway.state_dir, or c.DaskGateway.database",
    "LocalBackend.sigint_timeout": "c.LocalBackend.stop_grace_s",
    "LocalBackend.sigterm_timeout": "c.LocalBackend.stop_grace_s",
    "Proxy.tcp_address": "c.Proxy.address: all that is reached from outside has one port",
    "SimpleAuthenticator.password": "c.PasswordAuthenticator.users, or .password, as hashes",
}
# classes of theirs whose settings stand on others here
CLASSES = {
    "JobQueueClusterConfig": "c.SlurmBackend or c.PbsBackend",
    "LocalClusterConfig": "c.ClusterConfig",
    "PBSClusterConfig": "c.PbsBackend",
    "SlurmClusterConfig": "c.SlurmBackend",
    "UserLimits": "c.DaskGateway.max_clusters_per_user, and c.ClusterConfig for each cluster",
}
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


def here(section: str, names: Iterable[str]) -> str:
    """Return what settings of a class there are here, to be put behind a complaint; empty where
    there were none of these names."""
    found = {name: NAMES[f"{section}.{name}"] for name in names if f"{section}.{name}" in NAMES}
    if not found and section in CLASSES:
        return f"; dask-gateway's {section} is {CLASSES[section]}"
    told = (f"dask-gateway's {name} is {words}" for name, words in found.items())
    return "".join(f"; {words}" for words in told)


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
