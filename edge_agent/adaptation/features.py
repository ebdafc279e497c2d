"""What the local expert sees of a station's last day: every number is known at the origin.

Inputs are departures from now and from the base forecast, in round units of each variable, so that one penalty fits
them all. A missing value is 0: no departure.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_agent.bundle.station_task import OUTPUT_VARIABLES
from edge_agent.forecast.persistence import NOW_STEPS
from edge_agent.grid import GRID_VARIABLES, STEP_S, STEPS_PER_DAY

Floats = NDArray[np.float64]

CORRECTED = ("temperature", "humidity", "pressure", "wind_speed", "wind_gust")  # whose mean is learned
COLUMNS = tuple(OUTPUT_VARIABLES.index(name) for name in CORRECTED)
UNITS = (1.0, 5.0, 0.5, 1.0, 1.5)  # of `CORRECTED`: what changes in an ordinary hour

LAGS = (1, 2, 4, 8, 12, 24, 48, 96)  # quarter hours before now
HOUR = 4  # the lag whose change, and the 30-day level, may mean another thing at another time of day
MEANS = (12, 96)  # quarter hours of the means
CHANNEL_UNITS = (1.0, 5.0, 0.5, 1.0, 1.5, 1.5, 1.5, 0.3, 100.0)  # of the channels below
CHANNELS = len(CHANNEL_UNITS)
_PAST = max(LAGS) + 1
_LIMIT = 12.0  # no input is larger, in units

# What curves are drawn over: much the same, at fewer lags and leads, in units of its usual range.
BENT = (0, 1, 3, 4, 5, 6, 7, 8)  # channels whose value now is seen: all but pressure, whose depends on the height
CENTRES = (10.0, 75.0, 2.0, 4.0, 0.0, 0.0, 0.0, 100.0)
RANGES = (8.0, 15.0, 2.5, 4.0, 2.5, 2.5, 0.3, 250.0)
LEVEL_RANGES = (8.0, 3.0, 16.0)  # units of temperature, humidity, pressure: departures from the 30-day mean
BENT_LAGS = {1: 0.5, 4: 1.0, 12: 2.0, 24: 3.0, 96: 3.0}  # and the units of their changes
BENT_LEADS_S = {3600: 1.0, 3 * 3600: 2.0, 6 * 3600: 3.0}
_BENT_LIMIT = 4.0

OWN = 1 + 4 + CHANNELS * (1 + len(LAGS) + len(MEANS) + 2 * 2) + CHANNELS + len(CORRECTED)  # without a bundle's part
ALL = OWN + len(CORRECTED)
BENT_INPUTS = len(BENT) + 4 + len(LEVEL_RANGES) + len(BENT_LAGS) * CHANNELS + len(BENT_LEADS_S) * 2 * len(CORRECTED)


def inputs(
    history: NDArray[np.float32], origin: int, base: Floats, network: Floats, leads_s: NDArray[np.int64]
) -> Floats:
    """The expert's inputs at each lead, [L, ALL]; the first `OWN` of them come from the station alone.

    Args:
        history: [T, 8], T >= 97, columns as `GRID_VARIABLES`, ending at `origin`, UTC seconds.
        base, network: [L, C] forecasts of `CORRECTED`, in their units.
        leads_s: [L] multiples of 900.
    """
    past = _held(_channels(history[-_PAST - NOW_STEPS + 1 :]))[NOW_STEPS - 1 :] / np.asarray(CHANNEL_UNITS)
    now = past[-1]
    level = now - _mean(_channels(history[::4])) / np.asarray(CHANNEL_UNITS)
    change = past[-1 - HOUR] - now
    angle = 2 * np.pi * (origin % 86_400) / 86_400
    shared = np.concatenate(
        [
            [1.0, np.sin(angle), np.cos(angle), np.sin(2 * angle), np.cos(2 * angle)],
            level,
            *(past[-1 - lag] - now for lag in LAGS),
            *(_mean(past[-steps:]) - now for steps in MEANS),
            *(part * turn for part in (level, change) for turn in (np.sin(angle), np.cos(angle))),
        ]
    )
    yesterday = past[-1 - (STEPS_PER_DAY - leads_s // STEP_S) % STEPS_PER_DAY] - now
    units = np.asarray(UNITS)
    moved = base / units - now[: len(CORRECTED)]
    out = np.concatenate(
        [np.broadcast_to(shared, (len(leads_s), len(shared))), yesterday, moved, (network - base) / units], axis=1
    )
    return np.asarray(np.clip(np.nan_to_num(out), -_LIMIT, _LIMIT))


def bent(history: NDArray[np.float32], x: Floats, leads_s: NDArray[np.int64]) -> Floats:
    """What the curves see at every lead, [BENT_INPUTS]; `x`: the expert's inputs, the rest as there."""
    now = _held(_channels(history[-NOW_STEPS:]))[-1, list(BENT)]
    level = 1 + 4
    lags = level + CHANNELS
    rows = [min(int(np.searchsorted(leads_s, lead)), len(leads_s) - 1) for lead in BENT_LEADS_S]
    change = x[0, lags : lags + len(LAGS) * CHANNELS].reshape(len(LAGS), CHANNELS)
    parts = [
        (now - CENTRES) / RANGES,
        x[0, 1:level],
        x[0, level : level + len(LEVEL_RANGES)] / LEVEL_RANGES,
        *(change[LAGS.index(lag)] / usual for lag, usual in BENT_LAGS.items()),
        *(x[row, -2 * len(CORRECTED) :] / usual for row, usual in zip(rows, BENT_LEADS_S.values(), strict=True)),
    ]
    return np.asarray(np.clip(np.nan_to_num(np.concatenate(parts)), -_BENT_LIMIT, _BENT_LIMIT))


def _channels(history: NDArray[np.float32]) -> Floats:
    """[T, 9]: temperature, humidity, pressure, wind speed, gust, u, v, log of rain, radiation. A calm is (0, 0)."""
    column = {name: history[:, i].astype(np.float64) for i, name in enumerate(GRID_VARIABLES)}
    speed = column["wind_speed"]
    radians = np.deg2rad(np.where(speed == 0.0, 0.0, column["wind_direction"]))
    u, v = -speed * np.sin(radians), -speed * np.cos(radians)
    return np.stack(
        [*(column[name] for name in CORRECTED), u, v, np.log1p(column["rain"]), column["solar_radiation"]], axis=1
    )


def _held(x: Floats) -> Floats:
    """Each step with its newest value of the last 60 minutes."""
    out = x.copy()
    for back in range(1, NOW_STEPS):
        out[back:] = np.where(np.isnan(out[back:]), x[:-back], out[back:])
    return out


def _mean(x: Floats) -> Floats:
    """Means over time of what is there, [channels]; NaN where nothing is."""
    there = ~np.isnan(x)
    n = there.sum(axis=0)
    return np.asarray(np.where(n > 0, np.where(there, x, 0.0).sum(axis=0) / np.maximum(n, 1), np.nan))
