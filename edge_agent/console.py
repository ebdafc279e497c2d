"""What the commands of the agent and of the factory share at the terminal: kinds of paths, errors in words, a standard
output that may be full or closed, files to keep.

Never hides a fault of ours: only errors a user can act on lose their traceback.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import click

from edge_agent.errors import ConfigError, StationcastError

# Other files are named in their errors, which become a StationcastError where they are opened and written.
_OUTPUT = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EPIPE})

PATH = click.Path(path_type=Path)
FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)
FILE = click.Path(path_type=Path, exists=True, dir_okay=False)

NEIGHBOURS = click.option(
    "--neighbours",
    type=FOLDER,
    metavar="DIR",
    help="stations.csv (station,latitude,longitude,elevation) and a HISTORY.csv for each, <station>.csv.",
)


def keep_inputs(option: str, out: Path | None, *inputs: Path | None) -> None:
    """Before anything is written: what a command reads is not what it writes over.

    Raises:
        ConfigError: `out` is one of the inputs, by whatever name.
    """
    if out is not None and out.exists() and any(path and path.exists() and out.samefile(path) for path in inputs):
        raise ConfigError(f"{option} {out}: this command reads that file: name another one")


def tell(warnings: Iterable[str]) -> None:
    """Warnings go to standard error: what is printed stays clean."""
    for warning in warnings:
        click.echo(f"warning: {warning}", err=True)


@contextmanager
def progress(length: int, label: str) -> Iterator[Callable[[int], None]]:
    """A progress bar where somebody watches: on a terminal, on standard error. Told how many more are done."""
    if not sys.stderr.isatty():
        yield lambda done: None
        return
    with click.progressbar(length=length, label=label, file=sys.stderr) as bar:
        yield bar.update


class Group(click.Group):
    """Commands that end with 1 and one line on standard error, behind the group's name, where they cannot do their
    work, and without a word where nobody reads on (`| head`)."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except StationcastError as error:
            click.echo(f"{self.name}: {error}", err=True)
            ctx.exit(1)

    def main(self, *args: Any, **more: Any) -> Any:
        try:
            return self._to_the_last_byte(*args, **more)
        except OSError as error:
            if error.filename is not None or error.errno not in _OUTPUT:
                raise
            self._without_output(error)

    def _to_the_last_byte(self, *args: Any, **more: Any) -> Any:
        """What is printed without a flush fails here, and not when the interpreter ends."""
        try:
            return super().main(*args, **more)
        finally:
            if sys.stdout is not None:  # None: it was closed before we began
                sys.stdout.flush()

    def _without_output(self, error: OSError) -> NoReturn:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is still held must not fail once more
        if error.errno != errno.EPIPE:
            click.echo(f"{self.name}: standard output: {error.strerror}: what was printed is not whole", err=True)
        sys.exit(1)
