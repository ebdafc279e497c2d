"""A machine's clock that a test sets, and an agent on it in a process of its own.

Arguments: agent.toml; the file that holds what the machine's clock is. All processes on it see at once what is set.
"""

from __future__ import annotations

import logging
import mmap
import os
import signal
import struct
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from edge_agent.agent import Agent
from edge_agent.clock import Clock
from edge_agent.config import load
from edge_agent.events import log_event
from edge_agent.timekeeping import kernel
from edge_agent.timekeeping.sources import RELEASED, Report

_STATE = struct.Struct("ddd?")  # CLOCK_MONOTONIC at the start of the machine; speed; UTC minus steady seconds; synced


class Machine:
    """It was started when this was made. Its steady clock runs `speed` times as fast as the world."""

    def __init__(self, file: Path, speed: float) -> None:
        self.file = file
        file.write_bytes(_STATE.pack(time.monotonic(), speed, 0.0, False))
        self.clock = SetClock(file)

    def set(self, now: float, *, synced: bool) -> None:
        """Its system clock is set; whether the kernel calls it synchronised from now on."""
        self.set_offset(now - self.clock.monotonic(), synced=synced)

    def set_offset(self, offset_s: float, *, synced: bool) -> None:
        """The same, by UTC minus steady seconds."""
        start, speed, _, _ = _STATE.unpack(self.file.read_bytes())
        with self.file.open("r+b") as file:
            file.write(_STATE.pack(start, speed, offset_s, synced))

    def passes(self, span_s: float) -> None:
        """Wait until so much time has passed on it."""
        time.sleep(self.clock.wall(span_s))


class SetClock(Clock):
    """The clock of the machine that a file describes."""

    def __init__(self, file: Path) -> None:
        with file.open("rb") as opened:
            self._seen = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
        self._start, self._speed, _, _ = self._state()

    @property
    def boot_id(self) -> str:
        return f"machine-{self._start}"

    def now(self) -> float:
        return self.monotonic() + self._state()[2]

    def monotonic(self) -> float:
        return (time.monotonic() - self._start) * self._speed

    def wall(self, span_s: float) -> float:
        return max(span_s, 0.0) / self._speed

    def state(self) -> str:
        return "synced" if self._state()[3] else "unsynced"

    def readings(self) -> Sequence[Report]:
        steady, (_, _, offset_s, synced) = self.monotonic(), self._state()
        told = synced and steady + offset_s >= RELEASED
        return (Report("ntp", steady + offset_s, steady, kernel.LEAST_ERROR_S),) if told else ()

    def _state(self) -> tuple[float, float, float, bool]:
        return _STATE.unpack(self._seen[:])


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    Agent(load(Path(sys.argv[1])), SetClock(Path(sys.argv[2])), log_event).run(stop)
    logging.shutdown()
    os._exit(0)  # as `edge-agent run` does, and for its reason
