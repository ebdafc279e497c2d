"""Observations that were stamped while nobody knew the time, put where they belong once it is known.

A row keeps its identity and its values; its time follows from when it arrived on the steady clock. What was published
is published again under its id. Every series is moved in one go, or not at all.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import msgspec

from edge_agent import grid
from edge_agent.store.cells import DAY_S, day_of
from edge_agent.store.connection import Connection
from edge_agent.store.observations import Observations
from edge_agent.store.outbox import Moved, Outbox, Part
from edge_agent.store.rows import grid_values
from edge_agent.store.state import GridDays, Newest

PARKED_S = 2**40  # taken off the times of rows on the move, so that none meets one that has not moved yet

_DOUBTFUL = (
    "FROM observations o WHERE o.boot IN (SELECT id FROM boots WHERE machine = ?) AND o.stamped = 1"
    " AND o.clock <> 'synced' AND o.steady_ms <= ?"
)


class Timeline(Protocol):
    """The time of one run of a machine, as known now: `timekeeping.station_clock.Known`."""

    @property
    def offset_s(self) -> float: ...

    def state_at(self, steady_s: float) -> str: ...


@dataclass(frozen=True, slots=True)
class Doubtful:
    """Which rows: those this machine (`boot_id` of its clock) stamped by `until_s` of its steady clock, while its clock
    was in one of `states`."""

    machine: str
    until_s: float
    states: tuple[str, ...] = ("unsynced",)


@dataclass(frozen=True, slots=True)
class _Row:
    t: int
    steady_s: float
    readings: str
    flag_bytes: int
    new: int = 0

    def state(self, timeline: Timeline) -> str:
        return timeline.state_at(self.steady_s)

    def moved(self, parts: Sequence[Part]) -> Moved:
        size = len(self.readings) + self.flag_bytes
        if not parts:
            return Moved(self.t, self.new, size)
        theirs = {name for part in parts for name in part.names}
        own = sorted(msgspec.json.decode(self.readings, type=dict[str, float | None]).keys() - theirs)
        return Moved(self.t, self.new, size, parts, own)


class Restamp:
    """Moves rows in the connection's open transaction."""

    def __init__(
        self, connection: Connection, observations: Observations, days: GridDays, newest: Newest, outbox: Outbox
    ) -> None:
        self._connection, self._observations = connection, observations
        self._days, self._newest, self._outbox = days, newest, outbox

    def series(self, doubtful: Doubtful) -> list[int]:
        """The series that have such rows."""
        states, marks = doubtful.states, ", ".join("?" * len(doubtful.states))
        rows = self._connection.read(
            f"SELECT DISTINCT o.series {_DOUBTFUL} AND o.clock IN ({marks}) ORDER BY o.series",
            (doubtful.machine, int(doubtful.until_s * 1000), *states),
        )
        return [int(row[0]) for row in rows]

    def move(self, series: int, doubtful: Doubtful, timeline: Timeline, destinations: Sequence[str]) -> int:
        """Give such rows of a series their time; how many got another one than they had."""
        with self._connection.together():
            rows = self._placed(series, self._parked(series, doubtful), timeline)
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
        self._rebuild(series, {day_of(t) for one in moved for t in (one.old, one.new)})
        return len(moved)

    def _parked(self, series: int, doubtful: Doubtful) -> list[_Row]:
        """The rows, in the order in which they came, taken out of the way."""
        c, marks = self._connection, ", ".join("?" * len(doubtful.states))
        found = c.read(
            f"SELECT o.t, o.steady_ms, o.readings, COALESCE(LENGTH(o.flags), 0) {_DOUBTFUL}"
            f" AND o.clock IN ({marks}) AND o.series = ? ORDER BY o.steady_ms, o.t",
            (doubtful.machine, int(doubtful.until_s * 1000), *doubtful.states, series),
        )
        rows = [_Row(t, steady_ms / 1000, readings, flags) for t, steady_ms, readings, flags in found]
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

    def _placed(self, series: int, rows: Sequence[_Row], timeline: Timeline) -> list[_Row]:
        """Each row at the second in which it came or, where that is taken, at the next free one: never more than a
        second from the truth among themselves, as no two of them had the same second before."""
        seconds = [math.floor(row.steady_s + timeline.offset_s) for row in rows]
        taken = self._taken(series, min(seconds), max(seconds) + len(rows)) if rows else set()
        placed: list[_Row] = []
        for row, second in zip(rows, seconds, strict=True):
            t = max(second, placed[-1].new + 1) if placed else second
            while t in taken:
                t += 1
            placed.append(replace(row, new=t))
        return placed

    def _taken(self, series: int, first: int, last: int) -> set[int]:
        rows = self._connection.read(
            "SELECT t FROM observations WHERE series = ? AND t BETWEEN ? AND ?", (series, first, last)
        )
        return {int(row[0]) for row in rows}

    def _rebuild(self, series: int, days: Collection[int]) -> None:
        """The grid of these days, and what is newest, from the rows that are there now."""
        if not days:
            return
        ((number, station),) = self._connection.read(
            "SELECT st.id, st.station FROM series s JOIN stations st ON st.id = s.station WHERE s.id = ?", (series,)
        )
        self._newest.renew(number, days)
        for day in sorted(days):
            self._days.renew(number, day)
            start = day * DAY_S - grid.STEP_S + 1
            for judged in self._observations.between(station, start, start + DAY_S - 1):
                t, values = judged.observation.t, grid_values(judged)
                self._days.load(number, t)
                self._days.put(number, t, values, judged.observation.rank)
                self._newest.put(number, judged, values)
