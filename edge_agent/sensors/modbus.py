"""Modbus devices, RTU and TCP: questions and answers in, readings out, by a register map that is data.

Pure: bytes in, readings out; all it remembers is which wind scale the device turned out to use. The line, and the
library that speaks on it, are `modbus_bus.py` and `modbus_client.py`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from edge_agent.clock import Clock
from edge_agent.config import Sensor
from edge_agent.errors import BadMessage, ConfigError
from edge_agent.observation import Reading
from edge_agent.sensors.driver import DriverSpec, Options, Pressure, Transport, options_of
from edge_agent.sensors.mapping import Count, uncounted
from edge_agent.sensors.modbus_frames import REFUSALS, Frame, Kind, ModbusFrames, frame_at
from edge_agent.sensors.register_map import Register, RegisterMap, WindScale, factors, read_map
from edge_agent.sensors.source import Intake

if TYPE_CHECKING:
    from edge_agent.sensors.modbus_bus import Line, ModbusSource

log = logging.getLogger(__name__)

TCP = "tcp://"
# Lower ends of Beaufort 1 to 12, m/s (WMO-No. 8, part I, chapter 5).
BEAUFORT = (0.3, 1.6, 3.4, 5.5, 8.0, 10.8, 13.9, 17.2, 20.8, 24.5, 28.5, 32.7)
_FASTEST = 60.0  # m/s: the end of what these anemometers measure
_SURE = 20  # so many votes ahead a scale can be at most: a device that was replaced is noticed


class ModbusOptions(Options, frozen=True):
    """`map`: a built-in register map or a file of one (`.toml`); `unit`: the device's address; `interval_s`: between
    polls; `timeout_s`: for an answer; `parity`, `stopbits` of the line; `tcp`: frames of Modbus TCP (without it: where
    the port is `tcp://`); `wind_scale`: `auto`, or m/s for a count of 1; `without`: variables the device does not
    measure, with commas; `gas_temperature_c`, `gas_pressure_hpa`: at which ppb are converted; `address`: first register
    of the answers of a recording that has no questions."""

    map: str
    unit: int | None = None
    interval_s: float = 10.0
    timeout_s: float = 1.0
    parity: Literal["N", "E", "O"] = "N"
    stopbits: Literal[1, 2] = 1
    tcp: bool | None = None
    wind_scale: str | float = "auto"
    without: str = ""
    gas_temperature_c: float = 20.0
    gas_pressure_hpa: float = 1013.25
    address: int | None = None

    def __post_init__(self) -> None:
        if self.unit is not None and not 0 <= self.unit <= 255:
            raise ValueError("unit must lie within 0 to 255 (1 to 247 on a serial line)")
        if not 0.1 <= self.interval_s <= 86_400 or not 0.05 <= self.timeout_s <= 60:
            raise ValueError("interval_s must lie within 0.1 to 86400, timeout_s within 0.05 to 60")
        if not -60 <= self.gas_temperature_c <= 60 or not 300 <= self.gas_pressure_hpa <= 1100:
            raise ValueError("gas_temperature_c must lie within -60 to 60, gas_pressure_hpa within 300 to 1100")
        if self.scale() is not None and not 0 < (self.scale() or 0) <= 10:
            raise ValueError("wind_scale must be auto, or m/s for a count of 1, such as 0.1 or 0.01")

    def scale(self) -> float | None:
        """The wind scale, None for auto. Raises ValueError."""
        return None if self.wind_scale == "auto" else float(self.wind_scale)


def is_tcp(sensor: Sensor, options: ModbusOptions) -> bool:
    """Whether frames are those of Modbus TCP."""
    return (sensor.port or "").startswith(TCP) if options.tcp is None else options.tcp


def map_of(sensor: Sensor, options: ModbusOptions) -> RegisterMap:
    """The device's register map. Raises ConfigError."""
    try:
        return read_map(options.map)
    except ConfigError as error:
        raise ConfigError(f'sensor "{sensor.name}": {error}') from None


class Modbus:
    """Decodes what was asked of one device and what it answered."""

    detects_cuts = True  # every frame has a checksum or a length

    def __init__(self, sensor: Sensor) -> None:
        """Raises ConfigError: wrong options, no such map, or a variable in `without` that the map has not."""
        options = options_of(sensor, ModbusOptions)
        known = map_of(sensor, options)
        without = {name.strip() for name in options.without.split(",") if name.strip()}
        for name in sorted(without - {register.variable for register in known.register}):
            raise ConfigError(f'sensor "{sensor.name}": without = "{name[:40]}": the map has no such variable')
        self._map, self._tcp, self._unit, self._address = known, is_tcp(sensor, options), options.unit, options.address
        self._registers = [register for register in known.register if register.variable not in without]
        reference = {"temperature": options.gas_temperature_c, "pressure": options.gas_pressure_hpa}
        self._factors = {register.variable: factors(register, reference) for register in known.register}
        self._wind = known.wind_scale and _Wind(sensor.name, known.wind_scale, options.scale())

    def decode(self, payload: bytes, count: Count = uncounted) -> list[Reading]:
        """One reading from the answers in a message, each behind its question where that is there.

        Raises:
            BadMessage: `bad-checksum`; and where nothing else is in it, `modbus-exception` (the device refuses),
                `other-unit`, `other-registers` (not what the map knows) or `no-usable-value`.
        """
        registers: dict[int, int] = {}
        trouble: list[BadMessage] = []
        question: Frame | None = None
        at, unit = 0, 0
        while at < len(payload):
            frame = frame_at(payload, at, self._tcp)
            if not isinstance(frame, Frame):
                raise BadMessage("bad-checksum", "bytes that are no Modbus frame: is tcp right?")
            at += frame.length
            if frame.kind is Kind.QUESTION:
                question = frame
                continue
            try:
                registers |= self._answer(frame, question)
                unit = frame.unit
            except BadMessage as error:
                trouble.append(error)
            question = None
        if trouble and not registers:
            raise trouble[0]
        for left_out in trouble:
            count(left_out.reason)
        # the totals of several devices in one recording are their own
        device = f"unit {unit}" if self._unit is None else ""
        return [self._reading(registers, device, count)] if registers else []

    def _answer(self, frame: Frame, question: Frame | None) -> Mapping[int, int]:
        """Registers by their address. Raises BadMessage."""
        if self._unit is not None and frame.unit != self._unit:
            raise BadMessage("other-unit", f"unit {frame.unit} speaks; this sensor is unit {self._unit}")
        if frame.kind is Kind.REFUSAL:
            code = frame.data[0]
            raise BadMessage(
                "modbus-exception", f"the device refuses: {REFUSALS[code]} (code {code}). Is the map right?"
            )
        registers = frame.registers()
        block = self._map.known(frame.function, len(registers))
        if question is not None and (question.unit, question.function) == (frame.unit, frame.function):
            address, asked = question.asked()
            if asked != len(registers):
                raise BadMessage("other-registers", f"{len(registers)} registers where {asked} were asked for")
        elif self._address is not None:
            address = self._address
        elif block is not None:
            address = block.address
        else:
            raise BadMessage("other-registers", f"{len(registers)} of function {frame.function}: not of this map")
        return {address + i: value for i, value in enumerate(registers)}

    def _reading(self, registers: Mapping[int, int], device: str, count: Count) -> Reading:
        """Raises BadMessage."""
        counts = {r.variable: _count(r, registers) for r in self._registers}
        found = {name: value for name, value in counts.items() if value is not None}
        if not found:
            raise BadMessage("other-registers", "none of the map's registers is in the answer")
        unfitted = {name for group in self._map.absent for name in group if not any(found.get(n, 1) for n in group)}
        values: dict[str, float] = {}
        totals: dict[str, float] = {}
        for register in self._registers:
            name = register.variable
            if name not in found:
                continue
            try:
                value = self._value(register, found[name], name in unfitted, registers)
            except BadMessage as error:
                count(error.reason)
            else:
                (totals if register.counter else values)[name] = value
        if not values and not totals:
            raise BadMessage("no-usable-value", "no register of the map holds a value")
        return Reading(values, totals=totals, device=device)

    def _value(self, register: Register, raw: int, unfitted: bool, registers: Mapping[int, int]) -> float:
        """Raises BadMessage."""
        if raw in register.missing:
            raise BadMessage("missing-marker")
        if unfitted:
            raise BadMessage("not-fitted")
        factor, offset = self._factors[register.variable]
        if self._wind and register.variable == "wind_speed":
            factor *= self._wind.scale(raw, registers.get(self._wind.force))
        return round(raw * factor + offset, 9)


class _Wind:
    """Which of two wind scales a device uses. It reports its speed as a count and, in another register, as a Beaufort
    number; under the right scale the two agree. A Beaufort number of 0 proves nothing: some devices always send it."""

    def __init__(self, sensor: str, known: WindScale, fixed: float | None) -> None:
        self._sensor, self._candidates, self._fixed = sensor, known.candidates, fixed
        self.force = known.force
        self._ahead = 0  # votes for the first candidate minus votes for the second

    def scale(self, raw: int, force: int | None) -> float:
        """m/s for a count of 1, from all that was seen so far. Raises BadMessage while that says nothing."""
        if self._fixed is not None:
            return self._fixed
        before = self._choice()
        self._ahead = min(max(self._ahead + self._vote(raw, force), -_SURE), _SURE)
        choice = self._choice()
        if choice and choice != before:
            log.info("sensor %s: its Beaufort numbers say that wind speed counts are %g m/s", self._sensor, choice)
        if not choice and raw:
            raise BadMessage("wind-scale-unknown")
        return choice or 1.0

    def _vote(self, raw: int, force: int | None) -> int:
        """1 for the first candidate, -1 for the second, 0 for neither: the one that agrees, or that is one number off
        while the other is out of the question."""
        first, second = (raw * candidate for candidate in self._candidates)
        if (first > _FASTEST) != (second > _FASTEST):
            return -1 if first > _FASTEST else 1
        if not force:
            return 0
        off, other = abs(beaufort(first) - force), abs(beaufort(second) - force)
        if off > other:
            return -1 if other == 0 or (other == 1 and off >= 3) else 0
        return 1 if off < other and (off == 0 or (off == 1 and other >= 3)) else 0

    def _choice(self) -> float | None:
        first, second = self._candidates
        return None if self._ahead == 0 else first if self._ahead > 0 else second


def beaufort(speed: float) -> int:
    """The Beaufort number of a wind speed, m/s. 3.4 m/s, as reckoned in floating point, is 3."""
    return sum(round(speed, 3) >= low for low in BEAUFORT)


def _count(register: Register, registers: Mapping[int, int]) -> int | None:
    """What a register holds, None where the answer has not got it."""
    addresses = range(register.address, register.address + register.size)
    if any(address not in registers for address in addresses):
        return None
    return register.count([registers[address] for address in addresses])


def _framer(sensor: Sensor) -> ModbusFrames:
    options = options_of(sensor, ModbusOptions)
    return ModbusFrames(map_of(sensor, options), is_tcp(sensor, options))


def line_of(sensor: Sensor) -> Line:
    """The line a sensor is on. Raises ConfigError."""
    from edge_agent.sensors.modbus_bus import Line

    options = options_of(sensor, ModbusOptions)
    if sensor.port is None:
        raise ConfigError(f'sensor "{sensor.name}": add port = "/dev/serial/by-id/..." or "tcp://host:502"')
    baud = sensor.baud or map_of(sensor, options).baud
    return Line(sensor.port, baud, options.parity, options.stopbits, is_tcp(sensor, options), options.timeout_s)


def unit_of(sensor: Sensor) -> int:
    """The device's address. Raises ConfigError: neither the options nor the map say it."""
    options = options_of(sensor, ModbusOptions)
    known = map_of(sensor, options)
    unit = known.unit if options.unit is None else options.unit
    if unit is None:
        raise ConfigError(f'sensor "{sensor.name}": say unit = ... in its options: {known.title}')
    return unit


def _place(sensor: Sensor) -> tuple[str, str]:
    return str(line_of(sensor)), f"unit {unit_of(sensor)}"


def _source(intake: Intake, clock: Clock, shared: dict[str, Any]) -> ModbusSource:
    from edge_agent.sensors.modbus_bus import join

    return join(intake, clock, shared)


DRIVERS = (
    DriverSpec(
        "modbus",
        Transport.SERIAL,
        Modbus,
        "Modbus RTU or TCP by a register map: Renke/CWT/SEN0657, SenseCAP ONE and ORCH S4, SEN0482/0483, your own",
        options=ModbusOptions,
        framer=_framer,
        binary=True,
        pressure=Pressure.MAPPED,
        stamps="on arrival",
        place=_place,
        source=_source,
        files=("map",),
        needs='map = "renke"',
    ),
)
