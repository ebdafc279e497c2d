"""Quality control over a recorded series: the same code as live, fed row by row in order of time.

Neighbours are heard as they would be on a gateway, forecasts are made as the agent would have made them, and revisions
change what was said before. Nothing later than a row decides what is said of it, save through revisions.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from edge_agent import grid
from edge_agent.config import Station
from edge_agent.forecast.nowcast import Nowcaster
from edge_agent.history import History
from edge_agent.observation import Flag, Observation, Revision, Verdict
from edge_agent.quality.control import QualityControl

FORECAST_S = 3 * 3600  # between forecasts that values are held against
SOURCE = "history"
_KEPT_S = grid.HISTORY_STEPS * grid.STEP_S + 86_400  # what a forecast reads, and a day
_MISSING = Verdict(Flag.MISSING, "missing", "no value was sent")


@dataclass(slots=True)
class Verdicts:
    """What was said of a series: per variable, row -> the verdict on a value that is not good. `present`: how many
    values each variable has."""

    times: grid.Times
    found: dict[str, dict[int, Verdict]] = field(default_factory=dict)
    present: dict[str, int] = field(default_factory=dict)

    def revise(self, revision: Revision, values: grid.Values) -> list[int]:
        """Take a later verdict where it is worse than the present one; the rows that changed."""
        first = int(np.searchsorted(self.times, revision.start, side="left"))
        last = int(np.searchsorted(self.times, revision.end, side="right"))
        said, changed = self.found.setdefault(revision.variable, {}), []
        for row in range(first, last):
            now = said.get(row)
            if not np.isnan(values[row]) and (now is None or now.flag < revision.verdict.flag):
                said[row] = revision.verdict
                changed.append(row)
        return changed


def judge_series(
    station: Station,
    history: History,
    neighbours: Sequence[tuple[Station, History]] = (),
    nowcaster: Nowcaster | None = None,
    advance: Callable[[int], None] = lambda rows: None,
) -> Verdicts:
    """Quality control of a station's past.

    Args:
        station: where it stands; NaN = unknown, and tests that need it are not made.
        history: read without limits, so that impossible values are judged and not missing.
        neighbours: other stations and their past, judged by themselves as well; what they flag is not heard.
        nowcaster: makes a forecast every 3 hours from usable values before it; None = no test against a forecast.
        advance: told how many rows more are done.
    """
    control = QualityControl([station, *(other for other, _ in neighbours)])
    run = _Run(station, history, control, nowcaster)
    streams = [_rows(other, past, number) for number, (other, past) in enumerate(neighbours)]
    streams.append(_rows(station, history, len(neighbours)))  # of readings at the same time the neighbours' come first
    done = 0
    for _, number, row, observation in heapq.merge(*streams, key=lambda event: event[:2]):
        if number < len(neighbours):
            control.judge(observation)
            continue
        run.take(row, observation)
        done += 1
        if done % 1000 == 0:
            advance(1000)
    advance(done % 1000)
    return run.verdicts


class _Run:
    """The series under way."""

    def __init__(
        self, station: Station, history: History, control: QualityControl, nowcaster: Nowcaster | None
    ) -> None:
        self._station, self._history, self._control, self._nowcaster = station, history, control, nowcaster
        self.verdicts = Verdicts(history.times)
        self._usable = {name: column.copy() for name, column in history.values.items()} if nowcaster else {}
        self._next = 0

    def take(self, row: int, observation: Observation) -> None:
        """Judge a row and what it teaches of earlier ones."""
        if self._nowcaster is not None and observation.t > self._next:
            self._forecast(self._nowcaster, row, observation.t)
        judged = self._control.judge(observation)
        for name, verdict in judged.verdicts.items():
            self.verdicts.present[name] = self.verdicts.present.get(name, 0) + 1
            if verdict.flag >= Flag.SUSPECT:
                self.verdicts.found.setdefault(name, {})[row] = verdict
                if verdict.flag >= Flag.FAIL and name in self._usable:
                    self._usable[name][row] = np.nan
        for revision in judged.revisions:
            rows = self.verdicts.revise(revision, self._history.values[revision.variable])
            if revision.verdict.flag >= Flag.FAIL and revision.variable in self._usable:
                self._usable[revision.variable][rows] = np.nan

    def _forecast(self, nowcaster: Nowcaster, row: int, t: int) -> None:
        """The forecast whose hour has come, from what was known and usable then."""
        origin = (t - 1) // FORECAST_S * FORECAST_S
        self._next = origin + FORECAST_S
        first = int(np.searchsorted(self._history.times, origin - _KEPT_S))
        last = int(np.searchsorted(self._history.times[:row], origin, side="right"))
        past = History(
            self._history.times[first:last],
            {name: column[first:last] for name, column in self._usable.items()},
            [],
        )
        ages = past.ages(origin)
        if ages:
            x = past.grid_ending(origin)
            [forecast] = nowcaster.forecast([self._station], x[None], [ages], origin, origin)
            self._control.expect(forecast)


def _rows(station: Station, history: History, number: int) -> Iterator[tuple[int, int, int, Observation]]:
    """Each row with a value as an observation, with its time, the number of its series and its own."""
    names = list(history.values)
    columns = [history.values[name].tolist() for name in names]
    for row, t in enumerate(history.times.tolist()):
        values = {name: column[row] for name, column in zip(names, columns, strict=True) if column[row] == column[row]}
        if values:
            yield t, number, row, Observation(station.id, SOURCE, t, values, "series", row, historical=True)
