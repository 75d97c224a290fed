"""`python -m daskgateway`: the command `daskgateway`, wherever it is started."""

from __future__ import annotations

from daskgateway import find

if __name__ == "__main__":
    find()
    from gateway.__main__ import main

    main(prog_name="daskgateway")
