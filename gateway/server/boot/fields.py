"""Whether what an administrator offers as options are options, and such as users can be shown."""

from __future__ import annotations

from traitlets import TraitError

from gateway.server.core import options as option_types

FIELD_TYPES = (
    option_types.Text,
    option_types.Bool,
    option_types.Integer,
    option_types.Float,
    option_types.Select,
    option_types.Mapped,
)


def check_fields(fields: object) -> tuple[option_types.Field, ...]:
    """Return options; TraitError says which of them is none, or cannot be shown."""
    if not isinstance(fields, list | tuple):
        raise TraitError(
            f'must be a list of fields such as Float("worker_cores"), not {fields!r:.100}'
        )
    seen: set[str] = set()
    for option in fields:
        if not isinstance(option, FIELD_TYPES):
            raise TraitError(
                f"{option!r} is no field; use Float, Integer, Text, Select, Bool or Mapped"
            )
        if wrong := option_types.wrong_field(option):
            raise TraitError(f"option {option.name}: {wrong}")
        if option.name in seen:
            raise TraitError(f"option {option.name}: there is another of that name")
        seen.add(option.name)
    return tuple(fields)
