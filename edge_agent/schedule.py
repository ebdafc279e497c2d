"""When recurring work is due. Pure: it is told the time and never waits.

What was missed is not made up for, and a clock that jumps, back or forward, brings neither a storm nor a standstill.
"""

from __future__ import annotations

from edge_agent.grid import STEP_S

SETTLE_S = 5  # after a quarter hour, so that its last readings are in
GAP_S = 20.0  # between forecasts at least, however often the clock is set


class Every:
    """Due at `first`, then `span_s` after each time it was taken; both on the steady clock."""

    def __init__(self, span_s: float, first: float) -> None:
        self._span_s, self._at = span_s, first

    def due(self, steady: float) -> bool:
        """True once for each time it is due. `steady`: `Clock.monotonic`."""
        if steady < self._at:
            return False
        self._at = steady + self._span_s
        return True


class Allowance:
    """Lets `most` things happen at once, and one more each `every_s`: at most `most` + 86,400 / `every_s` a day."""

    def __init__(self, most: int, every_s: float, steady: float) -> None:
        self._most, self._every_s = most, every_s
        self._left, self._since = float(most), steady

    def take(self, steady: float) -> bool:
        """True if one more may happen now, which is then counted. `steady`: `Clock.monotonic`."""
        self._left = min(self._left + (steady - self._since) / self._every_s, self._most)
        self._since = steady
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True


class Origins:
    """Forecast origins as they come due: the last quarter hour at once, then each one `SETTLE_S` after it began.

    When the clock was set, the quarter hour it says now is the next origin, whether it lies before or after the last.
    """

    def __init__(self) -> None:
        self._last: int | None = None
        self._not_before = float("-inf")

    def begin_anew(self) -> None:
        """The last origin is due once more."""
        self._last = None

    def due(self, now: float, steady: float) -> int | None:
        """The origin (UTC seconds) to forecast from now, or None. `now`, `steady`: as `Clock` has them."""
        origin = int(now - SETTLE_S) // STEP_S * STEP_S
        if origin == self._last or steady < self._not_before:
            return None
        self._last, self._not_before = origin, steady + GAP_S
        return origin
