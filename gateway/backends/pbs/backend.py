"""The backend for OpenPBS, PBS Pro 2020 and later, and Torque's dialect: its options, and how it is
put together. See docs/hpc-pbs.md."""

from __future__ import annotations

import getpass
from collections.abc import Mapping

from traitlets import Bool, Enum, List, Unicode

from gateway.backends.batch.base import BatchBackend
from gateway.backends.batch.system import BatchSystem, SubmitRefused
from gateway.backends.contract import Observe, Resources
from gateway.backends.pbs import commands
from gateway.backends.pbs.commands import Dialect, check_setting
from gateway.backends.pbs.system import PbsSystem


class PbsBackend(BatchBackend):
    """Schedulers are jobs, workers are parts of job arrays."""

    name = "pbs"
    title = "PBS"
    index_variable = "PBS_ARRAY_INDEX"
    contiguous = True
    script_logs = True
    setting_names = (
        *BatchBackend.setting_names,
        "queue",
        "account",
        "project",
        "walltime",
        "resource_list",
        "gpu_name",
        "directives",
    )

    dialect = Enum(
        ["pbs", "torque"],
        "pbs",
        help="pbs: OpenPBS, PBS Pro 2020 and later. torque: no JSON, no arrays.",
    ).tag(config=True)
    commands_directory = Unicode(
        "", help="Directory of qsub, qstat and qdel; empty: they are found by PATH."
    ).tag(config=True)
    arrays_apart = Bool(
        False,
        help="Ask for the parts of our own arrays only, by identifier: where `qstat -t` of all"
        " jobs exceeds 64 MiB. Not with torque.",
    ).tag(config=True)
    queue = Unicode("", help="Queue (qsub -q); empty: the server's default.").tag(config=True)
    account = Unicode("", help="Account that is charged (qsub -A); {user} is replaced.").tag(
        config=True
    )
    project = Unicode("", help="Project (qsub -P); {user} is replaced.").tag(config=True)
    walltime = Unicode(
        "", help="Longest run of a job, such as 08:00:00; empty: the queue's default."
    ).tag(config=True)
    resource_list = List(
        Unicode(),
        help="Words after -l; {cores}, {memory}, {gpus} (their number) and {resources} (GPUs and"
        " named resources, such as :ngpus=1:fpga=2, or nothing) are replaced. Default:"
        " select=1:ncpus={cores}:mem={memory}{resources}.",
    ).tag(config=True)
    gpu_name = Unicode(
        "",
        help="Resource that worker_gpus and scheduler_gpus ask for. Default: ngpus; gpus with"
        " torque.",
    ).tag(config=True)
    directives = List(
        Unicode(), help="Further words for qsub, such as ['-W', 'group_list=lab', '-p', '100']."
    ).tag(config=True)

    def checked_setting(self, name: str, value: object) -> object:
        """Return a job's setting as qsub takes it; ValueError says what would be right."""
        taken = super().checked_setting(name, value)
        try:
            check_setting(name, taken)
        except SubmitRefused as error:
            raise ValueError(str(error).removeprefix(f"{name}: ")) from None
        return taken

    def objection(self, resources: Resources, settings: Mapping[str, object]) -> str:
        """Return why a job cannot be given GPUs and named resources, which are parts of its chunk
        here."""
        return commands.objection(resources, settings, Dialect(self.dialect))

    async def open(self, push: Observe) -> None:
        """Make ready; Torque's dialect submits a job a worker."""
        if self.dialect == "torque":
            self.max_array_size = 1
        await super().open(push)

    def make_system(self) -> BatchSystem:
        """Return PBS by its commands."""
        own, of_users = "{root}/scripts/{uid}", "{home}/.daskgateway/scripts/{uid}"
        me = getpass.getuser()
        return PbsSystem(
            self.who,
            Dialect(self.dialect),
            self.command_timeout_s,
            self.commands_directory,
            arrays_apart=self.arrays_apart,
            scripts=lambda uid, account: self.directory(
                own if account == me else of_users, uid, account
            ),
            run=self.run,
        )
