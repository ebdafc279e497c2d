"""A folder of stations: `stations.csv` (station, latitude, longitude, elevation) and a HISTORY.csv for each.

Where they stand is read here, and which file is whose; what a station sees of the others is decided by who asks.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from edge_agent.config import Station
from edge_agent.config_values import value_problem
from edge_agent.console import keep_inputs, tell
from edge_agent.errors import DataError
from edge_agent.quality.spatial import distance_km

STATIONS = "stations.csv"
SUFFIXES = (".csv", ".csv.gz", ".csv.xz")
MAX_STATIONS = 10_000  # rows of stations.csv
SAME_PLACE_KM = 0.01
_NAMED = 3  # stations that a warning names
_COLUMNS = ("station", "latitude", "longitude", "elevation")


def others(folder: Path, station: Station, history: Path, near_km: float) -> list[tuple[Station, Path]]:
    """The stations of a folder with their files, the nearest first. The station itself is none of them, by its file,
    its name or its place, which is told; nor is one without a file, which is told of those within `near_km`.

    Raises:
        DataError: no stations.csv, or a row in it that is none.
    """
    found, lacking = [], []
    for other in _stations(folder / STATIONS):
        path, km = _file_of(folder, other.id), _km(station, other)
        why = _same(station, other, history, path, km)
        if why:
            tell([f"{folder}: {other.id} is left out: {why} as {history.name}, it would be its own neighbour"])
        elif path is not None:
            found.append((km, other, path))
        elif km <= near_km:
            lacking.append(f"{other.id}.csv")
    if lacking:
        more = [f"{len(lacking) - _NAMED} more"] if len(lacking) > _NAMED else []
        named = ", ".join(lacking[:_NAMED] + more)
        tell([f"{folder}: no {named} for stations of {STATIONS}: they are left out"])
    return [(other, path) for _, other, path in sorted(found, key=lambda one: (one[0], one[1].id))]


def keep_network(option: str, out: Path | None, folder: Path | None) -> None:
    """`console.keep_inputs` for the files of a folder of stations.

    Raises:
        ConfigError: `out` is one of them; DataError: as `others`.
    """
    if out is not None and out.exists() and folder is not None:
        named = (_file_of(folder, station.id) for station in _stations(folder / STATIONS))
        keep_inputs(option, out, folder / STATIONS, *named)


def _same(station: Station, other: Station, history: Path, path: Path | None, km: float) -> str:
    """What makes the other the station itself; empty where it is another."""
    if path is not None and path.resolve() == history.resolve():
        return "the same file"
    if other.id.lower() in (station.id, history.name.lower().split(".")[0]):
        return "the same name"
    return "the same place" if km <= SAME_PLACE_KM else ""


def _km(one: Station, other: Station) -> float:
    return distance_km((one.latitude, one.longitude), (other.latitude, other.longitude))


def _stations(path: Path) -> Iterator[Station]:
    seen: set[str] = set()
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            if not set(_COLUMNS) <= set(rows.fieldnames or ()):
                raise DataError(f"{path}: its first line must name {', '.join(_COLUMNS)}")
            for row in rows:
                if rows.line_num > MAX_STATIONS:
                    raise DataError(f"{path}: more than {MAX_STATIONS} rows")
                station = _place(path, rows.line_num, row)
                if station.id in seen:
                    raise DataError(f"{path}, row {rows.line_num}: station {station.id} stands there twice: remove one")
                seen.add(station.id)
                yield station
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not CSV in UTF-8: {error}") from None


def _place(path: Path, line: int, row: dict[str, str | None]) -> Station:
    name = (row["station"] or "").strip()
    if not name or "/" in name or name.startswith("."):
        raise DataError(f'{path}, row {line}: station "{name[:40]}": a name is needed, as of its file, without slashes')
    place: dict[str, float] = {}
    for key, rule in (("latitude", "latitude"), ("longitude", "longitude"), ("elevation", "elevation_m")):
        text = (row[key] or "").strip()
        try:
            value = float(text)
        except ValueError:
            raise DataError(f'{path}, row {line}: {key} "{text[:40]}" is not a number') from None
        problem = value_problem(Station, rule, value)
        if problem:
            raise DataError(f"{path}, row {line}: {key} {problem}")
        place[rule] = value
    return Station(name, place["latitude"], place["longitude"], place["elevation_m"])


def _file_of(folder: Path, station: str) -> Path | None:
    paths = (folder / f"{station}{suffix}" for suffix in SUFFIXES)
    return next((path for path in paths if path.is_file()), None)


def any_near(folder: Path, station: Station, history: Path, near_km: float) -> bool:
    """Whether stations.csv has another station within `near_km`, with a file or without. Raises DataError: as
    `others`."""
    rows = ((other, _file_of(folder, other.id), _km(station, other)) for other in _stations(folder / STATIONS))
    return any(km <= near_km and not _same(station, other, history, path, km) for other, path, km in rows)
