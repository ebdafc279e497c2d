"""The forecast that needs no model: the last value, moved along the station's own mean day.

It is the bar every model is held against, the base the station network corrects, and what stands in when a model cannot
answer. Vectorised over rows (stations or origins); looks at nothing but the 30 days that end at the origin.

    base(lead) = now + cycle(origin + lead) - cycle(origin)

`now` is the newest value of the last 60 minutes, `cycle` the mean day of the 30 days, 0 where fewer than 5 days of
values make none. Wind direction stays as it is. Rain has no memory here: its forecast is what the 30 days were like.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from edge_agent import grid
from edge_agent.bundle.manifest import Event
from edge_agent.circle import compass, wrap
from edge_agent.forecast import MAX_AGE_S
from edge_agent.variables import VARIABLES, Kind

Floats = NDArray[np.float64]
Series = NDArray[np.floating]

DAY = grid.STEPS_PER_DAY
NOW_STEPS = MAX_AGE_S // grid.STEP_S + 1  # the origin's step and those up to an hour before it
MIN_CYCLE_STEPS = 5 * DAY  # values that a mean day needs
CYCLE_SIGMA = 2.0  # quarter hours
NO_WEIGHT = 1e-6  # of a value a time of day must have from the days that are left, or it has none
ERROR_STEPS = 4  # past errors are looked at from every hour
PRIOR_ERRORS = 24  # with so many past errors, the ordinary spread still has half the say; with ten times as many, 1 %
PRIOR_RAIN = (0.05, DAY)  # this share of wet steps weighs as much as a day of them

BOUNDS: dict[str, tuple[float, float]] = {
    "humidity": (0.0, 100.0), "wind_speed": (0.0, np.inf), "wind_gust": (0.0, np.inf), "rain": (0.0, np.inf),
    "solar_radiation": (0.0, np.inf),
}  # fmt: skip

# Spread of persistence's errors where a station has no past yet: (standard deviation after an hour, exponent by which
# it grows with the lead). Round numbers from ten months at the Zurich lake stations (2019, City of Zurich, CC0).
ORDINARY_SPREAD: dict[str, tuple[float, float]] = {
    "temperature": (1.0, 0.75), "humidity": (5.0, 0.62), "pressure": (0.45, 0.83), "wind_speed": (1.1, 0.25),
    "wind_gust": (1.8, 0.27), "wind_direction": (65.0, 0.17), "rain": (0.2, 0.05),
    "solar_radiation": (80.0, 0.3),
}  # fmt: skip

SUN = "solar_radiation"  # zero at night: it is a multiple of its own mean day, and so are its errors
DIM = 10.0  # W/m2: with so little light, how bright it is stays near the ordinary
CLOUD_STEPS = 16.0  # quarter hours after which 1 / e is left of how far from ordinary it is
ORDINARY_DAY = 250.0  # W/m2 that the ordinary spread of radiation belongs to


def newest(x: Series) -> Floats:
    """The newest value of the last 60 minutes, [S]; NaN where there is none. `x`: [S, T], ending at the origin."""
    return _newest_at(x, np.array([x.shape[1] - 1]))[:, 0]


def diurnal_cycle(x: Series) -> Floats:
    """The mean day, [S, 96]: entry j belongs to the steps 95 - j quarter hours before the origin's time of day.

    Means over the days are smoothed along the circle of 96 by a Gaussian of 2 quarter hours, sums and counts alike
    (normalised convolution: Knutsson and Westin 1993, CVPR, 515-523), so that hourly series and gaps do no harm. 0
    everywhere where fewer than 5 days of values exist.

    Args:
        x: [S, T], T a multiple of 96, ending at the origin, NaN = missing.
    """
    sums, counts = _days(x)
    enough, weight = _enough(counts), counts.sum(axis=1) @ _smoother()
    mean = sums.sum(axis=1) @ _smoother() / np.where(weight > 0, weight, 1.0)
    return np.asarray(np.where(enough[:, None], mean, 0.0))


def base(x: Series, name: str, leads_s: Sequence[int], *, cycle: bool = True) -> Floats:
    """Mean forecast of one variable, [S, L]; NaN without a value in the last 60 minutes.

    Args:
        x: [S, T], T a multiple of 96, ending at the origin, in the variable's unit, NaN = missing.
        leads_s: multiples of 900 s.
        cycle: False for plain persistence, also of rain.
    """
    now = newest(x)
    if cycle and VARIABLES[name].kind is Kind.SUM:
        return np.where(np.isnan(now), np.nan, row_mean(x))[:, None].repeat(len(leads_s), axis=1)
    if VARIABLES[name].kind is Kind.DIRECTION:
        return compass(now)[:, None].repeat(len(leads_s), axis=1)
    day = _cycle(x, name, cycle)
    if name == SUN and cycle:
        there = _enough(_days(x)[1])[:, None]
        return np.where(there, _sun(x, now, day, _steps(leads_s)), now[:, None])
    change = day[:, (_steps(leads_s) - 1) % DAY] - day[:, -1:]  # the origin is the last entry of the day
    return np.asarray(np.clip(now[:, None] + change, *BOUNDS.get(name, (-np.inf, np.inf))))


def quantiles(x: Series, name: str, leads_s: Sequence[int], levels: Sequence[float], *, cycle: bool = True) -> Floats:
    """Quantile forecast of one variable, [S, L, Q], ascending along Q; directions unwrapped around the mean.

    The base plus the quantiles of the errors that the same base made at each lead in the 30 days, from every hour. The
    mean day by which an error is measured leaves out the day of its outcome: otherwise each outcome would have a part
    in its own forecast, and past errors would be smaller than those to come. (The origin's value is mostly of that day,
    too, and a real forecast has it in its mean day: past errors are now about a percent too large.) With few past
    errors, an ordinary spread takes their place (`PRIOR_ERRORS`). Rain: the distribution of the 30 days.
    """
    centre = base(x, name, leads_s, cycle=cycle)
    if cycle and VARIABLES[name].kind is Kind.SUM:
        spread, _ = sorted_quantiles(np.sort(np.asarray(x, np.float32), axis=1)[:, None, :], levels)
        spread = np.where(np.isnan(centre[:, :1]), np.nan, spread[:, 0])
        return np.asarray(spread[:, None, :].repeat(len(leads_s), axis=1))
    past, n = sorted_quantiles(np.sort(_past_errors(x, name, leads_s, cycle), axis=2), levels)
    weight = (n**2 / (n**2 + PRIOR_ERRORS**2))[..., None]
    ordinary = _ordinary(name, leads_s, levels)
    if name == SUN and cycle:
        lit = _enough(_days(x)[1])[:, None]
        usual = np.where(lit, diurnal_cycle(x)[:, (_steps(leads_s) - 1) % DAY], 1.0)[..., None]
        past, ordinary = past * usual, np.where(lit[..., None], ordinary * usual / ORDINARY_DAY, ordinary)
    offset = weight * past + (1.0 - weight) * ordinary
    low, high = BOUNDS.get(name, (-np.inf, np.inf))
    return np.asarray(np.clip(centre[..., None] + offset, low, high))


def event_probability(x: Series, event: Event, *, cycle: bool = True) -> Floats:
    """Probability that an event comes in a step, [S]; NaN without a value in the last 60 minutes.

    How often it came in steps of the 30 days; with few steps drawn towards an ordinary share (`PRIOR_RAIN`). `cycle`
    False, plain persistence: 1 where it came in the newest step, else 0.

    Args:
        x: [S, T] of the event's variable, as in `base`.
    """
    now = newest(x)
    share, worth = PRIOR_RAIN
    n = (~np.isnan(x)).sum(axis=1)
    often = (np.nansum(event.came(x), axis=1) + share * worth) / (n + worth)
    return np.asarray(np.where(np.isnan(now), np.nan, often if cycle else event.came(now)))


def _steps(leads_s: Sequence[int]) -> NDArray[np.int64]:
    return np.asarray(leads_s, np.int64) // grid.STEP_S


def _cycle(x: Series, name: str, wanted: bool) -> Floats:
    return diurnal_cycle(x) if _moves(name, wanted) else np.zeros((len(x), DAY))


def _moves(name: str, cycle: bool) -> bool:
    """Whether the mean day moves a variable."""
    return cycle and VARIABLES[name].kind in (Kind.STATE, Kind.MAXIMUM)


def _days(x: Series) -> tuple[Floats, Floats]:
    """Values by day and time of day, 0 where missing, and 1 where they are there: [S, D, 96] each."""
    days = np.asarray(x, np.float64).reshape(len(x), -1, DAY)
    there = ~np.isnan(days)
    return np.where(there, days, 0.0), there.astype(np.float64)


def _enough(counts: Floats) -> NDArray[np.bool_]:
    return np.asarray(counts.sum(axis=(1, 2)) >= MIN_CYCLE_STEPS)


def _cycles_without(x: Series) -> Floats:
    """`diurnal_cycle` of all days but one, [S, D, 96], for each day that may be left out: the day's own share is taken
    out of the smoothed sums. NaN where the other days say nothing of a time of day."""
    sums, counts = _days(x)
    enough = _enough(counts)
    sums, counts = sums @ _smoother(), counts @ _smoother()
    others, weight = (whole.sum(axis=1, keepdims=True) - whole for whole in (sums, counts))
    mean = np.where(weight > NO_WEIGHT, others / np.where(weight > NO_WEIGHT, weight, 1.0), np.nan)
    return np.asarray(np.where(enough[:, None, None], mean, 0.0))


def _newest_at(x: Series, at: NDArray[np.int64]) -> Floats:
    """The newest value at or up to 60 minutes before each of the steps `at` [O] (none before step 4): [S, O]."""
    found = np.asarray(x[:, at], np.float64)
    for back in range(1, NOW_STEPS):
        found = np.where(np.isnan(found), x[:, at - back], found)
    return found


def _sun(x: Series, now: Floats, day: Floats, steps: NDArray[np.int64]) -> Floats:
    """Radiation [S, L]: the mean day, times how bright the last hour was, which fades. `now` [S]: NaN where nothing was
    read."""
    bright = _brightness(np.asarray(x[:, -NOW_STEPS:], np.float64), day[:, -NOW_STEPS:])
    ahead = day[:, (steps - 1) % DAY] * (1.0 + (bright[:, None] - 1.0) * np.exp(-steps / CLOUD_STEPS))
    return np.where(np.isnan(now)[:, None], np.nan, np.maximum(ahead, 0.0))


def _brightness(read: Floats, usual: Floats) -> Floats:
    """Radiation over the usual one along the last axis, near 1 in the dark; 1 where nothing was read."""
    there = ~(np.isnan(read) | np.isnan(usual))
    n = np.maximum(there.sum(axis=-1), 1)
    return np.asarray(
        (np.where(there, read, 0.0).sum(axis=-1) + DIM * n) / (np.where(there, usual, 0.0).sum(axis=-1) + DIM * n)
    )


def _past_sun(x: Series, leads_s: Sequence[int]) -> NDArray[np.float32]:
    """As `_past_errors`, in units of the mean day where there is one; there the dark has none."""
    steps, lit = x.shape[1], _enough(_days(x)[1])[:, None]
    at = np.arange((steps - 1) % ERROR_STEPS + ERROR_STEPS, steps - 1, ERROR_STEPS)
    start = _newest_at(x, at)
    days = _cycles_without(x).reshape(len(x), steps)
    hour = at[:, None] - np.arange(NOW_STEPS)
    read = np.asarray(x[:, hour], np.float64)
    # beside the mean day that leaves out the outcome's day, which is the origin's own or the next
    bright = [_brightness(read, days[:, np.minimum(hour + DAY * later, steps - 1)]) - 1.0 for later in (0, 1)]
    errors = np.full((len(x), len(leads_s), len(at)), np.nan, np.float32)
    for lead, ahead in enumerate(_steps(leads_s)):
        begun = at[at + ahead < steps]
        o, came = len(begun), x[:, begun + ahead]
        next_day = (begun + ahead) // DAY > begun // DAY
        usual = days[:, begun + ahead]
        faded = np.where(next_day, bright[1][:, :o], bright[0][:, :o]) * np.exp(-ahead / CLOUD_STEPS)
        there = ~np.isnan(start[:, :o]) & (usual > DIM)
        of_day = np.where(there, came / np.where(there, usual, 1.0) - np.maximum(1.0 + faded, 0.0), np.nan)
        errors[:, lead, :o] = np.where(lit, of_day, came - start[:, :o])
    return errors


def _past_errors(x: Series, name: str, leads_s: Sequence[int], cycle: bool) -> NDArray[np.float32]:
    """Observed minus base, [S, L, O], from every hour before the origin; NaN where one is missing or yet to come."""
    if name == SUN and cycle:
        return _past_sun(x, leads_s)
    steps = x.shape[1]
    at = np.arange((steps - 1) % ERROR_STEPS + ERROR_STEPS, steps - 1, ERROR_STEPS)
    start = _newest_at(x, at).astype(np.float32)
    days = _cycles_without(x).astype(np.float32).reshape(len(x), steps) if _moves(name, cycle) else None
    turns = VARIABLES[name].kind is Kind.DIRECTION
    errors = np.full((len(x), len(leads_s), len(at)), np.nan, np.float32)
    for lead, ahead in enumerate(_steps(leads_s)):
        begun = at[at + ahead < steps]
        came, moved = x[:, begun + ahead], start[:, : len(begun)]
        if days is not None:
            at_start = begun + DAY * ((begun + ahead) // DAY - begun // DAY)  # its time of day, on the outcome's day
            moved = moved + days[:, begun + ahead] - days[:, at_start]
        error = came - np.clip(moved, *BOUNDS.get(name, (-np.inf, np.inf)))
        errors[:, lead, : len(begun)] = wrap(error) if turns else error
    return errors


def sorted_quantiles(ascending: Series, levels: Sequence[float]) -> tuple[Floats, NDArray[np.int64]]:
    """Quantiles along the last axis, [..., Q], and how many values each rests on, [...]; 0 where on none.

    `ascending`: sorted, NaN last. Position of level p among n: p (n + 1), straight lines between (Weibull 1939; type 6
    in Hyndman and Fan 1996, Am. Stat. 50, 361-365): wider than the sample where n is small.
    """
    n = (~np.isnan(ascending)).sum(axis=-1)
    position = np.clip(np.asarray(levels) * (n[..., None] + 1) - 1, 0, np.maximum(n - 1, 0)[..., None])
    below = position.astype(np.int64)
    above = np.minimum(below + 1, np.maximum(n - 1, 0)[..., None])
    low, high = (np.take_along_axis(ascending, index, axis=-1).astype(np.float64) for index in (below, above))
    return np.asarray(np.where(n[..., None] > 0, low + (position - below) * (high - low), 0.0)), n


def _ordinary(name: str, leads_s: Sequence[int], levels: Sequence[float]) -> Floats:
    """Quantiles [L, Q] of an ordinary error; directions end at half a turn."""
    after_hour, exponent = ORDINARY_SPREAD[name]
    sigma = after_hour * (np.asarray(leads_s) / 3600.0) ** exponent
    spread = sigma[:, None] * np.array([NormalDist().inv_cdf(level) for level in levels])
    return np.asarray(np.clip(spread, -180.0, 180.0)) if VARIABLES[name].kind is Kind.DIRECTION else spread


def row_mean(x: Series) -> Floats:
    """Mean along the last axis, [S]; NaN where there is no value."""
    n = (~np.isnan(x)).sum(axis=1)
    return np.asarray(np.where(n > 0, np.nansum(x, axis=1, dtype=np.float64) / np.maximum(n, 1), np.nan))


@lru_cache(maxsize=1)
def _smoother() -> Floats:
    """Circular Gaussian weights [96, 96], symmetric."""
    step = np.arange(DAY)
    apart = np.abs(step[:, None] - step[None, :])
    weights = np.exp(-0.5 * (np.minimum(apart, DAY - apart) / CYCLE_SIGMA) ** 2)
    return np.asarray(weights / weights.sum(axis=0), np.float64)
