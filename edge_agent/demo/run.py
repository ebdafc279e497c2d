"""`edge-agent demo`: the real agent on recorded time, two recorded stations on a real serial port and a real broker.

Everything but the recordings and the clock is what a station runs. Never touches a broker, port or store that is there.
"""

from __future__ import annotations

import logging
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import click

from edge_agent.agent import Agent
from edge_agent.bundle.reader import default_bundle, read_bundle
from edge_agent.clock import ReplayClock, format_time
from edge_agent.config import load
from edge_agent.demo import scene
from edge_agent.demo.broker import Broker, broker
from edge_agent.demo.report import Report
from edge_agent.demo.witness import TOPICS, Witness, listening
from edge_agent.errors import ConfigError
from edge_agent.history import read_history
from edge_agent.replay import Write, mqtt_writer, play, read_recording
from edge_agent.transfer import import_command

LIMIT_S = 60.0  # real seconds that `--once` waits at most, at a speed that allows it
NEEDED_S = 1800  # recorded seconds in which two forecasts come due
SLACK_S = 45.0
HEAD_START_S = 2.0  # real seconds between the start of the agent and the first message
SETTLE_S = 1.0  # and between the last message and the end
TURN_S = 0.1


def demo_command(once: bool, speed: float, keep: Path | None) -> int:
    """Run the demo; 0 if it ended as it should.

    `once`: stop as soon as an independent subscriber has received two forecasts of the shipped model for each station,
    the failed value of one corrupted line and the count of the other; 1 if that has not come within a minute. `keep`:
    folder for configuration and store.

    Raises:
        ConfigError: a speed that is none, or a folder that holds a demo already; NetworkError: no broker to be had.
    """
    if not 0.1 <= speed <= 10_000:
        raise ConfigError(f"--speed {speed:g}: between 0.1 and 10000")
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s", force=True)
    with ExitStack() as rooms:
        folder = _folder(keep) if keep else Path(rooms.enter_context(tempfile.TemporaryDirectory(prefix="demo-")))
        running = rooms.enter_context(broker(folder))
        port, write = rooms.enter_context(scene.serial_line())
        config = scene.write_config(folder, running, port)
        _welcome(running, port, folder, speed)
        for place in scene.PLACES:
            import_command(scene.data(place.history), config, place.id, "import")
        click.echo("")
        return _Demo(config, running, write, speed).run(once)


class _Demo:
    """One run: the agent, the two players and the witness, each in a thread or process of its own."""

    def __init__(self, config: Path, running: Broker, line: Write, speed: float) -> None:
        self._config, self._broker, self._line, self._speed = load(config), running, line, speed
        self._stop = threading.Event()
        self._failed: list[BaseException] = []
        self._told: dict[tuple[str, str, str], int] = {}
        self._witness = Witness(read_bundle(default_bundle()).manifest, tuple(place.id for place in scene.PLACES))
        self._report = Report({place.id: read_history(scene.data(place.history)) for place in scene.PLACES})

    def run(self, once: bool) -> int:
        with listening(self._broker, self._witness):
            clock = ReplayClock(scene.START - HEAD_START_S * self._speed, self._speed)
            agent = Agent(self._config, clock, self._report.event)
            players = [
                self._thread("serial player", lambda: self._play(scene.MELLE, self._line, clock)),
                self._thread("mqtt player", lambda: self._play_mqtt(clock)),
            ]
            loop = self._thread("agent", lambda: agent.run(self._stop))
            end = scene.END + SETTLE_S * self._speed
            done = self._proved if once else lambda: clock.now() > end and not any(p.is_alive() for p in players)
            try:
                in_time = self._wait(done, max(LIMIT_S, NEEDED_S / self._speed + SLACK_S) if once else None)
            except KeyboardInterrupt:
                click.echo("\nstopping ...")
                once, in_time = False, True
            finally:
                self._stop.set()
                for thread in (loop, *players):
                    thread.join(timeout=5)
        self._tell_refused()
        if self._failed:
            raise self._failed[0]
        return self._verdict(once, in_time)

    def _wait(self, done: Callable[[], bool], limit_s: float | None) -> bool:
        """Until it is done or something broke; False if the time is up."""
        end = None if limit_s is None else time.monotonic() + limit_s
        while not done() and not self._failed:
            if end is not None and time.monotonic() > end:
                return False
            self._tell_refused()
            time.sleep(TURN_S)
        return True

    def _tell_refused(self) -> None:
        """Print what the published status counts more than before."""
        for key, n in self._witness.rejected().items():
            if n > self._told.get(key, 0):
                self._report.refused(*key, n - self._told.get(key, 0))
                self._told[key] = n

    def _proved(self) -> bool:
        return not self._witness.missing() or bool(self._witness.faults)

    def _verdict(self, once: bool, in_time: bool) -> int:
        counts = ", ".join(f"{n} {fate}" for fate, n in self._report.counts.items())
        click.echo(f"\n{counts}.")
        click.echo(f"An independent subscriber ({self._witness.name}) received: {self._witness.summary}.")
        for fault in self._witness.faults[:5]:
            click.echo(f"BROKEN: {fault}")
        if once and not in_time:
            click.echo("Not seen in time: " + "; ".join(self._witness.missing()))
        if self._witness.faults or (once and self._witness.missing()):
            return 1
        click.echo("Each message keeps to its schema.")
        return 0

    def _play(self, place: scene.Place, write: Write, clock: ReplayClock) -> None:
        play(read_recording(scene.data(place.recording)), write, clock, self._stop)

    def _play_mqtt(self, clock: ReplayClock) -> None:
        with mqtt_writer(f"mqtt://{self._broker.host}:{self._broker.port}/{scene.TOPIC}") as write:
            self._play(scene.DE_HAAN, write, clock)

    def _thread(self, name: str, work: Callable[[], object]) -> threading.Thread:
        """A thread whose failure ends the demo."""

        def run() -> None:
            try:
                work()
            except BaseException as error:  # noqa: BLE001 - handed to the main thread, which raises it
                self._failed.append(error)

        thread = threading.Thread(target=run, name=name, daemon=True)
        thread.start()
        return thread


def _folder(keep: Path) -> Path:
    if (keep / "agent.toml").exists() or (keep / "demo.sqlite").exists():
        raise ConfigError(f"--keep {keep}: there is an agent.toml or a demo.sqlite in it: choose another folder")
    try:
        keep.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--keep {keep}: cannot be a folder: {error.strerror}") from None
    return keep.resolve()


def _welcome(running: Broker, port: str, folder: Path, speed: float) -> None:
    click.echo(
        f"Two stations in Flanders as recorded, from {format_time(scene.START)} on, {speed:g} times as fast:\n"
        f"  melle     a logger on the serial port {port} (a pseudo-terminal), one JSON line every 5 minutes\n"
        f"  de-haan   a gateway that publishes JSON to {scene.TOPIC}\n"
        f"Broker: {running.name}, port {running.port}, MQTT {running.protocol}. Files: {folder}\n"
        f"Watch what is published:  mosquitto_sub -p {running.port} -t '{TOPICS}' -v\n"
        "First the nine days before, as `edge-agent import` takes them:"
    )
