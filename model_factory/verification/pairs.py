"""One station's readings as forecasts and scores need them: 30-day windows before each origin, and what came after it.

A window ends at its origin: nothing later is in it. What came is the reading at the valid time, never interpolated.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_agent.bundle.station_task import OUTPUT_VARIABLES
from edge_agent.forecast import LEADS_S
from edge_agent.grid import GRID_VARIABLES, HISTORY_STEPS, STEP_S, step_of, verifying
from edge_agent.history import History, read_history
from model_factory.training.data import StationFile, split_time

LEADS = len(LEADS_S)
Index = NDArray[np.int64]
Floats = NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Record:
    """One station on the grid of UTC quarter hours.

    `site` [4]: latitude, longitude, elevation, NaN. `steps` [T]: UTC seconds. `history` [T, 8]: grid variables. `came`
    [T + 24, 8]: the reading that stands at each step, NaN where there is none. `split`: index of the first step of the
    part that no training sees.
    """

    network: str
    station: str
    site: NDArray[np.float32]
    steps: Index
    history: NDArray[np.float32]
    came: NDArray[np.float64]
    split: int


def load_record(file: StationFile, test_fraction: float) -> Record:
    """Read a station's CSV onto the grid. Raises DataError as `read_history`."""
    history = read_history(file.path)
    place = (file.latitude, file.longitude, file.elevation)
    return record(file.network, file.station, place, history, test_fraction)


def record(
    network: str, station: str, place: tuple[float, float, float], history: History, test_fraction: float
) -> Record:
    """A station's series on the grid; `place`: latitude, longitude, elevation in m."""
    first = int(step_of(history.times[:1])[0])
    steps = np.arange(first, history.times[-1] + 1, STEP_S, dtype=np.int64)
    valid = first + STEP_S * np.arange(len(steps) + LEADS, dtype=np.int64)
    came = np.full((len(valid), len(OUTPUT_VARIABLES)), np.nan)
    for column, name in enumerate(OUTPUT_VARIABLES):
        if name in history.values:
            came[:, column] = verifying(history.times, history.values[name], name, valid)
    split = int(np.searchsorted(steps, split_time(history.times, test_fraction)))
    site = np.array([*place, np.nan], np.float32)
    return Record(network, station, site, steps, history.grid(steps), came, split)


def held_out_origins(one: Record, every_s: int) -> Index:
    """Indices of the origins in the part kept out: multiples of `every_s` UTC. [O]"""
    at = np.arange(one.split, len(one.steps), dtype=np.int64)
    return np.asarray(at[one.steps[at] % every_s == 0])


def windows_at(one: Record, origins: Index) -> NDArray[np.float32]:
    """The 30 days that end at each origin, UTC s, [O, 8, 2880]: NaN all through before the record begins, or where it
    has ended."""
    at = (origins - one.steps[0]) // STEP_S
    there = (at >= 0) & (at < len(one.steps))
    found = windows(one, np.where(there, at, 0))
    found[~there] = np.nan
    return found


def windows(one: Record, at: Index) -> NDArray[np.float32]:
    """The 30 days that end at each origin, [O, 8, 2880]: a variable's series in one piece; NaN before the start."""
    before = np.full((HISTORY_STEPS - 1, len(GRID_VARIABLES)), np.nan, np.float32)
    padded = np.concatenate([before, one.history])
    return np.ascontiguousarray(np.lib.stride_tricks.sliding_window_view(padded, HISTORY_STEPS, axis=0)[at])


def observed(one: Record, at: Index) -> NDArray[np.float64]:
    """What came at each lead after each origin, [O, 24, 8]."""
    return np.asarray(one.came[at[:, None] + np.arange(1, LEADS + 1)])
