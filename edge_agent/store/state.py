"""What the store keeps in memory of its tables: day cells being filled, each station's newest readings, and how running
totals stand.

Running totals are written at each commit, the others once a quarter hour (see `open_steps`). All are forgotten when
another process has written.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_agent import grid
from edge_agent.observation import Flag, Judged, RainState, Revision
from edge_agent.store.cells import COLUMNS, DAY_S, PACKED_BYTES, WORST_RANK, DayCells, ages, day_of, history
from edge_agent.store.connection import Connection, damaged
from edge_agent.store.observations import Observations
from edge_agent.store.open_steps import OpenSteps
from edge_agent.store.rows import grid_values

HOT_DAYS = 2048  # day cells kept in memory, about 10 kB each

Behind = Callable[[int, int, int], Mapping[int, bytes]]


class GridDays:
    """The 15-minute grid, a row per station and day. Stations are named by their number.

    `behind`: where there is one, it has the days that are not here: (station, first day, last day) -> packed by day.
    """

    def __init__(self, connection: Connection, observations: Observations, open_steps: OpenSteps) -> None:
        self.behind: Behind | None = None
        self._connection, self._observations, self._open = connection, observations, open_steps
        self._days: OrderedDict[tuple[int, int], DayCells] = OrderedDict()
        self._changed: set[tuple[int, int]] = set()
        open_steps.write.append(self._write_station)
        connection.forget.append(self._forget)

    def load(self, station: int, t: int) -> None:
        """Have the cells for a reading at `t` in memory, so that `put` cannot fail."""
        self._load(station, day_of(t))

    def put(self, station: int, t: int, values: Mapping[str, float], rank: int) -> None:
        """Take the grid values of an observation whose cells are loaded."""
        key = (station, day_of(t))
        for name, value in values.items():
            self._days[key].put(t, COLUMNS[name], value, min(rank, WORST_RANK))
            self._changed.add(key)

    def rebuild(self, station: int, day: int, readings: Iterable[tuple[int, Mapping[str, float], int]]) -> None:
        """A day anew from all its readings: time, grid values, rank."""
        self.load(station, day * DAY_S)
        cells = DayCells()
        for t, values, rank in readings:
            for name, value in values.items():
                cells.put(t, COLUMNS[name], value, min(rank, WORST_RANK))
        self._days[station, day] = cells
        self._changed.add((station, day))

    def history(self, station: int, origin: int) -> NDArray[np.float32]:
        """[2880, 8] ending at `origin`, as `cells.history`."""
        return history(self.between(station, *_days_to(origin)), origin)

    def ages(self, station: int, origin: int) -> dict[str, int]:
        """As `cells.ages`, of the 30 days that end at `origin`."""
        return ages(self.between(station, *_days_to(origin)), origin)

    def prune(self, before_day: int) -> int:
        """Delete days before that one; their number."""
        self._open.prune(before_day * DAY_S)
        old = sorted(key for key in self._days if key[1] < before_day)
        self._write_days([key for key in old if key in self._changed])
        for key in old:
            del self._days[key]
        return self._connection.write("DELETE FROM grid_days WHERE day < ?", (before_day,))

    def has(self, station: int, day: int) -> bool:
        """Whether there is anything of a day."""
        return (station, day) in self._days or bool(self._written(station, day, day))

    def renew(self, station: int, steps: Iterable[int]) -> None:
        """Make open steps again from the observations that are in them now."""
        for step in steps:
            key = (station, step // DAY_S)
            if key in self._days:
                self._make_again(self._days[key], station, step)
                self._changed.add(key)
            else:
                self._load(*key)

    def drop(self, keys: Iterable[tuple[int, int]]) -> None:
        """Forget (station, day) in memory: they are read, and their open steps made, again."""
        for key in keys:
            self._days.pop(key, None)
            self._changed.discard(key)

    def between(self, station: int, first: int, last: int) -> dict[int, bytes]:
        """Packed cells by day, with what is not written yet; `first` <= day <= `last`."""
        days = dict(self.behind(station, first, last)) if self.behind is not None else {}
        days |= self._written(station, first, last)
        stale = {step // DAY_S for step in self._open.of(station)}
        for day in range(first, last + 1):
            if day in stale:
                self._load(station, day)
            if (station, day) in self._days:
                days[day] = self._days[station, day].packed()
        return days

    def _written(self, station: int, first: int, last: int) -> dict[int, bytes]:
        rows = self._connection.read(
            "SELECT day, cells FROM grid_days WHERE station = ? AND day BETWEEN ? AND ?", (station, first, last)
        )
        days: dict[int, bytes] = dict(rows)
        if any(not isinstance(cells, bytes) or len(cells) != PACKED_BYTES for cells in days.values()):
            raise damaged(self._connection.path, f"a day of the grid of station number {station}")
        return days

    def _load(self, station: int, day: int) -> None:
        key = (station, day)
        if key in self._days:
            self._days.move_to_end(key)
            return
        packed = self._written(station, day, day).get(day)
        if packed is None and self.behind is not None:
            packed = self.behind(station, day, day).get(day)
        cells = DayCells(packed)
        steps = [step for step in self._open.of(station) if step // DAY_S == day]
        for step in steps:
            self._make_again(cells, station, step)
        if len(self._days) >= HOT_DAYS:
            self._let_go(next(iter(self._days)))
        self._days[key] = cells
        if steps:
            self._changed.add(key)

    def _make_again(self, cells: DayCells, station: int, step: int) -> None:
        """The cells of one step, from the observations."""
        cells.clear(step)
        for judged in self._observations.in_step(station, step):
            o = judged.observation
            for name, value in grid_values(judged).items():
                cells.put(o.t, COLUMNS[name], value, min(o.rank, WORST_RANK))

    def _let_go(self, key: tuple[int, int]) -> None:
        if key in self._changed and self._connection.writing:
            self._write_days([key])
        self._changed.discard(key)
        del self._days[key]

    def _write_station(self, station: int, days: set[int]) -> None:
        """Write a station's days, those that were let go of and have open steps included."""
        for day in sorted(days):
            self._load(station, day)
            if (station, day) in self._changed:
                self._write_days([(station, day)])

    def _write_days(self, keys: list[tuple[int, int]]) -> None:
        if not keys:
            return
        self._connection.write_many(
            "INSERT INTO grid_days VALUES (?, ?, ?) ON CONFLICT (station, day) DO UPDATE SET cells = excluded.cells",
            [(*key, self._days[key].packed()) for key in keys],
        )
        self._changed.difference_update(keys)

    def _forget(self) -> None:
        self._days.clear()
        self._changed.clear()


def _days_to(origin: int) -> tuple[int, int]:
    """First and last day of the 30 days that end at `origin`."""
    return (origin - (grid.HISTORY_STEPS - 1) * grid.STEP_S) // DAY_S, origin // DAY_S


class StationState(msgspec.Struct):
    """`newest`: variable -> (t, value, flag), whatever the flag."""

    newest: dict[str, tuple[int, float, int]] = {}


class Newest:
    """Each station's newest readings, one JSON text a station. Stations are named by their number."""

    def __init__(self, connection: Connection, observations: Observations, open_steps: OpenSteps) -> None:
        self._connection, self._observations, self._open = connection, observations, open_steps
        self._states: dict[int, StationState] = {}
        open_steps.write.append(self._write)
        connection.forget.append(self._states.clear)

    def of(self, station: int) -> StationState:
        """What is known of a station; not to be changed."""
        if station not in self._states:
            ((text,),) = self._connection.read("SELECT newest FROM stations WHERE id = ?", (station,))
            try:
                state = msgspec.json.decode(text, type=StationState) if text else StationState()
            except (msgspec.MsgspecError, TypeError) as error:
                raise damaged(self._connection.path, f"newest readings of station number {station}") from error
            for step in sorted(self._open.of(station)):
                for judged in self._observations.in_step(station, step):
                    _take(state, judged)
            self._states[station] = state
        return self._states[station]

    def put(self, station: int, judged: Judged) -> None:
        """Take an observation of a station that `of` was asked for; an older reading never replaces a newer one."""
        _take(self.of(station), judged)

    def merge(self, station: int, other: StationState) -> None:
        """Take over what is newer, and keep it at once."""
        state = self.of(station)
        for name, (t, value, flag) in other.newest.items():
            if name not in state.newest or t > state.newest[name][0]:
                state.newest[name] = (t, value, flag)
        self._write(station, set())

    def move(self, station: int, was: Mapping[int, Judged], now: Sequence[Judged]) -> None:
        """Observations of a station that `of` was asked for got other times: `was`, by the old ones, and the same
        `now`. What the others have is looked up where one of these was the newest, and keeps at once."""
        state = self.of(station)
        gone = {name for name, (t, _, _) in state.newest.items() if t in was and name in was[t].observation.values}
        for name in gone:
            del state.newest[name]
        if gone:
            since = min(judged.observation.t for judged in now)
            others = self._observations.between(self._observations.name(station), since, None)
            now = [*others, *now]
        for judged in now:
            _take(state, judged)
        self._write(station, set())

    def revise(self, station: int, revision: Revision) -> None:
        """Take a later verdict on what may be the newest reading of a variable."""
        state, name = self.of(station), revision.variable
        known = state.newest.get(name)
        if known is not None and revision.start <= known[0] <= revision.end:
            state.newest[name] = (known[0], known[1], int(revision.verdict.flag))

    def _write(self, station: int, days: set[int]) -> None:
        text = msgspec.json.encode(self.of(station)).decode()
        self._connection.write("UPDATE stations SET newest = ? WHERE id = ?", (text, station))


def _take(state: StationState, judged: Judged) -> None:
    t = judged.observation.t
    for name, value in judged.observation.values.items():
        known = state.newest.get(name)
        if math.isfinite(value) and (known is None or t >= known[0]):
            verdict = judged.verdicts.get(name)
            state.newest[name] = (t, float(value), int(verdict.flag if verdict else Flag.NOT_EVALUATED))


class RainTotals:
    """How running totals stand, by source, station and variable."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._changed: dict[tuple[str, str, str], RainState] = {}
        connection.before_commit.append(self._write)
        connection.forget.append(self._changed.clear)

    def put(self, source: str, station: str, totals: Mapping[str, RainState]) -> None:
        """Take them as they stand after a reading that was added in the open transaction."""
        self._changed |= {(source, station, variable): state for variable, state in totals.items()}

    def all(self) -> dict[str, dict[tuple[str, str], RainState]]:
        """Source -> (station, variable) -> state, as committed. A state that cannot be read counts as none."""
        found: dict[str, dict[tuple[str, str], RainState]] = {}
        for source, *key, text in self._connection.read("SELECT source, station, variable, state FROM rain_totals"):
            with suppress(msgspec.DecodeError):  # of another version
                found.setdefault(source, {})[key[0], key[1]] = msgspec.json.decode(text, type=RainState)
        return found

    def _write(self) -> None:
        if not self._changed:
            return
        self._connection.write_many(
            "INSERT OR REPLACE INTO rain_totals VALUES (?, ?, ?, ?)",
            [(*key, msgspec.json.encode(state).decode()) for key, state in sorted(self._changed.items())],
        )
        self._changed.clear()
