"""Who brings a configuration file of dask-gateway's server is told what its settings are here."""

from __future__ import annotations

import pathlib
import re

import pytest
from traitlets.config import Configurable

from gateway import configfile, former_names
from gateway.authenticators.jupyterhub import JupyterHubAuthenticator
from gateway.authenticators.kerberos import KerberosAuthenticator
from gateway.authenticators.password import PasswordAuthenticator
from gateway.backends.local import LocalBackend
from gateway.backends.pbs import PbsBackend
from gateway.backends.slurm import SlurmBackend
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
        ("c.SlurmClusterConfig.partition = 'x'", "SlurmClusterConfig is c.SlurmBackend"),
        ("c.PBSClusterConfig.queue = 'x'", "PBSClusterConfig is c.PbsBackend"),
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
        configfile.check(configfile.load(str(file)), [DaskGateway, ClusterConfig, *AUTHENTICATORS])
    assert words in str(caught.value)
    assert "did you mean" not in str(caught.value)


@pytest.mark.parametrize("name", former_names.NAMES)
def test_names_that_are_given_instead_exist(name: str) -> None:
    classes: list[type[Configurable]] = [
        DaskGateway,
        ClusterConfig,
        PasswordAuthenticator,
        Proxy,
        LocalBackend,
        *AUTHENTICATORS,
    ]
    known = {one.__name__: one for one in classes}
    for section, trait in re.findall(r"c\.([A-Z]\w+)\.(\w+)", former_names.NAMES[name]):
        assert trait in known[section].class_traits(config=True)
    section, _, trait = name.partition(".")
    assert section not in known or trait not in known[section].class_traits(config=True)


def test_a_handler_reads_options_as_attributes() -> None:
    values = Values({"worker_cores": 2})
    assert values.worker_cores == values["worker_cores"] == 2
    with pytest.raises(AttributeError, match="no option 'worker_core'; did you mean worker_cores"):
        _ = values.worker_core


@pytest.mark.parametrize("name", former_names.CLASSES)
def test_classes_that_are_given_instead_exist(name: str) -> None:
    known = {one.__name__ for one in (DaskGateway, ClusterConfig, PbsBackend, SlurmBackend)}
    assert name not in known
    assert set(re.findall(r"\bc\.([A-Z]\w+)", former_names.CLASSES[name])) <= known


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
