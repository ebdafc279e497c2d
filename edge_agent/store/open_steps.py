"""Which quarter hours have readings that are not yet in the written summaries of their station (grid days, newest
readings), and when these are written.

A summary costs thousands of bytes for a reading of a hundred. So it is written once a quarter hour, and what came since
is made again from the observations whenever it is read from the file: after a power cut, and by other processes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

from edge_agent import grid
from edge_agent.store.cells import DAY_S, step_of
from edge_agent.store.connection import Connection

SPREAD_S = 60  # between the turns of two stations, so that a gateway writes a part of its summaries at each commit

Summary = Callable[[int, set[int]], None]


class OpenSteps:
    """The table, and what is to be entered in it at the next commit. Stations are named by their number.

    `at`: UTC seconds of the commit; None: every summary this process has touched is written at the next one. `write`
    are called at a commit, with a station and its days, to write its summaries.
    """

    def __init__(self, connection: Connection) -> None:
        self.at: int | None = None
        self.write: list[Summary] = []
        self._connection = connection
        self._kept: dict[int, set[int]] | None = None  # as in the table
        self._new: dict[int, set[int]] = defaultdict(set)
        self._since: dict[int, int | None] = {}  # stations touched by this process -> `at` when they were
        connection.before_commit.append(self._commit)
        connection.forget.append(self._forget)

    def add(self, station: int, t: int) -> None:
        """A reading at `t` was kept."""
        step = step_of(t)
        self._since.setdefault(station, self.at)
        if step not in self._table().get(station, ()):
            self._new[station].add(step)

    def of(self, station: int) -> set[int]:
        """A station's steps that must be made again where its summaries are read from the file."""
        return self._table().get(station, set()) | self._new.get(station, set())

    def prune(self, before: int) -> None:
        """Forget steps before that time: their summaries go."""
        self._connection.write("DELETE FROM open_steps WHERE step < ?", (before,))
        for steps in (*self._table().values(), *self._new.values()):
            steps.difference_update([step for step in steps if step < before])

    def _table(self) -> dict[int, set[int]]:
        if self._kept is None:
            self._kept = {}
            for step, station in self._connection.read("SELECT step, station FROM open_steps"):
                self._kept.setdefault(station, set()).add(step)
        return self._kept

    def _due(self, station: int) -> bool:
        if self.at is None:
            return station in self._since
        since, phase = self._since.get(station), station * SPREAD_S
        return since is None or (self.at + phase) // grid.STEP_S != (since + phase) // grid.STEP_S

    def _commit(self) -> None:
        """Write the summaries that are due, and enter what is new of the others."""
        c, table = self._connection, self._table()
        for station in sorted(filter(self._due, {*table, *self._new})):
            days = {step // DAY_S for step in self.of(station)}
            for write in self.write:
                write(station, days)
            closed = [(step, station) for step in table.pop(station, ())]
            if closed:
                c.write_many("DELETE FROM open_steps WHERE step = ? AND station = ?", closed)
            self._new.pop(station, None)
            self._since.pop(station, None)
        entered = sorted((step, station) for station, steps in self._new.items() for step in steps)
        if entered:
            c.write_many("INSERT OR IGNORE INTO open_steps VALUES (?, ?)", entered)
        for station, steps in self._new.items():
            table.setdefault(station, set()).update(steps)
        self._new.clear()

    def _forget(self) -> None:
        self._kept = None
        self._new.clear()
