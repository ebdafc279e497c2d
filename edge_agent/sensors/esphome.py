"""ESPHome over MQTT: `<node>/sensor/<entity>/state`, one plain number a topic. Pure: topics and numbers in, readings
out.

The topic says what a number is: map keys are entities (`outdoor_temperature`), or `node/entity` where a topic has
several nodes.
"""

from __future__ import annotations

from edge_agent.config import Sensor
from edge_agent.errors import BadMessage
from edge_agent.observation import Reading
from edge_agent.sensors.driver import DriverSpec, Options, Pressure, Transport, options_of
from edge_agent.sensors.mapping import Count, Origin, entries_of, number, reading, uncounted

LOW_PERCENT = 20.0


class EsphomeOptions(Options, frozen=True):
    """Entities that tell of a battery: in per cent, and in volts."""

    battery_percent: str = ""
    battery_volts: str = ""


class Esphome:
    """Decodes the numbers of one topic filter."""

    detects_cuts = True

    def __init__(self, sensor: Sensor) -> None:
        """Raises ConfigError as `entries_of` and `options_of`."""
        self._entries = {entry.path: entry for entry in entries_of(sensor)}
        self._options = options_of(sensor, EsphomeOptions)

    def decode(self, payload: bytes, count: Count = uncounted) -> list[Reading]:
        """Raises BadMessage `no-topic`: a number by itself says nothing."""
        raise BadMessage("no-topic", "a number without its topic")

    def decode_from(self, payload: bytes, origin: Origin, count: Count = uncounted) -> list[Reading]:
        """The reading of one number; none for an empty message.

        Raises:
            BadMessage: `no-topic` (not `.../sensor/<entity>/state`), `not-text`, `no-mapped-value` or
                `no-usable-value`.
        """
        levels = origin.topic.split("/")
        if len(levels) < 4 or levels[-1] != "state" or levels[-3] != "sensor":
            raise BadMessage("no-topic", "the topic is not <node>/sensor/<entity>/state")
        if not payload:
            return []
        node, entity = "/".join(levels[:-3]), levels[-2]
        try:
            text = payload.decode().strip()
        except UnicodeDecodeError:
            raise BadMessage("not-text", "bytes that are no text") from None
        if entity in (self._options.battery_percent, self._options.battery_volts):
            return [Reading({}, device=node, battery={"node": self._battery(entity, text)})]
        entry = self._entries.get(f"{node}/{entity}", self._entries.get(entity))
        found = reading([] if entry is None else [(entry, text)], None, count)
        return [Reading(found.values, device=node)]

    def _battery(self, entity: str, text: str) -> str | float:
        """Raises BadMessage: not a number."""
        try:
            level = number(text)
        except BadMessage as error:
            raise BadMessage("no-usable-value", f"the battery is {error.reason}") from None
        if entity == self._options.battery_volts:
            return level
        return "low" if level < LOW_PERCENT else "ok"


DRIVERS = (
    DriverSpec(
        "esphome",
        Transport.MQTT,
        Esphome,
        "ESPHome nodes: one number a topic",
        options=EsphomeOptions,
        maps=True,
        pressure=Pressure.MAPPED,
    ),
)
