"""Hindcast: "would this have worked at my station?" Every forecast a recorded series allows, beside what came.

Only readings up to an origin reach its forecast; what came after is looked at for scores alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from edge_agent import grid
from edge_agent.adaptation import cycle
from edge_agent.adaptation.learner import Learner
from edge_agent.clock import format_time
from edge_agent.config import Station
from edge_agent.console import keep_inputs, progress, tell
from edge_agent.errors import ConfigError, DataError
from edge_agent.forecast import MIN_HISTORY_S, chances, persistence
from edge_agent.forecast.baselines import BASELINES
from edge_agent.forecast.fan import Fan, fans_of
from edge_agent.forecast.from_file import check_readings, given_station, given_time, load_nowcaster
from edge_agent.forecast.near import Around, Beside, near_of
from edge_agent.forecast.nowcast import Batch, Nowcaster, site_of
from edge_agent.forecast.rows import ForecastWriter
from edge_agent.forecast.skill import Skill
from edge_agent.forecast.windows import Windows
from edge_agent.history import History, read_history
from edge_agent.network import keep_network

Floats = NDArray[np.float64]
Times = NDArray[np.int64]

MAX_GAP_S = 365 * 86_400  # between origins on one grid: a stray row decades away must not make it decades long
_SPAN = re.compile(r"(\d{1,6})\s*(min|h|d)")
_UNIT_S = {"min": 60, "h": 3600, "d": 86_400}


@dataclass(frozen=True, slots=True)
class Part:
    """Forecasts of S origins and what came, L leads, V variables, E events (`all_events`) as the nowcaster has them.

    `batch`: as it would have been issued; `alone`: the bundle's own numbers, None where nothing was adapted. `observed`
    [S, L, V] by `grid.verifying`; `outcome` [S, L, E]: 1 where the event came, else 0; NaN where nothing was read.
    Baselines by source: `base` mean [S, L, V] and quantiles [S, L, V, Q], `chance` [S, L, E].
    """

    origins: Times
    batch: Batch
    observed: Floats
    outcome: Floats
    base: dict[str, tuple[Floats, Floats]]
    chance: dict[str, Floats]
    alone: Batch | None = None


def hindcast(
    history: History,
    station: Station,
    nowcaster: Nowcaster,
    origins: Times,
    *,
    learner: Learner | None = None,
    near: Beside | None = None,
    chunk: int = 64,
) -> Iterator[Part]:
    """Forecast from every origin, a chunk at a time (which bounds the memory).

    Args:
        origins: [N] ascending UTC seconds, multiples of 900 s apart.
        learner: a new one: it learns and adapts every quarter hour from a day after the first reading, as it would have
            in a running agent; `origins` are then quarter hours, and only say which of its forecasts are given out.
        near: the neighbours it sees; a chunk holds their rows, too.

    Raises:
        DataError: a neighbour's recording cannot be read.
    """
    cycles = origins if learner is None else _cycles(history, int(origins[-1]))
    for span in np.split(cycles, np.flatnonzero(np.diff(cycles) > MAX_GAP_S) + 1):
        if len(span):
            yield from _without_gap(history, station, nowcaster, span, origins, learner, near, chunk)


def _without_gap(
    history: History,
    station: Station,
    nowcaster: Nowcaster,
    cycles: Times,
    origins: Times,
    learner: Learner | None,
    near: Beside | None,
    chunk: int,
) -> Iterator[Part]:
    """As `hindcast`, on one grid."""
    windows = Windows(history, int(cycles[0]), int(cycles[-1]))
    came = _Came(history, nowcaster, int(cycles[0]), int(cycles[-1]))
    around = Around(near, int(cycles[0]), int(cycles[-1]))
    at_once = max(chunk // (1 + len(around)), 1)
    for start in range(0, len(cycles), at_once):
        part = np.asarray(cycles[start : start + at_once], np.int64)
        x = windows.ending(part)
        site = np.tile(np.array(site_of(station), np.float32), (len(part), 1))
        group = np.arange(len(part))
        batch, alone = nowcaster.batch(site, x, windows.ages(part), part, group, around.seen(part, group)), None
        chosen = np.flatnonzero(np.isin(part, origins))
        if learner is not None:
            alone = batch.rows(chosen)
            _adapt(learner, part, x, batch, came)
        if len(chosen):
            part, x, observed = part[chosen], x[chosen], came.after(part[chosen])
            base = {source: _baseline(nowcaster, x, moves) for source, moves in BASELINES.items()}
            yield Part(
                origins=part,
                batch=batch.rows(chosen),
                observed=observed,
                outcome=_outcomes(nowcaster, observed),
                base=base,
                chance={source: _chances(nowcaster, x, moves, base[source][1]) for source, moves in BASELINES.items()},
                alone=alone,
            )


def _cycles(history: History, last: int) -> Times:
    """When a running agent would have forecast."""
    return origins_between(history, grid.STEP_S, end=last)


def _adapt(learner: Learner, origins: Times, x: NDArray[np.float32], batch: Batch, came: _Came) -> None:
    """One cycle of learning after the other, in place."""
    base = cycle.bases(x, learner.leads_s)
    for row, origin in enumerate(origins.tolist()):
        cycle.take(learner, origin, came.at)
        cycle.move(learner, origin, x[row], base[row], batch, row)


def origins_between(history: History, every_s: int, start: int | None = None, end: int | None = None) -> Times:
    """Multiples of `every_s` in UTC from `start` (default: a day after the first reading) to `end` (the last reading),
    where anything was read in the 30 days before.

    Raises:
        DataError: less than a day of readings, or no origin in the span.
    """
    first, last = history.first, history.last
    if last - first < MIN_HISTORY_S:
        raise DataError(
            f"{(last - first) / 3600:.1f} h of readings: a hindcast needs {MIN_HISTORY_S // 3600} h before its first"
            " origin and should have 30 days; give a longer file"
        )
    start = first + MIN_HISTORY_S if start is None else start
    end = last if end is None else end
    origins = np.arange(-(-start // every_s) * every_s, end + 1, every_s, dtype=np.int64)
    origins = origins[history.covered(origins)]
    if not len(origins):
        raise DataError(
            f"no origin from {format_time(start)} to {format_time(end)} at every {every_s // 60} min: the readings go"
            f" from {format_time(first)} to {format_time(last)}; choose --start, --end or a smaller --every"
        )
    return origins


def parse_every(text: str) -> int:
    """ "15min", "3h" or "1d" as seconds.

    Raises:
        ConfigError: anything else, or no multiple of 15 minutes.
    """
    match = _SPAN.fullmatch(text.strip().lower())
    seconds = int(match[1]) * _UNIT_S[match[2]] if match else 0
    if not seconds or seconds % grid.STEP_S:
        raise ConfigError(f'--every "{text}": give a multiple of 15 minutes such as 15min, 1h, 3h or 1d')
    return seconds


def hindcast_command(
    history: Path,
    latitude: float,
    longitude: float,
    elevation: float,
    neighbours: Path | None,
    every: str,
    start: str | None,
    end: str | None,
    bundle: Path | None,
    out: Path | None,
    json_: bool,
    plot: Path | None,
    adapt: bool,
) -> None:
    """`edge-agent hindcast`: forecast, score, print, write. Raises StationcastError."""
    for option, written in (("--out", out), ("--plot", plot)):
        keep_inputs(option, written, history, bundle)
        keep_network(option, written, neighbours)
    if plot is not None:
        from edge_agent.forecast import plots

        plots.check(plot)
    every_s = parse_every(every)
    station = given_station(history, latitude, longitude, elevation)
    nowcaster = load_nowcaster(bundle)
    near = near_of(neighbours, nowcaster, station, history)
    past = read_history(history, elevation_m=station.elevation_m)
    tell(past.warnings)
    check_readings(past, history)
    first, last = given_time("--start", start), given_time("--end", end)
    try:
        origins = origins_between(past, every_s, first, last)
    except DataError as error:
        raise DataError(f"{history}: {error}") from None
    learner = Learner(nowcaster.leads_s, nowcaster.levels, nowcaster.events) if adapt else None
    skill, example = Skill(nowcaster, adapted=adapt), Example(origins)
    with ForecastWriter(out, nowcaster) as writer, progress(len(origins), "hindcast") as advance:
        for part in hindcast(past, station, nowcaster, origins, learner=learner, near=near):
            skill.add(part)
            example.see(part)
            writer.write(part)
            advance(len(part.origins))
    about = {
        "history": str(history),
        "station": {"latitude": latitude, "longitude": longitude, "elevation_m": elevation},
        "bundle": nowcaster.bundle,
        "neighbours": near.names if near else [],
        "adapted": adapt,
        "origins": {
            "n": len(origins),
            "first": format_time(origins[0]),
            "last": format_time(origins[-1]),
            "every_s": every_s,
        },
        "warnings": past.warnings,
    }
    click.echo(skill.as_json(about) if json_ else skill.as_table(about))
    if plot is not None and not skill.scored():
        tell([f"--plot {plot}: nothing was scored, and nothing is drawn"])
    elif plot is not None:
        plots.draw_hindcast(plot, skill, example.fans(past, station, nowcaster), title=history.name)


class Example:
    """One origin to be drawn: of 64 spread over the period, the fullest, nearest to its middle."""

    def __init__(self, origins: Times) -> None:
        self._tried = origins[np.unique(np.linspace(0, len(origins) - 1, 64).astype(np.int64))]
        self._middle = int(origins[len(origins) // 2])
        self._best: tuple[int, int] | None = None
        self._found: tuple[int, Batch, Floats] | None = None

    def see(self, part: Part) -> None:
        """Look at the forecasts of a part."""
        for row in np.flatnonzero(np.isin(part.origins, self._tried)).tolist():
            origin = int(part.origins[row])
            pairs = int((~np.isnan(part.batch.mean[row]) & ~np.isnan(part.observed[row])).sum())
            rank = (-pairs, abs(origin - self._middle))
            if self._best is None or rank < self._best:
                self._best, self._found = rank, (origin, part.batch.rows(np.array([row])), part.observed[row])

    def fans(self, history: History, station: Station, nowcaster: Nowcaster) -> list[Fan]:
        """Its fans; none where nothing was seen."""
        if self._found is None:
            return []
        origin, batch, came = self._found
        forecast = nowcaster.issue(batch, 0, station.id, history.ages(origin), origin, origin)
        observed = {name: came[:, v] for v, name in enumerate(nowcaster.variables)}
        return fans_of(forecast, history.grid_ending(origin), observed)


class _Came:
    """What came after any of the origins, looked up once."""

    def __init__(self, history: History, nowcaster: Nowcaster, first: int, last: int) -> None:
        self._leads = np.asarray(nowcaster.leads_s, np.int64)
        self._first = first
        valid = np.arange(first, last + int(self._leads.max()) + 1, grid.STEP_S, dtype=np.int64)
        self._values = np.full((len(valid), len(nowcaster.variables)), np.nan)
        for v, name in enumerate(nowcaster.variables):
            if name in history.variables:
                self._values[:, v] = grid.verifying(history.times, history.values[name], name, valid)

    def after(self, origins: Times) -> Floats:
        """[S, L, V], NaN where nothing was read at the valid time."""
        return self.at(origins[:, None] + self._leads)

    def at(self, valid: Times) -> Floats:
        """[..., V] at valid times [...]; NaN before the first origin, too."""
        at = (valid - self._first) // grid.STEP_S
        return np.where((at >= 0)[..., None], self._values[np.maximum(at, 0)], np.nan)


def _outcomes(nowcaster: Nowcaster, observed: Floats) -> Floats:
    """Whether each event came, [S, L, E]."""
    out = np.full((*observed.shape[:2], len(nowcaster.all_events)), np.nan)
    for e, event in enumerate(nowcaster.all_events):
        out[:, :, e] = event.came(observed[:, :, nowcaster.variables.index(event.variable)])
    return out


def _baseline(nowcaster: Nowcaster, x: NDArray[np.float32], cycle: bool) -> tuple[Floats, Floats]:
    """Mean [S, L, V] and quantiles [S, L, V, Q] of a baseline."""
    mean = np.full((len(x), len(nowcaster.leads_s), len(nowcaster.variables)), np.nan)
    quantiles = np.full((*mean.shape, len(nowcaster.levels)), np.nan)
    for v, name in enumerate(nowcaster.variables):
        series = np.ascontiguousarray(x[:, :, grid.GRID_VARIABLES.index(name)])
        if not np.isnan(series).all():
            mean[:, :, v] = persistence.base(series, name, nowcaster.leads_s, cycle=cycle)
            quantiles[:, :, v] = persistence.quantiles(series, name, nowcaster.leads_s, nowcaster.levels, cycle=cycle)
    return mean, quantiles


def _chances(nowcaster: Nowcaster, x: NDArray[np.float32], cycle: bool, quantiles: Floats) -> Floats:
    """Event probabilities [S, L, E] of a baseline with quantiles [S, L, V, Q]."""
    out = np.full((len(x), len(nowcaster.leads_s), len(nowcaster.all_events)), np.nan)
    for e, event in enumerate(nowcaster.events):
        series = x[:, :, grid.GRID_VARIABLES.index(event.variable)]
        out[:, :, e] = persistence.event_probability(series, event, cycle=cycle)[:, None]
    chances.derive(out, quantiles, nowcaster.levels, nowcaster.all_events)
    return out
