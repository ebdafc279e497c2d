"""Zurich's lake police stations: 10-minute CSV, the files whose permuted columns were put right."""

from __future__ import annotations

from pathlib import Path

from model_factory.sources.table import Place, StationTable, instants, numbers, read_columns, station_table

PLACES = {
    "mythenquai": Place("mythenquai", 47.3570, 8.5363, 406.0),
    "tiefenbrunnen": Place("tiefenbrunnen", 47.3483, 8.5596, 406.0),
}

COLUMNS = {
    "air_temperature": "temperature",
    "dew_point": "dew_point",
    "humidity": "humidity",
    "barometric_pressure_qfe": "pressure",
    "wind_speed_avg_10min": "wind_speed",
    "wind_gust_max_10min": "wind_gust",
    "wind_direction": "wind_direction",
}
ONLY_MYTHENQUAI = {"precipitation": "rain", "global_radiation": "solar_radiation"}


def parse(folder: Path) -> list[StationTable]:
    """`mythenquai_*.csv.xz` and `tiefenbrunnen_*.csv.xz` below the folder; `as-found/` is left alone.

    Raises:
        DataError: a file or a cell cannot be read.
    """
    return [_station(path) for path in sorted(folder.glob("*.csv*")) if path.name.split("_")[0] in PLACES]


def _station(path: Path) -> StationTable:
    raw = read_columns(path, ["time_utc", *COLUMNS])
    columns = COLUMNS | {source: name for source, name in ONLY_MYTHENQUAI.items() if source in raw}
    values = {name: numbers(raw[source], name) for source, name in columns.items()}
    return station_table(PLACES[path.name.split("_")[0]], instants(raw["time_utc"]), values, {})
