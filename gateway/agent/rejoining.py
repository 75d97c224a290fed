"""A worker that a batch system has started again comes back under its name, though the scheduler
may still take its earlier process for living: when a node dies, nobody says goodbye.

Dask refuses a name that is taken, and the worker would end for it; but there is one process of each
name that the gateway gives, and the one that registers is the one that lives.
"""

from __future__ import annotations

import logging
import time
from typing import Any

from gateway import wire

logger = logging.getLogger("distributed.scheduler.daskgateway")

HANDLER = "register-worker"


def let_rejoin(scheduler: Any) -> None:
    """Have a scheduler let go of a worker whose name another process registers with. Names that the
    gateway did not give are left to Dask's own rule."""
    register = scheduler.handlers[HANDLER]

    async def registered(comm: Any, **told: Any) -> Any:
        """Register a worker, in place of an earlier process of its name."""
        name, address = told.get("name"), told.get("address")
        before = scheduler.aliases.get(name) if isinstance(name, str) else None
        if before not in (None, address) and wire.is_instance_name(str(name)):
            logger.info("%s comes back from %s; it is not at %s any more", name, address, before)
            await scheduler.remove_worker(
                before, stimulus_id=f"daskgateway-rejoin-{time.time()}", close=False
            )
        return await register(comm, **told)

    scheduler.handlers[HANDLER] = registered
