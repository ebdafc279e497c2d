"""The forecast that looks at no weather: what the station's last 30 days were like at that time of day.

A bar for verification, not something that is issued: a forecast no better than this one says nothing about today.
Vectorised over rows (stations); looks at nothing but the 30 days that end at the origin.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edge_agent import grid
from edge_agent.circle import compass, near
from edge_agent.forecast.persistence import Floats, Series, row_mean, sorted_quantiles
from edge_agent.variables import VARIABLES, Kind

DAY = grid.STEPS_PER_DAY
AROUND = 4  # steps on either side of the time of day: an hour


def climatology(x: Series, name: str, leads_s: Sequence[int], levels: Sequence[float]) -> tuple[Floats, Floats]:
    """Mean [S, L] and quantiles [S, L, Q] of all values within an hour of the valid time's time of day; of all values
    where there was none then, and NaN where there is none at all. Directions: the direction of the mean unit vector,
    quantiles unwrapped around it. Rain: of all values; it hangs little on the time of day.

    Source: sample climatology as a reference forecast, Wilks (2011), Statistical Methods in the Atmospheric Sciences,
    3rd ed., section 8.1.4.

    Args:
        x: [S, T], T a multiple of 96, ending at the origin, in the variable's unit, NaN = missing.
        leads_s: multiples of 900 s.
    """
    if VARIABLES[name].kind is Kind.SUM:
        mean, spread = _distribution(np.asarray(x, np.float64), name, levels)
        leads = len(leads_s)
        return mean[:, None].repeat(leads, axis=1), spread[:, None].repeat(leads, axis=1)
    parts = [_distribution(_at_time_of_day(x, lead // grid.STEP_S - 1), name, levels) for lead in leads_s]
    return np.stack([mean for mean, _ in parts], axis=1), np.stack([spread for _, spread in parts], axis=1)


def _distribution(values: Floats, name: str, levels: Sequence[float]) -> tuple[Floats, Floats]:
    """Mean [S] and quantiles [S, Q] of rows of values [S, N]; NaN where there is none."""
    if VARIABLES[name].kind is Kind.DIRECTION:
        mean = _direction(values)
        values = near(values, mean[:, None])
    else:
        mean = row_mean(values)
    found, n = sorted_quantiles(np.sort(values, axis=1), levels)
    return mean, np.asarray(np.where(n[:, None] > 0, found, np.nan))


def _at_time_of_day(x: Series, step: int) -> Floats:
    """[S, N]: values within an hour of a step of the day, counted as `diurnal_cycle` does; missing: NaN."""
    days = np.asarray(x, np.float64).reshape(len(x), -1, DAY)
    at = np.unique(np.arange(step - AROUND, step + AROUND + 1) % DAY)
    near_it = np.isin(np.arange(DAY), at)
    none = np.asarray(np.isnan(days[:, :, near_it]).all(axis=(1, 2)))
    if none.any():
        return np.where(near_it | none[:, None, None], days, np.nan).reshape(len(x), -1)
    return days[:, :, near_it].reshape(len(x), -1)


def _direction(values: Floats) -> Floats:
    """Direction of the mean unit vector, 0 to 360 degrees."""
    turned = np.radians(values)
    return compass(np.degrees(np.arctan2(row_mean(np.sin(turned)), row_mean(np.cos(turned)))))
