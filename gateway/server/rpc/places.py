"""Where a wrong field stands: `BadRequest.field` has one form, the path from the request on, of
protobuf's names in snake_case with dots between.

A map's key stands where a name would, in backticks where it is more than letters, digits, `_` and
`-`: `cluster.spec.options.worker_cores`, ``cluster.spec.options.`a.b` ``. `request` is the request
as a whole. Use cases speak of the cluster (`spec.options`), whichever request it came in: what
comes before it is added here. Knows no messages but their descriptors.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from google.protobuf.descriptor import Descriptor

from gateway.server.core.errors import FieldInvalid, ServiceError, Violation

WHOLE = "request"
RESOURCE = "cluster"  # the field of a request that holds one


def located(error: ServiceError, request: Any) -> ServiceError:
    """Return an error whose fields are those of a request of this kind."""
    if not isinstance(error, FieldInvalid):
        return error
    return type(error)(list(_located(error.violations, request)))


def _located(violations: Iterable[Violation], request: Descriptor) -> Iterable[Violation]:
    field = request.fields_by_name.get(RESOURCE)
    inner = field.message_type if field is not None else None
    for violation in violations:
        first = violation.field.partition(".")[0]
        below = (
            inner is not None
            and first not in request.fields_by_name
            and first in inner.fields_by_name
        )
        path = f"{RESOURCE}.{violation.field}" if below else violation.field
        yield Violation(path, violation.description)


def steps(path: str) -> list[str]:
    """Return the names and keys of a path, keys without their backticks."""
    found, rest = [], path
    while rest:
        if rest.startswith("`"):
            key, _, rest = rest[1:].partition("`")
            while rest.startswith("`"):  # a backtick in it is written twice
                more, _, rest = rest[1:].partition("`")
                key += "`" + more
            rest = rest.removeprefix(".")
        else:
            key, _, rest = rest.partition(".")
        found.append(key)
    return found


def exists(path: str, request: Descriptor) -> bool:
    """Whether a request of this kind has such a place."""
    if path == WHOLE:
        return True
    kind: Descriptor | None = request
    names = steps(path)
    while names:
        if kind is None:
            return False
        if kind.full_name == "google.protobuf.Struct":
            return True  # all below is its user's
        field = kind.fields_by_name.get(names.pop(0))
        if field is None:
            return False
        kind = field.message_type
        if kind is not None and kind.GetOptions().map_entry:
            if names:
                names.pop(0)
            kind = kind.fields_by_name["value"].message_type if names else None
    return True
