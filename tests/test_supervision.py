"""The agent looks after itself: its watchdog, a sensor whose device holds it fast, and safe mode."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from edge_agent.bundle.trial import Loaded
from edge_agent.clock import ManualClock, SystemClock
from edge_agent.events import Event
from edge_agent.forecast import Level
from edge_agent.publish.mqtt import Publisher
from edge_agent.publish.policy import Waits
from edge_agent.publish.structs import InfoPayload
from edge_agent.runs import STABLE_S, UNCLEAN_ENDS, Run
from edge_agent.sensors import serial
from edge_agent.sensors.supervisor import MAX_HUNG, Pauses
from edge_agent.service import ServiceManager
from tests.agents import Kept, Running, fill, sensor, until, write_config
from tests.board import Board, Console
from tests.tiny_bundle import make_tiny_bundle

NOON = 1_700_049_600
WATCHDOG_S = 0.4
RunAgent = Callable[..., Running]


@pytest.fixture
def run_agent() -> Iterator[RunAgent]:
    """Starts an agent that ends with the test at the latest."""
    running: list[Running] = []

    def run(*args: object, **options: object) -> Running:
        running.append(Running(*args, **options))  # type: ignore[arg-type]
        return running[-1]

    yield run
    for agent in running:
        agent.end()


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Board]:
    board = Board(tmp_path / "usb-roof")
    board.plug()
    yield board
    board.unplug()


@pytest.fixture
def console() -> Iterator[Console]:
    console = Console()
    yield console
    console.close()


class Watchdog:
    """A service manager's end of the line."""

    def __init__(self, folder: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(folder / "notify"))
        self._socket.setblocking(False)
        self.heard: list[str] = []
        environ = {"NOTIFY_SOCKET": str(folder / "notify"), "WATCHDOG_USEC": f"{WATCHDOG_S * 1e6:.0f}"}
        self.manager = ServiceManager(environ)

    def hears(self, word: str) -> int:
        """How often it heard a word so far."""
        while True:
            try:
                self.heard.append(self._socket.recv(4096).decode())
            except BlockingIOError:
                return self.heard.count(word)

    def fed(self) -> bool:
        """Whether the watchdog is fed from now on, within twice its patience."""
        before, deadline = self.hears("WATCHDOG=1"), time.monotonic() + 2 * WATCHDOG_S
        while time.monotonic() < deadline:
            if self.hears("WATCHDOG=1") > before:
                return True
            time.sleep(0.01)
        return False

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def watchdog(tmp_path: Path) -> Iterator[Watchdog]:
    watchdog = Watchdog(tmp_path)
    yield watchdog
    watchdog.close()


# --- the watchdog -----------------------------------------------------------------------------------------------------


def test_the_watchdog_is_fed_while_the_loop_turns_and_not_while_it_stands_still(
    tmp_path: Path, board: Board, run_agent: RunAgent, watchdog: Watchdog
) -> None:
    go, stands = threading.Event(), threading.Event()

    def on_event(event: Event) -> None:
        if event.kind == "observation":
            stands.set()
            go.wait(30)

    config = write_config(tmp_path, sensor("roof", board, time="at"))
    agent = run_agent(config, SystemClock(), on_event=on_event, manager=watchdog.manager).reads()
    until(lambda: watchdog.hears("READY=1"), "readiness")
    assert watchdog.fed()
    board.prints(b'{"at": %d, "t": 1}\n' % NOON)
    until(stands.is_set, "the loop to stand still")
    watchdog.hears("WATCHDOG=1")
    assert not watchdog.fed(), "its threads run, but nothing gets done"
    go.set()
    assert watchdog.fed()
    agent.stop()
    assert watchdog.hears("STOPPING=1") == 1 and watchdog.heard[0] == "READY=1"
    assert any(word.startswith("STATUS=") for word in watchdog.heard)


def test_an_agent_none_of_whose_sensors_has_a_thread_left_lets_the_watchdog_end_it(
    tmp_path: Path, console: Console, run_agent: RunAgent, watchdog: Watchdog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads that nothing wakes, as in a driver of the kernel's that waits for ever: a new process may have more
    luck."""
    monkeypatch.setattr(serial, "Limits", partial(serial.Limits, pauses=Pauses(0.02, 0.05), hung=0.3))
    monkeypatch.setattr(serial.serial.Serial, "cancel_write", lambda self: None)
    agent = run_agent(wxt(tmp_path, console), SystemClock(), manager=watchdog.manager)
    until(lambda: watchdog.hears("READY=1"), "readiness")
    until(lambda: agent.health("mast") == "hung", "every thread to hang")
    watchdog.hears("WATCHDOG=1")
    assert not watchdog.fed()
    console.empty()
    until(lambda: agent.health("mast") != "hung", "a thread that comes back")
    assert watchdog.fed()


def test_an_agent_whose_publisher_has_no_thread_left_lets_the_watchdog_end_it(
    tmp_path: Path, board: Board, run_agent: RunAgent, watchdog: Watchdog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing it reads would ever reach anybody."""
    asked, answers = [], threading.Event()

    def never(*args: object, **more: object) -> object:
        asked.append(args)
        answers.wait(30)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", never)
    monkeypatch.setattr("edge_agent.publish.mqtt.Waits", partial(Waits, hung=1.5))
    config = write_config(tmp_path, sensor("roof", board, time="at"))
    agent = run_agent(config, SystemClock(), manager=watchdog.manager).reads()
    until(lambda: len(asked) == MAX_HUNG, "every thread to hang")
    until(lambda: not watchdog.fed(), "the watchdog to be left alone")
    board.prints(b'{"at": %d, "t": 1}\n' % NOON)
    until(lambda: agent.seen("roof"), "a reading: what is well goes on")
    answers.set()
    until(watchdog.fed, "a thread that comes back")


# --- a sensor whose device holds it fast ------------------------------------------------------------------------------


def wxt(folder: Path, console: Console, *others: str) -> Path:
    """A configuration with a polled sensor on a console."""
    asked = f'\n[[sensor]]\nname = "mast"\ndriver = "vaisala_wxt"\nport = "{console.path}"\n'
    return write_config(folder, asked, *others)


def test_a_sensor_that_hangs_is_replaced_and_its_neighbour_does_not_notice(
    tmp_path: Path, board: Board, console: Console, run_agent: RunAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serial, "Limits", partial(serial.Limits, pauses=Pauses(0.02, 0.05), hung=0.5))
    config = wxt(tmp_path, console, sensor("roof", board, time="at"))
    agent = run_agent(config, SystemClock())
    until(lambda: agent.health("roof") == "reading", "the neighbour")
    for n in range(50):
        board.prints(b'{"at": %d, "t": %d}\n' % (NOON + n, n % 10))
        if n == 25:
            until(lambda: agent.stuck("mast") >= 1, "the thread to be left behind")
            console.empty()
    until(lambda: len(agent.seen("roof")) == 50, "every reading of the neighbour")
    answer = b"0R0,Dm=283D,Sm=1.0M,Ta=23.6C,Pa=1026.6H\r\n"
    until(lambda: console.answer(answer) and agent.seen("mast"), "a reading of the one that hung")
    kept = agent.stop()
    assert len(kept.values("roof")) == 50
    told = kept.status["home"]["sensors"]
    assert 1 <= told["mast"]["stuck"] <= MAX_HUNG and told["mast"]["accepted"] >= 1
    assert (told["roof"]["stuck"], told["roof"]["reopened"]) == (0, 0)
    assert kept.status["home"]["lost"] == {}


# --- safe mode --------------------------------------------------------------------------------------------------------


@pytest.fixture
def crashed(tmp_path: Path) -> Path:
    """An agent.toml with the tiny bundle and a past, whose agent was killed again and again."""
    tiny = make_tiny_bundle(tmp_path / "tiny.bundle")
    fill(tmp_path / "store.sqlite", NOON + 2 * int(STABLE_S), hours=60)
    for _ in range(UNCLEAN_ENDS):
        Run(tmp_path / "store.sqlite.runs")
    return write_config(tmp_path, bundle=str(tiny), allow_unsigned=True)


def told_infos(monkeypatch: pytest.MonkeyPatch) -> list[InfoPayload]:
    told: list[InfoPayload] = []
    monkeypatch.setattr(Publisher, "info", lambda self, station, payload: told.append(payload))
    return told


def test_in_safe_mode_no_bundle_is_touched_and_everybody_is_told_until_a_stable_hour_has_passed(
    crashed: Path, run_agent: RunAgent, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from edge_agent import forecasting as module

    loads: list[object] = []
    load_session = module.load_session

    def watched(config: object) -> Loaded:
        loads.append(config)
        return load_session(config)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "load_session", watched)
    infos = told_infos(monkeypatch)
    clock = ManualClock(NOON + 100)
    agent = run_agent(crashed, clock)
    until(agent.forecasts, "the first forecast")
    (forecast,) = agent.forecasts()
    assert forecast.level is Level.PERSISTENCE and "safe mode" in forecast.why
    assert [(info.mode, info.bundle) for info in infos] == [("safe", None)] and loads == []
    assert any("safe mode" in record.message for record in caplog.records)
    clock.advance(10)
    until(lambda: Kept(crashed).status.get("home", {}).get("mode") == "safe", "a status that says so")
    clock.advance(STABLE_S)
    until(lambda: len(infos) == 2, "the bundle")
    assert infos[1].mode == "normal" and infos[1].bundle is not None and infos[1].bundle.name == "tiny"
    made = len(agent.forecasts())
    clock.advance(900)
    until(lambda: len(agent.forecasts()) > made, "the next forecast")
    assert agent.forecasts()[-1].level is Level.NOWCAST_ONLY
    assert agent.stop().status["home"]["mode"] == "normal"


def test_the_operator_may_have_it_start_normally_at_once(crashed: Path, run_agent: RunAgent) -> None:
    agent = run_agent(crashed, ManualClock(NOON + 100), normal=True)
    until(agent.forecasts, "the first forecast")
    assert agent.forecasts()[0].level is Level.NOWCAST_ONLY
    assert agent.stop().status["home"]["mode"] == "normal"


def test_the_status_tells_of_the_device(tmp_path: Path, run_agent: RunAgent) -> None:
    agent = run_agent(write_config(tmp_path), SystemClock())
    until(lambda: agent.events, "the bundle")
    board = agent.stop().status["home"]["board"]
    assert board["disk"]["size_mb"] > 0
    assert ("memory" in board) == os.path.exists("/proc/meminfo")
