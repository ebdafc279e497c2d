"""A device that never answers a system call: its thread is left behind, another takes its place, the rest goes on."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from edge_agent.clock import Clock, SystemClock
from edge_agent.config import Sensor
from edge_agent.observation import Reading
from edge_agent.sensors import DRIVERS, http, supervisor, udp
from edge_agent.sensors.listen import Listener, Listeners
from edge_agent.sensors.serial import Limits, SerialSource
from edge_agent.sensors.source import Health, Intake
from edge_agent.sensors.supervisor import MAX_HUNG, Pauses, Supervisor
from tests.agents import until
from tests.board import Console

HUNG_S = 0.3
QUICK = Pauses(0.02, 0.05)
LINE = 9  # bytes, read in one call: of several readers each gets whole ones


class Pipe:
    """A device, as a driver of its own would read it. It is a FIFO, a new one each time it is plugged in: opening it
    takes until somebody opens its other end, and nothing but that ends it."""

    def __init__(self, folder: Path, make_sensor) -> None:
        self._folder, self._fifos = folder, [self._made(folder, 1)]
        self.read: list[float] = []
        self.opened: list[threading.Thread] = []
        sensor = make_sensor("json_lines", {"t": ("temperature", "degC")}, name="pipe")
        clock = SystemClock()
        self.intake = Intake(sensor, DRIVERS["json_lines"].decoder(sensor), self._emit, clock, ["home"])
        self.supervisor = Supervisor("pipe", self._work, clock, self._bug, QUICK, hung_s=HUNG_S)
        self._other_ends: list[int] = []

    def _emit(self, sensor: Sensor, reading: Reading, arrived: float) -> bool:
        self.read.append(reading.values["temperature"])
        return True

    def _bug(self, error: Exception) -> None:
        self.intake.refuse("internal-error", str(error))

    def _work(self) -> None:
        self.opened.append(threading.current_thread())
        with self._fifos[-1].open("rb", buffering=0) as device:
            self.supervisor.opened()
            while not (line := device.read(LINE)):
                if self.supervisor.stopping.wait(0.01):
                    return
            self.intake.message(line)
            self.supervisor.stopping.wait()

    def replug(self) -> None:
        """The next thread finds another FIFO."""
        self._fifos.append(self._made(self._folder, len(self._fifos) + 1))

    @staticmethod
    def _made(folder: Path, number: int) -> Path:
        fifo = folder / f"fifo-{number}"
        os.mkfifo(fifo)
        return fifo

    def answers(self, number: int, line: bytes) -> None:
        """Somebody opens the other end of a FIFO: who waits for it goes on."""
        self._other_ends.append(os.open(self._fifos[number - 1], os.O_RDWR | os.O_NONBLOCK))
        os.write(self._other_ends[-1], line)

    def is_(self, name: str, stuck: int) -> bool:
        state = self.supervisor.state()
        return (state.name, state.stuck) == (name, stuck)

    def end(self) -> None:
        self.supervisor.stop()
        for number in range(len(self._fifos)):
            self.answers(number + 1, b"\n" * LINE * 10)
        for thread in self.opened:
            thread.join(10)
        for end in self._other_ends:
            os.close(end)


@pytest.fixture
def pipe(tmp_path: Path, make_sensor) -> Iterator[Pipe]:
    pipe = Pipe(tmp_path, make_sensor)
    yield pipe
    pipe.end()


def test_a_thread_that_hangs_in_open_is_replaced_and_what_it_brings_later_does_not_count(pipe):
    pipe.supervisor.start()
    until(lambda: pipe.opened and pipe.is_("opening", stuck=0), "the first thread to open it")
    time.sleep(HUNG_S / 3)  # it stands in open(2)
    pipe.replug()
    pipe.answers(2, b'{"t": 2}\n')
    until(lambda: pipe.is_("reading", stuck=1), "another thread to read")
    until(lambda: pipe.read == [2], "its reading")
    pipe.answers(1, b'{"t": 1}\n')
    pipe.opened[0].join(10)
    assert not pipe.opened[0].is_alive(), "it ends where it can"
    assert pipe.read == [2] and len(pipe.opened) == 2
    health = pipe.intake.health("reading", "", 0)
    assert (health.accepted, health.rejected) == (1, {"left-behind": 1})
    assert pipe.is_("reading", stuck=1) and pipe.supervisor.state().reopened == 0


def test_a_device_holds_no_more_than_a_few_threads_and_is_taken_up_again_when_it_lets_one_go(pipe):
    pipe.supervisor.start()
    until(lambda: pipe.is_("hung", stuck=MAX_HUNG), "all it may have")
    assert "Unplug the device" in pipe.supervisor.state().problem
    for _ in range(20):
        assert pipe.is_("hung", stuck=MAX_HUNG)
    assert len(pipe.opened) == MAX_HUNG and all(thread.is_alive() for thread in pipe.opened)
    pipe.answers(1, b'{"t": 1}\n' * 10)
    until(lambda: pipe.is_("reading", stuck=MAX_HUNG), "a new thread")
    until(lambda: pipe.read == [1], "its reading")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_died_is_replaced_at_once():
    """Of what no thread survives: here, a fault in what is told of faults."""
    began: list[threading.Thread] = []

    def work() -> None:
        began.append(threading.current_thread())
        if len(began) == 1:
            raise ZeroDivisionError
        one.opened()
        one.stopping.wait()

    def bug(error: Exception) -> None:
        raise error

    one = Supervisor("fragile", work, SystemClock(), bug, QUICK)
    one.start()
    began[0].join(10) if began else time.sleep(0.1)
    until(lambda: one.state().name == "reading", "another thread")
    assert one.state().stuck == 1 and len(began) == 2
    assert one.stop()
    assert one.state().name == "stopped"


def test_who_waits_to_be_told_to_stop_does_not_hang(make_sensor):
    """As a sensor does that sleeps between its measurements."""
    done = threading.Event()

    def work() -> None:
        one.stopping.wait(4 * HUNG_S)
        done.set()

    one = Supervisor("sleeper", work, SystemClock(), lambda error: None, QUICK, hung_s=HUNG_S)
    one.start()
    until(lambda: one.state().stuck or done.is_set(), "the end of its rest")
    assert one.state().stuck == 0
    one.stop()


def test_time_in_which_nobody_looked_does_not_count_against_a_thread(pipe, monkeypatch):
    """A process that was stopped, or a machine that slept, for an hour."""
    now = [0.0]
    monkeypatch.setattr(supervisor, "time", SimpleNamespace(monotonic=lambda: now[0]))
    pipe.supervisor._hung_s = 3 * supervisor.LOOK_S
    pipe.supervisor.start()
    until(lambda: pipe.opened, "the thread to open it")
    pipe.supervisor.state()
    for stuck in (0, 0, 1):
        now[0] += 3600
        assert pipe.supervisor.state().stuck == stuck


# --- a serial port ---------------------------------------------------------------------------------------------------


@pytest.fixture
def console() -> Iterator[Console]:
    console = Console()
    yield console
    console.close()


def test_a_port_that_takes_no_question_hangs_its_thread_and_the_next_one_gets_the_answer(console):
    came: list[Reading] = []
    sensor = Sensor(name="mast", driver="vaisala_wxt", port=console.path)
    spec, clock = DRIVERS["vaisala_wxt"], SystemClock()
    intake = Intake(sensor, spec.decoder(sensor), lambda *got: came.append(got[1]) or True, clock, ["home"])
    limits = Limits(pauses=QUICK, read=0.05, hung=HUNG_S)
    source = SerialSource(intake, clock, limits, talk=spec.talk(sensor))
    source.start()

    def health() -> Health:
        return source.health()

    try:
        until(lambda: health().stuck == 1, "the thread to be left behind")
        console.empty()
        until(lambda: health().state == "reading", "the port to be open again, though the old thread had it locked")
        until(lambda: console.answer(b"0R0,Dm=283D,Sm=1.0M,Ta=23.6C,Pa=1026.6H\r\n") and came, "the reading")
        until(lambda: sum(t.name == "sensor mast" for t in threading.enumerate()) == 1, "the old thread to end")
    finally:
        source.stop()
    assert came[0].values["temperature"] == 23.6


def test_a_silent_sensor_does_not_hang(console, make_sensor):
    sensor = make_sensor("json_lines", {"t": ("temperature", "degC")}, port=console.path)
    intake = Intake(sensor, DRIVERS["json_lines"].decoder(sensor), lambda *_: True, SystemClock(), ["home"])
    source = SerialSource(intake, SystemClock(), Limits(read=0.05, hung=HUNG_S))
    source.start()
    until(lambda: source.health().state == "reading", "the open port")
    for _ in range(30):
        time.sleep(HUNG_S / 10)
        assert source.health().stuck == 0
    source.stop()


# --- an address that devices send to ----------------------------------------------------------------------------------


class Stuck:
    """The first thread that comes is held until it is let go."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.threads: list[threading.Thread] = []

    def hold(self) -> None:
        self.threads.append(threading.current_thread())
        if len(self.threads) == 1:
            self.go.wait(30)

    def ends(self) -> None:
        """It comes back, fails at what is not its own any more, and ends."""
        self.go.set()
        self.threads[0].join(10)
        assert not self.threads[0].is_alive()


def at_address(driver: str, kind: socket.SocketKind, serve, clock: Clock) -> tuple[Intake, Listener, Listeners, list]:
    """A sensor at a free port of its own, and what came."""
    with socket.socket(socket.AF_INET, kind) as found:
        found.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{found.getsockname()[1]}"
    came: list[Reading] = []
    sensor = Sensor(name="roof", driver=driver, listen=address)
    decoder = DRIVERS[driver].decoder(sensor)
    intake = Intake(sensor, decoder, lambda *got: came.append(got[1]) or True, clock, ["home"])
    listener, listeners = Listener(address, serve, clock, QUICK, HUNG_S), Listeners(clock)
    listeners._found[address, serve] = listener
    return intake, listener, listeners, came


def test_a_udp_listener_that_hangs_is_replaced_and_its_port_freed(monkeypatch):
    clock, stuck = SystemClock(), Stuck()
    intake, listener, listeners, came = at_address("tempest", socket.SOCK_DGRAM, udp.serve, clock)
    source, message = udp.udp_source(intake, listeners, clock), intake.message
    monkeypatch.setattr(intake, "message", lambda payload: (stuck.hold(), message(payload)))
    wind = b'{"serial_number": "ST-1", "type": "rapid_wind", "ob": [%d, 2.3, 128]}'
    now = int(time.time())
    source.start()
    until(lambda: source.health().state == "reading", "the listener")
    held = listener._socket
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as hub:
        to = "127.0.0.1", int(listener.address.rpartition(":")[2])
        hub.sendto(wind % now, to)
        until(lambda: source.health().stuck == 1, "the thread to be left behind")
        assert held is not None and held.fileno() == -1
        until(lambda: source.health().state == "reading", "the next one")
        hub.sendto(wind % (now + 1), to)
        until(lambda: [reading.t for reading in came] == [now + 1], "its reading")
    stuck.ends()
    assert source.health().rejected == {"left-behind": 1} and listener.bound == to
    source.stop()


def test_an_http_listener_that_hangs_is_replaced_and_its_port_freed(monkeypatch):
    clock, stuck = SystemClock(), Stuck()
    intake, listener, listeners, came = at_address("ecowitt", socket.SOCK_STREAM, http.serve, clock)
    source, heard_by = http.HttpSource(intake, listeners, clock, "/data/report"), listener.heard_by
    monkeypatch.setattr(listener, "heard_by", lambda sender: (stuck.hold(), heard_by(sender))[1])
    source.start()
    until(lambda: source.health().state == "reading", "the listener")
    to = "127.0.0.1", int(listener.address.rpartition(":")[2])
    with socket.create_connection(to, 10) as first:
        until(lambda: source.health().stuck == 1, "the thread to be left behind")
        until(lambda: source.health().state == "reading", "the next one")
        stamp = time.strftime("%Y-%m-%d+%H:%M:%S", time.gmtime())
        with socket.create_connection(to, 10) as second:
            second.sendall(f"GET /data/report?dateutc={stamp}&humidity=60 HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert b" 200 " in second.recv(1000)
        assert [reading.values for reading in came] == [{"humidity": 60.0}]
        stuck.ends()
        first.close()
    assert listener.bound == to
    source.stop()
