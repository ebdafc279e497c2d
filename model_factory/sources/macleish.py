"""MacLeish Field Station: two 10-minute stations whose faults were left in; here they become missing."""

from __future__ import annotations

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

PLACES = {
    "whately": Place("whately", 42.448470, -72.680553, 250.75),
    "orchard": Place("orchard", 42.449653, -72.680315, 258.1),
}

# Orchard reports pressure reduced to sea level: another kind, which never enters `pressure`.
PRESSURE = {"whately": "pressure", "orchard": "pressure_msl"}
FROZEN_S = 3 * 3600
FAULT_DEGC = -40.0  # a broken sensor reads about -90 degC; the site's record is near -35


def parse(folder: Path) -> list[StationTable]:
    """`whately_*.csv.xz` and `orchard_*.csv.xz` below the folder.

    Raises:
        DataError: a file or a cell cannot be read.
    """
    return [_station(path) for path in sorted(folder.glob("*.csv*")) if path.name.split("_")[0] in PLACES]


def frozen(times: Times, speed: Values) -> Mask:
    """Where an iced anemometer stands: the same speed for longer than three hours. [N]

    Zero too: Whately's tower top never reads 0 but on 4 January 2015, for 16 h, as Orchard does that night.
    """
    out = np.zeros(len(speed), bool)
    same = np.concatenate([[False], speed[1:] == speed[:-1]])
    for start, end in runs(same):
        if times[end - 1] - times[start] > FROZEN_S:
            out[start:end] = True
    return out


def _station(path: Path) -> StationTable:
    station = path.name.split("_")[0]
    columns = {
        "temperature": "temperature",
        "rel_humidity": "humidity",
        "pressure": PRESSURE[station],
        "wind_speed": "wind_speed",
        "wind_dir": "wind_direction",
        "rainfall": "rain",
    }
    raw = read_columns(path, ["when", *columns])
    if "solar_radiation" in raw:
        columns["solar_radiation"] = "solar_radiation"
    values = {name: numbers(raw[source], name) for source, name in columns.items()}
    times = instants(raw["when"])
    still = frozen(times, values["wind_speed"])
    masked = {
        "temperature of a broken sensor": mask(values["temperature"], values["temperature"] < FAULT_DEGC),
        "frozen wind_speed": mask(values["wind_speed"], still),
        "frozen wind_direction": mask(values["wind_direction"], still),
    }
    return station_table(PLACES[station], times, values, masked)
