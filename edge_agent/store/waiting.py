"""Forecasts of hours and days that wait for what comes, as bytes that only their maker reads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from edge_agent.store.cells import DAY_S
from edge_agent.store.connection import Connection
from edge_agent.store.forecasts import Forecasts
from edge_agent.verification import ScoreRow

LONGEST_S = 10 * DAY_S  # no forecast reaches so far
Key = tuple[int, str, int, str]  # due, station, origin, kind


class Waiting:
    """A row a station, origin, kind and time it is due at; it goes when it is scored."""

    def __init__(self, connection: Connection, forecasts: Forecasts) -> None:
        self._connection, self._forecasts = connection, forecasts

    def put(self, rows: Sequence[tuple[Key, bytes]]) -> None:
        """Keep rows, all or none; one of the same key is replaced. What is due later than any forecast reaches from
        here goes: the clock was ahead when it was made."""
        latest = max((origin for (_, _, origin, _), _ in rows), default=0) + LONGEST_S
        with self._connection.together():
            self._connection.write("DELETE FROM waiting WHERE due > ?", (latest,))
            self._connection.write_many(
                "INSERT OR REPLACE INTO waiting VALUES (?, ?, ?, ?, ?)", [(*key, body) for key, body in rows]
            )

    def due(self, until: int, limit: int) -> list[tuple[Key, bytes]]:
        """The first rows that are due up to a time."""
        rows = self._connection.read(
            "SELECT due, station, origin, kind, CAST(body AS BLOB) FROM waiting WHERE due <= ? ORDER BY due LIMIT ?",
            (until, limit),
        )
        return [((due, station, origin, kind), body) for due, station, origin, kind, body in rows]

    def settle(self, keys: Sequence[Key], scores: Iterable[ScoreRow]) -> None:
        """Let go of rows and keep the sums of their scores, both or neither."""
        with self._connection.together():
            self._forecasts.add_scores(scores)
            self._connection.write_many(
                "DELETE FROM waiting WHERE due = ? AND station = ? AND origin = ? AND kind = ?", keys
            )
