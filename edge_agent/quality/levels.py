"""What values a variable of one station usually has: a histogram that learns slowly and is asked how likely a value is.

About 1.5 kB a variable, whatever the length of the series.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BINS = 128
READY_H = 5 * 24.0  # hours of readings before a level is known
MEMORY_H = 90 * 24.0  # then old readings count half
_RELEARN_H = 6.0  # how stale the densities may be
_ELSEWHERE = 0.02  # probability of values never seen
_SMOOTH = np.array([1.0, 2.0, 3.0, 2.0, 1.0]) / 9.0


@dataclass(frozen=True, slots=True)
class Axis:
    """How a variable is divided into bins: equal ones of `width` from `low` on, after `bend`. `low` None: around the
    first value, as for pressure, which depends on the station. `grain`: no bin counts as narrower than this."""

    low: float | None
    width: float
    grain: float
    bend: Callable[[float], float] = float
    unbend: Callable[[float], float] = float


def _root(value: float) -> float:
    return math.sqrt(max(value, 0.0))


def _square(value: float) -> float:
    return value * value


def _log(value: float) -> float:
    return math.log1p(max(value, 0.0))


AXES: dict[str, Axis] = {
    "temperature": Axis(-64.0, 1.0, 1.0),
    "dew_point": Axis(-64.0, 1.0, 1.0),
    "humidity": Axis(0.0, 1.0, 1.0),
    "pressure": Axis(None, 1.5, 1.5),
    "pressure_msl": Axis(None, 1.5, 1.5),
    "wind_speed": Axis(0.0, 0.08, 0.3, _root, _square),
    "wind_gust": Axis(0.0, 0.09, 0.3, _root, _square),
    "wind_direction": Axis(0.0, 3.0, 3.0),
    "rain": Axis(0.0, 0.05, 0.3, _log, math.expm1),
    "solar_radiation": Axis(0.0, 0.35, 5.0, _root, _square),
}


class Level:
    """The values of one variable so far."""

    __slots__ = ("_axis", "_counts", "_fresh", "_hours", "_low", "_table", "floor", "typical")

    def __init__(self, axis: Axis) -> None:
        self._axis, self._low = axis, axis.low
        self._counts: NDArray[np.float32] = np.zeros(BINS, np.float32)
        self._hours = self._fresh = 0.0
        self._table: array[float] = array("f")
        self.floor = self.typical = 0.0  # log densities of a value never seen, and of usual values

    @property
    def hours(self) -> float:
        """Hours of readings it was made from."""
        return self._hours

    @property
    def ready(self) -> bool:
        """Whether it is known what is usual."""
        return self._hours >= READY_H

    def learn(self, value: float, hours: float) -> None:
        """One more value, that stood for so many hours."""
        if self._low is None:
            self._low = self._axis.bend(value) - self._axis.width * BINS / 2
        bin_ = self._bin(value)
        if bin_ is None:
            return
        self._counts[bin_] += hours
        self._hours += hours
        self._fresh += hours
        if self._hours > MEMORY_H:
            self._counts *= 0.5
            self._hours *= 0.5

    def learn_many(self, values: NDArray[np.float64], hours: float) -> None:
        """Many values at once, each standing for so many hours; NaN = none."""
        values = values[np.isfinite(values)]
        if not len(values):
            return
        if self._low is None:
            self._low = self._axis.bend(float(np.median(values))) - self._axis.width * BINS / 2
        bent = np.array([self._axis.bend(value) for value in values.tolist()])
        bins = np.floor((bent - self._low) / self._axis.width)
        inside = bins[(bins >= 0) & (bins < BINS)].astype(np.int64)
        self._counts += (np.bincount(inside, minlength=BINS) * hours).astype(np.float32)
        self._hours += len(inside) * hours
        self._fresh += len(inside) * hours

    def copy(self) -> Level:
        """One that goes on from here by itself."""
        other = Level(self._axis)
        other._low, other._counts = self._low, self._counts.copy()
        other._hours, other._fresh = self._hours, self._fresh
        return other

    def log_density(self, value: float) -> float:
        """Natural logarithm of the probability per unit of the variable."""
        if self._fresh > _RELEARN_H or not self._table:
            self._tabulate()
        bin_ = self._bin(value)
        return self.floor if bin_ is None else self._table[bin_]

    def _bin(self, value: float) -> int | None:
        bin_ = math.floor((self._axis.bend(value) - (self._low or 0.0)) / self._axis.width)
        return bin_ if 0 <= bin_ < BINS else None

    def _tabulate(self) -> None:
        low, axis = self._low or 0.0, self._axis
        edges = np.array([axis.unbend(low + axis.width * i) for i in range(BINS + 1)])
        widths = np.maximum(np.diff(edges), axis.grain)
        share = np.convolve(self._counts, _SMOOTH, mode="same") / max(float(self._counts.sum()), 1e-9)
        elsewhere = _ELSEWHERE / max(float(edges[-1] - edges[0]), axis.grain)
        table = np.log((1 - _ELSEWHERE) * share / widths + elsewhere)
        self.floor = math.log(elsewhere)
        self.typical = float((table * share).sum() / max(float(share.sum()), 1e-9))
        self._table = array("f", table.tolist())
        self._fresh = 0.0
