"""When a broker is tried again. Pure: no sockets, no sleeping.

Never lets a refusal, a restart or a fight over a client id turn into a storm of connections.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from edge_agent import backoff
from edge_agent.sensors.supervisor import HUNG_S
from edge_agent.wire import TAKEN_OVER_WAIT_S


@dataclass(frozen=True, slots=True)
class Waits:
    """Spans in real seconds. `first`, `cap`: of the exponential back-off; `takeover`: at least, after another client
    took our id; `stable`: a connection that lived this long was a good one; `connect`: for TCP and TLS; `answer`: for
    the broker's answer to CONNECT; `ack`: for the acknowledgement of a publication, before the connection is given up
    as stuck; `hung`: without a sign of life from the publishing thread, before another one takes its place."""

    first: float = 1.0
    cap: float = 60.0
    takeover: float = TAKEN_OVER_WAIT_S
    stable: float = 60.0
    connect: float = 5.0
    answer: float = 10.0
    ack: float = 60.0
    hung: float = HUNG_S


class Backoff:
    """When a broker is tried again: `edge_agent.backoff` with these waits, and a long one after a takeover."""

    def __init__(self, waits: Waits, uniform: Callable[[float, float], float] = random.uniform) -> None:
        self._waits, self._uniform = waits, uniform
        self._waiting = backoff.Backoff(waits.first, waits.cap, uniform)

    def after(self, lived_s: float, taken_over: bool = False) -> float:
        """How long to wait after a connection that lived `lived_s` (0 = never came about), seconds."""
        if not lived_s:
            return self._waiting.failed()
        delay = self._waiting.ended(lasted=lived_s >= self._waits.stable)
        return self._uniform(self._waits.takeover, self._waits.takeover * 1.5) if taken_over else delay
