"""JSON objects, one an MQTT message: Tasmota, rtl_433, WeeWX, Zigbee2MQTT and whatever else speaks paths and numbers.

Pure: bytes in, readings out. Topics, retained messages and bounds belong to `sensors/mqtt.py`.
"""

from __future__ import annotations

from edge_agent.config import Sensor
from edge_agent.observation import Reading
from edge_agent.sensors.driver import DriverSpec, Pressure, Transport
from edge_agent.sensors.json_lines import read_object
from edge_agent.sensors.mapping import Count, entries_of, uncounted


class MqttJson:
    """Decodes the messages of one topic; map keys are paths as in `json_lines.lookup`."""

    detects_cuts = True

    def __init__(self, sensor: Sensor) -> None:
        """Raises ConfigError as `entries_of`."""
        self._entries = entries_of(sensor)
        self._time = sensor.time

    def decode(self, payload: bytes, count: Count = uncounted) -> list[Reading]:
        """The reading of one message; none for an empty one, which only deletes a retained message.

        Raises:
            BadMessage: as `JsonLines.decode`.
        """
        return [read_object(payload, self._entries, self._time, count)] if payload else []


DRIVERS = (
    DriverSpec(
        "mqtt_json",
        Transport.MQTT,
        MqttJson,
        "JSON messages on an MQTT topic",
        maps=True,
        pressure=Pressure.MAPPED,
        stamps="`time` where the map names it, else on arrival",
    ),
)
