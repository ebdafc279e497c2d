"""Forecasts as they were issued, the baselines they will be held against, and the sums of their scores."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, fields
from datetime import UTC, date, datetime, timedelta
from itertools import takewhile

import msgspec

from edge_agent.forecast import Forecast
from edge_agent.store.cells import DAY_S
from edge_agent.store.connection import Connection, damaged
from edge_agent.store.forecast_rows import Packed, pack_forecast, unpack_forecast
from edge_agent.verification import ScoreRow

DAYS_AT_ONCE = 2  # of a station's scores, added up to weeks
SLICE_S = 6 * 3600  # of origins, deleted between two commits

_COLUMNS = tuple(field.name for field in fields(ScoreRow))
_SUMS = _COLUMNS[_COLUMNS.index("n") :]
_ADDING = "ON CONFLICT (station, day, source, variable, lead_s) DO UPDATE SET " + ", ".join(
    f"{name} = {name} + excluded.{name}" for name in _SUMS
)
_REST = ", ".join(name for name in _COLUMNS if name not in ("station", "day"))
_TO_MONDAY = (
    f"INSERT INTO scores (day, station, {_REST}) SELECT ?, station, {_REST} FROM scores"
    f" WHERE station = ? AND day = ? {_ADDING}"
)
_WHOLE = (
    "SELECT f.origin, m.form, f.body, q.body FROM forecasts f JOIN forecast_forms m ON m.id = f.form"
    " LEFT JOIN forecast_quantiles q ON q.origin = f.origin AND q.station = f.station WHERE f.station = ?"
)


class Forecasts:
    """The rows of these tables."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._forms: dict[bytes, int] = {}
        connection.forget.append(self._forms.clear)

    def add(self, forecast: Forecast, baselines: Sequence[Forecast]) -> None:
        """Keep a forecast and its baselines, all or nothing; those of the same station and origin are replaced."""
        c, key = self._connection, (int(forecast.origin), forecast.station)
        form, body, quantiles = self._row(forecast)
        beside = [(one.source, *self._row(one)) for one in baselines]
        with c.together():
            c.write("INSERT OR REPLACE INTO forecasts VALUES (?, ?, ?, ?)", (*key, form, body))
            c.write("DELETE FROM forecast_quantiles WHERE origin = ? AND station = ?", key)
            if quantiles is not None:
                c.write("INSERT INTO forecast_quantiles VALUES (?, ?, ?)", (*key, quantiles))
            c.write("DELETE FROM baselines WHERE origin = ? AND station = ?", key)
            c.write_many("INSERT INTO baselines VALUES (?, ?, ?, ?, ?, ?)", [(*key, *row) for row in beside])

    score_columns = _COLUMNS

    def put(self, origin: int, station: str, packed: Packed, *, replace: bool) -> bool:
        """Take over a packed forecast; false where there is one that stays. `replace`: it does not."""
        how = "REPLACE" if replace else "IGNORE"
        form = self._form(packed.form)
        new = self._connection.write(
            f"INSERT OR {how} INTO forecasts VALUES (?, ?, ?, ?)", (origin, station, form, packed.body)
        )
        if new and packed.quantiles is not None:
            self._connection.write(
                "INSERT OR REPLACE INTO forecast_quantiles VALUES (?, ?, ?)", (origin, station, packed.quantiles)
            )
        return bool(new)

    def put_baseline(self, origin: int, station: str, source: str, packed: Packed) -> None:
        """Take over a packed baseline, unless there is one."""
        self._connection.write(
            "INSERT OR IGNORE INTO baselines VALUES (?, ?, ?, ?, ?, ?)",
            (origin, station, source, self._form(packed.form), packed.body, packed.quantiles),
        )

    def put_score(self, row: Sequence[object], *, add: bool) -> bool:
        """Take over a row of sums, in the order of `score_columns`; where there is one already, add to it or leave
        it."""
        if add:
            self.add_scores([ScoreRow(*row)])  # type: ignore[arg-type]
            return True
        marks = ", ".join("?" * len(_COLUMNS))
        names = ", ".join(_COLUMNS)
        return bool(self._connection.write(f"INSERT OR IGNORE INTO scores ({names}) VALUES ({marks})", row))

    def forget_oldest(self, keep: int) -> None:
        """Delete all but the newest rows."""
        c = self._connection
        oldest = c.read(
            "SELECT origin, station FROM forecasts ORDER BY origin DESC, station LIMIT -1 OFFSET ?", (keep,)
        )
        for table in ("forecasts", "forecast_quantiles", "baselines"):
            c.write_many(f"DELETE FROM {table} WHERE origin = ? AND station = ?", oldest)

    def between(self, station: str, since: int, until: int) -> Iterator[Forecast]:
        """A station's forecasts by origin, one at a time in memory; `since` <= origin <= `until`."""
        c = self._connection
        origins = c.read(
            "SELECT origin FROM forecasts WHERE station = ? AND origin BETWEEN ? AND ? ORDER BY origin",
            (station, since, until),
        )
        for (at,) in origins:
            for origin, *packed in c.read(f"{_WHOLE} AND f.origin = ?", (station, at)):
                yield self._unpacked(station, origin, Packed(*packed))

    def last(self, station: str) -> Forecast | None:
        """The one with the newest origin."""
        rows = self._connection.read(f"{_WHOLE} ORDER BY f.origin DESC LIMIT 1", (station,))
        return self._unpacked(station, rows[0][0], Packed(*rows[0][1:])) if rows else None

    def next_origin(self, since: int, until: int) -> int | None:
        """The earliest origin with a forecast of any station; `since` <= origin <= `until`."""
        ((origin,),) = self._connection.read(
            "SELECT MIN(origin) FROM forecasts WHERE origin BETWEEN ? AND ?", (since, until)
        )
        return None if origin is None else int(origin)

    def stations_at(self, origin: int) -> list[str]:
        """The stations with a forecast from an origin, by name."""
        rows = self._connection.read("SELECT station FROM forecasts WHERE origin = ? ORDER BY station", (origin,))
        return [row[0] for row in rows]

    def baselines(self, station: str, origin: int) -> list[Forecast]:
        """What was kept beside a forecast."""
        rows = self._connection.read(
            "SELECT m.form, b.body, b.quantiles FROM baselines b JOIN forecast_forms m ON m.id = b.form"
            " WHERE b.origin = ? AND b.station = ? ORDER BY b.source DESC",
            (origin, station),
        )
        return [self._unpacked(station, origin, Packed(*row)) for row in rows]

    def forget_baselines(self, until: int) -> None:
        """Let go of the baselines with an origin up to `until`."""
        self._connection.write("DELETE FROM baselines WHERE origin <= ?", (until,))

    def forget(self, since: int, until: int) -> None:
        """Delete forecasts and what stands beside them; `since` <= origin <= `until`."""
        for table in ("forecasts", "forecast_quantiles", "baselines"):
            self._connection.write(f"DELETE FROM {table} WHERE origin BETWEEN ? AND ?", (since, until))

    def add_scores(self, rows: Iterable[ScoreRow]) -> None:
        """Add sums to those of the same station, day, source, variable and lead, all or none of them."""
        with self._connection.together():
            self._connection.write_many(
                f"INSERT INTO scores ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))}) {_ADDING}",
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

    def prune(
        self, now: int, keep_days: int, keep_quantile_days: int, keep_day_scores: int, keep_scores: int
    ) -> tuple[int, int]:
        """Delete what is older; how many forecasts and scores. Scores of days before `keep_day_scores` become one row a
        week. Commits between many."""
        forecasts = self._delete_before("forecasts", now - keep_days * DAY_S)
        for table in ("forecast_quantiles", "baselines"):
            self._delete_before(table, now - keep_quantile_days * DAY_S)
        oldest, daily = (
            datetime.fromtimestamp(now - days * DAY_S, UTC).strftime("%Y-%m-%d")
            for days in (keep_scores, keep_day_scores)
        )
        return forecasts, self._age_scores(oldest, daily)

    def _age_scores(self, oldest: str, daily: str) -> int:
        """Delete scores of days before `oldest`, how many; add those before `daily` up on the Monday of their week, a
        few days at a call, so that a gateway is not busy for minutes. Looks from key to key: reading the table through
        would take as long."""
        c, gone = self._connection, 0
        for station in self._steps("SELECT MIN(station) FROM scores WHERE station > ?"):
            of_station = self._steps("SELECT MIN(day) FROM scores WHERE station = ? AND day > ?", station)
            days = list(takewhile(lambda day: day < daily, of_station))
            old = [day for day in days if day < oldest]
            for day in old:
                gone += self._forget_scores(station, day)
            aged = [day for day in days if day >= oldest and self._monday_of(day) != day][:DAYS_AT_ONCE]
            for day in aged:
                with c.together():
                    c.write(_TO_MONDAY, (self._monday_of(day), station, day))
                    self._forget_scores(station, day)
            if old or aged:
                c.commit()
        return gone

    def _forget_scores(self, station: str, day: str) -> int:
        return self._connection.write("DELETE FROM scores WHERE station = ? AND day = ?", (station, day))

    def _steps(self, sql: str, *parameters: str) -> Iterator[str]:
        """Distinct values of a column in rising order, each found from the one before."""
        last = ""
        while (found := self._connection.read(sql, (*parameters, last))[0][0]) is not None:
            last = str(found)
            yield last

    def _monday_of(self, day: str) -> str:
        try:
            there = date.fromisoformat(day)
        except ValueError as error:
            raise damaged(self._connection.path, f"the day of a score ({day[:20]!r})") from error
        return (there - timedelta(days=there.weekday())).isoformat()

    def _delete_before(self, table: str, before: int) -> int:
        """Delete rows with an earlier origin, in slices, so that the write-ahead log stays small; their number."""
        c, gone = self._connection, 0
        while True:
            ((first,),) = c.read(f"SELECT MIN(origin) FROM {table}")
            if first is None or first >= before:
                return gone
            if gone:
                c.commit()
            gone += c.write(f"DELETE FROM {table} WHERE origin < ?", (min(first + SLICE_S, before),))

    def _unpacked(self, station: str, origin: int, packed: Packed) -> Forecast:
        try:
            return unpack_forecast(station, origin, packed)
        except (zlib.error, msgspec.MsgspecError, ValueError, TypeError, KeyError, IndexError) as error:
            what = f"the forecast of station {station} from {origin} ({error})"
            raise damaged(self._connection.path, what) from error

    def _row(self, forecast: Forecast) -> tuple[int, bytes, bytes | None]:
        """A forecast as its form's number, body and quantiles."""
        packed = pack_forecast(forecast)
        return self._form(packed.form), packed.body, packed.quantiles

    def _form(self, form: bytes) -> int:
        """The number of a form, made where there is none."""
        if form not in self._forms:
            c = self._connection
            c.write("INSERT OR IGNORE INTO forecast_forms (form) VALUES (?)", (form,))
            ((self._forms[form],),) = c.read("SELECT id FROM forecast_forms WHERE form = ?", (form,))
        return self._forms[form]
