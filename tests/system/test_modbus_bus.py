"""Modbus lines against real devices: pymodbus servers on TCP and on a cable, with all that happens to a bus."""

from __future__ import annotations

import socketserver
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from edge_agent.clock import SystemClock
from edge_agent.config import Config, Sensor
from edge_agent.errors import ConfigError, SensorError
from edge_agent.observation import Reading
from edge_agent.sensors import open_sources, probe
from edge_agent.sensors.modbus import Modbus, line_of
from edge_agent.sensors.modbus_bus import Bus, Limits, ModbusSource
from edge_agent.sensors.modbus_frames import crc
from edge_agent.sensors.source import Intake
from edge_agent.sensors.supervisor import Pauses
from tests.modbus_devices import Cable, Server, device

pytestmark = pytest.mark.system

QUICK = Limits(pauses=Pauses(0.05, 0.2), gap=0.005, look=0.05, seldom=0.2)
RENKE = (500, [52, 3, 2, 90, 553, 65291, 451, 12, 30, 1013, 0, 5000, 50, 127])  # -24.5 degC, 5.2 m/s at a tenth
WIND = (0, [87])
STATION = {"id": "home", "latitude": 47, "longitude": 8, "elevation_m": 400}


def until(condition: Callable[[], object], what: str, timeout_s: float = 20.0) -> None:
    """Wait for something that happens in another thread."""
    for _ in range(int(timeout_s / 0.01)):
        if condition():
            return
        time.sleep(0.01)
    pytest.fail(f"waited in vain for: {what}")


def sensor_on(port: object, name: str = "roof", map: str = "renke", **options: object) -> Sensor:
    own = {"map": map, "interval_s": 0.1, "timeout_s": 0.3, **options}
    return msgspec.convert({"name": name, "driver": "modbus", "port": str(port), "baud": 9600, "options": own}, Sensor)


class Bench:
    """A line with its sensors, and what came of them."""

    def __init__(self, *sensors: Sensor, limits: Limits = QUICK) -> None:
        self.readings: dict[str, list[Reading]] = {sensor.name: [] for sensor in sensors}
        clock = SystemClock()
        bus = Bus(line_of(sensors[0]), clock, limits)
        intakes = [Intake(sensor, Modbus(sensor), self._emit, clock, ["home"]) for sensor in sensors]
        self.sources = {intake.sensor.name: ModbusSource(intake, bus, clock) for intake in intakes}

    def _emit(self, sensor: Sensor, reading: Reading, arrived: float) -> bool:
        self.readings[sensor.name].append(reading)
        return True

    def start(self) -> Bench:
        for source in self.sources.values():
            source.start()
        return self

    def stop(self) -> None:
        for source in self.sources.values():
            source.stop()

    def more(self, name: str = "roof", n: int = 2) -> None:
        """Wait for so many further readings."""
        seen = len(self.readings[name])
        until(lambda: len(self.readings[name]) >= seen + n, f"{n} more readings of {name}")

    def rejected(self, name: str = "roof") -> dict[str, int]:
        return self.sources[name].health().rejected


@pytest.fixture
def bench() -> Iterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def make(*sensors: Sensor, limits: Limits = QUICK) -> Bench:
        made.append(Bench(*sensors, limits=limits))
        return made[-1].start()

    yield make
    for one in made:
        one.stop()
        assert {source.health().state for source in one.sources.values()} == {"stopped"}


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def make(*devices: object, **more: object) -> Server:
        servers.append(Server(list(devices), **more))
        return servers[-1]

    yield make
    for server in servers:
        server.close()


@pytest.fixture
def cable(tmp_path: Path) -> Iterator[Cable]:
    cable = Cable(tmp_path / "usb-rs485")
    yield cable
    cable.close()


def renke_came(bench: Bench) -> bool:
    return (
        bool(bench.readings["roof"])
        and dict(bench.readings["roof"][-1].values).items()
        >= {
            "temperature": -24.5,
            "humidity": 55.3,
            "pressure": 1013.0,
            "wind_speed": 5.2,
            "wind_direction": 90.0,
            "pm2_5": 12.0,
        }.items()
    )


@pytest.mark.parametrize("rtu", [False, True])
def test_a_device_behind_the_network_is_read_in_either_framing(bench, serve, rtu):
    server = serve(device(1, RENKE), rtu=rtu)
    one = bench(sensor_on(server.address, **({"tcp": False} if rtu else {})))
    one.more(n=3)
    assert renke_came(one)
    assert one.readings["roof"][-1].values["rain"] == 0.0  # a running total that stands still
    assert one.rejected() == {"first-total": 1}


def test_two_devices_on_one_cable_share_one_master(bench, serve, cable):
    serve(device(1, RENKE), device(2, WIND), port=cable.device)
    both = bench(sensor_on(cable.path), sensor_on(cable.path, "mast", "sen0483"))
    both.more("roof")
    both.more("mast")
    assert renke_came(both)
    assert both.readings["mast"][-1].values == {"wind_speed": 8.7}
    both.sources["mast"].stop()
    both.more("roof")
    assert both.sources["mast"].health().state == "stopped"
    assert both.sources["roof"].health().state == "reading"


def test_the_agents_door_gives_a_shared_line_one_master(serve, cable):
    serve(device(1, RENKE), device(2, WIND), port=cable.device)
    sensors = [sensor_on(cable.path), sensor_on(cable.path, "mast", "sen0483")]
    config = msgspec.convert(
        {"station": STATION, "store": {"path": "unused"}, "sensor": [msgspec.to_builtins(s) for s in sensors]}, Config
    )
    names: list[str] = []
    sources = open_sources(config, lambda sensor, *_: names.append(sensor.name) or True, SystemClock())
    for source in sources:
        source.start()
    until(lambda: set(names) == {"roof", "mast"}, "readings of both")
    for source in sources:
        source.stop()


def test_a_silent_device_is_told_and_holds_up_nobody(bench, serve, cable):
    serve(device(1, RENKE), port=cable.device)
    both = bench(sensor_on(cable.path), sensor_on(cable.path, "mast", "sen0483", unit=9))
    until(lambda: both.rejected("mast").get("no-answer", 0) >= 2, "the silence being counted")
    both.more("roof", 5)
    health = both.sources["mast"].health()
    assert health.state == "reading" and "unit 9 did not answer" in health.detail and "powered" in health.detail
    assert both.sources["roof"].health().detail == ""


def test_where_nobody_answers_the_line_is_opened_anew(bench, serve, cable):
    server = serve(device(1, RENKE), port=cable.device)
    one = bench(sensor_on(cable.path, unit=9, timeout_s=0.05))
    until(lambda: one.sources["roof"].health().state == "waiting", "giving the line up")
    assert "no device answers" in one.sources["roof"].health().detail
    until(lambda: one.sources["roof"].health().reopened >= 1, "opening it again")
    server.close()


def test_a_refusal_names_the_map(bench, serve):
    server = serve(device(1, (0, [1])))
    one = bench(sensor_on(server.address))
    until(lambda: one.rejected().get("modbus-exception", 0) >= 2, "refusals")
    assert "no such registers" in one.sources["roof"].complaint and "map" in one.sources["roof"].health().detail
    assert not one.readings["roof"]


def words(*values: int) -> list[int]:
    return [half for value in values for half in (value >> 16 & 0xFFFF, value & 0xFFFF)]


def test_registers_that_only_some_models_have_are_asked_for_once(bench, serve):
    air = words(28_800, 38_160, 101_160_000, 0, 0, 360_000, 248_000, 0, 1_212, 528, 12_400, 60, 0, 0, 27_260, 0)
    s700, s900 = serve(device(20, (0, air))), serve(device(20, (0, air), (0x30, words(37_000, 42_000))))
    without = bench(sensor_on(s700.address, map="sensecap_one", unit=20))
    without.more(n=4)
    assert without.rejected() == {"first-total": 1}
    expected = {"temperature": 28.8, "humidity": 38.16, "pressure": 1011.6, "wind_direction": 248.0}
    assert dict(without.readings["roof"][-1].values).items() >= expected.items()
    both = bench(sensor_on(s900.address, map="sensecap_one", unit=20))
    both.more()
    assert dict(both.readings["roof"][-1].values).items() >= {**expected, "pm2_5": 37.0, "pm10": 42.0}.items()


def test_noise_before_answers_and_in_their_place(bench, serve, cable):
    serve(device(1, RENKE), port=cable.device)
    one = bench(sensor_on(cable.path))
    one.more()
    cable.answers = lambda data: b"\xff\x00\x55" + data
    one.more()
    cable.answers = lambda data: bytes(byte ^ 0x10 for byte in data)
    until(lambda: one.rejected().get("noise", 0) >= 2, "noise being counted")
    cable.answers = lambda data: data
    one.more()
    assert renke_came(one)


def test_an_answer_of_another_unit_is_no_answer(bench, serve, cable):
    def forge(data: bytes) -> bytes:
        return b"\x07" + data[1:-2] + crc(b"\x07" + data[1:-2])

    serve(device(1, RENKE), port=cable.device)
    cable.answers = forge
    one = bench(sensor_on(cable.path))
    until(lambda: one.rejected().get("noise", 0) >= 1, "the stranger's answer being counted")
    assert not one.readings["roof"]
    cable.answers = lambda data: data
    one.more()


def test_half_answers_are_asked_for_again(bench, serve, cable):
    broken = iter([True, False] * 1000)
    serve(device(1, RENKE), port=cable.device)
    cable.answers = lambda data: data[:9] if next(broken) else data
    one = bench(sensor_on(cable.path))
    one.more(n=3)
    assert renke_came(one)


def test_a_flood_of_noise_takes_no_memory(bench, serve, cable):
    serve(device(1, RENKE), port=cable.device)
    one = bench(sensor_on(cable.path))
    one.more()
    tracemalloc.start()
    noise = bytes(range(256)) * 4
    for _ in range(100):
        cable.prints(noise)
    one.more()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3_000_000


def test_unplugged_and_plugged_in_again_it_goes_on(bench, serve, cable):
    serve(device(1, RENKE), device(2, WIND), port=cable.device)
    both = bench(sensor_on(cable.path), sensor_on(cable.path, "mast", "sen0483"))
    both.more("mast")
    cable.unplug()
    for name in ("roof", "mast"):
        until(lambda n=name: "is not there" in both.sources[n].health().detail, "saying that it is gone")
    assert both.sources["roof"].health().state == "waiting"
    cable.plug()
    both.more("roof")
    both.more("mast")
    assert both.sources["roof"].health().reopened >= 1


@pytest.mark.parametrize("by", ["cable", "network"])
def test_a_thread_that_hangs_leaves_its_line_to_the_next_one(bench, serve, cable, monkeypatch, by):
    """It would hold the lock of its port for as long as it hangs."""
    served = serve(device(1, RENKE)) if by == "network" else serve(device(1, RENKE), port=cable.device)
    held, go_on, decode = [], threading.Event(), Modbus.decode

    def hang_once(self, payload, *rest):
        if not held:
            held.append(threading.current_thread())
            go_on.wait(30)
        return decode(self, payload, *rest)

    monkeypatch.setattr(Modbus, "decode", hang_once)
    one = bench(sensor_on(served.address or cable.path), limits=replace(QUICK, hung=0.5))
    try:
        until(lambda: one.sources["roof"].health().stuck == 1, "the thread to be left behind")
        one.more()
        assert one.sources["roof"].health().state == "reading" and held[0].is_alive()
    finally:
        go_on.set()
    held[0].join(10)
    assert not held[0].is_alive()
    one.more()


def test_a_server_that_goes_away_and_comes_back(bench, serve):
    server = serve(device(1, RENKE))
    one = bench(sensor_on(server.address))
    one.more()
    server.close()
    until(lambda: one.sources["roof"].health().state == "waiting", "noticing it")
    until(lambda: "cannot be reached" in one.sources["roof"].health().detail, "saying so")


@pytest.mark.parametrize("options", [{}, {"tcp": False}])
def test_a_server_that_talks_nonsense_is_counted_and_nothing_else_happens(bench, options):
    said = [
        bytes(range(256)) * 20,
        b"",
        b"\0" * 7,
        b"\0\1\0\0\0\x03\x01\x83",
        b"\0\1\0\0\xff\xff\1\3",
        b"\1\x83",
        b"\1\3\x1c",
    ]

    class Nonsense(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            for words in said * 3:
                if not self.request.recv(64):
                    return
                self.request.sendall(words)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Nonsense) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        one = bench(sensor_on(f"tcp://127.0.0.1:{server.server_address[1]}", timeout_s=0.05, **options))
        until(lambda: one.rejected().get("noise", 0) >= 5 and one.rejected().get("no-answer", 0) >= 2, "refusals")
        assert set(one.rejected()) <= {"noise", "no-answer", "modbus-exception"}
        assert not one.readings["roof"]
        one.stop()
        server.shutdown()
        thread.join()


def test_probing_a_device_says_what_came_or_what_to_do(serve):
    config = msgspec.convert({"station": STATION, "store": {"path": "unused"}}, Config)
    server = serve(device(1, RENKE))
    assert "temperature -24.50 degC" in probe(sensor_on(server.address), config, 10)
    with pytest.raises(SensorError, match="unit 9 did not answer"):
        probe(sensor_on(server.address, unit=9), config, 10)


def test_one_line_has_one_setting_and_one_sensor_a_unit():
    with pytest.raises(ConfigError, match="one setting"):
        Bench(sensor_on("tcp://127.0.0.1:5020"), sensor_on("tcp://127.0.0.1:5020", "b", unit=2, timeout_s=5))
    with pytest.raises(ConfigError, match="unit 1 is already"):
        Bench(sensor_on("tcp://127.0.0.1:5020"), sensor_on("tcp://127.0.0.1:5020", "b"))
    with pytest.raises(ConfigError, match="write tcp://"):
        Bench(sensor_on("tcp://:x"))


def test_without_pymodbus_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pymodbus", None)
    with pytest.raises(ConfigError, match=r"stationcast\[modbus\]"):
        Bench(sensor_on("tcp://127.0.0.1:5020"))


def test_a_quiet_bus_costs_next_to_nothing(bench, serve, cable):
    """No busy loop: processor time of the process, not wall-clock time."""
    serve(device(1, RENKE), port=cable.device)
    one = bench(sensor_on(cable.path, interval_s=60.0))
    until(lambda: one.readings["roof"], "the first reading")
    before = time.process_time()
    time.sleep(1.0)
    assert time.process_time() - before < 0.3
