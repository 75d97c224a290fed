"""Writes what users read of the client's keys in Dask's configuration, out of the code:
`gateway/gateway.yaml` and `docs/reference/dask-configuration.md`. `--check`: says whether they are
as they would be written."""

from __future__ import annotations

import pathlib
import sys

from gateway.client.calls import keys
from gateway.client.calls.settings import DEFAULTS

ROOT = pathlib.Path(__file__).resolve().parents[1]


def made() -> dict[pathlib.Path, str]:
    """Return the files with what they are to hold."""
    defaults = DEFAULTS["gateway"]
    return {
        ROOT / "gateway" / "gateway.yaml": keys.yaml(defaults),
        ROOT / "docs" / "reference" / "dask-configuration.md": keys.page(defaults),
    }


def main() -> int:
    """Write them, or compare."""
    for path, text in made().items():
        if "--check" not in sys.argv[1:]:
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            print(f"{path.relative_to(ROOT)}: run python scripts/dask_configuration.py")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
