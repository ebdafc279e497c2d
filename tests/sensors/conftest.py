"""Sensors and their intakes, built without opening anything."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import pytest

from edge_agent.clock import ManualClock
from edge_agent.config import Sensor
from edge_agent.observation import Reading
from edge_agent.sensors import DRIVERS
from edge_agent.sensors.source import Gauges, Intake

NOW = 1_700_000_000.0

MakeSensor = Callable[..., Sensor]


@pytest.fixture
def make_sensor() -> MakeSensor:
    """A sensor from `{"path": ("variable", "unit")}` or `{"path": ("variable", "unit", counter)}` and further keys."""

    def make(driver: str, fields: Mapping[str, tuple[Any, ...]], **more: Any) -> Sensor:
        place = {"port": "/dev/null"} if DRIVERS[driver].transport == "serial" else {"topic": "wx/raw"}
        names = ("variable", "unit", "counter")
        entries = {path: dict(zip(names, entry, strict=False)) for path, entry in fields.items()}
        return msgspec.convert({"name": "roof", "driver": driver, "map": entries, **place, **more}, Sensor)

    return make


class Desk:
    """An intake with what it handed on. `full`: the agent takes nothing."""

    def __init__(
        self, sensor: Sensor, stations: tuple[str, ...] = ("home",), now: float = NOW, gauges: Gauges | None = None
    ) -> None:
        self.clock = ManualClock(now)
        self.readings: list[Reading] = []
        self.full = False
        self.intake = Intake(sensor, DRIVERS[sensor.driver].decoder(sensor), self._emit, self.clock, stations, gauges)

    def _emit(self, sensor: Sensor, reading: Reading, arrived: float) -> bool:
        if not self.full:
            self.readings.append(reading)
        return not self.full

    @property
    def rejected(self) -> dict[str, int]:
        return self.intake.health("reading", "", 0).rejected

    @property
    def accepted(self) -> int:
        return self.intake.health("reading", "", 0).accepted


@pytest.fixture
def make_desk() -> Callable[..., Desk]:
    return Desk
