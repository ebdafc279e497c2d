"""Sensors behind a broker, who publishes for them, and what came."""

from __future__ import annotations

import json

import msgspec
import paho.mqtt.publish as publish

from edge_agent.clock import SystemClock
from edge_agent.config import Config, Sensor
from edge_agent.observation import Reading
from edge_agent.sensors import Source, open_sources
from tests.agents import until


def a_sensor(topic: str = "raw/roof", **more: object) -> dict[str, object]:
    fields = {"t": {"variable": "temperature", "unit": "degC"}}
    return {"name": "roof", "driver": "mqtt_json", "topic": topic, "map": fields, **more}


def a_config(broker, *sensors: dict[str, object], stations: tuple[str, ...] = ("home",), **mqtt: object) -> Config:
    site = {"latitude": 47, "longitude": 8, "elevation_m": 400}
    return msgspec.convert(
        {
            "station": [{"id": name, **site} for name in stations],
            "store": {"path": "unused"},
            "mqtt": {"host": broker.host, "port": broker.port, **mqtt},
            "sensor": list(sensors),
        },
        Config,
    )


def send(broker, topic: str, payload: object, retain: bool = False) -> None:
    """Publish as a device of another make would: 3.1.1, QoS 1, done when the broker has it."""
    data = payload if isinstance(payload, bytes) else json.dumps(payload)
    publish.single(topic, data, qos=1, retain=retain, hostname=broker.host, port=broker.port)


class Listening:
    """Started sources and what came of them."""

    def __init__(self, config: Config, *, ready: bool = True) -> None:
        self.readings: list[tuple[str, Reading]] = []
        self.sources: list[Source] = open_sources(config, self._emit, SystemClock())
        for source in self.sources:
            source.start()
        if ready:
            self.await_state("reading")

    def _emit(self, sensor: Sensor, reading: Reading, arrived: float) -> bool:
        self.readings.append((sensor.name, reading))
        return True

    def await_state(self, state: str) -> None:
        until(lambda: {source.health().state for source in self.sources} == {state}, state)

    def temperatures(self, name: str = "roof") -> list[float]:
        return [reading.values["temperature"] for sensor, reading in self.readings if sensor == name]

    def rejected(self, index: int = 0) -> dict[str, int]:
        return self.sources[index].health().rejected

    def stop(self) -> None:
        for source in self.sources:
            source.stop()
