"""Who brings a configuration file of dask-gateway's server is told what its settings are here."""

from __future__ import annotations

import pathlib
import re

import pytest
from traitlets.config import Config, Configurable

from gateway import configfile, former_names
from gateway.authenticators.jupyterhub import JupyterHubAuthenticator
from gateway.authenticators.kerberos import KerberosAuthenticator
from gateway.authenticators.password import PasswordAuthenticator
from gateway.backends.kubernetes.backend import KubernetesBackend
from gateway.backends.local import LocalBackend
from gateway.backends.pbs import PbsBackend
from gateway.backends.slurm import SlurmBackend
from gateway.backends.yarn.backend import YarnBackend
from gateway.proxy.config import Proxy
from gateway.server.boot import settings
from gateway.server.boot.cluster_config import ClusterConfig
from gateway.server.boot.config import DaskGateway
from gateway.server.boot.offers import Values

AUTHENTICATORS = (JupyterHubAuthenticator, KerberosAuthenticator)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("c.DaskGateway.backend_class = 'x'", "c.DaskGateway.backends, a list"),
        ("c.Backend.cluster_options = 1", "c.ClusterConfig.apply_options"),
        ("c.ClusterConfig.cluster_max_cores = 4", "is c.ClusterConfig.max_cores"),
        ("c.DaskGateway.db_url = 'sqlite:///x'", "c.DaskGateway.state_dir"),
        ("c.SimpleAuthenticator.password = 'x'", "c.PasswordAuthenticator.users"),
        ("c.DummyAuthenticator.password = 'x'", "c.PasswordAuthenticator.users"),
        ("c.Authenticator.cookie_name = 'x'", "leave no cookie"),
        ("c.Authenticator.cache_max_age = 3", "c.DaskGateway.session_ttl_s"),
        ("c.KerberosAuthenticator.cache_max_age = 3", "c.DaskGateway.session_ttl_s"),
        ("c.JupyterHubAuthenticator.jupyterhub_api_url = 'x'", "is c.JupyterHubAuthenticator.api_"),
        ("c.JupyterHubAuthenticator.jupyterhub_api_token = 'x'", "r.api_token"),
        ("c.JupyterHubAuthenticator.jupyterhub_service_name = 'x'", "r.service_name"),
        ("c.JupyterHubAuthenticator.use_service_access_scopes = True", "always so here"),
        ("c.JupyterHubAuthenticator.tls_ca = 'x'", "SSL_CERT_FILE"),
        ("c.JupyterHubAuthenticator.tls_cert = 'x'", "no certificate of its own"),
        ("c.JupyterHubAuthenticator.tls_key = 'x'", "no certificate of its own"),
        ("c.DaskGateway.authenticator_class = 'dask_gateway_server.auth.X'", "authenticators.md"),
        ("c.DBBackendBase.db_url = 'sqlite:///x'", "c.DaskGateway.database"),
        ("c.SlurmClusterConfig.partition = 'x'", "partition is c.SlurmBackend.partition"),
        ("c.SlurmClusterConfig.nosuch = 'x'", "SlurmClusterConfig is c.SlurmBackend"),
        ("c.PBSClusterConfig.queue = 'x'", "queue is c.PbsBackend.queue"),
        ("c.JobQueueClusterConfig.scheduler_cores = 2", "c.ClusterConfig.scheduler_cores"),
        ("c.KubeClusterConfig.worker_memory_limit = '6 G'", "c.KubernetesBackend.requested_memory"),
        ("c.KubeController.api_url = 'x'", "api_url is c.DaskGateway.agent_address"),
        ("c.KubeBackend.gateway_instance = 'x'", "c.KubernetesBackend.tag"),
        ("c.Backend.cluster_heartbeat_timeout = 3", "c.DaskGateway.agent_silence_timeout_s"),
        ("c.UnsafeLocalBackend.clusters_directory = 'x'", "c.LocalBackend.root"),
        ("c.Proxy.gateway_url = 'http://x'", "c.Proxy.server_address"),
        ("c.ClusterConfig.idle_timeout = 3", "is c.ClusterConfig.idle_timeout_s"),
        ("c.UserLimits.max_clusters = 3", "c.DaskGateway.max_clusters_per_user"),
        ("c.ClusterConfig.worker_cmd = 'x'", "worker_cmd is c.ClusterConfig.python"),
        ("c.LocalBackend.sigint_timeout = 3", "c.LocalBackend.stop_grace_s"),
        ("from dask_gateway_server.options import Options", "imported from gateway.options"),
        ("from gateway.options import Mapping", "are Text, Mapped and a list"),
    ],
)
def test_a_setting_of_theirs_is_told_by_its_name_here(
    line: str, words: str, tmp_path: pathlib.Path
) -> None:
    file = tmp_path / "daskgateway_config.py"
    file.touch(mode=0o600)
    file.write_text(line)
    with pytest.raises(configfile.ConfigurationError) as caught:
        configfile.check(
            configfile.load(str(file)), [DaskGateway, ClusterConfig, Proxy, *AUTHENTICATORS]
        )
    assert words in str(caught.value)
    assert "did you mean" not in str(caught.value)


def test_each_setting_of_a_class_that_does_not_exist_here_has_a_line() -> None:
    config = Config()
    config.DBBackendBase.db_url = "sqlite://"
    config.DBBackendBase.cluster_start_timeout = 60
    config.DBBackendBase.nosuch = 1
    found = configfile.problems(config, [DaskGateway])
    assert [line.partition(":")[0] for line in found] == [
        "c.DBBackendBase.db_url",
        "c.DBBackendBase.cluster_start_timeout",
        "c.DBBackendBase.nosuch",
    ]
    assert "c.DaskGateway.scheduler_start_timeout_s" in found[1]


HERE: list[type[Configurable]] = [
    DaskGateway,
    ClusterConfig,
    PasswordAuthenticator,
    *AUTHENTICATORS,
    Proxy,
    LocalBackend,
    PbsBackend,
    SlurmBackend,
    KubernetesBackend,
    YarnBackend,
]
KNOWN = {one.__name__: one for one in HERE}
TABLES = (former_names.NAMES, former_names.OF_CLUSTERS, former_names.OF_BACKENDS)


@pytest.mark.parametrize("name", sorted(name for table in TABLES for name in table))
def test_names_that_are_given_instead_exist(name: str) -> None:
    words = next(table[name] for table in TABLES if name in table)
    for section, trait in re.findall(r"c\.([A-Z]\w+)\.(\w+)", words):
        assert trait in KNOWN[section].class_traits(config=True)
    assert set(re.findall(r"\bc\.([A-Z]\w+)", words)) <= KNOWN.keys()
    section, _, trait = name.rpartition(".")
    assert section not in KNOWN or trait not in KNOWN[section].class_traits(config=True)


def test_a_handler_reads_options_as_attributes() -> None:
    values = Values({"worker_cores": 2})
    assert values.worker_cores == values["worker_cores"] == 2
    with pytest.raises(AttributeError, match="no option 'worker_core'; did you mean worker_cores"):
        _ = values.worker_core


@pytest.mark.parametrize("name", former_names.CLASSES)
def test_classes_that_are_given_instead_exist(name: str) -> None:
    assert name not in KNOWN
    assert set(re.findall(r"\bc\.([A-Z]\w+)", former_names.CLASSES[name])) <= KNOWN.keys()


THEIRS = "dask_gateway_server.auth."
FILES = {
    f"c.DaskGateway.authenticator_class = '{THEIRS}SimpleAuthenticator'\n"
    "c.SimpleAuthenticator.password = 'x'": (
        'here: "password", with',
        "password is c.PasswordAuthenticator.users",
    ),
    f"c.DaskGateway.authenticator_class = '{THEIRS}KerberosAuthenticator'\n"
    "c.KerberosAuthenticator.service_name = 'HTTP'\n"
    "c.KerberosAuthenticator.keytab = '/etc/gateway.keytab'": ('here: "kerberos", with',),
    f"c.DaskGateway.authenticator_class = '{THEIRS}JupyterHubAuthenticator'\n"
    "c.JupyterHubAuthenticator.jupyterhub_api_url = 'http://127.0.0.1:8081/hub/api'": (
        'here: "jupyterhub", with',
    ),
    "c.DaskGateway.authenticator_class = 'site.auth.Own'": ("here: the name of an entry point",),
}


@pytest.mark.parametrize("text", FILES)
def test_each_line_of_a_file_of_theirs_is_told_of_once(text: str, tmp_path: pathlib.Path) -> None:
    file = tmp_path / "daskgateway_config.py"
    file.touch(mode=0o600)
    file.write_text(f"{text}\nc.DaskGateway.state_dir = {str(tmp_path / 'state')!r}\n")
    found = settings.examine(configfile.load(str(file)))
    told = [line for line in found.problems if "cannot listen" not in line]
    assert len(told) == len(FILES[text]), told
    for line, words in zip(told, FILES[text], strict=True):
        assert words in line


def test_what_they_called_equally_holds_once_the_authenticator_is_named(
    tmp_path: pathlib.Path,
) -> None:
    file = tmp_path / "daskgateway_config.py"
    file.touch(mode=0o600)
    file.write_text(
        "c.DaskGateway.authenticator = 'kerberos'\n"
        "c.KerberosAuthenticator.service_name = 'host'\n"
        "c.KerberosAuthenticator.keytab = '/etc/gateway.keytab'\n"
    )
    found = settings.examine(configfile.load(str(file)))
    assert not [line for line in found.problems if "no such" in line]
    [kerberos] = found.settings.authenticator.members
    assert isinstance(kerberos, KerberosAuthenticator)
    assert (kerberos.service_name, kerberos.keytab) == ("host", "/etc/gateway.keytab")
