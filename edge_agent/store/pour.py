"""Rows of a database that is given up, into a store that goes on: what memory held while the disk failed, or what can
be read of a damaged file.

The source is only read. A row that cannot be read, or says what cannot be, is counted and left out: it must not damage
the store that it comes to.
"""

from __future__ import annotations

import re
import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice

import msgspec
import numpy as np

from edge_agent import grid
from edge_agent.errors import StoreError
from edge_agent.observation import Flag, RainState
from edge_agent.store.cells import DAY_S, PACKED_BYTES, DayCells
from edge_agent.store.connection import Row
from edge_agent.store.outbox import FULL
from edge_agent.store.pour_forecasts import pour_forecasts, pour_scores
from edge_agent.store.reader import EPOCHS, Reader, has_ints
from edge_agent.store.rows import judged_of
from edge_agent.store.state import StationState
from edge_agent.store.tables import Tables
from edge_agent.variables import VARIABLES

SLICE = 500  # rows between two looks at the time
RECENT_S = 31 * DAY_S  # of each source's observations come first: forecasts read them
DAMAGED = "store-damaged"  # why rows of the outbox are dropped that cannot be read
BOOKS = "salvaged-books"  # in the target: which source's outbox it has taken over already
_SANE = {
    "verified-day": re.compile(r"\d{4}-\d\d-\d\d"),
    "pruned-at": re.compile(r"\d{1,12}"),
    "scored-until": re.compile(r"-?\d{1,12}( [a-z0-9-]{3,40})?"),
}
_IMPORTED = "imported-sources:"

Step = Iterator[None]


class Pour:
    """`newer`: the source holds what came after the target's rows (memory), else what came before (a damaged file).
    `kept`: rows taken over, by kind."""

    def __init__(self, source: sqlite3.Connection, target: Tables, *, newer: bool, name: str = "") -> None:
        self.kept: Counter[str] = Counter()
        self._reader, self._target, self._newer, self._name = Reader(source), target, newer, name
        self._c = target.connection
        self._columns = _OBSERVATION + (_ARRIVED if self._reader.has("observations", "was") else _NOT_TOLD)
        self._stations: dict[int, str] = {}
        self._numbers: dict[int, int] = {}  # the source's number of a station -> the target's
        self._series: dict[int, tuple[int, str]] = {}
        self._boots: dict[int, tuple[str, str]] = {}  # and the run of the machine
        self._boot_numbers: dict[int, int] = {}
        self._whole_days: set[tuple[int, int]] = set()  # grid days that were taken over as they are
        self._touched: set[tuple[int, int]] = set()

    @property
    def unreadable(self) -> int:
        """Parts that could not be read, and rows that say what cannot be."""
        return self._reader.unreadable

    def run(self) -> Step:
        """Take over everything; yields after every few hundred rows, where the target may be committed.

        Raises StoreError: the target failed.
        """
        yield from self.rows()
        yield from self.outbox()

    def rows(self) -> Step:
        """Everything but the outbox."""
        for step in (
            self._names, self._small_things, self._grid, self._recent, self._forecasts, self._scores, self._revisions,
            self._rest, self._parts,
        ):  # fmt: skip
            for _ in step():
                self._settle()
                yield

    def outbox(self, *, books: bool = True) -> Step:
        """What waits, where its observation is in one of both, and the `books`. At each point those of the target
        balance."""
        for _ in self._waiting(books):
            self._settle()
            yield

    def _settle(self) -> None:
        self._target.grid.drop(self._touched)
        self._touched.clear()

    # --- names and small things ---------------------------------------------------------------------------------------

    def _names(self) -> Step:
        newest: dict[int, str | None] = {}
        for number, station, text in self._reader.by_id("stations", "id, station, newest"):
            if isinstance(station, str):
                self._stations[number], newest[number] = station, text
        for station, number in self._reader.ends("SELECT station, id FROM stations", "station"):  # from its index
            if isinstance(station, str):
                self._stations.setdefault(number, station)
        by_index = self._reader.ends("SELECT id, station, source FROM series", "station, source")
        for number, station, source in (*self._reader.by_id("series", "id, station, source"), *by_index):
            if station in self._stations and isinstance(source, str):
                self._series[number] = station, source
        machine = "machine" if self._reader.has("boots", "machine") else "''"
        self._boots = {
            number: (boot, machine)
            for number, boot, machine in self._reader.by_id("boots", f"id, boot_id, {machine}")
            if isinstance(boot, str) and isinstance(machine, str)
        }
        for number, station in self._stations.items():
            ours = self._target.observations.station(station, make=True)
            assert ours is not None
            self._numbers[number] = ours
            with suppress(msgspec.MsgspecError, TypeError):
                self._target.newest.merge(ours, msgspec.json.decode(newest.get(number) or "{}", type=StationState))
        yield

    def _small_things(self) -> Step:
        keep = "REPLACE" if self._newer else "IGNORE"
        for key, value in self._reader.ends("SELECT key, value FROM meta", "key"):
            if self._newer or _is_sane(key, value):
                self._c.write(f"INSERT OR {keep} INTO meta VALUES (?, ?)", (key, value))
        for *key, text in self._reader.ends("SELECT source, station, variable, state FROM rain_totals", "source"):
            with suppress(msgspec.MsgspecError, TypeError):
                msgspec.json.decode(text, type=RainState)
                self._c.write(f"INSERT OR {keep} INTO rain_totals VALUES (?, ?, ?, ?)", (*key, text))
        yield

    # --- the grid -----------------------------------------------------------------------------------------------------

    def _grid(self) -> Step:
        """Days that the target has not. The others are made again from the observations; so is what memory held."""
        if self._newer:
            return
        rows = self._reader.by_id("grid_days", "rowid, station, day, cells")
        while part := list(islice(rows, SLICE)):
            for _, number, day, cells in part:
                station = self._numbers.get(number)
                if station is None or not _is_plausible(cells):
                    self._reader.unreadable += 1
                elif not self._target.grid.has(station, day):
                    self._c.write("INSERT OR IGNORE INTO grid_days VALUES (?, ?, ?)", (station, day, cells))
                    self._whole_days.add((station, day))
            yield

    # --- observations -------------------------------------------------------------------------------------------------

    def _recent(self) -> Step:
        for series, low, high in self._spans():
            yield from self._observations(series, max(low, high - RECENT_S), high)

    def _rest(self) -> Step:
        for series, low, high in self._spans():
            if high - RECENT_S > low:
                yield from self._observations(series, low, high - RECENT_S - 1)

    def _spans(self) -> Iterator[tuple[int, int, int]]:
        for series in self._series:
            found = self._reader.bounds("SELECT {}(t) FROM observations WHERE series = ?", (series,), EPOCHS)
            if found is not None:
                yield series, *found

    def _observations(self, series: int, low: int, high: int) -> Step:
        sql = f"SELECT {self._columns} FROM observations WHERE series = ? AND t BETWEEN ? AND ? ORDER BY t"
        rows = self._reader.between(lambda first, last: self._reader.rows(sql, series, first, last), (low, high), 60)
        while part := list(islice(rows, SLICE)):
            for row in part:
                self.kept["observations"] += self._keep(series, row)
            yield

    def _keep(self, series: int, row: Row) -> bool:
        """Take over an observation; false where nothing in it is new. What cannot be is left out."""
        number, source = self._series[series]
        t, readings, flags, boot, *rest = row
        boot_id, machine = self._boot_of(boot)
        station, target = self._numbers[number], self._target
        identity, arrival = rest[:-_ARRIVAL], rest[-_ARRIVAL:]
        try:
            judged = judged_of(
                (self._stations[number], source, t, readings, flags, boot_id, *identity, machine, *arrival)
            )
        except StoreError:
            self._reader.unreadable += 1
            return False
        ours = target.observations.series(station, source)
        new = self._c.write(
            "INSERT INTO observations VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (ours, t, readings, flags, self._boot(boot), *rest),
        )
        if not new:
            added = target.observations.insert(ours, judged)[1]
            if added is None:
                return False
            target.outbox.keep_part(ours, t, added.earlier)
        day = -(-t // grid.STEP_S) * grid.STEP_S // DAY_S
        if (station, day) not in self._whole_days:
            target.open_steps.add(station, t)
            self._touched.add((station, day))
        return True

    def _parts(self) -> Step:
        """Which observations filled up one that may get another time."""
        if not self._reader.has("parts", "names"):
            return
        columns = "series, boot, seq, t, names"
        for series, boot, seq, t, names in self._reader.ends(f"SELECT {columns} FROM parts", "series, boot, seq"):
            if series in self._series and has_ints(boot, seq, t) and isinstance(names, str):
                number, source = self._series[series]
                ours = self._target.observations.series(self._numbers[number], source)
                row = (ours, self._boot(boot), seq, t, names)
                self._c.write("INSERT OR IGNORE INTO parts VALUES (?, ?, ?, ?, ?)", row)
        yield

    def _boot_of(self, boot: int) -> tuple[str, str]:
        return self._boots.get(boot, (f"lost-{boot}", ""))

    def _boot(self, boot: int) -> int:
        """The target's number of a run of the agent."""
        if boot not in self._boot_numbers:
            self._boot_numbers[boot] = self._target.observations.boot(*self._boot_of(boot))
        return self._boot_numbers[boot]

    def _revisions(self) -> Step:
        """The record of later verdicts; the flags they gave are with the rows. One that is there stays as it is."""
        if not self._reader.has("revisions", "id"):  # an older schema
            return
        rows = self._reader.by_id("revisions", f"id, {', '.join(_REVISION)}")
        put = (
            f"INSERT INTO revisions ({', '.join(_REVISION)}) SELECT {', '.join('?' * len(_REVISION))} WHERE NOT EXISTS"
            f" (SELECT 1 FROM revisions WHERE {' AND '.join(f'{name} IS ?' for name in _SAME_REVISION)})"
        )
        while part := list(islice(rows, SLICE)):
            for _, *columns in part:
                if _is_revision(columns):
                    same = columns[: len(_SAME_REVISION)]
                    self.kept["revisions"] += self._c.write(put, (*columns, *same))
                else:
                    self._reader.unreadable += 1
            yield

    # --- the outbox ---------------------------------------------------------------------------------------------------

    def _waiting(self, books: bool) -> Step:
        if not books and not self._stations:
            return
        done = "SELECT 1 FROM meta WHERE key = ? AND value = ?"
        if self._name and books and self._c.read(done, (BOOKS, self._name)):
            return
        waiting: Counter[str] = Counter()
        priority = "priority" if self._reader.has("outbox", "priority") else "0"
        columns = f"id, destination, series, t, bytes, boot, seq, names, {priority}"
        rows = self._reader.by_id("outbox", columns)
        while part := list(islice(rows, SLICE)):
            for row in part:
                waiting[row[1]] += self._queue(row)
            self.kept["queued"] = waiting.total()
            yield
        if books:
            self._rest_of_the_books(waiting)
            if self._name:
                self._c.write("INSERT OR REPLACE INTO meta VALUES (?, ?)", (BOOKS, self._name))
        yield

    def _queue(self, row: Row) -> bool:
        """Take over a row that waits; false where it cannot be, and counts as missing."""
        key, destination, series, t, size, boot, seq, names, priority = row
        if series not in self._series or not has_ints(key, t, size):
            return False
        number, source = self._series[series]
        ours = self._target.observations.series(self._numbers[number], source)
        there = "SELECT 1 FROM observations WHERE series = ? AND t = ?"
        was_there = bool(self._c.read(there, (ours, t)))
        found = self._reader.one(f"SELECT {self._columns} FROM observations WHERE series = ? AND t = ?", series, t)
        if found is not None:
            self.kept["observations"] += self._keep(series, found)
        if not self._c.read(there, (ours, t)):
            return False
        if self._newer and was_there and found is not None and boot is None:  # of a row that was filled up: its own
            boot, seq = found[3], found[4]
            names = names or msgspec.json.encode(list(msgspec.json.decode(found[1]))).decode()
        own = None if boot is None else self._boot(boot)
        if self._newer and not self._target.outbox.takes(destination, size):
            self._add_to_books(destination, accepted=1)
            self._target.outbox.note_dropped(destination, FULL, 1)
            return True
        with self._c.together():
            new = self._c.write(
                "INSERT OR IGNORE INTO outbox VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (key, destination, ours, t, size, own, seq, names, priority),
            )
            if new:
                self._add_to_books(destination, accepted=1, size=size)
        return bool(new)

    def _forecasts(self) -> Step:
        return pour_forecasts(self._reader, self._target.forecasts, self.kept, newer=self._newer)

    def _scores(self) -> Step:
        stations = list(self._stations.values())
        return pour_scores(self._reader, self._target.forecasts, stations, self.kept, newer=self._newer)

    def _rest_of_the_books(self, waiting: Counter[str]) -> None:
        """Acknowledged and dropped rows, and those that waited and are not there any more."""
        dropped: dict[str, Counter[str]] = {}
        for destination, reason, n in self._reader.ends(
            "SELECT destination, reason, n FROM outbox_dropped", "destination"
        ):
            if has_ints(n):
                dropped.setdefault(destination, Counter())[reason] = n
        totals = "SELECT destination, accepted, acknowledged FROM outbox_totals"
        for destination, accepted, acknowledged in self._reader.ends(totals, "destination"):
            if not has_ints(accepted, acknowledged):
                continue
            reasons = dropped.get(destination, Counter())
            missing = accepted - acknowledged - reasons.total() - waiting[destination]
            if missing > 0:
                reasons[DAMAGED] += missing
            self._add_to_books(destination, accepted=acknowledged + reasons.total(), acknowledged=acknowledged)
            for reason, n in reasons.items():
                self._target.outbox.note_dropped(destination, reason, n)
            self._target.outbox.keep_bound(destination)

    def _add_to_books(self, destination: str, *, accepted: int, acknowledged: int = 0, size: int = 0) -> None:
        self._c.write(
            "INSERT INTO outbox_totals (destination, accepted, acknowledged, bytes) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (destination) DO UPDATE SET accepted = accepted + excluded.accepted,"
            " acknowledged = acknowledged + excluded.acknowledged, bytes = bytes + excluded.bytes",
            (destination, accepted, acknowledged, size),
        )


_OBSERVATION = "t, readings, flags, boot, seq, clock, period_s, historical, rank, "
_ARRIVED, _NOT_TOLD = "steady_ms, stamped, was", "NULL, 0, NULL"  # the latter of an older schema
_ARRIVAL = 3  # columns of it
_SAME_REVISION = ("station", "source", "variable", "start", "end", "flag", "test", "why", "threshold", "made")
_REVISION = (*_SAME_REVISION, "rows", "published")


def _is_sane(key: object, value: object) -> bool:
    """Whether a small thing from a damaged file is one that is needed, and can be what it should."""
    if not isinstance(key, str) or not isinstance(value, str):
        return False
    if key.startswith(_IMPORTED):
        with suppress(msgspec.MsgspecError):
            msgspec.json.decode(value, type=list[str])
            return True
    return key in _SANE and _SANE[key].fullmatch(value) is not None


def _is_revision(columns: Sequence[object]) -> bool:
    """Whether columns can be those of a later verdict."""
    station, source, variable, start, end, flag, test, why, threshold, made, rows, published = columns
    return (
        all(isinstance(text, str) for text in (station, source, test, why))
        and variable in VARIABLES
        and has_ints(start, end, made, rows)
        and flag in set(Flag)
        and published in (0, 1)
        and (threshold is None or isinstance(threshold, float))
    )


def _is_plausible(cells: object) -> bool:
    """Whether a packed day of the grid holds values that can be."""
    if not isinstance(cells, bytes) or len(cells) != PACKED_BYTES:
        return False
    day = DayCells(cells)
    for column, name in enumerate(grid.GRID_VARIABLES):
        values = day.value[day.count[:, column] > 0, column]
        low, high = VARIABLES[name].fail
        most = high * grid.STEP_S if name == "rain" else high
        if not np.all((values >= low) & (values <= most)):
            return False
    return not np.any((day.first > grid.STEP_S) | (day.latest > day.first))
