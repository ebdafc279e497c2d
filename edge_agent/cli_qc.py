"""`edge-agent qc`: quality control of a file, and an operator's word. As thin as `cli.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edge_agent.console import FILE, NEIGHBOURS, PATH


class _DefaultGroup(click.Group):
    """A group whose arguments belong to one of its commands, `default`, unless they begin with another's name."""

    default = "file"

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = [self.default, *args]
        return super().parse_args(ctx, args)


@click.group(cls=_DefaultGroup)
def qc() -> None:
    """Check a file's values, or overrule a flag.

    \b
    edge-agent qc HISTORY.csv --out FLAGS.csv    as `qc file`
    edge-agent qc overrule ...                   an operator's word against a flag in the store
    """


@qc.command("file")
@click.argument("history", type=FILE)
@click.option("--latitude", type=float, help="Degrees, north positive.")
@click.option("--longitude", type=float, help="Degrees, east positive.")
@click.option("--elevation", type=float, help="Metres above sea level.")
@NEIGHBOURS
@click.option("--forecast/--no-forecast", default=True, show_default=True, help="Also compare with own forecasts.")
@click.option("--out", type=PATH, required=True, metavar="FLAGS.csv", help="The file to write.")
def qc_file(history: Path, **options: Any) -> None:
    """Run quality control on HISTORY.csv (as for `nowcast`): what the agent would have said, and revised, as it came.

    Writes a row for each value that is suspect (3), fails (4) or is missing (9): time, variable, value, flag, the
    deciding test and its reason. Without a position, tests that need one are left out.
    """
    from edge_agent.quality.from_file import qc_command

    qc_command(history, **options)


@qc.command()
@click.option("--config", type=PATH, default=Path("agent.toml"), show_default=True, help="The agent's configuration.")
@click.option("--station", help="Which station, where the configuration has several.")
@click.option("--source", help="Only values of this sensor or import.")
@click.option("--variable", "name", help="Which variable.")
@click.option("--start", help="First time (RFC 3339 with zone, or epoch seconds).")
@click.option("--end", help="Last time.")
@click.option("--flag", type=click.Choice(["good", "suspect", "fail"]), help="What the values are.")
@click.option("--why", help="The reason; it stays on record.")
@click.option("--list", "list_", is_flag=True, help="Print what was overruled so far.")
def overrule(config: Path, list_: bool, **said: Any) -> None:
    """An operator's word against a flag in the store.

    No test changes these flags again; forecasts and exports use them from now on, and receivers hear of it on the topic
    `qc`. A running agent need not be stopped.
    """
    from edge_agent.quality.overrule import list_command, overrule_command

    if list_:
        return list_command(config, said["station"])
    needed = {"name": "--variable", "start": "--start", "end": "--end", "flag": "--flag", "why": "--why"}
    missing = [option for key, option in needed.items() if said[key] is None]
    if missing:
        raise click.UsageError(f"missing {', '.join(missing)}")
    overrule_command(config, **said)
