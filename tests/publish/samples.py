"""Ready-made payload inputs for the publishing tests."""

from __future__ import annotations

import numpy as np

from edge_agent.config import Station
from edge_agent.forecast import LEADS_S, QUANTILES, Forecast, Level, VariableForecast
from edge_agent.observation import Flag, Judged, Observation, Verdict
from edge_agent.variables import VARIABLES

ORIGIN = 1_714_564_800  # 2024-05-01T12:00:00Z
STATION = Station(id="roof", latitude=47.37689, longitude=8.54169, elevation_m=408.4, timezone="Europe/Zurich")


def judged(
    seq: int = 1,
    *,
    t: int = ORIGIN,
    station: str = "roof",
    source: str = "mast",
    historical: bool = False,
    period_s: int | None = 60,
    **values: float,
) -> Judged:
    """An observation with one good temperature, or with the given values, all good."""
    values = values or {"temperature": 12.344}
    observation = Observation(station, source, t, values, "b00t", seq, period_s=period_s, historical=historical)
    return Judged(observation, {name: Verdict(Flag.GOOD) for name in values})


def forecast(station: str = "roof", origin: int = ORIGIN, issued: int | None = None, **missing: str) -> Forecast:
    """A whole forecast; `missing`: variables without one, and why."""
    names = ("temperature", "humidity", "pressure", "wind_speed", "wind_gust", "wind_direction", "rain")
    variables = {}
    for name in names:
        if name in missing:
            variables[name] = VariableForecast(name, Level.NONE, None, None, None, missing[name])
            continue
        low, high = VARIABLES[name].suspect
        mean = np.linspace(max(low, 0), min(high, 360), len(LEADS_S))
        spread = np.linspace(-30, 30, len(QUANTILES))
        variables[name] = VariableForecast(name, Level.NOWCAST_ONLY, mean, mean + spread[:, None], 42)
    events = {"rain": np.linspace(-0.0001, 1.0001, len(LEADS_S))}
    when = origin + 5 if issued is None else issued
    level, name = Level.NOWCAST_ONLY, "wx-test-1"
    return Forecast(station, origin, when, LEADS_S, QUANTILES, level, name, name, variables, events)
