"""Forecasts as they were issued, and the sums of their scores."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import astuple, fields
from datetime import UTC, datetime

from edge_agent.forecast import Forecast
from edge_agent.store.cells import DAY_S
from edge_agent.store.connection import Connection
from edge_agent.store.rows import pack_forecast, unpack_forecast
from edge_agent.verification import ScoreRow

_COLUMNS = tuple(field.name for field in fields(ScoreRow))
_SUMS = _COLUMNS[_COLUMNS.index("n") :]


class Forecasts:
    """The rows of both tables."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, forecast: Forecast) -> None:
        """Keep a forecast; one of the same station and origin is replaced."""
        self._connection.write(
            "INSERT INTO forecasts VALUES (?, ?, ?) ON CONFLICT (station, origin) DO UPDATE SET body = excluded.body",
            (forecast.station, int(forecast.origin), pack_forecast(forecast)),
        )

    def between(self, station: str, since: int, until: int) -> Iterator[Forecast]:
        """A station's forecasts by origin, one at a time in memory; `since` <= origin <= `until`."""
        c = self._connection
        origins = c.read(
            "SELECT origin FROM forecasts WHERE station = ? AND origin BETWEEN ? AND ? ORDER BY origin",
            (station, since, until),
        )
        for (origin,) in origins:
            for (body,) in c.read("SELECT body FROM forecasts WHERE station = ? AND origin = ?", (station, origin)):
                yield unpack_forecast(station, origin, body)

    def last(self, station: str) -> Forecast | None:
        """The one with the newest origin."""
        rows = self._connection.read(
            "SELECT origin, body FROM forecasts WHERE station = ? ORDER BY origin DESC LIMIT 1", (station,)
        )
        return unpack_forecast(station, *rows[0]) if rows else None

    def add_scores(self, rows: Iterable[ScoreRow]) -> None:
        """Add sums to those of the same station, day, source, variable and lead, all or none of them."""
        adding = ", ".join(f"{name} = {name} + excluded.{name}" for name in _SUMS)
        with self._connection.together():
            self._connection.write_many(
                f"INSERT INTO scores ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"
                f" ON CONFLICT (station, day, source, variable, lead_s) DO UPDATE SET {adding}",
                [astuple(row) for row in rows],
            )

    def scores(self, station: str, since_day: str | None) -> list[ScoreRow]:
        """A station's scores from a day on, by day, source, variable and lead."""
        rows = self._connection.read(
            f"SELECT {', '.join(_COLUMNS)} FROM scores WHERE station = ? AND day >= ?"
            " ORDER BY day, source, variable, lead_s",
            (station, since_day or ""),
        )
        return [ScoreRow(*row) for row in rows]

    def prune(self, now: int, keep_days: int, keep_score_days: int) -> tuple[int, int]:
        """Delete what is older; how many forecasts and scores."""
        c = self._connection
        forecasts = c.write("DELETE FROM forecasts WHERE origin < ?", (now - keep_days * DAY_S,))
        oldest = datetime.fromtimestamp(now - keep_score_days * DAY_S, UTC).strftime("%Y-%m-%d")
        return forecasts, c.write("DELETE FROM scores WHERE day < ?", (oldest,))
