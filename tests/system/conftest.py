"""Real brokers for system tests: each on its own free port of the loopback interface, stopped and started at will."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge_agent import config as c
from edge_agent.config import Config, Mqtt
from edge_agent.publish.policy import Waits
from edge_agent.store import Store
from tests.board import Board
from tests.publish.samples import STATION
from tests.system.agent_process import AgentProcess
from tests.system.http_desk import TOKEN, Desk, written
from tests.system.listening import Listening
from tests.system.publishing import QUICK, Publishing
from tests.tiny_bundle import make_tiny_bundle


class Mosquitto:
    """One Mosquitto on a fixed free port; `stop` is SIGTERM (it saves its sessions), `kill` SIGKILL (it does not).

    `config` is appended to the listener's own lines, so listener options (certfile, ...) can stand in it. `log` is the
    broker's log file, for a test that wants to know what was said.
    """

    host = "127.0.0.1"

    def __init__(self, executable: str, folder: Path, config: str = "") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port = _free_port()
        self.log = folder / "mosquitto.log"
        self._file = folder / "mosquitto.conf"
        self._executable = executable
        self._process: subprocess.Popen[bytes] | None = None
        lines = ["persistence true", f"persistence_location {folder}/", "log_dest stderr", "log_type all"]
        if os.geteuid() == 0:
            lines.append("user root")  # else it drops to a user that cannot write to the test's folder
        if "allow_anonymous" not in config:
            lines.append("allow_anonymous true")
        self._file.write_text("\n".join([*lines, f"listener {self.port} {self.host}", config, ""]))

    def start(self) -> None:
        """Start and wait until it accepts connections; nothing if it runs already."""
        if self._process is not None:
            return
        with self.log.open("ab") as log:
            self._process = subprocess.Popen([self._executable, "-c", str(self._file)], stderr=log, stdout=log)
        for _ in range(200):
            if self._process.poll() is not None:
                break
            with socket.socket() as probe:
                if probe.connect_ex((self.host, self.port)) == 0:
                    return
            time.sleep(0.05)
        self.kill()
        pytest.fail(f"mosquitto did not come up on port {self.port}: {self.log.read_text()[-2000:]}")

    def stop(self) -> None:
        """End it as a service manager would."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a power cut would."""
        self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            for _ in range(10):  # Mosquitto loses a SIGTERM that comes just before its main loop
                self._process.send_signal(how)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(timeout=2)
                    break
            else:
                pytest.fail(f"mosquitto does not end: {self.log.read_text()[-2000:]}")
            self._process = None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def start_mosquitto(tmp_path: Path) -> Iterator[Callable[..., Mosquitto]]:
    """Starts a broker with the given lines of configuration, as often as a test wants; all end with the test."""
    executable = shutil.which("mosquitto", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if executable is None:
        pytest.skip("mosquitto is not installed (apt-get install mosquitto)")
    brokers: list[Mosquitto] = []

    def start(config: str = "") -> Mosquitto:
        broker = Mosquitto(executable, tmp_path / f"broker-{len(brokers)}", config)
        brokers.append(broker)
        broker.start()
        return broker

    yield start
    for broker in brokers:
        broker.kill()


@pytest.fixture
def mosquitto(start_mosquitto: Callable[..., Mosquitto]) -> Mosquitto:
    """A running broker that takes anyone: `host`, `port`, `stop()`, `kill()`, `start()`."""
    return start_mosquitto()


@pytest.fixture
def broker_311() -> Iterator[Mqtt]:
    """A broker of another make, which speaks 3.1.1 only."""
    pytest.importorskip("amqtt", reason="needs the demo extra")
    port = _free_port()
    script = Path(__file__).with_name("broker_311.py")
    process = subprocess.Popen(
        [sys.executable, script, str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _await_listening(port)
    yield Mqtt(host="127.0.0.1", port=port)
    process.kill()
    process.wait()


def _await_listening(port: int) -> None:
    """Wait until a broker that was just started takes connections."""
    for _ in range(600):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    pytest.fail(f"no broker came up on port {port}")


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Board]:
    board = Board(tmp_path / "usb-roof")
    board.plug()
    yield board
    board.unplug()


@pytest.fixture
def tiny(tmp_path: Path) -> dict[str, object]:
    """The [forecast] section that runs the tiny bundle."""
    return {"bundle": str(make_tiny_bundle(tmp_path / "tiny.bundle")), "allow_unsigned": True}


@pytest.fixture
def start() -> Iterator[Callable[[Path], AgentProcess]]:
    """Starts agents; all end with the test."""
    agents: list[AgentProcess] = []

    def start(config: Path) -> AgentProcess:
        agents.append(AgentProcess(config))
        return agents[-1]

    yield start
    for agent in agents:
        agent.kill()


@pytest.fixture
def desk() -> Iterator[Desk]:
    desk = Desk()
    yield desk
    for source in desk.sources.values():
        source.stop()


@pytest.fixture
def token_file(tmp_path: Path) -> str:
    return written(tmp_path / "token", TOKEN)


@pytest.fixture
def run() -> Iterator[Callable[..., Listening]]:
    running: list[Listening] = []

    def start(config: Config, *, ready: bool = True) -> Listening:
        running.append(Listening(config, ready=ready))
        return running[-1]

    yield start
    for agent in running:
        agent.stop()
        assert {source.health().state for source in agent.sources} <= {"stopped"}


@pytest.fixture(params=["5", "3.1.1"])
def protocol(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def make_agent(tmp_path: Path) -> Iterator[Callable[..., Publishing]]:
    agents: list[Publishing] = []

    def make(broker: c.Mqtt, *stations: c.Station, expiry_s: int = 3600, waits: Waits = QUICK) -> Publishing:
        store = Store.open(tmp_path / f"store-{len(agents)}.db")
        agents.append(Publishing(store, broker, list(stations) or [STATION], expiry_s, waits))
        return agents[-1]

    yield make
    for agent in agents:
        agent.publisher.stop()
        agent.store.close()
