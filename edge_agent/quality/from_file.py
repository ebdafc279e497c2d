"""`edge-agent qc HISTORY.csv`: quality control of a file, flags to a file, a summary for people."""

from __future__ import annotations

import csv
import math
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import numpy as np

from edge_agent.clock import format_time
from edge_agent.config import Station
from edge_agent.config_values import value_problem
from edge_agent.console import keep_inputs, tell
from edge_agent.errors import ConfigError, DataError
from edge_agent.forecast.from_file import load_nowcaster
from edge_agent.history import History, completed, read_history
from edge_agent.network import keep_network, others
from edge_agent.observation import Flag
from edge_agent.quality import limits
from edge_agent.quality.series import Verdicts, judge_series
from edge_agent.quality.spatial import distance_km

COLUMNS = ("time", "variable", "value", "flag", "test", "reason")
MOST = 10  # neighbours read: five are compared with at once, the others stand in where one has no value

Neighbours = list[tuple[Station, History]]


def qc_command(
    history: Path,
    latitude: float | None,
    longitude: float | None,
    elevation: float | None,
    neighbours: Path | None,
    forecast: bool,
    out: Path,
) -> None:
    """`edge-agent qc`: judge a file and write a row per value that is suspect, fails or is missing.

    Raises:
        ConfigError: a position that does not exist, or `out` is a file that is read.
        DataError: a file that cannot be read or written, with the row.
        BundleError: the bundle for the forecasts is refused.
    """
    keep_inputs("--out", out, history)
    keep_network("--out", out, neighbours)
    station = _station(history, latitude, longitude, elevation)
    past = measured(read_history(history, limits=False))
    tell(past.warnings)
    tell(_without(station, neighbours=neighbours is not None, forecast=forecast))
    near: Neighbours = []
    if neighbours is not None and not math.isnan(station.latitude + station.elevation_m):
        near = read_neighbours(neighbours, station, history)
    nowcaster = load_nowcaster(None) if forecast and not math.isnan(station.latitude) else None
    with _progress(len(past.times)) as advance:
        verdicts = judge_series(station, past, near, nowcaster, advance)
    n = write_flags(out, past, verdicts)
    click.echo(summary(past, verdicts))
    tell(rows_missing(history, past))
    click.echo(f"{out}: {n} values flagged, of {sum(verdicts.present.values())} in {len(past.times)} rows")


def measured(history: History) -> History:
    """A history without what was completed from others, and without columns that hold no value at all."""
    values = {
        name: column
        for name, column in history.values.items()
        if not completed(name, history) and not np.isnan(column).all()
    }
    return History(history.times, values, history.warnings)


def flagged(history: History, verdicts: Verdicts) -> Iterator[tuple[str, str, str, int, str, str]]:
    """Rows of FLAGS.csv by time: values flagged 3, 4 or 9 with the deciding test and its reason; 9 where a cell of a
    column is empty."""
    columns = {
        name: (column, verdicts.found.get(name, {}), np.isnan(column)) for name, column in history.values.items()
    }
    for row, t in enumerate(history.times.tolist()):
        for name, (column, found, missing) in columns.items():
            if missing[row]:
                yield format_time(t), name, "", int(Flag.MISSING), "missing", "no value was sent"
            elif row in found:
                verdict = found[row]
                yield format_time(t), name, repr(float(column[row])), int(verdict.flag), verdict.test, verdict.why


def write_flags(out: Path, history: History, verdicts: Verdicts) -> int:
    """Write FLAGS.csv; how many rows. Raises DataError: it cannot be written."""
    n = 0
    try:
        with out.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            for row in flagged(history, verdicts):
                writer.writerow(row)
                n += 1
    except OSError as error:
        raise DataError(f"{out}: cannot be written: {error.strerror}") from error
    return n


def summary(history: History, verdicts: Verdicts) -> str:
    """A table: per variable, the share of values that each test flagged."""
    tests = ("range", "step", "spike", "persistence", "consistency", "spatial", "anomaly", "role")
    counts: Counter[tuple[str, str]] = Counter()
    for name, found in verdicts.found.items():
        counts.update((name, verdict.test) for verdict in found.values())
    head = f"{'variable':<17}{'values':>9}{'missing':>9}" + "".join(f"{test:>13}" for test in tests)
    lines = [head]
    for name, column in history.values.items():
        present = int((~np.isnan(column)).sum())
        cells = (_share(counts[name, test], present) for test in tests)
        lines.append(f"{name:<17}{present:>9}{len(column) - present:>9}" + "".join(f"{cell:>13}" for cell in cells))
    return "\n".join(lines)


def rows_missing(path: Path, history: History) -> list[str]:
    """What a row per value cannot tell: gaps in which there are no rows, of two usual steps and more."""
    spans = np.diff(history.times)
    if not len(spans):
        return []
    usual = int(np.median(spans))
    gaps = np.flatnonzero(spans >= 2 * usual)
    if not len(gaps):
        return []
    lost = int((spans[gaps] // usual - 1).sum())
    longest = int(gaps[np.argmax(spans[gaps])])
    start, end = (format_time(history.times[i]) for i in (longest, longest + 1))
    return [
        f"{path}: no rows in {len(gaps)} gaps, {lost} of one in {usual} s in all; the longest is from {start} to {end}"
    ]


def read_neighbours(folder: Path, station: Station, history: Path) -> Neighbours:
    """The nearest neighbours that a folder has (`network.others`).

    Raises:
        DataError: no such folder, a row that is none, or a history that cannot be read.
    """
    near: Neighbours = []
    for other, path in others(folder, station, history, limits.NEIGHBOUR_KM):
        km = distance_km((station.latitude, station.longitude), (other.latitude, other.longitude))
        higher = abs(other.elevation_m - station.elevation_m)
        if km <= limits.NEIGHBOUR_KM and higher <= limits.NEIGHBOUR_HEIGHT_M and len(near) < MOST:
            past = measured(read_history(path, limits=False))
            tell(past.warnings)
            near.append((other, past))
    if not near:
        reach = f"{limits.NEIGHBOUR_KM:g} km and {limits.NEIGHBOUR_HEIGHT_M:g} m of height"
        tell([f"{folder}: no other station with a file within {reach}: nothing is compared with neighbours"])
    return near


def _station(history: Path, latitude: float | None, longitude: float | None, elevation: float | None) -> Station:
    """Where the station stands; NaN where it is not said. Raises ConfigError: a position that does not exist."""
    place = {"latitude": latitude, "longitude": longitude, "elevation_m": elevation}
    for key, value in place.items():
        problem = "" if value is None else value_problem(Station, key, value)
        if problem:
            raise ConfigError(f"--{key.removesuffix('_m')} {problem}")
    known = {key: math.nan if value is None else value for key, value in place.items()}
    north, east = known["latitude"], known["longitude"]
    if math.isnan(north) or math.isnan(east):
        north = east = math.nan
    return Station(history.name.split(".")[0] or "station", north, east, known["elevation_m"])


def _without(station: Station, *, neighbours: bool, forecast: bool) -> Iterator[str]:
    """What cannot be tested for want of a position."""
    nowhere, no_height = math.isnan(station.latitude), math.isnan(station.elevation_m)
    tests = {
        "radiation against the sun": nowhere,
        "values against the forecast": nowhere and forecast,
        "pressure at sea level": no_height,
        "values against neighbours": (nowhere or no_height) and neighbours,
    }
    if any(tests.values()):
        missing = ["--latitude and --longitude"] * nowhere + ["--elevation"] * no_height
        yield f"not tested without {' and '.join(missing)}: {', '.join(name for name, off in tests.items() if off)}"


def _share(n: int, of: int) -> str:
    return "-" if not n else f"{100 * n / of:.4f} %"


@contextmanager
def _progress(rows: int) -> Iterator[Callable[[int], None]]:
    """A progress bar, on a terminal only."""
    if not sys.stderr.isatty():
        yield lambda done: None
        return
    with click.progressbar(length=rows, label="judging", file=sys.stderr) as bar:
        yield bar.update
