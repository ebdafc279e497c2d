"""WeeWX over MQTT: the aggregate packets of its MQTT extension, `weather/loop` or `weather/archive`. Pure: messages in,
readings out.

Names are WeeWX's own with the unit's label behind them (`outTemp_C`); names without one are in the unit system that
`usUnits` says (1 US, 16 METRIC, 17 METRICWX). Values are strings. `rain` is what fell since the packet before, so it is
taken from one topic only: the archive repeats what the loop has told.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from edge_agent.config import Sensor
from edge_agent.errors import BadMessage, ConfigError
from edge_agent.observation import Reading
from edge_agent.sensors.driver import DriverSpec, Options, Pressure, Transport, options_of
from edge_agent.sensors.json_lines import object_of
from edge_agent.sensors.mapping import Count, Origin, measured, number, own_time, uncounted
from edge_agent.sensors.pressure import station_pressure

# name -> variable, kind of unit
_NAMES: dict[str, tuple[str, str]] = {
    "outTemp": ("temperature", "temperature"),
    "dewpoint": ("dew_point", "temperature"),
    "outHumidity": ("humidity", "percent"),
    "pressure": ("pressure", "pressure"),
    "barometer": ("pressure_msl", "pressure"),
    "windSpeed": ("wind_speed", "speed"),
    "windGust": ("wind_gust", "speed"),
    "windDir": ("wind_direction", "direction"),
    "rain": ("rain", "rain"),
    "rainRate": ("rain_rate", "rate"),
    "radiation": ("solar_radiation", "radiation"),
    "UV": ("uv_index", "index"),
    "snowDepth": ("snow_depth", "depth"),
    "soilTemp1": ("soil_temperature", "temperature"),
    "pm2_5": ("pm2_5", "dust"),
    "pm10_0": ("pm10", "dust"),
}
_SYSTEMS: dict[int, dict[str, str]] = {  # weewx.US, METRIC, METRICWX
    1: {"temperature": "degF", "pressure": "inHg", "speed": "mph", "rain": "in", "rate": "in/h", "depth": "in"},
    16: {"temperature": "degC", "pressure": "mbar", "speed": "km/h", "rain": "cm", "rate": "cm/h", "depth": "cm"},
    17: {"temperature": "degC", "pressure": "mbar", "speed": "m/s", "rain": "mm", "rate": "mm/h", "depth": "mm"},
}
_ALWAYS = {"percent": "%", "direction": "degree", "radiation": "W/m2", "index": "1", "dust": "ug/m3"}
_LABELS: dict[str, dict[str, str]] = {  # by kind: the extension shortens most names of units, and leaves some whole
    "temperature": {"C": "degC", "F": "degF", "K": "K", "degree_C": "degC", "degree_F": "degF", "degree_K": "K"},
    "pressure": {"mbar": "mbar", "hPa": "hPa", "kPa": "kPa", "inHg": "inHg", "mmHg": "mmHg"},
    "speed": {
        "mps": "m/s",
        "kph": "km/h",
        "mph": "mph",
        "knot": "kn",
        "meter_per_second": "m/s",
        "km_per_hour": "km/h",
        "mile_per_hour": "mph",
    },
    "rain": {"mm": "mm", "cm": "cm", "in": "in", "inch": "in"},
    "depth": {"mm": "mm", "cm": "cm", "in": "in", "inch": "in"},
    "rate": {"mm_per_hour": "mm/h", "cm_per_hour": "cm/h", "inch_per_hour": "in/h", "in_per_hour": "in/h"},
    "radiation": {"Wpm2": "W/m2", "watt_per_meter_squared": "W/m2"},
    "percent": {"percent": "%"},
    "direction": {"degree_compass": "degree"},
    "index": {"uv_index": "1"},
    "dust": {"microgram_per_meter_cubed": "ug/m3"},
}
_BATTERIES = {
    "outTempBatteryStatus": "outdoor",
    "windBatteryStatus": "wind",
    "rainBatteryStatus": "rain",
    "txBatteryStatus": "transmitter",
}


class WeewxOptions(Options, frozen=True):
    """`elevation_m`: of the station, to invert an altimeter setting; without it altimeter settings are left out.
    `us_units`: the unit system of packets that do not say it."""

    elevation_m: float | None = None
    us_units: int | None = None


class Weewx:
    """Decodes the packets of one WeeWX."""

    detects_cuts = True

    def __init__(self, sensor: Sensor) -> None:
        """Raises ConfigError as `options_of`, or an elevation or unit system that cannot be."""
        self._options = options_of(sensor, WeewxOptions)
        elevation_m, system = self._options.elevation_m, self._options.us_units
        if elevation_m is not None and not -430 <= elevation_m <= 9000:
            raise ConfigError(f'sensor "{sensor.name}": option elevation_m: must lie within -430 to 9000 m')
        if system is not None and system not in _SYSTEMS:
            raise ConfigError(f'sensor "{sensor.name}": option us_units: must be 1 (US), 16 (METRIC) or 17 (METRICWX)')
        self._topic: str | None = None
        self._last: tuple[int, bytes] | None = None

    def decode_from(self, payload: bytes, origin: Origin, count: Count = uncounted) -> list[Reading]:
        """As `decode`, from the topic on which the first good packet came.

        Raises:
            BadMessage: as `decode`, or `other-topic`.
        """
        if self._topic not in (None, origin.topic):
            raise BadMessage("other-topic", "rain would count twice: name one topic, weather/loop")
        found = self.decode(payload, count)
        if found:
            self._topic = origin.topic
        return found

    def decode(self, payload: bytes, count: Count = uncounted) -> list[Reading]:
        """The reading of one packet.

        Raises:
            BadMessage: `not-json`, `not-object` (single values: use the aggregate), `bad-time`, `repeat`,
                `no-mapped-value` or `no-usable-value`.
        """
        if not payload:
            return []
        message = object_of(payload)
        t = own_time(_time(message))
        if self._last == (t, payload):
            raise BadMessage("repeat", "the same packet again")
        found = list(self._found(message))
        values = measured(found, count)
        self._altimeter(message, values, count)
        battery = _battery(message)
        if not found and not values and not battery:
            raise BadMessage("no-mapped-value", "no observation of the vocabulary is in the packet")
        if not values and not battery:
            raise BadMessage("no-usable-value", "no observation of the vocabulary holds a number with its unit")
        self._last = (t, payload)
        return [Reading(values, t, battery=battery, period_s=_period(message))]

    def _found(self, message: Mapping[str, object]) -> Iterator[tuple[str, object, str]]:
        for name, (variable, kind) in _NAMES.items():
            for key, unit in self._units(message, name, kind):
                yield variable, message[key], unit

    def _units(self, message: Mapping[str, object], name: str, kind: str) -> Iterator[tuple[str, str]]:
        """Keys under which an observation stands in a packet, with their units; empty where that is not known."""
        for key in message:
            if key == name:
                yield key, _ALWAYS.get(kind) or self._system(message).get(kind, "")
            elif key.startswith(f"{name}_") and key not in _NAMES:
                yield key, _LABELS[kind].get(key.removeprefix(f"{name}_"), "")

    def _system(self, message: Mapping[str, object]) -> Mapping[str, str]:
        said = message.get("usUnits", self._options.us_units)
        try:
            return _SYSTEMS.get(int(number(said)), {})
        except BadMessage:
            return {}

    def _altimeter(self, message: Mapping[str, object], values: dict[str, float], count: Count) -> None:
        """The station pressure that an altimeter setting stands for, where the packet holds no other."""
        if "pressure" in values:
            return
        found = [("pressure", message[key], unit) for key, unit in self._units(message, "altimeter", "pressure")]
        if not found:
            return
        if self._options.elevation_m is None:
            count("no-elevation")
            return
        for hpa in measured(found, count).values():
            p = station_pressure(hpa, self._options.elevation_m) if 100 < hpa < 2000 else math.nan
            if math.isnan(p):
                count("no-pressure")
            else:
                values["pressure"] = p


def _time(message: Mapping[str, object]) -> object:
    return message.get("dateTime", message.get("dateTime_unix_epoch"))


def _period(message: Mapping[str, object]) -> int | None:
    """Length of an archive record, told in minutes; loop packets do not say."""
    try:
        minutes = number(message.get("interval", message.get("interval_minute")))
    except BadMessage:
        return None
    return round(minutes * 60) if 0 < minutes <= 1440 else None


def _battery(message: Mapping[str, object]) -> dict[str, str | float]:
    """Transmitters say 0 for good; the console says volts."""
    states: dict[str, str | float] = {}
    for name, part in _BATTERIES.items():
        try:
            states[part] = "low" if number(message.get(name)) else "ok"
        except BadMessage:
            continue
    try:
        states["console"] = number(message.get("consBatteryVoltage", message.get("consBatteryVoltage_volt")))
    except BadMessage:
        return states
    return states


DRIVERS = (
    DriverSpec(
        "weewx",
        Transport.MQTT,
        Weewx,
        "WeeWX, by its MQTT extension",
        options=WeewxOptions,
        pressure=Pressure.STATION,
        stamps="`dateTime` of the packet",
        timed=True,
    ),
)
