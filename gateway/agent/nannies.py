"""Refuses plug-ins of nannies where workers have none: Dask itself would keep them and do nothing.

Whether there are nannies the workers show; before there is one, how the cluster's are started.
"""

from __future__ import annotations

import functools
import os
from typing import Any

from gateway import wire

REGISTER = "register_nanny_plugin"
WORDS = (
    "the workers of this cluster run without a nanny, so a plug-in of nannies would do nothing;"
    " ask for workers with one: worker_nanny=True, an option of the cluster if its gateway offers"
    " it, else c.ClusterConfig.worker_nanny of the administrator"
)


def none_there(scheduler: Any) -> bool:
    """Whether no worker has a nanny, or will have one as far as is known."""
    workers = list(scheduler.workers.values())
    if workers:
        return not any(worker.nanny for worker in workers)
    return wire.ENV_WITHOUT_NANNY in os.environ


def guard(scheduler: Any) -> None:
    """Have the scheduler refuse, in words, what would do nothing."""
    register = scheduler.handlers.get(REGISTER)
    if register is None:
        return

    @functools.wraps(register)  # Dask looks at the signature
    async def checked(*args: Any, **kwargs: Any) -> Any:
        if none_there(scheduler):
            raise RuntimeError(WORDS)
        return await register(*args, **kwargs)

    scheduler.handlers[REGISTER] = checked
    # plug-ins of schedulers that bring one for nannies, such as UploadDirectory, call it themselves
    scheduler.register_nanny_plugin = checked
