"""`dask gateway …`: the client's commands, imported when somebody asks for one.

Dask loads what its entry point names in every program that it starts, schedulers and workers too.
Those would import the whole client, which takes 60 ms of a processor each time.
`dask config` alone asks for more than commands: for the keys that have defaults of ours.
"""

from __future__ import annotations

import importlib
import sys

import click

if sys.argv[1:2] == ["config"]:
    importlib.import_module(".calls.settings", __package__)  # which registers them


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_commands())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return _commands().get(cmd_name)


def _commands() -> dict[str, click.Command]:
    from gateway.client.cli import COMMANDS

    return COMMANDS


@click.group("gateway", cls=_Commands)
def gateway() -> None:
    """Dask clusters behind a gateway."""
