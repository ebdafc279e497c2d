"""Learning from a past that was recorded: the forecasts it allows are made again, in order, and their verdicts taken.

What is learned is what the agent would have learned had it run then, by the same cycle. Must never learn from a reading
whose time is not known, nor from the same verdict twice: it always begins with a new learner.
"""

from __future__ import annotations

import math
import os
from array import array
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import groupby
from pathlib import Path

import click
import numpy as np

from edge_agent.adaptation.learner import Learner
from edge_agent.adaptation.live import MOST_EXPERTS
from edge_agent.adaptation.saved import pack
from edge_agent.bundle.trial import Loaded, load_session
from edge_agent.clock import SystemClock, format_time
from edge_agent.config import Config, Station, load
from edge_agent.console import progress
from edge_agent.errors import BundleError, ConfigError, DataError
from edge_agent.forecast import MIN_HISTORY_S
from edge_agent.forecast.hindcast import hindcast, origins_between
from edge_agent.forecast.near import Beside
from edge_agent.forecast.nowcast import Batch, Nowcaster
from edge_agent.grid import GRID_VARIABLES, STEP_S, STEPS_PER_DAY
from edge_agent.history import History
from edge_agent.observation import Judged, Observation
from edge_agent.quality.spatial import distance_km
from edge_agent.store.cells import step_of
from edge_agent.store.rows import grid_values
from edge_agent.transfer import open_store, station_of

GIVES_WAY = 10  # niceness: a running agent forecasts first


def learn_command(config: Path, station: str | None) -> None:
    """`edge-agent adaptation learn`: from all that the store holds of a station; in place of what was learned before.

    Raises:
        ConfigError: the configuration, no such station, or it says not to adapt.
        DataError: less than a day of readings; BundleError: no bundle can be used; StoreError: the store, or there is
            none yet.
    """
    settings = load(config)
    where = station_of(settings, station)
    if not settings.forecast.adapt:
        raise ConfigError(f"{config}: [forecast] adapt = false: what is learned would not be used; set it to true")
    past = _in_store(settings, where)
    read_s = past.last - past.first if past.variables else 0
    if read_s < MIN_HISTORY_S:
        raise DataError(
            f"station {where.id}: {read_s / 3600:.1f} h of readings in {settings.store.path}: learning needs more than"
            f" {MIN_HISTORY_S // 3600} h: give it a past with `edge-agent import`, or let the agent run on"
        )
    loaded = load_session(settings.forecast)
    if loaded.session is None:
        raise BundleError("unusable", f"{loaded.why}; what is learned is learned about a bundle's errors")
    os.nice(GIVES_WAY)
    learner = learned(past, where, loaded, _beside(settings, where), expert=len(settings.stations) <= MOST_EXPERTS)
    with open_store(settings) as store:
        store.hand_learned(where.id, pack(learner))
        store.commit()
    click.echo(
        f"station {where.id}: learned from {format_time(past.first)} to {format_time(learner.learned_until)}; a running"
        " agent goes on from there at its next forecast"
    )


def recorded(observations: Iterable[Judged]) -> History:
    """A station's usable readings as a series: where several sources measured a variable in the same quarter hour, the
    best one's stand, as on the grid. Readings whose time was not known when they came, and is not yet, are left out.

    Args:
        observations: by time, then rank, as `Store.observations` gives them.
    """
    times, columns = array("q"), {name: array("d") for name in GRID_VARIABLES}
    for t, values in _rows(observations):
        times.append(t)
        for name, column in columns.items():
            column.append(values.get(name, math.nan))
    return History(np.array(times, np.int64), {name: np.array(c) for name, c in columns.items()}, [])


def learned(past: History, station: Station, loaded: Loaded, near: Beside | None = None, *, expert: bool) -> Learner:
    """What a station's past teaches about a bundle, up to its last quarter hour. `near`: neighbours that the forecasts
    saw.

    Raises:
        DataError: less than a day of readings.
    """
    nowcaster = Nowcaster(loaded.session)
    near = near if nowcaster.looks_around else None
    learner = Learner(nowcaster.leads_s, nowcaster.levels, nowcaster.events, expert=expert)
    learner.use(loaded.digest)
    daily = origins_between(past, STEP_S)[::-1][::STEPS_PER_DAY][::-1]  # of which nothing but the pace is needed
    with progress(len(daily), "learning") as advance:
        for part in hindcast(past, station, nowcaster, daily, learner=learner, near=near):
            advance(len(part.origins))
    return learner


def _beside(settings: Config, station: Station) -> Beside:
    """The other stations of the agent, as the store knows them."""
    here = (station.latitude, station.longitude)
    others = [other for other in settings.stations if other.id != station.id]
    others.sort(key=lambda other: (distance_km(here, (other.latitude, other.longitude)), other.id))
    return Beside(station, [(other, partial(_in_store, settings, other)) for other in others])


def _in_store(settings: Config, station: Station) -> History:
    with open_store(settings, read_only=True) as store:
        return recorded(store.observations(station.id, None, int(SystemClock().now())))


def adapted(past: History, station: Station, nowcaster: Nowcaster, origin: int, near: Beside | None = None) -> Batch:
    """The forecast from one origin, a quarter hour, adapted by all that came before it: one row. `near`: neighbours
    that the forecasts see.

    Raises:
        DataError: less than a day of readings before it.
    """
    learner = Learner(nowcaster.leads_s, nowcaster.levels, nowcaster.events)
    [part] = hindcast(past, station, nowcaster, np.array([origin], np.int64), learner=learner, near=near)
    return part.batch


def _rows(observations: Iterable[Judged]) -> Iterator[tuple[int, dict[str, float]]]:
    """Times and the values that stand at them."""
    for _, step in groupby(observations, key=lambda judged: step_of(judged.observation.t)):
        usable = [(judged.observation, grid_values(judged)) for judged in step if _timed(judged.observation)]
        best: dict[str, int] = {}
        for observation, values in usable:
            for name in values:
                best[name] = min(observation.rank, best.get(name, observation.rank))
        rows: dict[int, dict[str, float]] = {}
        for observation, values in usable:
            mine = {name: value for name, value in values.items() if observation.rank == best[name]}
            if mine:
                rows[observation.t] = mine | rows.get(observation.t, {})
        yield from rows.items()


def _timed(observation: Observation) -> bool:
    """Whether its time is known: its message said it, or the clock did."""
    return observation.clock != "unsynced" or not observation.stamped
