"""Hourly ERA5 series as stand-in stations: every grid point of a small NetCDF region is one.

They widen the range of climates in pre-training. They are model output: smoother than a sensor, and never a test.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edge_agent.errors import DataError
from edge_agent.grid import humidity_from_dew_point
from model_factory.sources.table import Place, StationTable, Times, Values, station_table

if TYPE_CHECKING:
    import xarray

GRAVITY = 9.80665
HDF5 = b"\x89HDF"
UNKNOWN = float("nan")


def parse(folder: Path, name: str, pattern: str = "*.nc", elevation_m: float = UNKNOWN) -> list[StationTable]:
    """All files of one region, joined in time; one table per grid point.

    States are those at the hour, sums the hour that ends there: radiation becomes the hour's mean. Net radiation and
    wind at 100 m are left out. The elevation is the model's own (`z`/g) where the file has it.

    Args:
        name: first part of the stations' names, followed by the point's place where there are several.
        elevation_m: used where the file has no `z`.

    Raises:
        DataError: no file, or a file without time, temperature or pressure.
    """
    paths = sorted(folder.glob(pattern))
    if not paths:
        raise DataError(f"{folder}: no file {pattern}. Is it the folder of this set?")
    parts = [_read(path) for path in paths]
    times = np.concatenate([part[0] for part in parts])
    points: list[StationTable] = []
    first = parts[0][1]
    several = len(first) > 1
    for i, (place, _) in enumerate(first):
        columns = {key: np.concatenate([part[1][i][1][key] for part in parts]) for key in first[i][1]}
        z = columns.pop("z", None)
        height = elevation_m if z is None else float(z[0]) / GRAVITY
        label = f"{name}-{_corner(place)}" if several else name
        points.append(station_table(Place(label, *place, round(height, 1)), times, in_vocabulary(columns), {}))
    return points


def in_vocabulary(raw: Mapping[str, Values]) -> dict[str, Values]:
    """ERA5 short names (K, Pa, m, J/m2 over the hour, m/s) as vocabulary columns. Shapes [N]."""
    out = {"temperature": raw["t2m"] - 273.15}
    if "d2m" in raw:
        # A dew point above the temperature is rounding in the packed file.
        dew_point = np.minimum(raw["d2m"] - 273.15, out["temperature"])
        out["humidity"] = humidity_from_dew_point(out["temperature"], dew_point)
    out["pressure"] = raw["sp"] / 100.0
    if "u10" in raw and "v10" in raw:
        out["wind_speed"] = np.hypot(raw["u10"], raw["v10"])
        out["wind_direction"] = np.degrees(np.arctan2(-raw["u10"], -raw["v10"])) % 360.0
    if "tp" in raw:
        out["rain"] = np.maximum(raw["tp"], 0.0) * 1000.0
    if "ssrd" in raw:
        out["solar_radiation"] = np.maximum(raw["ssrd"], 0.0) / 3600.0
    return out


_WANTED = ("t2m", "d2m", "sp", "u10", "v10", "tp", "ssrd", "z")
_Points = list[tuple[tuple[float, float], dict[str, Values]]]


def _read(path: Path) -> tuple[Times, _Points]:
    """Times [N] and, per grid point, its place and raw columns in ERA5's own units."""
    import xarray

    with path.open("rb") as file:
        engine = "h5netcdf" if file.read(4) == HDF5 else "scipy"
    with xarray.open_dataset(path, engine=engine) as data:
        if not {"time", "t2m", "sp"} <= set(data.variables):
            raise DataError(f"{path.name}: needs time, t2m and sp (found: {', '.join(map(str, data.variables))})")
        times = data["time"].values.astype("datetime64[s]").astype(np.int64)
        columns = {name: _own_units(data[name]) for name in _WANTED if name in data}
        if "latitude" not in data.dims:
            return times, [((round(float(data["lat"]), 4), round(float(data["lng"]), 4)), columns)]
        places = [
            (j, i, (round(float(lat), 3), round(float(lon), 3)))
            for j, lat in enumerate(data["latitude"].values)
            for i, lon in enumerate(data["longitude"].values)
        ]
    return times, [(place, {name: column[:, j, i] for name, column in columns.items()}) for j, i, place in places]


def _own_units(array: xarray.DataArray) -> Values:
    """A variable in ERA5's units: some sources converted degC and rates beforehand, and say so in `units`."""
    values = np.asarray(array.values, np.float64)
    units = str(array.attrs.get("units", ""))
    if units in ("degrees_Celsius", "degC"):
        return values + 273.15
    if array.name == "tp" and units == "m s-1":
        return values * 3600.0
    return values


def _corner(place: tuple[float, float]) -> str:
    """A place as part of a name: hundredths of a degree, such as n6125-e0650."""
    latitude, longitude = (round(100 * x) for x in place)
    return f"{'n' if latitude >= 0 else 's'}{abs(latitude):04d}-{'e' if longitude >= 0 else 'w'}{abs(longitude):04d}"
