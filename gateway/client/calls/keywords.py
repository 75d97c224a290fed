"""What is a keyword and what an option, and what was meant by a name that is neither.

Which options there are the gateway tells. So it is asked for a cluster first; only where it has
refused an option, its refusal is told in the words that the caller used. Knows no connection.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from gateway.client.calls import errors, reading
from gateway.client.calls.errors import FieldViolation
from gateway.client.calls.options import Options
from gateway.client.model.offer import OptionField, SelectField, StringField

RESOURCE = "cluster."  # the field of a request that holds one
OPTIONS = "spec.options."
GROUPS = "spec.worker_groups."
CONFIGURED = "gateway.cluster.options in Dask's configuration"
OF_GROUPS = ("n_workers",)
# keywords that were others' or are other words for the same; what is meant by each
OTHERS: Mapping[str, str] = {
    "workers": "n_workers",
    "num_workers": "n_workers",
    "nworkers": "n_workers",
    "timeout": "start_timeout",
    "cluster_name": "name",
    "environment_vars": "environment",
    "env": "environment",
    "memory": "worker_memory",
    "memory_limit": "worker_memory",
    "cores": "worker_cores",
    "gpus": "worker_gpus",
    "gpu": "worker_gpus",
    "n_gpus": "worker_gpus",
    "resources": "worker_resources",
    "nthreads": "worker_threads",
    "threads_per_worker": "worker_threads",
    "processes": "n_workers",
    "minimum": "n_workers",  # as (minimum, maximum)
    "maximum": "n_workers",
    "adaptive": "n_workers",
}


def explained(
    error: errors.InvalidRequest,
    *,
    keywords: Collection[str],
    given: Mapping[str, Any],
    chosen: Mapping[str, Any],
    configured: Mapping[str, Any],
    offered: Options,
    name: str = "",
    backend: str = "",
) -> errors.InvalidRequest:
    """Return a gateway's refusal in the caller's words.

    :param keywords: those that the called function takes.
    :param given: options that were given like keywords.
    :param chosen: options that were given as such.
    :param configured: options that Dask's configuration names.
    :param offered: the options that the gateway offers.
    :param name: what the cluster was to be called.
    :param backend: where it was to run.
    """
    unknown, told, said = False, [], []
    for wrong in error.violations:
        words = ""
        one = FieldViolation(wrong.field.removeprefix(RESOURCE), wrong.description)
        place, option = _option(one.field)
        whole, _, inside = option.partition(".")  # a key of a mapping
        if inside and whole in offered.fields and option not in offered.fields:
            words = f"{whole}: {inside} {one.description}"
        elif option and option not in offered.fields:
            if not place and option in given:
                unknown, words = True, _neither(option, keywords, offered)
            else:
                takes = OF_GROUPS if place else keywords
                words = _no_option(option, place, takes, offered, option in configured)
        elif option and not place:
            value = {**configured, **chosen, **given}.get(option)
            words = f"{option}{_wrong(one.description, value)}"
            words += _as_text(offered.fields[option], value)
            words += f" (it stands in {CONFIGURED})" if option in configured else ""
        elif one.field == "cluster_id" and name:
            words = reading.no_cluster_name(name)
        elif one.field == "spec.backend" and backend:
            words = f"backend{_wrong(one.description, backend)}"
        told.append(FieldViolation(wrong.field, words or wrong.description))
        said.append(words or f"{wrong.field}: {wrong.description}")
    if tuple(told) == error.violations:
        return error
    kind = errors.UnknownKeyword if unknown else type(error)
    return kind(
        "; ".join(said),
        code=error.code,
        reason=error.reason,
        violations=told,
        metadata=error.metadata,
    )


def _wrong(description: str, value: Any) -> str:
    """Return what is wrong with a value, which is quoted; a mapping is not: it may hold secrets."""
    if isinstance(value, Mapping) or not description.startswith("must"):
        return f": {description}"
    first, *more = re.split(r"(?=[:;] )", description, maxsplit=1)
    return f" {first}, not {reading.shown(value)}{''.join(more)}"


def _option(field: str) -> tuple[str, str]:
    """Return the worker group (empty for the cluster) and the option that a field's path names;
    twice empty if it names none."""
    field = field.removeprefix(RESOURCE)
    if field.startswith(OPTIONS):
        return "", field.removeprefix(OPTIONS)
    if field.startswith(GROUPS) and ".options." in field:
        place, _, name = field.removeprefix(GROUPS).partition(".options.")
        return place, name
    return "", ""


def _neither(name: str, keywords: Collection[str], offered: Options) -> str:
    other = OTHERS.get(name, "")
    known = [*keywords, *offered.fields]
    hint = (
        f"; did you mean {other}?"
        if other in known
        else reading.meant(name, known)
        or f"; keywords are {', '.join(sorted(keywords))}; {_there(offered)}"
    )
    return f"{name} is neither a keyword nor an option of this gateway{hint}"


def _no_option(
    name: str, place: str, keywords: Collection[str], offered: Options, configured: bool
) -> str:
    where = f" (in {CONFIGURED})" if configured else f" (in worker group {place})" if place else ""
    if name in keywords and not place:
        return f"{name} is a keyword and no option: give it beside `options`{where}"
    fitting = [one for one, field in offered.fields.items() if field.per_group or not place]
    hint = reading.meant(name, [*fitting, *keywords])
    if any(hint.endswith(f" {keyword}?") for keyword in keywords) and not place:
        hint = f"{hint[:-1]}, which is a keyword?"
    return f"{name} is no option of this gateway{where}{hint or f'; {_there(offered)}'}"


def _as_text(field: OptionField, value: Any) -> str:
    """Return what helps where a number was given for a text: 3.10 is 3.1, as YAML has it too."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return ""
    kind = field.kind
    if isinstance(kind, SelectField):
        like = next((one for one in kind.choices if _same(one, value)), kind.default)
        return f"; they are texts: write {reading.shown(like)}, in quotes"
    return "; write it in quotes" if isinstance(kind, StringField) else ""


def _same(text: str, value: float) -> bool:
    try:
        return float(text) == value
    except ValueError:
        return False


def _there(offered: Options) -> str:
    return (
        f"options are {', '.join(sorted(offered.fields))}" if offered.fields else "it offers none"
    )
