"""The network's newest verified errors, as the recursive correction sees them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_agent.grid import STEP_S, STEPS_PER_DAY

Floats = NDArray[np.float64]

RECENT = 5  # numbers a variable and lead
SHORT = 1  # the lead whose newest error all others see: half an hour
HOURS, WEEK = 12, 3.5 * STEPS_PER_DAY  # half-lives of the two error means, in verdicts
_MOST = 1000.0  # an error of a day ago counts as no larger
FADES = 0.97  # what is left of a newest error at each origin without one


class Recent:
    """Errors of L leads and C variables, reading minus forecast, in units of the typical error."""

    def __init__(self, leads: int, variables: int) -> None:
        shape = (leads, variables)
        self.newest, self.hours, self.week = np.zeros(shape), np.zeros(shape), np.zeros(shape)
        self.day = np.zeros((STEPS_PER_DAY, *shape), np.float16)
        self._lead = np.arange(leads)

    def take(self, valid: int, errors: Floats) -> None:
        """Verdicts of a valid time, [L, C]; NaN where there is none."""
        there = ~np.isnan(errors)
        self.newest = np.where(there, errors, FADES * self.newest)
        for mean, half_life in ((self.hours, HOURS), (self.week, WEEK)):
            keep = 0.5 ** (1.0 / half_life)
            mean[there] = (keep * mean + (1.0 - keep) * errors)[there]
        self.day[valid // STEP_S % STEPS_PER_DAY] = np.where(there, np.clip(errors, -_MOST, _MOST), 0.0)

    def at(self, valid: NDArray[np.int64]) -> Floats:
        """[L, C, RECENT] for forecasts to valid times [L]: the newest error at half an hour, the newest at the lead,
        the one a day before the valid time, and the means."""
        short = np.broadcast_to(self.newest[min(SHORT, len(self.newest) - 1)], self.newest.shape)
        yesterday = self.day[valid // STEP_S % STEPS_PER_DAY, self._lead]
        return np.stack([short, self.newest, yesterday, self.week, self.hours], axis=-1)
