"""Serial sensors on real pseudo-terminals: unplugged, noisy, silent, taken by others. Nothing of it stops a reading."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
import serial

from edge_agent.clock import SystemClock
from edge_agent.config import Config, Sensor
from edge_agent.errors import SensorError
from edge_agent.observation import Reading
from edge_agent.sensors import DRIVERS, open_sources, probe
from edge_agent.sensors.serial import Limits, SerialSource
from edge_agent.sensors.source import Intake
from edge_agent.sensors.supervisor import Pauses
from tests.board import Board

pytestmark = pytest.mark.system

QUICK = Limits(pauses=Pauses(0.05, 0.2), read=0.05, half_line=0.3)


def until(condition: Callable[[], object], what: str, timeout_s: float = 20.0) -> None:
    """Wait for something that happens in another thread."""
    for _ in range(int(timeout_s / 0.01)):
        if condition():
            return
        time.sleep(0.01)
    pytest.fail(f"waited in vain for: {what}")


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Board]:
    board = Board(tmp_path / "usb-board")
    board.plug()
    yield board
    board.unplug()


class Watched:
    """A source and what came of it."""

    def __init__(self, sensor: Sensor, limits: Limits = QUICK) -> None:
        self.readings: list[Reading] = []
        clock = SystemClock()
        intake = Intake(sensor, DRIVERS[sensor.driver].decoder(sensor), self._emit, clock, ["home"])
        self.source = SerialSource(intake, clock, limits)

    def _emit(self, sensor: Sensor, reading: Reading, arrived: float) -> bool:
        self.readings.append(reading)
        return True

    def has(self, *temperatures: float) -> bool:
        return [r.values["temperature"] for r in self.readings] == list(temperatures)

    def rejected(self, reason: str) -> int:
        return self.source.health().rejected.get(reason, 0)


def sensor_on(path: Path, driver: str = "json_lines", key: str = "t", **more: object) -> Sensor:
    fields = {key: {"variable": "temperature", "unit": "degC"}}
    return msgspec.convert({"name": "roof", "driver": driver, "port": str(path), "map": fields, **more}, Sensor)


@pytest.fixture
def watch() -> Iterator[Callable[..., Watched]]:
    """Starts a source and waits until it reads (or waits, with `state`)."""
    running: list[Watched] = []

    def start(sensor: Sensor, state: str = "reading", limits: Limits = QUICK) -> Watched:
        watched = Watched(sensor, limits)
        running.append(watched)
        watched.source.start()
        until(lambda: watched.source.health().state == state, state)
        return watched

    yield start
    for watched in running:
        watched.source.stop()
        assert watched.source.health().state == "stopped"


def test_lines_become_readings_with_any_line_end(board, watch):
    watched = watch(sensor_on(board.path))
    board.prints(b'{"t": 1}\n{"t": 2}\r\n\r\n# note\r\n{"t"')
    board.prints(b': 3}\r{"t": 4}\n\r')
    until(lambda: watched.has(1, 2, 3, 4), "four readings")
    health = watched.source.health()
    assert (health.accepted, health.rejected, health.reopened) == (4, {}, 0)


def test_unplugged_and_plugged_in_again_it_goes_on(board, watch):
    watched = watch(sensor_on(board.path))
    board.prints(b'{"t": 1}\n')
    until(lambda: watched.has(1), "the first reading")
    for round_ in (1, 2):
        board.unplug()
        until(lambda: watched.source.health().state == "waiting", "noticing that it is gone")
        until(lambda: "is not there" in watched.source.health().detail, "saying so")
        assert "Trying again in" in watched.source.health().detail
        board.plug()
        until(lambda: watched.source.health().state == "reading", "reading again")
        board.prints(b'{"t": 2}\n')
        until(lambda n=round_: len(watched.readings) == 1 + n, "a reading after it")
        assert watched.source.health().reopened == round_


def test_a_port_that_comes_later_is_waited_for_without_haste(tmp_path, watch):
    board = Board(tmp_path / "usb-board")
    watched = watch(sensor_on(board.path), state="waiting", limits=Limits(pauses=Pauses(0.1, 60.0)))
    assert "Plug the sensor in" in watched.source.health().detail
    board.plug()
    until(lambda: watched.source.health().state == "reading", "reading")
    board.unplug()


def test_half_a_line_before_unplugging_does_not_spoil_the_next(board, watch):
    watched = watch(sensor_on(board.path))
    board.prints(b'{"t": 1')
    until(lambda: watched.source.health().state == "reading", "reading")
    time.sleep(0.1)
    board.unplug()
    until(lambda: watched.source.health().state == "waiting", "noticing that it is gone")
    board.plug()
    until(lambda: watched.source.health().state == "reading", "reading again")
    board.prints(b'{"t": 2}\n')
    until(lambda: watched.has(2), "the whole line only")


def test_half_a_line_and_then_silence_is_counted_and_forgotten(board, watch):
    watched = watch(sensor_on(board.path))
    board.prints(b'{"t": 1')
    until(lambda: watched.rejected("cut-line") == 1, "the half line being given up")
    board.prints(b'{"t": 2}\n')
    until(lambda: watched.has(2), "the next line")


def test_a_line_that_was_cut_at_opening_is_not_read_as_csv(board, watch):
    stop = threading.Event()

    def chatter() -> None:
        while not stop.is_set():
            board.prints(b"21.5,60\n")
            time.sleep(0.002)

    thread = threading.Thread(target=chatter)
    thread.start()
    try:
        watched = watch(sensor_on(board.path, "csv_lines", "1"))
        until(lambda: len(watched.readings) > 3, "readings")
    finally:
        stop.set()
        thread.join()
    assert watched.rejected("cut-line") == 1
    assert {r.values["temperature"] for r in watched.readings} == {21.5}


def test_a_line_of_a_million_characters_is_counted_once_and_takes_no_memory(board, watch):
    watched = watch(sensor_on(board.path))
    board.prints(b'{"t": 1}\n')
    until(lambda: watched.has(1), "the first reading")
    tracemalloc.start()
    for _ in range(1000):
        board.prints(b"x" * 1000)
    board.prints(b'\n{"t": 2}\n')
    until(lambda: watched.has(1, 2), "the line after it")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert watched.source.health().rejected == {"too-large": 1}
    assert peak < 300_000


def test_binary_noise_is_counted_and_the_next_line_read(board, watch):
    watched = watch(sensor_on(board.path))
    noise = bytes(range(256)) * 40
    board.prints(noise + b'\n{"t": 1}\n')
    until(lambda: watched.has(1), "the line after the noise")
    assert watched.rejected("not-json") > 0
    assert set(watched.source.health().rejected) <= {"not-json", "too-large", "not-object"}


def test_chatter_and_wrong_baud_leave_a_hint(board, watch):
    watched = watch(sensor_on(board.path))
    board.prints(b"Booting...\nWiFi ok\n")
    until(lambda: watched.rejected("not-json") == 2, "two refusals")
    assert "9600 baud right" in watched.source.health().detail


def test_a_port_held_by_another_program_is_named(board, watch):
    script = "import fcntl,os,sys,time; fd=os.open(sys.argv[1], os.O_RDWR|os.O_NOCTTY); "
    script += "fcntl.flock(fd, fcntl.LOCK_EX); print('held', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", script, str(board.path)], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdout.readline() == b"held\n"
        watched = watch(sensor_on(board.path), state="waiting")
        detail = watched.source.health().detail
        other.kill()
    assert f"held by another program (pid {other.pid}, python" in detail and "Stop it" in detail
    until(lambda: watched.source.health().state == "reading", "reading once it is free")


def test_stopping_does_not_wait_for_a_silent_sensor(board, watch):
    patient = msgspec.structs.replace(sensor_on(board.path), name="silent")
    watched = watch(patient, limits=Limits(read=3600.0))
    watched.source.stop()
    assert not any(thread.name == "sensor silent" and thread.is_alive() for thread in threading.enumerate())


def test_what_is_no_serial_port_is_said_and_tried_again(tmp_path, watch):
    path = tmp_path / "file"
    path.write_text("no port")
    assert "Is it a serial port?" in watch(sensor_on(path), state="waiting").source.health().detail
    assert "cannot be opened" in watch(sensor_on(tmp_path), state="waiting").source.health().detail


def test_a_port_without_permission_says_how_to_get_it(board, watch, monkeypatch):
    def refuse(*args, **kwargs):  # root, who may run this test, may open every port
        raise serial.SerialException(errno.EACCES, "could not open port")

    monkeypatch.setattr(serial, "Serial", refuse)
    assert "usermod -aG" in watch(sensor_on(board.path), state="waiting").source.health().detail


def test_an_idle_and_a_missing_sensor_cost_next_to_nothing(board, tmp_path, watch):
    """No busy loop: processor time of the process, not wall-clock time."""
    board.prints(b"half a line")
    watch(sensor_on(board.path), limits=Limits())
    watch(sensor_on(tmp_path / "missing"), state="waiting", limits=Limits())
    before = time.process_time()
    time.sleep(1.0)
    assert time.process_time() - before < 0.2


def test_the_agents_door_opens_one_source_a_sensor_and_neighbours_do_not_wait(board, tmp_path):
    readings: list[tuple[str, float]] = []
    config = msgspec.convert(
        {
            "station": {"id": "home", "latitude": 47, "longitude": 8, "elevation_m": 400},
            "store": {"path": "unused"},
            "sensor": [
                msgspec.to_builtins(sensor_on(tmp_path / "missing")) | {"name": "missing"},
                msgspec.to_builtins(sensor_on(board.path)),
            ],
        },
        Config,
    )
    clock = SystemClock()

    def emit(sensor: Sensor, reading: Reading, arrived: float) -> bool:
        assert abs(arrived - clock.now()) < 60
        readings.append((sensor.name, reading.values["temperature"]))
        return len(readings) < 2  # the queue is full at the second

    missing, roof = sources = open_sources(config, emit, clock)
    assert [source.name for source in sources] == ["missing", "roof"]
    assert {source.health().state for source in sources} == {"stopped"}
    for source in sources:
        source.start()
    until(lambda: roof.health().state == "reading", "reading")
    board.prints(b'{"t": 1}\n{"t": 2}\n')
    until(lambda: len(readings) == 2, "two readings")
    until(lambda: roof.health().rejected == {"queue-full": 1}, "the full queue being counted")
    assert missing.health().state == "waiting"
    for source in sources:
        source.stop()
    os.close(os.open(board.path, os.O_RDWR | os.O_NOCTTY))
    descriptor = os.open(board.path, os.O_RDWR | os.O_NOCTTY)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the port is free again
    os.close(descriptor)


@pytest.fixture
def config() -> Config:
    station = {"id": "home", "latitude": 47, "longitude": 8, "elevation_m": 400}
    return msgspec.convert({"station": station, "store": {"path": "unused"}}, Config)


def test_probing_says_what_came(board, config):
    talker = threading.Timer(0.3, lambda: board.prints(b'noise\n{"t": 21.5}\n'))
    talker.start()
    assert probe(sensor_on(board.path), config, 10).startswith("temperature 21.50 degC (json_lines on ")
    talker.join()


def test_probing_says_what_to_do(board, tmp_path, config):
    with pytest.raises(SensorError, match="Plug the sensor in"):
        probe(sensor_on(tmp_path / "missing"), config, 10)
    with pytest.raises(SensorError, match="9600 baud right"):
        probe(sensor_on(board.path), config, 0.2)
    stop = threading.Event()

    def chatter() -> None:
        while not stop.wait(0.05):
            board.prints(b"noise\n")

    talker = threading.Thread(target=chatter)
    talker.start()
    with pytest.raises(SensorError, match=r"x not-json\. The last: not-json"):
        probe(sensor_on(board.path), config, 1.0)
    stop.set()
    talker.join()
