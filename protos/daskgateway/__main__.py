"""`python -m daskgateway`: the command `daskgateway`, wherever it is started."""

from __future__ import annotations

import sys

from daskgateway import find, hidden_by

if __name__ == "__main__":
    try:
        find()
        from gateway.__main__ import main

        main(prog_name="daskgateway")
    except Exception as error:  # a file of the current directory may be found in a package's place
        if words := hidden_by(error):
            sys.exit(f"daskgateway: {words}")
        raise
