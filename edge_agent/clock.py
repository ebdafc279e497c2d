"""All time comes from here, so that tests and replays can move it.

`now` is UTC seconds; `monotonic` never jumps; `wall` turns a span of this clock into seconds a thread really waits.
The clocks here are what a machine has. What the agent makes of them, with a GPS, a console or a person beside them, is
`timekeeping.station_clock`.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Protocol

from edge_agent.errors import DataError
from edge_agent.timekeeping import kernel
from edge_agent.timekeeping.sources import RELEASED, Report

_DATE = re.compile(r"(19|2[0-2])\d\d(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])")  # 20240501


class Clock(Protocol):
    """A source of time."""

    @property
    def boot_id(self) -> str:
        """Names the span in which `monotonic` counts on: the same for all processes of one run of the machine."""

    def now(self) -> float:
        """UTC seconds since 1970."""

    def monotonic(self) -> float:
        """Seconds on this clock that never jump."""

    def wall(self, span_s: float) -> float:
        """Real seconds to wait for `span_s` to pass on this clock."""

    def state(self) -> str:
        """`synced`, `holdover` or `unsynced`."""

    def readings(self) -> Sequence[Report]:
        """What the machine's own keepers of time (`ntp`, `host`, `rtc`) say; none where nothing keeps it."""


class SystemClock:
    """The device's own clock; its state is what the kernel's time discipline says. `monotonic` counts since the machine
    was started."""

    RTC_EVERY_S = 60.0  # a battery-backed clock hangs on a slow bus

    def __init__(self) -> None:
        self._boot_id = kernel.boot_id() or secrets.token_hex(16)
        self._virtual = kernel.is_virtual()
        self._rtc: tuple[float, float] | None = None  # UTC and monotonic seconds of its last reading
        self._rtc_at = float("-inf")

    @property
    def boot_id(self) -> str:
        return self._boot_id

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    def wall(self, span_s: float) -> float:
        return max(span_s, 0.0)

    def state(self) -> str:
        return "unsynced" if kernel.discipline().error_s is None else "synced"

    def readings(self) -> Sequence[Report]:
        now, steady, found = self.now(), self.monotonic(), []
        error_s = kernel.discipline().error_s
        if now < RELEASED:
            pass  # nothing that synchronises or hosts a machine would leave it there
        elif error_s is not None:
            found.append(Report("ntp", now, steady, error_s))
        elif self._virtual:
            found.append(Report("host", now, steady, kernel.HOST_ERROR_S + kernel.DRIFT * steady))
        if steady - self._rtc_at >= self.RTC_EVERY_S:
            self._rtc_at, utc = steady, kernel.rtc_time()
            self._rtc = None if utc is None else (utc, steady)
        if self._rtc is not None:
            found.append(Report("rtc", *self._rtc, kernel.RTC_ERROR_S))
        return found


class ReplayClock:
    """Recorded time: starts at `start` (UTC seconds) and runs `speed` times as fast as the world."""

    def __init__(self, start: float, speed: float = 1.0) -> None:
        self._start, self._speed = float(start), float(speed)
        self._origin = time.monotonic()
        self.boot_id = secrets.token_hex(16)

    def now(self) -> float:
        return self._start + self.monotonic()

    def monotonic(self) -> float:
        return (time.monotonic() - self._origin) * self._speed

    def wall(self, span_s: float) -> float:
        return max(span_s, 0.0) / self._speed

    def state(self) -> str:
        return "synced"

    def readings(self) -> Sequence[Report]:
        steady = self.monotonic()
        return (Report("ntp", self._start + steady, steady, kernel.LEAST_ERROR_S),)


class ManualClock:
    """Time that stands still until told: for tests. `monotonic` begins at 0, as after a start of the machine."""

    def __init__(self, now: float, state: str = "synced") -> None:
        self._now, self._elapsed, self._state = float(now), 0.0, state
        self.boot_id = secrets.token_hex(16)

    def now(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._elapsed

    def wall(self, span_s: float) -> float:
        return 0.0

    def state(self) -> str:
        return self._state

    def readings(self) -> Sequence[Report]:
        synced = Report("ntp", self._now, self._elapsed, kernel.LEAST_ERROR_S)
        return (synced,) if self._state == "synced" else ()

    def advance(self, span_s: float) -> None:
        """Let time pass."""
        self._now += span_s
        self._elapsed += span_s

    def set(self, now: float, state: str | None = None) -> None:
        """Be set to another time, and `synced` or `unsynced` from now on; `monotonic` does not notice."""
        self._now = float(now)
        self._state = state or self._state


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
