"""What an administrator may set for any batch system, and what is wrong with it."""

from __future__ import annotations

import difflib
import getpass
import math
import os
from collections.abc import Mapping, Sequence

from traitlets import Dict, Enum, Float, Int, List, Unicode

from gateway import checks
from gateway.backends.base import BaseBackend
from gateway.backends.batch import commands, directories, names
from gateway.backends.batch.identity import (
    EachAsStarted,
    Identity,
    ServiceIdentity,
    SudoIdentity,
)
from gateway.backends.contract import BackendUnavailable, Resources
from gateway.checks import named
from gateway.files import default_state_dir

MEBIBYTE = 2**20


class BatchSettings(BaseBackend):
    """Settings of backends of batch systems, and what follows from them alone."""

    root = Unicode(
        help="Directory of clusters' logs, shared with the nodes, and of what this backend keeps."
        " Made 0700."
    ).tag(config=True)
    tag = Unicode(
        help="Begins the names of jobs: a letter, then letters and digits. Default: made once,"
        " kept in root."
    ).tag(config=True)
    identity = Enum(
        ["service", "sudo"],
        "service",
        help="Jobs run as the gateway's account, or as each user by sudo.",
    ).tag(config=True)
    sudo = Unicode("sudo", help="The sudo command, for identity sudo.").tag(config=True)
    launcher = Unicode(
        "daskgateway-as-user", help="Path of the launcher that sudo may run, for identity sudo."
    ).tag(config=True)
    log_directory = Unicode(
        "{default}",
        help="Where jobs write logs; {user}, {uid}, {home} and {root} are replaced. Shared with"
        " the nodes. Empty: no logs.",
    ).tag(config=True)
    staging_directory = Unicode(
        "",
        help="Shared directory for secrets of jobs, with the same replacements. Empty: they travel"
        " in the job's script.",
    ).tag(config=True)
    scratch_directory = Unicode(
        "${TMPDIR:-/tmp}",
        help="Where a job makes its private directory on the node; the shell expands it.",
    ).tag(config=True)
    shell = Unicode("/bin/sh", help="What runs a job's script, such as /bin/bash -l.").tag(
        config=True
    )
    setup = List(
        Unicode(),
        help="Lines of shell before scheduler and worker start, such as `module load python`.",
    ).tag(config=True)
    scheduler_settings = Dict(
        help="Settings of this backend that differ for schedulers: {'time_limit': '7-0'}."
    ).tag(config=True)
    max_array_size = Int(1000, min=1, help="Most workers of one submission.").tag(config=True)
    command_timeout_s = Float(
        60.0, min=0.1, help="Seconds after which a command of the batch system is given up."
    ).tag(config=True)
    absent_grace_s = Float(
        300.0,
        min=0,
        help="Seconds that a job may be missing from listings before it counts as gone.",
    ).tag(config=True)
    observe_interval_s = Float(
        15.0, min=0.1, help="Seconds between two listings of the batch system's jobs."
    ).tag(config=True)
    first_look_s = Float(
        1.0,
        min=0,
        help="Seconds after a submission or cancel until the first of a few listings sooner than"
        " the interval; 0: none.",
    ).tag(config=True)

    index_variable = ""  # environment variable of an array's element
    contiguous = False  # whether arrays are one range of indices
    # whether the job's script sees to its log, where the batch system would bring it only after the
    # end
    script_logs = False
    setting_names: tuple[str, ...] = ("setup",)  # traits that are settings of one cluster

    def _root_default(self) -> str:
        return str(default_state_dir() / self.name)

    def make_identity(self) -> Identity:
        """Return who runs jobs and owns their files."""
        others = SudoIdentity(
            self.sudo, self.launcher, self.run, section=f"c.{type(self).__name__}"
        )
        own = ServiceIdentity()
        if self.identity != "sudo":
            return EachAsStarted(own, own, others)
        return EachAsStarted(others, own, others)

    async def run(
        self,
        argv: Sequence[str],
        *,
        deadline_s: float,
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
    ) -> commands.Answer:
        """Run a command; one that cannot be run is told with the setting that says where it is."""
        try:
            return await commands.run(argv, deadline_s=deadline_s, stdin=stdin, env=env)
        except commands.CannotRun as error:
            raise BackendUnavailable(
                f"{error}; see c.{type(self).__name__}.{self.names_program(argv[0])}"
            ) from None

    def names_program(self, program: str) -> str:
        """Return the setting that says where a program is."""
        return "sudo" if program == self.sudo else "commands_directory"

    def problems(self) -> list[str]:
        """Return what is wrong with the settings, one line each."""
        section = f"c.{type(self).__name__}"
        found = named(f"{section}.root", checks.directory(self.root))
        if (
            self.identity == "sudo"
            and os.path.isabs(self.launcher)
            and not os.access(self.launcher, os.X_OK)
        ):
            found.append(
                f"{section}.launcher: {self.launcher} is no program that this account may run"
            )
        if not self.shell.strip():
            found.append(f"{section}.shell: must name a shell, such as /bin/sh, not {self.shell!r}")
        if self.tag and not names.TAG.fullmatch(self.tag):
            found.append(f"{section}.tag: must match {names.TAG.pattern}, not {self.tag!r}")
        for name in self.scheduler_settings.keys() - set(self.setting_names):
            close = difflib.get_close_matches(str(name), self.setting_names, n=1)
            meant = (
                f"did you mean {close[0]}?"
                if close
                else "there are " + ", ".join(sorted(self.setting_names))
            )
            found.append(
                f"{section}.scheduler_settings: there is no setting {name!r} of a job; {meant}"
            )
        for setting in ("log_directory", "staging_directory"):
            template = getattr(self, setting)
            if template != "{default}":
                found += [
                    f"{section}.{setting}: {words}" for words in directories.problems(template)
                ]
        return found + self._job_problems()

    def _job_problems(self) -> list[str]:
        """Return what is wrong with settings of jobs, each for itself."""
        section, found = f"c.{type(self).__name__}", []
        for name, value in self.cluster_settings().items():
            try:
                self.checked_setting(name, value)
            except ValueError as error:
                found.append(f"{section}.{name}: {error}")
        for name in sorted(self.scheduler_settings.keys() & set(self.setting_names)):
            try:
                self.checked_setting(name, self.scheduler_settings[name])
            except ValueError as error:
                found.append(f"{section}.scheduler_settings: {name}: {error}")
        return found

    def cluster_settings(self) -> Mapping[str, object]:
        """Return this backend's settings of a cluster."""
        return {name: getattr(self, name) for name in self.setting_names}

    def allots(self, resources: Resources) -> Resources:
        """Return whole cores and whole MiB: batch systems give no parts of them."""
        return Resources(
            float(max(1, math.ceil(resources.cores))),
            -(-resources.memory_bytes // MEBIBYTE) * MEBIBYTE,
        )

    def default_log_directory(self, account: str) -> str:
        """Return the template of the log directory of clusters that run as an account, which holds
        if none is configured."""
        own = account == getpass.getuser()
        return "{root}/logs/{uid}" if own else "{home}/.daskgateway/logs/{uid}"

    def makes_directories(self) -> bool:
        """Whether log directories are made here; with other identities the site may have to."""
        return True
