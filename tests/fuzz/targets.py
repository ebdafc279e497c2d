"""What reads bytes from outside, each as one function that takes any bytes and may only succeed or count.

A target is run in the suite with a few hundred inputs, and by `run.py` under a coverage-guided fuzzer with a million.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec

from edge_agent.bundle.onnx_wire import read_model
from edge_agent.bundle.reader import read_bundle
from edge_agent.clock import ManualClock
from edge_agent.config import Field, Sensor, parse
from edge_agent.errors import StationcastError
from edge_agent.guidance.files import read_guidance
from edge_agent.guidance.sources import Source
from edge_agent.guidance.sources.background import Background
from edge_agent.guidance.sources.open_meteo import OpenMeteo
from edge_agent.guidance.sources.openweathermap import OpenWeatherMap
from edge_agent.history import read_history
from edge_agent.observation import Reading
from edge_agent.sensors import DRIVERS
from edge_agent.sensors.framing import Refusal
from edge_agent.sensors.neighbour import LastObservation
from edge_agent.sensors.source import Intake
from edge_agent.variables import VARIABLES

NOW = 1_700_000_000.0
MOST = 65_536  # bytes of one input

Target = Callable[[bytes], None]

_MAP = {
    "t": Field("temperature", "degF"),
    "a.0.h": Field("humidity", "%"),
    "rain": Field("rain", "in", counter=True),
    "w": Field("wind_speed", "km/h"),
}
_COLUMNS = {"1": Field("temperature", "degC"), "2": Field("humidity", "%"), "3": Field("rain", "mm", counter=True)}
_MAPS = {"csv_lines": _COLUMNS}
_OPTIONS: dict[str, dict[str, object]] = {"modbus": {"map": "renke"}}


def targets() -> dict[str, Target]:
    """By name: every driver, and every file that is read from outside."""
    drivers = {f"driver-{name}": partial(feed_driver, name) for name in DRIVERS}
    return drivers | {
        "history": partial(in_a_file, read_history, "HISTORY.csv"),
        "bundle": partial(in_a_file, read_bundle, "a.bundle"),
        "onnx": _onnx,
        "guidance-file": partial(in_a_file, read_guidance, "GUIDANCE.csv"),
        "guidance-open-meteo": partial(_guidance, OpenMeteo()),
        "guidance-openweathermap": partial(_guidance, OpenWeatherMap("key")),
        "guidance-background": partial(_guidance, Background("https://weather.example")),
        "agent-toml": _configuration,
        "neighbour": _neighbour,
    }


def feed_driver(name: str, data: bytes) -> None:
    """Bytes as they would come over the wire: a first one that says how they are cut into chunks, then the stream."""
    spec = DRIVERS[name]
    mapped = _MAPS.get(name, _MAP) if spec.maps else {}
    sensor = Sensor(name="roof", driver=name, map=mapped, options=_OPTIONS.get(name, {}))
    taken: list[Reading] = []
    intake = Intake(sensor, spec.decoder(sensor), partial(_take, taken), ManualClock(NOW), ("home",))
    size = data[0] % 64 + 1 if data else 1
    if spec.transport == "serial":
        framer = spec.framer(sensor)
        for start in range(1, len(data), size):
            for message in framer.feed(data[start : start + size]):
                _hand_on(intake, message)
        framer.drop()
    else:
        for message in data[1:].split(b"\0")[:64]:
            _hand_on(intake, message)
    assert all(_sound(reading) for reading in taken)


def in_a_file(read: Callable[[Path], object], name: str, data: bytes) -> None:
    """A file that somebody hands to a command."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(data)
        _expecting(lambda: read(path))


def _onnx(data: bytes) -> None:
    _expecting(lambda: read_model(data))


def _guidance(source: Source, data: bytes) -> None:
    """An answer of a weather service."""
    _expecting(lambda: source.parse(data, int(NOW)))


def _configuration(data: bytes) -> None:
    _expecting(lambda: parse(data.decode("utf-8", "replace"), Path("agent.toml")))


def _neighbour(data: bytes) -> None:
    sensor = Sensor(name="neighbour:west", driver="neighbour", station="west")
    taken: list[Reading] = []
    intake = Intake(sensor, LastObservation("west"), partial(_take, taken), ManualClock(NOW), ("west",))
    intake.message(data)
    assert all(_sound(reading) for reading in taken)


def _expecting(work: Callable[[], object]) -> None:
    try:
        work()
    except StationcastError as error:
        assert str(error)


def _hand_on(intake: Intake, message: bytes | Refusal) -> None:
    if isinstance(message, Refusal):
        intake.refuse(message.reason, message.detail)
    else:
        intake.message(message)


def _take(taken: list[Reading], sensor: Sensor, reading: Reading, arrived: float) -> bool:
    taken.append(reading)
    return True


def _sound(reading: Reading) -> bool:
    """Names of the vocabulary, finite numbers, whole seconds, text that can be published."""
    msgspec.json.encode(reading.battery)
    return (
        all(name in VARIABLES and math.isfinite(value) for name, value in reading.values.items())
        and (reading.t is None or isinstance(reading.t, int))
        and len(reading.device) <= 256
    )
