"""The raw observations: a row per station, source and time, with their flags."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain, groupby
from operator import itemgetter

import msgspec
import numpy as np

from edge_agent import grid
from edge_agent.observation import Judged
from edge_agent.store.cells import DAY_S
from edge_agent.store.connection import Connection, Row
from edge_agent.store.outbox import Part
from edge_agent.store.rows import (
    OBSERVATION_COLUMNS,
    OBSERVATION_TABLES,
    flags_text,
    grid_values,
    judged_of,
    only,
    readings_text,
    usable_values,
)

PAGE_ROWS = 2000  # read at once: no reader holds the write-ahead log back for longer
COMMIT_ROWS = 50_000  # deleted between two commits


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of the variables of an observation: `kept`; or there already for its source and time, with the `same`
    value or with an `other` one, and then what was there stays. True if any was kept."""

    kept: frozenset[str]
    same: frozenset[str] = frozenset()
    other: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.kept)


@dataclass(frozen=True, slots=True)
class Added:
    """What an observation brought. `judged`: its new part; `grid`: values that enter the grid; `bytes`: of values and
    flags. Where it filled up an earlier row: `part`, its own identity, and `earlier`, the names that were there."""

    judged: Judged
    grid: dict[str, float]
    bytes: int
    part: Part | None = None
    earlier: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Series:
    """Usable readings of equally ranked sources: `times` [N] ascending; per variable [N], NaN = none."""

    times: grid.Times
    values: dict[str, grid.Values]


class Observations:
    """The rows, and the numbers by which they refer to stations, sources and boots."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._numbers: dict[tuple[str, ...], int] = {}
        connection.forget.append(self._numbers.clear)

    def station(self, station: str, *, make: bool = False) -> int | None:
        """A station's number; None where it has no observations, unless it is to be made. Brings what is kept in memory
        up to date with what other processes wrote."""
        self._connection.refresh()
        return self._number(("station", station), "stations", {"station": station}, make)

    def series(self, station: int, source: str) -> int:
        """A source's number, made where there is none."""
        key = ("series", str(station), source)
        return _given(self._number(key, "series", {"station": station, "source": source}, make=True))

    def boot(self, boot_id: str, machine: str = "") -> int:
        """The number of a run of the agent, made where there is none. `machine`: the run of the machine it is in, where
        that is known."""
        number = _given(self._number(("boot", boot_id), "boots", {"boot_id": boot_id}, make=True))
        if machine and ("machine", boot_id) not in self._numbers:
            self._connection.write("UPDATE boots SET machine = ? WHERE id = ?", (machine, number))
            self._numbers["machine", boot_id] = number
        return number

    def name(self, station: int) -> str:
        """The name of a station that has a number."""
        return str(self._connection.read("SELECT station FROM stations WHERE id = ?", (station,))[0][0])

    def forget_oldest(self, n: int) -> None:
        """Delete the oldest rows of all sources."""
        c = self._connection
        oldest = c.read("SELECT series, t FROM observations ORDER BY t LIMIT ?", (n,))
        c.write_many("DELETE FROM observations WHERE series = ? AND t = ?", oldest)

    def sources(self, station: str) -> list[str]:
        """A station's sources, in the order in which they first came."""
        return [source for _, source in self._series_of(station)]

    def stations(self) -> list[str]:
        """Every station, by name."""
        return [row[0] for row in self._connection.read("SELECT station FROM stations ORDER BY station")]

    def newest(self, station: int, source: str) -> int | None:
        """The latest time of a source, None where it has no row."""
        rows = self._connection.read(
            "SELECT MAX(o.t) FROM observations o JOIN series s ON s.id = o.series WHERE s.station = ? AND s.source = ?",
            (station, source),
        )
        return None if rows[0][0] is None else int(rows[0][0])

    def insert(self, series: int, judged: Judged) -> tuple[Fate, Added | None]:
        """Keep an observation, or the variables it adds to the row of the same series and time; None: it adds none."""
        o, c = judged.observation, self._connection
        boot = self.boot(o.boot_id, o.machine)
        readings, flags = readings_text(judged), flags_text(judged)
        inserted = c.write(
            "INSERT INTO observations VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (
                series, o.t, readings, flags, boot, o.seq, o.clock, o.period_s, int(o.historical), o.rank,
                None if o.steady_s is None else round(o.steady_s * 1000), int(o.stamped), o.restamped_from,
            ),
        )  # fmt: skip
        size = len(readings) + len(flags or "")
        if inserted:
            return Fate(frozenset(o.values)), Added(judged, grid_values(judged), size)
        return self._fill_up(series, boot, judged, size)

    def at(self, station: str, source: str, t: int) -> Judged | None:
        """The one of a source and time."""
        rows = self._connection.read(
            f"SELECT {OBSERVATION_COLUMNS} FROM {OBSERVATION_TABLES} WHERE st.station = ? AND s.source = ? AND o.t = ?",
            (station, source, t),
        )
        return judged_of(rows[0]) if rows else None

    def free_second(self, station: str, source: str, t: int, steady_s: float, machine: str) -> int:
        """The first second from `t` on that holds no observation of another moment, as it does where the clock was set
        back. The same moment: within a second on the steady clock of the same run of the machine."""
        number = self.station(station)
        names: dict[str, str | int] = {"station": number or 0, "source": source}
        series = None if number is None else self._number(("series", str(number), source), "series", names, make=False)
        most = 1  # rows of one look: mostly there is none
        while series is not None:
            rows = self._connection.read(
                "SELECT o.t FROM observations o JOIN boots b ON b.id = o.boot"
                " WHERE o.series = ? AND o.t BETWEEN ? AND ?"
                " AND o.stamped = 1 AND (b.machine <> ? OR ABS(o.steady_ms - ?) >= 1000) ORDER BY o.t",
                (series, t, t + most - 1, machine, round(steady_s * 1000)),
            )
            run = sum(1 for n, (taken,) in enumerate(rows) if taken == t + n)  # in a row, from t on
            t += run
            if run < most:
                break
            most = PAGE_ROWS
        return t

    def between(self, station: str, start: int | None, end: int | None) -> Iterator[Judged]:
        """A station's observations by time, then rank; `start` <= t <= `end`."""
        parts = [self._pages(series, start, end) for series, _ in self._series_of(station)]
        return heapq.merge(*parts, key=lambda judged: (judged.observation.t, judged.observation.rank))

    def first_of_newest(self, station: str, rows: int, start: int) -> int:
        """The earliest time, not before `start`, from which on a station has at most so many observations."""
        found = self._connection.read(
            "SELECT o.t FROM observations o WHERE o.t >= ? AND o.series IN (SELECT s.id FROM series s JOIN stations st"
            " ON st.id = s.station WHERE st.station = ?) ORDER BY o.t DESC LIMIT 1 OFFSET ?",
            (start, station, rows),
        )
        return int(found[0][0]) + 1 if found else start

    def of_source(self, station: str, source: str, start: int, end: int) -> Iterator[Judged]:
        """A source's observations by time; `start` <= t <= `end`."""
        for series, name in self._series_of(station):
            if name == source:
                yield from self._pages(series, start, end)

    def reflag(self, judged: Judged) -> None:
        """Keep new verdicts of a row that is there."""
        o = judged.observation
        number = self.station(o.station)
        assert number is not None  # the row is there
        self._connection.write(
            "UPDATE observations SET flags = ? WHERE series = ? AND t = ?",
            (flags_text(judged), self.series(number, o.source), o.t),
        )

    def usable(self, station: str, start: int, end: int) -> list[Series]:
        """A station's usable readings, humidity completed, best rank first; `start` <= t <= `end`."""
        rows: list[Row] = []
        for series, _ in self._series_of(station):
            rows += self._connection.read(
                "SELECT rank, t, readings, flags FROM observations WHERE series = ? AND t BETWEEN ? AND ?",
                (series, start, end),
            )
        rows.sort(key=itemgetter(0, 1))
        return [_as_series(list(ranked)) for _, ranked in groupby(rows, key=itemgetter(0))]

    def in_step(self, station: int, step: int) -> Iterator[Judged]:
        """A station's observations of the quarter hour that ends at a step, by time. By the station's number."""
        rows = self._connection.read(
            f"SELECT {OBSERVATION_COLUMNS} FROM {OBSERVATION_TABLES} WHERE o.series IN"
            " (SELECT id FROM series WHERE station = ?) AND o.t > ? AND o.t <= ? ORDER BY o.t, o.rank DESC",
            (station, step - grid.STEP_S, step),
        )
        return map(judged_of, rows)

    def prune(self, before: int) -> int:
        """Delete rows with t < `before` that no destination waits for; their number. Commits between many."""
        c, gone, uncommitted = self._connection, 0, 0
        c.write("DELETE FROM parts WHERE t < ?", (before,))
        for (series,) in c.read("SELECT id FROM series"):
            start = self._first(series, None)
            while start is not None and start < before:
                stop = min(start + DAY_S, before)
                n = c.write(
                    "DELETE FROM observations WHERE series = ? AND t >= ? AND t < ? AND NOT EXISTS"
                    " (SELECT 1 FROM outbox q WHERE q.series = observations.series AND q.t = observations.t)",
                    (series, start, stop),
                )
                gone, uncommitted, start = gone + n, uncommitted + n, self._first(series, stop)
                if uncommitted > COMMIT_ROWS:
                    c.commit()
                    uncommitted = 0
        return gone

    def _fill_up(self, series: int, boot: int, judged: Judged, size: int) -> tuple[Fate, Added | None]:
        o, c = judged.observation, self._connection
        (row,) = c.read(
            f"SELECT {OBSERVATION_COLUMNS} FROM {OBSERVATION_TABLES} WHERE o.series = ? AND o.t = ?", (series, o.t)
        )
        earlier = judged_of(row)
        there = _finite(earlier)
        fate = fate_of(earlier, judged)
        names = set(fate.kept)
        if not names:
            return fate, None
        new = only(judged, names, o.boot_id, o.seq)
        whole = Judged(
            replace(earlier.observation, values={**there, **new.observation.values}),
            {**earlier.verdicts, **new.verdicts},
        )
        c.write(
            "UPDATE observations SET readings = ?, flags = ? WHERE series = ? AND t = ?",
            (readings_text(whole), flags_text(whole), series, o.t),
        )
        if o.stamped and o.clock != "synced":
            c.write(
                "INSERT OR REPLACE INTO parts VALUES (?, ?, ?, ?, ?)",
                (series, boot, o.seq, o.t, msgspec.json.encode(sorted(names)).decode()),
            )
        before = grid_values(earlier)
        entering = {name: value for name, value in grid_values(whole).items() if before.get(name) != value}
        return fate, Added(new, entering, size, Part(boot, o.seq, sorted(names)), tuple(there))

    def _series_of(self, station: str) -> list[tuple[int, str]]:
        rows = self._connection.read(
            "SELECT s.id, s.source FROM series s JOIN stations st ON st.id = s.station WHERE st.station = ?"
            " ORDER BY s.id",
            (station,),
        )
        return [(row[0], row[1]) for row in rows]

    def _pages(self, series: int, start: int | None, end: int | None) -> Iterator[Judged]:
        after = _BEFORE_ALL if start is None else start - 1
        last = _AFTER_ALL if end is None else end
        while True:
            rows = self._connection.read(
                f"SELECT {OBSERVATION_COLUMNS} FROM {OBSERVATION_TABLES}"
                " WHERE o.series = ? AND o.t > ? AND o.t <= ? ORDER BY o.t LIMIT ?",
                (series, after, last, PAGE_ROWS),
            )
            yield from map(judged_of, rows)
            if len(rows) < PAGE_ROWS:
                return
            after = rows[-1][2]

    def _first(self, series: int, start: int | None) -> int | None:
        rows = self._connection.read(
            "SELECT MIN(t) FROM observations WHERE series = ? AND t >= ?",
            (series, _BEFORE_ALL if start is None else start),
        )
        return None if rows[0][0] is None else int(rows[0][0])

    def _number(self, key: tuple[str, ...], table: str, names: dict[str, str | int], make: bool) -> int | None:
        if key in self._numbers:
            return self._numbers[key]
        where = " AND ".join(f"{column} = ?" for column in names)
        query = f"SELECT id FROM {table} WHERE {where}"
        rows = self._connection.read(query, tuple(names.values()))
        if not rows and make:
            marks = ", ".join("?" * len(names))
            self._connection.write(f"INSERT INTO {table} ({', '.join(names)}) VALUES ({marks})", tuple(names.values()))
            rows = self._connection.read(query, tuple(names.values()))
        if rows:
            self._numbers[key] = rows[0][0]
        return rows[0][0] if rows else None


def fate_of(earlier: Judged, judged: Judged) -> Fate:
    """What becomes of an observation for whose source and time there is one already."""
    there, new = _finite(earlier), _finite(judged)
    names = new.keys() - there.keys()
    same = {name for name, value in new.items() if there.get(name) == value}
    return Fate(frozenset(names), frozenset(same), frozenset(new.keys() - names - same))


def _finite(judged: Judged) -> dict[str, float]:
    return {name: value for name, value in judged.observation.values.items() if math.isfinite(value)}


_BEFORE_ALL, _AFTER_ALL = -(2**62), 2**62


def _given(number: int | None) -> int:
    assert number is not None  # it was made
    return number


def _as_series(rows: list[Row]) -> Series:
    """Rows of (rank, t, readings, flags), ascending in t."""
    usable = [usable_values(readings, flags) for _, _, readings, flags in rows]
    columns = {
        name: np.array([values.get(name, math.nan) for values in usable]) for name in set(chain.from_iterable(usable))
    }
    return Series(np.array([row[1] for row in rows], np.int64), columns)
