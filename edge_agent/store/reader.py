"""Reading a database of which a part may not be readable: what can be read comes, what cannot is counted."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from typing import Any

from edge_agent.store.connection import Row

MOST_FAILURES = 20_000  # attempts on one table before the rest of it is given up
EPOCHS = (0, 4_102_444_800)  # 1970 to 2100: where the bounds of a table of times cannot be read
ROWS = (0, 2**31)  # the same, of row numbers

Scan = Callable[[int, int], Iterator[Row]]


class Reader:
    """A connection that is only read. `unreadable`: gaps that could not be read, and rows that say what cannot be."""

    def __init__(self, source: sqlite3.Connection) -> None:
        self.unreadable = 0
        self._source = source

    def rows(self, sql: str, *parameters: object) -> Iterator[Row]:
        """Rows as they come.

        Raises sqlite3.Error: at any row.
        """
        return self._source.execute(sql, parameters)

    def one(self, sql: str, *parameters: object) -> Row | None:
        """The first row; None where there is none, or it cannot be read."""
        try:
            row: Row | None = self._source.execute(sql, parameters).fetchone()
        except (sqlite3.Error, OverflowError):
            return None
        return row

    def has(self, table: str, column: str) -> bool:
        """Whether a table has a column: a file may be of an older schema."""
        return self.one("SELECT 1 FROM pragma_table_info(?) WHERE name = ?", table, column) is not None

    def by_id(self, table: str, columns: str) -> Iterator[Row]:
        """Rows of a table with row numbers, in their order; the number is the first column."""
        key = columns.partition(",")[0]
        span = self.bounds(f"SELECT {{}}({key}) FROM {table}", (), ROWS)
        sql = f"SELECT {columns} FROM {table} WHERE {key} BETWEEN ? AND ? ORDER BY {key}"
        return self.between(lambda low, high: self.rows(sql, low, high), span, 1)

    def ends(self, sql: str, key: str) -> list[Row]:
        """Rows of a table without row numbers, from both ends up to where it cannot be read."""
        found: dict[Row, None] = {}
        down = ", ".join(f"{part} DESC" for part in key.split(", "))
        for order in (f"{sql} ORDER BY {key}", f"{sql} ORDER BY {down}"):
            try:
                for row in self.rows(order):
                    found[row] = None
            except sqlite3.Error:
                self.unreadable += 1
            else:
                break
        return list(found)

    def bounds(self, sql: str, parameters: tuple[object, ...], otherwise: tuple[int, int]) -> tuple[int, int] | None:
        """Least and largest key; `sql` asks for it with `{}` in place of MIN or MAX. What cannot be read is taken from
        `otherwise`. None: there are no rows."""
        found: list[int] = []
        for which, other in zip(("MIN", "MAX"), otherwise, strict=True):
            try:
                ((value,),) = self.rows(sql.format(which), *parameters)
            except sqlite3.Error:
                value = other
            if value is None:
                return None
            found.append(value if isinstance(value, int) else other)
        return found[0], max(found)

    def between(self, scan: Scan, span: tuple[int, int] | None, width: int) -> Iterator[Row]:
        """The rows of a range of keys, in their order within each part that can be read; a row may come twice.

        Args:
            scan: rows with first <= key <= last, ascending, the key first in each.
            span: first and last key; None = nothing.
            width: keys that are given up together where they cannot be read.
        """
        parts, failures, in_gap = [] if span is None else [span], 0, False
        while parts:
            low, high = parts.pop()
            at = low
            try:
                for row in scan(low, high):
                    at, in_gap = row[0], False
                    yield row
            except (sqlite3.Error, OverflowError):
                failures += 1
                if high - at < width or failures > MOST_FAILURES:
                    self.unreadable += not in_gap
                    in_gap = True
                else:
                    middle = (at + high) // 2
                    parts += [(middle + 1, high), (at, middle)]


def has_ints(*values: Any) -> bool:
    """Whether all are whole numbers, as they would be in an undamaged row."""
    return all(isinstance(value, int) for value in values)
