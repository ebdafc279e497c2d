"""Recordings of real devices, which are no part of the project, and sensors to decode them with."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edge_agent.config import Sensor
from edge_agent.observation import Reading
from edge_agent.sensors import DRIVERS

CORPUS = Path(os.environ.get("STATIONCAST_CORPUS", Path(__file__).parents[2].parent / "shared" / "data"))


def recording(name: str) -> Path:
    """A file or folder of recordings; skips the test where there are none."""
    path = CORPUS / "raw-sensors" / name
    if not path.exists():
        pytest.skip(f"no recordings at {path} (STATIONCAST_CORPUS names their folder)")
    return path


def sensor(driver: str, *, name: str = "roof", options: dict[str, Any] | None = None, **more: Any) -> Sensor:
    """A sensor that needs no map."""
    return msgspec.convert({"name": name, "driver": driver, "options": options or {}, **more}, Sensor)


class Decoded:
    """What a driver makes of messages. `counted`: values left out, by reason."""

    def __init__(self, driver: str, *payloads: bytes, **options: Any) -> None:
        self.counted: Counter[str] = Counter()
        decoder = DRIVERS[driver].decoder(sensor(driver, options=options))
        self.readings: list[Reading] = []
        for payload in payloads:
            self.readings += decoder.decode(payload, lambda reason: self.counted.update([reason]))

    @property
    def only(self) -> Reading:
        """The one reading that has values or a total."""
        (found,) = [reading for reading in self.readings if reading.values or reading.totals]
        return found

    @property
    def battery(self) -> dict[str, str | float]:
        return {part: state for reading in self.readings for part, state in reading.battery.items()}
