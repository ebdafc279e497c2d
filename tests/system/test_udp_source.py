"""Hubs that broadcast over real sockets: theirs, a neighbour's, twice, in floods; and a port that another has."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from edge_agent.clock import SystemClock
from edge_agent.config import Sensor
from edge_agent.errors import ConfigError
from edge_agent.observation import Reading
from edge_agent.sensors import DRIVERS
from edge_agent.sensors.listen import Listener, Listeners, ListeningSource
from edge_agent.sensors.source import Intake
from edge_agent.sensors.supervisor import Pauses
from edge_agent.sensors.udp import Limits, serve, udp_source

pytestmark = pytest.mark.system

NOW = int(time.time())


def until(condition: Callable[[], object], what: str, timeout_s: float = 20.0) -> None:
    """Wait for something that happens in another thread."""
    for _ in range(int(timeout_s / 0.01)):
        if condition():
            return
        time.sleep(0.01)
    pytest.fail(f"waited in vain for: {what}")


def rapid(i: int, serial: str = "ST-00000512") -> bytes:
    return json.dumps({"serial_number": serial, "type": "rapid_wind", "ob": [NOW + i, 2.3, 128]}).encode()


class Air:
    """Sensors at one UDP address, what came of them, and who sends."""

    def __init__(self) -> None:
        self.clock = SystemClock()
        self.sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as found:
            found.bind(("127.0.0.1", 0))
            self.port = int(found.getsockname()[1])
        address = f"127.0.0.1:{self.port}"
        self.readings: dict[str, list[Reading]] = {}
        self.sources: dict[str, ListeningSource] = {}
        self.listeners = Listeners(self.clock)
        quick = Listener(address, lambda own: serve(own, Limits(wait_s=0.05)), self.clock, Pauses(0.05, 0.2))
        self.listeners._found[address, serve] = quick

    def add(self, name: str, **more: Any) -> ListeningSource:
        listen = {"listen": f"127.0.0.1:{self.port}", **more}
        sensor = msgspec.convert({"name": name, "driver": "tempest", **listen}, Sensor)
        intake = Intake(sensor, DRIVERS["tempest"].decoder(sensor), self._emit, self.clock, ["home"])
        self.sources[name] = udp_source(intake, self.listeners, self.clock)
        return self.sources[name]

    def _emit(self, sensor: Sensor, reading: Reading, arrived: float) -> bool:
        self.readings.setdefault(sensor.name, []).append(reading)
        return True

    def open(self) -> None:
        for source in self.sources.values():
            source.start()
        until(lambda: all(s.health().state == "reading" for s in self.sources.values()), "the listener")

    def say(self, payload: bytes) -> None:
        self.sender.sendto(payload, ("127.0.0.1", self.port))

    def count(self, name: str) -> int:
        return len(self.readings.get(name, []))

    def rejected(self, name: str, reason: str) -> int:
        return self.sources[name].health().rejected.get(reason, 0)


@pytest.fixture
def air() -> Iterator[Air]:
    air = Air()
    yield air
    air.sender.close()
    for source in air.sources.values():
        source.stop()


def test_a_broadcast_becomes_a_reading_of_its_device(air):
    air.add("roof")
    air.open()
    air.say(rapid(0))
    until(lambda: air.count("roof") == 1, "the reading")
    assert air.readings["roof"][0].device == "ST-00000512" and air.readings["roof"][0].t == NOW


def test_every_sensor_at_the_address_hears_it_and_takes_its_own(air):
    air.add("mine", options={"serial": "ST-00000512"})
    air.add("yours", options={"serial": "ST-00000513"})
    air.open()
    air.say(rapid(0))
    air.say(rapid(0, "ST-00000513"))
    until(lambda: air.count("mine") == 1 and air.count("yours") == 1, "both readings")
    assert air.rejected("mine", "other-device") == 1


def test_a_message_that_two_networks_carry_is_one_reading(air):
    air.add("roof")
    air.open()
    for i in range(5):
        air.say(rapid(i))
        air.say(rapid(i))
    until(lambda: air.rejected("roof", "duplicate") == 5, "the second ones")
    assert air.count("roof") == 5


def test_a_sender_who_is_not_allowed_is_counted(air):
    air.add("roof", allow=["192.0.2.0/24"])
    air.open()
    air.say(rapid(0))
    until(lambda: air.rejected("roof", "not-allowed") == 1, "the refusal")
    assert not air.count("roof")


def test_a_datagram_larger_than_the_bound_is_not_read(air):
    air.add("roof")
    air.open()
    air.say(b"x" * 60_000)
    air.say(rapid(0))
    until(lambda: air.count("roof") == 1, "the next one")
    assert air.rejected("roof", "too-large") == 1


def test_a_flood_and_noise_are_counted_and_the_next_message_read(air):
    air.add("roof", max_messages_s=10_000)
    air.open()
    stop = threading.Event()

    def flood() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            while not stop.is_set():
                other.sendto(bytes(range(256)) * 4, ("127.0.0.1", air.port))

    thread = threading.Thread(target=flood)
    thread.start()
    try:
        until(lambda: air.rejected("roof", "not-json") > 500, "noise being counted")
    finally:
        stop.set()
        thread.join()

    def heard() -> bool:  # the flood may still fill the socket's buffer
        air.say(rapid(0))
        return air.count("roof") > 0

    until(heard, "a reading after the flood")


def test_a_flood_of_messages_is_bounded_by_the_sensors_rate(air):
    air.add("roof", max_messages_s=0.5)  # thirty at once
    air.open()
    for i in range(200):
        air.say(rapid(i))
        time.sleep(0.001)
    until(lambda: air.count("roof") + air.rejected("roof", "too-fast") == 200, "all being accounted for")
    assert air.count("roof") < 40


def test_a_port_that_another_program_has_is_told_and_tried_again(air):
    air.add("roof")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", air.port))
        air.sources["roof"].start()
        until(lambda: air.sources["roof"].health().state == "waiting", "the collision")
        assert "already taken by another program" in air.sources["roof"].health().detail
    until(lambda: air.sources["roof"].health().state == "reading", "the port")
    air.say(rapid(0))
    until(lambda: air.count("roof") == 1, "the reading")


@pytest.mark.parametrize("listen", [None, "127.0.0.1:70000"])
def test_an_address_that_cannot_be_is_an_error_of_the_configuration(air, listen):
    with pytest.raises(ConfigError, match="listen"):
        air.add("roof", listen=listen)
