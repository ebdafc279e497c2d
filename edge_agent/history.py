"""HISTORY.csv: a station's past from a file, in the vocabulary's names and units.

Rows are read one at a time and every doubt is either an error that names the row or a warning with a count. Never
guesses a unit, a time zone or a decimal sign, and never fills a gap.
"""

from __future__ import annotations

import csv
import math
from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import BinaryIO, NoReturn

import numpy as np
from numpy.typing import NDArray

from edge_agent import grid
from edge_agent.clock import format_time, parse_time
from edge_agent.errors import DataError
from edge_agent.packed import BROKEN, unpacked
from edge_agent.quality import slips
from edge_agent.quality.checks import impossible
from edge_agent.variables import VARIABLES, Kind

MAX_FILE_BYTES = 200_000_000  # after decompression
MAX_LINE_BYTES = 65_536
MISSING = frozenset({"", "nan", "null", "na", "n/a", "none"})
ALONE_S = 365 * 86_400  # rows so far from all others may be those of a clock that was not set
STRAY_SPAN_S = 86_400  # they are, where they cover less than a day ...
STRAY_SHARE = 100  # ... and are at most one in so many of the largest part
UNPAIRED = "is a quote unpaired?"
NAMED = 3  # stray rows that a warning names

Times = NDArray[np.int64]
Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class History:
    """A station's past.

    `times` [N]: UTC seconds, strictly ascending, each the end of its interval. `values`: vocabulary name -> [N], NaN =
    missing. `warnings`: what was doubted or left out, with counts, for people.
    """

    times: Times
    values: dict[str, Values]
    warnings: list[str]

    @property
    def variables(self) -> tuple[str, ...]:
        """What a forecast can use, in grid order: grid variables with at least one value."""
        return tuple(v for v in grid.GRID_VARIABLES if v in self.values and not np.isnan(self.values[v]).all())

    @property
    def last(self) -> int:
        """Time of the last reading of a grid variable. Raises DataError: there is none."""
        return int(self._read_times()[-1])

    @property
    def first(self) -> int:
        """Time of the first reading of a grid variable. Raises DataError: there is none."""
        return int(self._read_times()[0])

    def grid(self, steps: Times) -> NDArray[np.float32]:
        """The readings on grid steps, by `grid.on_grid`: [T, 8], columns as `grid.GRID_VARIABLES`, NaN = missing.

        Args:
            steps: [T] UTC seconds, 900 apart. Only rows up to the last step are looked at, so nothing later can matter.
        """
        first, last = np.searchsorted(self.times, [steps[0] - grid.STEP_S, steps[-1]], side="right")
        out = np.full((len(steps), len(grid.GRID_VARIABLES)), np.nan, np.float32)
        for column, name in enumerate(grid.GRID_VARIABLES):
            if name in self.values:
                out[:, column] = grid.on_grid(self.times[first:last], self.values[name][first:last], name, steps)
        return out

    def grid_ending(self, origin: int) -> NDArray[np.float32]:
        """What a bundle reads: [2880, 8], the 30 days that end at `origin` (of any phase)."""
        return self.grid(steps_ending(origin))

    def ages(self, origin: int) -> dict[str, int]:
        """Seconds from each grid variable's newest reading of the 30 days to `origin`; absent where there is none."""
        oldest = origin - grid.HISTORY_STEPS * grid.STEP_S
        found: dict[str, int] = {}
        for name in self.variables:
            read = self.times[~np.isnan(self.values[name])]
            at = int(np.searchsorted(read, origin, side="right"))
            if at and read[at - 1] > oldest:
                found[name] = origin - int(read[at - 1])
        return found

    def covered(self, origins: Times) -> NDArray[np.bool_]:
        """Whether anything was read in the 30 days up to each origin, [N]; where nothing was, `ages` are empty."""
        read = self._read_times()
        at = np.searchsorted(read, origins, side="right") - 1
        return np.asarray((at >= 0) & (origins - read[np.maximum(at, 0)] < grid.HISTORY_STEPS * grid.STEP_S))

    def _read_times(self) -> Times:
        if not self.variables:
            raise DataError(f"no readings of {', '.join(grid.GRID_VARIABLES)}: all values are missing")
        present = np.logical_or.reduce([~np.isnan(self.values[name]) for name in self.variables])
        return self.times[present]


def steps_ending(origin: int) -> Times:
    """The 2,880 grid steps that end at `origin`."""
    return np.asarray(origin + grid.STEP_S * np.arange(1 - grid.HISTORY_STEPS, 1, dtype=np.int64))


def read_history(path: Path, *, limits: bool = True, elevation_m: float | None = None) -> History:
    """Read a HISTORY.csv, plain, .gz or .xz.

    A `time` column (RFC 3339 with a zone, or epoch seconds; each row for itself) and vocabulary names, in any order and
    case. Empty, NaN, null, NA = missing. Humidity is completed from temperature and dew point where the file has none.

    A `station` column may name one station. Rows that a year or more separates from all others are left out, where they
    are few (`strays`).

    Args:
        limits: what quality control would fail or call no interval's own becomes missing, counted: values that are
            impossible, and sums of a row after a gap. False leaves them to quality control.
        elevation_m: of the station, for the limits of its pressure; None = not known.

    Raises:
        DataError: not such a file; the message names the row and the remedy.
    """
    table = _Table(path)
    with unpacked(path, MAX_FILE_BYTES) as stream:
        reader = csv.reader(read_lines(path, stream), strict=True)  # else a quote left open takes the rest in silence
        before = 0
        try:
            table.header(next(reader, []), reader.line_num)
            before = reader.line_num
            for fields in reader:
                table.add(fields, before + 1, reader.line_num - before)
                before = reader.line_num
        except csv.Error as error:
            raise DataError(f"{path}, row {before + 1}: not CSV ({error}): {why_not_csv(error)}") from None
    return table.history(limits, elevation_m)


def completed(name: str, history: History) -> bool:
    """True for humidity that stands there only because it follows from temperature and dew point."""
    if name != "humidity" or not {"temperature", "dew_point"} <= history.values.keys():
        return False
    humidity = history.values["humidity"]
    computed = grid.humidity_from_dew_point(history.values["temperature"], history.values["dew_point"])
    return bool(np.array_equal(humidity[~np.isnan(humidity)], computed[~np.isnan(humidity)]))


class _Table:
    """The file as it is read: columns that grow, and counts of what was doubted."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._width = 0
        self._time = 0
        self._station: int | None = None
        self._name = ""
        self._columns: dict[str, tuple[int, array[float]]] = {}
        self._times: array[int] = array("q")
        self._rows: array[int] = array("q")
        self._doubts: Counter[str] = Counter()
        self._first: dict[str, int] = {}
        self._warnings: list[str] = []

    def header(self, names: list[str], row: int) -> None:
        """Take the column names. Raises DataError: wrong delimiter, no time, nothing known, a name twice."""
        if not names:
            self._refuse(max(row, 1), "the file is empty: a header with `time` and vocabulary names is needed")
        if problem := separator_problem(names):
            self._refuse(row, problem)
        keys = [name.strip().lower() for name in names]
        twice = [key for key, n in Counter(keys).items() if n > 1 and (key == "time" or key in VARIABLES)]
        if twice:
            self._refuse(row, f'column "{twice[0]}" is there twice: rename or remove one')
        if "time" not in keys:
            self._refuse(row, f'no "time" column among {_listed(names)}: RFC 3339 with a zone, or epoch seconds')
        known = {key: at for at, key in enumerate(keys) if key in VARIABLES}
        unknown = [name.strip() for key, name in zip(keys, names, strict=True) if key not in (*known, "time")]
        if unknown:
            self._warnings.append(f"{self._path}: columns not used: {', '.join(map(_with_nearest, unknown[:40]))}")
        if not known:
            self._refuse(row, f"no column of the vocabulary among {_listed(names)}; known: {', '.join(VARIABLES)}")
        self._width, self._time = len(names), keys.index("time")
        self._station = keys.index("station") if "station" in keys else None
        self._columns = {name: (at, array("d")) for name, at in known.items()}

    def add(self, fields: list[str], row: int, lines: int = 1) -> None:
        """Take a row of so many `lines`. Raises DataError: more values than columns, fewer of them in several lines, a
        time or a number that is none."""
        if lines > 1:
            if len(fields) < self._width:
                self._refuse(row, f"goes on over {lines} lines: {UNPAIRED}")
            self._doubt("rows of several lines, as a quoted value holds line ends", row)
        if len(fields) != self._width:
            if not any(fields):
                return
            if len(fields) < self._width:
                if len(fields) == 1 and (";" in fields[0] or "\t" in fields[0]):
                    self._refuse(row, "values are not separated by commas: write commas between columns")
                self._doubt("rows with too few values left out", row)
                return
            if any(fields[self._width :]):
                self._refuse(row, f"{len(fields)} values in {self._width} columns: write decimals with a point")
        try:
            self._times.append(parse_time(fields[self._time]))
        except DataError as error:
            self._refuse(row, str(error))
        self._rows.append(row)
        if self._station is not None:
            self._take_station(fields[self._station].strip(), row)
        for name, (at, column) in self._columns.items():
            text = fields[at]
            try:
                value = self._no_number(text, name, row) if "_" in text else float(text)
            except ValueError:
                value = self._no_number(text, name, row)
            if math.isinf(value):
                self._doubt("infinite values taken as missing", row)
                value = math.nan
            column.append(value)

    def _take_station(self, name: str, row: int) -> None:
        if name and self._name and name != self._name:
            self._refuse(
                row,
                f'station "{name[:40]}" after "{self._name[:40]}": one series is of one station: give each its own file'
                " (`hindcast --guidance` takes several in one)",
            )
        self._name = self._name or name

    def history(self, limits: bool, elevation_m: float | None) -> History:
        """What was read, in order of time. Raises DataError: there were no rows."""
        if not self._times:
            self._refuse(2, "no rows with values: nothing to read")
        times = np.frombuffer(self._times, np.int64)
        kept = self._without_strays(times)
        times = times[kept]
        values = {name: np.frombuffer(column, np.float64)[kept] for name, (_, column) in self._columns.items()}
        if limits:
            self._leave_out_impossible(values, elevation_m)
        if (np.diff(times) < 0).any():
            back = int((np.diff(times) < 0).sum())
            self._warnings.append(f"{self._path}: rows were not in order of time ({back} steps back): sorted")
        times, values = self._once_per_time(times, values)
        self._tell_long_gaps(times)
        if limits:
            self._leave_out_gathered(times, values)
        for doubt, n in self._doubts.items():
            self._warnings.append(f"{self._path}: {doubt}: {n}, the first in row {self._first[doubt]}")
        self._complete_humidity(values)
        return History(times, values, self._warnings)

    def _without_strays(self, times: Times) -> NDArray[np.bool_]:
        """Which rows are kept, [N]; those that are not are named."""
        lost = strays(times)
        at = np.flatnonzero(lost)
        if len(at):
            named = [f"row {self._rows[i]} ({format_time(times[i])})" for i in at[:NAMED].tolist()]
            more = [f"{len(at) - NAMED} more"] if len(at) > NAMED else []
            self._warnings.append(
                f"{self._path}: left out, as a year or more lies between them and all other rows:"
                f" {', '.join(named + more)}: was the clock set that stamped them?"
            )
        return ~lost

    def _tell_long_gaps(self, times: Times) -> None:
        for i in np.flatnonzero(np.diff(times) > ALONE_S).tolist():
            self._warnings.append(
                f"{self._path}: no rows from {format_time(times[i])} to {format_time(times[i + 1])}: is either side"
                " stamped by a clock that was not set?"
            )

    def _no_number(self, text: str, name: str, row: int) -> float:
        text = text.strip()
        if text.lower() in MISSING:
            return math.nan
        if "," in text:
            self._refuse(row, f'{name}: "{text[:40]}" has a decimal comma: write a point')
        self._refuse(row, f'{name}: "{text[:40]}" is not a number: leave the field empty where a value is missing')

    def _leave_out_impossible(self, values: dict[str, Values], elevation_m: float | None) -> None:
        """Takes out what cannot be, and the rest of a column of which nearly all cannot be but for another unit."""
        for name, out in list(impossible(values, elevation_m)):
            if not out.any():
                continue
            column, there = values[name], int((~np.isnan(values[name])).sum())
            low, high = VARIABLES[name].fail
            at_sea = "" if name != "pressure" or elevation_m is None else f" or no pressure at {elevation_m:g} m"
            unit = slips.other_unit(name, column, out, elevation_m)
            unused = out.sum() == there or (unit is not None and slips.nearly_all(column, out))
            self._warnings.append(
                f"{self._path}: {name}: {int(out.sum())}{f' of {there}' if unused else ''} values outside"
                f" {low:g}..{high:g} {VARIABLES[name].unit}{at_sea} taken as missing, the first {column[out][0]:g}"
                f"{': the column is not used' if unused else ''}"
                f"{f': {slips.advice(name, column[out], unit)}' if unit else ''}"
            )
            column[out | unused] = np.nan

    def _leave_out_gathered(self, times: Times, values: dict[str, Values]) -> None:
        after_gap = grid.gathered(times)
        for name, column in values.items():
            out = after_gap & (column > 0)
            if VARIABLES[name].kind is Kind.SUM and out.any():
                self._warnings.append(
                    f"{self._path}: {name}: {int(out.sum())} sums of rows after a gap taken as missing: they are no"
                    " quarter hour's own"
                )
                column[out] = np.nan

    def _once_per_time(self, times: Times, values: dict[str, Values]) -> tuple[Times, dict[str, Values]]:
        """Rows in order of time; where a time comes again, the last reading of each variable stands."""
        order = np.argsort(times, kind="stable")
        sorted_times = times[order]
        last = np.append(np.diff(sorted_times) > 0, True)
        group = np.concatenate([[0], np.cumsum(last[:-1])])
        twice = len(times) - int(group[-1]) - 1
        if twice:
            self._warnings.append(f"{self._path}: {twice} rows repeat the time of another: the last reading stands")
        merged: dict[str, Values] = {}
        for name, column in values.items():
            ordered = column[order]
            read = ~np.isnan(ordered)
            merged[name] = np.full(int(group[-1]) + 1, np.nan)
            merged[name][group[read]] = ordered[read]  # ascending: the last assignment stands
        return sorted_times[last], merged

    def _complete_humidity(self, values: dict[str, Values]) -> None:
        has = values.get("humidity")
        if (has is None or np.isnan(has).all()) and {"temperature", "dew_point"} <= values.keys():
            humidity = grid.humidity_from_dew_point(values["temperature"], values["dew_point"])
            low, high = VARIABLES["humidity"].fail
            humidity[(humidity < low) | (humidity > high)] = np.nan
            if not np.isnan(humidity).all():
                values["humidity"] = humidity
                self._warnings.append(f"{self._path}: no humidity: completed from temperature and dew point")

    def _doubt(self, what: str, row: int) -> None:
        self._doubts[what] += 1
        self._first.setdefault(what, row)

    def _refuse(self, row: int, why: str) -> NoReturn:
        raise DataError(f"{self._path}, row {row}: {why}")


def separator_problem(names: list[str]) -> str:
    """What is wrong with a header that something else than commas separates; empty where nothing is."""
    line = ",".join(names)
    for mark, word in ((";", "semicolons"), ("\t", "tabs")):
        if mark in line:
            return f"separated by {word}: write commas between columns, points in decimals"
    return ""


def why_not_csv(error: csv.Error) -> str:
    """What may be wrong with a file that the reader refused."""
    return "are its line ends carriage returns? Line feeds are needed" if "new-line" in str(error) else UNPAIRED


def strays(times: Times) -> NDArray[np.bool_]:
    """Which rows a wrong clock stamped, [N]: a year or more from all others, less than a day of them together, and at
    most 1 % of the largest part of the series, one row at least. A forecast from such a row would know nothing.

    Args:
        times: [N] UTC seconds, in any order.
    """
    order = np.argsort(times, kind="stable")
    ordered = times[order]
    starts = np.concatenate([[0], np.flatnonzero(np.diff(ordered) > ALONE_S) + 1])
    ends = np.append(starts[1:], len(times))
    rows, span = ends - starts, ordered[ends - 1] - ordered[starts]
    few = (rows <= max(rows.max() // STRAY_SHARE, 1)) & (rows < rows.max()) & (span < STRAY_SPAN_S)
    out = np.empty(len(times), np.bool_)
    out[order] = np.repeat(few, rows)
    return out


def read_lines(path: Path, stream: BinaryIO) -> Iterator[str]:
    """Text lines, bounded in length. Raises DataError: past the bound, a broken archive, or no text in UTF-8."""
    row = 0
    while True:
        row += 1
        try:
            line = stream.readline(MAX_LINE_BYTES + 1)
        except BROKEN as error:
            raise DataError(f"{path}, row {row}: the archive is broken here ({error}): fetch the file again") from None
        if not line:
            return
        if row == 1 and line.startswith((b"PK", b"\xff\xfe", b"\xfe\xff")):
            kind = "a zip archive or spreadsheet" if line.startswith(b"PK") else "UTF-16 text"
            raise DataError(f"{path}: is {kind}: save it as CSV in UTF-8")
        if len(line) > MAX_LINE_BYTES:
            raise DataError(f"{path}, row {row}: longer than {MAX_LINE_BYTES} bytes: is this a CSV file?")
        text = line.decode("utf-8", errors="replace")  # a foreign letter in a column that is not used does no harm
        yield text.removeprefix("\ufeff") if row == 1 else text


def _listed(names: list[str]) -> str:
    shown = ", ".join(name.strip()[:40] for name in names[:12])
    return shown + (", ..." if len(names) > 12 else "")


def _with_nearest(name: str) -> str:
    close = get_close_matches(name.lower(), VARIABLES, n=1, cutoff=0.6)
    return f'{name[:40]} (did you mean "{close[0]}"?)' if close else name[:40]
