"""Who may import whom, as data. ARCHITECTURE.md shows this very table; `python -m tests.style.law`
prints it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Rule:
    """What the modules of one place may import: of ours by prefix, and of others' by package; the
    standard library but for some."""

    place: str
    ours: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    never: tuple[str, ...] = ()  # of the standard library


PURE = (
    "asyncio",
    "concurrent",
    "os",
    "random",
    "secrets",
    "signal",
    "socket",
    "sqlite3",
    "ssl",
    "subprocess",
    "threading",
    "time",
)
STUBS = "daskgateway"
CORE, STORE, CONTRACT = (
    "gateway.server.core",
    "gateway.server.store.contract",
    "gateway.backends.contract",
)
SHARES = ("gateway.fair", "gateway.turns")
EVERYTHING = ("gateway", STUBS)

# The most exact place counts. A module under no rule fails the test.
RULES = (
    Rule("gateway", ("gateway.client",)),
    Rule("gateway.__main__", EVERYTHING, ("click", "uvloop")),
    # What several programs must do alike
    Rule("gateway.wire", never=PURE),
    Rule("gateway.printable", never=PURE),
    Rule("gateway.fair", never=PURE),
    Rule("gateway.daskconfig", (), ("yaml",), PURE),
    Rule("gateway.variables", ("gateway.daskconfig",), never=PURE),
    Rule("gateway.turns", ("gateway.fair",)),
    Rule("gateway.networks", ("gateway.wire",)),
    Rule("gateway.checks", ("gateway.wire",), ("cryptography",)),
    Rule("gateway.files"),
    Rule("gateway.processes"),
    Rule("gateway.custody"),
    Rule("gateway.orders"),
    Rule("gateway.former_names"),
    Rule("gateway.configfile", ("gateway.custody", "gateway.former_names"), ("traitlets",)),
    Rule("gateway.descriptors", ("gateway.configfile",)),
    Rule("gateway.options", (CORE,)),
    # Programs beside the server
    Rule("gateway.agent", ("gateway.wire", STUBS), ("distributed", "grpc")),
    Rule(
        "gateway.client",
        ("gateway.networks", "gateway.printable", "gateway.wire", STUBS),
        (
            "IPython",
            "click",
            "cryptography",
            "dask",
            "distributed",
            "google",
            "grpc",
            "ipywidgets",
            "packaging",
            "rich",
            "tornado",
        ),
    ),
    Rule(
        "gateway.client.model",
        ("gateway.printable", "gateway.wire", STUBS),
        ("google", "ipywidgets"),
    ),
    Rule(
        "gateway.proxy",
        (
            "gateway.checks",
            "gateway.configfile",
            "gateway.custody",
            "gateway.descriptors",
            "gateway.files",
            "gateway.networks",
            "gateway.processes",
            "gateway.wire",
            STUBS,
            *SHARES,
        ),
        (
            "aiohttp",
            "cryptography",
            "google",
            "grpc",
            "h2",
            "hpack",
            "multidict",
            "prometheus_client",
            "traitlets",
            "uvloop",
            "yarl",
        ),
    ),
    Rule("gateway.proxy.sockets"),
    Rule("gateway.proxy.door.client_hello", never=PURE),
    Rule("gateway.proxy.relay", ("gateway.networks", "gateway.proxy")),
    Rule("gateway.proxy.http2", ("gateway.proxy", "gateway.wire", "gateway.fair"), ("h2", "hpack")),
    # Plugins
    Rule(
        "gateway.authenticators",
        (
            "gateway.checks",
            "gateway.configfile",
            "gateway.custody",
            "gateway.networks",
            "gateway.wire",
            CORE,
        ),
        ("aiohttp", "bonsai", "cryptography", "gssapi", "jwt", "traitlets"),
    ),
    Rule(
        "gateway.authenticators.conformance",
        (
            "gateway.authenticators.contract",
            "gateway.backends.conformance.stall",
            "gateway.wire",
            CORE,
        ),
    ),
    Rule(
        "gateway.backends",
        (
            "gateway.checks",
            "gateway.daskconfig",
            "gateway.files",
            "gateway.variables",
            "gateway.wire",
        ),
        ("aiohttp", "traitlets"),
    ),
    Rule("gateway.backends.contract", never=PURE),
    Rule(
        "gateway.backends.kubernetes",
        ("gateway.backends", "gateway.checks", "gateway.files", "gateway.wire"),
        ("aiohttp", "kubernetes", "traitlets"),
    ),
    *(
        Rule(
            f"gateway.backends.kubernetes.{name}",
            (
                CONTRACT,
                "gateway.backends.kubernetes",
                "gateway.backends.named",
                "gateway.wire",
            ),
            never=PURE,
        )
        for name in ("cache", "manifests", "merge", "names", "refusals", "states")
    ),
    Rule("gateway.backends.named", (CONTRACT,), never=PURE),
    Rule("gateway.backends.as_user"),
    Rule("gateway.backends.yarn.inside"),
    Rule(
        "gateway.backends.yarn.host",
        ("gateway.backends.local.proc", "gateway.files"),
        ("skein",),
    ),
    # The server
    Rule("gateway.server", EVERYTHING),
    Rule("gateway.server.boot", EVERYTHING, ("grpc", "grpc_health", "traitlets")),
    Rule(
        "gateway.server.edge",
        (
            "gateway.configfile",
            "gateway.files",
            "gateway.networks",
            "gateway.orders",
            "gateway.processes",
            "gateway.wire",
            "gateway.server.boot",
        ),
    ),
    Rule(
        "gateway.server.keeping",
        (
            "gateway.custody",
            "gateway.files",
            CONTRACT,
            CORE,
            "gateway.server.boot",
            "gateway.server.store",
        ),
    ),
    Rule(
        "gateway.server.core",
        (CONTRACT, "gateway.daskconfig", "gateway.printable", "gateway.variables", "gateway.wire"),
        never=PURE,
    ),
    Rule(
        "gateway.server.usecases",
        (CORE, STORE, CONTRACT, "gateway.wire"),
        never=("socket", "ssl", "sqlite3", "subprocess"),
    ),
    Rule(
        "gateway.server.reconcile",
        (CORE, STORE, CONTRACT, "gateway.wire"),
        never=("socket", "ssl", "sqlite3", "subprocess"),
    ),
    Rule("gateway.server.store", (CORE,), ("sqlalchemy",), never=("socket", "ssl", "subprocess")),
    Rule(
        "gateway.server.security",
        (
            "gateway.authenticators",
            "gateway.configfile",
            "gateway.custody",
            "gateway.files",
            "gateway.wire",
            CORE,
            STORE,
            *SHARES,
        ),
        ("cryptography",),
    ),
    Rule(
        "gateway.server.rpc",
        (
            CORE,
            STORE,
            CONTRACT,
            "gateway.daskconfig",
            "gateway.networks",
            "gateway.server.usecases",
            "gateway.variables",
            "gateway.wire",
            STUBS,
            *SHARES,
        ),
        ("google", "grpc", "grpc_health", "grpc_interceptor", "grpc_reflection"),
        never=("sqlite3", "subprocess"),
    ),
)


def within(module: str, place: str) -> bool:
    """Whether a module is a place or lies in it."""
    return module == place or module.startswith(place + ".")


def rule_of(module: str) -> Rule | None:
    """Return the most exact rule of a module; that of the package `gateway` is for its own file
    alone."""
    found = [
        rule
        for rule in RULES
        if module == rule.place or (rule.place != "gateway" and within(module, rule.place))
    ]
    return max(found, key=lambda rule: len(rule.place), default=None)


def table() -> str:
    """Return the rules as Markdown."""
    lines = ["| place | may import of ours | of others | never |", "|---|---|---|---|"]
    for rule in RULES:
        ours = (
            "everything"
            if "gateway" in rule.ours
            else ", ".join(f"`{name.removeprefix('gateway.')}`" for name in rule.ours)
        )
        others, never = (
            ", ".join(f"`{name}`" for name in names)
            for names in (rule.others, rule.never if rule.never != PURE else ())
        )
        whole = rule.place == "gateway"
        place = "gateway/__init__.py" if whole else rule.place.removeprefix("gateway.")
        lines.append(
            f"| `{place}` | {ours or '–'} | {others or '–'} |"
            f" {never or ('what touches the world' if rule.never else '–')} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
