"""Beijing multi-site data, hourly: the six distinct weather series; other sites repeat one of these."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np

from edge_agent.grid import humidity_from_dew_point
from model_factory.sources.table import Place, StationTable, Times, Values, numbers, read_columns, station_table

DISTINCT = ("Aotizhongxin", "Changping", "Dongsi", "Gucheng", "Shunyi", "Wanshouxigong")
LATITUDE, LONGITUDE, ELEVATION_M = 39.9, 116.4, 50.0  # the city's: the set gives no coordinates
ZONE = timezone(timedelta(hours=8))

POINTS = ("N", "NNE", "NE", "ENE", "E", "ESE", "SE", "SSE", "S", "SSW", "SW", "WSW", "W", "WNW", "NW", "NNW")
DEGREES = {point: 22.5 * i for i, point in enumerate(POINTS)}

COLUMNS = {"TEMP": "temperature", "DEWP": "dew_point", "PRES": "pressure", "WSPM": "wind_speed", "RAIN": "rain"}


def parse(folder: Path) -> list[StationTable]:
    """`PRSA_Data_<site>_*.csv.xz` below the folder, sites with a weather series of their own.

    Raises:
        DataError: a file or a cell cannot be read.
    """
    return [_station(path) for path in sorted(folder.glob("PRSA_Data_*.csv*")) if path.name.split("_")[2] in DISTINCT]


def bearing(points: list[str]) -> Values:
    """Sixteen-point wind directions as degrees from north; anything else is NaN."""
    return np.array([DEGREES.get(point, np.nan) for point in points])


def _station(path: Path) -> StationTable:
    raw = read_columns(path, ["year", "month", "day", "hour", "wd", *COLUMNS])
    values = {name: numbers(raw[source], name) for source, name in COLUMNS.items()}
    values["humidity"] = humidity_from_dew_point(values["temperature"], values["dew_point"])
    values["wind_direction"] = bearing(raw["wd"])
    place = Place(f"beijing-{path.name.split('_')[2].lower()}", LATITUDE, LONGITUDE, ELEVATION_M)
    return station_table(place, _times(raw), values, {})


def _times(raw: dict[str, list[str]]) -> Times:
    parts = zip(*(map(int, raw[key]) for key in ("year", "month", "day", "hour")), strict=True)
    return np.array([int(datetime(y, m, d, h, tzinfo=ZONE).timestamp()) for y, m, d, h in parts], np.int64)
