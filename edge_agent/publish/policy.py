"""When to try a broker again, and in which version of MQTT. Pure: no sockets, no sleeping.

Never lets a refusal, a restart or a fight over a client id turn into a storm of connections.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

V5 = "5"
V311 = "3.1.1"
EARLY_CLOSES = 2  # connections closed before any answer, after which the other version is tried


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


class VersionChoice:
    """Which MQTT version to speak. From a configured 5 it falls back to 3.1.1 when the broker says it does not know 5,
    or twice closes the connection without an answer; the latter is undone if 3.1.1 fares no better, since a proxy
    before a broker that is down looks the same. A version that once worked is not given up for closed connections."""

    def __init__(self, configured: str) -> None:
        self.current = configured
        self._fixed = configured == V311
        self._early = 0

    def accepted(self) -> None:
        """The broker took the connection."""
        self._fixed = True

    def refused(self) -> bool:
        """The broker does not speak this version; True if another is tried next."""
        if self.current != V5:
            return False
        self.current, self._fixed = V311, True
        return True

    def closed_early(self) -> bool:
        """The connection ended before any answer; True if another version is tried next."""
        self._early += 1
        if self._fixed or self._early < EARLY_CLOSES:
            return False
        self.current, self._early = (V311 if self.current == V5 else V5), 0
        return True
