"""Open-Meteo's forecast API, straight from the station. Source: open-meteo.com/en/docs; keyless use is for
non-commercial purposes and limited to 10,000 calls a day.

Pure: a URL, and bytes in, guidance out. An answer does not say which run it is of: it can be used from when it came.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np

from edge_agent.config import Station
from edge_agent.errors import ConfigError, DataError
from edge_agent.guidance import Floats, Run
from edge_agent.guidance.sources import Guidance, decoded, height, number, numbers, query, some, valid_times
from edge_agent.variables import conversion

COLUMNS: dict[str, str] = {
    "temperature_2m": "temperature", "relative_humidity_2m": "humidity", "dew_point_2m": "dew_point",
    "surface_pressure": "pressure", "pressure_msl": "pressure_msl", "wind_speed_10m": "wind_speed",
    "wind_gusts_10m": "wind_gust", "wind_direction_10m": "wind_direction", "precipitation": "rain",
    "shortwave_radiation": "solar_radiation", "uv_index": "uv_index",
}  # fmt: skip
# States in steps of 15 minutes. Sums, maxima and radiation are of the step before: an hour's and a quarter's differ.
QUARTERS = (
    "temperature_2m", "relative_humidity_2m", "dew_point_2m", "surface_pressure", "pressure_msl", "wind_speed_10m",
    "wind_direction_10m",
)  # fmt: skip
UNITS = {"°C": "degC", "°F": "degF", "mp/h": "mph", "inch": "in", "°": "degree", "W/m²": "W/m2", "": "1"}
# Inner parts of the domains whose models have steps of 15 minutes (ICON-D2 and AROME, HRRR): south, north, west, east.
# Elsewhere the service interpolates hourly values.
NATIVE_15 = ((43.5, 57.5, -3.5, 20.0), (25.0, 49.0, -123.0, -68.0))
DAYS = 8
STEPS_15 = 24  # 6 hours


class OpenMeteo:
    """A source; `base`: where its API is."""

    name = "open-meteo"
    licence = "Weather data by Open-Meteo.com (CC BY 4.0)"

    def __init__(self, base: str = "https://api.open-meteo.com/v1/forecast") -> None:
        self._base = base

    def url(self, station: Station) -> str:
        """Hourly values, and the first 6 hours in steps of 15 minutes, for the station's own elevation, so that the
        service does not have to guess it."""
        return f"{self._base}?" + query(
            latitude=station.latitude, longitude=station.longitude, elevation=station.elevation_m,
            hourly=list(COLUMNS), minutely_15=QUARTERS, wind_speed_unit="ms", timeformat="unixtime", timezone="GMT",
            forecast_days=DAYS, forecast_minutely_15=STEPS_15,
        )  # fmt: skip

    def parse(self, answer: bytes, fetched: int) -> Guidance:
        """The hourly values of an answer, with its quarters, marked as native or interpolated; none where they cannot
        be read, as the hours do without. Raises DataError: it has no hours."""
        found = self.parse_block(answer, fetched, "hourly")
        try:
            return replace(found, quarters=self.parse_block(answer, fetched, "minutely_15"))
        except DataError:
            return found

    def parse_block(self, answer: bytes, fetched: int, block: str) -> Guidance:
        """As `parse`; `block`: "hourly" or "minutely_15"."""
        told = decoded(answer, self.name)
        if told.get("error"):
            raise DataError(f"{self.name}: {str(told.get('reason', 'an error without a reason'))[:200]}")
        table, units = told.get(block), told.get(f"{block}_units")
        if not isinstance(table, dict) or not isinstance(units, dict):
            raise DataError(f'{self.name}: the answer has no "{block}" with its units')
        offset = number(told.get("utc_offset_seconds", 0))
        if not abs(offset) <= 86_400:
            raise DataError(f"{self.name}: no offset from UTC")
        clock = units.get("time")
        valid = valid_times(table.get("time"), lambda t: _time(t, clock, int(offset)), self.name)
        values = {name: self._column(table, units, key, len(valid)) for key, name in COLUMNS.items() if key in table}
        latitude, longitude = number(told.get("latitude")), number(told.get("longitude"))
        native = block == "hourly" or any(
            south <= latitude <= north and west <= longitude <= east for south, north, west, east in NATIVE_15
        )
        run = Run(fetched, valid, some(values, self.name))
        return Guidance(self.name, run, height(told.get("elevation"), self.name), native, self.licence)

    def _column(self, table: Mapping[str, object], units: Mapping[str, object], key: str, length: int) -> Floats:
        unit = str(units.get(key, ""))
        try:
            factor, shift = conversion(COLUMNS[key], UNITS.get(unit, unit))
        except ConfigError:
            raise DataError(f'{self.name}: {key}: unit "{unit[:20]}" is not known') from None
        return np.asarray(factor * numbers(table[key], length, self.name, key) + shift)


def _time(value: object, clock: object, offset: int) -> int:
    """A valid time: seconds, or a local time without a zone, `offset` seconds ahead of UTC."""
    if clock == "unixtime":
        if not isinstance(value, int) or isinstance(value, bool):
            raise ValueError(f"{value!r:.40} is no number of seconds")
        return value
    moment = datetime.fromisoformat(str(value)[:40])
    if moment.tzinfo is not None:
        return int(moment.timestamp())
    return int(moment.replace(tzinfo=UTC).timestamp()) - offset
