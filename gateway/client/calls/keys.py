"""What each key of Dask's configuration below `gateway` means: the one place that says it. Pure.

`scripts/dask_configuration.py` makes `gateway/gateway.yaml` and a page of the documentation out of
it and of the defaults.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

MEANING = {
    "address": "Where the gateway is: https://host, https://host/prefix, http://host:port or"
    " unix:/path.",
    "proxy-address": "host:port of the edge for connections to schedulers, where it differs from"
    " what the gateway tells.",
    "public-address": "Address below which browsers see dashboards, where it differs from what the"
    " gateway tells; or a path, of the host that a notebook's page comes from.",
    "http-client.proxy": "Whether HTTPS_PROXY and NO_PROXY count, or the address of the HTTP proxy"
    " that leads out.",
    "insecure-ok": "Whether credentials may be sent to http:// beyond this machine, in clear text.",
    "ca-file": "PEM bundle that https is verified by; empty: the system's.",
    "transport": "grpc; http where only HTTP/1.1 passes; auto: gRPC, and HTTP where that does not"
    " pass.",
    "tunnel": "always or never a WebSocket to the scheduler; auto: where a direct connection does"
    " not pass.",
    "request-timeout": "How long one call may take.",
    "retry-for": "How long a call is tried again while the gateway does not answer.",
    "auth.token": "API token; goes before user and password.",
    "auth.token-file": "File with an API token, read where nothing else says who calls.",
    "auth.user": "User for password sign-in; with a password alone: the user of this process.",
    "auth.password": "Password; better in the environment, or a token in a file.",
    "cluster.options": "Options of every new cluster, such as worker_memory: 4 GiB; what a call"
    " names goes before.",
    "cluster.shutdown-on-close": "Whether closing a cluster object, and the end of the process,"
    " stops its cluster.",
    "cluster.keepalive-timeout": "After how long without a sign of life of this process a cluster"
    " ends that was to be stopped on close and that nobody uses.",
    "cluster.start-timeout": "How long GatewayCluster waits for a cluster that the gateway could"
    " start; waiting in a queue does not count.",
}
# variables that say the same where the key is not set
SHORT = {
    "address": "DASKGATEWAY_ADDRESS",
    "insecure-ok": "DASKGATEWAY_INSECURE_OK",
    "auth.token": "DASKGATEWAY_TOKEN",
    "auth.user": "DASKGATEWAY_USER",
    "auth.password": "DASKGATEWAY_PASSWORD",
}
HEAD = (
    "Dask's configuration for the client of daskgateway: every key with its default.",
    "",
    "What is said here is known to Dask without this file. To change something, copy what you",
    "change, without the # before it, to ~/.config/dask/gateway.yaml; `dask config find gateway`",
    "finds it there, `dask config get gateway.address` says what holds.",
    "In the environment gateway.ca-file is DASK_GATEWAY__CA_FILE.",
)


def leaves(defaults: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every key, dotted, with its default; a mapping that is empty is a value."""
    for name, value in defaults.items():
        key = f"{path}.{name}" if path else name
        if isinstance(value, Mapping) and value:
            yield from leaves(value, key)
        else:
            yield key, value


def variable(key: str) -> str:
    """Return the variable of the environment that sets a key of `gateway`."""
    return "DASK_GATEWAY__" + key.upper().replace(".", "__").replace("-", "_")


def shown(value: object) -> str:
    """Return a value as YAML has it, on one line."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    return "{}" if value == {} else str(value)


def yaml(defaults: Mapping[str, Any]) -> str:
    """Return gateway.yaml: every key commented out, with its meaning above."""
    lines = [f"# {line}".rstrip() for line in HEAD] + ["", "# gateway:"]
    said: set[str] = set()
    for key, value in leaves(defaults):
        *above, name = key.split(".")
        for depth in range(1, len(above) + 1):
            section = ".".join(above[:depth])
            if section not in said:
                said.add(section)
                lines.append(f"#   {'  ' * (depth - 1)}{above[depth - 1]}:")
        indent = "  " * len(above)
        text = f"{name}: {shown(value)}"
        lines.append(f"#   {indent}{text:<40}  # {MEANING[key]}")
    return "\n".join(lines) + "\n"


def page(defaults: Mapping[str, Any]) -> str:
    """Return the documentation's page."""
    lines = [
        "# Keys of Dask's configuration",
        "",
        "Made from the code by `scripts/dask_configuration.py`. The client reads these keys below",
        "`gateway`, from `~/.config/dask/*.yaml`, from the environment, and from",
        "`dask.config.set`; what a call names goes before. `dask config get gateway.address`",
        "says what holds, and the package brings a commented",
        "[`gateway.yaml`](https://docs.dask.org/en/stable/configuration.html) to copy from:",
        "",
        "    mkdir -p ~/.config/dask",
        "    cp $(python -c 'import gateway; print(gateway.__path__[0])')/gateway.yaml"
        " ~/.config/dask/",
        "",
        "| key | default | meaning | environment |",
        "|---|---|---|---|",
    ]
    for key, value in leaves(defaults):
        names = [variable(key), *([SHORT[key]] if key in SHORT else [])]
        environment = " or ".join(f"`{name}`" for name in names)
        lines.append(f"| `gateway.{key}` | `{shown(value)}` | {MEANING[key]} | {environment} |")
    return "\n".join(lines) + "\n"
