"""What came, for a file: the reading that stands at each valid time, and readings as they would have come in."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_agent import grid
from edge_agent.guidance import Floats, Times
from edge_agent.history import History
from edge_agent.variables import VARIABLES, Kind

WHOLE = 0.9  # of an interval must be covered by readings, or its sum and maximum are unknown


class Observed:
    """The past of one station, by variable."""

    def __init__(self, history: History) -> None:
        self._series: dict[str, tuple[Times, Floats, float]] = {}
        for name, values in history.values.items():
            there = ~np.isnan(values)
            if there.any():
                times = history.times[there]
                self._series[name] = times, values[there], grid.cadence_s(times)

    def cadence_s(self, name: str) -> float:
        """Typical spacing of a variable's readings; infinite where there are none."""
        return self._series[name][2] if name in self._series else np.inf

    def span(self) -> tuple[int, int] | None:
        """Times of the first and the last reading."""
        times = [series[0] for series in self._series.values()]
        return (min(int(t[0]) for t in times), max(int(t[-1]) for t in times)) if times else None

    def between(self, name: str, after: int, until: int) -> tuple[Times, Floats]:
        """Readings later than `after` and up to `until`."""
        if name not in self._series:
            return np.empty(0, np.int64), np.empty(0)
        times, values, _ = self._series[name]
        first, last = np.searchsorted(times, [after, until], side="right")
        return times[first:last], values[first:last]

    def came(self, name: str, valid: Times, length_s: Times) -> Floats:
        """What came at each valid time [N], NaN = nothing: a state's reading within 150 s, never interpolated; of sums
        and maxima those of the `length_s` seconds that end there, where readings cover them."""
        out = np.full(len(valid), np.nan)
        if name not in self._series:
            return out
        times, values, cadence = self._series[name]
        right = np.clip(np.searchsorted(times, valid), 0, len(times) - 1)
        left = np.maximum(right - 1, 0)
        near = np.where(np.abs(times[left] - valid) <= np.abs(times[right] - valid), left, right)
        there = np.abs(times[near] - valid) <= grid.MATCH_S
        kind = VARIABLES[name].kind
        if kind in (Kind.STATE, Kind.DIRECTION):
            return np.asarray(np.where(there, values[near], np.nan))
        for i in np.flatnonzero(there).tolist():
            first = int(np.searchsorted(times, times[near[i]] - length_s[i] + grid.MATCH_S))
            part = values[first : near[i] + 1]
            if len(part) * cadence >= WHOLE * length_s[i] and cadence <= length_s[i] / WHOLE:
                out[i] = part.sum() if kind is Kind.SUM else part.max()
        return out

    def settled(self, name: str, valid: Times, now: int) -> NDArray[np.bool_]:
        """Whether no reading later than `now` can change what came at each valid time, [N]: one stands at its very
        second, or `grid.MATCH_S` have passed."""
        passed = valid + grid.MATCH_S <= now
        if name not in self._series:
            return np.asarray(passed)
        times = self._series[name][0]
        there = times[np.minimum(np.searchsorted(times, valid), len(times) - 1)] == valid
        return np.asarray(passed | ((valid <= now) & there))
