"""Forecasts whose verdicts are not in yet, as small as they may be: a large gateway holds them for every station.

Whole and half numbers of two bytes stand for most of what was said, rounded far below what a sensor tells apart.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_agent.adaptation.calibration import hour_terms
from edge_agent.bundle.station_task import OUTPUT_VARIABLES
from edge_agent.grid import STEP_S

Floats = NDArray[np.float64]
Whole = NDArray[np.int64]

# Of issued quantiles: (the middle of what two bytes hold, the step between neighbours); 32,767 steps to either side.
_SPANS = {
    "temperature": (0.0, 0.005), "humidity": (100.0, 0.005), "pressure": (1000.0, 0.02), "wind_speed": (64.0, 0.002),
    "wind_gust": (64.0, 0.002), "wind_direction": (180.0, 0.02), "rain": (64.0, 0.002),
    "solar_radiation": (800.0, 0.05),
}  # fmt: skip
_MIDDLE, _GRAIN = (column[:, None] for column in np.array([_SPANS[name] for name in OUTPUT_VARIABLES]).T)
_MOST, _NONE = 32_767, -32_768
_HOURS = 2  # inputs of the correction that follow from the valid time


class Pending:
    """A ring over origins for each of L leads, as long as its verdicts take.

    What a forecast from an origin said stands at `at(origin)` [L] of each array: `origin`, -1 = none; `rung` [V];
    `unit` [C], typical errors; `x` [X], the expert's inputs; `chance` [E, 2]; and what `keep` puts there.
    """

    def __init__(
        self, leads_s: Whole, delay_s: int, *, levels: int, events: int, candidates: int, means: int, z: int, x: int
    ) -> None:
        """A verdict is known `delay_s` after its valid time. `levels`: Q; `events`: E; `candidates`, `means`: K and C
        of the forecasts of the mean; `z`, `x`: inputs of the correction and of the expert."""
        self._leads_s = leads_s
        self._length = (leads_s + delay_s) // STEP_S + 1
        self._first = np.cumsum(self._length) - self._length
        n, v = int(self._length.sum()), len(OUTPUT_VARIABLES)
        self.origin = np.full(n, -1, np.int64)
        self.rung = np.full((n, v), -1, np.int8)
        self._base = np.zeros((n, means), np.float32)
        self.unit = np.ones((n, means), np.float32)
        self.x = np.zeros((n, x), np.float16)
        self.chance = np.full((n, events, 2), np.nan, np.float32)
        self._issued = np.full((n, v, levels), _NONE, np.int16)
        self._departures = np.full((n, candidates, means), np.nan, np.float16)
        self._z = np.zeros((n, means, z - _HOURS), np.float16)

    def at(self, origin: int) -> Whole:
        """Where a forecast from there stands, [L]."""
        return np.asarray(self._first + origin // STEP_S % self._length)

    def due(self, valid: int) -> tuple[Whole, Whole]:
        """(where they stand, leads) of the forecasts for a valid time, [N] each."""
        origin = valid - self._leads_s
        at = self._first + origin // STEP_S % self._length
        leads = np.flatnonzero(self.origin[at] == origin)
        return at[leads], leads

    def keep(self, at: Whole, base: Floats, quantiles: Floats, means: Floats, z: Floats) -> None:
        """`base`: [L, C], near the means; `quantiles`: [L, V, Q] as issued; `means`: [K, L, C]; `z`: [L, C, Z], of
        which the last are the hour's."""
        self._base[at] = base
        steps = np.rint((quantiles - _MIDDLE) / _GRAIN)
        self._issued[at] = np.where(np.isnan(steps), _NONE, np.clip(steps, -_MOST, _MOST))
        self._departures[at] = (means - self._base[at]).transpose(1, 0, 2)
        self._z[at] = z[..., :-_HOURS]

    def issued(self, at: Whole) -> Floats:
        """Quantiles, [N, V, Q], to half a step; NaN where there were none."""
        steps = self._issued[at]
        return np.asarray(np.where(steps == _NONE, np.nan, _MIDDLE + steps * _GRAIN))

    def means(self, at: Whole) -> Floats:
        """[K, N, C]."""
        return np.asarray(self._base[at] + self._departures[at].astype(np.float64).transpose(1, 0, 2))

    def z(self, at: Whole, valid: int) -> Floats:
        """[N, C, Z] of forecasts for a valid time."""
        kept = self._z[at].astype(np.float64)
        return np.concatenate([kept, np.broadcast_to(hour_terms(valid)[1:], (*kept.shape[:2], _HOURS))], axis=-1)
