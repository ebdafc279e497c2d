"""Ambient Weather consoles and the ObserverIP, pushing in the maker's own protocol (`AMBWeather`): a GET every minute.

Pure. Source: Ambient Weather, Device Data Specs. Ecowitt's fields but for three: `hourlyrainin` is a rate, batteries
are 1 when they are good, and soil and dust have names of their own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from edge_agent.config import Sensor
from edge_agent.observation import Reading
from edge_agent.sensors.driver import DriverSpec, Pressure, Transport, options_of
from edge_agent.sensors.ecowitt import TIPPING
from edge_agent.sensors.fields import form_object
from edge_agent.sensors.mapping import Count, uncounted
from edge_agent.sensors.pushed import (
    PushOptions,
    Row,
    further_rows,
    part,
    path_of,
    reading_of,
    states,
    table,
)

ROWS: tuple[Row, ...] = (
    ("tempf", "temperature", "degF"),
    ("humidity", "humidity", "%"),
    ("baromabsin", "pressure", "inHg"),
    ("windspeedmph", "wind_speed", "mph"),
    ("windgustmph", "wind_gust", "mph"),
    ("winddir", "wind_direction", "degree"),
    ("hourlyrainin", "rain_rate", "in/h"),
    ("solarradiation", "solar_radiation", "W/m2"),
    ("uv", "uv_index", "1"),
    ("pm25", "pm2_5", "ug/m3"),
    ("soiltemp1f", "soil_temperature", "degF"),
    ("soilhum1", "soil_moisture", "%"),
)
_COUNTERS = table(TIPPING)
_GOOD_IS_1 = re.compile(r"batt(?:out|in|rain|\d{1,2}|sm\d|_25|_25in|_co2|_cellgateway)")
_GOOD_IS_0 = re.compile(r"batt_lightning|batt?leak\d")


class Ambient:
    """Decodes the messages of one console."""

    detects_cuts = True

    def __init__(self, sensor: Sensor) -> None:
        """Raises ConfigError: an option that is not one, or a field whose variable is unknown."""
        self._options = options_of(sensor, PushOptions)
        self._rows = table((*further_rows(sensor, PushOptions), *ROWS))

    def decode(self, payload: bytes, count: Count = uncounted) -> list[Reading]:
        """The reading of one message; none for an empty one.

        Raises:
            BadMessage: `not-form`, `not-text`, `not-json`, `not-object`, `no-mapped-value`, `no-usable-value`.
        """
        if not payload.strip():
            return []
        message = form_object(payload)
        battery, whose = batteries(message), "an Ambient Weather console"
        return reading_of(message, self._rows, _COUNTERS, battery, self._options, count, whose=whose)


def batteries(message: Mapping[str, object]) -> dict[str, str | float]:
    """Batteries by part, `ok` or `low`."""
    found: dict[str, str | float] = {}
    for name, value in states(message):
        if _GOOD_IS_1.fullmatch(name):
            found[part(name)] = "low" if value == 0 else "ok"
        elif _GOOD_IS_0.fullmatch(name):
            found[part(name)] = "ok" if value == 0 else "low"
    return found


DRIVERS = (
    DriverSpec(
        "ambient",
        Transport.HTTP,
        Ambient,
        "Ambient Weather consoles",
        options=PushOptions,
        path=path_of,
        pressure=Pressure.STATION,
        stamps="the console's UTC (`dateutc`), on arrival while its clock is not set",
    ),
)
