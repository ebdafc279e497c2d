"""Agents for tests: their agent.toml, one in a thread of the test's process, and a past for their store."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edge_agent.agent import Agent
from edge_agent.clock import Clock, SystemClock
from edge_agent.config import load
from edge_agent.events import Event
from edge_agent.forecast import Forecast
from edge_agent.heartbeat import last_said
from edge_agent.observation import Judged, Observation
from edge_agent.store import Store
from edge_agent.timekeeping.command import confirm
from tests.board import Board

PATIENCE_S = 30.0
HOME = {"id": "home", "latitude": 47.0, "longitude": 8.0, "elevation_m": 400.0}
MakeBoard = Callable[[str], Board]
RunAgent = Callable[..., "Running"]
MAP = {"t": ("temperature", "degC"), "h": ("humidity", "%")}


def until(condition: Callable[[], object], what: str) -> None:
    """Wait for something that happens elsewhere; fails the test with `what` was awaited if it does not."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"waited in vain for: {what}")
        time.sleep(0.01)


def sensor(name: str, place: Board | str, fields: dict[str, tuple[Any, ...]] | None = None, **more: Any) -> str:
    """A [[sensor]] of agent.toml: JSON lines on a board, or MQTT JSON on a topic. `fields`: path -> variable, unit and,
    where it matters, whether it is a running total."""
    where = {"driver": "mqtt_json", "topic": place} if isinstance(place, str) else {"port": str(place.path)}
    lines = {"name": name, "driver": "json_lines"} | where | more
    keys = ("variable", "unit", "counter")
    entries = (
        f"{json.dumps(path)} = {{ {', '.join(f'{k} = {json.dumps(v)}' for k, v in zip(keys, field, strict=False))} }}"
        for path, field in (fields or MAP).items()
    )
    text = "\n".join(f"{key} = {json.dumps(value)}" for key, value in lines.items())
    return f"\n[[sensor]]\n{text}\nmap = {{ {', '.join(entries)} }}\n"


def line(t: float, value: float = 12.5) -> bytes:
    """What a board prints for such a sensor with `time="at"`."""
    return b'{"at": %d, "t": %.3f, "h": 60}\n' % (t, value)


def write_config(
    folder: Path, *sensors: str, stations: tuple[dict[str, Any], ...] = (HOME,), port: int = 9, **forecast: Any
) -> Path:
    """An agent.toml in `folder`, with the store beside it. `port`: of a broker on this machine; 9 has none."""
    head = "[station]" if len(stations) == 1 else "[[station]]"
    parts = [head + "\n" + "\n".join(f"{k} = {json.dumps(v)}" for k, v in station.items()) for station in stations]
    parts.append(f'[mqtt]\nhost = "127.0.0.1"\nport = {port}')
    parts.append('[store]\npath = "store.sqlite"\ncommit_s = 1')
    parts.append("[forecast]\n" + "\n".join(f"{k} = {json.dumps(v)}" for k, v in forecast.items()))
    path = folder / "agent.toml"
    path.write_text("\n\n".join([*parts, *sensors]) + "\n")
    return path


def fill(store: Path, end: int, hours: int, station: str = "home") -> None:
    """Give a store a past: a reading of temperature and humidity every 15 minutes up to `end`."""
    with Store.open(store) as opened:
        for n, t in enumerate(range(end - hours * 3600, end + 1, 900)):
            values = {"temperature": 10.0 + n % 96 / 24, "humidity": 60.0 + n % 7}
            opened.add(Judged(Observation(station, "import", t, values, "past", n, historical=True, rank=250)))


def tell_time(store: Path) -> None:
    """A person's word that this machine's clock is right, for agents on it: nothing else may keep it."""
    machine = SystemClock()
    with Store.open(store) as opened:
        confirm(opened, machine, machine.now(), machine.monotonic())


class Kept:
    """What an agent left in its store, committed."""

    def __init__(self, config: Path) -> None:
        with Store.open(config.with_name("store.sqlite"), read_only=True) as store:
            said = last_said(store, [station.id for station in load(config).stations])
            self.status: dict[str, Any] = msgspec.to_builtins(said)
            self.observations = {name: list(store.observations(name)) for name in store.stations()}
            self.forecasts = {
                name: list(store.forecasts(name, since=0, until=2**40)) for name in {*self.observations, *self.status}
            }
            self.books = store.counts("mqtt")

    def values(self, source: str, variable: str = "temperature", station: str = "home") -> list[float]:
        """A sensor's values in the order of their times."""
        mine = (judged.observation for judged in self.observations.get(station, []))
        return [o.values[variable] for o in mine if o.source == source and variable in o.values]


class Running:
    """An agent in a thread, and what it told."""

    def __init__(self, config: Path, clock: Clock, **options: Any) -> None:
        self.config = config
        self.events: list[Event] = []
        self.failure: BaseException | None = None
        self.result: int | None = None
        self._stop = threading.Event()
        options.setdefault("on_event", self.events.append)
        self._agent = Agent(load(config), clock, **options)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def reads(self) -> Running:
        """Wait until every port is open: what a board printed before is not read."""
        until(lambda: self.failure or hasattr(self._agent, "_sources"), "the sensors")
        states = [lambda source=source: source.health().state == "reading" for source in self._agent._sources]
        until(lambda: all(reading() for reading in states), "every port to be open")
        return self

    def stop(self) -> Kept:
        """End it; what it left."""
        self.end()
        if self.failure is not None:
            raise self.failure
        assert self.result == 0
        return Kept(self.config)

    def end(self) -> None:
        self._stop.set()
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()

    def health(self, source: str) -> str:
        """A sensor's state at this moment; empty before it was built."""
        return next((s.health().state for s in getattr(self._agent, "_sources", ()) if s.name == source), "")

    def stuck(self, source: str) -> int:
        """How often its thread was replaced so far."""
        return next(s.health().stuck for s in self._agent._sources if s.name == source)

    def seen(self, source: str, kind: str = "observation") -> list[Observation]:
        """Observations of a sensor so far, as they came."""
        told = [event.judged.observation for event in list(self.events) if event.kind == kind and event.judged]
        return [observation for observation in told if observation.source == source]

    def forecasts(self, station: str = "home") -> list[Forecast]:
        found = [event.forecast for event in list(self.events) if event.forecast is not None]
        return [forecast for forecast in found if forecast.station == station]

    def _run(self) -> None:
        try:
            self.result = self._agent.run(self._stop)
        except BaseException as error:  # noqa: BLE001 - raised in the test by `stop`
            self.failure = error
