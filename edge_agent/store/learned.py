"""What stations have learned (`edge_agent.adaptation`), as bytes that only their maker reads."""

from __future__ import annotations

from edge_agent.store.connection import Connection


class Learned:
    """A row a station; one without bytes says that it shall begin anew."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def get(self, station: str) -> bytes | None:
        """The bytes kept last; none of them: begin anew; None: nothing was ever kept."""
        rows = self._connection.read("SELECT CAST(body AS BLOB) FROM learned WHERE station = ?", (station,))
        return rows[0][0] if rows else None

    def is_reset(self, station: str) -> bool:
        """Whether it shall begin anew."""
        return bool(self._connection.read("SELECT 1 FROM learned WHERE station = ? AND body = x''", (station,)))

    def put(self, station: str, body: bytes) -> None:
        """Keep it in place of what was there."""
        self._connection.write("INSERT OR REPLACE INTO learned VALUES (?, ?)", (station, body))
