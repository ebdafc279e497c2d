"""What every source does with a message once it has one, whatever carried it: bounds, decoding, counting, handing on.

Never blocks: a reading that the agent cannot take is counted and gone.
"""

from __future__ import annotations

import logging
import math
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from edge_agent import grid
from edge_agent.clock import Clock
from edge_agent.config import Sensor
from edge_agent.errors import BadMessage
from edge_agent.observation import RainState, Reading
from edge_agent.sensors.mapping import EARLIEST, Decoder
from edge_agent.sensors.rain import RainAccumulator, wraps_of
from edge_agent.variables import conversion

log = logging.getLogger(__name__)

BURST_S = 60.0  # a broker hands over at once what it kept: so many seconds' worth of messages may come together
AHEAD_S = 600.0  # a message's own time may run so far ahead of this device's
MAX_BATTERIES = 64  # remembered a source
MAX_GAUGES = 4_096  # remembered a source: a gateway's devices, not whatever a neighbour's radio sends
UNKNOWN_AGE_S = 60.0  # of a total, where this device's clock does not know how long it was off

Emit = Callable[[Sensor, Reading, float], bool]
Gauges = Mapping[tuple[str | None, str], RainState]  # by station and gauge


@dataclass(frozen=True, slots=True)
class Health:
    """How a source is doing. `state`: `opening`, `reading`, `waiting` (to try again) or `stopped`; `detail`: what is
    wrong and what to do, empty if nothing is. `rejected`: messages and single values left out, by reason. `last_t`: UTC
    seconds of the last accepted reading. `battery`: by part, `ok`, `low` or volts, where the device says it.
    `device_clock`: what a device's clock last showed (UTC seconds), and this device's monotonic seconds at that moment.
    """

    name: str
    driver: str
    state: str
    detail: str
    accepted: int
    rejected: dict[str, int]
    last_t: float | None
    reopened: int
    battery: dict[str, str | float] = field(default_factory=dict)
    device_clock: tuple[float, float] | None = None


class Source(Protocol):
    """One sensor, read in the background."""

    @property
    def name(self) -> str: ...

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def health(self) -> Health: ...


class Intake:
    """The way of one sensor's messages to the agent. Messages come from one thread; `health` may be asked from any."""

    def __init__(
        self,
        sensor: Sensor,
        decoder: Decoder,
        emit: Emit,
        clock: Clock,
        stations: Sequence[str],
        gauges: Gauges | None = None,
    ) -> None:
        """`gauges`: how running totals stood at the end of the last run; a station is None where messages do not name
        it."""
        self.sensor = sensor
        self.detects_cuts = decoder.detects_cuts
        self._decoder, self._emit, self._clock = decoder, emit, clock
        self._stations = frozenset(stations)
        self._bucket = _Bucket(sensor.max_messages_s, clock)
        self._totals = {
            field.variable: conversion(field.variable, field.unit)[0] for field in sensor.map.values() if field.counter
        }  # variable -> the counter's unit, mm
        self._restored = dict(gauges or {})
        self._rain: dict[tuple[str | None, str], RainAccumulator] = {}
        self._battery: dict[str, str | float] = {}
        self._lock = threading.Lock()
        self._accepted = 0
        self._rejected: Counter[str] = Counter()
        self._last_t: float | None = None
        self._last_complaint = ""
        self._device_clock: tuple[float, float] | None = None

    def message(self, payload: bytes, *, retained: bool = False, station: str | None = None) -> None:
        """Take one message. `retained`: the broker kept it, nobody knows since when. `station`: named by its topic."""
        arrived = self._clock.now()
        if len(payload) > self.sensor.max_message_bytes:
            self.refuse("too-large", f"{len(payload)} bytes; max_message_bytes is {self.sensor.max_message_bytes}")
        elif not self._bucket.take():
            self.refuse("too-fast", f"more than max_messages_s = {self.sensor.max_messages_s:g}")
        elif station is not None and station not in self._stations:
            self.refuse("unknown-station", f'"{station[:40]}" is no station of this configuration')
        else:
            self._read(payload, arrived, retained, station)

    def refuse(self, reason: str, detail: str = "") -> None:
        """Count something that was left out."""
        with self._lock:
            self._rejected[reason] += 1
            if detail:
                self._last_complaint = f"{reason}: {detail}"

    def health(self, state: str, detail: str, reopened: int) -> Health:
        """The counts so far, with what the connection says of itself."""
        with self._lock:
            return Health(
                self.sensor.name,
                self.sensor.driver,
                state,
                detail,
                self._accepted,
                dict(self._rejected),
                self._last_t,
                reopened,
                dict(self._battery),
                self._device_clock,
            )

    @property
    def last_complaint(self) -> str:
        """The latest refusal in words, empty if there was none."""
        with self._lock:
            return self._last_complaint

    def _read(self, payload: bytes, arrived: float, retained: bool, station: str | None) -> None:
        try:
            readings = self._decoder.decode(payload, self.refuse)
        except BadMessage as error:
            self._complain(error)
            return
        for reading in readings:
            try:
                self._admit(replace(reading, station=station or reading.station), arrived, retained)
            except BadMessage as error:
                self._complain(error)

    def _complain(self, error: BadMessage) -> None:
        self.refuse(error.reason, str(error).removeprefix(error.reason).removeprefix(": ") or error.reason)

    def _admit(self, reading: Reading, arrived: float, retained: bool) -> None:
        """Raises BadMessage."""
        if reading.t is None and retained:
            raise BadMessage("retained-without-time", "the broker kept it, and it does not say since when")
        # a device without a battery starts in the past; its own time is then no measure for a sensor's
        told = arrived > EARLIEST and self._clock.state() != "unsynced"
        if reading.t is not None and reading.t > arrived + AHEAD_S and told:
            raise BadMessage("bad-time", f"{reading.t - arrived:.0f} s ahead of this device's clock")
        self._note_battery(reading)
        if reading.device_clock is not None:
            with self._lock:
                self._device_clock = (reading.device_clock, self._clock.monotonic())
        totals = self._totals_of(reading)
        reading = self._increments(reading, totals) if totals else reading
        values = reading.values
        if not values:
            return
        if not self._emit(self.sensor, reading, arrived):
            for variable in totals.keys() & values.keys():
                self._rain[reading.station, _gauge_name(reading, variable)].carry(values[variable])
            raise BadMessage("queue-full", "the agent cannot keep up")
        with self._lock:
            self._accepted += 1
            self._last_t = arrived if reading.t is None else float(reading.t)

    def _note_battery(self, reading: Reading) -> None:
        prefix = f"{reading.device} " if reading.device else ""
        with self._lock:
            for part, state in list(reading.battery.items())[:MAX_BATTERIES]:
                if f"{prefix}{part}" in self._battery or len(self._battery) < MAX_BATTERIES:
                    self._battery[f"{prefix}{part}"] = state

    def _totals_of(self, reading: Reading) -> dict[str, float]:
        """Its running totals: those the decoder knows, and those that the map says are."""
        mapped = {name: reading.values[name] for name in self._totals if name in reading.values}
        return {**reading.totals, **mapped}

    def _increments(self, reading: Reading, totals: Mapping[str, float]) -> Reading:
        """The reading with every running total replaced by what fell since the one before, and how its gauges stand."""
        t = self._clock.monotonic() if reading.t is None else float(reading.t)
        shift_s = self._clock.now() - self._clock.monotonic() if reading.t is None else 0.0
        values = {name: value for name, value in reading.values.items() if name not in totals}
        gauges, gathered = {}, 0
        for variable, total in totals.items():
            if total < 0:
                self.refuse("negative-total")
                continue
            gauge = self._gauge(reading, variable)
            if gauge is None:
                self.refuse("too-many-gauges", f"more than {MAX_GAUGES}")
                continue
            increment = gauge.add(total, t)
            if increment.note:
                self.refuse(increment.note)
            if increment.mm is not None:
                values[variable] = increment.mm
                gathered = max(gathered, increment.gathered_s or 0)
            state = gauge.state(self._totals.get(variable, 1.0), shift_s)
            if state is not None:
                gauges[_gauge_name(reading, variable)] = state
        # a sum over no more than a step may stand for its step
        gathered_s = gathered if gathered > grid.STEP_S else None
        return replace(reading, values=values, totals={}, gauges=gauges, gathered_s=gathered_s)

    def _gauge(self, reading: Reading, variable: str) -> RainAccumulator | None:
        """The accumulator of a total, from where the last run left it if it did; None for one more than are kept."""
        key, unit_mm = (reading.station, _gauge_name(reading, variable)), self._totals.get(variable, 1.0)
        if key not in self._rain:
            if len(self._rain) >= MAX_GAUGES:
                return None
            state = self._restored.pop(key, None)
            if state is None or not math.isclose(state.unit_mm, unit_mm):
                self._rain[key] = RainAccumulator(wraps_of(unit_mm))
            else:
                shift_s = self._shift_s(state.newest) if reading.t is None else 0.0
                self._rain[key] = RainAccumulator.restored(state, wraps_of(unit_mm), shift_s)
        return self._rain[key]

    def _shift_s(self, then: float) -> float:
        """What brings a UTC time of the last run to this run's monotonic clock. After a boot this device may not know
        the time: then it is not known how long it was off."""
        now, known = self._clock.now(), self._clock.state() != "unsynced"
        age_s = now - then if known and EARLIEST <= then <= now else UNKNOWN_AGE_S
        return self._clock.monotonic() - age_s - then


def _gauge_name(reading: Reading, variable: str) -> str:
    """Which gauge a total is of: each device behind a source has its own."""
    return f"{variable} {reading.device}" if reading.device else variable


class _Bucket:
    """Lets `rate` messages a second pass on average, and up to a minute's worth at once."""

    def __init__(self, rate: float, clock: Clock) -> None:
        self._rate, self._clock = rate, clock
        self._most = max(rate * BURST_S, 1.0)
        self._tokens, self._at = self._most, clock.monotonic()

    def take(self) -> bool:
        now = self._clock.monotonic()
        self._tokens = min(self._tokens + (now - self._at) * self._rate, self._most)
        self._at = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True
