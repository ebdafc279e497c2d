"""Carved rows as a database of our own schema, from which `pour` can take them over."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from sqlite_utils import Database

from edge_agent.store.carve import Pages, Value, records
from edge_agent.store.schema import SCHEMA

SLICE = 500  # rows between two looks at the time

_I, _T, _B, _N = int, str, bytes, type(None)
_Shape = tuple[tuple[type, ...], ...]
_BEFORE_ARRIVAL = ((_I,), (_I,), (_T,), (_T, _N), (_I,), (_I,), (_T,), (_I, _N), (_I,), (_I,))
# Table -> the types that its columns may have. With row numbers the first column is null where it is that number.
_NUMBERED: dict[str, _Shape] = {
    "stations": ((_N,), (_T,), (_T, _N)),
    "series": ((_N,), (_I,), (_T,)),
    "boots": ((_N,), (_T,), (_T,)),
    "forecast_forms": ((_N,), (_B,)),
    "outbox": ((_N,), (_T,), (_I,), (_I,), (_I,), (_I, _N), (_I, _N), (_T, _N), (_I,)),
    "grid_days": ((_I,), (_I,), (_B,)),
    "forecast_quantiles": ((_I,), (_T,), (_B,)),
    "baselines": ((_I,), (_T,), (_T,), (_I,), (_B,), (_B, _N)),
    "revisions": ((_N,), *((_T,),) * 3, *((_I,),) * 3, (_T,), (_T,), (float, _I, _N), *((_I,),) * 3),
}
_PLAIN: dict[str, _Shape] = {
    "observations": (*_BEFORE_ARRIVAL, (_I, _N), (_I,), (_I, _N)),
    "parts": ((_I,), (_I,), (_I,), (_I,), (_T,)),
    "forecasts": ((_I,), (_T,), (_I,), (_B,)),
    "scores": ((_T,), (_T,), (_T,), (_T,), (_I,), (_I,), *((float, _I),) * 4, (_I,)),
    "outbox_totals": ((_T,), (_I,), (_I,), (_I,)),
    "outbox_dropped": ((_T,), (_T,), (_I,)),
    "meta": ((_T,), (_T,)),
    "rain_totals": ((_T,), (_T,), (_T,), (_T,)),
}
# What a row of an older schema lacks at its end.
_LACKS: dict[str, tuple[Value, ...]] = {"outbox": (0,), "boots": ("",), "observations": (None, 0, None)}
_OWN_NUMBER = ("stations", "series", "boots", "forecast_forms", "outbox", "revisions")


class Rebuilt:
    """A damaged file's rows in a file of their own beside it, made bit by bit and deleted at the end."""

    def __init__(self, damaged: Path) -> None:
        """Raises OSError: the damaged file cannot be read, or there is no room beside it."""
        self._path = Path(f"{damaged}-rows")
        self._pages = Pages(damaged)
        size = damaged.stat().st_size
        if shutil.disk_usage(damaged.parent).free < 3 * size:
            self._pages.close()
            raise OSError(28, "not enough room to take rows from its pages", str(damaged))
        self._path.unlink(missing_ok=True)
        self.db = sqlite3.connect(self._path, isolation_level=None)
        for pragma in ("synchronous=OFF", "journal_mode=OFF"):  # whatever happens to it, it is made again
            self.db.execute(f"PRAGMA {pragma}")
        SCHEMA.apply(Database(self.db, execute_plugins=False))
        self._perhaps: dict[int, set[str]] = {}  # number -> names that an index has with it

    def run(self) -> Iterator[None]:
        """Make it; yields now and then. Raises OSError, sqlite3.Error."""
        rows = records(self._pages)
        while part := list(islice(rows, SLICE)):
            self.db.execute("BEGIN")
            for number, columns in part:
                self._enter(number, columns)
            self.db.execute("COMMIT")
            yield
        self._name_stations()

    def close(self) -> None:
        """Let go of both files, and delete the one that was made."""
        self._pages.close()
        self.db.close()
        self._path.unlink(missing_ok=True)

    def _enter(self, number: int | None, columns: tuple[Value, ...]) -> None:
        for table, shape in (_PLAIN if number is None else _NUMBERED).items():
            lacks = _LACKS.get(table, ())
            row = (*columns, *lacks) if lacks and len(columns) == len(shape) - len(lacks) else columns
            if len(row) == len(shape) and all(type(v) in may for v, may in zip(row, shape, strict=True)):
                if table == "stations" and isinstance(row[2], str) and not row[2].startswith("{"):
                    continue  # a run of the agent, with that of the machine
                if table in _OWN_NUMBER:
                    row = (number, *row[1:])
                marks = ", ".join("?" * len(row))
                self.db.execute(f"INSERT OR IGNORE INTO {table} VALUES ({marks})", row)
                return
        if [type(value) for value in columns] == [int, str, int]:  # the index of series
            self.db.execute("INSERT OR IGNORE INTO series VALUES (?, ?, ?)", (columns[2], *columns[:2]))
        elif len(columns) == 2 and isinstance(columns[0], str) and isinstance(columns[1], int):
            self._perhaps.setdefault(columns[1], set()).add(columns[0])

    def _name_stations(self) -> None:
        """Where a station's own row is gone: the name that its index has, known from its forecasts or scores. Other
        indexes have such rows too."""
        seen = {name for (name,) in self.db.execute("SELECT station FROM forecasts UNION SELECT station FROM scores")}
        for (number,) in self.db.execute("SELECT DISTINCT station FROM series").fetchall():
            names = self._perhaps.get(number, set()) & seen
            if len(names) == 1:
                self.db.execute("INSERT OR IGNORE INTO stations VALUES (?, ?, NULL)", (number, *names))
