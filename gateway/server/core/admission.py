"""Whether a wish for a cluster is admitted, and the complete spec that it becomes. Every violation
is found at once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from gateway.backends.contract import Resources
from gateway.server.core import amounts, chosen_config, names
from gateway.server.core.errors import FieldInvalid, Violation, key
from gateway.server.core.lifetimes import shortest
from gateway.server.core.limits import scheduler_beyond
from gateway.server.core.model import (
    DEFAULT_GROUP,
    Adaptive,
    Count,
    Lifecycle,
    Limits,
    Size,
    Spec,
    WorkerGroup,
)
from gateway.server.core.options import Field, check_options, weight_bytes
from gateway.server.core.quantities import MAX_DURATION_S, exact_duration
from gateway.server.core.texts import is_sound
from gateway.variables import complaint

MAX_GROUPS = 16
# that one cluster has or had: of groups that are gone it is kept how their workers were called
MAX_GROUP_NAMES = 64
ADAPTIVE_INTERVAL_S = (0.1, 3600.0)  # between two looks at a scheduler's load
MAX_WAIT_COUNT = 100_000
TARGET_DURATION_S = (0.1, 30 * 86_400.0)
MAX_LABELS = 32
MAX_LABEL_KEY = 63
MAX_LABEL_VALUE = 255
MAX_WORKERS = 100_000  # of one cluster
MAX_OPTIONS_BYTES = 64 * 1024
# settings that are read and judged here, whatever else a setting's own rule is
READ_HERE = (*amounts.READ_HERE, "environment")


@dataclass(frozen=True, slots=True)
class GroupWish:
    """A worker group as asked for; its size may be left open."""

    options: Mapping[str, object] = field(default_factory=dict)
    size: Size | None = None


@dataclass(frozen=True, slots=True)
class LifecycleWish:
    """A lifecycle as asked for: None takes the server's default, 0 is never."""

    idle_timeout_s: float | None = None
    max_lifetime_s: float | None = None
    no_client_timeout_s: float | None = None
    ignore_clients: bool = False
    no_task_timeout_s: float | None = None
    keepalive_timeout_s: float | None = None


@dataclass(frozen=True, slots=True)
class Wish:
    """A cluster as asked for."""

    backend: str = ""
    options: Mapping[str, object] = field(default_factory=dict)
    groups: Mapping[str, GroupWish] = field(default_factory=dict)
    lifecycle: LifecycleWish = LifecycleWish()
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Offer:
    """What one user may have, as the administrator configured it."""

    backends: tuple[str, ...]
    fields: tuple[Field, ...] = ()
    settings: Mapping[str, object] = field(default_factory=dict)  # by name of a ClusterConfig trait
    limits: Limits = Limits()
    lifecycle: Lifecycle = Lifecycle()  # of a cluster that asks for none
    most: Lifecycle = Lifecycle()  # what nobody may exceed
    # more settings out of option values, where that was asked beforehand
    apply: Callable[[Mapping[str, object]], Mapping[str, object]] | None = None
    # asks the site for them: of a backend and option values
    ask: Callable[[str, Mapping[str, object]], Awaitable[Mapping[str, object]]] | None = None
    # by backend: its own settings of a cluster
    backend_settings: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    # by backend: what it gives a process that asks for so much
    allots: Mapping[str, amounts.Allot] = field(default_factory=dict)
    # by backend: why it cannot give a process what that would be given
    objections: Mapping[str, amounts.Objection] = field(default_factory=dict)
    max_options_bytes: int = MAX_OPTIONS_BYTES  # of all that is chosen for one cluster
    # returns a backend's or a cluster's setting as it is used; ValueError says what is wrong
    checked: Callable[[str, str, object], object] = lambda _backend, _name, value: value

    def allot(self, backend: str) -> amounts.Allot:
        """Return what a backend gives of what is asked for: whole cores only, for example."""
        return self.allots.get(backend, amounts.as_asked)

    def given(
        self, backend: str, role: str, settings: Mapping[str, object], path: str
    ) -> tuple[Resources, list[Violation]]:
        """Return what a process of a role is given, and why a backend cannot give that."""
        given = amounts.resources(settings, role, self.allot(backend))
        why = self.objections.get(backend, amounts.as_it_is)
        return given, amounts.objections(settings, given, role, why, path)

    def base(self, backend: str) -> dict[str, object]:
        """Return the settings of a cluster on a backend: the administrator's, those left empty as
        the backend has them, and its own."""
        own = self.backend_settings.get(backend, {})
        return {
            **self.settings,
            **{name: value for name, value in own.items() if not self.settings.get(name)},
        }


def admit(wish: Wish, offer: Offer) -> Spec:
    """Return the spec; FieldInvalid names every field that is wrong."""
    violations: list[Violation] = check_labels(wish.labels)
    if wish.backend and wish.backend not in offer.backends:
        violations.append(Violation("spec.backend", "must be one of " + ", ".join(offer.backends)))
    values, wrong = check_options(offer.fields, wish.options, "spec.options")
    violations += wrong + _check_group_count(wish.groups)
    backend = wish.backend or offer.backends[0]
    settings = {} if wrong else _settings(offer, values, backend, violations, "spec.options")
    groups = {}
    for name, group in ({DEFAULT_GROUP: GroupWish()} | dict(wish.groups)).items():
        groups[name] = _group(name, group, offer, backend, (values, settings), violations)
    violations += _check_together(offer, values, groups)
    lifecycle = resolve_lifecycle(wish.lifecycle, offer, violations)
    scheduler, wrong = offer.given(backend, "scheduler", settings, "spec.options")
    violations += wrong + offer.given(backend, "worker", settings, "spec.options")[1]
    spec = Spec(backend, values, settings, groups, lifecycle, offer.limits, scheduler)
    if beyond := scheduler_beyond(spec, offer.limits):
        violations.append(Violation("spec.options", beyond))
    if violations:
        raise FieldInvalid(violations)
    return spec


def asking(
    offer: Offer,
    options: Mapping[str, object],
    groups: Mapping[str, GroupWish],
    present: Mapping[str, WorkerGroup] | None = None,
) -> list[dict[str, object]]:
    """Return the values of options that settings are made of, for a new cluster and its groups or
    for groups of one that has `present` ones; none of values that are wrong, which are refused."""
    values, wrong = check_options(offer.fields, options, "")
    found = [values] if present is None and not wrong else []
    for name, group in groups.items():
        kept = present is not None and name in present
        if kept and dict(present[name].options) == dict(group.options):  # type: ignore[index]
            continue
        own, wrong_too = check_options(offer.fields, group.options, "", per_group=True)
        if own and not wrong_too:
            found.append({**(values if present is None else options), **own})
    return found


def _check_group_count(groups: Mapping[str, GroupWish]) -> list[Violation]:
    return (
        [Violation("spec.worker_groups", f"must have at most {MAX_GROUPS} groups")]
        if len(groups) > MAX_GROUPS
        else []
    )


def regroup(
    spec: Spec, wishes: Mapping[str, GroupWish], offer: Offer, *, whole: bool
) -> dict[str, WorkerGroup]:
    """Return the groups of a spec after an update: of all groups, or only of those named.

    A group that keeps its options keeps the settings it was made with, whatever the configuration
    says today.
    """
    violations: list[Violation] = []
    groups = {} if whole else dict(spec.groups)
    for name, wish in wishes.items():
        present = spec.groups.get(name)
        if present is not None and (
            not wish.options or dict(wish.options) == dict(present.options)
        ):
            size = _size(name, wish.size if wish.size is not None else present.size, violations)
            groups[name] = WorkerGroup(size, present.options, present.settings, present.resources)
        else:
            groups[name] = _group(
                name, wish, offer, spec.backend, (spec.options, spec.settings), violations
            )
    groups.setdefault(DEFAULT_GROUP, WorkerGroup(Count(0), *_as_made(spec.groups[DEFAULT_GROUP])))
    if len(groups) > MAX_GROUPS:
        violations.append(Violation("spec.worker_groups", f"must have at most {MAX_GROUPS} groups"))
    violations += _check_together(offer, spec.options, groups, before=spec.groups)
    if violations:
        raise FieldInvalid(violations)
    return groups


def check_group_names(groups: Iterable[str], known: Iterable[str]) -> list[Violation]:
    """Return what is wrong with the names of groups, beside those that are known of the cluster."""
    known, asked = set(known), set(groups)
    if len(known | asked) <= MAX_GROUP_NAMES or known >= asked:
        return []
    return [
        Violation(
            "spec.worker_groups",
            f"this cluster has had {len(known)} groups; take a name that one of them had",
        )
    ]


def _as_made(group: WorkerGroup) -> tuple[Mapping[str, object], Mapping[str, object], Resources]:
    return group.options, group.settings, group.resources


def _group(
    name: str,
    wish: GroupWish,
    offer: Offer,
    backend: str,
    # values of the options, and the settings they came to
    of_cluster: tuple[Mapping[str, object], Mapping[str, object]],
    violations: list[Violation],
) -> WorkerGroup:
    values, settings = of_cluster
    path = f"spec.worker_groups.{key(name)}"
    violations += names.check_group(name, path)
    own, wrong = check_options(offer.fields, wish.options, f"{path}.options", per_group=True)
    violations += wrong
    if own and not wrong:
        settings = _settings(offer, {**values, **own}, backend, violations, f"{path}.options")
    resources, wrong = offer.given(backend, "worker", settings, f"{path}.options")
    violations += wrong if own else []  # what is chosen for the whole cluster is told there
    return WorkerGroup(_size(name, wish.size or Count(0), violations), own, settings, resources)


def _size(name: str, size: Size, violations: list[Violation]) -> Size:
    path = f"spec.worker_groups.{key(name)}"
    if isinstance(size, Count):
        if not 0 <= size.workers <= MAX_WORKERS:
            violations.append(Violation(f"{path}.count", f"must be between 0 and {MAX_WORKERS}"))
        return size
    if not 0 <= size.minimum <= MAX_WORKERS:
        violations.append(
            Violation(f"{path}.adaptive.minimum", f"must be between 0 and {MAX_WORKERS}")
        )
    if not max(1, size.minimum) <= size.maximum <= MAX_WORKERS:
        violations.append(
            Violation(
                f"{path}.adaptive.maximum",
                f"must be between the minimum, at least 1, and {MAX_WORKERS}",
            )
        )
    for name, pace_s, (least_s, most_s) in (
        ("interval", size.interval_s, ADAPTIVE_INTERVAL_S),
        ("target_duration", size.target_duration_s, TARGET_DURATION_S),
    ):
        if pace_s is not None and not least_s <= pace_s <= most_s:
            why = f"must be between {exact_duration(least_s)} and {exact_duration(most_s)}"
            violations.append(Violation(f"{path}.adaptive.{name}", why))
    if not 0 <= size.wait_count <= MAX_WAIT_COUNT:
        why = f"must be between 0 and {MAX_WAIT_COUNT}"
        violations.append(Violation(f"{path}.adaptive.wait_count", why))
    return size


def _check_together(
    offer: Offer,
    values: Mapping[str, object],
    groups: Mapping[str, WorkerGroup],
    before: Mapping[str, WorkerGroup] | None = None,
) -> list[Violation]:
    """Return what is wrong with groups as a whole, and with all that is chosen in them and for the
    cluster. `before`: those it had."""
    violations = check_adaptive({name: group.size for name, group in groups.items()})
    sizes = [
        group.size.maximum if isinstance(group.size, Adaptive) else group.size.workers
        for group in groups.values()
    ]
    most = sum(min(size, MAX_WORKERS) for size in sizes)
    if most > MAX_WORKERS:
        violations.append(
            Violation("spec.worker_groups", f"must have at most {MAX_WORKERS} workers together")
        )
    defaults = {option.name: option.default for option in offer.fields}
    common = weight_bytes(
        {name: value for name, value in values.items() if value != defaults.get(name)}
    )
    size_bytes = common + sum(weight_bytes(group.options) for group in groups.values())
    had_bytes = common + sum(weight_bytes(group.options) for group in (before or {}).values())
    if size_bytes > max(offer.max_options_bytes, had_bytes if before is not None else 0):
        what = (
            f"must have at most {offer.max_options_bytes} bytes, those of all groups together;"
            f" there are {size_bytes}"
        )
        violations.append(Violation("spec.options", what))
    return violations


def check_adaptive(sizes: Mapping[str, Size]) -> list[Violation]:
    """Return what is wrong if more than one group is adaptive: a scheduler's load says only one
    number."""
    adaptive = sorted(name for name, size in sizes.items() if isinstance(size, Adaptive))
    return [
        Violation(
            f"spec.worker_groups.{key(name)}.adaptive", "only one group may be adaptive at a time"
        )
        for name in adaptive[1:]
    ]


def check_labels(labels: Mapping[str, str]) -> list[Violation]:
    """Return what is wrong with labels."""
    if len(labels) > MAX_LABELS:
        return [Violation("labels", f"must have at most {MAX_LABELS} pairs")]
    if any(
        not 1 <= len(key) <= MAX_LABEL_KEY or len(value) > MAX_LABEL_VALUE
        for key, value in labels.items()
    ):
        return [
            Violation(
                "labels",
                f"keys must have 1 to {MAX_LABEL_KEY}, values at most {MAX_LABEL_VALUE} characters",
            )
        ]
    if not all(is_sound(key) and is_sound(value) for key, value in labels.items()):
        return [Violation("labels", "must be Unicode without NUL")]
    return []


def resolve_lifecycle(wish: LifecycleWish, offer: Offer, violations: list[Violation]) -> Lifecycle:
    """Return the lifecycle that holds; violations are appended."""
    asked: Sequence[tuple[str, float | None]] = (
        ("idle_timeout", wish.idle_timeout_s),
        ("max_lifetime", wish.max_lifetime_s),
        ("no_client_timeout", wish.no_client_timeout_s),
        ("no_task_timeout", wish.no_task_timeout_s),
        ("keepalive_timeout", wish.keepalive_timeout_s),
    )
    for name, value in asked:
        if value is not None and not 0 <= value <= MAX_DURATION_S:
            violations.append(
                Violation(f"spec.lifecycle.{name}", "must be 0 for never, or up to ten years")
            )
    default, most = offer.lifecycle, offer.most
    return Lifecycle(
        shortest(wish.idle_timeout_s, default.idle_timeout_s, most.idle_timeout_s),
        shortest(wish.max_lifetime_s, default.max_lifetime_s, most.max_lifetime_s),
        shortest(wish.no_client_timeout_s, default.no_client_timeout_s, most.no_client_timeout_s),
        wish.ignore_clients or default.ignore_clients,
        shortest(wish.no_task_timeout_s, default.no_task_timeout_s, most.no_task_timeout_s),
        wish.keepalive_timeout_s or None,
    )


def clamped_lifecycle(wish: LifecycleWish, offer: Offer) -> str:
    """Return what of a lifecycle is held to what nobody may exceed, an empty text if nothing is."""
    asked = (
        ("idle_timeout", wish.idle_timeout_s, offer.most.idle_timeout_s),
        ("max_lifetime", wish.max_lifetime_s, offer.most.max_lifetime_s),
        ("no_client_timeout", wish.no_client_timeout_s, offer.most.no_client_timeout_s),
        ("no_task_timeout", wish.no_task_timeout_s, offer.most.no_task_timeout_s),
    )
    return "; ".join(
        f"{name} is {exact_duration(most)}, the most that anybody may have, not"
        f" {exact_duration(wished) if wished else 'never'}"
        for name, wished, most in asked
        if wished is not None and most is not None and (not wished or wished > most)
    )


def _no_texts(variables: Mapping[str, object]) -> str:
    """Return which variable is neither a text nor a number, which is taken as it is written: an
    option that may hold more, or the site's own function, can give one."""
    for name, value in variables.items():
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            return f"must map texts to texts, and {name[:60]!r} is otherwise"
    return ""


def _settings(
    offer: Offer,
    values: Mapping[str, object],
    backend: str,
    violations: list[Violation],
    path: str,
) -> dict[str, object]:
    """Return the administrator's settings, overridden by options of the same name, as far as the
    settings take these values, or by what `apply` makes of the options: then an option may be of
    another kind than its setting, such as a number of GiB."""
    base = offer.base(backend)
    settings = dict(base)
    extra = dict(offer.apply(values)) if offer.apply is not None else {}
    unknown = sorted(extra.keys() - base.keys())
    if unknown:
        raise ValueError(
            f"apply_options returned {', '.join(unknown)}; it may return {', '.join(sorted(base))}"
        )
    for name in (values.keys() & base.keys()) - extra.keys():
        try:
            settings[name] = values[name]
            if name == "dask_config":
                option = next(option for option in offer.fields if option.name == name)
                settings[name], wrong = chosen_config.read(option, values[name])
                violations += [Violation(f"{path}.dask_config", wrong)] if wrong else []
            elif name not in READ_HERE:
                settings[name] = offer.checked(backend, name, values[name])
        except ValueError as error:
            violations.append(Violation(f"{path}.{name}", str(error)))
    settings |= extra
    environment, admins = settings.get("environment"), base.get("environment")
    if isinstance(environment, Mapping) and isinstance(admins, Mapping):
        if why := complaint(list(environment)) or _no_texts(environment):
            violations.append(Violation(f"{path}.environment", why))
        settings["environment"] = {**admins, **environment}
    chosen_config.merge(settings, base, violations, path)
    settings, found = amounts.read(settings, base, offer.limits, path)
    violations += found
    return settings
