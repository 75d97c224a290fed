"""What users are offered, out of the configuration: which options, which settings these come to,
and whether the two fit."""

from __future__ import annotations

import functools
import logging
import math
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from traitlets import Bool as BoolTrait
from traitlets import TraitError

from gateway import checks, configfile
from gateway.backends.base import BaseBackend
from gateway.backends.contract import Resources
from gateway.server.boot import site_calls
from gateway.server.boot.cluster_config import ClusterConfig
from gateway.server.boot.fields import check_fields
from gateway.server.core.admission import Offer
from gateway.server.core.amounts import MEMORY, NAMED
from gateway.server.core.errors import FieldInvalid, OptionsAtFault, Violation
from gateway.server.core.model import Principal
from gateway.server.core.options import Bool, Field, Float, Integer, Select, check_value
from gateway.server.core.quantities import parse_bytes

logger = logging.getLogger(__name__)

OPTIONS, APPLY = "c.ClusterConfig.options", "c.ClusterConfig.apply_options"
Rule = Callable[[object], object]  # returns a value as it is used; ValueError says what is wrong


@dataclass(frozen=True, slots=True)
class Findings:
    """What is wrong, and what has no effect; one line each."""

    problems: tuple[str, ...] = ()
    hints: tuple[str, ...] = ()


class Values(dict[str, object]):
    """Options' values by name, for `values["size"]` and, as dask-gateway's handlers write it,
    `values.size`."""

    def __getattr__(self, name: str) -> object:
        try:
            return self[name]
        except KeyError:
            hint = configfile.meant(name, self)
            raise AttributeError(f"there is no option {name!r}{hint}") from None


def rules(clusters: ClusterConfig, backend: BaseBackend) -> dict[str, Rule]:
    """Return by which rule each setting of a cluster on a backend takes values."""
    trial = ClusterConfig()
    found: dict[str, Rule] = {
        name: functools.partial(_taken, trial, name) for name in clusters.settings()
    }
    for name in backend.cluster_settings():
        found.setdefault(name, functools.partial(backend.checked_setting, name))
    return found


def _taken(trial: ClusterConfig, name: str, value: object) -> object:
    if isinstance(value, bool) and not isinstance(trial.traits()[name], BoolTrait):
        raise ValueError(f"expected no truth value, such as {value!r}")
    try:
        trial.set_trait(name, value)
    except TraitError as error:
        raise ValueError(configfile.plain(error)) from None
    return getattr(trial, name)


def problems(clusters: ClusterConfig, backends: Mapping[str, BaseBackend]) -> Findings:
    """Return what is wrong with options as they are configured. Of options that a callable makes
    for each user it is seen when they are made."""
    found, hints = [], []
    if callable(clusters.options) and not site_calls.takes(clusters.options, 1):
        found.append(f"{OPTIONS}: must take one argument, the user, not as {clusters.options!r}")
    apply = clusters.apply_options
    if callable(apply) and not site_calls.takes(apply, 1 + site_calls.wants_user(apply)):
        found.append(f"{APPLY}: must take (values) or (values, user), not as {apply!r}")
    if clusters.scheduler_host and not checks.is_host(clusters.scheduler_host):
        told = f"must be a host's name or address, not {clusters.scheduler_host!r}"
        found.append(f"c.ClusterConfig.scheduler_host: {told}")
    found += _unlimited(clusters)
    hints += _too_small(clusters)
    if wrong := _no_python(clusters, backends):
        (found if set(backends) == {"local"} else hints).append(wrong)
    wrong_amounts, amount_hints = _not_given(clusters, backends)
    found += wrong_amounts
    hints += amount_hints
    if not callable(clusters.options):
        for option in clusters.options:
            wrong, hint = fitting(option, clusters, backends)
            found += [f"{OPTIONS}: option {option.name!r}: {wrong}"] if wrong else []
            hints += [f"{OPTIONS}: option {option.name!r}: {hint}"] if hint else []
    return Findings(tuple(found), tuple(hints))


def _no_python(clusters: ClusterConfig, backends: Mapping[str, BaseBackend]) -> str:
    """Return that this machine lacks the Python that is configured, where it would be run."""
    command = [clusters.python] if isinstance(clusters.python, str) else clusters.python
    program = command[0] if command else ""
    chosen = callable(clusters.options) or any(one.name == "python" for one in clusters.options)
    if not program or "local" not in backends or chosen or clusters.apply_options is not None:
        return ""
    if shutil.which(program) is not None:
        return ""
    return (
        f"c.ClusterConfig.python: {program}: this machine, where the backend local starts clusters,"
        f" has no such program"
    )


def _too_small(clusters: ClusterConfig) -> list[str]:
    """Return which limits of one cluster its scheduler alone exceeds, where nobody chooses another
    size of it: no cluster could start."""
    limits = clusters.limits()
    pairs = (
        ("max_cores", limits.cores, "scheduler_cores", clusters.scheduler_cores),
        (
            "max_memory",
            limits.memory_bytes,
            "scheduler_memory",
            parse_bytes(clusters.scheduler_memory),
        ),
    )
    return [
        f"c.ClusterConfig.{limit}: {getattr(clusters, limit)!r} is less than a scheduler alone has"
        f" (c.ClusterConfig.{size} = {getattr(clusters, size)!r}): no cluster of that size is"
        f" granted"
        for limit, most, size, taken in pairs
        if most is not None and taken > most
    ]


def _unlimited(clusters: ClusterConfig) -> list[str]:
    """Return which processes have no limit of memory in clusters with one."""
    if clusters.max_memory is None:
        return []
    return [
        f"c.ClusterConfig.{name}: must be more than 0, which is no limit:"
        " c.ClusterConfig.max_memory limits the memory of one cluster"
        for name in MEMORY
        if not parse_bytes(getattr(clusters, name))
    ]


def _not_given(
    clusters: ClusterConfig, backends: Mapping[str, BaseBackend]
) -> tuple[list[str], list[str]]:
    """Return what every cluster would be refused for, and what clusters on some backends would."""
    found: list[str] = []
    hints: list[str] = []
    settings, limits = clusters.settings(), clusters.limits()
    for name in NAMED:
        unknown = sorted(getattr(clusters, name).keys() - limits.named.keys())
        if limits.named and unknown:
            there = "c.ClusterConfig.max_resources names others alone"
            found.append(f"c.ClusterConfig.{name}: {unknown[0]} is none that is given: {there}")
    asked = {
        "worker_gpus": Resources(gpus=clusters.worker_gpus),
        "scheduler_gpus": Resources(gpus=clusters.scheduler_gpus),
        "worker_resources": Resources(named=clusters.worker_resources),
        "scheduler_resources": Resources(named=clusters.scheduler_resources),
        "max_gpus": Resources(gpus=clusters.max_gpus or 0),
    }
    for name, resources in asked.items():
        words = [
            one.objection(resources, {**one.cluster_settings(), **settings})
            for one in backends.values()
        ]
        told = found if words and all(words) and name != "max_gpus" else hints
        told += [f"c.ClusterConfig.{name}: {why}" for why in dict.fromkeys(words) if why]
    return found, hints


def fitting(
    option: Field, clusters: ClusterConfig, backends: Mapping[str, BaseBackend]
) -> tuple[str, str]:
    """Return what is wrong with an option as one of a setting's name, and what may be meant
    otherwise."""
    known = [rules(clusters, backend) for backend in backends.values() or (BaseBackend(),)]
    having = [named[option.name] for named in known if option.name in named]
    if not having:
        return _no_setting(option.name, clusters, {name for found in known for name in found})
    for rule in having:
        for value, certain in _probes(option):
            try:
                rule(check_value(option, value)[0])
            except ValueError as error:
                told = (
                    f"a {type(option).__name__} that may be {value!r} cannot be the setting of that"
                    f" name: {error}"
                )
                if clusters.apply_options is not None:  # which may make it into what fits
                    return "", f"{told}; so c.ClusterConfig.apply_options must return that setting"
                return (told, "") if certain else ("", told)
    return "", ""


def _probes(option: Field) -> list[tuple[object, bool]]:
    """Return values that an option may have, and whether such a one is sure to be chosen."""
    if isinstance(option, Select):
        return [(choice, True) for choice in option.choices]
    if isinstance(option, Bool):
        return [(True, True), (False, True)]
    found: list[tuple[object, bool]] = [(option.default, True)]
    if isinstance(option, Float):
        between = option.default + 0.5
        if option.maximum is None or between <= option.maximum:
            found.append((between, True))
    if isinstance(option, Integer | Float):
        bounds = (option.minimum, option.maximum)
        found += [(bound, False) for bound in bounds if bound is not None]
    return found


def _no_setting(name: str, clusters: ClusterConfig, known: set[str]) -> tuple[str, str]:
    """Return what is to be said of an option of no setting's name."""
    if name in type(clusters).class_traits(config=True):
        wrong = (
            "no option can set that setting: it holds for the gateway as a whole, or users ask for"
            " it in another way; choose another name"
        )
        return (wrong, "") if clusters.apply_options is None else ("", wrong)
    near = configfile.meant(name, known)
    if near.startswith("; did you mean"):
        return "", f"there is no setting of that name{near}"
    if clusters.apply_options is None:
        return "", f"it has no effect: there is no setting of that name, and no apply_options{near}"
    return "", ""


class ConfiguredOffers:
    """Offers as configured: the port of the use cases."""

    def __init__(self, clusters: ClusterConfig, backends: Mapping[str, BaseBackend]) -> None:
        self._clusters, self._backends = clusters, backends
        self._settings = {name: one.cluster_settings() for name, one in backends.items()}
        self._rules = {name: rules(clusters, one) for name, one in backends.items()}

    async def offer(self, principal: Principal) -> Offer:
        """Return what a user may have. FieldInvalid if the site's callable refuses that user,
        OptionsAtFault if it does something wrong."""
        clusters = self._clusters
        return Offer(
            backends=tuple(self._backends),
            fields=await self._fields(principal),
            settings=clusters.settings(),
            limits=clusters.limits(),
            lifecycle=clusters.lifecycle(),
            most=clusters.most(),
            ask=None
            if clusters.apply_options is None
            else functools.partial(self._apply, principal),
            backend_settings=self._settings,
            allots={name: one.allots for name, one in self._backends.items()},
            objections={name: one.objection for name, one in self._backends.items()},
            max_options_bytes=clusters.max_options_bytes,
            checked=self._checked,
        )

    def _checked(self, backend: str, name: str, value: object) -> object:
        rule = self._rules.get(backend, {}).get(name)
        return value if rule is None else rule(value)

    async def _fields(self, principal: Principal) -> tuple[Field, ...]:
        options = self._clusters.options
        if not callable(options):
            return check_fields(options)
        fields = await self._called(OPTIONS, options, principal, user=principal)
        try:
            found = check_fields(fields)
        except TraitError as error:
            raise self._fault(OPTIONS, principal, str(error)) from None
        for option in found:
            if wrong := fitting(option, self._clusters, self._backends)[0]:
                raise self._fault(OPTIONS, principal, f"option {option.name!r}: {wrong}")
        return found

    async def _apply(
        self, principal: Principal, backend: str, values: Mapping[str, object]
    ) -> Mapping[str, object]:
        """Return the settings that the site's callable makes of options' values."""
        apply = self._clusters.apply_options
        given = Values(values)
        also = (principal,) if site_calls.wants_user(apply) else ()
        made = await self._called(APPLY, apply, given, *also, user=principal)
        if made is None:
            return {}
        if not isinstance(made, Mapping):
            raise self._fault(APPLY, principal, f"it returned {made!r:.100}, which is no mapping")
        known, found = self._rules[backend], {}
        for name, value in made.items():
            if name not in known:
                near = configfile.meant(str(name), known)
                told = f"it returned {name!r:.100}, which is no setting{near}"
                raise self._fault(APPLY, principal, told)
            try:
                found[name] = read = known[name](value)
                if isinstance(read, float) and not math.isfinite(read):
                    raise ValueError("must be a finite number")
            except ValueError as error:
                told = f"it returned {name} = {value!r:.100}: {error}"
                raise self._fault(APPLY, principal, told) from None
        return found

    async def _called(
        self, setting: str, function: Callable[..., object], *arguments: object, user: Principal
    ) -> object:
        deadline_s = self._clusters.options_timeout_s
        try:
            return await site_calls.call(function, *arguments, deadline_s=deadline_s)
        except site_calls.TooLate:
            words = f"it did not answer within {deadline_s:g} s (c.ClusterConfig.options_timeout_s)"
            raise self._fault(setting, user, words) from None
        except Exception as error:
            if words := site_calls.said(error):
                logger.info("%s refuses %s: %s", setting, user.user, words)
                raise FieldInvalid([Violation("spec.options", words)]) from None
            words = f"{type(error).__name__}: {error}"
            raise self._fault(setting, user, words, error) from None

    def _fault(
        self, setting: str, user: Principal, words: str, error: Exception | None = None
    ) -> OptionsAtFault:
        logger.error("%s failed for %s: %s", setting, user.user, words, exc_info=error)
        return OptionsAtFault(metadata={"setting": setting})
