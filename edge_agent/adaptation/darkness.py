"""What a station's pyranometer shows in the dark, where the forecast knows nothing but zero."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

DARK = 5.0  # W/m2: where no more is forecast it is dark; what a sensor shows above it there is no noise of its own
READINGS = 256  # so many of them are kept, a working week of nights ...
ENOUGH = 32  # ... and with fewer nothing is said


class Darkness:
    """The newest readings of the dark, [READINGS], W/m2, as a ring; `taken`: how many there ever were, [1]."""

    def __init__(self, levels: Sequence[float]) -> None:
        self._levels = np.asarray(levels)
        self.readings, self.taken = np.zeros(READINGS), np.zeros(1)

    def learn(self, highest: Floats, came: float) -> None:
        """Take a reading, NaN = none, for whose time `highest` were the highest quantiles at some leads, NaN = none."""
        if came <= DARK and bool((highest <= DARK).any()):
            self.readings[int(self.taken[0]) % READINGS] = came
            self.taken += 1.0

    def shown(self, mean: Floats, quantiles: Floats) -> tuple[Floats, Floats]:
        """Forecasts of the dark, mean [N] and quantiles [N, Q] of some leads, as the sensor will show it."""
        known = self.readings[: int(min(self.taken[0], READINGS))]
        if len(known) < ENOUGH:
            return mean, quantiles
        return np.maximum(mean, known.mean()), np.maximum(quantiles, np.quantile(known, self._levels))
