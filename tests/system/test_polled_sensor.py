"""A sensor that must be asked, on a real pseudo-terminal, through the agent's own way of opening it."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from edge_agent.clock import SystemClock
from edge_agent.config import Config, Sensor, Station, Store
from edge_agent.observation import Reading
from edge_agent.sensors import open_sources

pytestmark = pytest.mark.system


def test_a_vaisala_wxt_is_asked_and_its_answer_becomes_a_reading(tmp_path: Path) -> None:
    device, line = os.openpty()
    port = tmp_path / "usb-wxt"
    port.symlink_to(os.ttyname(line))
    questions: list[bytes] = []
    came: list[Reading] = []
    arrived = threading.Event()

    def answer() -> None:
        questions.append(os.read(device, 64))
        os.write(device, b"0R0,Dm=283D,Sm=1.0M,Ta=23.6C,Pa=1026.6H\r\n")

    def emit(sensor: Sensor, reading: Reading, t: float) -> bool:
        came.append(reading)
        arrived.set()
        return True

    sensor = Sensor(name="mast", driver="vaisala_wxt", port=str(port))
    station = Station("home", 47.3, 8.5, 408.0)
    (source,) = open_sources(Config(station, Store(str(tmp_path / "s.sqlite")), sensor=[sensor]), emit, SystemClock())
    device_side = threading.Thread(target=answer, daemon=True)
    device_side.start()
    source.start()
    try:
        assert arrived.wait(20.0), source.health()
    finally:
        source.stop()
        os.close(device)
        os.close(line)
    assert questions == [b"0R0\r\n"]
    assert came[0].values == {"wind_direction": 283.0, "wind_speed": 1.0, "temperature": 23.6, "pressure": 1026.6}
    assert source.health().rejected == {}
