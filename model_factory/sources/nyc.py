"""Hourly reports of two New York airports, in the units of the country."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from model_factory.sources.table import Place, StationTable, Values, instants, numbers, read_columns, station_table

PLACES = {"JFK": Place("jfk", 40.6398, -73.7789, 4.0), "LGA": Place("lga", 40.7772, -73.8726, 7.0)}

COLUMNS = {
    "temp": ("temperature", "degF"),
    "dewp": ("dew_point", "degF"),
    "humid": ("humidity", "%"),
    "wind_dir": ("wind_direction", "degree"),
    "wind_speed": ("wind_speed", "mph"),
    "wind_gust": ("wind_gust", "mph"),
    "precip": ("rain", "in"),
}


def parse(folder: Path) -> list[StationTable]:
    """`weather_*.csv.xz` below the folder; one table per airport. A blank gust stays missing: none was reported.

    Raises:
        DataError: a file or a cell cannot be read.
    """
    tables: list[StationTable] = []
    for path in sorted(folder.glob("weather_*.csv*")):
        raw = read_columns(path, ["origin", "time_hour", "pressure", *COLUMNS])
        owner = np.array(raw["origin"])
        for code, place in PLACES.items():
            rows = np.flatnonzero(owner == code)
            tables.append(_station(place, {key: [cells[i] for i in rows] for key, cells in raw.items()}))
    return tables


def station_pressure(msl: Values, temperature: Values, elevation_m: float) -> Values:
    """Pressure at the station, hPa, from pressure at sea level.

    p = p0 exp(-g z / (R T)) with g = 9.80665 m/s2, R = 287.05 J/(kg K), T the air temperature in K: the hypsometric
    equation of one layer (Wallace and Hobbs, Atmospheric Science, 2nd ed., section 3.2). Moisture moves it by less than
    0.01 hPa below 10 m. Worked: 1013.25 hPa, 15 degC, 7 m -> 1012.41 hPa. Without a temperature
    15 degC stands in.
    """
    kelvin = np.where(np.isnan(temperature), 15.0, temperature) + 273.15
    return np.asarray(msl * np.exp(-9.80665 * elevation_m / (287.05 * kelvin)))


def _station(place: Place, raw: dict[str, list[str]]) -> StationTable:
    values = {name: numbers(raw[source], name, unit) for source, (name, unit) in COLUMNS.items()}
    msl = numbers(raw["pressure"], "pressure_msl")
    values["pressure"] = station_pressure(msl, values["temperature"], place.elevation)
    return station_table(place, instants(raw["time_hour"]), values, {})
