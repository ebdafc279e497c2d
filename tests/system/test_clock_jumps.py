"""A running agent on a machine whose clock is set: a boot in 1970, a time server after ten minutes, and jumps; with
`kill -9` in between. Its clock runs fast: STATIONCAST_CLOCK_SPEED says how fast, less on a machine that is busy."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent.clock import parse_time
from edge_agent.forecast import Forecast, Level
from edge_agent.observation import Observation
from edge_agent.publish.topics import kind_of
from edge_agent.store import Store
from tests.agents import fill, sensor, until, write_config
from tests.board import Board
from tests.system.agent_process import AgentProcess
from tests.system.set_clock import Machine
from tests.system.subscriber import Subscriber
from tests.tiny_bundle import make_tiny_bundle

pytestmark = pytest.mark.system

SPEED = float(os.environ.get("STATIONCAST_CLOCK_SPEED", "60"))
TRUTH = parse_time("2026-03-01T12:07:13Z")
MINUTE, HOUR, YEAR = 60, 3600, 365 * 86_400
PROGRAM = (str(Path(__file__).with_name("set_clock.py")),)


class Station:
    """An agent on a machine that has just been switched on and does not know the time. `truth_s`: what UTC minus its
    steady seconds really is."""

    def __init__(self, folder: Path, port: int) -> None:
        self.board = Board(folder / "usb-roof")
        self.board.plug()
        fill(folder / "store.sqlite", TRUTH - 600, hours=48)
        bundle = {"bundle": str(make_tiny_bundle(folder / "tiny.bundle")), "allow_unsigned": True}
        self.config = write_config(folder, sensor("roof", self.board, max_messages_s=10), port=port, **bundle)
        self.machine = Machine(folder / "clock", SPEED)
        self.truth_s = TRUTH - self.machine.clock.monotonic()
        self.agent: AgentProcess | None = None
        self._over = threading.Event()
        self._talking = threading.Thread(target=self._talk)
        self._talking.start()

    def start(self) -> None:
        self.agent = AgentProcess(self.config, str(self.machine.file), program=PROGRAM).reads("roof")

    def kill(self) -> None:
        """With -9; what it had read by then."""
        assert self.agent is not None
        self.agent.kill()

    def sync(self) -> None:
        """A time server is reached: the clock is right, and kept so."""
        self.machine.set_offset(self.truth_s, synced=True)

    def timekeeping(self, live: Subscriber) -> dict[str, object]:
        """What it last published of it."""
        told = live.on("wx/v1/home/status")
        return json.loads(told[-1].payload)["timekeeping"] if told else {}

    def end(self) -> None:
        self._over.set()
        self._talking.join()
        if self.agent is not None:
            self.agent.kill()
        self.board.unplug()

    def kept(self) -> tuple[list[Observation], list[Forecast]]:
        """Its own readings as they came, and the forecasts that are for verification."""
        with Store.open(self.config.with_name("store.sqlite"), read_only=True) as store:
            told = [judged.observation for judged in store.observations("home")]
            forecasts = list(store.forecasts("home", since=0, until=2**40))
        own = [observation for observation in told if observation.source == "roof"]
        return sorted(own, key=lambda one: one.steady_s or 0.0), forecasts

    def _talk(self) -> None:
        """A reading every six seconds of the machine's time."""
        n = 0
        while not self._over.wait(self.machine.clock.wall(6)):
            n += 1
            self.board.prints(b'{"t": %d, "h": 60}\n' % (10 + n % 8))


@pytest.fixture
def station(mosquitto, tmp_path: Path) -> Iterator[Station]:
    station = Station(tmp_path, mosquitto.port)
    yield station
    station.end()


def test_a_boot_in_1970_a_time_server_and_jumps_leave_every_reading_at_its_time(mosquitto, station):
    machine = station.machine
    with Subscriber(mosquitto.host, mosquitto.port) as live:
        machine.set(30.0, synced=False)
        station.start()
        machine.passes(4 * MINUTE)
        station.kill()
        station.start()
        machine.passes(6 * MINUTE)
        station.sync()
        until(lambda: station.timekeeping(live).get("state") == "synced", "the time")
        machine.set(machine.clock.now() - HOUR, synced=False)  # as date(1) does
        machine.passes(4 * MINUTE)
        station.sync()
        machine.passes(2 * MINUTE)
        machine.set(machine.clock.now() + YEAR, synced=True)  # a time server gone mad
        until(lambda: station.timekeeping(live).get("state") == "unsynced", "the jump to be doubted")
        station.kill()
        station.start()
        machine.passes(2 * MINUTE)
        station.sync()
        until(lambda: station.timekeeping(live).get("state") == "synced", "the time to be believed again")
        machine.passes(17 * MINUTE)
        end = machine.clock.monotonic() + station.truth_s
        left = station.agent.stop()
        received = live.received
    rows, forecasts = station.kept()
    assert {row.machine for row in rows} == {machine.clock.boot_id} and len({row.boot_id for row in rows}) == 3
    for row in rows:
        assert abs(row.t - row.steady_s - station.truth_s) <= 1.001, row  # kept to the millisecond
    assert len(rows) > 30 * MINUTE / 6 / 2 and left.status["home"]["lost"].keys() <= {"same-second", "duplicate"}

    # a sink that drops what it has, unless it was put right, has each of them once, and as it is here
    sink: dict[str, int] = {}
    for message in received:
        if kind_of(message.topic) in ("obs", "obs/history"):
            payload = json.loads(message.payload)
            if payload["id"] not in sink or "restamped_from" in payload:
                sink[payload["id"]] = parse_time(payload["t"])
    assert {row.id: row.t for row in rows}.items() <= sink.items()
    assert (left.books.queued, left.books.dropped) == (0, {}) and left.books.accepted == left.books.acknowledged

    # neither a storm of forecasts nor a standstill, and none above persistence while nobody knew the time
    told = [json.loads(m.payload) for m in received if kind_of(m.topic) == "forecast/nowcast" and not m.stale]
    true = [payload for payload in told if abs(origin(payload) - TRUTH) < 2 * HOUR]
    assert all(payload["level"] in ("persistence", "none") for payload in told if payload not in true)
    assert {payload["level"] for payload in true} >= {"nowcast-only"}
    assert len(told) <= 3 * 4 + 60 / 15  # one each for a start, the time and a jump, beside those of the quarter hours
    origins = sorted(forecast.origin for forecast in forecasts if forecast.level is not Level.PERSISTENCE)
    assert all(TRUTH - 900 <= origin <= end for origin in origins)
    assert end - origins[-1] <= 900 + 3 * MINUTE


def origin(payload: dict[str, object]) -> int:
    return parse_time(str(payload["start"])) - int(str(payload["step_s"]))
