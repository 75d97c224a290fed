"""Where a gateway, its edge and its dashboards are, as people write it, and as who comes from
dask-gateway has it in gateway.yaml: `{VARIABLE}` in values, `gateway://host:port`, a mere port.
Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from gateway.client.calls import reading
from gateway.printable import brief
from gateway.wire import DEFAULT_PORT, SCHEME, host_port

TEMPLATE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
IN_ONE = "gateway.http-client"  # a section that may be told by the value of its only name
MAX_ADDRESS = 1024  # characters
PATH = re.compile(r"(/[^/?#\s]+)+")
# what proxy-address may begin with, of which only host and port count
WAYS = ("gateway", "tls", "tcp", "http", "https", SCHEME)


def filled(value: Any, what: str, environment: Mapping[str, str]) -> Any:
    """Return a value with each `{VARIABLE}` of its texts replaced; ValueError names one that the
    environment lacks. Braces with anything else in them stay."""
    if isinstance(value, Mapping):
        return {name: filled(one, f"{what}.{name}", environment) for name, one in value.items()}
    if not isinstance(value, str):
        return value

    def of(match: re.Match[str]) -> str:
        if match[1] not in environment:
            raise ValueError(
                f"{what} names {brief(match[0])}, and the environment has no {brief(match[1])}"
            )
        return environment[match[1]]

    return TEMPLATE.sub(of, value)


def beside(defaults: Mapping[str, Any], there: Mapping[str, Any]) -> dict[str, Any]:
    """Return defaults without those sections in whose place the user has written something else,
    such as `auth: jupyterhub`: Dask would drop that for the section."""
    kept = {}
    for name, default in defaults.items():
        found = there.get(name, there.get(name.replace("-", "_")))
        if not isinstance(default, Mapping) or found is None:
            kept[name] = default
        elif isinstance(found, Mapping):
            kept[name] = beside(default, found)
    return kept


def unknown(found: Any, names: Mapping[str, Any], what: str = "gateway") -> Iterator[str]:
    """Yield a sentence for each name of the configuration that means nothing. `names` are those
    that do, with a mapping for each that has names of its own."""
    if not isinstance(found, Mapping):
        if what != IN_ONE or not isinstance(found, bool | str):
            of = reading.shown(found) if isinstance(found, bool | int | float) else "something else"
            yield f"{what} in Dask's configuration must hold {', '.join(names)}, and is {of}"
        return
    for name, value in found.items():
        usual = str(name).replace("_", "-")
        if usual not in names:
            hint = reading.meant(usual, names) or f"; {what} may hold {', '.join(names)}"
            yield f"{what}.{brief(str(name))} in Dask's configuration means nothing{hint}"
        elif isinstance(names[usual], Mapping) and value is not None:
            yield from unknown(value, names[usual], f"{what}.{usual}")


def edge(value: Any, gateway: str, what: str) -> str:
    """Return `host:port` of the edge that schedulers are reached through.

    :param value: `host:port`, `gateway://host:port`, or a mere port, which is of the gateway's own
        host.
    :param gateway: the gateway's address.
    """
    if isinstance(value, int) or (isinstance(value, str) and value.strip().isdigit()):
        port = reading.count(value, what, least=1)
        host = urlsplit(gateway).hostname or "localhost"
        if port < 65536:
            return host_port(host, port)
    text = reading.text(value, what).strip()
    parts = urlsplit(text if "://" in text else f"tcp://{text}")
    found = parts.hostname or ""
    try:
        given = parts.port
    except ValueError:  # it is none
        found = ""
    if not found or parts.scheme not in WAYS or parts.path.strip("/"):
        raise ValueError(
            f"{what} must be host:port, gateway://host:port or a port, not {reading.shown(value)}"
        )
    return host_port(found, given or {"https": 443, "http": 80}.get(parts.scheme, DEFAULT_PORT))


def root(value: Any, what: str) -> str:
    """Return below which address browsers see dashboards, without a slash at its end; a mere path
    is of the host that the notebook's own page came from, such as a JupyterHub's."""
    text = reading.text(value, what).strip().rstrip("/")
    if len(text) > MAX_ADDRESS:
        raise ValueError(
            f"{what} must have at most {MAX_ADDRESS} characters, not {len(text)}:"
            f" {reading.shown(value)}"
        )
    if PATH.fullmatch(text):
        return text
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query:
        raise ValueError(
            f"{what} must look like https://host, https://host/prefix or /prefix, not"
            f" {reading.shown(value)}"
        )
    return text
