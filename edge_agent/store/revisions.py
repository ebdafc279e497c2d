"""Later verdicts on rows that are there: what quality control learned afterwards, and what an operator overruled.

Each stays on record with its reason. A flag is made worse by quality control and never better; an operator's word
stands against both. Only flags change, never a value.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from edge_agent.observation import Flag, Judged, Revision, Verdict
from edge_agent.store.cells import DAY_S, day_of
from edge_agent.store.connection import Connection
from edge_agent.store.observations import Observations
from edge_agent.store.open_steps import OpenSteps
from edge_agent.store.rows import grid_values
from edge_agent.store.state import GridDays, Newest

OPERATOR = "operator"  # the test that decided, where a person did


@dataclass(frozen=True, slots=True)
class Recorded:
    """A revision as it was applied. `key`: its number; `made`: UTC seconds; `rows`: how many values it changed."""

    key: int
    revision: Revision
    made: int
    rows: int

    @property
    def by_operator(self) -> bool:
        return self.revision.verdict.test == OPERATOR


class Revisions:
    """The record, and the one way flags of kept rows change."""

    def __init__(
        self,
        connection: Connection,
        observations: Observations,
        open_steps: OpenSteps,
        grid: GridDays,
        newest: Newest,
    ) -> None:
        self._connection, self._observations, self._open = connection, observations, open_steps
        self._grid, self._newest = grid, newest

    def apply(self, revision: Revision, made: int, *, publish: bool) -> Counter[Flag]:
        """Change the flags of the rows that a revision speaks of and that it may change, put it on record, and bring
        the grid up to date. What flags these values had before, counted. The record spans the rows that changed."""
        station = self._observations.station(revision.station)
        before: Counter[Flag] = Counter()
        times: list[int] = []
        days: set[int] = set()
        if station is None:
            return before
        with self._connection.together():
            rows = self._observations.of_source(revision.station, revision.source, revision.start, revision.end)
            for judged in rows:
                changed = _revised(judged, revision)
                if changed is None:
                    continue
                before[judged.verdicts[revision.variable].flag] += 1
                times.append(judged.observation.t)
                self._observations.reflag(changed)
                if grid_values(changed) != grid_values(judged):
                    days.add(day_of(judged.observation.t))
                    self._open.add(station, judged.observation.t)  # what was written of its step is no longer true
            if times:
                self._record(replace(revision, start=times[0], end=times[-1]), made, len(times), publish)
        for day in sorted(days):
            self._rebuild(revision.station, station, day)
        if before:
            self._newest.revise(station, revision)
        return before

    def recorded(self, station: str | None = None, *, by_operator: bool = False) -> list[Recorded]:
        """Revisions on record, oldest first."""
        where = ["1 = 1"]
        parameters: list[object] = []
        if station is not None:
            where.append("station = ?")
            parameters.append(station)
        if by_operator:
            where.append("test = ?")
            parameters.append(OPERATOR)
        return self._read(f"SELECT {_COLUMNS} FROM revisions WHERE {' AND '.join(where)} ORDER BY made, id", parameters)

    def unpublished(self, limit: int) -> list[Recorded]:
        """Those that receivers do not know yet, oldest first."""
        return self._read(f"SELECT {_COLUMNS} FROM revisions WHERE published = 0 ORDER BY id LIMIT ?", [limit])

    def published(self, keys: Iterable[int]) -> None:
        """Receivers know them."""
        self._connection.write_many("UPDATE revisions SET published = 1 WHERE id = ?", [(key,) for key in keys])

    def move(self, series: int, moved: Mapping[int, int]) -> None:
        """Rows of a source got other times, by the old ones: the record goes with those at its ends."""
        rows = self._connection.read(
            "SELECT r.id, r.start, r.end FROM series s JOIN stations st ON st.id = s.station"
            " JOIN revisions r ON r.station = st.station AND r.source = s.source"
            " WHERE s.id = ? AND r.end >= ? AND r.start <= ?",
            (series, min(moved), max(moved)),
        )
        self._connection.write_many(
            "UPDATE revisions SET start = ?, end = ? WHERE id = ?",
            [(moved.get(start, start), moved.get(end, end), key) for key, start, end in rows],
        )

    def prune(self, before: int) -> None:
        """Delete what quality control said of rows before that time; an operator's word stays."""
        self._connection.write("DELETE FROM revisions WHERE end < ? AND test <> ?", (before, OPERATOR))

    def _rebuild(self, name: str, station: int, day: int) -> None:
        """A day of the grid anew, from the rows: its cells are sums and maxima, of which nothing can be taken out."""
        rows = self._observations.between(name, day * DAY_S - DAY_S, day * DAY_S + DAY_S)
        readings = (
            (judged.observation.t, grid_values(judged), judged.observation.rank)
            for judged in rows
            if day_of(judged.observation.t) == day
        )
        self._grid.rebuild(station, day, readings)

    def _record(self, revision: Revision, made: int, rows: int, publish: bool) -> None:
        v = revision.verdict
        self._connection.write(
            "INSERT INTO revisions (station, source, variable, start, end, flag, test, why, threshold, made, rows,"
            " published) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                revision.station, revision.source, revision.variable, revision.start, revision.end, int(v.flag), v.test,
                v.why, v.threshold, made, rows, int(not publish),
            ),
        )  # fmt: skip

    def _read(self, sql: str, parameters: list[object]) -> list[Recorded]:
        return list(_recorded(self._connection.read(sql, tuple(parameters))))


_COLUMNS = "id, station, source, variable, start, end, flag, test, why, threshold, made, rows"


def _recorded(rows: Iterable[tuple[object, ...]]) -> Iterator[Recorded]:
    for key, station, source, variable, start, end, flag, test, why, threshold, made, n in rows:
        verdict = Verdict(Flag(flag), str(test), str(why), threshold)  # type: ignore[arg-type]
        revision = Revision(str(station), str(source), str(variable), start, end, verdict)  # type: ignore[arg-type]
        yield Recorded(key, revision, made, n)  # type: ignore[arg-type]


def _revised(judged: Judged, revision: Revision) -> Judged | None:
    """The row with its new verdict; None where the revision changes nothing of it."""
    now, new = judged.verdicts.get(revision.variable), revision.verdict
    if now is None or now.flag is Flag.MISSING:
        return None
    if new.test != OPERATOR and (now.test == OPERATOR or new.flag <= now.flag):
        return None
    if new.test == OPERATOR and (now.flag, now.test, now.why) == (new.flag, new.test, new.why):
        return None
    value = judged.observation.values[revision.variable]
    verdict = Verdict(new.flag, new.test, new.why, new.threshold, value)
    return Judged(judged.observation, {**judged.verdicts, revision.variable: verdict})
