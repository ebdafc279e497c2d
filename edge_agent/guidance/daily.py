"""Daily minimum, maximum and rain sum of a station's civil days, and events at any time of a night, from coherent
trajectories.

The hours of a day go together: a warm morning mostly means a warm noon. How they do is taken from this station's own
past days (Schaake shuffle), never from the hours' marginals alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from edge_agent.bundle.manifest import Event
from edge_agent.forecast import Forecast
from edge_agent.forecast.persistence import BOUNDS
from edge_agent.grid import GRID_VARIABLES, HISTORY_STEPS, STEP_S
from edge_agent.guidance import Floats, Times
from edge_agent.variables import VARIABLES, Kind

HOUR_S, DAY_S = 3600, 86_400
PAST_DAYS = 28
LEAST_PAST_DAYS = 10
MOST_DAYS = 8
TAIL = 0.414  # of the way from the median to the 5 % quantile, beyond it to the 1 % quantile: as normal tails have it
PLAIN = ("guidance", "persistence", "climatology")  # what days and nights are held against
OF_DAY: dict[str, tuple[str, np.ufunc]] = {
    "temperature_min": ("temperature", np.minimum),
    "temperature_max": ("temperature", np.maximum),
    "rain_24h": ("rain", np.add),
}


@dataclass(frozen=True, slots=True)
class DayOutlook:
    """One civil day, `start` to `end` (UTC seconds, 23 to 25 h). `values`: `temperature_min`, `temperature_max` of its
    full hours and `rain_24h`, its sum -> mean and quantiles [Q]."""

    day: date
    start: int
    end: int
    values: dict[str, tuple[float, Floats]]


@dataclass(frozen=True, slots=True)
class NightOutlook:
    """One night, `start` to `end` (UTC seconds). `events`: name -> probability that it comes at any time of it."""

    start: int
    end: int
    events: dict[str, float]


def outlook(forecast: Forecast, history: NDArray[np.float32], timezone: str) -> list[DayOutlook]:
    """The days that an hourly forecast covers to their end; of today, what was read up to the origin counts.

    Args:
        forecast: at leads of full hours.
        history: [2880, 8] up to its origin.
    """
    found = []
    for day, start, end in _days(forecast.origin, ZoneInfo(timezone)):
        hours = hours_of(start, end)
        values = {}
        for name, (variable, of) in OF_DAY.items():
            members = _members(forecast, history, variable, hours)
            if members is not None:
                each = of.reduce(members, axis=1)
                values[name] = float(each.mean()), np.quantile(each, forecast.levels_q, method="weibull")
        if values:
            found.append(DayOutlook(day, start, end, values))
    return found


def nights(
    forecast: Forecast, history: NDArray[np.float32], longitude: float, events: Sequence[Event]
) -> list[NightOutlook]:
    """The nights that an hourly forecast covers to their end, from the one that has begun or is the next.

    The probability is the share of the trajectories with the event in one of the night's hours, and no less than that
    of any hour still to come: the union of events is no less likely than each (Frechet's lower bound). Of a night that
    has begun, what was read up to the origin counts.

    Args:
        forecast, history: as `outlook`.
        longitude: degrees east; a night is 18:00 to 06:00 of local mean solar time, to the nearest full hour of UTC.
        events: those with a probability of each hour in the forecast are told.
    """
    found = []
    for start, end in _nights(forecast.origin, longitude):
        hours = hours_of(start, end)
        at = (hours[hours > forecast.origin] - forecast.origin) // HOUR_S - 1
        told = {}
        for event in events:
            if event.name not in forecast.events or event.variable not in GRID_VARIABLES:
                continue
            members = _members(forecast, history, event.variable, hours)
            if members is not None:
                share = float(any_time(event, members).mean())
                told[event.name] = max(share, float(forecast.events[event.name][at].max()))
        if told:
            found.append(NightOutlook(start, end, told))
    return found


def hours_of(start: int, end: int) -> Times:
    """The full hours of a day, its last second among them, [H]."""
    return np.arange(-(-(start + 1) // HOUR_S) * HOUR_S, end + 1, HOUR_S, dtype=np.int64)


def plain(raw: Forecast, history: NDArray[np.float32], days: Sequence[DayOutlook]) -> dict[str, list[dict[str, float]]]:
    """What the days are held against: source -> by day, name -> value, where it can be told. `guidance`: of the hours
    as it has them, and what was read up to the origin; `persistence`: as the newest day that was read at these hours;
    `climatology`: the mean of all such days in the past.

    Args:
        raw: guidance as it came, at the leads of the hourly forecast that the days are of.
        history: [2880, 8] up to its origin.
    """
    found: dict[str, list[dict[str, float]]] = {source: [] for source in PLAIN}
    for day in days:
        hours = hours_of(day.start, day.end)
        told: dict[str, dict[str, float]] = {source: {} for source in PLAIN}
        for name in day.values:
            variable, of = OF_DAY[name]
            said, past = _said_and_past(raw, history, variable, hours)
            for source, value in _beside(float(of.reduce(said)), of.reduce(past, axis=1)).items():
                told[source][name] = value
        for source, values in told.items():
            found[source].append(values)
    return found


def plain_nights(
    raw: Forecast, history: NDArray[np.float32], nights: Sequence[NightOutlook], events: Sequence[Event]
) -> dict[str, list[dict[str, float]]]:
    """As `plain`, of nights: by night, event -> 1 or 0, of climatology how often it came in such nights in the past.

    Args:
        events: those that the nights' probabilities are of, or some of them.
    """
    found: dict[str, list[dict[str, float]]] = {source: [] for source in PLAIN}
    for night in nights:
        hours = hours_of(night.start, night.end)
        told: dict[str, dict[str, float]] = {source: {} for source in PLAIN}
        for event in events:
            if event.name in night.events:
                said, past = _said_and_past(raw, history, event.variable, hours)
                for source, value in _beside(float(any_time(event, said)), any_time(event, past)).items():
                    told[source][event.name] = value
        for source, values in told.items():
            found[source].append(values)
    return found


def any_time(event: Event, values: Floats) -> Floats:
    """Whether an event came in one of the hours [..., H], 1 or 0, [...]; NaN: in none that is known, and one is not."""
    came = event.came(values)
    return np.asarray(np.where((came == 1.0).any(axis=-1), 1.0, came.max(axis=-1)))


def _said_and_past(raw: Forecast, history: NDArray[np.float32], variable: str, hours: Times) -> tuple[Floats, Floats]:
    """What was read and guidance says of some hours, [H], and what was read at these hours of past days, [D, H], newest
    first."""
    said = _read(history, raw.origin, variable, hours)
    ahead = hours > raw.origin
    own = raw.variables[variable].mean
    if own is not None:
        said[ahead] = own[(hours[ahead] - raw.origin) // HOUR_S - 1]
    back = max(-(-(int(hours[-1]) - raw.origin) // DAY_S), 1)
    past = [_read(history, raw.origin, variable, hours - DAY_S * k) for k in range(back, PAST_DAYS + 1)]
    return said, np.stack(past)


def _beside(said: float, past: Floats) -> dict[str, float]:
    """What stands beside a forecast, by source. `past`: of past days, newest first."""
    whole = past[~np.isnan(past)]
    newest, usual = (float(whole[0]), float(whole.mean())) if len(whole) else (np.nan, np.nan)
    return dict(zip(PLAIN, (said, newest, usual), strict=True))


def _days(origin: int, zone: ZoneInfo) -> Iterator[tuple[date, int, int]]:
    """Civil days from the origin's on, with their first and last second in UTC."""
    today = datetime.fromtimestamp(origin, UTC).astimezone(zone).date()
    for ahead in range(MOST_DAYS):
        midnights = [
            datetime.combine(today + timedelta(days=ahead + more), datetime.min.time(), tzinfo=zone) for more in (0, 1)
        ]
        start, end = (int(midnight.timestamp()) for midnight in midnights)
        yield today + timedelta(days=ahead), start, end


def _nights(origin: int, longitude: float) -> Iterator[tuple[int, int]]:
    """Nights from the one that has begun or is the next, with their first and last second in UTC."""
    ahead_s = round(longitude / 15) * HOUR_S  # of UTC
    evening = (origin + ahead_s - 6 * HOUR_S) // DAY_S * DAY_S + 18 * HOUR_S - ahead_s
    for start in range(evening, evening + MOST_DAYS * DAY_S, DAY_S):
        yield start, start + DAY_S // 2


def _members(forecast: Forecast, history: NDArray[np.float32], variable: str, hours: Times) -> Floats | None:
    """Trajectories [M, H] of a variable over the hours of a day; None where an hour or the past is missing.

    Schaake shuffle (Clark et al. 2004, J. Hydrometeorol. 5, 243-262): the member that stands for a past day has in
    each hour the forecast quantile whose rank that day had among the past days in that hour.
    """
    own = forecast.variables.get(variable)
    ahead = hours[hours > forecast.origin]
    if own is None or own.quantiles is None or not len(ahead) or ahead[-1] > forecast.origin + forecast.leads_s[-1]:
        return None
    marginal = own.quantiles[:, (ahead - forecast.origin) // HOUR_S - 1].T
    read = _read(history, forecast.origin, variable, hours[hours <= forecast.origin])
    last = int(-(-(ahead[-1] - forecast.origin) // DAY_S))
    past = np.stack(
        [_read(history, forecast.origin, variable, ahead - DAY_S * (last + k)) for k in range(PAST_DAYS - last + 1)]
    )
    past = past[~np.isnan(past).any(axis=1)]
    if np.isnan(marginal).any() or np.isnan(read).any() or len(past) < LEAST_PAST_DAYS:
        return None
    ties = np.random.default_rng(forecast.origin).random(past.shape)  # equal hours, as without rain, in any order
    rank = np.argsort(np.lexsort((ties, past), axis=0), axis=0)
    share = (rank + 0.5) / len(past)
    levels, tails = _with_tails(np.asarray(forecast.levels_q), marginal)
    members = np.stack([np.interp(share[:, h], levels, tails[h]) for h in range(len(ahead))], axis=1)
    low, high = BOUNDS.get(variable, (-np.inf, np.inf))
    return np.concatenate([np.tile(read, (len(past), 1)), np.clip(members, low, high)], axis=1)


def _with_tails(levels: Floats, quantiles: Floats) -> tuple[Floats, Floats]:
    """Levels and quantiles [H, Q + 2] with the 1 and 99 % ones added."""
    middle = quantiles[:, len(levels) // 2]
    low = quantiles[:, 0] - TAIL * (middle - quantiles[:, 0])
    high = quantiles[:, -1] + TAIL * (quantiles[:, -1] - middle)
    return np.concatenate([[0.01], levels, [0.99]]), np.column_stack([low, quantiles, high])


def _read(history: NDArray[np.float32], origin: int, variable: str, hours: Times) -> Floats:
    """What was read at full hours, [H]; of sums and maxima the hour's; NaN where it is missing or out of the 30
    days."""
    column = history[:, GRID_VARIABLES.index(variable)].astype(np.float64)
    at = HISTORY_STEPS - 1 - (origin - hours) // STEP_S
    kind = VARIABLES[variable].kind
    steps = range(4) if kind in (Kind.SUM, Kind.MAXIMUM) else range(1)
    inside = (at < HISTORY_STEPS) & (at >= len(steps) - 1)
    parts = [np.where(inside, column[np.where(inside, at - k, 0)], np.nan) for k in steps]
    return np.asarray((np.max if kind is Kind.MAXIMUM else np.sum)(parts, axis=0)) if len(hours) else np.empty(0)
