"""The server, killed at a chosen point: `DASKGATEWAY_TEST_FAILPOINT=start.after` is right after the
local backend has started something."""

from __future__ import annotations

import os
import signal
from typing import Any

from gateway.__main__ import main
from gateway.backends.local.backend import LocalBackend

CALL, _, WHEN = os.environ["DASKGATEWAY_TEST_FAILPOINT"].partition(".")
done = getattr(LocalBackend, CALL)


async def killed(self: LocalBackend, subject: Any) -> Any:
    """Do it, or not, and end without a warning."""
    if WHEN == "after":
        await done(self, subject)
    os.kill(os.getpid(), signal.SIGKILL)


setattr(LocalBackend, CALL, killed)
main(prog_name="daskgateway")
