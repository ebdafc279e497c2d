"""A WeatherLink Live on the loopback: asked, heard, slow, talkative, gone and back."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from edge_agent.clock import ReplayClock
from edge_agent.config import Sensor, parse
from edge_agent.errors import ConfigError, SensorError
from edge_agent.observation import Reading
from edge_agent.sensors import DRIVERS, open_sources
from edge_agent.sensors.poll import PollSource, fetch, split_host
from edge_agent.sensors.source import Intake
from edge_agent.sensors.supervisor import Pauses
from edge_agent.sensors.weatherlink_poll import LivePoll

pytestmark = pytest.mark.system

SPEED = 200.0  # ten seconds between two questions are a twentieth of one here
RECORD = {
    "data_structure_type": 1, "txid": 1, "temp": 50.0, "wind_speed_last": 2.0, "rain_size": 2, "rain_rate_last": 0,
    "rainfall_year": 600, "trans_battery_flag": 0,
}  # fmt: skip


def until(condition: Callable[[], object], what: str, timeout_s: float = 20.0) -> None:
    """Wait for something that happens in another thread."""
    for _ in range(int(timeout_s / 0.01)):
        if condition():
            return
        time.sleep(0.01)
    pytest.fail(f"waited in vain for: {what}")


def conditions(t: float, **more: Any) -> bytes:
    return json.dumps({"data": {"did": "x", "ts": int(t), "conditions": [RECORD | more]}, "error": None}).encode()


def http(body: bytes, status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


class Device:
    """A web server that answers what it is told to. `asked`: paths, in order."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answer: Callable[[str, socket.socket], None] = self.usual
        self.real_time = http(b'{"data": {"broadcast_port": 22222, "duration": 3600}, "error": null}')
        self.clock = ReplayClock(time.time(), SPEED)
        self._server: socket.socket | None = None
        self.port = 0
        self.start()

    def start(self) -> None:
        self._server = socket.create_server(("127.0.0.1", self.port))
        self.port = self._server.getsockname()[1]
        threading.Thread(target=self._run, args=(self._server,), daemon=True).start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown(socket.SHUT_RDWR)
            self._server.close()
            self._server = None

    def usual(self, path: str, connection: socket.socket) -> None:
        connection.sendall(self.real_time if "real_time" in path else http(conditions(self.clock.now())))

    def _run(self, server: socket.socket) -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                path = connection.recv(4096).split(b" ")[1].decode()
                self.asked.append(path)
                self.answer(path, connection)


class Watched:
    """A source that asks a device, and what came of it."""

    def __init__(self, device: Device, **options: Any) -> None:
        self.readings: list[Reading] = []
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as found:
            found.bind(("0.0.0.0", 0))
            self.udp = int(found.getsockname()[1])
        host = f"127.0.0.1:{device.port}"
        raw = {"name": "roof", "driver": "weatherlink_live", "host": host, "options": {"poll_s": 10, **options}}
        sensor = msgspec.convert(raw, Sensor)
        intake = Intake(sensor, DRIVERS["weatherlink_live"].decoder(sensor), self._emit, device.clock, ["home"])
        self.source = PollSource(intake, LivePoll(sensor, self.udp), device.clock, Pauses(5.0, 20.0))
        self.source.start()

    def _emit(self, sensor: Sensor, reading: Reading, arrived: float) -> bool:
        self.readings.append(reading)
        return True

    def rejected(self, reason: str) -> int:
        return self.source.health().rejected.get(reason, 0)


@pytest.fixture
def device() -> Iterator[Device]:
    device = Device()
    yield device
    device.stop()


@pytest.fixture
def watch(device: Device) -> Iterator[Callable[..., Watched]]:
    opened: list[Watched] = []

    def begin(**options: Any) -> Watched:
        opened.append(Watched(device, **options))
        return opened[-1]

    yield begin
    for watched in opened:
        watched.source.stop()


def test_the_device_is_asked_again_and_again(device, watch):
    watched = watch()
    until(lambda: len(watched.readings) > 3, "readings")
    assert set(device.asked) == {"/v1/current_conditions"}
    assert watched.readings[0].values["temperature"] == pytest.approx(10.0)
    health = watched.source.health()
    assert health.state == "reading" and health.battery == {"tx1 transmitter": "ok"} and not health.detail


def test_rain_between_two_answers_is_the_difference_of_their_totals(device, watch):
    totals = iter(range(600, 10_000))
    device.answer = lambda path, c: c.sendall(http(conditions(device.clock.now(), rainfall_year=next(totals))))
    watched = watch()
    until(lambda: len(watched.readings) > 3, "readings")
    assert [r.values.get("rain") for r in watched.readings[:3]] == [None, pytest.approx(0.2), pytest.approx(0.2)]


def test_broadcasts_are_asked_for_and_taken_between_two_questions(device, watch):
    watched = watch(poll_s=3600, broadcast_s=1)
    until(lambda: len(watched.readings) == 1, "the first answer")
    until(lambda: any("real_time?duration=" in path for path in device.asked), "the question for a broadcast")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:

        def heard() -> bool:
            message = json.loads(conditions(device.clock.now()))["data"]
            sender.sendto(json.dumps(message).encode(), ("127.0.0.1", watched.udp))
            return len(watched.readings) > 3

        until(heard, "broadcasts")
    assert "wind_speed" not in watched.readings[-1].values  # one sample among ten-minute means


def test_a_broadcast_of_somebody_else_is_counted(device, watch):
    watched = watch(poll_s=3600, broadcast_s=1)
    until(lambda: any("real_time" in path for path in device.asked), "the question for a broadcast")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.bind(("127.0.0.2", 0))

        def heard() -> bool:
            sender.sendto(b"{}", ("127.0.0.1", watched.udp))
            return watched.rejected("not-allowed") > 0

        until(heard, "the refusal")


def test_without_a_broadcast_the_questions_go_on(device, watch):
    device.real_time = http(b"{}", "404 Not Found")
    watched = watch(broadcast_s=1)
    until(lambda: len(watched.readings) > 3 and watched.rejected("no-broadcast") > 1, "answers and refusals")
    assert watched.source.health().state == "reading"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (http(b"", "503 Busy"), "HTTP status 503"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "does not answer in HTTP"),
        (b"", "does not answer in HTTP"),
        (http(b"x" * 9000), "more than 8192 bytes"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 100_000, "more than 8192 bytes"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20_000, "does not answer in HTTP"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 200_000, "more than 8192 bytes"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "does not answer in HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort", "ends its answer early"),
    ],
)
def test_a_wrong_answer_is_told_and_the_device_asked_again(device, watch, answer, words):
    device.answer = lambda path, connection: connection.sendall(answer)
    watched = watch()
    until(lambda: watched.source.health().state == "waiting", "the problem")
    assert words in watched.source.health().detail and "Trying again" in watched.source.health().detail
    device.answer = device.usual
    until(lambda: watched.readings, "a reading")


def test_an_answer_that_is_an_error_is_counted(device, watch):
    device.answer = lambda path, c: c.sendall(http(b'{"data": null, "error": {"code": 409, "message": "no ISS"}}'))
    watched = watch()
    until(lambda: watched.rejected("device-error") > 1, "refusals")
    assert "device-error" in watched.source.health().detail


def test_a_device_that_goes_and_comes_back_is_asked_again(device, watch):
    watched = watch()
    until(lambda: watched.readings, "a reading")
    device.stop()
    until(lambda: watched.source.health().state == "waiting", "its absence")
    assert "refuses connections" in watched.source.health().detail
    before = len(watched.readings)
    device.start()
    until(lambda: len(watched.readings) > before, "its return")
    assert watched.source.health().reopened == 1


@pytest.mark.parametrize("start", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n"])
def test_an_answer_that_drips_ends_in_time(device, start):
    def drip(path: str, connection: socket.socket) -> None:
        connection.sendall(start)
        while True:
            connection.sendall(b"x")
            time.sleep(0.02)

    device.answer = drip
    with pytest.raises(SensorError, match="does not answer"):
        fetch("127.0.0.1", "/", 8192, 0.5, device.port)


@pytest.mark.parametrize(
    ("host", "parts"),
    [
        ("192.168.1.20", ("192.168.1.20", 80)), ("live.local", ("live.local", 80)), ("live:8080", ("live", 8080)),
        ("fd12::1", ("fd12::1", 80)), ("[fd12::1]:8080", ("fd12::1", 8080)), ("[fd12::1]", ("fd12::1", 80)),
    ],
)  # fmt: skip
def test_a_host_may_name_its_port(host, parts):
    assert split_host(host, 80) == parts


CONFIG = """
[station]
id = "home"
latitude = 47
longitude = 8
elevation_m = 408
[store]
path = "x.sqlite"
[[sensor]]
name = "roof"
driver = "weatherlink_live"
host = "127.0.0.1:%d"
[sensor.options]
poll_s = %d
"""


def test_the_agent_asks_it_from_its_configuration(device, tmp_path):
    came: list[Reading] = []

    def emit(sensor: Sensor, reading: Reading, arrived: float) -> bool:
        came.append(reading)
        return True

    (source,) = open_sources(parse(CONFIG % (device.port, 60), tmp_path / "agent.toml"), emit, device.clock)
    source.start()
    try:
        until(lambda: came, "a reading")
    finally:
        source.stop()


def test_an_interval_too_short_is_told_before_anything_starts(device, tmp_path):
    config = parse(CONFIG % (device.port, 1), tmp_path / "agent.toml")
    with pytest.raises(ConfigError, match="poll_s"):
        open_sources(config, lambda *_: True, device.clock)
