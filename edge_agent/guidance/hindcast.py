"""`edge-agent hindcast --guidance`: what corrected guidance, blended with the nowcast, would have been worth here.

Goes through the files once, in order of time: runs when they became usable, readings when they came, forecasts at their
origins, verdicts when they could be known. Must never look ahead, except for the scores.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from edge_agent import grid
from edge_agent.adaptation.learner import Learner
from edge_agent.clock import format_time
from edge_agent.config import Station
from edge_agent.console import keep_inputs, tell
from edge_agent.errors import ConfigError, DataError
from edge_agent.forecast import MIN_HISTORY_S
from edge_agent.forecast.blend import Blend
from edge_agent.forecast.from_file import given_station, given_time, load_nowcaster
from edge_agent.forecast.hindcast import Part, hindcast, parse_every
from edge_agent.forecast.near import Beside, near_of
from edge_agent.forecast.nowcast import Nowcaster
from edge_agent.forecast.persistence import BOUNDS
from edge_agent.guidance import Floats, Run, Times
from edge_agent.guidance.files import ONLY, Table, has_stations, read_guidance, read_stations, station_at
from edge_agent.guidance.observed import Observed
from edge_agent.guidance.rolling import Corrected, Rolling
from edge_agent.guidance.rows import GuidedWriter, Rows
from edge_agent.guidance.skill import GuidedSkill
from edge_agent.history import History, read_history
from edge_agent.network import keep_network
from edge_agent.variables import VARIABLES, Kind

HOUR_S = 3600
NAMED = 5  # stations that a warning names
BLENDED = tuple(name for name in grid.GRID_VARIABLES if VARIABLES[name].kind in (Kind.STATE, Kind.DIRECTION))


class _Nowcasts:
    """A station's nowcasts as (part, row in it), made in order of time and asked for in order of time."""

    def __init__(
        self, past: History, station: Station, nowcaster: Nowcaster, at: Times, *, adapt: bool, near: Beside | None
    ) -> None:
        learner = Learner(nowcaster.leads_s, nowcaster.levels, nowcaster.events) if adapt else None
        self._parts = ((o, part, i) for part in hindcast(past, station, nowcaster, at, learner=learner, near=near)
                       for i, o in enumerate(part.origins.tolist()))  # fmt: skip
        self._next = next(self._parts, None)

    def of(self, origin: int) -> tuple[Part, int] | None:
        """The one from `origin`, if it was prepared."""
        while self._next is not None and self._next[0] < origin:
            self._next = next(self._parts, None)
        return None if self._next is None or self._next[0] > origin else self._next[1:]


@dataclass(slots=True)
class Case:
    """All that is known of one station: its past, its guidance, and how far both have been told."""

    station: Station
    observed: Observed
    runs: list[Run]
    nowcasts: _Nowcasts | None
    taken: int = 0
    read_until: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Both:
    """A blended forecast that waits for its observations, [N] and [N, Q]."""

    case: int
    valid: Times
    lead: Times
    nowcast: Floats
    guided: Floats
    quantiles: Floats


class GuidedHindcast:
    """One pass over the cases. `columns`: of the guidance. What is learned does not depend on the origins asked for."""

    def __init__(self, cases: Sequence[Case], columns: Sequence[str], nowcaster: Nowcaster) -> None:
        self._cases, self._nowcaster = list(cases), nowcaster
        self._rolling = Rolling([case.station for case in cases], columns, nowcaster.levels)
        self._blends = {
            name: Blend(
                len(nowcaster.leads_s), nowcaster.levels,
                circular=VARIABLES[name].kind is Kind.DIRECTION, bounds=BOUNDS.get(name, (-np.inf, np.inf)),
            )
            for name in BLENDED if name in self._rolling.variables
        }  # fmt: skip
        self._waiting: dict[str, list[_Both]] = {name: [] for name in self._blends}
        self._near: tuple[int, ...] = nowcaster.leads_s if any(case.nowcasts for case in cases) else ()

    def run(self, origins: Times, cycles: Times) -> Iterator[list[Rows]]:
        """Rows of each origin. `cycles`: when forecasts are made to learn from them, UTC seconds; ascending, both."""
        wanted, learns = set(origins.tolist()), set(cycles.tolist())
        hourly = len(cycles) > 1 and np.diff(cycles).max() <= HOUR_S
        for now in np.union1d(origins, cycles).tolist():
            fresh = self._tell(now)
            if now in learns or not hourly:
                self._rolling.verify(now, self._came, self._settled)
                self._verify_blends(now)
            rows = self._at(now, whole=fresh or now in wanted)
            if now in wanted:
                yield rows

    def _tell(self, now: int) -> bool:
        """Hand over what has come up to now: runs first; True if there was one."""
        fresh = False
        for s, case in enumerate(self._cases):
            while case.taken < len(case.runs) and case.runs[case.taken].issued <= now:
                self._rolling.take(s, case.runs[case.taken])
                case.taken += 1
                fresh = True
            for name in self._rolling.variables:
                times, values = self._readings(s, case, name, now)
                if len(times):
                    self._rolling.read(s, name, times, values)
        return fresh

    def _readings(self, s: int, case: Case, name: str, now: int) -> tuple[Times, Floats]:
        """New readings of a variable; of sums and maxima, those of guidance's own intervals, once they are settled."""
        after = case.read_until.get(name, now - 2 * 86_400)
        case.read_until[name] = now
        if VARIABLES[name].kind in (Kind.STATE, Kind.DIRECTION):
            return case.observed.between(name, after, now)
        run = self._rolling.newest_run(s)
        if run is None:
            return np.empty(0, np.int64), np.empty(0)
        valid = run.valid[(run.valid > after) & (run.valid <= now)]
        settled = case.observed.settled(name, valid, now)
        if not settled.all():
            case.read_until[name] = int(valid[~settled][0]) - 1
            valid = valid[valid <= case.read_until[name]]
        length = np.diff(run.valid, prepend=2 * run.valid[0] - run.valid[1]) if len(run.valid) > 1 else [HOUR_S]
        return valid, case.observed.came(name, valid, np.asarray(length)[np.isin(run.valid, valid)])

    def _came(self, station: int, name: str, valid: Times, length_s: Times) -> Floats:
        return self._cases[station].observed.came(name, valid, length_s)

    def _settled(self, station: int, name: str, valid: Times, now: int) -> NDArray[np.bool_]:
        return self._cases[station].observed.settled(name, valid, now)

    def _at(self, now: int, *, whole: bool) -> list[Rows]:
        """Forecasts of all variables from one origin."""
        parts = {s: case.nowcasts.of(now) for s, case in enumerate(self._cases) if case.nowcasts}
        rows: list[Rows] = []
        for name in self._rolling.variables:
            corrected = self._rolling.forecast(
                name, now, leads_s=self._near if name in self._blends else (), short_only=not whole
            )
            for s, own in corrected.by_station():
                rows += self._rows(s, name, now, own, parts.get(s))
        for s, found in parts.items():
            if found is not None:
                rows += self._nowcast_rows(s, now, found, {row.name for row in rows if row.station == s})
        return rows

    def _rows(self, s: int, name: str, now: int, own: Corrected, found: tuple[Part, int] | None) -> list[Rows]:
        """Rows of a variable with guidance: blended up to the nowcast's last lead, else corrected."""
        came = self._cases[s].observed.came(name, own.valid, own.length)
        lead = own.valid - now
        nowcast = None if found is None else _of_part(self._nowcaster, found, name)
        if nowcast is None:
            return [Rows(s, name, "corrected", lead, came, own.mean, own.quantiles, {"guidance": own.raw})]
        mean_n, q_n, base = nowcast
        leads_s = np.asarray(self._nowcaster.leads_s, np.int64)
        if name not in self._blends:  # rain and gusts: of other intervals than guidance's
            far = lead > leads_s[-1]
            return [Rows(s, name, "corrected", lead, came, own.mean, own.quantiles, {"guidance": own.raw}).of(far)]
        at = np.clip(np.searchsorted(leads_s, lead), 0, len(leads_s) - 1)
        both = (leads_s[at] == lead) & ~np.isnan(mean_n[at])
        rows = [Rows(s, name, "corrected", lead, came, own.mean, own.quantiles, {"guidance": own.raw}).of(~both)]
        if both.any():
            index = at[both]
            mean, quantiles, _ = self._blends[name].mix(
                index, (mean_n[index], q_n[index]), (own.mean[both], own.quantiles[both])
            )
            waiting = _Both(s, own.valid[both], index, mean_n[index], own.mean[both], quantiles)
            if now % HOUR_S == 0:  # from these it learns, whichever origins are asked for
                self._waiting[name].append(waiting)
            beside = {"guidance": own.raw[both]} | {source: value[index] for source, value in base.items()}
            rows.append(Rows(s, name, "blend", lead[both], came[both], mean, quantiles, beside))
        alone = np.setdiff1d(np.flatnonzero(~np.isnan(mean_n)), at[both])
        if len(alone):
            beside = {source: value[alone] for source, value in base.items()}
            observed = self._cases[s].observed.came(name, now + leads_s[alone], np.full(len(alone), grid.STEP_S))
            rows.append(Rows(s, name, "nowcast", leads_s[alone], observed, mean_n[alone], q_n[alone], beside))
        return rows

    def _nowcast_rows(self, s: int, now: int, found: tuple[Part, int], done: set[str]) -> list[Rows]:
        """Rows of what only the nowcast has, events among them."""
        part, row = found
        n, leads_s = self._nowcaster, np.asarray(self._nowcaster.leads_s, np.int64)
        rows = []
        for v, name in enumerate(n.variables):
            if part.batch.rung[row, v] < 0 or (name in done and name in self._blends):
                continue
            mean, quantiles, beside = part.batch.mean[row, :, v], part.batch.quantiles[row, :, v], {}
            for source, (base, _) in part.base.items():
                beside[source] = base[row, :, v]
            rows.append(Rows(s, name, "nowcast", leads_s, part.observed[row, :, v], mean, quantiles, beside))
        for e, event in enumerate(n.all_events):
            if part.batch.rung[row, n.variables.index(event.variable)] >= 0:
                chance, outcome = part.batch.probability[row, :, e], part.outcome[row, :, e]
                rows.append(Rows.of_event(s, event.name, leads_s, outcome, chance))
        return rows

    def _verify_blends(self, now: int) -> None:
        """Learn the blend's weights from forecasts whose last observation is settled."""
        for name, waiting in self._waiting.items():
            self._waiting[name] = []
            for one in waiting:
                if not self._settled(one.case, name, one.valid[-1:], now).all():
                    self._waiting[name].append(one)
                    continue
                came = self._cases[one.case].observed.came(name, one.valid, np.full(len(one.valid), grid.STEP_S))
                self._blends[name].learn(one.lead, one.nowcast, one.guided, one.quantiles, came)


def guided_hindcast_command(
    history: Path,
    latitude: float | None,
    longitude: float | None,
    elevation: float | None,
    every: str,
    start: str | None,
    end: str | None,
    bundle: Path | None,
    out: Path | None,
    json_: bool,
    guidance: Path,
    adapt: bool,
    neighbours: Path | None = None,
) -> None:
    """`edge-agent hindcast --guidance`: forecast, score, print, write. Raises StationcastError."""
    keep_inputs("--out", out, history, guidance, bundle)
    keep_network("--out", out, neighbours)
    every_s = parse_every(every)
    nowcaster = load_nowcaster(bundle)
    place = None
    if latitude is not None and longitude is not None and elevation is not None:
        place = latitude, longitude, elevation
    pasts, runs, columns = _inputs(history, guidance, place)
    near = _near(neighbours, nowcaster, pasts, history)
    spans = [span for _, past in pasts.values() if (span := Observed(past).span()) is not None]
    if not spans:
        raise DataError(f"{history}: no readings: nothing to correct guidance with")
    first = given_time("--start", start)
    first = min(span[0] for span in spans) + MIN_HISTORY_S if first is None else first
    last = given_time("--end", end)
    last = max(span[1] for span in spans) if last is None else last
    origins = np.arange(-(-first // every_s) * every_s, last + 1, every_s, dtype=np.int64)
    if not len(origins):
        raise DataError(f"no origin from {format_time(first)} to {format_time(last)}: choose --start, --end, --every")
    if not any(int(run.issued) <= last and run.valid[-1] > first for name in pasts for run in runs[name]):
        raise DataError(
            f"{guidance}: no run could be used from {format_time(first)} to {format_time(last)}, where the origins lie:"
            " are `issued` and `valid_time` of the same years as the readings?"
        )
    cases, cycles = _cases(pasts, runs, nowcaster, origins, adapt=adapt, near=near)
    skill = GuidedSkill(nowcaster.levels)
    names = [case.station.id for case in cases]
    with GuidedWriter(out, nowcaster.levels, names if len(names) > 1 else None) as writer:
        for origin, rows in zip(origins.tolist(), GuidedHindcast(cases, columns, nowcaster).run(origins, cycles),
                                strict=True):  # fmt: skip
            writer.write(origin, rows)
            for row in rows:
                row.score(skill)
    about: dict[str, Any] = {
        "history": str(history),
        "guidance": str(guidance),
        "stations": len(cases),
        "neighbours": near.names if near else [],
        "bundle": nowcaster.bundle if any(case.nowcasts for case in cases) else "",
        "origins": {
            "n": len(origins), "first": format_time(origins[0]), "last": format_time(origins[-1]), "every_s": every_s,
        },
    }  # fmt: skip
    click.echo(skill.as_json(about) if json_ else skill.as_table(about))


def _inputs(
    history: Path, guidance: Path, place: tuple[float, float, float] | None
) -> tuple[dict[str, tuple[Station, History]], dict[str, list[Run]], tuple[str, ...]]:
    """Stations with their pasts, runs by station, columns. Raises DataError: the files do not fit together."""
    runs, columns, told = read_guidance(guidance)
    if has_stations(history):
        pasts, table = read_stations(history)
        places = told.places | table.places
        tell([*told.warnings, *table.warnings])
        if list(runs) == [ONLY]:
            raise DataError(f"{guidance}: {history} has a station column, this file has none: add one")
        both = [name for name in pasts if name in runs]
        _tell_left_out(history, pasts, guidance, runs)
        _tell_left_out(guidance, runs, history, pasts)
        missing = [name for name in both if place is None and name not in places]
        if missing:
            raise DataError(f"{history}: station {missing[0]}: where is it? Add latitude, longitude, elevation columns")
        found = {name: (station_at(name, places.get(name) or place or (0, 0, 0)), pasts[name]) for name in both}
    else:
        if place is None:
            raise ConfigError("give --latitude, --longitude and --elevation, or a station column with them in the file")
        if len(runs) > 1:
            raise DataError(f"{guidance}: {len(runs)} stations, and {history} has no station column: add one")
        station = given_station(history, *place)
        past = read_history(history, elevation_m=place[2])
        tell([*told.warnings, *past.warnings])
        runs = {ONLY: next(iter(runs.values()))}
        found = {ONLY: (station, past)}
    if not found:
        raise DataError(f"{history} and {guidance} have no station in common: their names differ")
    _check_variables(found, told, history, guidance)
    return found, runs, columns


def _tell_left_out(path: Path, stations: Collection[str], other: Path, its: Collection[str]) -> None:
    """Which stations of one file the other does not have."""
    left = sorted(set(stations) - set(its))
    if left:
        named = ", ".join(left[:NAMED]) + (", ..." if len(left) > NAMED else "")
        tell([f"{path}: left out, as {other} does not have them: {len(left)} of {len(stations)} stations: {named}"])


def _check_variables(found: Mapping[str, tuple[Station, History]], told: Table, history: Path, guidance: Path) -> None:
    """Raises DataError: readings and guidance are of different variables."""
    read = {name for _, past in found.values() for name, column in past.values.items() if not np.isnan(column).all()}
    said = [name for name, column in told.values.items() if name in VARIABLES and not np.isnan(column).all()]
    if read and not read & set(said):
        raise DataError(
            f"{history} and {guidance} have no variable in common: {', '.join(sorted(read))} was read, guidance is of"
            f" {', '.join(said)}; a variable needs the same name in both"
        )


def _near(
    folder: Path | None, nowcaster: Nowcaster, pasts: Mapping[str, tuple[Station, History]], history: Path
) -> Beside | None:
    """The neighbours of the one station. Raises ConfigError: there are several."""
    if folder is not None and list(pasts) != [ONLY]:
        raise ConfigError(f"--neighbours {folder}: is for one station, {history} has a station column: leave it out")
    return near_of(folder, nowcaster, pasts[ONLY][0], history) if folder is not None else None


def _cases(
    pasts: Mapping[str, tuple[Station, History]],
    runs: Mapping[str, list[Run]],
    nowcaster: Nowcaster,
    origins: Times,
    *,
    adapt: bool,
    near: Beside | None,
) -> tuple[list[Case], Times]:
    """The cases, and when forecasts are made to be learned from: when a run becomes usable, and every hour where a
    station reads every 3 hours or oftener."""
    last = int(origins[-1])
    issued = np.unique([run.issued for name in pasts for run in runs[name] if run.issued <= last])
    often = any(
        grid.cadence_s(past.times) <= 3 * HOUR_S and past.variables for _, past in pasts.values() if len(past.times) > 1
    )
    cycles = issued.astype(np.int64)
    if often and len(issued):
        hours = np.arange(-(-issued[0] // HOUR_S) * HOUR_S, last + 1, HOUR_S, dtype=np.int64)
        cycles = np.union1d(cycles, hours)
    cases = []
    for name, (station, past) in pasts.items():
        nowcasts = None
        if past.variables and grid.cadence_s(past.times) <= HOUR_S:
            at = np.union1d(origins, cycles[cycles % grid.STEP_S == 0])
            at = at[at >= past.first + MIN_HISTORY_S]
            at = at[past.covered(at)] if len(at) else at
            if len(at):
                nowcasts = _Nowcasts(past, station, nowcaster, at, adapt=adapt, near=near)
        cases.append(Case(station, Observed(past), runs[name], nowcasts))
    return cases, cycles


def _of_part(
    nowcaster: Nowcaster, found: tuple[Part, int], name: str
) -> tuple[Floats, Floats, dict[str, Floats]] | None:
    """Mean [L], quantiles [L, Q] and baselines' means of a variable; None where it has no nowcast."""
    part, row = found
    if name not in nowcaster.variables:
        return None
    v = nowcaster.variables.index(name)
    if part.batch.rung[row, v] < 0:
        return None
    base = {source: mean[row, :, v] for source, (mean, _) in part.base.items()}
    return part.batch.mean[row, :, v], part.batch.quantiles[row, :, v], base
