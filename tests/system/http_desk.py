"""Sensors at one HTTP address, who sends to them, and what came."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import msgspec

from edge_agent.clock import SystemClock
from edge_agent.config import Sensor
from edge_agent.observation import Reading
from edge_agent.sensors import DRIVERS
from edge_agent.sensors.http import HttpSource, Limits, serve
from edge_agent.sensors.listen import Listener, Listeners
from edge_agent.sensors.source import Intake
from edge_agent.sensors.supervisor import Pauses
from tests.agents import until

TOKEN = "s3cret-token-of-the-roof"
SECRET = "0123456789ABCDEF"
QUICK = Limits(request_s=1.0, connections=6, per_sender=4, wait_s=0.05)
BODY = f"PASSKEY={SECRET}&tempf=50&humidity=60&yearlyrainin=1".encode()
UPLOAD = f"/weatherstation/updateweatherstation.php?ID=K&PASSWORD={SECRET}&dateutc=now&tempf=50"


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Desk:
    """Sensors at one address, and what came of them."""

    def __init__(self) -> None:
        self.clock = SystemClock()
        self.port = free_port()
        self.readings: dict[str, list[Reading]] = {}
        self.sources: dict[str, HttpSource] = {}
        self.listeners = Listeners(self.clock)
        self.limits = QUICK

    def add(self, name: str, driver: str = "ecowitt", **more: Any) -> HttpSource:
        listen = {"listen": f"127.0.0.1:{self.port}", **more}
        sensor = msgspec.convert({"name": name, "driver": driver, **listen}, Sensor)
        intake = Intake(sensor, DRIVERS[driver].decoder(sensor), self._emit, self.clock, ["home"])
        if not self.sources:
            quick = Listener(sensor.listen or "", lambda own: serve(own, self.limits), self.clock, Pauses(0.05, 0.2))
            self.listeners._found[sensor.listen or "", serve] = quick
        self.sources[name] = HttpSource(intake, self.listeners, self.clock, DRIVERS[driver].path(sensor))
        return self.sources[name]

    def _emit(self, sensor: Sensor, reading: Reading, arrived: float) -> bool:
        self.readings.setdefault(sensor.name, []).append(reading)
        return True

    def open(self) -> None:
        for source in self.sources.values():
            source.start()
        until(lambda: all(s.health().state == "reading" for s in self.sources.values()), "the listener")

    def rejected(self, name: str, reason: str) -> int:
        return self.sources[name].health().rejected.get(reason, 0)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), 10)

    def send(self, raw: bytes) -> bytes:
        """Raw bytes of a request; all that is answered."""
        with self.connect() as connection:
            connection.sendall(raw)
            answer = b""
            while chunk := connection.recv(4096):
                answer += chunk
            return answer

    def post(self, path: str, body: bytes) -> bytes:
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n"
        return self.send(head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body)

    def get(self, target: str) -> bytes:
        return self.send(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())


def written(path: Path, secret: str) -> str:
    path.write_text(f"{secret}\n")
    path.chmod(0o600)
    return str(path)
