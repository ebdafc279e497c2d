"""Zigbee2MQTT: `<base>/<friendly name>`, one JSON object a device. Pure: messages in, readings out.

Names and units are those of its `exposes`. Link quality, availability and the bridge's own topics are no readings.
"""

from __future__ import annotations

from collections.abc import Mapping

from edge_agent.config import Sensor
from edge_agent.errors import BadMessage
from edge_agent.observation import Reading
from edge_agent.sensors.driver import DriverSpec, Options, Pressure, Transport, options_of
from edge_agent.sensors.json_lines import object_of
from edge_agent.sensors.mapping import Count, Origin, clear_time, measured, number, uncounted

LOW_PERCENT = 20.0
MILLISECONDS = 100_000_000_000  # an epoch time above this is not in seconds

_NAMES: dict[str, tuple[str, str]] = {
    "temperature": ("temperature", "degC"),
    "humidity": ("humidity", "%"),
    "pressure": ("pressure", "hPa"),
    "soil_moisture": ("soil_moisture", "%"),
    "soil_temperature": ("soil_temperature", "degC"),
    "pm25": ("pm2_5", "ug/m3"),
    "pm10": ("pm10", "ug/m3"),
    "wind_speed": ("wind_speed", "m/s"),
    "wind_direction": ("wind_direction", "degree"),
    "uv_index": ("uv_index", "1"),
}


class Zigbee2MqttOptions(Options, frozen=True):
    """`base`: the base topic of Zigbee2MQTT."""

    base: str = "zigbee2mqtt"


class Zigbee2Mqtt:
    """Decodes the messages of Zigbee devices; `device` = friendly name."""

    detects_cuts = True

    def __init__(self, sensor: Sensor) -> None:
        """Raises ConfigError as `options_of`."""
        self._base = options_of(sensor, Zigbee2MqttOptions).base.strip("/")

    def decode(self, payload: bytes, count: Count = uncounted) -> list[Reading]:
        """As `decode_from`, of a device without a name."""
        return self._decode(payload, "", count)

    def decode_from(self, payload: bytes, origin: Origin, count: Count = uncounted) -> list[Reading]:
        """The reading of one message; none for those of the bridge, availability and commands.

        Raises:
            BadMessage: `not-json`, `not-object`, `no-mapped-value` or `no-usable-value`.
        """
        name = origin.topic.removeprefix(f"{self._base}/")
        if name.split("/")[0] == "bridge" or name.rpartition("/")[2] in ("availability", "set", "get"):
            return []
        return self._decode(payload, name, count)

    def _decode(self, payload: bytes, device: str, count: Count) -> list[Reading]:
        if not payload:
            return []
        message = object_of(payload)
        found = [(variable, message[name], unit) for name, (variable, unit) in _NAMES.items() if name in message]
        values, battery = measured(found, count), _battery(message)
        if not found and not battery:
            raise BadMessage("no-mapped-value", "no property of the vocabulary is in the message")
        if not values and not battery:
            raise BadMessage("no-usable-value", "no property of the vocabulary holds a number")
        return [Reading(values, _last_seen(message.get("last_seen")), device=device, battery=battery)]


def _last_seen(raw: object) -> int | None:
    """When the device was heard: RFC 3339 with a zone, or milliseconds, as Zigbee2MQTT is set to say it."""
    if isinstance(raw, int | float) and not isinstance(raw, bool) and MILLISECONDS < raw < 100 * MILLISECONDS:
        return clear_time(raw / 1000)
    return clear_time(raw)


def _battery(message: Mapping[str, object]) -> dict[str, str | float]:
    """`ok` or `low`: as the device says it, else by its charge in per cent."""
    low = message.get("battery_low")
    if isinstance(low, bool):
        return {"sensor": "low" if low else "ok"}
    try:
        return {"sensor": "low" if number(message.get("battery")) < LOW_PERCENT else "ok"}
    except BadMessage:
        return {}


DRIVERS = (
    DriverSpec(
        "zigbee2mqtt",
        Transport.MQTT,
        Zigbee2Mqtt,
        "Zigbee sensors, by Zigbee2MQTT",
        options=Zigbee2MqttOptions,
        pressure=Pressure.STATION,
        stamps="`last_seen` where Zigbee2MQTT is set to send it, else on arrival",
    ),
)
