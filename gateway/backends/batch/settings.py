"""What an administrator may set for any batch system, and what is wrong with it."""

from __future__ import annotations

import difflib
import getpass
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace

from traitlets import Dict, Enum, Float, Int, List, Unicode

from gateway import checks
from gateway.backends import named
from gateway.backends.base import BaseBackend
from gateway.backends.batch import commands, directories, names
from gateway.backends.batch.identity import (
    EachAsStarted,
    Identity,
    ServiceIdentity,
    SudoIdentity,
    checked_account,
)
from gateway.backends.contract import BackendUnavailable, Resources
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

    title = ""  # what people call the batch system
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
        found = checks.named(f"{section}.root", checks.directory(self.root))
        if (
            self.identity == "sudo"
            and os.path.isabs(self.launcher)
            and not os.access(self.launcher, os.X_OK)
        ):
            found.append(
                f"{section}.launcher: {self.launcher} is no program that this account may run"
            )
        if not self.shell.strip().startswith("/"):
            found.append(
                f"{section}.shell: must be the path of a shell, such as /bin/sh, not {self.shell!r}"
            )
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
        """Return whole cores, whole MiB and whole amounts of all else: batch systems give no parts
        of them."""
        return replace(
            named.whole(resources),
            cores=float(max(1, math.ceil(resources.cores))),
            memory_bytes=-(-resources.memory_bytes // MEBIBYTE) * MEBIBYTE,
        )

    def default_log_directory(self, account: str) -> str:
        """Return the template of the log directory of clusters that run as an account, which holds
        if none is configured."""
        own = account == getpass.getuser()
        return "{root}/logs/{uid}" if own else "{home}/.daskgateway/logs/{uid}"

    def makes_directories(self, account: str) -> bool:
        """Whether directories of an account are made here; with other identities the site may have
        to."""
        return True

    def way_of_others(self) -> str:
        """Return how clusters of other accounts than the gateway's own are watched and stopped."""
        return f"by sudo and c.{type(self).__name__}.launcher"

    async def cannot_act_as(self, account: str) -> str:
        """Return why nothing can be done as another account than the gateway's own, an empty text
        if it can."""
        try:
            answer = await self.run(
                [self.sudo, "-n", "-l", "-u", checked_account(account), self.launcher],
                deadline_s=self.command_timeout_s,
            )
        except (BackendUnavailable, ValueError) as error:
            return str(error)
        if answer.code == 0:
            return ""
        why = answer.complaint if answer.err.strip() else "no line of sudoers permits it"
        return f"sudo does not let {getpass.getuser()} run {self.launcher} as {account}: {why}"

    def otherwise(self, owners: Mapping[str, str]) -> tuple[str, list[str]]:
        """Return what an administrator is to know of clusters (`owners`: as whom each runs) that
        were started with another identity, an empty text if there are none; and the accounts that
        the present identity would not need."""
        section, own = f"c.{type(self).__name__}", getpass.getuser()
        mine = sum(account == own for account in owners.values())
        others = sorted({account for account in owners.values() if account != own})
        if self.identity == "service" and others:
            count = len(owners) - mine
            names = ", ".join(others[:5]) + (", …" if len(others) > 5 else "")
            return (
                f"{section}.identity is service, and {clusters(count)} as {names}: each goes on,"
                f" and is watched and stopped as whom it was started, {self.way_of_others()}, which"
                " must stay as they were until then",
                others,
            )
        if self.identity != "service" and mine:
            return (
                f"{section}.identity is {self.identity}, and {clusters(mine)} as {own}, the"
                f" gateway's own account: each goes on, and is watched and stopped as that",
                [],
            )
        return "", []


def clusters(count: int) -> str:
    """Return so many clusters that run or ended lately, as a sentence's subject and verb."""
    if count == 1:
        return "1 cluster that lives or ended lately runs"
    return f"{count} clusters that live or ended lately run"
