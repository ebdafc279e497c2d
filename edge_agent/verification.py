"""Own forecasts against own observations: pure scores, and the rows a running agent keeps of them.

Scores take arrays and return numbers; a pair with a NaN on either side does not count. A score never sees a value that
failed quality control, and a forecast is never compared with the analysis it started from (there is no lead 0).
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_agent.bundle.station_task import DERIVED_EVENTS, EVENTS
from edge_agent.circle import near, wrap
from edge_agent.clock import format_time
from edge_agent.forecast import LEADS_S, Level
from edge_agent.grid import MATCH_S
from edge_agent.variables import VARIABLES, Kind

if TYPE_CHECKING:
    from edge_agent.config import Station
    from edge_agent.forecast import Forecast
    from edge_agent.store import Keeper, Store

Floats = NDArray[np.float64]

EVENT = "event:"  # prefix of an event's name where variables and events share a column

MARK = "scored-until"  # in the store: the last origin that was scored, see `score_due`
LATE_S = 600  # readings may come this late and still count
BUDGET_S = 0.5  # real seconds of one call, in which no reading is taken
MAX_LOOK_BACK_S = 86_400  # at the very first call
CHUNK = 16  # stations between two looks at the time
FEW_STATIONS = 50  # up to here every lead is scored, above it only GATEWAY_LEADS_S: the scores of a day must fit
GATEWAY_LEADS_S = (900, 1800, 3600, 7200, 10_800, 14_400, 18_000, 21_600)


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """Sums over the forecasts of one station, UTC day of the valid time, source, variable and lead: rows add up.

    `source`: `bundle` and `fallback` are what was issued, from the model or from the persistence that stood in for it;
    `persistence`, `anomaly-persistence` and `climatology` are the baselines on the pairs of `bundle`, made when that
    was issued from the same history: rows that came late did not help them. `hourly:forecast`, `daily:forecast` and
    `nightly:forecast` are the hours, days and nights that were issued; after the same prefix `guidance`, `persistence`
    and `climatology` stand beside them, each a single value whose `sum_crps` is that of its absolute errors, or in
    which an event comes or does not (of nights, climatology is how often it came); a day's or night's lead counts the
    days up to its end, today's is one. Errors are forecast minus observed, in the variable's unit, on the circle for
    directions. `inside80` counts observations within the central 80 % interval. An event is the variable
    `event:<name>`: its error is probability minus outcome, `sum_sq` and `sum_crps` are both the sum of the Brier score,
    and `inside80` is 0. Once five weeks old, the days of a week are one row on its Monday.
    """

    station: str
    day: str
    source: str
    variable: str
    lead_s: int
    n: int
    sum_error: float
    sum_abs: float
    sum_sq: float
    sum_crps: float
    inside80: int

    def __add__(self, other: ScoreRow) -> ScoreRow:
        """Both rows' sums, under the names of the first."""
        names = [field.name for field in fields(self)][5:]
        return replace(self, **{name: getattr(self, name) + getattr(other, name) for name in names})

    @property
    def bias(self) -> float:
        return self.sum_error / self.n if self.n else math.nan

    @property
    def mae(self) -> float:
        return self.sum_abs / self.n if self.n else math.nan

    @property
    def rmse(self) -> float:
        return math.sqrt(self.sum_sq / self.n) if self.n else math.nan

    @property
    def crps(self) -> float:
        return self.sum_crps / self.n if self.n else math.nan

    @property
    def coverage80(self) -> float:
        return self.inside80 / self.n if self.n else math.nan


def resolution_of(values: NDArray[np.floating]) -> float:
    """The step in which a series was read: the median distance of neighbouring different values; 0 without two."""
    different = np.unique(values[~np.isnan(values)].round(4))
    return float(np.median(np.diff(different))) if len(different) > 1 else 0.0


def errors(forecast: ArrayLike, observed: ArrayLike, circular: bool = False) -> Floats:
    """Forecast minus observed; for directions the shorter way round, in -180 to 180. NaN where either is missing."""
    difference = np.asarray(forecast, np.float64) - np.asarray(observed, np.float64)
    return wrap(difference) if circular else np.asarray(difference)


def bias(forecast: ArrayLike, observed: ArrayLike, circular: bool = False) -> float:
    """Mean error: (1/n) sum(f - o). Positive = forecast too high. NaN without a pair.

    Source: Wilks (2011), Statistical Methods in the Atmospheric Sciences, 3rd ed., section 8.3.

    >>> bias([1.0, 3.0, 9.0], [0.0, 1.0, float("nan")])
    1.5
    """
    return _mean(errors(forecast, observed, circular))


def mae(forecast: ArrayLike, observed: ArrayLike, circular: bool = False) -> float:
    """Mean absolute error: (1/n) sum |f - o|. NaN without a pair. Source: as `bias`.

    >>> mae([1.0, -3.0], [0.0, 0.0])
    2.0
    >>> mae([350.0], [10.0], circular=True)
    20.0
    """
    return _mean(np.abs(errors(forecast, observed, circular)))


def rmse(forecast: ArrayLike, observed: ArrayLike, circular: bool = False) -> float:
    """Root mean square error: sqrt((1/n) sum (f - o)^2), the root last. NaN without a pair. Source: as `bias`.

    >>> rmse([3.0, 4.0, 1.0], [0.0, 0.0, float("nan")])  # sqrt((9 + 16) / 2)
    3.5355339059327378
    """
    return math.sqrt(_mean(errors(forecast, observed, circular) ** 2))


def quantile_weights(levels: Sequence[float]) -> Floats:
    """What each level stands for in an integral over 0..1: trapezoids between levels, the outermost ones reaching to 0
    and 1. They sum to 1. Worked: (0.1, 0.5, 0.9) -> (0.3, 0.4, 0.3)."""
    tau = np.asarray(levels, np.float64)
    edges = np.concatenate([[0.0], (tau[1:] + tau[:-1]) / 2, [1.0]])
    return np.asarray(np.diff(edges))


def crps(quantiles: ArrayLike, observed: ArrayLike, levels: Sequence[float], circular: bool = False) -> Floats:
    """Continuous ranked probability score of each forecast, in the variable's unit; 0 is perfect.

    CRPS = integral over 0 < tau < 1 of 2 rho_tau(o - q_tau), rho_tau(e) = max(tau e, (tau - 1) e), summed with
    `quantile_weights`. All quantiles equal: the absolute error, where the levels lie symmetric about 0.5. Sources:
    Gneiting and Ranjan (2011), J. Bus. Econ. Stat. 29, 411-422 (the integral); Koenker and Bassett (1978), Econometrica
    46, 33-50 (rho).

    Args:
        quantiles: [..., Q], along the last axis as `levels`; directions unwrapped.
        observed: [...].

    Returns:
        [...]; NaN where an input is.

    >>> crps([[1.0, 2.0, 3.0]], [2.0], (0.1, 0.5, 0.9))  # 0.3 x 2 x 0.1 + 0 + 0.3 x 2 x 0.1
    array([0.12])
    """
    q, o = np.asarray(quantiles, np.float64), np.asarray(observed, np.float64)
    if circular:
        o = near(o, q[..., q.shape[-1] // 2])
    tau = np.asarray(levels, np.float64)
    error = o[..., None] - q
    return np.asarray((2.0 * np.maximum(tau * error, (tau - 1.0) * error)) @ quantile_weights(levels))


def inside(lower: ArrayLike, upper: ArrayLike, observed: ArrayLike, circular: bool = False) -> Floats:
    """1 where the observation lies in [lower, upper], 0 where not, NaN where one of the three is missing. Its mean is
    the coverage: 0.8 for an honest central 80 % interval. Directions: bounds unwrapped, lower <= upper.

    >>> inside([1.0, 1.0, 350.0], [2.0, 2.0, 370.0], [2.0, 3.0, 5.0], circular=True)
    array([1., 0., 1.])
    """
    low, high, o = (np.asarray(x, np.float64) for x in (lower, upper, observed))
    if circular:
        o = near(o, (low + high) / 2)
    missing = np.isnan(low) | np.isnan(high) | np.isnan(o)
    return np.asarray(np.where(missing, np.nan, (low <= o) & (o <= high)))


def coverage(lower: ArrayLike, upper: ArrayLike, observed: ArrayLike, circular: bool = False) -> float:
    """Share of observations in [lower, upper]. NaN without a pair."""
    return _mean(inside(lower, upper, observed, circular))


def brier(probability: ArrayLike, outcome: ArrayLike) -> float:
    """Brier score: (1/n) sum (p - o)^2, o = 1 where the event came, else 0. NaN without a pair.

    Source: Brier (1950), Mon. Wea. Rev. 78, 1-3, in the form for one event.

    >>> brier([0.5, 1.0, 0.0], [1.0, 1.0, 0.0])  # 0.25 / 3
    0.08333333333333333
    """
    return _mean(errors(probability, outcome) ** 2)


def pair_scores(
    name: str, mean: ArrayLike, quantiles: ArrayLike, observed: ArrayLike, levels: Sequence[float]
) -> Floats:
    """What each pair adds to a `ScoreRow`: [6, ...] in the order n, error, abs, sq, crps, inside80; 0 where no pair is.

    Args:
        name: the variable; directions are scored on the circle.
        mean: [...]; quantiles: [..., Q]; observed: [...].
        levels: [Q], 0.1 and 0.9 among them.
    """
    circular = VARIABLES[name].kind is Kind.DIRECTION
    q = np.asarray(quantiles, np.float64)
    low, high = (q[..., _at(levels, level)] for level in (0.1, 0.9))
    error, score = errors(mean, observed, circular), crps(q, observed, levels, circular)
    pair = ~np.isnan(error) & ~np.isnan(score)
    parts = (np.ones_like(error), error, np.abs(error), error**2, score, inside(low, high, observed, circular))
    return np.stack([np.where(pair, part, 0.0) for part in parts])


def event_scores(probability: ArrayLike, outcome: ArrayLike) -> Floats:
    """As `pair_scores` for an event: the score of a pair, in place of sq and crps, is Brier's."""
    error = errors(probability, outcome)
    pair = ~np.isnan(error)
    parts = (np.ones_like(error), error, np.abs(error), error**2, error**2, np.zeros_like(error))
    return np.stack([np.where(pair, part, 0.0) for part in parts])


def scored_leads(stations: int) -> tuple[int, ...]:
    """The leads, seconds, at which a gateway of so many stations scores its forecasts."""
    return LEADS_S if stations <= FEW_STATIONS else GATEWAY_LEADS_S


def score_due(store: Store | Keeper, stations: Sequence[Station], now: float, *, budget_s: float = BUDGET_S) -> int:
    """Score the issued forecasts whose last valid time has passed and keep the sums in the store.

    Beside forecasts that came from a bundle the baselines that were made with them are scored, on the same pairs, and
    then forgotten. A mark in the store says up to which origin this was done, and of an origin that is not finished up
    to which station in order of name; rows and mark go into the same transaction, so whatever stops the agent, every
    forecast is scored once.

    Args:
        budget_s: real seconds after which a call ends with what it has in hand; it scores `CHUNK` stations at least.

    Returns:
        How many forecasts were scored; 0: no more are due.
    """
    deadline = time.monotonic() + budget_s
    ready = int(now) - LEADS_S[-1] - MATCH_S - LATE_S
    ids = sorted(station.id for station in stations)
    leads_s = scored_leads(len(ids))
    origin, last = _mark(store, ready)
    done = 0
    while not done or time.monotonic() < deadline:
        if not last:
            due = _first_due(store, ids, origin + 1, ready)
            if due is None:
                if origin < ready:
                    store.set(MARK, str(ready))
                break
            origin = due
        part = [id_ for id_ in ids if id_ > last][:CHUNK]
        sums = ScoreSums()
        for forecast in (f for id_ in part for f in store.forecasts(id_, since=origin, until=origin)):
            _score_one(store, forecast, leads_s, sums)
            done += 1
        last = part[-1] if len(part) == CHUNK else ""
        store.add_scores(sums.rows())
        store.set(MARK, f"{origin} {last}".rstrip())
        if not last:
            store.forget_baselines(origin)
    return done


def _mark(store: Store | Keeper, ready: int) -> tuple[int, str]:
    """Up to which origin forecasts are scored; with a station's name: of that origin only those up to this station."""
    mark = store.get(MARK)
    if mark is None:
        return ready - MAX_LOOK_BACK_S - 1, ""
    origin, _, last = mark.partition(" ")
    if int(origin) <= ready:
        return int(origin), last
    store.set(MARK, str(ready))  # the clock was set back: wait for the time it says now, not for the mark
    return ready, ""


class ScoreSums:
    """Score sums by station, day, source, variable and lead."""

    def __init__(self) -> None:
        self._sums: dict[tuple[str, str, str, str, int], Floats] = {}

    def add(
        self, station: str, days: Sequence[str], source: str, name: str, leads_s: Sequence[int], scores: Floats
    ) -> None:
        """`scores`: [6, L] as from `pair_scores`."""
        for i, (day, lead) in enumerate(zip(days, leads_s, strict=True)):
            if scores[0, i]:
                key = (station, day, source, name, lead)
                self._sums[key] = self._sums.get(key, 0.0) + scores[:, i]

    def rows(self) -> Iterator[ScoreRow]:
        for key, (n, error, absolute, square, score, hits) in self._sums.items():
            yield ScoreRow(*key, int(n), float(error), float(absolute), float(square), float(score), int(hits))


def _first_due(store: Store | Keeper, stations: Sequence[str], since: int, until: int) -> int | None:
    """The earliest origin in question that has a forecast of one of the stations."""
    while (origin := store.next_origin(since, until)) is not None:
        if not set(stations).isdisjoint(store.forecast_stations(origin)):
            return origin
        since = origin + 1
    return None


def _score_one(store: Store | Keeper, issued: Forecast, leads_s: Sequence[int], sums: ScoreSums) -> None:
    """Add the scores of one issued forecast and, beside a bundle's, those of the baselines made with it."""
    leads = [lead for lead in issued.leads_s if lead in leads_s]
    valid = issued.origin + np.asarray(leads, np.int64)
    days = [format_time(t)[:10] for t in valid]
    baselines = [beside for beside in store.baselines(issued.station, issued.origin) if set(leads) <= {*beside.leads_s}]
    for name, own in issued.variables.items():
        if own.mean is None or own.quantiles is None:
            continue
        observed = store.verifying(issued.station, name, valid)
        if own.level is Level.PERSISTENCE:
            sources = {"fallback": issued}
        else:
            sources = {"bundle": issued} | {beside.source: beside for beside in baselines}
        for source, forecast in sources.items():
            for column, scores in _scores(forecast, name, leads, observed):
                sums.add(issued.station, days, source, column, leads, scores)


def _scores(forecast: Forecast, name: str, leads: Sequence[int], observed: Floats) -> Iterator[tuple[str, Floats]]:
    """The scores [6, L] of a variable of a forecast at some of its leads, and of the events about it; nothing where it
    has no numbers."""
    at = [forecast.leads_s.index(lead) for lead in leads]
    own = forecast.variables.get(name)
    if own is None or own.mean is None or own.quantiles is None:
        return
    yield name, pair_scores(name, own.mean[at], own.quantiles[:, at].T, observed, forecast.levels_q)
    for event in (*EVENTS, *DERIVED_EVENTS):
        if event.variable == name and event.name in forecast.events:
            outcome = event.came(observed)
            yield EVENT + event.name, event_scores(forecast.events[event.name][at], outcome)


def _at(levels: Sequence[float], level: float) -> int:
    return int(np.argmin(np.abs(np.asarray(levels) - level)))


def _mean(values: Floats) -> float:
    kept = values[~np.isnan(values)]
    return float(kept.mean()) if kept.size else math.nan
