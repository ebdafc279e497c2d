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

from edge_agent.observation import Judged
from edge_agent.store.cells import step_of
from edge_agent.store.outbox import Moved, Part, priority_of
from edge_agent.store.revisions import Revisions
from edge_agent.store.rows import OBSERVATION_COLUMNS, OBSERVATION_TABLES, judged_of
from edge_agent.store.tables import Tables

SLICE_ROWS = 2_000  # moved at once: about a second on a small device
PARKED_S = 2**40  # taken off the times of rows on the move, so that none meets one that has not moved yet

_STAMPED = (
    "FROM observations o WHERE o.boot IN (SELECT id FROM boots WHERE machine = ?) AND o.stamped = 1"
    " AND o.steady_ms > ? AND o.steady_ms <= ?"
)
_DOUBTFUL = f"{_STAMPED} AND o.clock <> 'synced'"  # by an index of their own
_ALL = f"{_STAMPED} AND o.series IN (SELECT id FROM series) AND o.t BETWEEN ? AND ?"  # by the table's


class Timeline(Protocol):
    """The time of one run of a machine, as known now: `timekeeping.station_clock.Known`."""

    @property
    def offset_s(self) -> float: ...

    def state_at(self, steady_s: float) -> str: ...


@dataclass(frozen=True, slots=True)
class Doubtful:
    """Which rows: those this machine (`boot_id` of its clock) stamped after `since_ms` and by `until_ms` of its steady
    clock, while its clock was in one of `states`; or, with `times`, those that stand between two times, whatever its
    state was."""

    machine: str
    until_ms: int = 2**50
    states: tuple[str, ...] = ("unsynced",)
    since_ms: int = -1
    times: tuple[int, int] | None = None

    def where(self) -> tuple[str, tuple[object, ...]]:
        """The end of a query for them, and its parameters."""
        if self.times is not None:
            return _ALL, (self.machine, self.since_ms, self.until_ms, *self.times)
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
    bytes: int
    new: int = 0

    @property
    def t(self) -> int:
        return self.judged.observation.t

    @property
    def steady_s(self) -> float:
        steady_s = self.judged.observation.steady_s
        assert steady_s is not None  # only such rows are asked for
        return steady_s

    def state(self, timeline: Timeline) -> str:
        return timeline.state_at(self.steady_s)

    def there(self) -> Judged:
        """The observation where it belongs."""
        return replace(self.judged, observation=replace(self.judged.observation, t=self.new))

    def moved(self, boot: int, parts: Sequence[Part]) -> Moved:
        own, priority = (boot, self.judged.observation.seq), priority_of(self.judged)
        if not parts:
            return Moved(self.t, self.new, own, self.bytes, priority)
        theirs = {name for part in parts for name in part.names}
        names = sorted(self.judged.observation.values.keys() - theirs)
        return Moved(self.t, self.new, own, self.bytes, priority, parts, names)


class Restamp:
    """Moves rows in the connection's open transaction."""

    def __init__(self, tables: Tables, revisions: Revisions) -> None:
        self._t, self._revisions = tables, revisions

    def series(self, doubtful: Doubtful) -> list[int]:
        """The series that have such rows."""
        where, parameters = doubtful.where()
        rows = self._t.connection.read(f"SELECT DISTINCT o.series {where} ORDER BY o.series", parameters)
        return [int(row[0]) for row in rows]

    def slices(self, series: int, doubtful: Doubtful, timeline: Timeline) -> list[Slice]:
        """The slices in which such rows of a series are to be moved, in this order: the last rows first where time goes
        forward, so that none comes to stand where another one has not left yet. Each knows the second that the row
        before it will have."""
        found: list[Slice] = []
        left, after, forward = doubtful, None, True
        while True:
            where, parameters = left.where()
            query = f"SELECT o.steady_ms, o.t {where} AND o.series = ? ORDER BY o.steady_ms LIMIT ?"
            rows = self._t.connection.read(query, (*parameters, series, SLICE_ROWS))
            if not rows:
                return found[::-1] if forward else found
            if not found:
                forward = second_of(rows[0][0] / 1000, timeline) >= rows[0][1]
            until = int(rows[-1][0])
            found.append(Slice(replace(left, until_ms=until), after))
            left = replace(left, since_ms=until)
            for steady_ms, _ in rows:
                after = next_second(second_of(steady_ms / 1000, timeline), after)

    def move(self, series: int, slice_: Slice, timeline: Timeline, destinations: Sequence[str]) -> int:
        """Give a slice of the rows their time; how many got another one than they had. The grid's steps that they left
        and came to are made again from what is in them then."""
        c = self._t.connection
        ((number,),) = c.read("SELECT station FROM series WHERE id = ?", (series,))
        self._t.newest.of(number)  # as it stands with the times they have
        with c.together():
            rows = self._placed(series, self._parked(series, slice_.rows), timeline, slice_.after)
            c.write_many(
                "UPDATE observations SET t = ?, clock = ?, was = COALESCE(?, was) WHERE series = ? AND t = ?",
                [
                    (row.new, row.state(timeline), row.t if row.new != row.t else None, series, row.t - PARKED_S)
                    for row in rows
                ],
            )
            parts = self._move_parts(series, rows, timeline)
            went = [row for row in rows if row.new != row.t]
            if went:
                boot = self._t.observations.boot
                moved = [row.moved(boot(row.judged.observation.boot_id), parts[row.t]) for row in went]
                for destination in destinations:
                    self._t.outbox.move(destination, series, moved)
                self._revisions.move(series, {row.t: row.new for row in went})
        if went:
            self._summarize(number, went)
        return len(went)

    def _summarize(self, number: int, went: Sequence[_Row]) -> None:
        """Have grid and newest readings of a station follow its rows."""
        steps = sorted({step_of(t) for row in went for t in (row.t, row.new)})
        for step in steps:
            self._t.open_steps.add(number, step)
        self._t.grid.renew(number, steps)
        self._t.newest.move(number, {row.t: row.judged for row in went}, [row.there() for row in went])

    def _parked(self, series: int, doubtful: Doubtful) -> list[_Row]:
        """The rows, in the order in which they came, taken out of the way."""
        c, (where, parameters) = self._t.connection, doubtful.where()
        found = c.read(
            f"SELECT {OBSERVATION_COLUMNS}, LENGTH(o.readings) + COALESCE(LENGTH(o.flags), 0)"
            f" FROM {OBSERVATION_TABLES} WHERE (o.series, o.t) IN (SELECT o.series, o.t {where} AND o.series = ?)"
            " ORDER BY o.steady_ms, o.t",
            (*parameters, series),
        )
        rows = [_Row(judged_of(tuple(row)), size) for *row, size in found]
        c.write_many(
            "UPDATE observations SET t = t - ? WHERE series = ? AND t = ?",
            [(PARKED_S, series, row.t) for row in rows],
        )
        return rows

    def _move_parts(self, series: int, rows: Sequence[_Row], timeline: Timeline) -> defaultdict[int, list[Part]]:
        """By the time they had: the observations that filled up one of the rows. Those that will not move again are
        forgotten."""
        c, found = self._t.connection, defaultdict[int, list[Part]](list)
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
        rows = self._t.connection.read(
            "SELECT t FROM observations WHERE series = ? AND t BETWEEN ? AND ?", (series, first, last)
        )
        return {int(row[0]) for row in rows}


def second_of(steady_s: float, timeline: Timeline) -> int:
    """The second, UTC, in which something came."""
    return math.floor(steady_s + timeline.offset_s)


def next_second(second: int, after: int | None) -> int:
    """It, or the first one after the one before."""
    return second if after is None else max(second, after + 1)
