"""What settings of dask-gateway's server are called here, for who brings a configuration file from
there: docs/from-dask-gateway.md in complaints."""

from __future__ import annotations

from collections.abc import Iterable

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
    "Proxy.tcp_address": "c.Proxy.address: all that is reached from outside has one port",
    "SimpleAuthenticator.password": PASSWORDS,
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
