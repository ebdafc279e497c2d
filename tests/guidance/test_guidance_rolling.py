"""Corrected guidance as time goes on: when it learns."""

from __future__ import annotations

import numpy as np

from edge_agent.config import Station
from edge_agent.guidance import Run
from edge_agent.guidance.rolling import Rolling

DAY_S, HOUR_S = 86_400, 3600
LEVELS = (0.1, 0.5, 0.9)


def test_a_look_that_finds_nothing_does_not_put_off_the_lesson():
    """A run comes at 07 UTC, its observation at 00 UTC: what came is learned then, not at 07 UTC."""
    station = Station("a", 52.0, 9.0, 60.0)
    rolling = Rolling([station], ("temperature",), LEVELS)
    asked: list[int] = []

    def came(_: int, __: str, valid: np.ndarray, ___: np.ndarray) -> np.ndarray:
        asked.append(int(valid[-1]))
        return np.zeros(len(valid))

    def settled(_: int, __: str, valid: np.ndarray, now: int) -> np.ndarray:
        return np.asarray(valid <= now)

    for day in range(100, 104):
        at = day * DAY_S
        if day > 100:
            rolling.verify(at, came, settled)
            assert asked[-1:] == [at]
            rolling.forecast("temperature", at)
        valid = np.array([at + DAY_S])
        rolling.take(0, Run(at + 7 * HOUR_S, valid, {"temperature": np.ones(1)}))
        rolling.verify(at + 7 * HOUR_S, came, settled)
        rolling.forecast("temperature", at + 7 * HOUR_S)
