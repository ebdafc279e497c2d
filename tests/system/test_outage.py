"""A day without a broker, over mutual TLS, with `kill -9` for everybody: every observation arrives once."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge_agent.clock import parse_time
from edge_agent.publish.topics import KINDS, kind_of
from edge_agent.store import Store
from tests.agents import fill, sensor, until, write_config
from tests.board import Board
from tests.system.agent_process import AgentProcess
from tests.system.certificates import certificates
from tests.system.subscriber import Received, Subscriber, retained
from tests.tiny_bundle import make_tiny_bundle

pytestmark = pytest.mark.system

START = 1_700_006_400
HOUR = 3600
FAST, SLOW = 7200.0, 60.0  # times as fast as the world: a day in twelve seconds


class Time:
    """A clock that the test and its agents share."""

    def __init__(self, then: float, speed: float) -> None:
        self.then, self.moment, self.speed = then, time.time(), speed

    def now(self) -> float:
        return self.then + (time.time() - self.moment) * self.speed


class Logger:
    """A board that prints a line for each minute of that clock; `printed`: their times."""

    def __init__(self, board: Board, clock: Time) -> None:
        self.board, self.clock = board, clock
        self.printed: list[int] = []
        self._on, self._over = threading.Lock(), threading.Event()
        self._on.acquire()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def on(self) -> None:
        """From the present minute."""
        self._next = int(self.clock.now()) // 60 * 60 + 60
        self._on.release()

    def off(self) -> None:
        """No line is half printed."""
        self._on.acquire()

    def end(self) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(0.003):
            if self._on.acquire(timeout=0.1):
                while not self._over.is_set() and self._next <= self.clock.now():
                    line = b'{"at": %d, "t": %.2f, "h": 60}\n' % (self._next, 10 + self._next % 86_400 / 9000)
                    self.board.prints(line)
                    self.printed.append(self._next)
                    self._next += 60
                self._on.release()


class Sink:
    """Whoever listens, for as long as each broker lives, and drops what it has seen by `id`."""

    def __init__(self) -> None:
        self.messages: list[Received] = []
        self.listening: Subscriber | None = None

    @property
    def everything(self) -> list[Received]:
        return [*self.messages, *([] if self.listening is None else self.listening.received)]

    def all(self) -> dict[str, dict[str, object]]:
        """Observations by id."""
        told = [m for m in self.everything if kind_of(m.topic) in ("obs", "obs/history")]
        found: dict[str, dict[str, object]] = {}
        for message in told:
            payload = json.loads(message.payload)
            assert payload["historical"] is (kind_of(message.topic) == "obs/history")
            found.setdefault(payload["id"], payload)
        return found


class Outage:
    """The station, its broker and its sink."""

    def __init__(self, folder: Path, broker, keys: Path, board: Board) -> None:
        self.broker, self.sink = broker, Sink()
        self.tls = ("--cafile", f"{keys}/ca.pem", "--cert", f"{keys}/client.pem", "--key", f"{keys}/client.key")
        self.clock = Time(START, FAST)
        self.logger = Logger(board, self.clock)
        tiny = {"bundle": str(make_tiny_bundle(folder / "tiny.bundle")), "allow_unsigned": True}
        # with periods of ten minutes nobody is late, at this speed, within a sixth of a second
        lines = sensor("logger", board, time="at", period_s=600)
        self.config = write_config(folder, lines, port=broker.port, **tiny)
        secure = f'tls_ca = "{keys}/ca.pem"\ntls_cert = "{keys}/client.pem"\ntls_key = "{keys}/client.key"\n'
        self.config.write_text(self.config.read_text().replace("[mqtt]\n", f"[mqtt]\n{secure}"))
        self.agent: AgentProcess | None = None
        self.on_disk: set[int] = set()  # times of readings that were when an agent was killed

    def starts(self, speed: float = FAST) -> AgentProcess:
        """An agent, from where the clock stands; the logger prints once its port is open."""
        self.clock = self.logger.clock = Time(self.clock.now(), speed)
        program = (str(Path(__file__).with_name("fast_agent.py")),)
        words = (str(self.clock.then), str(self.clock.moment), str(speed))
        self.agent = AgentProcess(self.config, *words, program=program)
        self.agent.reads("logger")
        self.logger.on()
        return self.agent

    def agent_dies(self) -> set[int]:
        """By `kill -9`; times of the readings that were under way to the disk, newer than anything on it."""
        assert self.agent is not None
        self.logger.off()
        self.agent.pause()
        on_disk = set(self.stored().values())
        self.agent.kill()
        self.on_disk |= on_disk
        return {t for t in self.logger.printed if t > max(on_disk)}

    def stored(self) -> dict[str, int]:
        """What is in the store, committed, of the sensor: time by id."""
        with Store.open(self.config.with_name("store.sqlite"), read_only=True) as store:
            found = (judged.observation for judged in store.observations("home"))
            return {o.id: o.t for o in found if o.source == "logger"}

    def queued(self) -> int:
        with Store.open(self.config.with_name("store.sqlite"), read_only=True) as store:
            return store.counts("mqtt").queued

    def until_hour(self, hour: float) -> None:
        until(lambda: self.clock.now() >= START + hour * HOUR, f"hour {hour}")

    def broker_comes_back(self) -> None:
        """With nothing in its memory, and the sink is there before the agent notices."""
        assert self.agent is not None
        self.agent.pause()
        self.broker.start()
        self.sink.listening = Subscriber(self.broker.host, self.broker.port, *self.tls).__enter__()
        self.agent.resume()

    def broker_dies(self) -> None:
        """By `kill -9`, after it answered nothing for a while: messages are under way."""
        self.broker._process.send_signal(signal.SIGSTOP)
        time.sleep(0.3)
        self.broker.kill()
        self.sink_leaves()

    def sink_leaves(self) -> None:
        if self.sink.listening is not None:
            self.sink.listening.__exit__(None, None, None)
            self.sink.messages += self.sink.listening.received
            self.sink.listening = None

    def end(self) -> None:
        self.logger.end()
        if self.agent is not None:
            self.agent.kill()
        self.sink_leaves()


@pytest.fixture
def outage(tmp_path: Path, start_mosquitto: Callable[..., object]) -> Iterator[Outage]:
    keys = certificates(tmp_path)
    tls = f"cafile {keys}/ca.pem\ncertfile {keys}/server.pem\nkeyfile {keys}/server.key\nrequire_certificate true"
    broker = start_mosquitto(f"persistence false\n{tls}")
    broker.stop()  # type: ignore[attr-defined]
    fill(tmp_path / "store.sqlite", START, hours=48)
    board = Board(tmp_path / "usb-logger")
    board.plug()
    outage = Outage(tmp_path, broker, keys, board)
    yield outage
    outage.end()
    board.unplug()


def test_after_a_day_without_a_broker_and_two_kills_every_observation_has_arrived_once(outage: Outage) -> None:
    agent = outage.starts()
    outage.broker_comes_back()
    agent.says("mqtt: connected")
    until(lambda: outage.sink.all(), "the first observations")
    outage.broker_dies()
    outage.until_hour(12)
    on_their_way = outage.agent_dies()
    outage.starts()
    outage.until_hour(24)
    outage.broker_comes_back()
    until(lambda: len(outage.sink.all()) > 200, "a part of what was queued")
    on_their_way |= outage.agent_dies()  # while it sends
    agent = outage.starts(SLOW)
    agent.says("observation", 3)
    outage.logger.off()
    until(lambda: outage.queued() == 0 and outage.sink.all().keys() >= outage.stored().keys(), "all to arrive")

    stored, arrived = outage.stored(), outage.sink.all()
    came = sum(kind_of(m.topic) in ("obs", "obs/history") for m in outage.sink.everything)
    late = sum(bool(payload["historical"]) for payload in arrived.values())
    print(
        f"{len(outage.logger.printed)} printed, {len(arrived)} arrived, {late} as history, {came - len(arrived)} twice"
    )
    times = [parse_time(str(payload["t"])) for payload in arrived.values()]
    assert len(times) == len(set(times)), "one id for each reading"
    assert outage.on_disk <= set(times), "what was on the disk when it was killed"
    assert arrived.keys() >= stored.keys()
    assert set(outage.logger.printed) - set(times) <= on_their_way, "nothing else is missing"
    assert len(times) > 500
    assert {bool(payload["historical"]) for payload in arrived.values()} == {True, False}

    held = retained(outage.broker.host, outage.broker.port, options=outage.tls)
    # Scores come once a day, and hours and days from guidance, which this agent has none of.
    kinds = {k.name for k in KINDS.values() if k.retained} - {"verify/daily", "forecast/hourly", "forecast/daily"}
    assert {kind_of(topic) for topic in held} - {"verify/daily"} == kinds
    assert held["wx/v1/home/availability"].payload == b"online"
    assert json.loads(held["wx/v1/home/info"].payload)["bundle"]["name"] == "tiny"
    assert parse_time(json.loads(held["wx/v1/home/forecast/nowcast"].payload)["issued"]) > START + 24 * HOUR
    kept = agent.stop()
    assert kept.books.accepted == kept.books.acknowledged + kept.books.queued and kept.books.dropped == {}
    assert kept.status["home"]["mode"] == "normal" and kept.status["home"]["lost"] == {}
