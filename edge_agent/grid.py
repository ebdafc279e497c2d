"""The 15-minute grid: how readings of any cadence become the steps a bundle reads.

One rule for files and for the running agent, so that a forecast does not depend on where its history came from:
a step holds the latest reading in the 15 minutes that end at it; rain the sum, gust the maximum. Nothing later than a
step ever enters it. Where a step has no reading, a state may be held from an earlier step (`hold`), at most 15 minutes
old, or 60 for series that come less often than every 15 minutes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_agent.variables import VARIABLES, Kind

STEP_S = 900
STEPS_PER_DAY = 86_400 // STEP_S
HISTORY_STEPS = 30 * STEPS_PER_DAY
HOLD_S = 900
HOLD_HOURLY_S = 3600
MATCH_S = 150  # a reading stands for a valid time within this

# What a station bundle may read, in the vocabulary's units. `humidity` is completed from temperature and dew point
# where a station measures only those (`humidity_from_dew_point`).
GRID_VARIABLES: tuple[str, ...] = (
    "temperature", "humidity", "pressure", "wind_speed", "wind_gust", "wind_direction", "rain", "solar_radiation",
)  # fmt: skip

Times = NDArray[np.int64]
Values = NDArray[np.float64]


def step_of(times: Times, phase_s: int = 0) -> Times:
    """End of the grid step each time falls into: the first step at or after it. `phase_s`: offset of the grid from UTC
    quarter hours, 0 <= phase_s < 900."""
    return -((phase_s - np.asarray(times, np.int64)) // STEP_S) * STEP_S + phase_s


def cadence_s(times: Times) -> float:
    """Typical spacing of the readings: the median difference (of an even number the lower middle one, so that it is a
    spacing that occurs), seconds; infinite below two readings."""
    return float(np.sort(np.diff(times))[(len(times) - 2) // 2]) if len(times) > 1 else float("inf")


def gathered(times: Times) -> NDArray[np.bool_]:
    """Where a sum fell over more than its own interval, [N]: more than a step and more than twice the usual spacing
    after the reading before. `times`: [N] ascending."""
    spacing = np.diff(times, prepend=times[:1])
    return np.asarray(spacing > max(STEP_S, 2 * cadence_s(times)))


def hold_s(cadence: float) -> int:
    """How old a held state may be at its step, seconds."""
    return HOLD_S if cadence <= STEP_S else HOLD_HOURLY_S


def bucket(times: Times, values: Values, kind: Kind, steps: Times) -> tuple[Values, Times]:
    """Readings as grid cells.

    Args:
        times: [N] ascending, UTC seconds.
        values: [N], NaN = missing.
        steps: [T] ascending multiples of 900 s apart.

    Returns:
        (value [T], time of the latest reading in it [T]); NaN and a very old time where a step has no reading.
    """
    out = np.full(len(steps), np.nan)
    latest = np.full(len(steps), np.iinfo(np.int64).min // 2, np.int64)
    ok = ~np.isnan(values)
    t, v = times[ok], values[ok]
    index = np.searchsorted(steps, t, side="left")
    inside = (index < len(steps)) & (t > steps[0] - STEP_S) if len(steps) else np.zeros(len(t), bool)
    index, t, v = index[inside], t[inside], v[inside]
    if kind is Kind.SUM:
        total = np.zeros(len(steps))
        np.add.at(total, index, v)
        out[index] = total[index]
    elif kind is Kind.MAXIMUM:
        peak = np.full(len(steps), -np.inf)
        np.maximum.at(peak, index, v)
        out[index] = peak[index]
    else:
        out[index] = v  # ascending: the last assignment, the latest reading, stands
    latest[index] = t
    return out, latest


def hold(values: Values, latest: Times, steps: Times, kind: Kind, max_age_s: int) -> Values:
    """Cells with gaps closed by holding a state while its reading is at most `max_age_s` old; sums are never held."""
    if kind is Kind.SUM:
        return values
    out = values.copy()
    for back in range(1, HOLD_HOURLY_S // STEP_S + 1):
        age = steps[back:] - latest[:-back]
        fill = np.isnan(out[back:]) & ~np.isnan(values[:-back]) & (age <= max_age_s)
        out[back:][fill] = values[:-back][fill]
    return out


def on_grid(times: Times, values: Values, name: str, steps: Times) -> Values:
    """One variable of a series on the grid: `bucket`, then `hold` by the series' own cadence. Shapes as there."""
    kind = VARIABLES[name].kind
    present = ~np.isnan(values)
    cells, latest = bucket(times, values, kind, steps)
    return hold(cells, latest, steps, kind, hold_s(cadence_s(times[present])))


def verifying(times: Times, values: Values, name: str, valid: Times) -> Values:
    """What came: the reading at each valid time, within 150 s, never interpolated; NaN where there is none.

    A reading of rain or gust that covers less than half a step (cadence under 7.5 minutes) does not stand for the step:
    there the sum or maximum of the readings in the 15 minutes up to the valid time is taken, if a reading stands at it.
    A sum over more than a step says nothing of the step's own: hourly rain verifies nothing (NaN).

    Args:
        times: [N] ascending; values: [N]; valid: [M], any order.
    """
    ok = ~np.isnan(values)
    t, v = times[ok], values[ok]
    out = np.full(len(valid), np.nan)
    if not len(t):
        return out
    kind, cadence = VARIABLES[name].kind, cadence_s(t)
    if kind is Kind.SUM and cadence > STEP_S:
        return out
    right = np.clip(np.searchsorted(t, valid), 0, len(t) - 1)
    left = np.clip(right - 1, 0, len(t) - 1)
    near = np.where(np.abs(t[left] - valid) <= np.abs(t[right] - valid), left, right)
    there = np.abs(t[near] - valid) <= MATCH_S
    out[there] = v[near[there]]
    if kind in (Kind.SUM, Kind.MAXIMUM) and cadence < STEP_S / 2:
        first = np.searchsorted(t, t[near] - STEP_S, side="right")
        for i in np.flatnonzero(there):
            part = v[first[i] : near[i] + 1]
            out[i] = part.sum() if kind is Kind.SUM else part.max()
    return out


def humidity_from_dew_point(temperature: Values, dew_point: Values) -> Values:
    """Relative humidity, %, over water.

    e_s = 6.112 exp(17.67 t / (t + 243.5)) hPa, t in degC; RH = 100 e_s(dew point) / e_s(temperature).
    Source: Bolton (1980), Mon. Wea. Rev. 108, 1046-1053, eq. 10. Worked: 20 degC and 10 degC -> 52.5 %.
    """

    def exponent(t: Values) -> Values:
        return 17.67 * t / (t + 243.5)

    return np.asarray(100.0 * np.exp(exponent(np.asarray(dew_point)) - exponent(np.asarray(temperature))))
