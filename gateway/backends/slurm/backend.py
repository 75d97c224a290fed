"""Schedulers and workers as jobs of Slurm: n workers are one array, and one listing of jobs serves
all clusters.

By the commands, as the gateway's account or by sudo as each user; or by slurmrestd with a token of
each user. Slurm 20.11 or newer.
"""

from __future__ import annotations

import getpass
import pwd
import re
from collections.abc import Mapping

from traitlets import Bool, Dict, Enum, Int, List, Unicode, Union

from gateway.backends.batch.base import BatchBackend
from gateway.backends.batch.identity import (
    EachAsStarted,
    Identity,
    ServiceIdentity,
    checked_account,
)
from gateway.backends.batch.system import BatchSystem, SubmitRefused
from gateway.backends.contract import BackendUnavailable, Resources
from gateway.backends.slurm import words as slurm_words
from gateway.backends.slurm.both import OwnByCommands
from gateway.backends.slurm.commands import Programs, SlurmCommands
from gateway.backends.slurm.rest import SlurmRest, Tokens
from gateway.backends.slurm.words import OPTIONS


class TokenIdentity(ServiceIdentity):
    """Jobs are the users', by their tokens; files are the gateway's, which cannot write as somebody
    else."""

    def account(self, user: str) -> str:
        """Return the account of the user's own name."""
        return checked_account(user)

    def owner(self, account: str) -> int | None:
        """Return the user: logs lie in directories of users, read with the gateway's own rights.
        OSError if there is no such account."""
        try:
            return pwd.getpwnam(account).pw_uid
        except KeyError:
            raise OSError(f"this machine has no user {account!r}") from None


class SlurmBackend(BatchBackend):
    """Jobs of Slurm."""

    name = "slurm"
    title = "Slurm"
    index_variable = "SLURM_ARRAY_TASK_ID"
    setting_names = (*BatchBackend.setting_names, *OPTIONS, "gpu_name", "requeue", "directives")

    identity = Enum(
        ["service", "user-token", "sudo"],
        "service",
        help="Jobs run as the gateway's account; as each user, with a token of theirs at"
        " slurmrestd; or as each user by sudo.",
    ).tag(config=True)
    partition = Unicode("", help="Partition.").tag(config=True)
    account = Unicode("", help="Account to charge; {user} is replaced.").tag(config=True)
    qos = Unicode("", help="Quality of service.").tag(config=True)
    constraint = Unicode("", help="Features that nodes must have.").tag(config=True)
    gres = Unicode(
        "", help="Generic resources of each job, such as nvme:1, beside those that users ask for."
    ).tag(config=True)
    gpu_name = Unicode(
        "gpu",
        help="Generic resource that worker_gpus and scheduler_gpus ask for: gpu, or gpu:a100 for a"
        " type.",
    ).tag(config=True)
    time_limit = Union(
        [Unicode(), Int()], default_value="", help="Time limit: minutes, hh:mm:ss or d-hh:mm:ss."
    ).tag(config=True)
    reservation = Unicode("", help="Reservation to run in.").tag(config=True)
    comment = Unicode(
        "dask for {user}", help="Comment of jobs; {user} and {uid} are replaced."
    ).tag(config=True)
    wckey = Unicode("", help="Workload characterization key; {user} is replaced.").tag(config=True)
    licenses = Unicode("", help="Licences of each job, such as matlab:1.").tag(config=True)
    requeue = Bool(
        True,
        help="Whether Slurm may put workers back into the queue when they are preempted or their"
        " node fails.",
    ).tag(config=True)
    directives = List(
        Unicode(),
        help="More options of sbatch, such as --exclusive. Not with user-token: see rest_job.",
    ).tag(config=True)
    scheduler_settings = Dict(
        {"requeue": False},
        help="Settings that differ for schedulers, such as {'time_limit': '7-0'}.",
    ).tag(config=True)
    commands_directory = Unicode(
        "",
        help="Directory of sbatch, squeue, scancel, sacct and scontrol. Empty: they are on PATH."
        " With user-token none is run.",
    ).tag(config=True)
    squeue_output = Enum(
        ["text", "json"],
        "text",
        help="How squeue is asked. Text is a hundredth of the size; JSON of 22.05 is of"
        " everybody's jobs. Not with user-token.",
    ).tag(config=True)
    accounting = Bool(
        True,
        help="Whether sacct is asked how jobs ended that squeue lists no more. Not with"
        " user-token.",
    ).tag(config=True)
    show_position = Bool(
        True,
        help="Whether users are shown their place in the queue, which takes a look at everybody's"
        " jobs. Not with user-token.",
    ).tag(config=True)
    rest_url = Unicode(
        "",
        help="Address of slurmrestd, such as http://127.0.0.1:6820 or unix:/run/slurmrestd.sock.",
    ).tag(config=True)
    rest_version = Unicode("v0.0.38", help="Version of slurmrestd's API.").tag(config=True)
    rest_job = Dict(help="More fields of a job at slurmrestd, by their names in its API.").tag(
        config=True
    )
    rest_listing_user = Unicode(
        "", help="User whose token sees all jobs, for the listings. Empty: each user's own token."
    ).tag(config=True)
    token_command = List(
        Unicode(),
        ["scontrol", "token", "username={user}", "lifespan={lifespan_s}"],
        help="Command that prints a token of {user}; the gateway's account must be permitted to"
        " run it.",
    ).tag(config=True)
    token_lifespan_s = Int(1800, min=60, help="Seconds that a token is asked to be good for.").tag(
        config=True
    )

    _rest: SlurmRest | None = None

    def make_identity(self) -> Identity:
        """Return who runs jobs."""
        own, others = ServiceIdentity(), TokenIdentity()
        if self.identity == "user-token":
            return EachAsStarted(others, own, others)
        return EachAsStarted(own, own, others) if self._by_token() else super().make_identity()

    def _by_token(self) -> bool:
        """Whether jobs of other accounts than the gateway's own are by slurmrestd: where users'
        tokens are the way, and where `rest_url` tells that they have been."""
        return self.identity == "user-token" or (self.identity == "service" and bool(self.rest_url))

    def make_system(self) -> BatchSystem:
        """Return Slurm by its commands, by REST, or by both where clusters of both live."""
        own, accounts = getpass.getuser(), set(self.owners.values())
        if not self._by_token() or (self.identity == "service" and accounts <= {own}):
            return self._commands(as_users=not self.own_jobs_alone())
        rest = self._slurmrestd()
        if self.identity == "user-token" and own not in accounts:
            return rest
        return OwnByCommands(own, self._commands(as_users=False), rest)

    def _commands(self, *, as_users: bool) -> SlurmCommands:
        programs = Programs(
            self.commands_directory,
            self.squeue_output == "json",
            self.accounting,
            self.show_position,
        )
        return SlurmCommands(
            self.who, programs, self.command_timeout_s, self.run, as_users=as_users
        )

    def _slurmrestd(self) -> SlurmRest:
        self._tokens = tokens = Tokens(
            self.token_command, self.token_lifespan_s, self.command_timeout_s, self.run
        )
        self._rest = SlurmRest(
            self.rest_url,
            self.rest_version,
            tokens,
            self.command_timeout_s,
            listing_user=self.rest_listing_user,
            job=self.rest_job,
        )
        return self._rest

    def way_of_others(self) -> str:
        """Return how clusters of other accounts than the gateway's own are watched and stopped."""
        if not self._by_token():
            return super().way_of_others()
        return "by c.SlurmBackend.rest_url and token_command"

    async def cannot_act_as(self, account: str) -> str:
        """Return why nothing can be done as an account, an empty text if it can."""
        if not self._by_token():
            return await super().cannot_act_as(account)
        try:
            await self._tokens.of(account)
        except (BackendUnavailable, ValueError) as error:
            return str(error)
        return ""

    def names_program(self, program: str) -> str:
        """Return the setting that says where a program is."""
        tokens = self._by_token() and [program] == self.token_command[:1]
        return "token_command" if tokens else super().names_program(program)

    def problems(self) -> list[str]:
        """Return what is wrong with the settings, one line each."""
        return [
            *super().problems(),
            *(self._rest_problems() if self.identity == "user-token" else []),
        ]

    def checked_setting(self, name: str, value: object) -> object:
        """Return a job's setting as sbatch takes it; ValueError says what would be right."""
        taken = super().checked_setting(name, value)
        try:
            slurm_words.check_setting(name, taken)
        except SubmitRefused as error:
            raise ValueError(str(error).removeprefix(f"{name}: ")) from None
        return taken

    def objection(self, resources: Resources, settings: Mapping[str, object]) -> str:
        """Return why a job cannot be given GPUs and named resources, which are generic resources
        here."""
        return slurm_words.objection(resources, settings)

    def _rest_problems(self) -> list[str]:
        found = []
        if not re.match(r"(https?://|unix:/)", self.rest_url):
            found.append(
                "c.SlurmBackend.rest_url: identity user-token needs the address of slurmrestd,"
                " such as http://slurm.example.org:6820"
            )
        if not re.fullmatch(r"v0\.0\.\d+", self.rest_version):
            found.append(
                f"c.SlurmBackend.rest_version: must look like v0.0.38, not {self.rest_version!r}"
            )
        if self.staging_directory:
            found.append(
                "c.SlurmBackend.staging_directory: not with identity user-token, which cannot"
                " write users' files"
            )
        if self.directives or self.scheduler_settings.get("directives"):
            found.append("c.SlurmBackend.directives: not with identity user-token; use rest_job")
        return found

    async def close(self) -> None:
        """Let go of everything but the jobs."""
        await super().close()
        if self._rest is not None:
            await self._rest.close()

    def default_log_directory(self, account: str) -> str:
        """Return the template of the log directory that holds if none is configured."""
        mine = account == getpass.getuser() or not self._by_token()
        return super().default_log_directory(account) if mine else ""

    def makes_directories(self, account: str) -> bool:
        """Whether the gateway makes directories of an account: a user's own, it cannot without
        sudo."""
        return account == getpass.getuser() or not self._by_token()
