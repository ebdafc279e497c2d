"""GUIDANCE.csv, and a HISTORY.csv of one or of many stations, as arrays.

Rows are read one at a time; every doubt is an error that names the row, or a warning with a count.
"""

from __future__ import annotations

import csv
import math
import re
from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from edge_agent.clock import parse_time
from edge_agent.config import Station
from edge_agent.config_values import value_problem
from edge_agent.errors import DataError
from edge_agent.guidance import MOST_FIGURE, Floats, Run, Times, beyond_limits
from edge_agent.history import MAX_FILE_BYTES, MISSING, History, read_lines, separator_problem, why_not_csv
from edge_agent.packed import unpacked
from edge_agent.quality import slips
from edge_agent.quality.checks import impossible
from edge_agent.variables import VARIABLES

PLACE = ("latitude", "longitude", "elevation")
PREDICTOR = re.compile(r"([a-z][a-z0-9_]*?)__[a-z0-9_.-]{1,40}")
MOST_COLUMNS = 200
MOST_STATIONS = 5_000
ONLY = ""  # the station of a file without a `station` column


@dataclass(frozen=True, slots=True)
class Table:
    """A file as columns, rows in its order. `times`: the time columns [N]; `station`: index [N] into `names`; `values`:
    name -> [N], NaN = missing; `places`: station -> latitude, longitude, elevation_m, where the file says it."""

    times: dict[str, Times]
    station: Times
    names: tuple[str, ...]
    values: dict[str, Floats]
    places: dict[str, tuple[float, float, float]]
    warnings: list[str]


def has_stations(path: Path) -> bool:
    """Whether a file has a `station` column. Raises DataError: it cannot be read."""
    with unpacked(path, MAX_FILE_BYTES) as stream:
        header = next(_checked(path, csv.reader(read_lines(path, stream), strict=True)), [])
        return "station" in [name.strip().lower() for name in header]


def read_guidance(path: Path) -> tuple[dict[str, list[Run]], tuple[str, ...], Table]:
    """GUIDANCE.csv, plain, .gz or .xz: the runs of each station in order of `issued`, the columns, the table.

    Columns `issued` (earliest time of use) and `valid_time` (RFC 3339 with a zone, or epoch seconds), vocabulary names,
    `<name>__<what>` for further predictors, and optionally `station`, `latitude`, `longitude`, `elevation`. Impossible
    values become missing, counted.

    Raises:
        DataError: not such a file, or nothing in it can be used; the message names the row and the remedy.
    """
    table = _read(path, ("issued", "valid_time"))
    columns = tuple(table.values)
    if not any(name in VARIABLES for name in columns):
        raise DataError(f"{path}: no column of the vocabulary: name what the guidance forecasts, such as temperature")
    issued, valid = table.times["issued"], table.times["valid_time"]
    if not (valid > issued).any():
        raise DataError(f"{path}: no `valid_time` is later than its `issued`: are the two columns exchanged?")
    over = int((valid <= issued).sum())
    if over > len(valid) / 2:
        table.warnings.append(
            f"{path}: in {over} of {len(valid)} rows `valid_time` is not later than `issued`: are the two columns"
            " exchanged?"
        )
    _leave_out_impossible(path, table)
    order = np.lexsort((valid, issued, table.station))
    key = np.stack([table.station[order], issued[order]])
    starts = np.flatnonzero(np.append(True, (np.diff(key, axis=1) != 0).any(axis=0)))
    twice = ((np.diff(key, axis=1) == 0).all(axis=0) & (np.diff(valid[order]) == 0)).sum()
    if twice:
        table.warnings.append(f"{path}: {twice} rows repeat the times of another: the last one stands")
    runs: dict[str, list[Run]] = {name: [] for name in table.names}
    for start, end in zip(starts, np.append(starts[1:], len(order)), strict=True):
        rows = order[start:end]
        last = np.append(np.diff(valid[rows]) > 0, True)  # where a valid time comes twice, the later row stands
        rows = rows[last]
        values = {name: column[rows] for name, column in table.values.items()}
        runs[table.names[table.station[rows[0]]]].append(Run(int(issued[rows[0]]), valid[rows], values))
    return runs, columns, table


def read_stations(path: Path) -> tuple[dict[str, History], Table]:
    """A HISTORY.csv with a `station` column: the past of each station. Impossible values become missing, counted.

    Raises:
        DataError: as `read_guidance`.
    """
    table = _read(path, ("time",))
    found: dict[str, History] = {}
    out_of_range: Counter[str] = Counter()
    twice = 0
    for index, name in enumerate(table.names):
        rows = np.flatnonzero(table.station == index)
        rows = rows[np.argsort(table.times["time"][rows], kind="stable")]
        times = table.times["time"][rows]
        last = np.append(np.diff(times) > 0, True)
        twice += int((~last).sum())
        rows = rows[last]
        values = {column: table.values[column][rows] for column in table.values if column in VARIABLES}
        elevation_m = _known_m(table.places[name][2]) if name in table.places else None
        for variable, bad in list(impossible(values, elevation_m)):
            out_of_range[variable] += int(bad.sum())
            values[variable] = np.where(bad, np.nan, values[variable])
        found[name] = History(table.times["time"][rows], values, [])
    if twice:
        table.warnings.append(f"{path}: {twice} rows repeat the time of another: the last one stands")
    for variable, n in out_of_range.items():
        if n:
            table.warnings.append(f"{path}: {variable}: {n} impossible values taken as missing")
    return found, table


def station_at(name: str, place: tuple[float, float, float]) -> Station:
    """A station of a file; an elevation that is missing or impossible is unknown (NaN).

    Raises:
        DataError: coordinates that do not exist.
    """
    latitude, longitude, elevation_m = place
    for key, value in (("latitude", latitude), ("longitude", longitude)):
        problem = value_problem(Station, key, value)
        if problem:
            raise DataError(f"station {name}: {key} {problem}")
    known_m = _known_m(elevation_m)
    return Station(name, latitude, longitude, math.nan if known_m is None else known_m)


def _known_m(elevation_m: float) -> float | None:
    """An elevation where it can be one; None where it is missing or impossible."""
    return elevation_m if value_problem(Station, "elevation_m", elevation_m) is None else None


def _leave_out_impossible(path: Path, table: Table) -> None:
    """In place. Raises DataError: no value of any variable is left."""
    told = []
    for name, column in table.values.items():
        out = beyond_limits(name, column)
        if out.any():
            low, high = VARIABLES[name].fail if name in VARIABLES else (-MOST_FIGURE, MOST_FIGURE)
            unit = f" {VARIABLES[name].unit}" if name in VARIABLES else ""
            told.append(
                f"{path}: {name}: {int(out.sum())} values outside {low:g}..{high:g}{unit} taken as missing, the first"
                f" {column[out][0]:g}{_advice(name, column, out)}"
            )
            column[out] = np.nan
    table.warnings.extend(told)
    if all(np.isnan(column).all() for name, column in table.values.items() if name in VARIABLES):
        why = "; ".join(one.removeprefix(f"{path}: ") for one in table.warnings) or "all are missing"
        raise DataError(f"{path}: no value that can be used: {why}")


def _advice(name: str, column: Floats, out: NDArray[np.bool_]) -> str:
    """What to do, where another unit would explain the values that are `out` [N]; else empty."""
    unit = slips.other_unit(name, column, out, None) if name in VARIABLES else None
    return "" if unit is None else f": {slips.advice(name, column[out], unit)}"


def _read(path: Path, time_columns: tuple[str, ...]) -> Table:
    with unpacked(path, MAX_FILE_BYTES) as stream:
        reader = csv.reader(read_lines(path, stream), strict=True)
        rows = _Rows(path, next(_checked(path, reader), []), time_columns)
        for fields in _checked(path, reader):
            rows.add(fields, reader.line_num)
    return rows.table()


def _checked(path: Path, reader: Iterator[list[str]]) -> Iterator[list[str]]:
    try:
        yield from reader
    except csv.Error as error:
        raise DataError(f"{path}: not CSV ({error}): {why_not_csv(error)}") from None


class _Rows:
    """A file as it is read."""

    def __init__(self, path: Path, header: list[str], time_columns: tuple[str, ...]) -> None:
        self._path = path
        if problem := separator_problem(header):
            self._refuse(1, problem)
        names = [name.strip().lower() for name in header]
        twice = [name for name, n in Counter(names).items() if n > 1 and name]
        if twice:
            self._refuse(1, f'column "{twice[0][:40]}" is there twice: rename or remove one')
        for needed in time_columns:
            if needed not in names:
                self._refuse(1, f'no "{needed}" column: RFC 3339 with a zone, or epoch seconds')
        self._width = len(names)
        self._times = {name: (names.index(name), array("q")) for name in time_columns}
        self._station = names.index("station") if "station" in names else None
        self._place = [names.index(name) for name in PLACE] if set(PLACE) <= set(names) else None
        known = [name for name in names if _is_value(name)]
        unused = [n[:40] for n in names if n and n not in (*known, *time_columns, *PLACE, "station")]
        self._warnings = [f"{path}: columns not used: {', '.join(unused[:20])}"] if unused else []
        if len(known) > MOST_COLUMNS:
            self._refuse(1, f"{len(known)} columns of values: at most {MOST_COLUMNS} can be used, leave some out")
        self._values = {name: (names.index(name), array("d")) for name in known}
        self._index: dict[str, int] = {}
        self._of: array[int] = array("q")
        self._places: dict[str, tuple[float, float, float]] = {}
        self._place_as: dict[str, list[str]] = {}  # as it was written last
        self._moved: Counter[str] = Counter()
        self._infinite = 0

    def add(self, fields: list[str], row: int) -> None:
        """Take a row. Raises DataError: another number of values than columns, no time, no number."""
        if not any(fields):
            return
        if len(fields) != self._width:
            self._refuse(row, f"{len(fields)} values in {self._width} columns")
        for at, column in self._times.values():
            try:
                column.append(parse_time(fields[at]))
            except DataError as error:
                self._refuse(row, str(error))
        name = ONLY if self._station is None else fields[self._station].strip()[:40]
        if name not in self._index:
            if len(self._index) == MOST_STATIONS:
                self._refuse(row, f"more than {MOST_STATIONS} stations: split the file")
            self._index[name] = len(self._index)
        if self._place is not None:
            self._take_place(name, [fields[at] for at in self._place], row)
        self._of.append(self._index[name])
        for where, values in self._values.values():
            values.append(self._number(fields[where], row))

    def _take_place(self, name: str, written: list[str], row: int) -> None:
        """Where a station stands: its first place counts, rows with another are counted."""
        if self._place_as.get(name) != written:
            latitude, longitude, elevation = place = tuple(self._number(text, row) for text in written)
            if np.isnan(place).all():
                return
            first = self._places.setdefault(name, (latitude, longitude, elevation))
            if not np.array_equal(first, place, equal_nan=True):
                self._moved[name] += 1
                return
            self._place_as[name] = written

    def table(self) -> Table:
        """What was read. Raises DataError: no rows."""
        if not self._of:
            self._refuse(2, "no rows with values: nothing to read")
        if self._infinite:
            self._warnings.append(f"{self._path}: {self._infinite} infinite values taken as missing")
        for name, n in self._moved.items():
            self._warnings.append(
                f'{self._path}: station "{name}": {n} rows have another latitude, longitude or elevation than the'
                " first, which stands"
            )
        times = {name: np.frombuffer(column, np.int64) for name, (_, column) in self._times.items()}
        values = {name: np.frombuffer(column, np.float64).copy() for name, (_, column) in self._values.items()}
        return Table(times, np.frombuffer(self._of, np.int64), tuple(self._index), values, self._places, self._warnings)

    def _number(self, text: str, row: int) -> float:
        try:
            value = float(text)
        except ValueError:
            if text.strip().lower() in MISSING:
                return math.nan
            self._no_number(text, row)
        if "_" in text:
            self._no_number(text, row)
        self._infinite += math.isinf(value)
        return value if math.isfinite(value) else math.nan

    def _no_number(self, text: str, row: int) -> NoReturn:
        self._refuse(row, f'"{text[:40]}" is not a number: leave the field empty where a value is missing')

    def _refuse(self, row: int, why: str) -> NoReturn:
        raise DataError(f"{self._path}, row {row}: {why}")


def _is_value(name: str) -> bool:
    match = PREDICTOR.fullmatch(name)
    return name in VARIABLES or (match is not None and match[1] in VARIABLES)
