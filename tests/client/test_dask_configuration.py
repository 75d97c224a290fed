"""Keys of Dask's configuration: each is said once, with its default, in a file and on a page that
are made from the code; and each that the code asks for is among them."""

from __future__ import annotations

import pathlib
import re
import subprocess
import sys
from typing import Any

import yaml

from gateway.client.calls import keys
from gateway.client.calls.settings import DEFAULTS

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEFAULT: dict[str, Any] = DEFAULTS["gateway"]
ASKED = re.compile(r"""(?:configured\(|config\.get\(|")["']?gateway\.([a-z.-]+[a-z])["']""")


def test_every_key_has_a_meaning_and_every_meaning_a_key() -> None:
    known = {key for key, _ in keys.leaves(DEFAULT)}
    assert known - set(keys.MEANING) == set()
    assert set(keys.SHORT) <= known


def test_what_is_shipped_and_shown_is_made_from_the_code() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "dask_configuration.py"), "--check"],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_file_says_nothing_as_it_is_and_every_default_without_its_signs() -> None:
    text = keys.yaml(DEFAULT)
    assert yaml.safe_load(text) is None
    begun = text[text.index("# gateway:") :]
    said = yaml.safe_load(re.sub(r"^# ?", "", begun, flags=re.MULTILINE))
    assert said == {"gateway": DEFAULT}


def test_every_key_that_the_code_asks_for_is_on_the_page() -> None:
    asked = set()
    for path in (ROOT / "gateway" / "client").rglob("*.py"):
        asked |= set(ASKED.findall(path.read_text()))
    known = {key for key, _ in keys.leaves(DEFAULT)} | set(DEFAULT) | {"auth", "cluster"}
    # one that has no default is known by its meaning
    assert {name for name in asked if name not in known | set(keys.MEANING)} == set()


def test_dasks_own_command_knows_them() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dask", "config", "get", "gateway.cluster.start-timeout"],
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == str(DEFAULT["cluster"]["start-timeout"])
