"""A station's series in the vocabulary, and the small tools that every parser of raw station files shares.

A parser is pure: bytes of a file in, `StationTable`s out. What a parser takes out is counted in `masked`, by reason;
nothing is ever filled in or interpolated here.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_agent.clock import parse_time
from edge_agent.errors import DataError
from edge_agent.packed import BROKEN, unpacked
from edge_agent.variables import VARIABLES, conversion

Times = NDArray[np.int64]
Values = NDArray[np.float64]
Mask = NDArray[np.bool_]

MAX_FILE = 1_000_000_000  # bytes, unpacked: a file is read as a whole
_MISSING = frozenset({"", "NA", "NaN", "nan", "null"})


@dataclass(frozen=True, slots=True)
class StationTable:
    """One station.

    `times`: [N] UTC seconds, strictly ascending, ends of intervals. `values`: vocabulary name -> [N] in its unit, NaN =
    missing. `elevation` in m, NaN = unknown. `masked`: how many values each reason took out.
    """

    station: str
    latitude: float
    longitude: float
    elevation: float
    times: Times
    values: Mapping[str, Values]
    masked: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a station stands: degrees and m above sea level."""

    station: str
    latitude: float
    longitude: float
    elevation: float


def station_table(place: Place, times: Times, values: Mapping[str, Values], masked: Mapping[str, int]) -> StationTable:
    """Close a series: rows in order of time, the first of equal times kept, impossible values missing, a calm without
    direction, rows without any value left out. Each of these is counted in `masked`."""
    counts: Counter[str] = Counter(masked)
    keep = np.unique(times, return_index=True)[1]
    counts["duplicate time"] += len(times) - len(keep)
    ordered = {name: np.array(column[keep], np.float64) for name, column in values.items()}
    for name, column in ordered.items():
        low, high = VARIABLES[name].fail
        counts[f"impossible {name}"] += mask(column, (column < low) | (column > high))
    if "wind_direction" in ordered and "wind_speed" in ordered:
        # A calm is coded as direction 0 or the last one: neither is a direction.
        counts["direction of a calm"] += mask(ordered["wind_direction"], ordered["wind_speed"] == 0.0)
    said = ~np.all([np.isnan(column) for column in ordered.values()], axis=0)
    counts["row without a value"] += int((~said).sum())
    return StationTable(
        place.station,
        place.latitude,
        place.longitude,
        place.elevation,
        times[keep][said],
        {name: column[said] for name, column in ordered.items()},
        {reason: n for reason, n in sorted(counts.items()) if n},
    )


def mask(column: Values, where: Mask) -> int:
    """Set values to missing in place; how many there were."""
    hit = where & ~np.isnan(column)
    column[hit] = np.nan
    return int(hit.sum())


def read_columns(path: Path, needed: Iterable[str], delimiter: str = ",") -> dict[str, list[str]]:
    """Text columns of a CSV file, plain, `.gz` or `.xz`.

    Raises:
        DataError: the file is not readable as text, a needed column is absent, or a row has another number of cells.
    """
    try:
        with unpacked(path, MAX_FILE) as file:
            raw = file.read()
        rows = csv.reader(io.StringIO(raw.decode("utf-8-sig")), delimiter=delimiter)
        header = next(rows, [])
        body = [row for row in rows if row]
    except (*BROKEN, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path.name}: cannot be read as CSV ({error}). Is it the file as published?") from error
    absent = [name for name in needed if name not in header]
    if absent:
        raise DataError(f"{path.name}: no column {', '.join(absent)} (found: {', '.join(header)})")
    for number, row in enumerate(body, start=2):
        if len(row) != len(header):
            raise DataError(f"{path.name}, row {number}: {len(row)} cells, the header has {len(header)}")
    return {name: [row[i] for row in body] for i, name in enumerate(header)}


def numbers(cells: Sequence[str], name: str, unit: str | None = None) -> Values:
    """Cells as values of a vocabulary variable, converted from `unit` (its own when None); empty or NA is NaN.

    Raises:
        DataError: a cell that is no number.
    """
    try:
        values = np.array([float("nan") if cell in _MISSING else float(cell) for cell in cells], np.float64)
    except ValueError as error:
        raise DataError(f"{name}: {error}. Remove the row, or leave the cell empty.") from error
    factor, offset = conversion(name, unit or VARIABLES[name].unit)
    return values * factor + offset


def instants(cells: Sequence[str]) -> Times:
    """Times as UTC seconds. Raises DataError: a time that cannot be read, or that has no zone."""
    return np.array([parse_time(cell) for cell in cells], np.int64)


def runs(same_as_previous: Mask) -> list[tuple[int, int]]:
    """Stretches [start, end) of rows that each equal the row before them, with the row they repeat; single rows are
    left out."""
    starts = np.flatnonzero(np.concatenate([[True], ~same_as_previous[1:], [True]]))
    return [(int(a), int(b)) for a, b in pairwise(starts) if b - a > 1]
