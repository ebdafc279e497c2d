"""How long to wait before the next attempt, for brokers and ports alike. Pure: no sleeping.

Never lets a refusal, a restart or a connection that ends at once turn into a storm of attempts.
"""

from __future__ import annotations

import random
from collections.abc import Callable


class Backoff:
    """Waits of half to all of `first`, 2 `first`, 4 `first` ... `last` seconds; by chance, so that many do not come at
    the same time.

    What failed attempts add, the next connection forgets: an outage, however long, does not slow down what comes after
    it. What connections add that ended soon, only one forgets that lasted: who accepts and drops is left alone for
    longer each time.
    """

    def __init__(
        self, first: float = 1.0, last: float = 60.0, uniform: Callable[[float, float], float] = random.uniform
    ) -> None:
        self._first, self._last, self._uniform = first, last, uniform
        self._doublings = 0  # of the next wait
        self._cut_short = 0  # connections in a row that did not last

    def failed(self) -> float:
        """How long to wait after an attempt that brought no connection, seconds."""
        span = min(self._first * 2.0 ** min(self._doublings, 30), self._last)
        self._doublings += 1
        return self._uniform(span / 2, span)

    def ended(self, *, lasted: bool) -> float:
        """How long to wait after a connection that came about and ended, seconds. `lasted`: it was a good one."""
        self._doublings = 0 if lasted else self._cut_short
        self._cut_short = 0 if lasted else self._cut_short + 1
        return self.failed()
