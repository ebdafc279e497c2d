"""What stations have learned (`edge_agent.adaptation`), as bytes that only their maker reads."""

from __future__ import annotations

from edge_agent.store.connection import Connection

HANDED = b"\0"  # before what another process than the agent put there: the agent takes it over


class Learned:
    """A row a station; one without bytes says that it shall begin anew."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def get(self, station: str) -> bytes | None:
        """The bytes kept last; none of them: begin anew; None: nothing was ever kept."""
        rows = self._connection.read("SELECT CAST(body AS BLOB) FROM learned WHERE station = ?", (station,))
        return rows[0][0].removeprefix(HANDED) if rows else None

    def is_handed(self, station: str) -> bool:
        """Whether it is to be taken over in place of what is known of it."""
        sql = "SELECT 1 FROM learned WHERE station = ? AND substr(body, 1, 1) IN (x'', x'00')"
        return bool(self._connection.read(sql, (station,)))

    def hand(self, station: str, body: bytes) -> None:
        """Put it there for the agent to take over."""
        self.put(station, HANDED + body)

    def put(self, station: str, body: bytes) -> None:
        """Keep it in place of what was there."""
        self._connection.write("INSERT OR REPLACE INTO learned VALUES (?, ?)", (station, body))
