"""Ecowitt, Fine Offset, Froggit and other gateways of the same maker: a form body pushed every 16 s or so.

Pure. Sources: the fields the gateways send by their own `customized` upload, and the maker's table of battery states
(<= 1 of 5 is low; 1 of 0/1 is low). `baromabsin` is the pressure at the station; `baromrelin` is that plus whatever
offset somebody typed in, and is left alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

from edge_agent.config import Sensor
from edge_agent.errors import BadMessage
from edge_agent.observation import Reading
from edge_agent.sensors.driver import DriverSpec, Pressure, Transport, options_of
from edge_agent.sensors.fields import form_object
from edge_agent.sensors.mapping import Count, number, uncounted
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
    ("tempc", "temperature", "degC"),
    ("humidity", "humidity", "%"),
    ("baromabsin", "pressure", "inHg"),
    ("baromabshpa", "pressure", "hPa"),
    ("windspeedmph", "wind_speed", "mph"),
    ("windspeedkmh", "wind_speed", "km/h"),
    ("windspeedms", "wind_speed", "m/s"),
    ("windgustmph", "wind_gust", "mph"),
    ("windgustkmh", "wind_gust", "km/h"),
    ("windgustms", "wind_gust", "m/s"),
    ("winddir", "wind_direction", "degree"),
    ("solarradiation", "solar_radiation", "W/m2"),
    ("uv", "uv_index", "1"),
    ("soilmoisture1", "soil_moisture", "%"),
)
# Those that count longest first: a total that begins anew each night tells nothing of rain while we were away.
_SPANS = ("total", "yearly", "monthly", "weekly", "daily")
TIPPING: tuple[Row, ...] = tuple((f"{span}rain{unit}", "rain", unit) for span in _SPANS for unit in ("in", "mm"))
PIEZO: tuple[Row, ...] = tuple(
    (f"{span}rain_piezo{end}", "rain", unit) for span in "tymwd" for end, unit in (("", "in"), ("mm", "mm"))
)
_TIPPING_RATE: tuple[Row, ...] = (("rainratein", "rain_rate", "in/h"), ("rainratemm", "rain_rate", "mm/h"))
_PIEZO_RATE: tuple[Row, ...] = (("rrain_piezo", "rain_rate", "in/h"), ("rrain_piezomm", "rain_rate", "mm/h"))

_INCHES_END = 50.0  # no air weighs 50 inHg, and none at a station 50 hPa: one look tells the two apart
_COUNTERS = {
    (metric, piezo): table(rows, metric)
    for metric in (False, True)
    for piezo, rows in ((False, TIPPING), (True, PIEZO))
}
_FLAG = re.compile(r"(?:wh(?:2[456]|3[12]|6[59])batt|batt\d{1,2})")
_LEVEL = re.compile(r"(?:wh(?:4[135]|5[57])batt|(?:pm25|leak)batt\d{1,2}|co2_batt)")
_VOLTS = re.compile(r"(?:wh(?:40|68|8[05]|90)batt|(?:soil|tf_|leaf_)batt\d{1,2}|console_batt)")


class EcowittOptions(PushOptions, frozen=True):
    """`units`: `imperial` and `metric` are what stands under the names in inches and degrees Fahrenheit; `auto` tells
    by the pressure. `gauge`: which rain gauge counts where there are two, `auto` the tipping one."""

    units: Literal["auto", "imperial", "metric"] = "auto"
    gauge: Literal["auto", "tipping", "piezo"] = "auto"


class Ecowitt:
    """Decodes the messages of one gateway."""

    detects_cuts = True

    def __init__(self, sensor: Sensor) -> None:
        """Raises ConfigError: an option that is not one, or a field whose variable is unknown."""
        self._options = options_of(sensor, EcowittOptions)
        further = further_rows(sensor, EcowittOptions)
        self._rows = {
            (metric, piezo): table((*further, *ROWS, *rate), metric)
            for metric in (False, True)
            for piezo, rate in ((False, _TIPPING_RATE), (True, _PIEZO_RATE))
        }

    def decode(self, payload: bytes, count: Count = uncounted) -> list[Reading]:
        """The reading of one message; none for an empty one.

        Raises:
            BadMessage: `not-form`, `not-text`, `not-json`, `not-object`, `no-mapped-value`, `no-usable-value`.
        """
        if not payload.strip():
            return []
        message = form_object(payload)
        metric, piezo = self._metric(message), self._piezo(message)
        return reading_of(
            message,
            self._rows[metric, piezo],
            _COUNTERS[metric, piezo],
            batteries(message),
            self._options,
            count,
            whose="an Ecowitt gateway",
            gauge="piezo" if piezo else "",
            period_s=interval(message),
        )

    def _metric(self, message: Mapping[str, object]) -> bool:
        """True if metric values stand under imperial names."""
        return _looks_metric(message) if self._options.units == "auto" else self._options.units == "metric"

    def _piezo(self, message: Mapping[str, object]) -> bool:
        """True if the rain is the piezo gauge's."""
        if self._options.gauge != "auto":
            return self._options.gauge == "piezo"
        return not any(name in message for name, _, _ in TIPPING) and any(name in message for name, _, _ in PIEZO)


def batteries(message: Mapping[str, object]) -> dict[str, str | float]:
    """Batteries by part: volts where the sensor measures them."""
    found: dict[str, str | float] = {}
    for name, value in states(message):
        if _VOLTS.fullmatch(name) and value not in (0.0, 1.0):  # an old rain gauge sends 0 and 1
            found[part(name)] = value
        elif _LEVEL.fullmatch(name):
            found[part(name)] = "low" if value <= 1 else "ok"
        elif _FLAG.fullmatch(name) or _VOLTS.fullmatch(name):
            found[part(name)] = "ok" if value == 0 else "low"
    return found


def interval(message: Mapping[str, object]) -> int | None:
    """Seconds between two messages, where the gateway says it."""
    try:
        seconds = number(message.get("interval"))
    except BadMessage:
        return None
    return int(seconds) if 1 <= seconds <= 86_400 else None


def _looks_metric(message: Mapping[str, object]) -> bool:
    for name in ("baromabsin", "baromrelin"):
        try:
            return number(message.get(name)) > _INCHES_END
        except BadMessage:
            continue
    return False


DRIVERS = (
    DriverSpec(
        "ecowitt",
        Transport.HTTP,
        Ecowitt,
        "Ecowitt, Fine Offset and Froggit gateways",
        options=EcowittOptions,
        path=path_of,
        pressure=Pressure.STATION,
        stamps="the gateway's UTC (`dateutc`), on arrival while its clock is not set",
    ),
)
