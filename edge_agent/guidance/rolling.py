"""Corrected guidance as time goes on: runs and readings come in, forecasts go out, verdicts are learned from.

The same for a file and for a running agent. What is kept is bounded: a few runs, three days of readings, and the pairs
that still wait for their observation.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from edge_agent.circle import wrap
from edge_agent.config import Station
from edge_agent.forecast.persistence import BOUNDS
from edge_agent.guidance import Floats, Run, Times
from edge_agent.guidance.bands import BANDS, SHORT, bands
from edge_agent.guidance.correction import Correction, Issued
from edge_agent.guidance.predictors import DAY_S, HOUR_S, RECENT, Layout, clocks, members
from edge_agent.variables import VARIABLES, Kind

RUNS = 12  # kept a station
KEPT_S = 3 * DAY_S  # of readings
SLOT_S = 900  # one reading of so many seconds is enough
OFTEN_S = 3 * HOUR_S  # cadence up to which the newest error counts
LATEST_S = 36 * HOUR_S  # older readings are not "newest"
LESSON_S = 6 * HOUR_S  # between runs whose long bands are learned from: what waits is bounded
LEARN_S = (3 * HOUR_S, 23 * HOUR_S)  # between lessons of short and of long bands
REGION_DEGREES = 2.0  # of latitude: some 220 km
ORDINARY = {"pressure": 1.5, "pressure_msl": 1.5, "humidity": 12.0, "wind_direction": 50.0, "solar_radiation": 100.0}

Came = Callable[[int, str, Times, Times], Floats]
Settled = Callable[[int, str, Times, int], NDArray[np.bool_]]


@dataclass(slots=True)
class Recent:
    """A station's newest readings of one variable and what guidance said of them: `times`, `values`, `errors`."""

    times: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    errors: list[float] = field(default_factory=list)
    cadence_s: float = np.inf
    verified: Floats = field(default_factory=lambda: np.full(BANDS, np.nan))  # newest error of each band
    mean: Floats = field(default_factory=lambda: np.full(BANDS, np.nan))  # and their running mean of some days

    def add(self, t: int, value: float, error: float) -> None:
        """Take a reading; of those in one slot the newest stands."""
        if self.times:
            step = t - self.times[-1]
            self.cadence_s = step if not np.isfinite(self.cadence_s) else 0.9 * self.cadence_s + 0.1 * step
        if len(self.times) > 1 and self.times[-1] // SLOT_S == t // SLOT_S and t % SLOT_S:
            self.times[-1], self.values[-1], self.errors[-1] = t, value, error
            return
        self.times.append(t)
        self.values.append(value)
        self.errors.append(error)
        while self.times[0] < t - KEPT_S:
            del self.times[0], self.values[0], self.errors[0]


@dataclass(frozen=True, slots=True)
class Corrected:
    """Corrected guidance of one variable from one origin, [N] and [N, Q]. `length`: seconds that a sum or maximum
    covers."""

    station: Times
    valid: Times
    length: Times
    raw: Floats
    mean: Floats
    quantiles: Floats

    def by_station(self) -> Iterator[tuple[int, Corrected]]:
        """The same, station by station."""
        starts = np.flatnonzero(np.diff(self.station, prepend=-1))
        for start, end in pairwise([*starts.tolist(), len(self.station)]):
            part = slice(start, end)
            yield int(self.station[start]), Corrected(*(getattr(self, column)[part] for column in self.__slots__))


@dataclass(slots=True)
class _Pending:
    issued: Issued
    valid: Times
    length: Times  # seconds that a sum or maximum covers


class Rolling:
    """Guidance of some stations, corrected.

    Args:
        stations: their places; with more than one, regressions are shared.
        columns: of the guidance.
        levels: of the quantiles.
    """

    def __init__(self, stations: Sequence[Station], columns: Sequence[str], levels: Sequence[float]) -> None:
        self._stations = list(stations)
        self.variables = tuple(name for name in columns if name in VARIABLES)
        self._columns = tuple(columns)
        pooled = len(self._stations) > 1
        self._layout = {name: Layout.of(name, columns, pooled) for name in self.variables}
        self._correction = {
            name: Correction(
                len(self._stations), self._layout[name], levels, bounds=_bounds(name),
                circular=VARIABLES[name].kind is Kind.DIRECTION, spread=ORDINARY.get(name, 2.0),
                regions=_regions(self._stations),
            )
            for name in self.variables
        }  # fmt: skip
        self._runs: list[deque[Run]] = [deque(maxlen=RUNS) for _ in self._stations]
        self._recent = {name: [Recent() for _ in self._stations] for name in self.variables}
        self._pending: dict[str, list[_Pending]] = {name: [] for name in self.variables}
        self._asked = dict.fromkeys(self.variables, -np.inf)  # when short bands' pairs were kept last
        self._asked_of: dict[str, dict[int, int]] = {name: {} for name in self.variables}  # run of the long ones
        self._learned = [-np.inf, -np.inf]

    def take(self, station: int, run: Run) -> None:
        """A run has become usable."""
        self._runs[station].appendleft(run)

    def newest_run(self, station: int) -> Run | None:
        """The run that forecasts are made from."""
        return self._runs[station][0] if self._runs[station] else None

    def read(self, station: int, name: str, times: Times, values: Floats) -> None:
        """Readings [N] of a variable that have come in, ascending; of sums and maxima those of guidance's intervals."""
        recent = self._recent[name][station]
        said = self._said(station, name, times)
        circular = VARIABLES[name].kind is Kind.DIRECTION
        errors = wrap(values - said) if circular else values - said
        for t, value, error in zip(times.tolist(), values.tolist(), errors.tolist(), strict=True):
            if value == value:
                recent.add(t, value, error)

    def _said(self, station: int, name: str, times: Times) -> Floats:
        """What the newest run usable at each time said of it, [N]."""
        said = np.full(len(times), np.nan)
        for run in self._runs[station]:
            open_ = np.isnan(said) & (times >= run.issued)
            if not open_.any():
                if len(times) and not np.isnan(said).any():
                    break
                continue
            said[open_] = run.at(name, times[open_])
        return said

    def forecast(self, name: str, origin: int, *, leads_s: Sequence[int] = (), short_only: bool = False) -> Corrected:
        """Corrected guidance of a variable at its valid times after `origin`, and at `leads_s` where it can be had.

        Pairs of short bands are kept for learning once an hour, those of long bands once a run and every 6 h at most,
        however often this is called: what is learned does not depend on it.

        Args:
            short_only: leave out the long bands.
        """
        parts = [self._pairs(s, name, origin, leads_s, short_only) for s in range(len(self._stations))]
        found = [part for part in parts if part is not None]
        if not found:
            none, whole = np.empty(0), np.empty(0, np.int64)
            return Corrected(whole, whole, whole, none, none, np.empty((0, 0)))
        station, valid, band, raw, length, x, wide = (np.concatenate(column) for column in zip(*found, strict=True))
        issued = self._correction[name].issue(station, band, raw, x, wide)
        lessons = self._lessons(name, origin, station, band)
        if lessons.any():
            self._pending[name].append(_rows(_Pending(issued, valid, length), lessons))
        return Corrected(station, valid, length, raw, issued.mean, issued.quantiles)

    def _lessons(self, name: str, origin: int, station: Times, band: Times) -> Times:
        """Which pairs are kept for learning, [N]."""
        short = band < SHORT
        hourly = origin % HOUR_S == 0 and origin > self._asked[name]
        if hourly and short.any():
            self._asked[name] = origin
        fresh = np.zeros(len(self._stations), bool)
        for s in np.unique(station[~short]).tolist():
            issued = self._runs[s][0].issued
            fresh[s] = issued >= self._asked_of[name].get(s, -LESSON_S) + LESSON_S
            if fresh[s]:
                self._asked_of[name][s] = issued
        return np.asarray(np.where(short, hourly, fresh[station]))

    def verify(self, now: int, came: Came, settled: Settled) -> None:
        """Learn from what has come by `now`, as often as is worth it; a look that finds nothing is no lesson.

        Args:
            came: (station, variable, valid times, seconds they cover) -> observations [N], NaN = nothing was read.
            settled: (station, variable, valid times, now) -> whether no later reading can change them, [N].
        """
        due = [now - self._learned[long] >= LEARN_S[long] for long in (0, 1)]
        if not any(due):
            return
        seen = [False, False]
        for name in self.variables:
            ready: list[_Pending] = []
            left: list[_Pending] = []
            for pending in self._pending[name]:
                is_short = pending.issued.band < SHORT
                rows = (pending.valid <= now) & np.where(is_short, due[0], due[1])
                rows = _settled(name, pending, rows, now, settled)
                if rows.any():
                    ready.append(_rows(pending, rows))
                    seen = [seen[0] or bool((rows & is_short).any()), seen[1] or bool((rows & ~is_short).any())]
                if not rows.all():
                    left.append(_rows(pending, ~rows) if rows.any() else pending)
            self._pending[name] = left
            if ready:
                self._learn(name, ready, now, came)
        self._learned = [now if was else before for was, before in zip(seen, self._learned, strict=True)]

    def arrays(self) -> dict[str, Floats]:
        """What was learned, by name; pairs that wait and readings are not in it."""
        return {f"{name}.{key}": value for name, one in self._correction.items() for key, value in one.arrays().items()}

    def restore(self, arrays: Mapping[str, Floats]) -> None:
        """Take up what `arrays` gave. Raises ValueError or KeyError: it is of another shape; then nothing is taken."""
        parts = {name: {key: arrays[f"{name}.{key}"] for key in one.arrays()} for name, one in self._correction.items()}
        for name, one in self._correction.items():
            one.check(parts[name])
        for name, one in self._correction.items():
            one.restore(parts[name])

    def _learn(self, name: str, ready: list[_Pending], now: int, came: Came) -> None:
        whole = _joined(ready)
        observed = np.full(len(whole.valid), np.nan)
        for s in np.unique(whole.issued.station).tolist():
            rows = whole.issued.station == s
            observed[rows] = came(s, name, whole.valid[rows], whole.length[rows])
        order = np.argsort(whole.valid, kind="stable")
        circular = VARIABLES[name].kind is Kind.DIRECTION
        for i in order[~np.isnan(observed[order])].tolist():
            recent = self._recent[name][int(whole.issued.station[i])]
            b = int(whole.issued.band[i])
            error = float(observed[i] - whole.issued.raw[i])
            error = float(wrap(error)) if circular else error
            recent.verified[b] = error
            recent.mean[b] = error if np.isnan(recent.mean[b]) else 0.8 * recent.mean[b] + 0.2 * error
        self._correction[name].learn(whole.issued, observed, now)

    def _pairs(
        self, s: int, name: str, origin: int, leads_s: Sequence[int], short_only: bool
    ) -> tuple[Floats | Times, ...] | None:
        """station, valid, band, raw, length [N], predictors [N, P] and [N, W] of one station."""
        run = self.newest_run(s)
        if run is None:
            return None
        recent = self._recent[name][s]
        often = recent.cadence_s <= OFTEN_S
        valid = run.valid[run.valid > origin]
        if len(leads_s) and VARIABLES[name].kind in (Kind.STATE, Kind.DIRECTION):
            valid = np.union1d(valid, origin + np.asarray(leads_s, np.int64))
        band = bands(origin, run.issued, valid, often)
        raw = run.at(name, valid)
        keep = ~np.isnan(raw)
        if short_only:
            keep &= band < SHORT
        if not keep.any():
            return None
        valid, band, raw = valid[keep], band[keep], raw[keep]
        layout = self._layout[name]
        found = self._predictors(s, name, run, origin, valid, band, raw)
        x = np.stack([found[column] for column in layout.names], axis=1)
        wide = np.stack(
            [found["season_sin"], found["season_cos"], found["members_spread"], np.abs(found["newest_error"]),
             np.abs(found["lead_error"]), *(found[column] for column in layout.spreads)], axis=1,
        )  # fmt: skip
        return np.full(len(valid), s), valid, band, raw, _lengths(run, valid), x, wide

    def _predictors(
        self, s: int, name: str, run: Run, origin: int, valid: Times, band: Times, raw: Floats
    ) -> dict[str, Floats]:
        """All columns of the layout by name, [N] each."""
        layout, station, recent = self._layout[name], self._stations[s], self._recent[name][s]
        n = len(valid)
        given = (*layout.own, *layout.alike, *layout.spreads, *layout.others)
        columns = {column: run.at(column, valid) for column in given}
        found = {"guidance": raw} | columns | clocks(valid, station.longitude) | members(layout, raw, columns)
        place = {"latitude": station.latitude, "longitude": station.longitude, "elevation": station.elevation_m}
        known = run.valid[~np.isnan(run.values[name])]  # of a run made hourly, a state begins after the sums
        begin = np.array([max(origin, int(known[0]))])
        around = [run.at(name, np.clip(valid + step, known[0], known[-1])) for step in (-HOUR_S, HOUR_S)]
        scalars = place | _recent_errors(recent, origin)
        newest = scalars.pop("newest_value")
        found |= {column: np.full(n, value) for column, value in scalars.items()}
        found["newest"] = newest - raw
        found["day_before"] = _day_before(recent, origin, valid) - raw
        found["lead_error"], found["lead_error_mean"] = recent.verified[band], recent.mean[band]
        found["guidance_change"] = raw - run.at(name, begin)
        found["guidance_slope"] = around[1] - around[0]
        if VARIABLES[name].kind is Kind.DIRECTION:
            for column in ("newest", "day_before", "reading_change", "guidance_change", "guidance_slope"):
                found[column] = wrap(found[column])
        return found


def _recent_errors(recent: Recent, origin: int) -> dict[str, float]:
    """Newest reading and error, the error's change in an hour, its means over 6 and 24 h, the reading's change in an
    hour; NaN where nothing was."""
    names = ("newest_value", "newest_error", *RECENT[:4])
    if not recent.times or recent.times[-1] < origin - LATEST_S:
        return dict.fromkeys(names, np.nan)
    times, values, errors = np.array(recent.times), np.array(recent.values), np.array(recent.errors)
    an_hour = times <= times[-1] - HOUR_S
    there = ~np.isnan(errors)
    newest = errors[there][-1] if there.any() else np.nan
    before = errors[there & an_hour]
    means = [errors[there & (times > origin - hours * HOUR_S)] for hours in (6, 24)]
    mean = [float(part.mean()) if len(part) else newest for part in means]
    change = newest - before[-1] if len(before) else np.nan
    moved = values[-1] - values[an_hour][-1] if an_hour.any() else np.nan
    return dict(zip(names, (values[-1], newest, change, *mean, moved), strict=True))


def _day_before(recent: Recent, origin: int, valid: Times) -> Floats:
    """The newest reading at each valid time's time of day, within half an hour, [N]."""
    if not recent.times:
        return np.full(len(valid), np.nan)
    times, values = np.array(recent.times), np.array(recent.values)
    wanted = valid - DAY_S * -(-(valid - origin) // DAY_S)
    right = np.clip(np.searchsorted(times, wanted), 0, len(times) - 1)
    left = np.maximum(right - 1, 0)
    near_ = np.where(np.abs(times[left] - wanted) <= np.abs(times[right] - wanted), left, right)
    return np.asarray(np.where(np.abs(times[near_] - wanted) <= HOUR_S / 2, values[near_], np.nan))


def _lengths(run: Run, valid: Times) -> Times:
    """Seconds that a sum at each valid time covers: since the valid time before it."""
    spacing = np.diff(run.valid)
    if not len(spacing):
        return np.full(len(valid), HOUR_S)
    steps = np.concatenate([spacing[:1], spacing])
    return np.asarray(steps[np.clip(np.searchsorted(run.valid, valid), 0, len(steps) - 1)])


def _regions(stations: Sequence[Station]) -> int:
    """How many cells of `REGION_DEGREES` hold a station: nearer ones have the same weather on a day."""
    cells = set()
    for station in stations:
        east = station.longitude * np.cos(np.radians(station.latitude))
        cells.add((station.latitude // REGION_DEGREES, east // REGION_DEGREES))
    return len(cells)


def _bounds(name: str) -> tuple[float, float]:
    """What a forecast can be; directions are unwrapped, and have none."""
    if VARIABLES[name].kind is Kind.DIRECTION:
        return (-np.inf, np.inf)
    (low, high), (least, most) = VARIABLES[name].fail, BOUNDS.get(name, (-np.inf, np.inf))
    if name in ("rain_24h", "rain_rate", "solar_radiation", "uv_index"):
        least = 0.0
    return max(low, least), min(high, most)


def _settled(name: str, pending: _Pending, rows: NDArray[np.bool_], now: int, settled: Settled) -> NDArray[np.bool_]:
    """Those of the rows whose observations are settled, [N]."""
    for s in np.unique(pending.issued.station[rows]).tolist():
        own = rows & (pending.issued.station == s)
        rows[own] = settled(s, name, pending.valid[own], now)
    return rows


def _rows(pending: _Pending, rows: np.ndarray) -> _Pending:
    issued = Issued(*(getattr(pending.issued, column)[rows] for column in Issued.__slots__))
    return _Pending(issued, pending.valid[rows], pending.length[rows])


def _joined(ready: list[_Pending]) -> _Pending:
    issued = Issued(*(np.concatenate([getattr(p.issued, column) for p in ready]) for column in Issued.__slots__))
    return _Pending(issued, np.concatenate([p.valid for p in ready]), np.concatenate([p.length for p in ready]))
