"""How a scheduler and a worker are started: commands, environment and secret files. Pure; knows no
machine room.

Commands are `python -m dask scheduler|worker`. Secrets go into files; the paths to them are made of
contract.DIRECTORY.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from gateway import daskconfig, wire
from gateway.backends.contract import (
    DIRECTORY,
    NAME,
    SCHEDULER_NAME,
    Instance,
    Launch,
    Resources,
    Role,
)
from gateway.variables import dask_variable, in_force, of_workers

AGENT_MODULE = "daskgateway.agent"  # a name that no file of its user hides
DEATH_TIMEOUT_S = 60  # a worker that cannot find its scheduler for so long ends by itself
SCRATCH = f"{DIRECTORY}/scratch"  # of Dask: its default is one that all users of a machine share


@dataclass(frozen=True, slots=True)
class LaunchCredentials:
    """What a process proves itself by; PEM."""

    ca_certificate: bytes
    certificate: bytes
    private_key: bytes
    agent_token: str = ""


@dataclass(frozen=True, slots=True)
class AgentEndpoint:
    """Where a scheduler's agent finds the server."""

    address: str  # `https://host:port` or `unix:/path`
    ca: bytes  # PEM bundle that https is verified by
    server_name: str = ""  # name in the server's certificate; empty: that in the address


def scheduler_launch(
    *,
    uid: str,
    user: str,
    settings: Mapping[str, object],
    resources: Resources,
    credentials: LaunchCredentials,
    agent: AgentEndpoint,
) -> Launch:
    """Return how a scheduler is started."""
    # empty: the address by which the machine reaches others
    host = str(settings.get("scheduler_host") or "")
    argv = [*_python(settings), "-m", "dask", "scheduler", "--protocol", "tls", "--port", "0"]
    argv += ["--host", host] if host else []
    argv += (
        ["--dashboard-address", f"{host}:0"]
        if settings.get("dashboard", True)
        else ["--no-dashboard"]
    )
    argv += ["--preload", AGENT_MODULE]
    env = _environment(uid, settings)
    env |= {
        wire.ENV_AGENT_ADDRESS: agent.address,
        wire.ENV_AGENT_TOKEN_FILE: f"{DIRECTORY}/agent.token",
        wire.ENV_AGENT_CA_FILE: f"{DIRECTORY}/server.pem",
    }
    if not settings.get("worker_nanny"):
        env[wire.ENV_WITHOUT_NANNY] = "1"
    packages = settings.get("compared_packages")
    if isinstance(packages, list | tuple) and packages:
        env[wire.ENV_PACKAGES] = ",".join(str(name) for name in packages)
    if agent.server_name:
        env[wire.ENV_AGENT_SERVER_NAME] = agent.server_name
    files = _files(credentials) | {
        "agent.token": credentials.agent_token.encode(),
        "server.pem": agent.ca,
    }
    instance = Instance(uid, Role.SCHEDULER, SCHEDULER_NAME)
    return Launch(instance, user, tuple(argv), env, files, resources, settings)


def worker_launch(
    *,
    uid: str,
    name: str,
    user: str,
    settings: Mapping[str, object],
    resources: Resources,
    credentials: LaunchCredentials,
    scheduler_address: str,
) -> Launch:
    """Return how a worker is started."""
    threads = int(str(settings.get("worker_threads") or 0)) or max(1, int(resources.cores))
    memory = str(resources.memory_bytes) if resources.memory_bytes else "0"
    argv = [*_python(settings), "-m", "dask", "worker", scheduler_address, "--name", NAME]
    argv += ["--nthreads", str(threads), "--memory-limit", memory, "--nworkers", "1"]
    nanny = bool(settings.get("worker_nanny"))
    argv += ["--nanny" if nanny else "--no-nanny", "--no-dashboard"]
    argv += ["--death-timeout", str(DEATH_TIMEOUT_S), "--local-directory", SCRATCH]
    if settings.get("worker_host"):
        argv += ["--host", str(settings["worker_host"])]
    # a nanny sets them by itself, where nobody says else, in Dask's configuration either
    env = ({} if nanny else of_workers(settings)) | _environment(uid, settings, _counted(resources))
    instance = Instance(uid, Role.WORKER, name)
    return Launch(instance, user, tuple(argv), env, _files(credentials), resources, settings)


def _python(settings: Mapping[str, object]) -> list[str]:
    command = settings.get("python")
    return (
        [str(word) for word in command]
        if isinstance(command, list | tuple) and command
        else [sys.executable]
    )


def _counted(resources: Resources) -> dict[str, float]:
    """Return what Dask is to count of a worker, by the names that tasks ask for it by."""
    return ({"GPU": float(resources.gpus)} if resources.gpus else {}) | dict(resources.named)


def _environment(
    uid: str, settings: Mapping[str, object], counted: Mapping[str, float] = MappingProxyType({})
) -> dict[str, str]:
    env = in_force(settings)
    config = settings.get("dask_config")
    whole = daskconfig.without_own(config) if isinstance(config, Mapping) else {}
    if counted and settings.get("dask_resources", True):
        told = {"distributed": {"worker": {"resources": dict(counted)}}}
        whole = daskconfig.merged(told, whole)  # what its user says goes before
    if whole:
        env[daskconfig.VARIABLE] = daskconfig.variable(whole)
    return env | {
        wire.ENV_UID: uid,
        dask_variable("temporary-directory"): SCRATCH,
        "PYTHONUNBUFFERED": "1",
        dask_variable("distributed.comm.require-encryption"): "True",
        dask_variable("distributed.comm.tls.ca-file"): f"{DIRECTORY}/ca.pem",
        dask_variable("distributed.comm.tls.scheduler.cert"): f"{DIRECTORY}/certificate.pem",
        dask_variable("distributed.comm.tls.scheduler.key"): f"{DIRECTORY}/key.pem",
        dask_variable("distributed.comm.tls.worker.cert"): f"{DIRECTORY}/certificate.pem",
        dask_variable("distributed.comm.tls.worker.key"): f"{DIRECTORY}/key.pem",
    }


def _files(credentials: LaunchCredentials) -> dict[str, bytes]:
    return {
        "ca.pem": credentials.ca_certificate,
        "certificate.pem": credentials.certificate,
        "key.pem": credentials.private_key,
    }
