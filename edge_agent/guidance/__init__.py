"""Guidance: what a weather model says of a station's hours and days ahead, and its correction by what came.

Every run knows from when on it could be used. Must never let a forecast use a run before that, or a reading later than
its origin.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_agent.circle import compass, near
from edge_agent.variables import VARIABLES, Kind

Floats = NDArray[np.float64]
Times = NDArray[np.int64]

MOST_GAP_S = 3 * 3600  # between valid times, across which a state is interpolated
MOST_FIGURE = 1e9  # of a further predictor, either way


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a model at one place.

    `issued`: earliest time of use, UTC seconds: run time + dissemination. `valid` [L]: ascending, UTC seconds.
    `values`: name -> [L], NaN = missing; vocabulary names, or `<name>__<what>` for further predictors.
    """

    issued: int
    valid: Times
    values: Mapping[str, Floats]

    def at(self, name: str, times: Times) -> Floats:
        """A column at any times, [M]: a state in a straight line between valid times at most 3 h apart, the shorter way
        round for directions; sums and maxima only at valid times. NaN elsewhere."""
        value, valid = self.values[name], self.valid
        right = np.clip(np.searchsorted(valid, times), 0, len(valid) - 1)
        left = np.where(valid[right] == times, right, np.maximum(right - 1, 0))
        span = valid[right] - valid[left]
        variable = VARIABLES.get(name)
        kind = Kind.STATE if variable is None else variable.kind
        state = kind in (Kind.STATE, Kind.DIRECTION)
        there = (valid[left] <= times) & (times <= valid[right]) & (span <= (MOST_GAP_S if state else 0))
        share = np.where(span > 0, (times - valid[left]) / np.maximum(span, 1), 0.0)
        first, last = value[left], value[right]
        if kind is Kind.DIRECTION:
            return np.asarray(np.where(there, compass(first + share * (near(last, first) - first)), np.nan))
        return np.asarray(np.where(there, first + share * (last - first), np.nan))


def beyond_limits(name: str, column: Floats) -> NDArray[np.bool_]:
    """Which values of a column cannot be, [L]: a variable's outside its limits, a further predictor's beyond
    `MOST_FIGURE`. NaN is none of them."""
    low, high = VARIABLES[name].fail if name in VARIABLES else (-MOST_FIGURE, MOST_FIGURE)
    return np.asarray((column < low) | (column > high))
