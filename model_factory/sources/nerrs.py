"""NERRS meteorological station, 15 minutes, with a quality code beside every value."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from model_factory.sources.table import Mask, Place, StationTable, instants, mask, numbers, read_columns, station_table

PLACE = Place("apaeb", 29.79, -84.88, 1.0)

COLUMNS = {
    "atemp": "temperature",
    "rh": "humidity",
    "bp": "pressure",
    "wspd": "wind_speed",
    "maxwspd": "wind_gust",
    "wdir": "wind_direction",
    "totprcp": "rain",
}


def parse(folder: Path) -> list[StationTable]:
    """`apaebmet_*.csv.xz` below the folder, one station. `totpar` counts photons, not `solar_radiation`: left out.

    Raises:
        DataError: a file or a cell cannot be read.
    """
    return [_station(path) for path in sorted(folder.glob("apaebmet_*.csv*"))]


def refused(code: str, name: str) -> bool:
    """Whether a quality code takes a value out: <-3> rejected, <-2> and <-1> missing; <1> suspect only for rain, where
    it marks a gauge that was out of order (elsewhere a sensor past its calibration date, which still measures)."""
    return code.startswith("<-") or (name == "rain" and code.startswith("<1>"))


def _station(path: Path) -> StationTable:
    raw = read_columns(path, ["datetimestamp", *COLUMNS, *(f"f_{source}" for source in COLUMNS)])
    values = {name: numbers(raw[source], name) for source, name in COLUMNS.items()}
    masked: Counter[str] = Counter()
    for source, name in COLUMNS.items():
        out: Mask = np.array([refused(code, name) for code in raw[f"f_{source}"]], bool)
        masked[f"flagged {name}"] += mask(values[name], out)
    return station_table(PLACE, instants(raw["datetimestamp"]), values, masked)
