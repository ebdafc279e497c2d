"""Forecasts of hours, days and nights that wait for what comes, what they are held against, and their scores.

Each is kept small until its time: some leads of the hours, every day and night, beside each the guidance as it came,
persistence and climatology, made from the same history. Must never score anything twice, or with a reading that came
before it.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_agent.bundle.manifest import Event
from edge_agent.bundle.station_task import DERIVED_EVENTS, EVENTS
from edge_agent.clock import format_time
from edge_agent.forecast import Floats, Forecast, Level, VariableForecast, persistence
from edge_agent.forecast.climatology import climatology
from edge_agent.grid import GRID_VARIABLES, MATCH_S, STEP_S
from edge_agent.guidance import Times
from edge_agent.guidance.daily import (
    DAY_S,
    HOUR_S,
    OF_DAY,
    DayOutlook,
    NightOutlook,
    hours_of,
    plain,
    plain_nights,
)
from edge_agent.store import Keeper
from edge_agent.store.forecast_rows import Packed, pack_forecast, unpack_forecast
from edge_agent.store.waiting import Key
from edge_agent.variables import VARIABLES, Kind
from edge_agent.verification import EVENT, LATE_S, ScoreSums, event_scores, pair_scores

log = logging.getLogger(__name__)

HOURLY, DAILY, NIGHTLY = "hourly", "daily", "nightly"  # kinds, and prefixes of their sources: `hourly:forecast`
ISSUED = "forecast"
ALL_EVENTS = (*EVENTS, *DERIVED_EVENTS)  # those that are scored
PARTS_H = ((1, 2, 3, 4, 5, 6), (9, 12), (18,), (24,), (36,), (48,), (72,), (96,), (120,), (144,), (168,))
WHOLE = 0.9  # of a day must have been read
AT_ONCE = 32  # rows scored between two looks at the sensors
MOST_BYTES = 1_000_000  # of a row


@dataclass(frozen=True, slots=True)
class Ahead:
    """An hourly forecast, `raw`: the guidance as it came at the same leads, and the civil days and nights it covers."""

    forecast: Forecast
    raw: Forecast
    days: list[DayOutlook]
    timezone: str
    nights: Sequence[NightOutlook] = ()


class _Row(msgspec.Struct, array_like=True):
    """`start`: of a day or night, its first second. `packed`: source -> form, body and quantiles."""

    start: int
    packed: dict[str, tuple[bytes, bytes, bytes | None]]


def rows_of(ahead: Ahead, history: NDArray[np.float32]) -> list[tuple[Key, bytes]]:
    """What is kept of a forecast. `history`: [2880, 8] up to its origin."""
    return [*_hours(ahead, history), *_days(ahead, history), *_nights(ahead, history)]


def _hours(ahead: Ahead, history: NDArray[np.float32]) -> Iterator[tuple[Key, bytes]]:
    forecast = ahead.forecast
    for part in PARTS_H:
        leads = tuple(HOUR_S * h for h in part if HOUR_S * h <= forecast.leads_s[-1])
        if leads:
            at = [forecast.leads_s.index(lead) for lead in leads]
            events = {name: p[at] for name, p in forecast.events.items()}
            sources = {ISSUED: replace(_at(forecast, leads), events=events), "guidance": _at(ahead.raw, leads)}
            sources |= _baselines(forecast, history, leads)
            yield (forecast.origin + leads[-1], forecast.station, forecast.origin, HOURLY), _packed(0, sources)


def _days(ahead: Ahead, history: NDArray[np.float32]) -> Iterator[tuple[Key, bytes]]:
    forecast = ahead.forecast
    beside = plain(ahead.raw, history, ahead.days)
    for i, day in enumerate(ahead.days):
        lead = DAY_S * (i + 1)
        own = {name: _one(name, np.array([mean]), q[:, None]) for name, (mean, q) in day.values.items()}
        sources = {ISSUED: _with(forecast, (lead,), own)}
        for source, values in beside.items():
            others = {name: _one(name, np.array([value])) for name, value in values[i].items()}
            sources[source] = _with(forecast, (lead,), others)
        yield (day.end, forecast.station, forecast.origin, DAILY), _packed(day.start, sources)


def _nights(ahead: Ahead, history: NDArray[np.float32]) -> Iterator[tuple[Key, bytes]]:
    forecast = ahead.forecast
    beside = plain_nights(ahead.raw, history, ahead.nights, ALL_EVENTS)
    for i, night in enumerate(ahead.nights):
        lead = (DAY_S * (i + 1),)
        told = {ISSUED: night.events} | {source: values[i] for source, values in beside.items()}
        sources = {
            source: replace(_with(forecast, lead, {}), events={name: np.array([p]) for name, p in events.items()})
            for source, events in told.items()
        }
        yield (night.end, forecast.station, forecast.origin, NIGHTLY), _packed(night.start, sources)


def _baselines(forecast: Forecast, history: NDArray[np.float32], leads: tuple[int, ...]) -> dict[str, Forecast]:
    """Persistence and climatology of the variables that were forecast; of sums and maxima, those of an hour."""
    found: dict[str, dict[str, VariableForecast]] = {"persistence": {}, "climatology": {}}
    for column, name in enumerate(GRID_VARIABLES):
        if name not in forecast.variables:
            continue
        x = history[None, :, column]
        if VARIABLES[name].kind in (Kind.SUM, Kind.MAXIMUM):
            x = _of_hour(x, VARIABLES[name].kind)
        if not np.isnan(x).all():
            found["persistence"][name] = _one(name, persistence.base(x, name, leads, cycle=False)[0])
            found["climatology"][name] = _one(name, climatology(x, name, leads, forecast.levels_q)[0][0])
    return {source: _with(forecast, leads, variables) for source, variables in found.items()}


def _of_hour(x: NDArray[np.float32], kind: Kind) -> NDArray[np.float32]:
    """The sum or maximum of the hour that ends at each step, [S, T]; NaN where a quarter of it is missing."""
    padded = np.pad(x, ((0, 0), (3, 0)), constant_values=np.nan)
    quarters = np.lib.stride_tricks.sliding_window_view(padded, 4, axis=1)
    return np.asarray(quarters.sum(axis=2) if kind is Kind.SUM else quarters.max(axis=2))


def _one(name: str, mean: Floats, quantiles: Floats | None = None) -> VariableForecast:
    return VariableForecast(name, Level.FULL, mean, quantiles, None)


def _with(forecast: Forecast, leads: tuple[int, ...], variables: dict[str, VariableForecast]) -> Forecast:
    """Other variables at other leads from the same origin; no words, to be small."""
    return replace(forecast, leads_s=leads, variables=variables, events={}, source="", bundle="", why="", adapted=())


def _at(forecast: Forecast, leads: tuple[int, ...]) -> Forecast:
    """A forecast at some of its leads."""
    at = [forecast.leads_s.index(lead) for lead in leads]
    variables = {}
    for name, own in forecast.variables.items():
        if own.mean is not None and not np.isnan(own.mean[at]).all():
            variables[name] = _one(name, own.mean[at], None if own.quantiles is None else own.quantiles[:, at])
    return _with(forecast, leads, variables)


def _packed(start: int, sources: Mapping[str, Forecast]) -> bytes:
    packed = {source: pack_forecast(forecast) for source, forecast in sources.items()}
    row = _Row(start, {source: (one.form, one.body, one.quantiles) for source, one in packed.items()})
    return zlib.compress(msgspec.msgpack.encode(row))


# --- scores -----------------------------------------------------------------------------------------------------------


def score_waiting(store: Keeper, now: float) -> int:
    """Score the first of what is due and let go of it, in one transaction; how many rows. 0: no more are due."""
    rows = store.due(int(now) - MATCH_S - LATE_S, AT_ONCE)
    sums = ScoreSums()
    for key, body in rows:
        try:
            row = msgspec.msgpack.decode(zlib.decompressobj().decompress(body, MOST_BYTES), type=_Row)
        except (zlib.error, msgspec.DecodeError, UnicodeDecodeError) as error:
            log.warning("%s, %s: not scored, its row is damaged (%s)", key[1], format_time(key[2]), error)
            continue
        _score(store, key, row, sums)
    if rows:
        store.settle([key for key, _ in rows], list(sums.rows()))
    return len(rows)


def _score(store: Keeper, key: Key, row: _Row, sums: ScoreSums) -> None:
    due, station, origin, kind = key
    made = {source: unpack_forecast(station, origin, Packed(*packed)) for source, packed in row.packed.items()}
    issued = made[ISSUED]
    valid = [origin + lead for lead in issued.leads_s] if kind == HOURLY else [due - 1]
    days = [format_time(t)[:10] for t in valid]
    for event in (event for event in ALL_EVENTS if event.name in issued.events):
        if kind == HOURLY:
            outcome = event.came(_at_hours(store, station, event.variable, np.asarray(valid, np.int64)))
        else:
            outcome = np.array([_of_night(store, station, event, row.start, due)])
        for source, forecast in made.items():
            chance = _chance(forecast, event)
            if chance is not None:
                scores = event_scores(chance, np.where(np.isnan(issued.events[event.name]), np.nan, outcome))
                sums.add(station, days, f"{kind}:{source}", EVENT + event.name, issued.leads_s, scores)
    for name, own in issued.variables.items():
        if own.mean is None or own.quantiles is None:
            continue
        if kind == DAILY:
            came = np.array([_of_day(store, station, name, row.start, due)])
        else:
            came = _at_hours(store, station, name, np.asarray(valid, np.int64))
        came = np.where(np.isnan(own.mean), np.nan, came)
        for source, forecast in made.items():
            other = forecast.variables.get(name)
            if other is not None and other.mean is not None:
                point = other.mean[None].repeat(len(issued.levels_q), axis=0)  # one value stands for all quantiles
                q = point if other.quantiles is None else other.quantiles
                scores = pair_scores(name, other.mean, q.T, came, issued.levels_q)
                sums.add(station, days, f"{kind}:{source}", name, issued.leads_s, scores)


def _chance(forecast: Forecast, event: Event) -> Floats | None:
    """Probability of an event [L]: as told, or 1 and 0 of a forecast that has one value of each hour."""
    if event.name in forecast.events:
        return forecast.events[event.name]
    own = forecast.variables.get(event.variable)
    return None if own is None or own.mean is None else event.came(own.mean)


def _of_night(store: Keeper, station: str, event: Event, start: int, end: int) -> float:
    """Whether an event came at any time of a night, 1 or 0; NaN where it did not and too few hours were read."""
    came = event.came(_at_hours(store, station, event.variable, hours_of(start, end)))
    there = came[~np.isnan(came)]
    if len(there) and there.max() == 1.0:
        return 1.0
    return 0.0 if len(there) >= WHOLE * len(came) else np.nan


def _at_hours(store: Keeper, station: str, name: str, valid: Times) -> Floats:
    """What came at full hours, [L]; of sums and maxima that of the hour, from its four quarters."""
    kind = VARIABLES[name].kind
    if kind not in (Kind.SUM, Kind.MAXIMUM):
        return store.verifying(station, name, valid)
    quarters = (valid[:, None] - STEP_S * np.arange(4)).ravel()
    came = store.verifying(station, name, quarters).reshape(-1, 4)
    return np.asarray(came.sum(axis=1) if kind is Kind.SUM else came.max(axis=1))


def _of_day(store: Keeper, station: str, name: str, start: int, end: int) -> float:
    """What a civil day came to: of its full hours' readings, of rain all quarters'; NaN where too few were read."""
    variable, of = OF_DAY[name]
    times = np.arange(start + STEP_S, end + 1, STEP_S) if of is np.add else hours_of(start, end)
    came = store.verifying(station, variable, times)
    there = came[~np.isnan(came)]
    return float(of.reduce(there)) if len(there) >= WHOLE * len(times) else np.nan
