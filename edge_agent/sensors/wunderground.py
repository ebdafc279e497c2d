"""Whatever uploads to Weather Underground, sent here instead: GET .../updateweatherstation.php?ID=...&tempf=...

Pure. Source: Weather Underground, PWS upload protocol. -9999 is missing, `dateutc=now` is now. `baromin` is what the
console shows, nearly always reduced to sea level; `absbaromin`, which newer firmware adds, is the station's.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import Literal

from edge_agent.config import Sensor
from edge_agent.errors import ConfigError
from edge_agent.observation import Reading
from edge_agent.sensors.driver import DriverSpec, Pressure, Transport, options_of
from edge_agent.sensors.fields import form_object
from edge_agent.sensors.mapping import Count, uncounted
from edge_agent.sensors.pressure import station_pressure
from edge_agent.sensors.pushed import (
    PushOptions,
    Row,
    further_rows,
    path_of,
    reading_of,
    states,
    table,
)

PATH = "/weatherstation/updateweatherstation.php"
ROWS: tuple[Row, ...] = (
    ("tempf", "temperature", "degF"),
    ("dewptf", "dew_point", "degF"),
    ("humidity", "humidity", "%"),
    ("absbaromin", "pressure", "inHg"),
    ("windspeedmph", "wind_speed", "mph"),
    ("windgustmph", "wind_gust", "mph"),
    ("winddir", "wind_direction", "degree"),
    ("solarradiation", "solar_radiation", "W/m2"),
    ("uv", "uv_index", "1"),
    ("soiltempf", "soil_temperature", "degF"),
    ("soilmoisture", "soil_moisture", "%"),
    ("aqpm2.5", "pm2_5", "ug/m3"),
    ("aqpm10", "pm10", "ug/m3"),
)
_COUNTERS = table((f"{span}rainin", "rain", "in") for span in ("total", "yearly", "monthly", "weekly", "daily"))
_LOWEST_M, _HIGHEST_M = -430.0, 9000.0

PressureKind = Literal["sea_level", "altimeter", "station"]


class WundergroundOptions(PushOptions, frozen=True):
    """`pressure`: what `baromin` is. An altimeter setting needs `elevation_m`, the station's, to become the pressure
    at the station."""

    pressure: PressureKind = "sea_level"
    elevation_m: float | None = None


class Wunderground:
    """Decodes the uploads of one console."""

    detects_cuts = True

    def __init__(self, sensor: Sensor) -> None:
        """Raises ConfigError: an option that is not one, a field whose variable is unknown, no elevation."""
        self._options = options_of(sensor, WundergroundOptions)
        kind, elevation = self._options.pressure, self._options.elevation_m
        if elevation is not None and not _LOWEST_M <= elevation <= _HIGHEST_M:
            raise ConfigError(f'sensor "{sensor.name}": option elevation_m must be metres above sea level')
        if kind == "altimeter" and elevation is None:
            raise ConfigError(f'sensor "{sensor.name}": an altimeter setting needs the option elevation_m')
        barometer: Row = ("baromin", "pressure_msl" if kind == "sea_level" else "pressure", "inHg")
        self._rows = table((*further_rows(sensor, WundergroundOptions), *ROWS, barometer))
        self._elevation_m = elevation if kind == "altimeter" else None

    def decode(self, payload: bytes, count: Count = uncounted) -> list[Reading]:
        """The reading of one upload; none for an empty one.

        Raises:
            BadMessage: `not-form`, `not-text`, `not-json`, `not-object`, `no-mapped-value`, `no-usable-value`.
        """
        if not payload.strip():
            return []
        message = form_object(payload)
        low = dict(states(message)).get("lowbatt")
        battery: dict[str, str | float] = {} if low is None else {"outdoor": "low" if low else "ok"}
        whose = "a Weather Underground upload"
        found = reading_of(message, self._rows, _COUNTERS, battery, self._options, count, whose=whose)
        return found if "absbaromin" in message else [self._at_station(reading) for reading in found]

    def _at_station(self, reading: Reading) -> Reading:
        """With an altimeter setting inverted to the pressure at the station."""
        values = dict(reading.values)
        if self._elevation_m is None or "pressure" not in values:
            return reading
        inverted = station_pressure(values.pop("pressure"), self._elevation_m)
        return replace(reading, values=values if math.isnan(inverted) else {**values, "pressure": inverted})


DRIVERS = (
    DriverSpec(
        "wunderground",
        Transport.HTTP,
        Wunderground,
        "whatever uploads to Weather Underground",
        options=WundergroundOptions,
        path=partial(path_of, usual=PATH),
        pressure=Pressure.SEA_LEVEL,
        stamps="the sender's UTC (`dateutc`); on arrival where it says `now`",
    ),
)
