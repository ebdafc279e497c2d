"""From a sensor's reading to a kept observation: its identity, the verdict on it, its place in store and outbox.

Only for the thread that opened the store. Never alters a value, save that the rain of a reading whose second was taken
comes with the next one.
"""

from __future__ import annotations

import math
import secrets
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from edge_agent.clock import Clock
from edge_agent.config import Config, Sensor
from edge_agent.observation import Flag, Judged, Observation, Reading
from edge_agent.quality import QualityControl
from edge_agent.store import Store
from edge_agent.variables import VARIABLES, Kind

DESTINATIONS = ("mqtt",)
SEED_S = 86_400  # past that quality control remembers from before the start
SEED_ROWS = 10_000  # of it at most, the newest: more would keep the first reading waiting


@dataclass(frozen=True, slots=True)
class Taken:
    """A reading that was taken. `kept`: it, or a part of it, is in the store. `left_out`: why values of it are not, or
    empty. `duplicate`: they were there for its source and second; `same-second`: others were, which stay."""

    judged: Judged
    kept: bool
    left_out: Literal["", "duplicate", "same-second"] = ""


class Acceptance:
    """Takes the readings of all sensors of a configuration. `flags`: station -> values kept, by verdict."""

    def __init__(self, config: Config, clock: Clock, store: Store) -> None:
        self.flags: dict[str, Counter[Flag]] = {station.id: Counter() for station in config.stations}
        self._config, self._clock, self._store = config, clock, store
        self._quality = QualityControl(config.stations)
        self._reminded: set[str] = set()
        self._ranks = ranks(config)
        self._boot_id = secrets.token_hex(6)
        store.belongs(self._boot_id, clock.boot_id)
        self._seq: Counter[str] = Counter()
        self._owed: dict[tuple[str, str], dict[str, float]] = {}  # (station, sensor) -> sums for its next reading

    def take(self, sensor: Sensor, reading: Reading, arrived: float, steady: float | None = None) -> Taken:
        """Judge a reading, keep it and queue it for the broker. `arrived`: UTC seconds, its time where it has none;
        `steady`: the same on the steady clock.

        Raises:
            StoreError: it could not be kept.
        """
        observation = self._observation(sensor, reading, arrived, steady)
        self._remind(observation.station)
        judged = self._quality.judge(observation)
        fate = self._store.add(judged, DESTINATIONS, reading.gauges)
        flags = (verdict.flag for name, verdict in judged.verdicts.items() if name in fate.kept)
        self.flags[observation.station].update(flags)
        owed = self._owe(sensor, reading, observation, fate.same | fate.other)
        if fate.other - owed:
            return Taken(judged, bool(fate), "same-second")
        return Taken(judged, bool(fate), "" if fate else "duplicate")

    def forget(self) -> None:
        """The past has got other times: remember it anew from the store."""
        self._quality = QualityControl(self._config.stations)
        self._reminded.clear()

    def _observation(self, sensor: Sensor, reading: Reading, arrived: float, steady: float | None) -> Observation:
        station = reading.station or self._config.station_of(sensor)
        assert station is not None  # an intake lets no message pass whose station it does not know
        self._seq[sensor.name] += 1
        t = math.floor(arrived) if reading.t is None else reading.t
        if steady is not None and reading.t is None:
            t = self._store.free_second(station, sensor.name, t, steady, self._clock.boot_id)
        return Observation(
            station=station,
            source=sensor.name,
            t=t,
            values=self._with_owed(station, sensor, reading.values),
            boot_id=self._boot_id,
            seq=self._seq[sensor.name],
            clock=self._clock.state(),
            period_s=sensor.period_s,
            rank=self._ranks[sensor.name],
            gathered_s=reading.gathered_s,
            steady_s=None if steady is None else round(steady, 3),
            stamped=steady is not None and reading.t is None,
        )

    def _owe(self, sensor: Sensor, reading: Reading, observation: Observation, names: frozenset[str]) -> set[str]:
        """Of the values that were not kept, those that come with the next reading; their names.

        A sensor that speaks more than once a second, or more often than its own time advances, brings values for a time
        that has some. Its rain fell all the same. What came twice with its own time fell once: a message that was sent
        again cannot be told from a second one, unless it is the increment of a running total.
        """
        totals = {field.variable for field in sensor.map.values() if field.counter}
        owed = {name for name in names if VARIABLES[name].kind is Kind.SUM and (reading.t is None or name in totals)}
        if owed:
            mine = self._owed.setdefault((observation.station, sensor.name), {})
            mine |= {name: observation.values[name] for name in owed}
        return owed

    def _with_owed(self, station: str, sensor: Sensor, values: Mapping[str, float]) -> Mapping[str, float]:
        owed = self._owed.get((station, sensor.name))
        return {name: value + owed.pop(name, 0) for name, value in values.items()} if owed else values

    def _remind(self, station: str) -> None:
        """Tell quality control of the station's recent past, once, so that a restart leaves no blind hours. It is the
        past of its last reading, not of this device's clock, which may not be set yet."""
        if station in self._reminded:
            return
        self._reminded.add(station)
        newest = max((t for t, _, _ in self._store.newest(station).values()), default=None)
        if newest is not None:
            past = deque(self._store.observations(station, newest - SEED_S), SEED_ROWS)
            self._quality.seed(judged.observation for judged in past)


def ranks(config: Config) -> dict[str, int]:
    """Sensor -> its position among those of its station, 0 = preferred; one that serves all stations counts for all."""
    found: dict[str, int] = {}
    before: Counter[str | None] = Counter()
    for position, sensor in enumerate(config.sensor):
        station = config.station_of(sensor)
        found[sensor.name] = position if station is None else before[station] + before[None]
        before[station] += 1
    return found
