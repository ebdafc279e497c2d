"""Tasmota: `tele/<device>/SENSOR`, one block a sensor chip. Pure: messages in, readings out.

`Time` is the device's civil time without a zone: read only with the option `timezone`, or where it has a zone. Units
are said beside the blocks (TempUnit, PressureUnit, SpeedUnit). The processor's own temperature is no weather.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from edge_agent.config import Sensor
from edge_agent.errors import BadMessage, ConfigError
from edge_agent.observation import Reading
from edge_agent.sensors.driver import DriverSpec, Options, Pressure, Transport, options_of
from edge_agent.sensors.json_lines import lookup, object_of
from edge_agent.sensors.mapping import EARLIEST, Count, Origin, clear_time, measured, uncounted, word

MAX_BLOCKS = 16  # sensors a device
PROCESSOR = "ESP32"

# path in a block -> variable, kind of unit
_PATHS: dict[str, tuple[str, str]] = {
    "Temperature": ("temperature", "temperature"),
    "DewPoint": ("dew_point", "temperature"),
    "Humidity": ("humidity", "percent"),
    "Pressure": ("pressure", "pressure"),
    "SeaPressure": ("pressure_msl", "pressure"),
    "UvIndex": ("uv_index", "index"),
    "PM2.5": ("pm2_5", "dust"),
    "PM10": ("pm10", "dust"),
    "Speed.Avg": ("wind_speed", "speed"),
    "Speed.Max": ("wind_gust", "speed"),
    "Dir.Deg": ("wind_direction", "direction"),
}
_SAID = {"temperature": "TempUnit", "pressure": "PressureUnit", "speed": "SpeedUnit"}
_UNITS: dict[str, dict[str, str]] = {
    "temperature": {"C": "degC", "F": "degF", "K": "K", "": "degC"},  # says nothing: as it comes from the factory
    "pressure": {"hPa": "hPa", "mmHg": "mmHg", "inHg": "inHg", "": "hPa"},
    "speed": {"m/s": "m/s", "km/h": "km/h", "kn": "kn", "mph": "mph"},
    "percent": {"": "%"},
    "index": {"": "1"},
    "dust": {"": "ug/m3"},
    "direction": {"": "degree"},
}


class TasmotaOptions(Options, frozen=True):
    """`timezone`: IANA name of the device's civil time; without it messages are stamped on arrival. `block`: the sensor
    that is meant, as its block is called (`BME280`); empty = each of them."""

    timezone: str = ""
    block: str = ""


class Tasmota:
    """Decodes the messages of Tasmota devices: a reading for each block, `device` = device and block."""

    detects_cuts = True

    def __init__(self, sensor: Sensor) -> None:
        """Raises ConfigError as `options_of`, or an unknown time zone."""
        options = options_of(sensor, TasmotaOptions)
        self._block = options.block
        try:
            self._zone = ZoneInfo(options.timezone) if options.timezone else None
        except (ZoneInfoNotFoundError, ValueError, OSError):
            remedy = "write a name like Europe/Zurich"
            raise ConfigError(
                f'sensor "{sensor.name}": option timezone "{options.timezone[:60]}" is unknown: {remedy}'
            ) from None

    def decode(self, payload: bytes, count: Count = uncounted) -> list[Reading]:
        """As `decode_from`, of a device without a name."""
        return self._decode(payload, "", count)

    def decode_from(self, payload: bytes, origin: Origin, count: Count = uncounted) -> list[Reading]:
        """The readings of one message; none for what is no SENSOR message (LWT, STATE, ...).

        Raises:
            BadMessage: `not-json`, `not-object`, `no-mapped-value` or `no-usable-value`.
        """
        levels = origin.topic.split("/")
        if levels[-1] in ("LWT", "STATE", "UPTIME", "RESULT") or levels[-1].startswith("INFO"):
            return []
        names = [level for level in levels if level not in ("tele", "stat", "SENSOR", "STATUS8", "STATUS10", "")]
        return self._decode(payload, "/".join(names), count)

    def _decode(self, payload: bytes, device: str, count: Count) -> list[Reading]:
        if not payload:
            return []
        message = object_of(payload)
        inner = message.get("StatusSNS")
        if isinstance(inner, dict):  # the answer to a command
            message = inner
        t = self._time(message.get("Time"))
        readings, seen = [], False
        for name, block in self._blocks(message):
            found = list(_found(message, block))
            seen = seen or bool(found)
            values = measured(found, count)
            if values:
                readings.append(Reading(values, t, device="/".join(filter(None, (device, word(name))))))
        if not seen:
            raise BadMessage("no-mapped-value", "no sensor of the vocabulary is in the message")
        if not readings:
            raise BadMessage("no-usable-value", "no sensor in the message has a number with its unit")
        return readings

    def _blocks(self, message: Mapping[str, object]) -> list[tuple[str, dict[str, object]]]:
        wanted = [
            (name, block)
            for name, block in message.items()
            if isinstance(block, dict) and name != PROCESSOR and self._block in ("", name)
        ]
        return wanted[:MAX_BLOCKS]

    def _time(self, raw: object) -> int | None:
        """A message's time where it is beyond doubt. The hours that a change of clocks skips or doubles are not."""
        clear = clear_time(raw)
        if clear is not None or self._zone is None or not isinstance(raw, str):
            return clear
        try:
            civil = datetime.fromisoformat(raw[:40]).replace(tzinfo=self._zone)
            first, second = civil.replace(fold=0).timestamp(), civil.replace(fold=1).timestamp()
        except (ValueError, OverflowError):
            return None
        return int(first) if first == second and first >= EARLIEST else None


def _found(message: Mapping[str, object], block: dict[str, object]) -> Iterator[tuple[str, object, str]]:
    for path, (variable, kind) in _PATHS.items():
        said = word(message.get(_SAID[kind])) if kind in _SAID else ""
        for raw in lookup(block, path):
            yield variable, raw, _UNITS[kind].get(said, "")


DRIVERS = (
    DriverSpec(
        "tasmota",
        Transport.MQTT,
        Tasmota,
        "Tasmota devices",
        options=TasmotaOptions,
        pressure=Pressure.STATION,
        stamps="`Time` with a zone, or with the option `timezone`; else on arrival",
    ),
)
