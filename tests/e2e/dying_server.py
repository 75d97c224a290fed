"""The server, killed while it starts its edge: `DASKGATEWAY_TEST_FAILPOINT` is `told` or `ready`,
of the edge.

`told`: right after the edge was told its settings. `ready`: right after the edge has said that it
listens, before that is written down.
"""

from __future__ import annotations

import os
import signal
from typing import Any

from gateway import processes
from gateway.__main__ import main

WHEN = os.environ["DASKGATEWAY_TEST_FAILPOINT"]
heard = processes.read_line


async def killed(descriptor: int) -> Any:
    """Hear what the edge says, or not, and end without a warning."""
    if WHEN == "ready":
        said = await heard(descriptor)
        assert said.startswith("ready ")
        print(said, end="", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


processes.read_line = killed
main(prog_name="daskgateway")
