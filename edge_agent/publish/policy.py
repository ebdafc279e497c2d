"""When to try a broker again. Pure: no sockets, no sleeping.

Never lets a refusal, a restart or a fight over a client id turn into a storm of connections.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Waits:
    """Spans in real seconds. `first`, `cap`: of the exponential back-off; `takeover`: after another client took our id;
    `stable`: a connection that lived this long counts as good and resets the back-off; `connect`: for TCP and TLS;
    `answer`: for the broker's answer to CONNECT; `ack`: for the acknowledgement of a publication, before the connection
    is given up as stuck."""

    first: float = 1.0
    cap: float = 60.0
    takeover: float = 300.0
    stable: float = 60.0
    connect: float = 5.0
    answer: float = 10.0
    ack: float = 60.0


class Backoff:
    """Exponential waiting with jitter: half to all of first, 2 first, 4 first, ... cap."""

    def __init__(self, waits: Waits, uniform: Callable[[float, float], float] = random.uniform) -> None:
        self._waits, self._uniform = waits, uniform
        self._failures = 0

    def after(self, lived_s: float, taken_over: bool = False) -> float:
        """How long to wait after a connection that lived `lived_s` (0 = never came about)."""
        if lived_s >= self._waits.stable:
            self._failures = 0
        span = min(self._waits.first * 2.0 ** min(self._failures, 30), self._waits.cap)
        self._failures += 1
        if taken_over:
            span = self._waits.takeover
        return self._uniform(span / 2, span)
