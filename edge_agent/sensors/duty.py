"""Particulate sensors have a laser and a fan that wear out: a conversation that lets them sleep between samples.

Knows no protocol: what to send and how to cut what comes is the driver's. Never decodes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from edge_agent.errors import SensorError
from edge_agent.sensors.driver import Framer, Options, Port
from edge_agent.sensors.framing import Refusal

_CHUNK = 256  # bytes
_GATHER_S = 0.005  # pause after each read, so that noise at full speed leaves the processor to others
_REPLY_S = 0.3  # how long a sensor may confirm a command; it is no reading


class DutyOptions(Options, frozen=True):
    """Seconds. `duty_s`: from one sample to the next, 0 = never asleep; `sample_s`: how long a sample is; `warmup_s`:
    before it, after waking: readings that do not count."""

    duty_s: float = 0.0
    sample_s: float = 30.0
    warmup_s: float = 30.0

    def __post_init__(self) -> None:
        if not (0 <= self.warmup_s <= 600 and 0 < self.sample_s <= 86_400):
            raise ValueError("warmup_s must lie within 0 to 600, sample_s within 0 (left out) to 86400")
        if self.duty_s and not self.warmup_s + self.sample_s <= self.duty_s <= 86_400:
            raise ValueError("duty_s must be 0, or at least warmup_s + sample_s, and a day at most")


@dataclass(frozen=True, slots=True)
class Commands:
    """What a sensor is sent. `wake` may hold several commands: it ends in a sensor that speaks by itself."""

    wake: bytes
    sleep: bytes


class DutyCycle:
    """Wakes a sensor, listens, and lets it sleep again; without a duty cycle it wakes it once and listens."""

    def __init__(self, options: DutyOptions, commands: Commands, framer: Callable[[], Framer]) -> None:
        self._options, self._commands, self._framer = options, commands, framer

    def run(self, port: Port, take: Callable[[bytes | Refusal], None], stopping: threading.Event) -> None:
        """Raises SensorError: a sensor that was woken stays silent."""
        options = self._options
        while not stopping.is_set():
            began = time.monotonic()
            self._tell(port, self._commands.wake, stopping)
            if not options.duty_s:
                self._listen(port, stopping, None, take)
                return
            self._sample(port, take, stopping)
            self._tell(port, self._commands.sleep, stopping)
            stopping.wait(max(began + options.duty_s - time.monotonic(), 0.0))

    def _sample(self, port: Port, take: Callable[[bytes | Refusal], None], stopping: threading.Event) -> None:
        """Raises SensorError."""

        def drop(message: bytes | Refusal) -> None:
            if isinstance(message, bytes):
                take(Refusal("warming-up", "a reading of a sensor that has just been woken"))

        heard = self._listen(port, stopping, self._options.warmup_s, drop)
        heard += self._listen(port, stopping, self._options.sample_s, take)
        if not heard and not stopping.is_set():
            raise SensorError(
                "it was woken and sends nothing. Is it powered with 5 V, and are both its wires connected, RX to TX? "
                "Where only its TX is, leave duty_s out."
            )

    def _tell(self, port: Port, command: bytes, stopping: threading.Event) -> None:
        """Send a command; what it is answered is no reading."""
        port.write(command)
        port.flush()
        stopping.wait(_REPLY_S)
        port.reset_input_buffer()

    def _listen(
        self, port: Port, stopping: threading.Event, span_s: float | None, take: Callable[[bytes | Refusal], None]
    ) -> int:
        """Hand on what comes for `span_s` seconds (None: until told to stop). Returns how many frames were sound."""
        framer, sound = self._framer(), 0
        end = None if span_s is None else time.monotonic() + span_s
        while not stopping.is_set() and (end is None or time.monotonic() < end):
            for message in framer.feed(port.read(_CHUNK)):
                sound += isinstance(message, bytes)
                take(message)
            stopping.wait(_GATHER_S)
        return sound
