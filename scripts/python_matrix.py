"""Run the main job, on local processes and on YARN, under the newest Python that is here; `make
test` runs it under the Python of the environment.

The packages go into a virtual environment of their own, `.venv-newest` beside this one.
"""

from __future__ import annotations

import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
TESTS = ("tests/e2e/test_main_job.py", "tests/e2e/test_yarn.py")


def main() -> int:
    sys.path.insert(0, str(ROOT))
    from tests.parts.newest_python import VERSIONS, newest

    command = newest()
    if not command:
        print(f"none of Python {', '.join(VERSIONS)} is here: the main job was not tried under it")
        return 0
    home = ROOT / ".venv-newest"
    python = home / "bin" / "python"
    if not python.exists():
        subprocess.run([command, "-m", "venv", str(home)], check=True)
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "-q"]
    subprocess.run([*pip, "install", "-e", f"{ROOT}[test]"], check=True)
    subprocess.run([str(python), "--version"], check=True)
    return subprocess.run(
        [str(python), "-m", "pytest", "-q", "-n", "2", "--dist", "loadfile", *TESTS], cwd=ROOT
    ).returncode


if __name__ == "__main__":
    sys.exit(main())
