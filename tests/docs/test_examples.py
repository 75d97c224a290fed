"""Every Python example of README and docs: programs are run against a real gateway, configurations
are read as the server reads them."""

from __future__ import annotations

import pathlib
import re
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import entry_points

import pytest

from gateway import configfile
from gateway.authenticators.password import hash_password
from gateway.server.boot.settings import known_classes
from tests.e2e.gateway_process import PASSWORD, GatewayProcess

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(
    r"^(?:<!-- not run: (?P<why>[^\n]+) -->\n)?```python\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
OF_CONFIGURATION = re.compile(r"^(c\.|c = get_config\(\))", re.MULTILINE)


@dataclass(frozen=True)
class Example:
    """A block of Python in a document."""

    place: str
    code: str
    why_not: str

    @property
    def configures(self) -> bool:
        """Whether it belongs into a configuration file."""
        return OF_CONFIGURATION.search(self.code) is not None


def examples() -> list[Example]:
    """Return every example, with where it stands."""
    found = []
    for page in PAGES:
        text = page.read_text()
        for match in BLOCK.finditer(text):
            line = text.count("\n", 0, match.start("code"))
            found.append(
                Example(f"{page.relative_to(ROOT)}:{line}", match["code"], match["why"] or "")
            )
    return found


def of_kind(*, configures: bool) -> list[Example]:
    """Return the examples that are run, of one kind."""
    return [one for one in examples() if not one.why_not and one.configures == configures]


def test_there_are_examples_of_each_kind() -> None:
    assert len(of_kind(configures=False)) > 5
    assert len(of_kind(configures=True)) > 5


@pytest.mark.timeout(180)
@pytest.mark.parametrize("example", of_kind(configures=False), ids=lambda one: one.place)
def test_a_program_runs(example: Example, served: GatewayProcess, tmp_path: pathlib.Path) -> None:
    """Addresses and passwords that stand for the reader's own are those of the gateway here."""
    code = example.code.replace("https://dask.example.org", served.address).replace(
        '"…"', repr(PASSWORD)
    )
    words = [
        sys.executable,
        "-W",
        "error::ResourceWarning",
        "-W",
        "error::RuntimeWarning",
        "-c",
        code,
    ]
    done = subprocess.run(
        words, cwd=tmp_path, env=served.environment(), capture_output=True, text=True, timeout=150
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr, done.stderr


@pytest.mark.parametrize("example", of_kind(configures=True), ids=lambda one: one.place)
def test_a_configuration_has_only_names_and_values_that_there_are(
    example: Example, tmp_path: pathlib.Path
) -> None:
    path = tmp_path / "daskgateway_config.py"
    # which stands for the reader's own
    code = example.code.replace("scrypt$16384$8$1$…", hash_password(PASSWORD))
    path.write_text(("" if "get_config()" in code else "c = get_config()\n") + code)
    backends = [
        point.name
        for point in entry_points(group="gateway.backends")
        if point.value.startswith("gateway.")
    ]
    known = known_classes(configfile.from_words([f"--DaskGateway.backends={backends!r}"]))
    configfile.check(configfile.load(str(path)), known)
