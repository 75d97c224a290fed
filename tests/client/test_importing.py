"""Users import `daskgateway`, and a file of theirs called gateway.py does not hide the program: it
is found all the same, or one sentence names the file."""

from __future__ import annotations

import importlib
import pathlib
import re
import subprocess
import sys

import daskgateway
import pytest
import tomllib

import gateway
from gateway import former_names

ROOT = pathlib.Path(__file__).resolve().parents[2]
USES = "from daskgateway import Gateway, GatewayCluster\nprint(GatewayCluster.__module__)\n"


def python(directory: pathlib.Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a directory, as its user does."""
    return subprocess.run(
        [sys.executable, *words], cwd=directory, capture_output=True, text=True, timeout=120
    )


@pytest.fixture
def directory(tmp_path: pathlib.Path) -> pathlib.Path:
    """A user's directory with a gateway.py, which is no concern of ours."""
    (tmp_path / "gateway.py").write_text("def mine():\n    return 1\n")
    return tmp_path


def test_both_packages_have_the_same_names() -> None:
    assert set(daskgateway.__all__) == set(gateway.__all__)
    for name in gateway.__all__:
        assert getattr(daskgateway, name) is getattr(gateway, name), name
        assert name in dir(daskgateway)
    with pytest.raises(AttributeError, match="has no attribute 'Gatway'"):
        getattr(daskgateway, "Gatway")  # noqa: B009


@pytest.mark.parametrize("module", ["daskgateway", "gateway"])
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("GatewayClusterError", "is ClusterFailed of daskgateway.errors"),
        ("GatewayServerError", "is GatewayError, or ServerFailed"),
        ("JupyterHubAuth", 'is auth="jupyterhub"'),
        ("ClusterStatus", "is ClusterState"),
    ],
)
def test_a_name_of_dask_gateways_client_is_told_by_its_name_here(
    tmp_path: pathlib.Path, module: str, name: str, words: str
) -> None:
    ended = python(tmp_path, "-c", f"from {module} import Gateway, {name}")
    last = ended.stderr.splitlines()[-1]
    assert last.startswith(f"ImportError: daskgateway has no {name}: dask-gateway's {name} is")
    assert words in last


def test_errors_of_such_hints_exist() -> None:
    from gateway.client.calls import errors

    for words in former_names.CLIENT.values():
        for name in re.findall(r"\b[A-Z]\w+(?:Failed|Error)\b", words):
            assert hasattr(errors, name)


def test_errors_have_a_place_there_too() -> None:
    from daskgateway.errors import ClusterNotFound

    from gateway.client.calls import errors

    assert ClusterNotFound is errors.ClusterNotFound


def test_what_entry_points_name_is_there() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = dict(project["entry-points"])
    groups["console_scripts"] = project["scripts"]
    for group in ("console_scripts", "dask_cli", "distributed.comm.backends"):
        for target in groups[group].values():
            module, _, name = target.partition(":")
            assert module == "daskgateway", (group, target)
            assert callable(getattr(importlib.import_module(module), name))
    assert groups["dask_cluster_discovery"] == {"gateway": "daskgateway:discover"}


def test_importing_it_imports_nothing_else(tmp_path: pathlib.Path) -> None:
    heavy = "import daskgateway, sys; print([m for m in ('gateway', 'grpc', 'distributed') if m in"
    ended = python(tmp_path, "-c", f"{heavy} sys.modules])")
    assert (ended.stdout, ended.stderr) == ("[]\n", "")


STARTED = """
import sys
from dask.cli import run_cli
sys.argv = ["dask", *{words}]
try:
    run_cli()
finally:
    print("ours:", *sorted(name for name in sys.modules if name.startswith("gateway.")))
"""


@pytest.mark.parametrize("program", ["scheduler", "worker"])
def test_a_program_of_dask_imports_nothing_of_the_client(
    tmp_path: pathlib.Path, program: str
) -> None:
    """It imports what its entry points name, whether or not it is asked for."""
    ended = python(tmp_path, "-c", STARTED.format(words=[program, "--help"]))
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[-1] == "ours: gateway.client gateway.client.dask_command"


def test_dask_gateway_has_the_clients_commands(tmp_path: pathlib.Path) -> None:
    from gateway.client.cli import COMMANDS

    told = python(tmp_path, "-m", "dask", "gateway", "--help").stdout
    assert re.findall(r"^  ([a-z][a-z-]*) ", told, re.M) == sorted(COMMANDS)
    ended = python(tmp_path, "-m", "dask", "gateway", "nosuch")
    assert ended.returncode == 2
    assert "No such command 'nosuch'" in ended.stderr
    assert python(tmp_path, "-m", "dask", "gateway", "clusters", "--help").returncode == 0


def test_a_first_script_called_gateway_works(tmp_path: pathlib.Path) -> None:
    (tmp_path / "gateway.py").write_text(USES)
    ended = python(tmp_path, "gateway.py")
    assert (ended.returncode, ended.stdout) == (0, "gateway.client.dask.cluster\n"), ended.stderr


@pytest.mark.parametrize("kind", ["file", "package", "folder"])
def test_another_thing_called_gateway_does_not_hide_ours(tmp_path: pathlib.Path, kind: str) -> None:
    if kind == "file":
        (tmp_path / "gateway.py").write_text("raise RuntimeError('it was run')\n")
    else:
        (tmp_path / "gateway").mkdir()
        if kind == "package":
            (tmp_path / "gateway" / "__init__.py").write_text("raise RuntimeError('it was run')\n")
    (tmp_path / "main.py").write_text(USES)
    for words in (["main.py"], ["-c", USES], ["-m", "main"]):
        ended = python(tmp_path, *words)
        assert ended.stdout == "gateway.client.dask.cluster\n", ended.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["-m", "daskgateway", "--version"],
        ["-m", "daskgateway", "clusters", "--help"],
        ["-m", "dask", "gateway", "clusters", "--help"],
        ["-m", "dask", "--help"],
        ["-c", "import daskgateway.agent"],
        ["-c", "from distributed.comm.registry import get_backend as g; g('dgw').get_connector()"],
        ["-c", "from daskgateway.errors import ClusterNotFound"],
    ],
    ids=" ".join,
)
def test_no_command_stumbles_over_it(directory: pathlib.Path, words: list[str]) -> None:
    ended = python(directory, *words)
    assert ended.returncode == 0, ended.stderr
    assert "exception" not in ended.stdout + ended.stderr
    assert ended.stderr == ""


def test_a_file_that_was_imported_before_is_named_in_one_sentence(directory: pathlib.Path) -> None:
    ended = python(directory, "-c", "import gateway\nfrom daskgateway import GatewayCluster\n")
    last = ended.stderr.splitlines()[-1]
    assert last.startswith(f"ImportError: {directory}/gateway.py is called `gateway`")
    assert last.endswith("give that file another name")


def test_a_file_that_ours_hides_is_named_in_one_sentence(directory: pathlib.Path) -> None:
    program = "import daskgateway\ndaskgateway.Gateway\nimport gateway\ngateway.mine()\n"
    ended = python(directory, "-c", program)
    last = ended.stderr.splitlines()[-1]
    assert last.startswith("AttributeError: module 'gateway' has no attribute 'mine'; this is the")
    assert last.endswith(f"which hides {directory}/gateway.py: give that file another name")


def hides(path: pathlib.Path, name: str, kind: str = "file") -> str:
    """Return the sentence about a file."""
    return f"{path} hides the package {name} from daskgateway: give that {kind} another name"


NAMES = ("dask", "grpc", "distributed", "yaml", "google", "cryptography", "packaging")


# what these need in their turn, and Python's own, too
@pytest.mark.parametrize("name", [*NAMES, "tornado", "psutil", "queue", "json"])
def test_a_file_called_as_a_package_that_we_need_is_named_in_one_sentence(
    tmp_path: pathlib.Path, name: str
) -> None:
    (tmp_path / f"{name}.py").write_text("")
    (tmp_path / "main.py").write_text(USES)
    ended = python(tmp_path, "main.py")
    last = ended.stderr.splitlines()[-1]
    assert last == f"ImportError: {hides(tmp_path / f'{name}.py', name)}"


@pytest.mark.parametrize("name", [*NAMES, "click", "rich", "random", "signal"])
def test_a_script_called_as_a_package_that_we_need_is_named_in_one_sentence(
    tmp_path: pathlib.Path, name: str
) -> None:
    (tmp_path / f"{name}.py").write_text(USES)
    ended = python(tmp_path, f"{name}.py")
    last = ended.stderr.splitlines()[-1]
    assert last == f"ImportError: {hides(tmp_path / f'{name}.py', name)}"


@pytest.mark.parametrize("name", ["yaml", "grpc", "email"])
def test_so_is_a_folder(tmp_path: pathlib.Path, name: str) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text("")
    ended = python(tmp_path, "-c", USES)
    last = ended.stderr.splitlines()[-1]
    assert last == f"ImportError: {hides(tmp_path / name, name, 'folder')}"


@pytest.mark.parametrize("text", ["print 'of another Python'", "raise RuntimeError('it was run')"])
def test_so_is_a_file_that_fails_itself_and_one_of_the_search_path(
    tmp_path: pathlib.Path, text: str
) -> None:
    tools, here = tmp_path / "tools", tmp_path / "here"
    tools.mkdir()
    here.mkdir()
    (tools / "yaml.py").write_text(text)
    words = f"import sys; sys.path.insert(1, {str(tools)!r})\n{USES}"
    ended = python(here, "-c", words)
    last = ended.stderr.splitlines()[-1]
    assert last == f"ImportError: {hides(tools / 'yaml.py', 'yaml')}"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("click", ["-m", "daskgateway", "--version"]),
        ("yaml", ["-m", "daskgateway", "clusters", "list"]),
        ("google", ["-c", "from daskgateway.errors import ClusterNotFound"]),
        ("grpc", ["-c", "from daskgateway import AsyncGateway"]),
        ("distributed", ["-c", "from daskgateway import GatewayBackend"]),
    ],
)
def test_so_it_is_whichever_way_ours_is_entered(
    tmp_path: pathlib.Path, name: str, words: list[str]
) -> None:
    (tmp_path / f"{name}.py").write_text("")
    ended = python(tmp_path, *words)
    assert ended.returncode
    assert ended.stderr.splitlines()[-1].partition(": ")[2] == hides(tmp_path / f"{name}.py", name)


def test_files_that_are_in_nobodys_way_are_not_blamed(tmp_path: pathlib.Path) -> None:
    """A program that is no module, a copy of a package that somebody works on, names that are used
    only elsewhere; and what fails beside such files says itself why."""
    copy = tmp_path / "msgpack"
    copy.mkdir()
    home = pathlib.Path(importlib.import_module("msgpack").__file__ or "").parent
    for path in home.iterdir():
        if path.is_file():
            (copy / path.name).write_bytes(path.read_bytes())
    for name in ("click", "rich", "test", "this", "IPython"):
        (tmp_path / f"{name}.py").write_text("")
    (tmp_path / "dask").write_text(USES)
    ended = python(tmp_path, "dask")
    assert ended.stdout == "gateway.client.dask.cluster\n", ended.stderr
    missing = "import sys, test, msgpack; sys.modules['grpc'] = None\n"
    ended = python(tmp_path, "-c", missing + USES)
    assert ended.stderr.splitlines()[-1].startswith("ModuleNotFoundError: import of grpc halted")
