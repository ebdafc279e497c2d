"""What the commands of the agent and of the factory share: kinds of paths, and how an error is told. No logic."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edge_agent.errors import StationcastError

PATH = click.Path(path_type=Path)
FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)
FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


class Group(click.Group):
    """Prints errors a user can act on without a traceback, behind the program's name, and exits with 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except StationcastError as error:
            click.echo(f"{self.name}: {error}", err=True)
            ctx.exit(1)
