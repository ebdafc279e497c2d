"""From a sensor's reading to a kept observation: its identity, the verdict on it, its place in store and outbox.

Only for the thread that opened the store. Never alters a value, save that the rain of a reading whose second was taken
comes with the next one.
"""

from __future__ import annotations

import math
import secrets
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from edge_agent import grid
from edge_agent.clock import Clock
from edge_agent.config import Config, Sensor
from edge_agent.forecast import Forecast
from edge_agent.observation import Flag, Judged, Observation, Reading, Revision
from edge_agent.quality import QualityControl
from edge_agent.store import Keeper, Store
from edge_agent.variables import VARIABLES, Kind

DESTINATIONS = ("mqtt",)
SEED_S = 86_400  # past that quality control remembers from before the start
SEED_ROWS = 10_000  # of it at most, the newest: more would keep the first reading waiting
SEED_PART_S = 3600  # of it in memory at once: a day of readings is 20 MB


@dataclass(frozen=True, slots=True)
class Taken:
    """A reading that was taken. `kept`: it, or a part of it, is in the store. `left_out`: why values of it are not, or
    empty. `duplicate`: they were there for its source and second; `same-second`: others were, which stay."""

    judged: Judged
    kept: bool
    left_out: Literal["", "duplicate", "same-second"] = ""


class Acceptance:
    """Takes the readings of all sensors of a configuration. `flags`: station -> values kept, by verdict."""

    def __init__(self, config: Config, clock: Clock, store: Store | Keeper) -> None:
        self.flags: dict[str, Counter[Flag]] = {station.id: Counter() for station in config.stations}
        self._config, self._clock, self._store = config, clock, store
        self._quality = QualityControl(config.stations, config.neighbour)
        self._reminded: set[str] = set()
        self._ranks = ranks(config)
        self._boot_id = secrets.token_hex(6)
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
        for revision in judged.revisions:
            self._revise(revision)
        flags = (verdict.flag for name, verdict in judged.verdicts.items() if name in fate.kept)
        self.flags[observation.station].update(flags)
        owed = self._owe(sensor, reading, observation, fate.same | fate.other)
        if fate.other - owed:
            return Taken(judged, bool(fate), "same-second")
        return Taken(judged, bool(fate), "" if fate else "duplicate")

    def forget(self) -> None:
        """The past has got other times: remember it anew from the store."""
        self._quality = QualityControl(self._config.stations, self._config.neighbour)
        self._reminded.clear()

    def hear(self, reading: Reading) -> None:
        """A neighbour's reading, to compare with: of good values only, and never kept."""
        if reading.station is not None and reading.t is not None:
            self._quality.hear(reading.station, reading.t, reading.values)

    def expect(self, forecast: Forecast) -> None:
        """A forecast was issued: hold what comes against it."""
        self._quality.expect(forecast)

    def _revise(self, revision: Revision) -> None:
        before = self._store.revise(revision, self._clock.now())
        self.flags[revision.station].subtract(before)
        self.flags[revision.station][revision.verdict.flag] += before.total()

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
            period_s=reading.period_s or sensor.period_s,
            historical=reading.historical,
            rank=self._ranks[sensor.name],
            gathered_s=reading.gathered_s,
            machine="" if steady is None else self._clock.boot_id,
            steady_s=None if steady is None else round(steady, 3),
            stamped=steady is not None and reading.t is None,
        )

    def _owe(self, sensor: Sensor, reading: Reading, observation: Observation, names: frozenset[str]) -> set[str]:
        """Of the values that were not kept, those that come with the next reading; their names.

        A sensor that speaks more than once a second, or more often than its own time advances, brings values for a time
        that has some. Its rain fell all the same. What came twice with its own time fell once: a message that was sent
        again cannot be told from a second one, unless it is the increment of a running total.
        """
        told = reading.totals  # what comes with these fell once, however often it is said
        owed = {name for name in names if VARIABLES[name].kind is Kind.SUM and (reading.t is None or name in told)}
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
            self._seed_levels(station, newest)
            first = self._store.first_of_newest(station, SEED_ROWS, newest - SEED_S)
            for start in range(first, newest + 1, SEED_PART_S):
                part = self._store.observations(station, start, min(start + SEED_PART_S - 1, newest))
                self._quality.seed(judged.observation for judged in part)

    def _seed_levels(self, station: str, newest: int) -> None:
        """What values are usual, from the grid's 30 days before the past that is judged again."""
        origin = (newest - SEED_S) // grid.STEP_S * grid.STEP_S
        columns = self._store.history([station], origin)[0].astype(np.float64)
        values = {name: columns[:, i] for i, name in enumerate(grid.GRID_VARIABLES)}
        self._quality.seed_levels(station, values, grid.STEP_S / 3600)


def ranks(config: Config) -> dict[str, int]:
    """Sensor -> its position among those of its station, 0 = preferred; one that serves all stations counts for all."""
    found: dict[str, int] = {}
    before: Counter[str | None] = Counter()
    for position, sensor in enumerate(config.sensor):
        station = config.station_of(sensor)
        found[sensor.name] = position if station is None else before[station] + before[None]
        before[station] += 1
    return found
