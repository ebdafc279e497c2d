"""VLINDER urban network: 5-minute rows of many stations in one file; a silent station's last message is repeated."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np

from model_factory.sources.table import (
    Mask,
    Place,
    StationTable,
    Times,
    Values,
    instants,
    mask,
    numbers,
    read_columns,
    runs,
    station_table,
)

ELEVATION_M = 20.0  # an assumption: none is published, all stations stand near sea level
FROZEN_ROWS = 3
RAIN_GAP_S = 3600  # rain counted over a longer silence fell at no known time

COLUMNS = {
    "Temperatuur": ("temperature", "degC"),
    "Vochtigheid": ("humidity", "%"),
    "Luchtdruk": ("pressure", "Pa"),
    "Windsnelheid": ("wind_speed", "km/h"),
    "Rukwind": ("wind_gust", "km/h"),
    "Windrichting": ("wind_direction", "degree"),
}
DAY_SUM = "Neerslagsom"
REPEATED = (*COLUMNS, "Neerslagintensiteit", DAY_SUM)


def parse(folder: Path) -> list[StationTable]:
    """`vlinder_*.csv.xz` with `stations.csv` beside it; one table per station.

    Raises:
        DataError: a file or a cell cannot be read.
    """
    sites = read_columns(folder / "stations.csv", ["Vlinder", "lat", "lon"])
    places = {
        name: Place(name, float(lat), float(lon), ELEVATION_M)
        for name, lat, lon in zip(sites["Vlinder"], sites["lat"], sites["lon"], strict=True)
    }
    tables: list[StationTable] = []
    for path in sorted(folder.glob("vlinder_*.csv*")):
        raw = read_columns(path, ["Datum", "Tijd (UTC)", "Vlinder", *REPEATED], delimiter=";")
        owner = np.array(raw["Vlinder"])
        for name in sorted(set(raw["Vlinder"]) & set(places)):
            rows = np.flatnonzero(owner == name)
            tables.append(_station(places[name], {key: [cells[i] for i in rows] for key, cells in raw.items()}))
    return tables


def repeats(columns: list[list[str]]) -> Mask:
    """Rows that repeat the message before them: all measured cells equal, in stretches of at least three rows. The
    first row of a stretch is a message and stays. [N]"""
    rows = list(zip(*columns, strict=True))
    same = np.array([False, *(now == before for before, now in pairwise(rows))], bool)
    out = np.zeros(len(rows), bool)
    for start, end in runs(same):
        if end - start >= FROZEN_ROWS:
            out[start + 1 : end] = True
    return out


def rain_from_day_sum(times: Times, day_sum: Values) -> tuple[Values, int]:
    """Rain since the previous row from a sum that starts again at midnight, and how many amounts were left out.

    A smaller sum is a restart: it is itself the rain since. The first row and amounts collected over more than an hour
    are NaN. Shapes [N]; NaN in the sum is passed over.
    """
    rain = np.full(len(day_sum), np.nan)
    known = np.flatnonzero(~np.isnan(day_sum))
    t, total = times[known], day_sum[known]
    step = np.where(total[1:] >= total[:-1], total[1:] - total[:-1], total[1:])
    late = np.diff(t) > RAIN_GAP_S
    rain[known[1:]] = np.where(late, np.nan, np.round(step, 3))
    return rain, int(late.sum())


def _station(place: Place, raw: dict[str, list[str]]) -> StationTable:
    times = instants([f"{day}T{time}Z" for day, time in zip(raw["Datum"], raw["Tijd (UTC)"], strict=True)])
    order = np.argsort(times, kind="stable")
    raw = {key: [cells[i] for i in order] for key, cells in raw.items()}
    times = times[order]
    frozen = repeats([raw[name] for name in REPEATED])
    values = {name: numbers(raw[source], name, unit) for source, (name, unit) in COLUMNS.items()}
    day_sum = numbers(raw[DAY_SUM], "rain")
    masked = {f"repeated {name}": mask(column, frozen) for name, column in values.items()}
    masked["repeated rain"] = mask(day_sum, frozen)
    values["rain"], masked["rain over a silence"] = rain_from_day_sum(times, day_sum)
    return station_table(place, times, values, masked)
