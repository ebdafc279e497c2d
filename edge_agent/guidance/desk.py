"""Guidance in the running agent: what sources answered, corrected and blended once an hour, as a forecast to publish.

Owned by the loop. Must never let a forecast leave without its level, source and age, or lose what was learned because
the agent was restarted.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_agent.bundle.manifest import Event
from edge_agent.config import Station
from edge_agent.errors import DataError
from edge_agent.forecast import QUANTILES, Forecast, Level, VariableForecast
from edge_agent.forecast.blend import Blend
from edge_agent.forecast.chances import chance
from edge_agent.forecast.persistence import BOUNDS
from edge_agent.grid import GRID_VARIABLES, MATCH_S, STEP_S
from edge_agent.guidance import Floats, Run, Times, memory
from edge_agent.guidance.hours import HOUR_S, in_hours, with_quarters
from edge_agent.guidance.observed import Observed
from edge_agent.guidance.rolling import Corrected, Rolling
from edge_agent.guidance.sources import Guidance
from edge_agent.history import History, steps_ending
from edge_agent.variables import VARIABLES, Kind

log = logging.getLogger(__name__)

STEPS = 7 * 24
STALE_S = 12 * HOUR_S  # since a run became usable: after that a newer one should be there
MOST_PREDICTORS = 16  # further ones: the memory grows with their square
MOST_NAME = 40  # characters of what a predictor is
MOST_WORDS = 100  # characters of a source, as receivers know it
CORRECTED = (*GRID_VARIABLES, "dew_point", "pressure_msl", "uv_index")


class Desk:
    """All stations' guidance.

    Args:
        kept: the file that what is learned is kept in.

    `changed`: something may have been learned since that was written.
    """

    def __init__(self, stations: Sequence[Station], kept: Path) -> None:
        self.changed = False
        self._stations = {station.id: i for i, station in enumerate(stations)}
        self._places = list(stations)
        self._columns = CORRECTED
        self._rolling = Rolling(stations, self._columns, QUANTILES)
        self._blends = {
            name: Blend(6, QUANTILES, circular=VARIABLES[name].kind is Kind.DIRECTION,
                        bounds=BOUNDS.get(name, (-np.inf, np.inf)))
            for name in GRID_VARIABLES if VARIABLES[name].kind in (Kind.STATE, Kind.DIRECTION)
        }  # fmt: skip
        self._waiting: list[tuple[str, str, int, int, Floats, Floats, Floats]] = []
        self._source: dict[str, Guidance] = {}
        self._observed: dict[int, Observed] = {}
        self._until: dict[tuple[int, str], int] = {}
        self._memory = kept

    def take(self, station: str, guidance: Guidance) -> None:
        """An answer of a source; one that is no newer than the last is left out. Further predictors that were never
        brought before are told apart from then on, and what was learned without them begins anew."""
        before = self._source.get(station)
        if before is not None and guidance.run.issued <= before.run.issued:
            return
        self._source[station] = guidance
        known = {*self._columns}
        new = [name for name in guidance.run.values if name not in known and _is_predictor(name)]
        new = new[: len(CORRECTED) + MOST_PREDICTORS - len(known)]
        if new:
            log.warning("guidance brings %s: what it taught without begins anew", ", ".join(new))
            self._columns = (*self._columns, *new)
            self._rolling = Rolling(self._places, self._columns, QUANTILES)
            self._until.clear()
        for one in self._source if new else [station]:
            self._hand_over(one)

    def _hand_over(self, station: str) -> None:
        """Give the newest run of a station to what corrects it, with all its columns."""
        guidance, at = self._source[station], self._stations[station]
        run = in_hours(guidance.at(self._places[at]))
        quarters = guidance.quarters
        if quarters is not None and quarters.native:  # interpolated ones say nothing that hours do not
            run = with_quarters(run, quarters.at(self._places[at]))
        missing = np.full(len(run.valid), np.nan)
        values = {name: run.values.get(name, missing) for name in self._columns}
        self._rolling.take(at, Run(run.issued, run.valid, values))

    def forecast(
        self, histories: Mapping[str, NDArray[np.float32]], nowcasts: Mapping[str, Forecast], origin: int, issued: int,
        events: Sequence[Event] = (),
    ) -> list[tuple[Forecast, Forecast]]:  # fmt: skip
        """Hourly forecasts of the stations that have guidance, at a full hour, each with the guidance as it came.

        Args:
            histories: station -> [2880, 8] up to `origin`.
            nowcasts: of the same origin, by station.
            events: whose probability is told of each hour, from the quantiles.
        """
        self.changed = True
        self._read(histories, origin)
        self._rolling.verify(origin, self._came, self._settled)
        self._verify_blends(origin)
        parts: dict[int, dict[str, Corrected]] = {}
        for name in self._rolling.variables:
            for s, corrected in self._rolling.forecast(name, origin).by_station():
                parts.setdefault(s, {})[name] = corrected
        names = {i: name for name, i in self._stations.items()}
        made = [self._one(names[s], found, nowcasts.get(names[s]), origin, issued) for s, found in parts.items()]
        return [(replace(forecast, events=_chances(forecast, events)), raw) for forecast, raw in made]

    def _read(self, histories: Mapping[str, NDArray[np.float32]], origin: int) -> None:
        """Hand over the readings since the last time."""
        steps = steps_ending(origin)
        for station, grid in histories.items():
            s = self._stations[station]
            values = {name: grid[:, i].astype(np.float64) for i, name in enumerate(GRID_VARIABLES)}
            self._observed[s] = observed = Observed(History(steps, values, []))
            for name in self._rolling.variables:
                after = self._until.get((s, name), origin - 2 * 86_400)
                if VARIABLES[name].kind in (Kind.STATE, Kind.DIRECTION):
                    times, read = observed.between(name, after, origin)
                else:
                    times = np.arange(after // HOUR_S * HOUR_S + HOUR_S, origin + 1, HOUR_S, dtype=np.int64)
                    read = observed.came(name, times, np.full(len(times), HOUR_S))
                if len(times):
                    self._rolling.read(s, name, times, read)
                self._until[s, name] = origin

    def _came(self, station: int, name: str, valid: Times, length_s: Times) -> Floats:
        """What came, [N]; of sums and maxima that of the hour, whatever lies between two valid times."""
        observed, hour = self._observed.get(station), np.full(len(valid), HOUR_S)
        return np.full(len(valid), np.nan) if observed is None else observed.came(name, valid, hour)

    def _settled(self, station: int, name: str, valid: Times, now: int) -> NDArray[np.bool_]:
        observed = self._observed.get(station)
        return np.asarray(valid + MATCH_S <= now) if observed is None else observed.settled(name, valid, now)

    def _one(
        self, station: str, found: Mapping[str, Corrected], nowcast: Forecast | None, origin: int, issued: int
    ) -> tuple[Forecast, Forecast]:
        guidance = self._source[station]
        last = max(int(corrected.valid[-1]) for corrected in found.values())
        steps = int(np.clip((last - origin) // HOUR_S, 1, STEPS))
        age = origin - guidance.run.issued
        level = Level.FULL if age <= STALE_S else Level.BACKGROUND_STALE
        why = "" if level is Level.FULL else f"{guidance.source}: its newest run is {age // HOUR_S} h old"
        variables, raw = {}, {}
        for name, corrected in found.items():
            mean, quantiles, said = self._hourly(corrected, origin, steps)
            raw[name] = VariableForecast(name, level, said, None, max(age, 0))
            own = None if nowcast is None else nowcast.variables.get(name)
            if own is not None and nowcast is not None:
                self._blend(station, name, mean, quantiles, own, nowcast)
            if not np.isnan(mean).all():
                variables[name] = VariableForecast(name, level, mean, quantiles.T, max(age, 0), why)
        _consistent(variables)
        leads = tuple(HOUR_S * (i + 1) for i in range(steps))
        licence = f" ({guidance.licence})" if guidance.licence else ""
        source = f"{guidance.source} corrected here{licence}"[:MOST_WORDS]
        made = Forecast(station, origin, issued, leads, QUANTILES, level, source, "", variables, {}, why)
        return made, replace(made, source=guidance.source, variables=raw)

    def _hourly(self, corrected: Corrected, origin: int, steps: int) -> tuple[Floats, Floats, Floats]:
        """Mean [L], quantiles [L, Q] and raw guidance [L] at full hours."""
        mean, raw, quantiles = np.full(steps, np.nan), np.full(steps, np.nan), np.full((steps, len(QUANTILES)), np.nan)
        at = (corrected.valid - origin) // HOUR_S - 1
        good = ((corrected.valid - origin) % HOUR_S == 0) & (at < steps)
        mean[at[good]], quantiles[at[good]], raw[at[good]] = (
            corrected.mean[good], corrected.quantiles[good], corrected.raw[good],
        )  # fmt: skip
        return mean, quantiles, raw

    def _blend(
        self, station: str, name: str, mean: Floats, quantiles: Floats, own: VariableForecast, nowcast: Forecast
    ) -> None:
        """Put the blend in place of the first hours' guidance, and remember both until they can be verified. Hours of
        which guidance says nothing are the nowcast's."""
        if name not in self._blends or own.mean is None or own.quantiles is None:
            return
        for i in range(min(6, len(mean))):
            lead = HOUR_S * (i + 1)
            if lead not in nowcast.leads_s:
                continue
            k = nowcast.leads_s.index(lead)
            before = own.mean[k : k + 1], own.quantiles[:, k][None]
            if np.isnan(mean[i]):
                mean[i], quantiles[i] = before[0][0], before[1][0]
                continue
            guided = mean[i : i + 1].copy()
            mixed, fan, _ = self._blends[name].mix(np.array([i]), before, (guided, quantiles[i : i + 1].copy()))
            mean[i], quantiles[i] = mixed[0], fan[0]
            self._waiting.append((station, name, i, nowcast.origin + lead, before[0], guided, fan))

    def _verify_blends(self, now: int) -> None:
        left = []
        for one in self._waiting:
            station, name, i, valid, own, guided, fan = one
            s, at = self._stations[station], np.array([valid])
            if not self._settled(s, name, at, now).all():
                left.append(one)
                continue
            came = self._came(s, name, at, np.array([STEP_S]))
            self._blends[name].learn(np.array([i]), own, guided, fan, came)
        self._waiting = left

    # --- what is kept over a restart --------------------------------------------------------------------------------

    def keep(self) -> None:
        """Write down what was learned. Raises StoreError: the disk does not take it."""
        memory.write(self._memory, self._columns, self._rolling.arrays() | self._blended())
        self.changed = False

    def recall(self) -> str:
        """Take up what was kept; why not, where it is there and cannot be used."""
        try:
            found = memory.read(self._memory)
        except DataError as error:
            return f"{error}: learning starts anew"
        if found is None:
            return ""
        version, columns, arrays = found
        try:
            columns = _checked(columns) if version > 1 else CORRECTED
            rolling = Rolling(self._places, columns, QUANTILES)
            if version > 1:
                for name, blend in self._blends.items():
                    blend.check([arrays[f"blend.{name}.{i}"] for i in range(len(blend.arrays()))])
            rolling.restore(arrays)
        except (KeyError, ValueError) as error:
            return f"{self._memory}: cannot be used ({error}): learning starts anew"
        self._columns, self._rolling = columns, rolling
        if version > 1:
            for key, own in self._blended().items():
                own[:] = arrays[key]
        return ""

    def _blended(self) -> dict[str, Floats]:
        """What the blends learned, by name, to be read or written into."""
        return {f"blend.{name}.{i}": a for name, blend in self._blends.items() for i, a in enumerate(blend.arrays())}


def _checked(columns: tuple[str, ...]) -> tuple[str, ...]:
    """Columns as this agent would have chosen them. Raises ValueError: they are others."""
    further = columns[len(CORRECTED) :]
    ours = columns == (*CORRECTED, *dict.fromkeys(further)) and all(map(_is_predictor, further))
    if not ours or len(further) > MOST_PREDICTORS:
        raise ValueError("of other variables")
    return columns


def _is_predictor(column: str) -> bool:
    variable, mark, what = column.partition("__")
    return variable in CORRECTED and bool(mark) and 0 < len(what) <= MOST_NAME


def _chances(forecast: Forecast, events: Sequence[Event]) -> dict[str, Floats]:
    """Probability [L], by name, of the events whose variable is forecast, from its quantiles; NaN where they are."""
    found = {}
    for event in events:
        own = forecast.variables.get(event.variable)
        if own is not None and own.quantiles is not None:
            found[event.name] = chance(event, own.quantiles.T, forecast.levels_q)
    return found


def _consistent(variables: dict[str, VariableForecast]) -> None:
    """No dew point above the temperature, no gust below the wind: mean and each quantile, which stay in order."""
    for name, other, bound in (("dew_point", "temperature", np.fmin), ("wind_gust", "wind_speed", np.fmax)):
        if name in variables and other in variables:
            for values, limits in (
                (variables[name].mean, variables[other].mean), (variables[name].quantiles, variables[other].quantiles),
            ):  # fmt: skip
                if values is not None and limits is not None:
                    values[:] = np.where(np.isnan(values), np.nan, bound(values, limits))
