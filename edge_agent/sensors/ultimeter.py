"""Peet Bros Ultimeter 100, 800, 2000 and 2100, data logger mode: `!!` and hexadecimal digits, up to two lines a second.

Pure: bytes in, readings out. There is no checksum: a damaged digit passes here and is quality control's to find.
Source: Peet Bros, "ULTIMETER Models 2100, 800 & 100 serial data specifications".
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Annotated, Literal

from msgspec import Meta

from edge_agent.config import Sensor
from edge_agent.errors import BadMessage, ConfigError
from edge_agent.observation import Reading
from edge_agent.sensors.driver import DriverSpec, Options, Pressure, Transport, options_of
from edge_agent.sensors.mapping import Count, number, uncounted
from edge_agent.sensors.pressure import station_pressure
from edge_agent.variables import convert

HEADER = b"!!"
LENGTHS = (42, 46, 50)  # with the header: some models leave out the last one or two fields
_WORD, _BYTE = r"(?:[0-9A-Fa-f]{4}|-{4})", r"(?:[0-9A-Fa-f]{2}|-{2})"
_DIGITS = re.compile(f"{_WORD}{_BYTE}{{2}}{_WORD}{{8,10}}")


@dataclass(frozen=True, slots=True)
class Field:
    """Hexadecimal digits from `start` (counted after the header) up to `end`, times `scale`, are a number of `unit`."""

    variable: str
    start: int
    end: int
    scale: float
    unit: str
    signed: bool = False


# Left out: indoor temperature and humidity, the day and minute of the console's clock, which knows no year and no zone,
# and today's rain, which the long-term total holds too.
FIELDS = (
    Field("wind_speed", 0, 4, 0.1, "km/h"),
    Field("wind_direction", 6, 8, 360 / 255, "degree"),  # the two digits before hold a calibration
    Field("temperature", 8, 12, 0.1, "degF", signed=True),
    Field("rain", 12, 16, 0.01, "in"),  # total
    Field("pressure", 16, 20, 0.1, "mbar"),
    Field("humidity", 24, 28, 0.1, "%"),
)
MINUTE_WIND = Field("wind_speed", 44, 48, 0.1, "km/h")


class UltimeterOptions(Options, frozen=True):
    """`pressure`: what the console's barometer was set to show, with `elevation_m` for an altimeter setting. `rain`:
    what the gauge counts in. `wind`: `current`, or `minute` for the one-minute mean, with the current speed as gust."""

    pressure: Literal["sea_level", "station", "altimeter"] = "sea_level"
    elevation_m: Annotated[float, Meta(ge=-430, le=9000)] | None = None
    rain: Literal["0.01in", "0.1mm"] = "0.01in"
    wind: Literal["current", "minute"] = "current"


class Ultimeter:
    """Decodes the logger lines of one station."""

    detects_cuts = True  # a line begins with !! and has one of three lengths

    def __init__(self, sensor: Sensor) -> None:
        """Raises ConfigError as `options_of`, or if `elevation_m` is missing."""
        self._options = options_of(sensor, UltimeterOptions)
        if self._options.pressure == "altimeter" and self._options.elevation_m is None:
            raise ConfigError(f'sensor "{sensor.name}": options: pressure = "altimeter" needs elevation_m')
        self._fields = _fields_of(self._options)

    def decode(self, payload: bytes, count: Count = uncounted) -> list[Reading]:
        """The reading of one line; none for a blank line.

        Raises:
            BadMessage: `not-logger`, `bad-length`, `not-hex` or `no-usable-value`.
        """
        line = payload.strip(b" \t\r\n\0")
        if not line:
            return []
        if not line.startswith(HEADER):
            raise BadMessage("not-logger", "no line of the data logger mode: press CLEAR and WIND SPEED for 3 seconds")
        if len(line) not in LENGTHS:
            raise BadMessage("bad-length", f"{len(line)} characters where 42, 46 or 50 are expected")
        digits = line.removeprefix(HEADER).decode("ascii", "replace")
        if not _DIGITS.fullmatch(digits):
            raise BadMessage("not-hex", "a field that is neither hexadecimal digits nor marked as missing")
        values = self._values(digits, count)
        if not values:
            raise BadMessage("no-usable-value", "every field is missing")
        totals = {"rain": values.pop("rain")} if "rain" in values else {}
        return [Reading(values, totals=totals)]

    def _values(self, digits: str, count: Count) -> dict[str, float]:
        values: dict[str, float] = {}
        for field in self._fields:
            try:
                if field.end <= len(digits):
                    values[field.variable] = self._pressure(field, _value(field, digits))
            except BadMessage as error:
                count(error.reason)
        return values

    def _pressure(self, field: Field, value: float) -> float:
        """A value as it is; an altimeter setting as the station pressure it belongs to."""
        if field.variable != "pressure" or self._options.elevation_m is None or self._options.pressure != "altimeter":
            return value
        return number(station_pressure(value, self._options.elevation_m))


def _fields_of(options: UltimeterOptions) -> tuple[Field, ...]:
    """The table as the options say."""
    fields = {field.variable: field for field in FIELDS}
    if options.pressure == "sea_level":
        fields["pressure"] = replace(fields["pressure"], variable="pressure_msl")
    if options.rain == "0.1mm":
        fields["rain"] = replace(fields["rain"], scale=0.1, unit="mm")
    if options.wind == "minute":
        fields["wind_gust"] = replace(fields["wind_speed"], variable="wind_gust")
        fields["wind_speed"] = MINUTE_WIND
    return tuple(fields.values())


def _value(field: Field, digits: str) -> float:
    """One field in its variable's own unit. Raises BadMessage `missing`."""
    text = digits[field.start : field.end]
    if "-" in text:
        raise BadMessage("missing", "the station has no sensor for it")
    raw = int(text, 16)
    if field.signed and raw >= 1 << (4 * len(text) - 1):
        raw -= 1 << (4 * len(text))
    return number(convert(field.variable, raw * field.scale, field.unit))


DRIVERS = (
    DriverSpec(
        "ultimeter",
        Transport.SERIAL,
        Ultimeter,
        "a Peet Bros Ultimeter in data logger mode",
        options=UltimeterOptions,
        pressure=Pressure.SEA_LEVEL,
        stamps="on arrival",
        baud=2400,
    ),
)
