"""What the demo is made of: two recorded stations, a serial line in memory, and the agent.toml a person would write for
them. Never opens a real port.
"""

from __future__ import annotations

import os
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from edge_agent.clock import parse_time
from edge_agent.demo.broker import Broker

START = parse_time("2022-09-10T10:50:00Z")  # the recordings begin a quarter of an hour before the second origin
END = parse_time("2022-09-10T18:00:00Z")
TOPIC = "coast/weather"


@dataclass(frozen=True, slots=True)
class Place:
    """A recorded station: its id, and the files of its history and of what its sensor sends."""

    id: str
    history: str
    recording: str


MELLE = Place("melle", "melle-history.csv.xz", "melle-serial.tsv")
DE_HAAN = Place("de-haan", "de-haan-history.csv.xz", "de-haan-mqtt.tsv")
PLACES = (MELLE, DE_HAAN)

CONFIG = """\
# Two VLINDER stations in Flanders, as recorded in September 2022: one on a serial line, one over MQTT.

[[station]]
id = "melle"
latitude = 50.980
longitude = 3.816
elevation_m = 20  # assumed: none is published
timezone = "Europe/Brussels"

[[station]]
id = "de-haan"
latitude = 51.260
longitude = 2.992
elevation_m = 20
timezone = "Europe/Brussels"

[mqtt]
host = "{host}"
port = {port}
protocol = "{protocol}"

[store]
path = "demo.sqlite"

[[sensor]]
name = "logger"
station = "melle"
driver = "json_lines"
port = "{line}"
period_s = 300

[sensor.map]
temp = {{ variable = "temperature", unit = "degC" }}
hum = {{ variable = "humidity", unit = "%" }}
pres = {{ variable = "pressure", unit = "Pa" }}
wind = {{ variable = "wind_speed", unit = "km/h" }}
gust = {{ variable = "wind_gust", unit = "km/h" }}
dir = {{ variable = "wind_direction", unit = "degree" }}
rain = {{ variable = "rain", unit = "mm", counter = true }}

[[sensor]]
name = "gateway"
station = "de-haan"
driver = "mqtt_json"
topic = "{topic}"
time = "time"
period_s = 300

[sensor.map]
temperature = {{ variable = "temperature", unit = "degC" }}
humidity = {{ variable = "humidity", unit = "%" }}
pressure = {{ variable = "pressure", unit = "hPa" }}
rain = {{ variable = "rain", unit = "mm" }}
"wind.speed" = {{ variable = "wind_speed", unit = "m/s" }}
"wind.gust" = {{ variable = "wind_gust", unit = "m/s" }}
"wind.direction" = {{ variable = "wind_direction", unit = "degree" }}
"""


def data(name: str) -> Path:
    """A file of the demo's data."""
    return Path(str(files("edge_agent.demo") / "data" / name))


def write_config(folder: Path, broker: Broker, port: str) -> Path:
    """The demo's agent.toml in `folder`; `port`: the serial port of the first station."""
    path = folder / "agent.toml"
    fields = {"host": broker.host, "port": broker.port, "protocol": broker.protocol, "line": port, "topic": TOPIC}
    path.write_text(CONFIG.format(**fields), encoding="utf-8")
    return path


@contextmanager
def serial_line() -> Iterator[tuple[str, Callable[[bytes], None]]]:
    """A serial line without hardware: the port an agent opens, and what writes a line to its other end."""
    far, near = os.openpty()
    tty.setraw(near)
    try:
        yield os.ttyname(near), lambda line: _write(far, line + b"\n")
    finally:
        os.close(near)
        os.close(far)


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
