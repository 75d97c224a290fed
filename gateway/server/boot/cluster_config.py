"""What an administrator may set for clusters. The server's own settings are in `config.py`; the
edge, backends and authenticators bring their own classes."""

from __future__ import annotations

import json
import typing
from collections.abc import Mapping
from dataclasses import replace

from traitlets import (
    Any,
    Bool,
    Callable,
    Dict,
    Float,
    Int,
    List,
    TraitError,
    Unicode,
    Union,
    validate,
)
from traitlets.config import Configurable

from gateway import daskconfig
from gateway.server.boot.fields import check_fields
from gateway.server.core import options as option_types
from gateway.server.core.admission import MAX_OPTIONS_BYTES
from gateway.server.core.model import Lifecycle, Limits
from gateway.server.core.quantities import (
    MAX_CORES,
    MAX_COUNT,
    MAX_DURATION_S,
    MAX_GPUS,
    MAX_THREADS,
    MIN_CORES,
    MIN_MEMORY_BYTES,
    format_bytes,
    parse_bytes,
    parse_named,
)
from gateway.server.core.texts import is_sound
from gateway.variables import why_not

MOST_CORES = 64.0  # of a worker that users may ask for, where the administrator names no options


def _memory(default: str, text: str) -> Union:
    return Union([Unicode(), Int()], default_value=default, help=f"{text}, such as 4 GiB.").tag(
        config=True
    )


def _named(whose: str) -> Dict:
    said = (
        f"Resources {whose} beside cores, memory and GPUs, by the machine room's names, such as"
        " {'fpga': 1}."
    )
    return Dict(help=said).tag(config=True)


# a trait, which reads as float or None
def _seconds(text: str, default: float | None = None) -> typing.Any:
    said = f"Seconds {text}. None: for ever."
    return Float(default, allow_none=True, min=0, max=MAX_DURATION_S, help=said).tag(config=True)


class ClusterConfig(Configurable):
    """Every cluster, as far as its user does not choose otherwise among the options on offer."""

    options = Union(
        [List(), Callable()],
        help="Options that users may choose: a list of fields (Float, Integer, Text, Select, Bool,"
        " Mapped of gateway.options), or a callable, sync or async, that returns one for a user (it"
        " is given a Principal). An option named as a setting of clusters, such as worker_memory,"
        " overrides that setting, and takes only what the setting takes, unless apply_options"
        " returns that setting too. What a callable raises as"
        " gateway.options.Refused, or as a plain ValueError, its user reads.",
    ).tag(config=True)
    apply_options = Any(
        None,
        help="Callable, sync or async, that makes settings of clusters out of options, of their"
        " names or others: it is given the values of all options, and the user (a Principal) if it"
        " takes two arguments. It refuses as `options` does.",
    ).tag(config=True)
    options_timeout_s = Float(
        10.0, min=0.1, max=600, help="Seconds that a callable of options may take to answer."
    ).tag(config=True)
    worker_cores = Float(1.0, min=MIN_CORES, max=MAX_CORES, help="Cores of a worker.").tag(
        config=True
    )
    worker_memory = _memory("2 GiB", "Memory of a worker")
    worker_threads = Int(
        0, min=0, max=MAX_THREADS, help="Threads of a worker; 0: as many as cores, at least 1."
    ).tag(config=True)
    worker_gpus = Int(
        0,
        min=0,
        max=MAX_GPUS,
        help="GPUs of a worker, where the backend gives some; its setting gpu_name says what they"
        " are called there.",
    ).tag(config=True)
    worker_resources = _named("of a worker")
    dask_resources = Bool(
        True,
        help="Tell Dask of each worker's GPUs (as GPU) and named resources, so that tasks may ask"
        " for them: dask.annotate(resources={'GPU': 1}). What distributed.worker.resources of"
        " dask_config says goes before.",
    ).tag(config=True)
    worker_nanny = Bool(
        True,
        help="Run each worker under a nanny process, as Dask does by itself: it restarts a worker"
        " that outgrows its memory, and plug-ins of nannies work. False saves about half a second"
        " of each start and 55 MiB of each worker.",
    ).tag(config=True)
    compared_packages = List(
        Unicode(),
        [],
        maxlen=32,
        help="Packages whose versions a cluster tells beside those of Dask. Clients compare them"
        " with their own before they connect.",
    ).tag(config=True)
    scheduler_cores = Float(1.0, min=MIN_CORES, max=MAX_CORES, help="Cores of a scheduler.").tag(
        config=True
    )
    scheduler_memory = _memory("2 GiB", "Memory of a scheduler")
    scheduler_gpus = Int(0, min=0, max=MAX_GPUS, help="GPUs of a scheduler.").tag(config=True)
    scheduler_resources = _named("of a scheduler")
    scheduler_host = Unicode(
        "",
        help="Host that schedulers listen on. Empty: as the backend needs it, 127.0.0.1 on local,"
        " a node's own address elsewhere.",
    ).tag(config=True)
    worker_host = Unicode("", help="Host that workers listen on; empty: dask chooses.").tag(
        config=True
    )
    python = Union(
        [List(Unicode()), Unicode()],
        default_value=[],
        help="Command of Python for scheduler and workers: its path, or a list of words. Empty: as"
        " the backend has it, such as that of an image, or else the server's own.",
    ).tag(config=True)
    dashboard = Bool(True, help="Whether schedulers serve a dashboard.").tag(config=True)
    environment = Dict(
        help="Environment variables of scheduler and workers; users may add some if on offer."
    ).tag(config=True)
    dask_config = Dict(
        help="Dask's configuration of schedulers and workers, by dotted or nested names, as YAML"
        " would have it; users' is merged into it if an option of this name is on offer."
    ).tag(config=True)
    max_workers = Int(
        None,
        allow_none=True,
        min=0,
        max=MAX_COUNT,
        help="Most workers of one cluster. None: no limit.",
    ).tag(config=True)
    max_cores = Float(
        None,
        allow_none=True,
        min=0,
        max=1e9,
        help="Most cores of one cluster with its scheduler. None: no limit.",
    ).tag(config=True)
    max_memory = Union(
        [Unicode(), Int()],
        default_value=None,
        allow_none=True,
        help="Most memory of one cluster with its scheduler. None: no limit.",
    ).tag(config=True)
    max_gpus = Int(
        None,
        allow_none=True,
        min=0,
        max=MAX_COUNT,
        help="Most GPUs of one cluster with its scheduler. None: no limit. Where it or worker_gpus"
        " is more than 0, users may choose worker_gpus, if no other options are configured.",
    ).tag(config=True)
    max_resources = Dict(
        help="Most of each named resource of one cluster with its scheduler, such as {'fpga': 4};"
        " then there are no others. Empty: any, without limit."
    ).tag(config=True)
    max_options_bytes = Int(
        MAX_OPTIONS_BYTES,
        min=1024,
        max=192 * 1024,
        help="Bytes of all that a user chooses for one cluster and its groups, such as environment"
        " variables.",
    ).tag(config=True)
    idle_timeout_s = _seconds("without task and client, if its user names no other time", 3600.0)
    idle_timeout_max_s = _seconds("that a cluster may do nothing, whatever its user wants")
    max_lifetime_s = _seconds("that a cluster may live, if its user names no other time")
    max_lifetime_max_s = _seconds("that a cluster may live, whatever its user wants")
    no_client_timeout_s = _seconds(
        "that a cluster may run with no client, if its user names no other time"
    )
    no_client_timeout_max_s = _seconds(
        "that a cluster may run with no client, whatever its user wants"
    )
    no_task_timeout_s = _seconds("without task, if its user names no other time", 12 * 3600.0)
    no_task_timeout_max_s = _seconds("that a cluster may have no task, whatever its user wants")
    ignore_clients = Bool(
        False, help="Whether connected clients are ignored when idleness is judged."
    ).tag(config=True)

    def _options_default(self) -> list[option_types.Field]:
        """Return what users may choose if nothing else is said; who chooses nothing gets the
        settings of this class."""
        cores, memory = self.worker_cores, _as_text(self.worker_memory)
        gpus = max(self.worker_gpus, min(MAX_GPUS, self.max_gpus or 0))
        return [
            option_types.Float(
                "worker_cores",
                cores,
                minimum=min(0.1, cores),
                maximum=max(MOST_CORES, cores),
                label="Cores of a worker",
                per_group=True,
            ),
            option_types.Text(
                "worker_memory",
                memory,
                max_length=40,
                label="Memory of a worker",
                description="such as 4 GiB",
                per_group=True,
            ),
            *([_gpus(self.worker_gpus, gpus)] if gpus else []),
            option_types.Mapped(
                "environment", label="Environment variables", description="of scheduler and workers"
            ),
        ]

    @validate("worker_memory", "scheduler_memory", "max_memory")
    def _is_memory(self, proposal: Mapping[str, object]) -> object:
        value = proposal["value"]
        try:
            size = None if value is None else parse_bytes(value)  # type: ignore[arg-type]
        except ValueError as error:
            raise TraitError(str(error)) from None
        if size is not None and 0 < size < MIN_MEMORY_BYTES:
            raise TraitError("must be 0 or at least 1 MiB")
        return size

    @validate("worker_resources", "scheduler_resources", "max_resources")
    def _are_amounts(self, proposal: Mapping[str, object]) -> object:
        try:
            return parse_named(proposal["value"])
        except ValueError as error:
            raise TraitError(str(error)) from None

    @validate("python")
    def _is_command(self, proposal: Mapping[str, object]) -> object:
        value = proposal["value"]
        words = ([value] if value else []) if isinstance(value, str) else value
        if not isinstance(words, list) or not all(map(str.strip, words)):
            raise TraitError(
                f"must be the command of Python, such as /opt/bin/python, not {value!r}"
            )
        return words

    @validate("dask_config", "environment")
    def _are_settable(self, proposal: Mapping[str, object]) -> object:
        value = proposal["value"]
        if proposal["trait"].name == "dask_config":  # type: ignore[attr-defined]
            if wrong := daskconfig.complaint(value):  # type: ignore[arg-type]
                raise TraitError(wrong)
            return value
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise TraitError(
                f"must hold texts, finite numbers, truth values, lists and mappings only ({error})"
            ) from None
        for name, text in value.items() if isinstance(value, dict) else ():
            if not name or "=" in str(name) or not is_sound(f"{name}{text}"):
                raise TraitError(
                    f"{name!r}: a name must not be empty or hold '=', and nothing holds NUL"
                )
            if why := why_not(str(name)):
                raise TraitError(f"{name!r} {why}")
        return value

    @validate("options")
    def _are_fields(self, proposal: Mapping[str, object]) -> object:
        value = proposal["value"]
        if isinstance(value, list):
            check_fields(value)
        return value

    @validate("apply_options")
    def _is_callable(self, proposal: Mapping[str, object]) -> object:
        if proposal["value"] is not None and not callable(proposal["value"]):
            raise TraitError(f"must be callable or None, not {proposal['value']!r:.100}")
        return proposal["value"]

    def settings(self) -> dict[str, object]:
        """Return what launching needs, by name."""
        names: tuple[str, ...] = (
            "worker_cores",
            "worker_memory",
            "worker_threads",
            "worker_gpus",
            "worker_resources",
            "dask_resources",
            "worker_nanny",
            "compared_packages",
            "scheduler_cores",
            "scheduler_memory",
            "scheduler_gpus",
            "scheduler_resources",
        )
        names += (
            "scheduler_host",
            "worker_host",
            "python",
            "dashboard",
            "environment",
            "dask_config",
        )
        return {name: getattr(self, name) for name in names}

    def limits(self) -> Limits:
        """Return the limits of one cluster."""
        return Limits(
            self.max_workers,
            self.max_cores,
            None if self.max_memory is None else parse_bytes(self.max_memory),
            self.max_gpus,
            self.max_resources,
        )

    def lifecycle(self) -> Lifecycle:
        """Return the lifecycle of a cluster that asks for none."""
        return replace(self._lives("_s"), ignore_clients=self.ignore_clients)

    def most(self) -> Lifecycle:
        """Return the lifecycle that nobody may exceed."""
        return self._lives("_max_s")

    def _lives(self, end: str) -> Lifecycle:
        names = ("idle_timeout", "max_lifetime", "no_client_timeout", "no_task_timeout")
        return Lifecycle(**{f"{name}_s": getattr(self, f"{name}{end}") for name in names})


def _gpus(default: int, most: int) -> option_types.Integer:
    return option_types.Integer(
        "worker_gpus", default, minimum=0, maximum=most, label="GPUs of a worker", per_group=True
    )


def _as_text(memory: str | int) -> str:
    """Return an amount of memory as people read it, if that is the same amount; else its bytes."""
    size = parse_bytes(memory)
    return format_bytes(size) if parse_bytes(format_bytes(size)) == size else str(size)
