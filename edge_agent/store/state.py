"""What the store keeps in memory of its tables: day cells being filled, each station's newest readings, and how running
totals stand.

All are written when the transaction is committed, and forgotten when another process has written.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_agent import grid
from edge_agent.observation import Flag, Judged, RainState
from edge_agent.store.cells import COLUMNS, DAY_S, WORST_RANK, DayCells, day_of, history
from edge_agent.store.connection import Connection

HOT_DAYS = 2048  # day cells kept in memory, about 10 kB each


class GridDays:
    """The 15-minute grid, a row per station and day. Stations are named by their number."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._days: OrderedDict[tuple[int, int], DayCells] = OrderedDict()
        self._changed: set[tuple[int, int]] = set()
        connection.before_commit.append(self._write)
        connection.forget.append(self._forget)

    def load(self, station: int, t: int) -> None:
        """Have the cells for a reading at `t` in memory, so that `put` cannot fail."""
        key = (station, day_of(t))
        if key in self._days:
            self._days.move_to_end(key)
            return
        rows = self._connection.read("SELECT cells FROM grid_days WHERE station = ? AND day = ?", key)
        if len(self._days) >= HOT_DAYS:
            oldest = next(iter(self._days))
            if oldest in self._changed:
                self._write_days([oldest])
            del self._days[oldest]
        self._days[key] = DayCells(rows[0][0] if rows else None)

    def put(self, station: int, t: int, values: Mapping[str, float], rank: int) -> None:
        """Take the grid values of an observation whose cells are loaded."""
        key = (station, day_of(t))
        for name, value in values.items():
            self._days[key].put(t, COLUMNS[name], value, min(rank, WORST_RANK))
            self._changed.add(key)

    def history(self, station: int, origin: int) -> NDArray[np.float32]:
        """[2880, 8] ending at `origin`, as `cells.history`."""
        return history(self._between(station, *_days_to(origin)), origin)

    def newest(self, station: int, names: Iterable[str], origin: int) -> dict[str, int]:
        """Times of the variables' newest readings at or before `origin`, within 30 days; absent where there is none."""
        found: dict[str, int] = {}
        wanted = set(names)
        first, last = _days_to(origin)
        for day in range(last, first - 1, -1):
            if not wanted:
                break
            for packed in self._between(station, day, day).values():
                cells = DayCells(packed)
                times = {name: cells.newest(COLUMNS[name], day, origin) for name in wanted}
                found |= {name: t for name, t in times.items() if t is not None}
                wanted -= found.keys()
        return found

    def renew(self, station: int, day: int) -> None:
        """Begin a day anew, as if nothing had come in it."""
        self._days.pop((station, day), None)
        self._changed.discard((station, day))
        self._connection.write("DELETE FROM grid_days WHERE station = ? AND day = ?", (station, day))

    def prune(self, before_day: int) -> int:
        """Delete days before that one; their number."""
        self._write()
        self._forget()
        return self._connection.write("DELETE FROM grid_days WHERE day < ?", (before_day,))

    def _between(self, station: int, first: int, last: int) -> dict[int, bytes]:
        """Packed cells by day, with what is not written yet."""
        days: dict[int, bytes] = dict(
            self._connection.read(
                "SELECT day, cells FROM grid_days WHERE station = ? AND day BETWEEN ? AND ?", (station, first, last)
            )
        )
        for day in range(first, last + 1):
            if (station, day) in self._changed:
                days[day] = self._days[station, day].packed()
        return days

    def _write(self) -> None:
        self._write_days(sorted(self._changed))

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
    """`newest`: variable -> (t, value, flag), whatever the flag. `usable`: grid variable -> t of its newest usable
    reading."""

    newest: dict[str, tuple[int, float, int]] = {}
    usable: dict[str, int] = {}


class Newest:
    """Each station's newest readings, one JSON text a station. Stations are named by their number."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._states: dict[int, StationState] = {}
        self._changed: set[int] = set()
        connection.before_commit.append(self._write)
        connection.forget.append(self._forget)

    def of(self, station: int) -> StationState:
        """What is known of a station; not to be changed."""
        if station not in self._states:
            ((text,),) = self._connection.read("SELECT newest FROM stations WHERE id = ?", (station,))
            self._states[station] = msgspec.json.decode(text, type=StationState) if text else StationState()
        return self._states[station]

    def put(self, station: int, judged: Judged, grid_values: Mapping[str, float]) -> None:
        """Take an observation of a station that `of` was asked for; an older reading never replaces a newer one."""
        state, t = self.of(station), judged.observation.t
        for name, value in judged.observation.values.items():
            known = state.newest.get(name)
            if math.isfinite(value) and (known is None or t >= known[0]):
                verdict = judged.verdicts.get(name)
                state.newest[name] = (t, float(value), int(verdict.flag if verdict else Flag.NOT_EVALUATED))
        for name in grid_values:
            state.usable[name] = max(t, state.usable.get(name, t))
        self._changed.add(station)

    def renew(self, station: int, days: Collection[int]) -> None:
        """Forget what is of these days; it is to be put again."""
        state = self.of(station)
        state.newest = {name: one for name, one in state.newest.items() if day_of(one[0]) not in days}
        state.usable = {name: t for name, t in state.usable.items() if day_of(t) not in days}
        self._changed.add(station)

    def _write(self) -> None:
        if not self._changed:
            return
        self._connection.write_many(
            "UPDATE stations SET newest = ? WHERE id = ?",
            [(msgspec.json.encode(self._states[station]).decode(), station) for station in sorted(self._changed)],
        )
        self._changed.clear()

    def _forget(self) -> None:
        self._states.clear()
        self._changed.clear()


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
