"""What an administrator may set for YARN, and what is wrong with it."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping

from traitlets import Dict, Enum, Float, Int, List, Unicode

from gateway import checks
from gateway.backends.base import BaseBackend
from gateway.backends.contract import Resources
from gateway.backends.yarn import record
from gateway.backends.yarn.shape import FPGA, MEBIBYTE
from gateway.files import default_state_dir

# YARN's own bounds (ApplicationSubmissionContext)
TAG = re.compile(r"[\x21-\x2b\x2d-\x7e]{1,100}")
LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,254}")
QUEUE = re.compile(r"(?=.{1,255}\Z)[^\s,;/\\.]+(\.[^\s,;/\\.]+)*")
MOST_TAGS = 6  # of the ten that an application may have; the others are the gateway's
ACCOUNT = re.compile(
    r"\*|[^\s,*]{1,255}"
)  # YARN's lists of them: users with commas, a space, groups
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://\S*")
PACKED = (".zip", ".tar.gz", ".tgz")  # what skein has YARN unpack
ARCHIVE_NAME = "environment"
# of containers, unless `environment` says otherwise
CONTAINERS_OWN = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}
# of the gateway's environment, for Hadoop's commands and skein's driver
KEPT = ("PATH", "HOME", "LANG", "TZ", "JAVA_HOME", "KRB5CCNAME", "KRB5_CONFIG")
KEPT_PREFIXES = ("HADOOP_", "YARN_")
SMALL_JVM = "-XX:+UseSerialGC -XX:TieredStopAtLevel=1"


class YarnSettings(BaseBackend):
    """Settings of YARN, and what follows from them alone."""

    setting_names = ("queue", "node_label", "archive", "setup")

    root = Unicode(
        help="Directory of clusters' logs and of what this backend keeps: the credentials of"
        " application masters. Of this gateway alone. Made 0700."
    ).tag(config=True)
    tag = Unicode(
        help="Tag of all applications of this gateway: a small letter, then small letters and"
        " digits. Default: made once, kept in root."
    ).tag(config=True)
    resourcemanager_urls = List(
        Unicode(),
        help="Web addresses of the ResourceManager, such as http://rm.example.org:8088; of both, if"
        " there are two (high availability).",
    ).tag(config=True)
    nodemanager_scheme = Enum(
        ["http", "https"], "http", help="How NodeManagers' web addresses are spoken to."
    ).tag(config=True)
    ca_file = Unicode(
        "",
        help="CA certificates (PEM) that web services by https are verified with. Empty: those of"
        " the system.",
    ).tag(config=True)
    commands_directory = Unicode(
        "", help="Directory of the commands yarn and hadoop. Empty: they are on PATH."
    ).tag(config=True)
    host_environment = Dict(
        help="Environment variables for skein's driver and Hadoop's commands, such as"
        " HADOOP_CONF_DIR; beside PATH, HOME, JAVA_HOME and those of Hadoop that the gateway has."
    ).tag(config=True)
    identity = Enum(
        ["service", "proxy"],
        "service",
        help="Applications run as the gateway's account, or as each user: Hadoop must let the"
        " gateway's account impersonate them (hadoop.proxyuser).",
    ).tag(config=True)
    principal = Unicode("", help="Kerberos principal of the gateway. With keytab.").tag(config=True)
    keytab = Unicode("", help="File with the key of principal.").tag(config=True)
    queue = Unicode("default", help="Queue of applications.").tag(config=True)
    node_label = Unicode("", help="Label of the nodes that containers run on.").tag(config=True)
    archive = Unicode(
        "",
        help="Archive with a Python environment, of venv-pack or conda-pack, which is unpacked as"
        " `environment` in each container: a name of `archives`. Empty: none.",
    ).tag(config=True)
    archives = Dict(
        help="Where archives are, by name: {'2026.1': 'hdfs:///envs/2026.1.tar.gz'}, or a path on"
        " the gateway's machine, which is uploaded for each cluster."
    ).tag(config=True)
    setup = List(
        Unicode(), help="Lines of bash before a scheduler or worker starts in its container."
    ).tag(config=True)
    files = Dict(
        help="Files to bring into each container, by name: a path on the gateway's machine, or an"
        " address such as hdfs:///data/model.bin. What ends in .tar.gz, .tgz or .zip is unpacked."
    ).tag(config=True)
    file_systems = List(
        Unicode(),
        help="File systems beside the default one that containers get tokens for (Kerberos), such"
        " as hdfs://other.example.org.",
    ).tag(config=True)
    environment = Dict(
        help="Environment variables of all containers, which begin with YARN's own, LANG=C.UTF-8"
        " and a PATH of the system's directories; both may be replaced."
    ).tag(config=True)
    application_name = Unicode(
        "dask-{user}", help="Name of applications; {user} and {uid} are replaced."
    ).tag(config=True)
    application_tags = List(Unicode(), help="More tags of applications.").tag(config=True)
    view_users = List(
        Unicode(), help="Users who may see applications and their logs in YARN; *: all."
    ).tag(config=True)
    modify_users = List(Unicode(), help="Users who may end applications in YARN; *: all.").tag(
        config=True
    )
    max_attempts = Int(
        1, min=1, help="Most starts of an application master before its application fails."
    ).tag(config=True)
    master_memory_mb = Int(512, min=256, help="MiB of memory of an application master.").tag(
        config=True
    )
    master_cores = Int(1, min=1, help="Cores of an application master.").tag(config=True)
    master_java_options = Unicode(
        SMALL_JVM, help="Options of Java for application masters, which are small."
    ).tag(config=True)
    driver_java_options = Unicode(
        f"{SMALL_JVM} -Xmx256m", help="Options of Java for skein's driver."
    ).tag(config=True)
    allocation_mb = Int(
        1024,
        min=1,
        help="YARN gives memory in multiples of so many MiB: its"
        " yarn.scheduler.minimum-allocation-mb. Limits of clusters count that.",
    ).tag(config=True)
    call_timeout_s = Float(
        15.0, min=0.5, help="Seconds after which a call to Hadoop is given up."
    ).tag(config=True)
    submit_timeout_s = Float(
        60.0,
        min=1.0,
        help="Seconds after which a submission, which brings files to HDFS, is given up.",
    ).tag(config=True)
    driver_start_s = Float(
        60.0, min=1.0, help="Seconds that skein's driver, a JVM, may take to start."
    ).tag(config=True)
    command_timeout_s = Float(
        60.0, min=1.0, help="Seconds after which a command of Hadoop is given up."
    ).tag(config=True)
    end_s = Float(
        30.0,
        min=1.0,
        help="Seconds until what YARN says has ended counts as gone, where its node does not say"
        " so, and until the log of what ended is waited for no longer.",
    ).tag(config=True)
    empty_grace_s = Float(
        60.0, min=1.0, help="Seconds after which an application without a container is ended."
    ).tag(config=True)
    max_log_bytes = Int(
        64 * 2**20, min=2**20, help="Bytes of one log that are kept; what is oldest goes first."
    ).tag(config=True)
    observe_interval_s = Float(
        20.0, min=0.1, help="Seconds between two listings of this gateway's applications."
    ).tag(config=True)
    detail_interval_s = Float(
        1800.0,
        min=1.0,
        help="Seconds after which an application's containers are looked at although nothing"
        " seems to have changed.",
    ).tag(config=True)

    def _root_default(self) -> str:
        return str(default_state_dir() / "yarn")

    def cluster_settings(self) -> Mapping[str, object]:
        """Return this backend's settings of a cluster."""
        return {name: getattr(self, name) for name in self.setting_names}

    def allots(self, resources: Resources) -> Resources:
        """Return whole cores, and memory as YARN gives it."""
        unit = self.allocation_mb * MEBIBYTE
        return Resources(
            float(max(1, math.ceil(resources.cores))),
            max(1, -(-resources.memory_bytes // unit)) * unit,
            resources.gpus,
            {name: float(math.ceil(number)) for name, number in resources.named.items()},
        )

    def objection(self, resources: Resources, settings: Mapping[str, object]) -> str:
        """Return why an instance cannot be given named resources: skein asks for GPUs and FPGAs
        alone. How many there are, the queue says before a start."""
        strange = sorted(set(resources.named) - {FPGA})
        return f"on YARN there are GPUs and {FPGA}, not {', '.join(strange)}" if strange else ""

    def variables(self) -> dict[str, str]:
        """Return the environment of skein's process and of Hadoop's commands: no secret of ours."""
        kept = {
            key: value
            for key, value in os.environ.items()
            if key in KEPT or key.startswith(KEPT_PREFIXES)
        }
        kept |= {str(key): str(value) for key, value in self.host_environment.items()}
        if self.commands_directory:
            kept["PATH"] = f"{self.commands_directory}:{kept.get('PATH', os.defpath)}"
        return kept

    def checked_setting(self, name: str, value: object) -> object:
        """Return a cluster's setting as it is used; ValueError says what would be right."""
        taken = super().checked_setting(name, value)
        if name == "queue" and not QUEUE.fullmatch(str(taken)):
            raise ValueError(f"must be the name of a queue, such as root.default, not {taken!r}")
        if name == "node_label" and taken and not LABEL.fullmatch(str(taken)):
            raise ValueError(f"must be letters, digits, '-' and '_', not {taken!r}")
        if name == "archive" and taken and taken not in self.archives:
            there = ", ".join(sorted(map(str, self.archives))) or "none"
            raise ValueError(f"there is no archive {taken!r}; there are: {there}")
        return taken

    def problems(self) -> list[str]:
        """Return what is wrong with the settings, one line each."""
        section = "c.YarnBackend"
        found = checks.named(f"{section}.root", checks.directory(self.root))
        if self.tag and not record.TAG.fullmatch(self.tag):
            found.append(f"{section}.tag: must match {record.TAG.pattern}, not {self.tag!r}")
        like = "http://rm.example.org:8088"
        if not self.resourcemanager_urls:
            found.append(
                f"{section}.resourcemanager_urls: must name the ResourceManager's web address, such"
                f" as ['{like}']"
            )
        urls = [checks.url(one, ("http", "https"), like=like) for one in self.resourcemanager_urls]
        found += checks.each(f"{section}.resourcemanager_urls", urls)
        if self.ca_file:
            found += checks.named(f"{section}.ca_file", checks.bundle(self.ca_file))
        if bool(self.principal) != bool(self.keytab):
            missing = "keytab" if self.principal else "principal"
            found.append(f"{section}.{missing}: principal and keytab are given together")
        elif self.keytab:
            found += checks.named(f"{section}.keytab", checks.file(self.keytab))
        for name in ("yarn", "hadoop") if self.commands_directory else ():
            path = os.path.join(self.commands_directory, name)
            if not os.access(path, os.X_OK):
                found.append(f"{section}.commands_directory: there is no command {path}")
                break
        return (
            found
            + self._local_problems(section)
            + self._word_problems(section)
            + self._cluster_problems(section)
        )

    def container_environment(self) -> dict[str, str]:
        """Return the environment that all containers have."""
        given = {str(key): str(value) for key, value in self.environment.items()}
        return CONTAINERS_OWN | given

    def _local_problems(self, section: str) -> list[str]:
        found = []
        for setting, sources in (("files", self.files), ("archives", self.archives)):
            for name, source in sources.items():
                if not isinstance(source, str) or not source:
                    found.append(f"{section}.{setting}: {name!r}: must be a path or an address")
                elif (path := local_path(source)) is not None:
                    found += checks.named(f"{section}.{setting}: {name!r}", checks.file(path))
                elif not ADDRESS.fullmatch(source):
                    found.append(
                        f"{section}.{setting}: {name!r}: must be a path or an address such as"
                        f" hdfs:///data/model.bin, not {source!r}"
                    )
                if setting == "archives" and not str(source).endswith(PACKED):
                    found.append(
                        f"{section}.archives: {name!r}: must end in one of {', '.join(PACKED)}:"
                        f" nothing else is unpacked"
                    )
                if setting == "files" and (not name or "/" in str(name) or str(name)[0] == "."):
                    found.append(
                        f"{section}.files: {name!r}: must be a plain name, without / and no dot"
                        f" before it"
                    )
                if setting == "files" and name == ARCHIVE_NAME:
                    found.append(
                        f"{section}.files: {name!r}: is what `archive` is unpacked as; give it"
                        f" another name"
                    )
        return found

    def _word_problems(self, section: str) -> list[str]:
        found = [
            f"{section}.application_tags: must be ASCII without spaces and commas, at most"
            f" 100, not {tag!r}"
            for tag in self.application_tags
            if not TAG.fullmatch(tag)
        ]
        if len(self.application_tags) > MOST_TAGS:
            found.append(
                f"{section}.application_tags: at most {MOST_TAGS}: YARN takes ten of an"
                f" application, and the gateway's are among them"
            )
        for setting in ("view_users", "modify_users"):
            found += [
                f"{section}.{setting}: must be names of users, one each, or '*', not {name!r}"
                for name in getattr(self, setting)
                if not ACCOUNT.fullmatch(name)
            ]
        found += [
            f"{section}.file_systems: must look like hdfs://other.example.org, not {one!r}"
            for one in self.file_systems
            if not ADDRESS.fullmatch(one)
        ]
        for setting in ("environment", "host_environment"):
            for name, value in getattr(self, setting).items():
                if not isinstance(name, str) or not VARIABLE.fullmatch(name):
                    found.append(f"{section}.{setting}: {name!r} is no name of a variable")
                elif name.startswith("DASKGATEWAY_"):
                    found.append(f"{section}.{setting}: {name}: these are the gateway's own")
                elif isinstance(value, bool) or not isinstance(value, str | int | float):
                    found.append(
                        f"{section}.{setting}: {name}: must be a text or a number, not {value!r}"
                    )
        return found

    def _cluster_problems(self, section: str) -> list[str]:
        found = []
        for name, value in self.cluster_settings().items():
            try:
                self.checked_setting(name, value)
            except ValueError as error:
                found.append(f"{section}.{name}: {error}")
        return found


def local_path(source: str) -> str | None:
    """Return the path on the gateway's machine that a source is; None if it is none."""
    if source.startswith("file://"):
        return source.removeprefix("file://")
    return None if "://" in source else os.path.abspath(source) if source[:1] != "~" else source
