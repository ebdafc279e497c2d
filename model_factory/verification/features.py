"""What a station's own regressions see: the last day of every variable, its mean day, the hour and the sun."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from edge_agent.bundle.station_task import OUTPUT_VARIABLES
from edge_agent.forecast import LEADS_S
from edge_agent.forecast.persistence import NOW_STEPS, base
from edge_agent.grid import GRID_VARIABLES
from model_factory.models.sunlight import sine_of_sun
from model_factory.verification.pairs import Index, Record, windows

LEAD_STEPS = (1, 2, 4, 8, 12, 16, 24)  # 15 min to 6 h: the leads the regressions are made for

# The last 24 h, denser towards now and at yesterday's valid times (96 less each lead).
LAGS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 36, 48, 72, 80, 84, 88, 92, 94, 96)
MEANS = (12, 96)
SUN_HOURS = tuple(range(-6, 7))
CYCLES = ("temperature", "humidity", "pressure", "wind_speed", "wind_gust")
CHUNK = 512

Floats = NDArray[np.float64]


def channels(one: Record) -> Floats:
    """[T, 9]: temperature, humidity, pressure, wind speed, gust, u, v, log of rain, radiation, each with its newest
    value of the last 60 minutes."""
    column = {name: one.history[:, i].astype(np.float64) for i, name in enumerate(GRID_VARIABLES)}
    u, v = wind_vector(column["wind_speed"], column["wind_direction"])
    scalars = [column[name] for name in ("temperature", "humidity", "pressure", "wind_speed", "wind_gust")]
    return _held(np.stack([*scalars, u, v, np.log1p(column["rain"]), column["solar_radiation"]], axis=1))


def wind_vector(speed: Floats, direction: Floats) -> tuple[Floats, Floats]:
    """(u, v) of a wind blowing from `direction` degrees; a calm is (0, 0) whatever its direction."""
    radians = np.deg2rad(np.where(speed == 0.0, 0.0, direction))
    return -speed * np.sin(radians), -speed * np.cos(radians)


def features(one: Record, at: Index) -> NDArray[np.float32]:
    """[O, F]; nothing later than the origin enters. A missing value is NaN."""
    x = channels(one)
    padded = np.concatenate([np.full((max(LAGS), x.shape[1]), np.nan), x])
    now = x[at]
    parts = [now, *(padded[at + max(LAGS) - lag] - now for lag in LAGS)]
    parts += [_mean(x, at, steps) - now for steps in MEANS]
    angle = 2 * math.pi * (one.steps[at] % 86_400) / 86_400
    parts.append(np.stack([f(k * angle) for k in (1, 2) for f in (np.sin, np.cos)], axis=1))
    parts += [cycle_changes(one, at), sun(one, at)]
    return np.concatenate(parts, axis=1).astype(np.float32)


def cycle_changes(one: Record, at: Index) -> Floats:
    """How far the mean day moves each variable from now to each lead, [O, 5 x 7]."""
    leads = [LEADS_S[k - 1] for k in LEAD_STEPS]
    out = np.full((len(at), len(CYCLES), len(leads)), np.nan)
    for start in range(0, len(at), CHUNK):
        chunk = windows(one, at[start : start + CHUNK])
        for i, name in enumerate(CYCLES):
            x = chunk[:, GRID_VARIABLES.index(name)]
            out[start : start + CHUNK, i] = base(x, name, leads) - base(x, name, leads, cycle=False)
    return out.reshape(len(at), -1)


def sun(one: Record, at: Index) -> Floats:
    """Sine of the sun's elevation from 6 h before to 6 h after each origin, and its part above the horizon, [O, 26]."""
    latitude, longitude = (torch.full((len(at),), float(x)) for x in one.site[:2])
    hours = torch.tensor(SUN_HOURS, dtype=torch.float32)
    sine = sine_of_sun(torch.from_numpy(one.steps[at]), latitude, longitude, hours)[0].numpy().astype(np.float64)
    return np.concatenate([sine, np.maximum(sine, 0.0)], axis=1)


def base_forecasts(one: Record, at: Index, *, cycle: bool) -> NDArray[np.float32]:
    """Diurnal-anomaly persistence, or plain persistence where `cycle` is False, [O, 24, 8]."""
    out = np.full((len(at), len(LEADS_S), len(OUTPUT_VARIABLES)), np.nan, np.float32)
    for start in range(0, len(at), CHUNK):
        chunk = windows(one, at[start : start + CHUNK])
        for i, name in enumerate(OUTPUT_VARIABLES):
            out[start : start + CHUNK, :, i] = base(chunk[:, GRID_VARIABLES.index(name)], name, LEADS_S, cycle=cycle)
    return out


def _held(x: Floats) -> Floats:
    """Each step with its newest value of the last 60 minutes."""
    out = x.copy()
    for back in range(1, NOW_STEPS):
        out[back:] = np.where(np.isnan(out[back:]), x[:-back], out[back:])
    return out


def _mean(x: Floats, at: Index, steps: int) -> Floats:
    """Mean of the values in the last steps, NaN where there is none."""
    total = np.concatenate([np.zeros((1, x.shape[1])), np.cumsum(np.nan_to_num(x), axis=0)])
    count = np.concatenate([np.zeros((1, x.shape[1])), np.cumsum(~np.isnan(x), axis=0)])
    first = np.maximum(at + 1 - steps, 0)
    n = count[at + 1] - count[first]
    return np.asarray(np.where(n > 0, (total[at + 1] - total[first]) / np.maximum(n, 1), np.nan))
