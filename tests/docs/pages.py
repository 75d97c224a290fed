"""A page of the documents as a reader follows it: its blocks, and its commands run."""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
import textwrap

from tests.docs.test_commands import ROOT

WITHIN_S = 240.0


def blocks(page: str, kind: str) -> list[str]:
    """Return the blocks of a kind of a page, in their order."""
    text = (ROOT / "docs" / f"{page}.md").read_text()
    found = re.findall(rf"^( *)```{re.escape(kind)}\n(.*?)^\1```$", text, re.M | re.S)
    return [textwrap.dedent(block) for _, block in found]


def run(script: str, place: pathlib.Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a block's commands one after the other."""
    commands = "\n".join(re.sub(r"^[$#] ", "", line) for line in script.splitlines())
    return subprocess.run(
        ["bash", "-c", f"set -eu\n{commands}"],
        cwd=place,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        stdin=subprocess.DEVNULL,
        check=False,
    )
