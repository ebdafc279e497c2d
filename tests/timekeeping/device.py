"""A device in simulated time: the truth, what its machine's clock says, and the parts of an agent that keep time."""

from __future__ import annotations

from pathlib import Path

from edge_agent.acceptance import DESTINATIONS, Acceptance
from edge_agent.clock import ManualClock, format_time, parse_time
from edge_agent.config import Config, Sensor, Station
from edge_agent.config import Store as StoreSection
from edge_agent.observation import Reading
from edge_agent.publish.feed import is_late
from edge_agent.publish.payloads import observation_payload
from edge_agent.retention import Retention
from edge_agent.schedule import Every, Origins
from edge_agent.store import Store
from edge_agent.timekeeping.keeper import Timekeeper
from edge_agent.timekeeping.station_clock import StationClock

START = parse_time("2026-03-01T12:07:13Z") + 0.4
SENSOR = Sensor("mast", "json_lines")


class Device:
    """Goes through boots and power cuts with one store. `truth`: the time it really is; `ppm`: how much too fast the
    machine's crystal is. `came`: id of each committed observation -> the truth at its arrival; `sink`: id -> what a
    receiver that keeps to docs/mqtt.md has, time and values; `issued`: truth, origin and why not above persistence, of
    each forecast; `starts`: of the agent."""

    def __init__(self, path: Path, truth: float = START, ppm: float = 0.0, cadence_s: float = 10.0) -> None:
        self.path, self.truth, self.ppm, self.cadence_s = path, truth, ppm, cadence_s
        self.commit_s = max(60.0, 6 * cadence_s)
        self.config = Config(Station("roof", 47, 8, 400), StoreSection(str(path)), sensor=[SENSOR])
        self.came: dict[str, float] = {}
        self.sink: dict[str, tuple[float, dict[str, float]]] = {}
        self.issued: list[tuple[float, int, str]] = []
        self.starts: list[float] = []
        self.broker = True
        self.seen = 0
        self._uncommitted: dict[str, float] = {}

    def boot(self, says: float, state: str = "unsynced", *, after_s: float = 20.0) -> None:
        """The machine starts, and `after_s` later the agent; the machine's clock then says `says`."""
        self.machine = ManualClock(says - after_s, state)
        self.machine.advance(after_s)
        self.start()

    def start(self) -> None:
        """The agent starts."""
        self.starts.append(self.truth)
        self.store = Store.open(self.path)
        self.clock = StationClock(self.machine)
        self.keeper = Timekeeper(self.clock, self.store, DESTINATIONS, lambda: self.acceptance.forget())
        self.acceptance = Acceptance(self.config, self.clock, self.store)
        self.retention = Retention(self.store, self.clock)
        self.origins, self.commits = Origins(), Every(self.commit_s, self.clock.monotonic() + self.commit_s)

    def stop(self) -> None:
        """The agent stops in good order."""
        self.commit()
        self.store.close()

    def power_cut(self, off_s: float) -> None:
        """What was not committed is gone; `off_s` later the power is back."""
        self.store._connection._sqlite.close()
        self._uncommitted.clear()
        self.truth += off_s

    def commit(self) -> None:
        self.store.commit(self.clock.now())
        self.came |= self._uncommitted
        self._uncommitted.clear()

    def sync(self) -> None:
        """A time server is reached: the system's clock is set right, and kept so."""
        self.machine.set(self.truth, "synced")

    def run(self, span_s: float, step_s: float = 1.0) -> None:
        """Let time pass, as the agent's loop would see it."""
        end = self.truth + span_s
        while self.truth < end - 1e-6:
            self.truth += step_s
            self.machine.advance(step_s * (1 + self.ppm * 1e-6))
            self.seen += 1
            if self.seen % max(round(self.cadence_s / step_s), 1) == 0:
                self.read()
            self.turn()

    def read(self) -> None:
        """A sensor's reading arrives."""
        steady = self.clock.monotonic()
        reading = Reading({"temperature": 10 + self.seen % 50 / 10, "rain": 0.1})
        took = self.acceptance.take(SENSOR, reading, self.clock.at(steady), steady)
        assert took.kept, "a reading was lost"
        self._uncommitted[took.judged.observation.id] = self.truth

    def turn(self) -> None:
        """One turn of the loop."""
        self.keeper.look()
        moving = self.keeper.restamp()
        origin = None if moving else self.origins.due(self.clock.now(), self.clock.monotonic())
        if origin is not None:
            self.issued.append((self.truth, origin, self.clock.unfit()))
            self.keeper.issued(origin)
        if self.broker:
            self.publish()
        if self.commits.due(self.clock.monotonic()):
            self.commit()

    def publish(self) -> None:
        """Everything that waits reaches a receiver, which drops what it has unless it was put right."""
        rows = self.store.queued("mqtt", 1000)
        for row in rows:
            payload = observation_payload(row.judged, is_late(row.judged.observation, self.clock.now()))
            if payload.id not in self.sink or isinstance(payload.restamped_from, str):
                if isinstance(payload.restamped_from, str):
                    assert payload.historical
                self.sink[payload.id] = (parse_time(payload.t), payload.v)
        self.store.acknowledge("mqtt", [row.key for row in rows])

    # --- laws ---

    def check(self, within_s: float = 1.0) -> None:
        """Every committed observation is there once, as is its copy at the receiver, with a time within `within_s` of
        the truth; grid and newest readings are those of these rows."""
        rows = {judged.observation.id: judged for judged in self.store.observations("roof")}
        came = self.came | self._uncommitted
        assert rows.keys() == came.keys()
        for id_, judged in rows.items():
            assert abs(judged.observation.t - came[id_]) <= within_s, (id_, format_time(came[id_]), judged)
        if self.broker:
            assert came.keys() <= self.sink.keys()  # a receiver may have more: what was lost with the power
            for id_, truth in came.items():
                assert abs(self.sink[id_][0] - truth) <= within_s
        books = self.store.counts("mqtt")
        assert books.accepted == books.acknowledged + books.queued + sum(books.dropped.values())
        with Store.open(self.path.with_name("again.sqlite")) as again:
            for judged in rows.values():
                again.add(judged)
            origin = int(self.truth) // 900 * 900 + 900
            assert again.newest("roof") == self.store.newest("roof")
            ours, theirs = (store.history(["roof"], origin) for store in (self.store, again))
            assert ((ours == theirs) | ((ours != ours) & (theirs != theirs))).all()
        self.path.with_name("again.sqlite").unlink()
