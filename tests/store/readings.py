"""Observations and forecasts for the store's tests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import count

import numpy as np

from edge_agent.forecast import LEADS_S, QUANTILES, Forecast, Level, VariableForecast
from edge_agent.observation import Flag, Judged, Observation, Verdict

DAY = 1_700_006_400  # a midnight, UTC
ORIGIN = DAY + 43_200


_names = (f"station-{n}" for n in count())


def elsewhere(readings: Iterable[Judged]) -> tuple[str, list[Judged]]:
    """The same readings at a station that no test has used: (its name, readings)."""
    name = next(_names)
    return name, [replace(j, observation=replace(j.observation, station=name)) for j in readings]


def judged(
    t: int,
    values: Mapping[str, float],
    *,
    station: str = "roof",
    source: str = "mast",
    seq: int | None = None,
    rank: int = 0,
    boot_id: str = "boot",
    flags: Mapping[str, Flag] | None = None,
) -> Judged:
    """An observation whose values are good unless `flags` says otherwise."""
    verdicts = {name: Verdict(Flag.GOOD) for name in values}
    for name, flag in (flags or {}).items():
        verdicts[name] = Verdict(flag, "range", f"{name} is odd", 1.5, values.get(name))
    number = t if seq is None else seq
    return Judged(Observation(station, source, t, dict(values), boot_id, number, rank=rank), verdicts)


def forecast(origin: int, station: str = "roof", first: float = 10.0) -> Forecast:
    """A forecast of two variables, one of them without numbers, and an event."""
    mean = np.linspace(first, 15.0, len(LEADS_S))
    fan = mean[None, :] + np.linspace(-2.0, 2.0, len(QUANTILES))[:, None]
    variables = {
        "temperature": VariableForecast("temperature", Level.NOWCAST_ONLY, mean, fan, 12),
        "pressure": VariableForecast("pressure", Level.NONE, None, None, None, "no reading for 60 min"),
    }
    return Forecast(
        station, origin, origin + 5, LEADS_S, QUANTILES, Level.NOWCAST_ONLY, "small", "small-1", variables,
        {"rain": np.full(len(LEADS_S), 0.25)}, "why not better",
    )  # fmt: skip
