"""What a bundle's forecast is held against, made from the same history when it is issued.

Verification comes hours later, when rows may have arrived late: baselines made then would know more than the forecast
did. Must never look at anything but the history the forecast was made from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from edge_agent.bundle.station_task import DERIVED_EVENTS, EVENTS
from edge_agent.forecast import Floats, Forecast, Level, VariableForecast, chances, persistence
from edge_agent.forecast.climatology import climatology
from edge_agent.grid import GRID_VARIABLES

BASELINES = {"persistence": False, "anomaly-persistence": True}  # source -> does the mean day move it
CLIMATOLOGY = "climatology"
BESIDE = (*BASELINES, CLIMATOLOGY)  # all that stands beside a forecast in the store


def beside(forecasts: Sequence[Forecast], history: NDArray[np.float32], leads_s: Sequence[int]) -> list[list[Forecast]]:
    """The baselines of each forecast, of those variables and events that a bundle forecast; none where none did.

    Args:
        forecasts: S, with the same leads and levels.
        history: [S, 2880, 8], what they were made from, columns as `GRID_VARIABLES`.
        leads_s: the leads that will be verified, multiples of 900 s.
    """
    leads = tuple(leads_s)
    found: list[list[Forecast]] = [[] for _ in forecasts]
    for source in BESIDE:
        variables = _variables(forecasts, history, leads, source)
        events = _events(forecasts, variables, history, len(leads), source)
        for row, issued in enumerate(forecasts):
            if variables[row]:
                found[row].append(
                    Forecast(
                        issued.station, issued.origin, issued.issued, leads, issued.levels_q, Level.PERSISTENCE, source,
                        "", variables[row], events[row],
                    )
                )  # fmt: skip
    return found


def _variables(
    forecasts: Sequence[Forecast], history: NDArray[np.float32], leads_s: tuple[int, ...], source: str
) -> list[dict[str, VariableForecast]]:
    found: list[dict[str, VariableForecast]] = [{} for _ in forecasts]
    for column, name in enumerate(GRID_VARIABLES):
        rows = [row for row, forecast in enumerate(forecasts) if _by_bundle(forecast, name)]
        if not rows:
            continue
        x = np.ascontiguousarray(history[rows, :, column])
        mean, quantiles = _numbers(x, name, leads_s, forecasts[rows[0]].levels_q, source)
        for i, row in enumerate(rows):
            found[row][name] = VariableForecast(name, Level.PERSISTENCE, mean[i], quantiles[i].T, None)
    return found


def _numbers(
    x: NDArray[np.float32], name: str, leads_s: tuple[int, ...], levels: Sequence[float], source: str
) -> tuple[Floats, Floats]:
    """Mean [S, L] and quantiles [S, L, Q] of a baseline."""
    if source == CLIMATOLOGY:
        return climatology(x, name, leads_s, levels)
    cycle = BASELINES[source]
    mean = persistence.base(x, name, leads_s, cycle=cycle)
    return mean, persistence.quantiles(x, name, leads_s, levels, cycle=cycle)


def _events(
    forecasts: Sequence[Forecast],
    variables: Sequence[Mapping[str, VariableForecast]],
    history: NDArray[np.float32],
    leads: int,
    source: str,
) -> list[dict[str, Floats]]:
    found: list[dict[str, Floats]] = [{} for _ in forecasts]
    for event in EVENTS:
        column = GRID_VARIABLES.index(event.variable)
        for row, forecast in enumerate(forecasts):
            if event.name in forecast.events and _by_bundle(forecast, event.variable):
                x = history[row : row + 1, :, column]
                found[row][event.name] = persistence.event_probability(
                    x, event, cycle=BASELINES.get(source, True)
                ).repeat(leads)
    for event in DERIVED_EVENTS:
        for row, forecast in enumerate(forecasts):
            own = variables[row].get(event.variable)
            if event.name in forecast.events and own is not None and own.quantiles is not None:
                found[row][event.name] = chances.chance(event, own.quantiles.T, forecast.levels_q)
    return found


def _by_bundle(forecast: Forecast, name: str) -> bool:
    variable = forecast.variables.get(name)
    return variable is not None and variable.mean is not None and variable.level is not Level.PERSISTENCE
