"""The program inside each scheduler, by a name that no file of its user hides: Dask imports it as a
preload in the directory where the scheduler runs."""

from __future__ import annotations

from daskgateway import find

find()

from gateway.agent.agent import dask_setup, dask_teardown  # noqa: E402, F401
