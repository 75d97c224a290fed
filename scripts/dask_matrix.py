"""Run the main job end to end with the oldest Dask that is supported; `make test` runs it with the
newest.

The versions go into a virtual environment of their own, `.venv-dask` beside this one.
"""

from __future__ import annotations

import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
OLDEST = ("dask==2024.11.*", "distributed==2024.11.*")
TESTS = ("tests/e2e/test_main_job.py", "tests/client")


def main() -> int:
    home = ROOT / ".venv-dask"
    python = home / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
    install = [
        str(python),
        "-m",
        "pip",
        "--disable-pip-version-check",
        "-q",
        "install",
        "-e",
        f"{ROOT}[test]",
        *OLDEST,
    ]
    subprocess.run(install, check=True)
    return subprocess.run(
        [str(python), "-m", "pytest", "-q", "-n", "2", "--dist", "loadfile", *TESTS], cwd=ROOT
    ).returncode


if __name__ == "__main__":
    sys.exit(main())
