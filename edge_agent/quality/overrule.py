"""`edge-agent qc overrule`: an operator's word against a flag, in the store, on record."""

from __future__ import annotations

from pathlib import Path

import click

from edge_agent.clock import SystemClock, format_time
from edge_agent.config import load
from edge_agent.errors import ConfigError, DataError
from edge_agent.forecast.from_file import given_time
from edge_agent.observation import Flag, Revision, Verdict
from edge_agent.store import Store
from edge_agent.store.revisions import OPERATOR, Recorded
from edge_agent.transfer import open_store, station_of
from edge_agent.variables import variable

FLAGS = {"good": Flag.GOOD, "suspect": Flag.SUSPECT, "fail": Flag.FAIL}
MAX_WHY = 400


def overrule_command(
    config: Path,
    station: str | None,
    source: str | None,
    name: str,
    start: str,
    end: str,
    flag: str,
    why: str,
) -> None:
    """`edge-agent qc overrule`: give the values of a variable in a span another flag.

    Raises:
        ConfigError: the configuration, no such station, variable or source, or no reason.
        DataError: no values there; StoreError: the store.
    """
    settings = load(config)
    where = station_of(settings, station)
    variable(name)
    first, last = given_time("--start", start), given_time("--end", end)
    assert first is not None and last is not None  # both are required
    if last < first:
        raise ConfigError("--end lies before --start")
    if not why.strip():
        raise ConfigError("--why must say why: it stays on record")
    verdict = Verdict(FLAGS[flag], OPERATOR, why.strip()[:MAX_WHY])
    with open_store(settings) as store:
        changed = 0
        for one in _sources(store, where.id, source):
            revision = Revision(where.id, one, name, first, last, verdict)
            changed += store.revise(revision, SystemClock().now()).total()
        if not changed:
            span = f"{format_time(first)} to {format_time(last)}"
            raise DataError(f"station {where.id}: no value of {name} from {span} that has another flag")
        store.commit()
    click.echo(f"{changed} values of {name} are {flag} now, by your word: {verdict.why}")


def list_command(config: Path, station: str | None) -> None:
    """`edge-agent qc overrule --list`: what operators said, oldest first. Raises as `overrule_command`."""
    settings = load(config)
    where = station_of(settings, station) if station is not None else None
    with open_store(settings, read_only=True) as store:
        rows = store.revisions(where.id if where else None, by_operator=True)
    for row in rows:
        click.echo(told(row))
    if not rows:
        click.echo("no flag was overruled")


def told(row: Recorded) -> str:
    """One line on an overruled flag."""
    r = row.revision
    span = f"{format_time(r.start)} to {format_time(r.end)}"
    what = f"{r.verdict.flag.name.lower()}, {row.rows} values: {r.verdict.why}"
    return "  ".join((format_time(row.made), r.station, r.source, r.variable, span, what))


def _sources(store: Store, station: str, wanted: str | None) -> list[str]:
    there = store.sources(station)
    if wanted is None:
        return there
    if wanted not in there:
        raise ConfigError(f'--source: no source "{wanted}"; there are {", ".join(there) or "none"}')
    return [wanted]
