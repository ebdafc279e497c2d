"""Many origins over one recorded series: the same 30-day histories that `History.grid_ending` makes one by one, fast.

Nothing later than an origin enters its window, not even through the series' cadence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from edge_agent import grid
from edge_agent.history import History
from edge_agent.variables import VARIABLES, Kind

_SPAN_S = grid.HISTORY_STEPS * grid.STEP_S
_REACH = grid.HOLD_HOURLY_S // grid.STEP_S  # steps over which a state may be held


@dataclass(frozen=True, slots=True)
class _Series:
    """One variable on all steps, [T]: cells held for a step and for an hour; `back`: from how many steps back a held
    cell comes; `age`: seconds since the newest reading, -1 where it is 30 days old; `hourly`: where the readings of the
    30 days up to the step come less often than the steps. Nothing is kept of the readings themselves."""

    age: NDArray[np.int32]
    hourly: NDArray[np.bool_]
    back: NDArray[np.int32]
    short_hold: NDArray[np.float32]
    long_hold: NDArray[np.float32]


class Windows:
    """Histories ending at origins `first` to `last`, which lie multiples of 900 s apart. The memory is that of the
    steps, however often the station reads."""

    def __init__(self, history: History, first: int, last: int) -> None:
        self._start = first - _SPAN_S + grid.STEP_S
        steps = np.arange(self._start, last + 1, grid.STEP_S, dtype=np.int64)
        self._series = {name: _series(history, name, steps) for name in history.variables}

    def ending(self, origins: NDArray[np.int64]) -> NDArray[np.float32]:
        """[S, 2880, 8], columns as `grid.GRID_VARIABLES`, NaN = missing."""
        out = np.full((len(origins), grid.HISTORY_STEPS, len(grid.GRID_VARIABLES)), np.nan, np.float32)
        at = (origins - self._start) // grid.STEP_S - grid.HISTORY_STEPS + 1
        for name, series in self._series.items():
            column = out[:, :, grid.GRID_VARIABLES.index(name)]
            hourly = series.hourly[at + grid.HISTORY_STEPS - 1]
            for rows, cells in ((~hourly, series.short_hold), (hourly, series.long_hold)):
                column[rows] = sliding_window_view(cells, grid.HISTORY_STEPS)[at[rows]]
            before = np.stack([series.back[a : a + _REACH] for a in at]) > np.arange(_REACH)
            column[:, :_REACH][before] = np.nan  # held from a step that is not in the window
        return out

    def ages(self, origins: NDArray[np.int64]) -> list[Mapping[str, int]]:
        """Per origin as `History.ages`."""
        ages: list[dict[str, int]] = [{} for _ in origins]
        at = (origins - self._start) // grid.STEP_S
        for name, series in self._series.items():
            for row, age in enumerate(series.age[at].tolist()):
                if age >= 0:
                    ages[row][name] = age
        return list(ages)


def _series(history: History, name: str, steps: grid.Times) -> _Series:
    kind = VARIABLES[name].kind
    values = history.values[name]
    read = history.times[~np.isnan(values)]
    cells, latest = grid.bucket(history.times, values, kind, steps)
    index = np.arange(len(steps))
    own = np.maximum.accumulate(np.where(np.isnan(cells), -_REACH - 1, index))
    end = np.searchsorted(read, steps, side="right")
    age = steps - np.append(read, 0)[end - 1]
    return _Series(
        age=np.where((end > 0) & (age < _SPAN_S), age, -1).astype(np.int32),
        hourly=_hourly(read, steps, end),
        back=(np.zeros_like(index) if kind is Kind.SUM else index - own).astype(np.int32),
        short_hold=grid.hold(cells, latest, steps, kind, grid.HOLD_S).astype(np.float32),
        long_hold=grid.hold(cells, latest, steps, kind, grid.HOLD_HOURLY_S).astype(np.float32),
    )


def _hourly(read: grid.Times, steps: grid.Times, end: NDArray[np.int64]) -> NDArray[np.bool_]:
    """True where `grid.cadence_s` of the readings in the window that ends at a step is longer than a step, [T].

    Args:
        read: [N] times of the readings. end: [T] how many came up to each step.
    """
    first = np.searchsorted(read, steps - _SPAN_S, side="right")
    long_before = np.concatenate([[0], np.cumsum(np.diff(read) > grid.STEP_S), [0]])  # [0] for where nothing was read
    spacings = end - first - 1
    long = long_before[end - 1] - long_before[np.minimum(first, len(read))]
    return np.asarray((spacings < 1) | (2 * long > spacings))  # of an even number the lower middle one counts
