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
from edge_agent.sensors.mapping import EARLIEST, Decoder, Origin, OriginDecoder
from edge_agent.sensors.rain import RainAccumulator, wraps_of
from edge_agent.sensors.supervisor import State, delivery, left_behind
from edge_agent.variables import VARIABLES, Kind, conversion

log = logging.getLogger(__name__)

BURST_S = 60.0  # a broker hands over at once what it kept: so many seconds' worth of messages may come together
AHEAD_S = 600.0  # a message's own time may run so far ahead of this device's
MAX_BATTERIES = 64  # remembered a source
MAX_COUNTERS = 64  # running totals shown a source
MAX_DEVICES = 64  # told apart a source
MAX_GAUGES = 4_096  # remembered a source: a gateway's devices, not whatever a neighbour's radio sends
UNKNOWN_AGE_S = 60.0  # of a total, where this device's clock does not know how long it was off

Emit = Callable[[Sensor, Reading, float], bool]
Gauges = Mapping[tuple[str | None, str], RainState]  # by station and gauge


@dataclass(frozen=True, slots=True)
class Health:
    """How a source is doing. `state`: `opening`, `reading`, `waiting` (to try again), `hung` (its device holds every
    thread it may have) or `stopped`; `detail`: what is wrong and what to do, empty if nothing is. `stuck`: how often
    its thread hung and was replaced. `rejected`: messages and single values left out, by reason. `last_t`: UTC
    seconds of the last accepted reading. `battery`: by part, `ok`, `low` or volts, where the device says it.
    `device_clock`: what a device's clock last showed (UTC seconds), and this device's monotonic seconds at that moment.
    `counters`: running totals as last read, by gauge, in the unit of their variable (rain: mm).
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
    counters: dict[str, float] = field(default_factory=dict)
    stuck: int = 0


class Source(Protocol):
    """One sensor, read in the background."""

    @property
    def name(self) -> str: ...

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def health(self) -> Health: ...


class OpenSource(Source, Protocol):
    """A source that can be probed: `problem`: why nothing can come and what to do, empty if it can; `complaint`: the
    latest refusal in words."""

    @property
    def problem(self) -> str: ...

    @property
    def complaint(self) -> str: ...


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
        *,
        newest: float | None = None,
    ) -> None:
        """`gauges`: how running totals stood at the end of the last run; a station is None where messages do not name
        it. `newest`: UTC seconds of the newest reading that was kept before, None where there is none."""
        self.sensor = sensor
        self.detects_cuts = decoder.detects_cuts
        self._decoder, self._emit, self._clock = decoder, emit, clock
        self._by_origin = decoder if isinstance(decoder, OriginDecoder) else None
        self._stations = frozenset(stations)
        self._bucket = _Bucket(sensor.max_messages_s, clock)
        self._totals = {
            field.variable: conversion(field.variable, field.unit)[0] for field in sensor.map.values() if field.counter
        }  # variable -> the counter's unit, mm
        self._restored = dict(gauges or {})
        self._rain: dict[tuple[str | None, str], RainAccumulator] = {}
        self._battery: dict[str, str | float] = {}
        self._counters: dict[str, float] = {}
        self._givers: dict[str, dict[str, None]] = {}  # variable -> the devices it came from
        self._lock = threading.Lock()
        self._accepted = 0
        self._rejected: Counter[str] = Counter()
        self._last_t: float | None = None
        self._newest = self._heard = newest  # UTC seconds of the newest reading, and of the newest that is no archive's
        self._archived: dict[tuple[str | None, str, str], float] = {}  # sums that archives gave since the last total
        self._device_clock: tuple[float, float] | None = None
        self._last_complaint = ""

    def message(self, payload: bytes, *, retained: bool = False, station: str | None = None, topic: str = "") -> None:
        """Take one message. `retained`: the broker kept it, nobody knows since when. `station`: named by its topic."""
        arrived = self._clock.now()
        if left_behind():
            self.refuse("left-behind", "its thread hung, and another has taken its place")
        elif len(payload) > self.sensor.max_message_bytes:
            self.refuse("too-large", f"{len(payload)} bytes; max_message_bytes is {self.sensor.max_message_bytes}")
        elif not self._bucket.take():
            self.refuse("too-fast", f"more than max_messages_s = {self.sensor.max_messages_s:g}")
        elif station is not None and station not in self._stations:
            self.refuse("unknown-station", f'"{station[:40]}" is no station of this configuration')
        else:
            self._read(payload, topic, arrived, retained, station)

    def refuse(self, reason: str, detail: str = "") -> None:
        """Count something that was left out."""
        with self._lock:
            self._rejected[reason] += 1
            if detail:
                self._last_complaint = f"{reason}: {detail}"

    def health(self, state: str, detail: str, reopened: int, stuck: int = 0) -> Health:
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
                dict(self._counters),
                stuck,
            )

    def standing(self, state: State, hint: Callable[[Health], str], *, active: bool = True) -> Health:
        """The counts so far, with what the connection's supervisor says, and `hint` of them while it reads. `active`:
        the sensor was started, and not stopped since."""
        if not active:
            return self.health("stopped", "", state.reopened)
        found = self.health(state.name, f"{state.problem} {state.again}".strip(), state.reopened, state.stuck)
        return replace(found, detail=hint(found)) if state.name == "reading" else found

    @property
    def last_complaint(self) -> str:
        """The latest refusal in words, empty if there was none."""
        with self._lock:
            return self._last_complaint

    @property
    def newest(self) -> float | None:
        """UTC seconds of the newest reading, also of those kept before this start; None where there is none."""
        with self._lock:
            return self._newest

    @property
    def mixed(self) -> str:
        """Which variable comes from several devices, so that their values alternate, in words; empty if none does."""
        with self._lock:
            for variable, devices in self._givers.items():
                if len(devices) > 1:
                    some = ", ".join(list(devices)[:3])
                    return f"{variable} comes from {len(devices)} devices ({some})"
        return ""

    def _read(self, payload: bytes, topic: str, arrived: float, retained: bool, station: str | None) -> None:
        try:
            if self._by_origin is None:
                readings = self._decoder.decode(payload, self.refuse)
            else:
                readings = self._by_origin.decode_from(payload, Origin(topic, self._clock.monotonic()), self.refuse)
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
        reading = self._once(reading)
        totals = self._totals_of(reading)
        reading = self._increments(reading, totals) if totals else reading
        values = reading.values
        if not values:
            return
        with delivery() as may:
            taken = may and self._emit(self.sensor, reading, arrived)
        if not may:
            raise BadMessage("left-behind", "its thread hung, and another has taken its place")
        if not taken:
            for variable in totals.keys() & values.keys():
                self._rain[reading.station, _gauge_name(reading, variable)].carry(values[variable])
            raise BadMessage("queue-full", "the agent cannot keep up")
        self._note_archived(reading)
        with self._lock:
            self._accepted += 1
            self._last_t = t = arrived if reading.t is None else float(reading.t)
            self._newest = max(t, self._newest or t)
            if not reading.historical:
                self._heard = t
            for variable in values if reading.station is None else ():
                devices = self._givers.setdefault(variable, {})
                if len(devices) < MAX_DEVICES:
                    devices[_label(reading.device)] = None

    def _note_battery(self, reading: Reading) -> None:
        with self._lock:
            for part, state in list(reading.battery.items())[:MAX_BATTERIES]:
                name = _label(reading.station, reading.device, part)
                told = bool(state) if isinstance(state, str) else math.isfinite(state)
                if name and told and (name in self._battery or len(self._battery) < MAX_BATTERIES):
                    self._battery[name] = state[:100] if isinstance(state, str) else float(state)

    def _note_counter(self, gauge: str, total: float) -> None:
        with self._lock:
            if gauge in self._counters or len(self._counters) < MAX_COUNTERS:
                self._counters[gauge] = total

    def _once(self, reading: Reading) -> Reading:
        """An archive's reading without the sums of an interval in which this device still listened: there, what fell
        comes with the running total."""
        if not reading.historical or reading.t is None or self._heard is None:
            return reading
        sums = {name for name in reading.values if VARIABLES[name].kind is Kind.SUM}
        if not sums or reading.t - (reading.period_s or 0) >= self._heard:
            return reading
        self.refuse("overlapping-sum")
        return replace(reading, values={name: v for name, v in reading.values.items() if name not in sums})

    def _note_archived(self, reading: Reading) -> None:
        """A running total that goes on across an archive's intervals must not count their rain a second time."""
        for variable, value in reading.values.items() if reading.historical else ():
            key = (reading.station, reading.device, variable)
            if VARIABLES[variable].kind is Kind.SUM and (key in self._archived or len(self._archived) < MAX_GAUGES):
                self._archived[key] = self._archived.get(key, 0.0) + value

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
            self._note_counter(_label(reading.station, reading.device, variable), total)
            gauge.carry(-self._archived.pop((reading.station, reading.device, variable), 0.0))
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
        return replace(reading, values=values, totals=dict(totals), gauges=gauges, gathered_s=gathered_s)

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


def _label(*parts: str | None) -> str:
    """What to call a part of a device in the status: at most 100 characters that can be shown."""
    shown = ("".join(c for c in part if c.isprintable()).strip() for part in parts if part)
    return " ".join(filter(None, shown))[:100]


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
