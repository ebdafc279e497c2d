"""One master a line: a thread that asks all devices of a serial bus, or behind a gateway, in turn.

Each device is a sensor with an account of its own. One that is silent is asked less and less often, so that it does not
hold up its neighbours. Never decodes.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from edge_agent.clock import Clock
from edge_agent.errors import ConfigError, SensorError
from edge_agent.sensors.driver import options_of
from edge_agent.sensors.framing import Refusal
from edge_agent.sensors.modbus import TCP, ModbusOptions, line_of, map_of, unit_of
from edge_agent.sensors.modbus_client import Client, require, split
from edge_agent.sensors.modbus_frames import Frame, Kind, frame_at
from edge_agent.sensors.register_map import Block
from edge_agent.sensors.source import Health, Intake
from edge_agent.sensors.supervisor import HUNG_S, Pauses, Supervisor, Users

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds, except `tries` (of a question to a device that answered the last one) and `misses` (polls in a row that
    no device of the line answered, after which it is opened anew). `gap`: silence between an answer and the next
    question, more than the 3.5 characters of the standard. `look`: how soon a sensor that starts is noticed.
    `seldom`: the longest pause between two polls of a silent device. `hung`: real seconds without a sign of life, after
    which the line's thread is left behind."""

    pauses: Pauses = field(default_factory=Pauses)
    tries: int = 3
    misses: int = 5
    gap: float = 0.05
    look: float = 1.0
    seldom: float = 60.0
    hung: float = HUNG_S


@dataclass(frozen=True, slots=True)
class Line:
    """A line's settings. `tcp`: frames of Modbus TCP; without it RTU, also over the network."""

    port: str
    baud: int
    parity: str
    stopbits: int
    tcp: bool
    timeout_s: float

    @property
    def over_network(self) -> bool:
        return self.port.startswith(TCP)

    def address(self) -> tuple[str, int]:
        """Host and port. Raises ConfigError."""
        return split(self.port)

    def __str__(self) -> str:
        frames = "Modbus TCP" if self.tcp else "RTU"
        serial = "" if self.over_network else f"{self.baud} baud 8{self.parity}{self.stopbits}, "
        return f"{serial}{frames}, timeout_s {self.timeout_s:g}"


class Bus:
    """A line and its devices. They join before it starts; it runs from the first start to the last stop."""

    def __init__(self, line: Line, clock: Clock, limits: Limits | None = None) -> None:
        """Raises ConfigError: pymodbus is not installed, or a tcp:// address that is none."""
        require()
        if line.over_network:
            line.address()
        self.line, self._clock, self._limits = line, clock, limits or Limits()
        self._sources: list[ModbusSource] = []
        self._misses = 0
        self._client: Client | None = None  # of the thread at work
        self.supervisor = Supervisor(
            f"modbus {line.port}",
            self._work,
            clock,
            self._bug,
            self._limits.pauses,
            release=self._let_go,
            hung_s=self._limits.hung,
        )
        self.users = Users(self.supervisor)

    def join(self, source: ModbusSource) -> None:
        """Raises ConfigError: other settings than the line has, or a unit that is taken."""
        if source.line != self.line:
            raise ConfigError(
                f'sensor "{source.name}": {self.line.port} is shared, and a line has one setting: '
                f"{self.line}, or {source.line}"
            )
        if any(other.unit == source.unit for other in self._sources):
            raise ConfigError(f'sensor "{source.name}": unit {source.unit} is already a sensor on {self.line.port}')
        self._sources.append(source)

    # --- the thread ---

    def _work(self) -> None:
        """Raises SensorError: the line cannot be opened, is gone, or nobody on it answers."""
        self._client = client = Client(self.line)
        try:
            self._misses = 0
            self.supervisor.opened()
            while not self.supervisor.stopping.is_set():
                self._next(client)
        finally:
            if self._client is client:  # and not the next thread's
                self._client = None
            client.close()

    def _let_go(self) -> None:
        """Free the line that a thread hangs in for the next one."""
        client, self._client = self._client, None
        if client is not None:
            client.let_go()

    def _next(self, client: Client) -> None:
        """Ask the device whose turn it is, or wait for its time."""
        waiting = [source for source in self._sources if source.name in self.users]
        if not waiting:
            self.supervisor.stopping.wait(self._limits.look)
            return
        source = min(waiting, key=lambda s: s.due)
        early = source.due - self._clock.monotonic()
        if early > 0:
            self.supervisor.stopping.wait(max(min(self._clock.wall(early), self._limits.look), 0.02))
            return
        message = self._poll(client, source)
        source.plan(self._clock.monotonic(), answered=bool(message), seldom=self._limits.seldom)
        if message:
            self._misses = 0
            self.supervisor.progress()
            source.take(message)
            return
        self._misses += 1
        if self._misses >= self._limits.misses:
            raise SensorError(
                f"{self.line.port}: no device answers ({self.line}). Are they powered, A and B not swapped, and are "
                f"baud and unit right? The last: {source.complaint}"
            )

    def _poll(self, client: Client, source: ModbusSource) -> bytes:
        """All blocks of a device: questions with their answers. Raises SensorError."""
        message = b""
        for block in source.blocks:
            if block in source.refused:
                continue
            tries = 1 if source.silent and not message else self._limits.tries
            found = self._ask(client, source, block, tries)
            if isinstance(found, Refusal):
                source.refuse(found)
                break  # its other blocks would wait in vain too
            if block.optional and _is_refusal(found, self.line.tcp):
                source.refused.add(block)
                log.info(
                    "sensor %s: has no registers %d to %d", source.name, block.address, block.address + block.count - 1
                )
                continue
            message += found
        return message

    def _ask(self, client: Client, source: ModbusSource, block: Block, tries: int) -> bytes | Refusal:
        found: bytes | Refusal = Refusal("no-answer")
        for _ in range(tries):
            found = client.ask(source.unit, block.function, block.address, block.count)
            self.supervisor.stopping.wait(self._limits.gap)
            if isinstance(found, bytes) or self.supervisor.stopping.is_set():
                break
        return found

    def _bug(self, error: Exception) -> None:
        for source in self._sources:
            source.intake.refuse("internal-error", f"{type(error).__name__}: {error}")


class ModbusSource:
    """One device on a line. `due`: when it is asked next, on the clock's steady time; `silent`: polls in a row without
    an answer; `refused`: optional blocks that it has not got."""

    def __init__(self, intake: Intake, bus: Bus, clock: Clock) -> None:
        """Raises ConfigError as `Bus.join`, or where nothing says which unit it is."""
        sensor = intake.sensor
        options = options_of(sensor, ModbusOptions)
        self.name, self.intake, self.unit, self.line = sensor.name, intake, unit_of(sensor), line_of(sensor)
        self.blocks: Sequence[Block] = map_of(sensor, options).asked()
        self.refused: set[Block] = set()
        self.due = clock.monotonic()
        self.silent = 0
        self._interval = options.interval_s
        self._bus = bus
        bus.join(self)

    def start(self) -> None:
        self._bus.users.start(self.name)

    def stop(self) -> None:
        """End it; the line is closed with its last sensor."""
        self._bus.users.stop(self.name)

    def health(self) -> Health:
        return self.intake.standing(self._bus.supervisor.state(), self._hint, active=self.name in self._bus.users)

    @property
    def problem(self) -> str:
        """Why nothing comes and what to do, empty if it does."""
        state = self._bus.supervisor.state()
        return state.problem or (self._hint(self.intake.health(state.name, "", 0)) if self.silent else "")

    @property
    def complaint(self) -> str:
        """The latest refusal in words."""
        return self.intake.last_complaint

    def plan(self, now: float, *, answered: bool, seldom: float) -> None:
        """When it is asked again: `interval_s` after it was due, and without catching up on what was missed; a silent
        device later each time."""
        self.silent = 0 if answered else self.silent + 1
        if self.silent:
            pause = min(self._interval * 2.0 ** min(self.silent - 1, 16), max(seldom, self._interval))
            self.due = now + pause
        else:
            self.due = max(self.due + self._interval, now)

    def refuse(self, refusal: Refusal) -> None:
        self.intake.refuse(refusal.reason, refusal.detail)

    def take(self, message: bytes) -> None:
        try:
            self.intake.message(message)
        except Exception as error:  # this sensor's top: its neighbours share the thread
            self.intake.refuse("internal-error", f"{type(error).__name__}: {error}")
            log.exception("sensor %s: internal error", self.name)

    def _hint(self, health: Health) -> str:
        if self.silent:
            return (
                f"{self.intake.last_complaint}. Is it powered, and is unit = {self.unit} right? Its line: {self.line}."
            )
        if health.rejected and not health.accepted:
            return f"nothing usable yet ({self.intake.last_complaint}). Is the map the device's?"
        return ""


def join(intake: Intake, clock: Clock, shared: dict[str, Any]) -> ModbusSource:
    """A device's source on its line, which is made with its first device. `shared`: lines by port.

    Raises:
        ConfigError: as `Bus` and `ModbusSource`.
    """
    line = line_of(intake.sensor)
    key = f"modbus {line.port}"
    if key not in shared:
        shared[key] = Bus(line, clock)
    return ModbusSource(intake, shared[key], clock)


def _is_refusal(message: bytes, tcp: bool) -> bool:
    """Whether a question is followed by a refusal."""
    first = frame_at(message, 0, tcp)
    last = frame_at(message, first.length, tcp) if isinstance(first, Frame) else first
    return isinstance(last, Frame) and last.kind is Kind.REFUSAL
