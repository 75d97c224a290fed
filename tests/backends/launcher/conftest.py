"""Where the launcher is installed."""

from __future__ import annotations

import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator

import pytest

from gateway.backends import as_user
from tests.backends.launcher.asking import (
    ALICE,
    BOB,
    SHOWS,
    owned,
)
from tests.parts import executable, missing


@pytest.fixture
def place() -> Iterator[pathlib.Path]:
    """Root's directory, which everybody may look into: the launcher is in it, its configuration,
    commands, and homes."""
    if os.geteuid() != 0:
        missing("root", "sudo make test (the launcher is run as users)")
    directory = pathlib.Path(tempfile.mkdtemp(prefix="launcher-"))
    directory.chmod(0o755)
    for name in ("etc", "bin", "home", "shared"):
        (directory / name).mkdir(mode=0o755)
    for name in as_user.COMMANDS:
        executable(directory / "bin" / name, SHOWS)
    (directory / "etc" / "as-user.path").write_text(f"{directory}/bin\n")
    text = pathlib.Path(as_user.__file__).read_text()
    text = text.replace(f'CONFIG = "{as_user.CONFIG}"', f'CONFIG = "{directory}/etc/as-user.path"')
    (directory / "as_user.py").write_text(text)
    for user in (ALICE, BOB):
        owned(directory / "home" / user, user, 0o700)
    (directory / "shared").chmod(0o1777)
    yield directory
    shutil.rmtree(directory)
