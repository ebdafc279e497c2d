"""All time comes from here, so that tests and replays can move it.

`now` is UTC seconds; `monotonic` never jumps; `wall` turns a span of this clock into seconds a thread really waits.
"""

from __future__ import annotations

import ctypes
import re
import time
from datetime import UTC, datetime
from typing import Protocol

from edge_agent.errors import DataError

_DATE = re.compile(r"(19|2[0-2])\d\d(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])")  # 20240501


class Clock(Protocol):
    """A source of time."""

    def now(self) -> float:
        """UTC seconds since 1970."""

    def monotonic(self) -> float:
        """Seconds on this clock that never jump."""

    def wall(self, span_s: float) -> float:
        """Real seconds to wait for `span_s` to pass on this clock."""

    def state(self) -> str:
        """`synced`, `holdover` or `unsynced`."""


class SystemClock:
    """The device's own clock; its state is what the kernel's time discipline says."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    def wall(self, span_s: float) -> float:
        return max(span_s, 0.0)

    def state(self) -> str:
        return "synced" if _kernel_synchronised() else "unsynced"


class ReplayClock:
    """Recorded time: starts at `start` (UTC seconds) and runs `speed` times as fast as the world."""

    def __init__(self, start: float, speed: float = 1.0) -> None:
        self._start, self._speed = float(start), float(speed)
        self._origin = time.monotonic()

    def now(self) -> float:
        return self._start + self.monotonic()

    def monotonic(self) -> float:
        return (time.monotonic() - self._origin) * self._speed

    def wall(self, span_s: float) -> float:
        return max(span_s, 0.0) / self._speed

    def state(self) -> str:
        return "synced"


class ManualClock:
    """Time that stands still until told: for tests."""

    def __init__(self, now: float, state: str = "synced") -> None:
        self._now, self._elapsed, self._state = float(now), 0.0, state

    def now(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._elapsed

    def wall(self, span_s: float) -> float:
        return 0.0

    def state(self) -> str:
        return self._state

    def advance(self, span_s: float) -> None:
        """Let time pass."""
        self._now += span_s
        self._elapsed += span_s

    def set(self, now: float) -> None:
        """Be set to another time; `monotonic` does not notice."""
        self._now = float(now)


def _kernel_synchronised() -> bool:
    """True if the kernel's clock is disciplined (adjtimex(2) does not report TIME_ERROR)."""
    time_error = 5
    timex = ctypes.create_string_buffer(512)  # larger than struct timex; modes = 0 only reads
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        return 0 <= int(libc.adjtimex(timex)) < time_error
    except (OSError, AttributeError):
        return False


def format_time(t: float) -> str:
    """UTC seconds as RFC 3339 with Z, whole seconds."""
    return datetime.fromtimestamp(int(t), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_time(text: str) -> int:
    """RFC 3339 with a zone, or epoch seconds, as UTC seconds.

    Raises:
        DataError: not a time, no zone, a date of eight digits, or outside 1900-2200.
    """
    text = text.strip()
    if _DATE.fullmatch(text):  # read as seconds it would be a day in 1970
        raise DataError(f'"{text}" is a date, not a time: write RFC 3339 with a zone (2024-05-01T12:00:00Z)')
    t = _epoch(text)
    if t is None:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            raise DataError(
                f'"{text[:40]}" is not a time: write RFC 3339 with a zone (2024-05-01T12:00:00Z) or epoch seconds'
            ) from None
        if moment.tzinfo is None:
            raise DataError(f'"{text[:40]}" has no time zone: add Z or an offset (2024-05-01T12:00:00+02:00)')
        t = moment.timestamp()
    if not -2_208_988_800 <= t <= 7_258_118_400:  # also refuses NaN and infinities
        raise DataError(f'"{text[:40]}" lies outside 1900-2200: is it in milliseconds? Epoch seconds are needed')
    return int(t)


def _epoch(text: str) -> float | None:
    """A number; None where it is none, also where Python would let underscores stand in it."""
    try:
        return None if "_" in text else float(text)
    except ValueError:
        return None
