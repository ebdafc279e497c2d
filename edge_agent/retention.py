"""When what is old may be deleted. Time has to have passed for it: a clock that jumps deletes nothing.

Only for the thread that opened the store.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from edge_agent.store import Keeper, Store
from edge_agent.timekeeping.station_clock import StationClock

log = logging.getLogger(__name__)

PRUNED = "pruned-at"  # in the store: what the clock said when the past was last pruned
DOUBTS = "pruned-doubts"  # and on how many days since the clock has been further on than time had passed
DAY_S = 86_400
STEP_S = 3 * DAY_S  # so far a clock may be ahead of the time that has passed: a device is switched off now and then
BELIEVED_AFTER = 7  # daily looks at a clock that is known: the device was off for long


@dataclass(slots=True)
class Retention:
    """Lets go of what is too old, once a day. The first look only notes the time."""

    store: Store | Keeper
    clock: StationClock
    _seen_s: float | None = field(default=None, init=False)  # the steady clock at the last look

    def time(self) -> float | None:
        """UTC seconds by which something may be too old: of a clock that goes on from where it was at the last look, or
        else how long that is ago. None: nothing can be said."""
        last, now = self._last(), self.clock.now()
        if last is None or (now < last and self.clock.error_s() is None):
            return None
        return now if now - last <= STEP_S else last

    def look(self) -> bool:
        """Delete what is too old, by a clock that goes on from where it was at the last look. One that is further on
        than time has passed is believed on the eighth day; whether it was.

        Raises StoreError: it could not be deleted.
        """
        now, last = self.clock.now(), self._last()
        self._seen_s = self.clock.monotonic()
        known = self.clock.error_s() is not None
        if last is None:
            return self._took(now)
        if now - last <= STEP_S:
            if known or now >= last:
                self.store.prune(now)
                return self._took(now)
            return False
        doubts = int(self.store.get(DOUBTS) or 0) + known
        if doubts > BELIEVED_AFTER:
            self.store.prune(now)
            return self._took(now)
        self.store.prune(last)
        self._took(last, doubts)
        days = (now - last) / DAY_S
        log.warning("the clock is %.0f days further on than time has passed: nothing is deleted for it", days)
        return False

    def _last(self) -> float | None:
        """What the clock said at the last look, and what has passed since; None before the first."""
        text = self.store.get(PRUNED)
        passed = 0.0 if self._seen_s is None else self.clock.monotonic() - self._seen_s
        return None if text is None else int(text) + passed

    def _took(self, now: float, doubts: int = 0) -> bool:
        self.store.set(PRUNED, str(int(now)))
        self.store.set(DOUBTS, str(doubts))
        return True
