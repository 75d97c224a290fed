"""The configuration files of the tests' Hadoop, as data."""

from __future__ import annotations

import getpass
import pathlib
from collections.abc import Mapping
from typing import NamedTuple
from xml.sax.saxutils import escape

MEMORY_MB, CORES = 6144, 8  # of the node, whatever the machine has
MOST_MB, MOST_CORES = 4096, 4  # of a container
LEAST_MB = 128
QUEUES = {"default": 89, "small": 10, "stopped": 1}  # with their shares
HOST = "127.0.0.1"


class Ports(NamedTuple):
    """All of 127.0.0.1."""

    nn: int
    nn_web: int
    dn: int
    dn_web: int
    dn_ipc: int
    rm: int
    rm_scheduler: int
    rm_tracker: int
    rm_admin: int
    rm_web: int
    nm: int
    nm_localizer: int
    nm_web: int
    nm_collector: int


def write_configuration(
    conf: pathlib.Path,
    place: pathlib.Path,
    jars: pathlib.Path,
    ports: Ports,
    *,
    node_expiry_s: float,
    recovery: bool,
    node: tuple[int, int] = (MEMORY_MB, CORES),
) -> None:
    """Write all files into the directory `conf`; what daemons keep lies below `place`."""
    files = {
        "core-site.xml": _core(place, ports),
        "hdfs-site.xml": _hdfs(place, ports),
        "yarn-site.xml": _yarn(conf, place, jars, ports, node_expiry_s, recovery)
        | {
            "yarn.nodemanager.resource.memory-mb": node[0],
            "yarn.nodemanager.resource.cpu-vcores": node[1],
        },
        "capacity-scheduler.xml": _queues(),
    }
    for name, values in files.items():
        (conf / name).write_text(_xml(values))
    (conf / "log4j.properties").write_text(
        "log4j.rootLogger=INFO,console\n"
        "log4j.appender.console=org.apache.log4j.ConsoleAppender\n"
        "log4j.appender.console.target=System.err\n"
        "log4j.appender.console.layout=org.apache.log4j.PatternLayout\n"
        "log4j.appender.console.layout.ConversionPattern=%d %p %c{1}: %m%n\n"
    )


def _xml(values: Mapping[str, object]) -> str:
    lines = [
        f"<property><name>{name}</name><value>{escape(_text(value))}</value></property>"
        for name, value in values.items()
    ]
    return "\n".join(['<?xml version="1.0"?>', "<configuration>", *lines, "</configuration>", ""])


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _core(place: pathlib.Path, ports: Ports) -> dict[str, object]:
    return {
        "fs.defaultFS": f"hdfs://{HOST}:{ports.nn}",
        "hadoop.tmp.dir": place / "tmp",
        # whoever runs the tests may submit in the name of these two
        f"hadoop.proxyuser.{getpass.getuser()}.hosts": "*",
        f"hadoop.proxyuser.{getpass.getuser()}.users": "alice,bob",
    }


def _hdfs(place: pathlib.Path, ports: Ports) -> dict[str, object]:
    return {
        "dfs.replication": 1,
        "dfs.namenode.name.dir": f"file://{place}/namenode",
        "dfs.datanode.data.dir": f"file://{place}/datanode",
        "dfs.namenode.http-address": f"{HOST}:{ports.nn_web}",
        "dfs.datanode.address": f"{HOST}:{ports.dn}",
        "dfs.datanode.http.address": f"{HOST}:{ports.dn_web}",
        "dfs.datanode.ipc.address": f"{HOST}:{ports.dn_ipc}",
        "dfs.namenode.datanode.registration.ip-hostname-check": False,
        "dfs.namenode.safemode.extension": 0,
    }


def _yarn(
    conf: pathlib.Path,
    place: pathlib.Path,
    jars: pathlib.Path,
    ports: Ports,
    node_expiry_s: float,
    recovery: bool,
) -> dict[str, object]:
    addresses = {
        "resourcemanager.address": ports.rm,
        "resourcemanager.scheduler.address": ports.rm_scheduler,
        "resourcemanager.resource-tracker.address": ports.rm_tracker,
        "resourcemanager.admin.address": ports.rm_admin,
        "resourcemanager.webapp.address": ports.rm_web,
        "nodemanager.address": ports.nm,
        "nodemanager.localizer.address": ports.nm_localizer,
        "nodemanager.webapp.address": ports.nm_web,
        "nodemanager.collector-service.address": ports.nm_collector,
    }
    store = "org.apache.hadoop.yarn.server.resourcemanager.recovery.FileSystemRMStateStore"
    kept = {
        "yarn.resourcemanager.recovery.enabled": True,
        "yarn.resourcemanager.store.class": store,
        "yarn.resourcemanager.fs.state-store.uri": f"file://{place}/rmstate",
    }
    return {
        **{f"yarn.{name}": f"{HOST}:{port}" for name, port in addresses.items()},
        "yarn.nodemanager.local-dirs": place / "local",
        "yarn.nodemanager.log-dirs": place / "containers",
        "yarn.scheduler.minimum-allocation-mb": LEAST_MB,
        "yarn.scheduler.maximum-allocation-mb": MOST_MB,
        "yarn.scheduler.maximum-allocation-vcores": MOST_CORES,
        "yarn.application.classpath": f"{conf},{jars}/*",
        "yarn.log-aggregation-enable": True,
        "yarn.nodemanager.remote-app-log-dir": "/tmp/logs",
        "yarn.nodemanager.vmem-check-enabled": False,
        # with cgroups, which are not here, the NodeManager would leave it to them
        "yarn.nodemanager.resource.memory.enforced": False,
        "yarn.nodemanager.container-monitor.interval-ms": 1000,
        "yarn.nodemanager.disk-health-checker.max-disk-utilization-per-disk-percentage": 99.5,
        # shows secrets in environments to whoever may read logs: what tests look for
        "yarn.nodemanager.log-container-debug-info.enabled": True,
        "yarn.resourcemanager.connect.retry-interval.ms": 500,
        "yarn.resourcemanager.nodemanagers.heartbeat-interval-ms": 200,
        "yarn.nm.liveness-monitor.expiry-interval-ms": int(node_expiry_s * 1000),
        "yarn.node-attribute.fs-store.root-dir": f"file://{place}/nodeattr",
        **(kept if recovery else {}),
    }


def _queues() -> dict[str, object]:
    root = "yarn.scheduler.capacity.root"
    return {
        f"{root}.queues": ",".join(QUEUES),
        **{f"{root}.{name}.capacity": share for name, share in QUEUES.items()},
        f"{root}.small.maximum-capacity": QUEUES["small"],
        f"{root}.stopped.state": "STOPPED",
        # the default lets one or two applications run on a node as small as this
        "yarn.scheduler.capacity.maximum-am-resource-percent": 0.8,
    }
