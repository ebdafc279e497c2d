"""A value against the agent's own forecast for its time. Flag 3 at most: quality control by the forecast must not make
the forecast look good, so what is said here keeps no value out of anything."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge_agent.clock import format_time
from edge_agent.forecast import Forecast
from edge_agent.observation import Flag, Verdict
from edge_agent.quality import limits
from edge_agent.variables import VARIABLES

# A normal distribution's quantiles of 5 and 95 % lie so many standard deviations from its median.
_SIGMAS = 1.645


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a forecast said of one variable: at `times` the `median`, and standard deviations below and above it."""

    origin: int
    times: tuple[float, ...]
    median: tuple[float, ...]
    below: tuple[float, ...]
    above: tuple[float, ...]

    def z(self, t: int, value: float) -> tuple[float, float] | None:
        """(z, median) at that time: the departure in standard deviations of its own side; None = it says nothing of
        that time. Between lead times linear; before the first one as at the first."""
        if not self.origin < t <= min(self.times[-1], self.origin + limits.ANOMALY_AGE_S):
            return None
        middle = float(np.interp(t, self.times, self.median))
        sides = self.above if value >= middle else self.below
        return (value - middle) / max(float(np.interp(t, self.times, sides)), 1e-6), middle


def outlooks(forecast: Forecast) -> dict[str, Outlook]:
    """What of a forecast can be a measure: variables with quantiles of 5, 50 and 95 %."""
    levels = {round(level, 3): i for i, level in enumerate(forecast.levels_q)}
    if not {0.05, 0.5, 0.95} <= levels.keys():
        return {}
    times = tuple(float(forecast.origin + lead) for lead in forecast.leads_s)
    found = {}
    for name in limits.ANOMALY_LEAST:
        variable = forecast.variables.get(name)
        if variable is None or variable.quantiles is None:
            continue
        low, middle, high = (variable.quantiles[levels[level]] for level in (0.05, 0.5, 0.95))
        if np.isfinite([low, middle, high]).all():
            below, above = (middle - low) / _SIGMAS, (high - middle) / _SIGMAS
            found[name] = Outlook(forecast.origin, times, *(tuple(x.tolist()) for x in (middle, below, above)))
    return found


def anomaly_test(name: str, value: float, outlook: Outlook, t: int) -> Verdict | None:
    """A value that the forecast for its time held for all but impossible."""
    judged = outlook.z(t, value)
    if judged is None:
        return None
    z, middle = judged
    if abs(z) <= limits.ANOMALY_Z or abs(value - middle) <= limits.ANOMALY_LEAST[name]:
        return None
    unit = VARIABLES[name].unit
    why = (
        f"{name} {value:g} {unit}: the forecast of {format_time(outlook.origin)} expected {middle:.1f} for this time, "
        f"{abs(z):.0f} of its standard deviations away; suspect from {limits.ANOMALY_Z:g}"
    )
    return Verdict(Flag.SUSPECT, "anomaly", why, limits.ANOMALY_Z, value)
