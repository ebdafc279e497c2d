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

from edge_agent.clock import Clock
from edge_agent.config import Sensor
from edge_agent.errors import BadMessage
from edge_agent.observation import Reading
from edge_agent.sensors.mapping import EARLIEST, Decoder, Origin, OriginDecoder
from edge_agent.sensors.rain import RainAccumulator, wraps_of
from edge_agent.variables import conversion

log = logging.getLogger(__name__)

BURST_S = 60.0  # a broker hands over at once what it kept: so many seconds' worth of messages may come together
AHEAD_S = 600.0  # a message's own time may run so far ahead of this device's
MAX_BATTERIES = 64  # remembered a source
MAX_COUNTERS = 64  # running totals shown a source
MAX_DEVICES = 64  # told apart a source
MAX_GAUGES = 4_096  # remembered a source: a gateway's devices, not whatever a neighbour's radio sends
ANY_WRAP = wraps_of(1.0)

Emit = Callable[[Sensor, Reading, float], bool]


@dataclass(frozen=True, slots=True)
class Health:
    """How a source is doing. `state`: `opening`, `reading`, `waiting` (to try again) or `stopped`; `detail`: what is
    wrong and what to do, empty if nothing is. `rejected`: messages and single values left out, by reason. `last_t`: UTC
    seconds of the last accepted reading. `battery`: by part, `ok`, `low` or volts, where the device says it.
    `counters`: running totals as last read, by gauge, in the unit of their variable (rain: mm)."""

    name: str
    driver: str
    state: str
    detail: str
    accepted: int
    rejected: dict[str, int]
    last_t: float | None
    reopened: int
    battery: dict[str, str | float] = field(default_factory=dict)
    counters: dict[str, float] = field(default_factory=dict)


class Source(Protocol):
    """One sensor, read in the background."""

    @property
    def name(self) -> str: ...

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def health(self) -> Health: ...


class Intake:
    """The way of one sensor's messages to the agent. Messages come from one thread; `health` may be asked from any."""

    def __init__(self, sensor: Sensor, decoder: Decoder, emit: Emit, clock: Clock, stations: Sequence[str]) -> None:
        self.sensor = sensor
        self.detects_cuts = decoder.detects_cuts
        self._decoder, self._emit, self._clock = decoder, emit, clock
        self._by_origin = decoder if isinstance(decoder, OriginDecoder) else None
        self._stations = frozenset(stations)
        self._bucket = _Bucket(sensor.max_messages_s, clock)
        self._totals = {
            field.variable: wraps_of(conversion(field.variable, field.unit)[0])
            for field in sensor.map.values()
            if field.counter
        }
        self._rain: dict[tuple[str | None, str, str], RainAccumulator] = {}
        self._battery: dict[str, str | float] = {}
        self._counters: dict[str, float] = {}
        self._givers: dict[str, dict[str, None]] = {}  # variable -> the devices it came from
        self._lock = threading.Lock()
        self._accepted = 0
        self._rejected: Counter[str] = Counter()
        self._last_t: float | None = None
        self._last_complaint = ""

    def message(self, payload: bytes, *, retained: bool = False, station: str | None = None, topic: str = "") -> None:
        """Take one message. `retained`: the broker kept it, nobody knows since when. `station`: named by its topic."""
        arrived = self._clock.now()
        if len(payload) > self.sensor.max_message_bytes:
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
                dict(self._counters),
            )

    @property
    def last_complaint(self) -> str:
        """The latest refusal in words, empty if there was none."""
        with self._lock:
            return self._last_complaint

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
        # a device without a battery starts in 1970; its own time is then no measure for a sensor's
        if reading.t is not None and reading.t > arrived + AHEAD_S and arrived > EARLIEST:
            raise BadMessage("bad-time", f"{reading.t - arrived:.0f} s ahead of this device's clock")
        self._note_battery(reading)
        totals = self._totals_of(reading)
        values = self._increments(reading, totals)
        if not values:
            return
        if not self._emit(self.sensor, replace(reading, values=values, totals=totals), arrived):
            for variable in totals.keys() & values.keys():
                self._rain[reading.station, reading.device, variable].carry(values[variable])
            raise BadMessage("queue-full", "the agent cannot keep up")
        with self._lock:
            self._accepted += 1
            self._last_t = arrived if reading.t is None else float(reading.t)
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

    def _totals_of(self, reading: Reading) -> dict[str, float]:
        """Its running totals: those the decoder knows, and those that the map says are."""
        mapped = {name: reading.values[name] for name in self._totals if name in reading.values}
        return {**reading.totals, **mapped}

    def _increments(self, reading: Reading, totals: Mapping[str, float]) -> Mapping[str, float]:
        """The reading's values with every running total replaced by what fell since the one before."""
        if not totals:
            return reading.values
        t = self._clock.monotonic() if reading.t is None else float(reading.t)
        values = {name: value for name, value in reading.values.items() if name not in totals}
        for variable, total in totals.items():
            if total < 0:
                self.refuse("negative-total")
                continue
            key = (reading.station, reading.device, variable)
            if key not in self._rain and len(self._rain) >= MAX_GAUGES:
                self.refuse("too-many-gauges", f"more than {MAX_GAUGES}")
                continue
            self._note_counter(_label(reading.station, reading.device, variable), total)
            gauge = self._rain.setdefault(key, RainAccumulator(self._totals.get(variable, ANY_WRAP)))
            increment = gauge.add(total, t)
            if increment.note:
                self.refuse(increment.note)
            if increment.mm is not None:
                values[variable] = increment.mm
        return values


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
