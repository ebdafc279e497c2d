"""History in and out of the store as HISTORY.csv: `edge-agent import` and `edge-agent export`.

Imported rows pass quality control like live ones, but are never published: receivers of live data did not ask for an
archive. Must not invent values: what `history` completed from others is not kept as if it had been measured.
"""

from __future__ import annotations

import csv
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import groupby
from pathlib import Path
from typing import TextIO

import click
import msgspec
import numpy as np

from edge_agent import grid
from edge_agent.acceptance import DESTINATIONS
from edge_agent.clock import SystemClock, format_time, parse_time
from edge_agent.config import Config, Sensor, Station, load
from edge_agent.config_values import value_problem
from edge_agent.console import keep_inputs, progress
from edge_agent.errors import ConfigError, DataError
from edge_agent.history import History, completed, read_history
from edge_agent.observation import Flag, Judged, Observation
from edge_agent.quality import QualityControl
from edge_agent.store import Store
from edge_agent.store.cells import WORST_RANK, step_of
from edge_agent.variables import VARIABLES

BATCH_ROWS = 5000  # of one commit
PATIENCE_S = 600.0  # of a command with a running agent that is busy: it commits at its next turn of the loop
FIRST_RANK = 250  # of imported sources: behind every live one, an earlier import before a later one
SOURCES_KEY = "imported-sources:"  # in the store, followed by the station

Judge = Callable[[Observation], Judged]


@dataclass(slots=True)
class Imported:
    """What became of the rows: `new`; `duplicate`: nothing in them was new; `empty`: without a value. `other`: rows of
    which the store has other values, which stay. `flagged`: values of new rows that quality control doubts, by
    verdict."""

    new: int = 0
    duplicate: int = 0
    empty: int = 0
    other: int = 0
    flagged: Counter[str] = field(default_factory=Counter)


def import_command(history: Path, config: Path, station: str | None, source: str, publish: bool = False) -> None:
    """`edge-agent import`.

    Raises:
        ConfigError: the configuration, no such station, or `source` is none or a sensor's name.
        DataError: the file; StoreError: the store.
    """
    settings = load(config)
    where = station_of(settings, station)
    if problem := value_problem(Sensor, "name", source):
        raise ConfigError(f"--source {problem}")
    if source in {sensor.name for sensor in settings.sensor}:
        raise ConfigError(f'--source "{source}" is the name of a sensor: choose another one, its rows stay apart')
    series = read_history(history, limits=False)  # limits are for quality control to judge
    for warning in series.warnings:
        click.echo(f"warning: {warning}", err=True)
    judge = QualityControl([where]).judge  # its neighbours' past does not come with it
    with open_store(settings) as store, progress(len(series.times), "importing") as advance:
        done = import_history(store, series, where.id, source, judge, advance, DESTINATIONS if publish else ())
    click.echo(f"{history}: {len(series.times)} rows for station {where.id}, source {source}: {_told(done)}")
    if done.new and settings.forecast.adapt:
        click.echo("`edge-agent adaptation learn` lets the forecasts learn from it")
    old = int(np.count_nonzero(series.times < series.times[-1] - settings.store.keep_days * 86_400))
    if old:
        click.echo(
            f"{old} rows lie more than {settings.store.keep_days} days before the last one: a running agent deletes "
            "raw rows older than [store] keep_days"
        )


def import_history(
    store: Store,
    history: History,
    station: str,
    source: str,
    judge: Judge,
    advance: Callable[[int], None] = lambda rows: None,
    destinations: Sequence[str] = (),
) -> Imported:
    """Add a history to the store under a source of its own, ranked behind every live one; a row that is there already
    changes nothing. Commits every 5,000 rows; a running agent takes turns with it.

    Args:
        judge: quality control; sees the rows in order of time.
        advance: told how many rows more are done.
        destinations: for which new rows are queued, as history.
    """
    rank = _rank(store, station, source)
    done = Imported()
    rows = _rows(history, station, source, rank)
    n = BATCH_ROWS
    while n == BATCH_ROWS:
        n = _add_batch(store, rows, judge, done, destinations)
        store.commit()  # whoever waits to write is let in before the next batch
        advance(n)
    return done


def export_command(
    config: Path, station: str | None, start: str | None, end: str | None, flags: bool, out: Path | None
) -> None:
    """`edge-agent export`.

    Raises:
        ConfigError: the configuration, no such station, or `out` is the store or the configuration itself.
        DataError: a time that is none, nothing to export, or nowhere to write it; StoreError: the store.
    """
    if out is None and sys.stdout is None:
        raise DataError("standard output is closed: name a file with --out")
    settings = load(config)
    store_file = Path(settings.store.path)
    keep_inputs("--out", out, config, store_file, store_file.with_name(f"{store_file.name}-wal"))
    where = station_of(settings, station)
    first, last = (None if text is None else parse_time(text) for text in (start, end))
    with open_store(settings, read_only=True) as store:
        rows = export_rows(store, where.id, first, last, flags=flags)
        if out is None:
            _write(rows, sys.stdout)
            return
        try:
            with out.open("w", encoding="utf-8", newline="") as file:
                n = _write(rows, file)
        except OSError as error:
            raise DataError(f"{out}: cannot be written: {error.strerror}") from error
    click.echo(f"{out}: {n} rows of station {where.id}", err=True)


def export_rows(
    store: Store, station: str, start: int | None, end: int | None, *, flags: bool = False
) -> Iterator[list[str]]:
    """A station's observations as the lines of a HISTORY.csv, header first; `start` <= t <= `end`.

    Values are those measured, whatever their flag. Where several sources measured a variable in the same 15 minutes,
    the best one's values stand, as on the grid. `flags`: a column `<variable>_flag` follows each variable.

    Raises:
        DataError: there is nothing in that time.
    """
    names = [name for name in VARIABLES if name in store.newest(station)]
    steps = groupby(store.observations(station, start, end), key=lambda judged: step_of(judged.observation.t))
    first = next(steps, None)
    if first is None:
        raise DataError(f"station {station}: no observations in that time: `edge-agent status` shows the newest ones")
    yield ["time", *(column for name in names for column in ([name, f"{name}_flag"] if flags else [name]))]
    yield from _lines(list(first[1]), names, flags)
    for _, judged in steps:
        yield from _lines(list(judged), names, flags)


def station_of(config: Config, wanted: str | None) -> Station:
    """The station of that id; without one, the only station.

    Raises:
        ConfigError: no such station, or several and none was named.
    """
    ids = [station.id for station in config.stations]
    if wanted is None:
        if len(ids) > 1:
            raise ConfigError(f"--station is needed: the configuration has {', '.join(ids)}")
        return config.stations[0]
    if wanted not in ids:
        near = get_close_matches(wanted, ids, n=1)
        hint = f' (did you mean "{near[0]}"?)' if near else f"; there are {', '.join(ids)}"
        raise ConfigError(f'--station: no station "{wanted}"{hint}')
    return config.stations[ids.index(wanted)]


def open_store(config: Config, *, read_only: bool = False) -> Store:
    """The store a configuration names. Raises StoreError as `Store.open`."""
    section = config.store
    return Store.open(
        section.path,
        keep_days=section.keep_days,
        outbox_mb=section.outbox_mb,
        read_only=read_only,
        patience_s=PATIENCE_S,
    )


def _add_batch(
    store: Store, rows: Iterator[Observation | None], judge: Judge, done: Imported, destinations: Sequence[str]
) -> int:
    """Add up to `BATCH_ROWS` rows; how many were taken."""
    taken = 0
    for observation in rows:
        taken += 1
        if observation is None:
            done.empty += 1
        else:
            judged = judge(observation)
            fate = store.add(judged, destinations)
            done.other += bool(fate.other)
            if fate:
                done.new += 1
                done.flagged.update(v.flag.name.lower() for v in judged.verdicts.values() if v.flag >= Flag.SUSPECT)
                for revision in judged.revisions:
                    before = store.revise(revision, SystemClock().now(), publish=False)
                    done.flagged[revision.verdict.flag.name.lower()] += before[Flag.GOOD] + before[Flag.NOT_EVALUATED]
            else:
                done.duplicate += 1
        if taken == BATCH_ROWS:
            break
    return taken


def _rows(history: History, station: str, source: str, rank: int) -> Iterator[Observation | None]:
    """Each row as an observation, None for one without a value. The same row has the same id at every import."""
    columns = {name: column for name, column in history.values.items() if not completed(name, history)}
    after_gap, spacing = grid.gathered(history.times), np.diff(history.times, prepend=history.times[:1])
    for i, t in enumerate(history.times.tolist()):
        values = {name: float(column[i]) for name, column in columns.items() if not np.isnan(column[i])}
        if not values:
            yield None
            continue
        boot_id = f"import-{station}"
        gathered_s = int(spacing[i]) if after_gap[i] else None
        yield Observation(station, source, t, values, boot_id, seq=t, historical=True, rank=rank, gathered_s=gathered_s)


def _rank(store: Store, station: str, source: str) -> int:
    """The rank of an imported source: its place among the station's, so that two imports of the same time never add."""
    key = SOURCES_KEY + station
    text = store.get(key)
    sources = msgspec.json.decode(text, type=list[str]) if text else []
    if source not in sources:
        sources.append(source)
        store.set(key, msgspec.json.encode(sources).decode())
    return min(FIRST_RANK + sources.index(source), WORST_RANK)


def _lines(step: list[Judged], names: list[str], flags: bool) -> Iterator[list[str]]:
    """The observations of one grid step as rows, one for each time."""
    best: dict[str, int] = {}
    for judged in step:
        for name in judged.observation.values:
            best[name] = min(judged.observation.rank, best.get(name, judged.observation.rank))
    for t, same in groupby(step, key=lambda judged: judged.observation.t):
        cells: dict[str, tuple[str, str]] = {}
        for judged in same:
            for name, value in judged.observation.values.items():
                if judged.observation.rank == best[name] and name not in cells:
                    cells[name] = ("" if np.isnan(value) else repr(value), str(int(judged.verdicts[name].flag)))
        if cells:
            row = [cells.get(name, ("", "")) for name in names]
            yield [format_time(t), *(text for cell in row for text in (cell if flags else cell[:1]))]


def _write(rows: Iterable[list[str]], file: TextIO) -> int:
    """Write the lines; how many, without the header."""
    writer = csv.writer(file, lineterminator="\n")
    n = -1
    for row in rows:
        writer.writerow(row)
        n += 1
    return n


def _told(done: Imported) -> str:
    words = [f"{done.new} new", f"{done.duplicate} there already"]
    if done.other:
        words.append(f"{done.other} of which the store has other values, which stay")
    if done.empty:
        words.append(f"{done.empty} without a value")
    flagged = ", ".join(f"{n} {flag}" for flag, n in sorted(done.flagged.items()))
    return ", ".join(words) + f"; values flagged in new rows: {flagged or 'none'}"
