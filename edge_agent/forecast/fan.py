"""A fan: what a chart of one variable's forecast needs, whoever draws it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_agent.circle import near
from edge_agent.forecast import Forecast
from edge_agent.grid import GRID_VARIABLES, STEP_S, STEPS_PER_DAY
from edge_agent.variables import VARIABLES, Kind

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Fan:
    """One variable around an origin. `past_s` [P], ending at 0, and `leads_s` [L]: seconds from `origin` (UTC seconds);
    `past` [P]; `mean` [L]; `quantiles` [Q, L] at `levels`; `observed` [L] where it is known what came. Directions are
    unwrapped around the forecast."""

    variable: str
    origin: int
    past_s: NDArray[np.int64]
    past: Floats
    leads_s: NDArray[np.int64]
    levels: tuple[float, ...]
    mean: Floats
    quantiles: Floats
    observed: Floats | None = None

    @property
    def unit(self) -> str:
        return VARIABLES[self.variable].unit

    def quantile(self, level: float) -> Floats:
        """The quantile nearest to a level, [L]."""
        return np.asarray(self.quantiles[int(np.argmin(np.abs(np.asarray(self.levels) - level)))])


def fans_of(
    forecast: Forecast, history: NDArray[np.float32], observed: Mapping[str, Floats] | None = None
) -> list[Fan]:
    """The fan of every variable that has a forecast, with a day of its past.

    Args:
        history: [T, 8] that the forecast was made from.
        observed: per variable, what came at the leads, [L].
    """
    past_s = STEP_S * np.arange(1 - STEPS_PER_DAY, 1, dtype=np.int64)
    fans = []
    for name, own in forecast.variables.items():
        if own.mean is None or own.quantiles is None:
            continue
        past = history[-STEPS_PER_DAY:, GRID_VARIABLES.index(name)].astype(np.float64)
        came = (observed or {}).get(name)
        if VARIABLES[name].kind is Kind.DIRECTION:
            past = near(past, own.mean[0])
            came = None if came is None else near(came, own.mean)
        fans.append(
            Fan(
                variable=name,
                origin=forecast.origin,
                past_s=past_s,
                past=past,
                leads_s=np.asarray(forecast.leads_s, np.int64),
                levels=forecast.levels_q,
                mean=own.mean,
                quantiles=own.quantiles,
                observed=came,
            )
        )
    return fans
