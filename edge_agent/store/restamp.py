"""Observations that were stamped while nobody knew the time, put where they belong once it is known.

A row keeps its identity and its values; its time follows from when it arrived on the steady clock. What was published
is published again under its id. A few thousand rows are moved at once, or none of them.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import msgspec

from edge_agent import grid
from edge_agent.observation import Judged
from edge_agent.store.cells import DAY_S
from edge_agent.store.connection import Connection
from edge_agent.store.observations import Observations
from edge_agent.store.outbox import Moved, Outbox, Part
from edge_agent.store.rows import OBSERVATION_COLUMNS, OBSERVATION_TABLES, grid_values, judged_of
from edge_agent.store.state import GridDays, Newest

SLICE_ROWS = 2_000  # moved at once: about a second on a small device
PARKED_S = 2**40  # taken off the times of rows on the move, so that none meets one that has not moved yet

_TO_STEP = grid.STEP_S - 1  # seconds before a midnight belong to its step, and so to its day
_STEADY_MS = 11  # of `OBSERVATION_COLUMNS`
_DOUBTFUL = (
    "FROM observations o WHERE o.boot IN (SELECT id FROM boots WHERE machine = ?) AND o.stamped = 1"
    " AND o.clock <> 'synced' AND o.steady_ms > ? AND o.steady_ms <= ?"
)


class Timeline(Protocol):
    """The time of one run of a machine, as known now: `timekeeping.station_clock.Known`."""

    @property
    def offset_s(self) -> float: ...

    def state_at(self, steady_s: float) -> str: ...


@dataclass(frozen=True, slots=True)
class Doubtful:
    """Which rows: those this machine (`boot_id` of its clock) stamped after `since_ms` and by `until_ms` of its steady
    clock, while its clock was in one of `states`."""

    machine: str
    until_ms: int = 2**50
    states: tuple[str, ...] = ("unsynced",)
    since_ms: int = -1

    def where(self) -> tuple[str, tuple[object, ...]]:
        """The end of a query for them, and its parameters."""
        marks = ", ".join("?" * len(self.states))
        return f"{_DOUBTFUL} AND o.clock IN ({marks})", (self.machine, self.since_ms, self.until_ms, *self.states)


@dataclass(frozen=True, slots=True)
class Slice:
    """Rows of a series that are moved at once; `after`: the second of the one before them."""

    rows: Doubtful
    after: int | None


@dataclass(frozen=True, slots=True)
class _Row:
    judged: Judged
    steady_s: float
    bytes: int
    new: int = 0

    @property
    def t(self) -> int:
        return self.judged.observation.t

    def state(self, timeline: Timeline) -> str:
        return timeline.state_at(self.steady_s)

    def there(self) -> Judged:
        """The observation where it belongs."""
        return replace(self.judged, observation=replace(self.judged.observation, t=self.new))

    def moved(self, parts: Sequence[Part]) -> Moved:
        if not parts:
            return Moved(self.t, self.new, self.bytes)
        theirs = {name for part in parts for name in part.names}
        own = sorted(self.judged.observation.values.keys() - theirs)
        return Moved(self.t, self.new, self.bytes, parts, own)


class Restamp:
    """Moves rows in the connection's open transaction."""

    def __init__(
        self, connection: Connection, observations: Observations, days: GridDays, newest: Newest, outbox: Outbox
    ) -> None:
        self._connection, self._observations = connection, observations
        self._days, self._newest, self._outbox = days, newest, outbox

    def series(self, doubtful: Doubtful) -> list[int]:
        """The series that have such rows."""
        where, parameters = doubtful.where()
        rows = self._connection.read(f"SELECT DISTINCT o.series {where} ORDER BY o.series", parameters)
        return [int(row[0]) for row in rows]

    def take_out(self, series: int, doubtful: Doubtful, timeline: Timeline) -> list[Slice]:
        """Make the grid, and what is newest, as if such rows of a series had never come; the slices in which they are
        to be moved, in this order: the last rows first where time goes forward, so that none comes to stand where
        another one has not left yet."""
        c, (where, parameters) = self._connection, doubtful.where()
        ((number,),) = c.read("SELECT station FROM series WHERE id = ?", (series,))
        query = f"SELECT DISTINCT (o.t + {_TO_STEP}) / {DAY_S} {where} AND o.series = ?"
        days = sorted(int(row[0]) for row in c.read(query, (*parameters, series)))
        self._newest.of(number)
        self._newest.renew(number, days)
        marks = ", ".join("?" * len(doubtful.states))
        others = (
            f"SELECT {OBSERVATION_COLUMNS} FROM {OBSERVATION_TABLES} WHERE s.station = ? AND o.t BETWEEN ? AND ?"
            " AND NOT (o.series = ? AND o.stamped = 1 AND b.machine IS ? AND o.steady_ms > ? AND o.steady_ms <= ?"
            f" AND o.clock IN ({marks})) ORDER BY o.t, o.rank"
        )
        for day in days:
            self._days.renew(number, day)
            start = day * DAY_S - _TO_STEP
            for row in c.read(others, (number, start, start + DAY_S - 1, series, *parameters)):
                self._put(number, judged_of(row))
        return self._slices(series, doubtful, timeline)

    def move(self, series: int, slice_: Slice, timeline: Timeline, destinations: Sequence[str]) -> int:
        """Give a slice of the rows that were taken out their time; how many got another one than they had."""
        ((number,),) = self._connection.read("SELECT station FROM series WHERE id = ?", (series,))
        with self._connection.together():
            rows = self._placed(series, self._parked(series, slice_.rows), timeline, slice_.after)
            self._connection.write_many(
                "UPDATE observations SET t = ?, clock = ?, was = COALESCE(?, was) WHERE series = ? AND t = ?",
                [
                    (row.new, row.state(timeline), row.t if row.new != row.t else None, series, row.t - PARKED_S)
                    for row in rows
                ],
            )
            parts = self._move_parts(series, rows, timeline)
            moved = [row.moved(parts[row.t]) for row in rows if row.new != row.t]
            for destination in destinations if moved else ():
                self._outbox.move(destination, series, moved)
        for row in rows:
            self._put(number, row.there())
        return len(moved)

    def _slices(self, series: int, doubtful: Doubtful, timeline: Timeline) -> list[Slice]:
        """In order of time, or against it. Each knows the second that the row before it will have."""
        found: list[Slice] = []
        left, after, forward = doubtful, None, True
        while True:
            where, parameters = left.where()
            query = f"SELECT o.steady_ms, o.t {where} AND o.series = ? ORDER BY o.steady_ms LIMIT ?"
            rows = self._connection.read(query, (*parameters, series, SLICE_ROWS))
            if not rows:
                return found[::-1] if forward else found
            if not found:
                forward = second_of(rows[0][0] / 1000, timeline) >= rows[0][1]
            until = int(rows[-1][0])
            found.append(Slice(replace(left, until_ms=until), after))
            left = replace(left, since_ms=until)
            for steady_ms, _ in rows:
                after = next_second(second_of(steady_ms / 1000, timeline), after)

    def _parked(self, series: int, doubtful: Doubtful) -> list[_Row]:
        """The rows, in the order in which they came, taken out of the way."""
        c, (where, parameters) = self._connection, doubtful.where()
        found = c.read(
            f"SELECT {OBSERVATION_COLUMNS}, LENGTH(o.readings) + COALESCE(LENGTH(o.flags), 0)"
            f" FROM {OBSERVATION_TABLES} WHERE (o.series, o.t) IN (SELECT o.series, o.t {where} AND o.series = ?)"
            " ORDER BY o.steady_ms, o.t",
            (*parameters, series),
        )
        rows = [_Row(judged_of(tuple(row)), row[_STEADY_MS] / 1000, size) for *row, size in found]
        c.write_many(
            "UPDATE observations SET t = t - ? WHERE series = ? AND t = ?",
            [(PARKED_S, series, row.t) for row in rows],
        )
        return rows

    def _move_parts(self, series: int, rows: Sequence[_Row], timeline: Timeline) -> defaultdict[int, list[Part]]:
        """By the time they had: the observations that filled up one of the rows. Those that will not move again are
        forgotten."""
        c, found = self._connection, defaultdict[int, list[Part]](list)
        for t, boot, seq, names in c.read("SELECT t, boot, seq, names FROM parts WHERE series = ?", (series,)):
            found[t].append(Part(boot, seq, msgspec.json.decode(names, type=list[str])))
        for row in rows:
            for part in found.get(row.t, ()):
                key = (series, part.boot, part.seq)
                if row.state(timeline) == "synced":
                    c.write("DELETE FROM parts WHERE series = ? AND boot = ? AND seq = ?", key)
                else:
                    c.write("UPDATE parts SET t = ? WHERE series = ? AND boot = ? AND seq = ?", (row.new, *key))
        return found

    def _placed(self, series: int, rows: Sequence[_Row], timeline: Timeline, after: int | None) -> list[_Row]:
        """Each row at the second in which it came or, where that is taken, at the next free one: never more than a
        second from the truth among themselves, as no two of them had the same second before."""
        seconds = [second_of(row.steady_s, timeline) for row in rows]
        taken = self._taken(series, min(seconds), max(seconds) + len(rows)) if rows else set()
        placed: list[_Row] = []
        for row, second in zip(rows, seconds, strict=True):
            after = next_second(second, after)
            while after in taken:
                after += 1
            placed.append(replace(row, new=after))
        return placed

    def _taken(self, series: int, first: int, last: int) -> set[int]:
        rows = self._connection.read(
            "SELECT t FROM observations WHERE series = ? AND t BETWEEN ? AND ?", (series, first, last)
        )
        return {int(row[0]) for row in rows}

    def _put(self, number: int, judged: Judged) -> None:
        """An observation into the grid and the newest readings of a station."""
        t, values = judged.observation.t, grid_values(judged)
        self._days.load(number, t)
        self._days.put(number, t, values, judged.observation.rank)
        self._newest.put(number, judged, values)


def second_of(steady_s: float, timeline: Timeline) -> int:
    """The second, UTC, in which something came."""
    return math.floor(steady_s + timeline.offset_s)


def next_second(second: int, after: int | None) -> int:
    """It, or the first one after the one before."""
    return second if after is None else max(second, after + 1)
