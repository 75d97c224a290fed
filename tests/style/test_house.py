"""The house rules: how large things are, what is promised and what is not said. Who imports whom:
test_imports.py."""

from __future__ import annotations

import ast
import importlib
import pathlib
import re
import subprocess
from importlib.metadata import entry_points

import pytest
from daskgateway.v1 import error_reason_pb2

import gateway
from gateway.server.core import errors
from gateway.server.core.transitions import diagram

ROOT = pathlib.Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "gateway").rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
MOST_LINES, MOST_LINES_OF_A_FUNCTION = 450, 70
# Larger files, with how large, and why.
LARGER = {
    "gateway.backends.as_user": (
        530,
        "root installs it as one file, which imports nothing of ours",
    ),
    "gateway.backends.local.backend": (530, "it waits to be split"),
    "gateway.client.dask.remote": (530, "it waits to be split"),
    "gateway.client.gateway": (555, "it waits to be split"),
    "tests.store.test_stores": (480, "it waits to be split"),
}
# Longer functions: what a new cluster may be asked for stands in one signature.
LONGER = {"gateway.client.dask.remote": (85, "__init__")}
FORBIDDEN_NAMES = re.compile(r"(manager|helper|utils?|info|data)$", re.IGNORECASE)


def module_of(path: pathlib.Path) -> str:
    """Return a file's module."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports_of(path: pathlib.Path) -> set[str]:
    """Return every module a file imports, names of packages included."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", SOURCES, ids=module_of)
def test_files_and_functions_are_small_and_say_what_they_are(path: pathlib.Path) -> None:
    text = path.read_text()
    tree = ast.parse(text)
    assert ast.get_docstring(tree), "no module docstring"
    most, _ = LARGER.get(module_of(path), (MOST_LINES, ""))
    assert len(text.splitlines()) <= most
    most, longer = LONGER.get(module_of(path), (MOST_LINES_OF_A_FUNCTION, ""))
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            assert not FORBIDDEN_NAMES.search(node.name), node.name
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno:
            longest = most if node.name == longer else MOST_LINES_OF_A_FUNCTION
            assert node.end_lineno - node.lineno < longest, node.name


@pytest.mark.parametrize("path", TESTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_of_tests_are_of_one_topic_and_small(path: pathlib.Path) -> None:
    most, _ = LARGER.get(module_of(path), (MOST_LINES, ""))
    assert len(path.read_text().splitlines()) <= most


def test_no_wait_can_lose_a_cancellation() -> None:
    """`asyncio.wait_for` of Python 3.11 does, when the end it waits for comes with the
    cancellation; `asyncio.timeout` does not."""
    wrong = [module_of(path) for path in SOURCES if "asyncio.wait_for(" in path.read_text()]
    assert wrong == []


def test_every_reason_stands_in_the_protocol_and_in_the_code() -> None:
    told = {
        name.removeprefix("ERROR_REASON_") for name in list(error_reason_pb2.ErrorReason.keys())
    } - {"UNSPECIFIED"}
    raised = {
        kind.reason
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.ServiceError)
    }
    assert told == raised


@pytest.mark.parametrize("name", ["README.md", "ARCHITECTURE.md"])
def test_the_state_diagram_is_that_of_the_table(name: str) -> None:
    assert diagram() in (ROOT / name).read_text()


def test_what_is_exported_is_there() -> None:
    for name in gateway.__all__:
        assert getattr(gateway, name) is not None


@pytest.mark.parametrize(
    "group",
    [
        "gateway.backends",
        "gateway.authenticators",
        "dask_cli",
        "distributed.comm.backends",
        "dask_cluster_discovery",
    ],
)
def test_entry_points_load(group: str) -> None:
    ours = [
        point
        for point in entry_points(group=group)
        if point.value.startswith(("gateway.", "daskgateway:"))
    ]
    assert ours
    for point in ours:
        assert point.load() is not None


def test_the_stubs_are_those_of_the_protocol() -> None:
    import sys

    done = subprocess.run(
        [sys.executable, "scripts/generate_stubs.py", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_the_client_needs_only_the_light_install_and_what_python_3_10_has() -> None:
    import sys

    light = {
        "grpc",
        "google",
        "daskgateway",
        "gateway",
        "dask",
        "distributed",
        "packaging",  # which Dask needs, as tornado
        "tornado",
        "cryptography",
        "click",
        "rich",
    }
    late = {"ipywidgets", "IPython"}  # imported where they are there
    newer = re.compile(
        r"asyncio\.timeout|asyncio\.Runner|asyncio\.TaskGroup|StrEnum|tomllib|ExceptionGroup|add_note|datetime\.UTC"
    )
    wrong = []
    for path in SOURCES:
        if not module_of(path).startswith(("gateway.client", "gateway.agent")):
            continue
        tops = {name.split(".")[0] for name in imports_of(path)}
        wrong += [
            f"{path.name} imports {top}"
            for top in sorted(tops - light - late)
            if top not in sys.stdlib_module_names
        ]
        wrong += [f"{path.name} uses {found}" for found in newer.findall(path.read_text())]
    assert wrong == []


@pytest.mark.parametrize(
    ("place", "names"),
    {
        "gateway.options": ("Bool", "Field", "Float", "Integer", "Mapped", "Select", "Text"),
        "gateway.server.core.options": (
            "Bool",
            "Field",
            "Float",
            "Integer",
            "Mapped",
            "Select",
            "Text",
        ),
        "gateway.backends.contract": ("Backend", "Launch", "Observation", "Target"),
        "gateway.backends.base": ("BaseBackend",),
        "gateway.backends.local": ("LocalBackend",),
        "gateway.backends.slurm": ("SlurmBackend",),
        "gateway.backends.pbs": ("PbsBackend",),
        "gateway.server.security.authenticator": (
            "Authenticator",
            "AuthenticatorUnavailable",
            "Credentials",
            "IdentityNotTold",
        ),
        "gateway.server.security.password": ("PasswordAuthenticator",),
    }.items(),
)
def test_what_administrators_and_plug_ins_import_stands_where_it_stood(
    place: str, names: tuple[str, ...]
) -> None:
    module = importlib.import_module(place)
    assert [name for name in names if not hasattr(module, name)] == []


def test_the_grpc_surface_is_composed_in_one_place() -> None:
    """What a second composition leaves out, no test would miss."""
    composing = re.compile(r"\bhost\.build\(|\badd_interceptors?\b|grpc\.aio\.server\(")
    files = [*SOURCES, *(ROOT / "tests" / "rpc").rglob("*.py")]
    found = {str(path.relative_to(ROOT)) for path in files if composing.search(path.read_text())}
    assert found == {"gateway/server/rpc/surface.py", "gateway/server/rpc/host.py"}
