"""Probabilities of events that a forecast's quantiles tell: frost, strong gusts. One way for the agent, for hindcasts
and for the factory that scores them.

The quantiles are those issued, adapted and calibrated: event and fan cannot contradict each other.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge_agent.bundle.manifest import Event
from edge_agent.bundle.station_task import DERIVED_EVENTS, OUTPUT_VARIABLES

Floats = NDArray[np.float64]
_NO_WIDTH = 1e-9


def with_derived(events: Sequence[Event]) -> tuple[Event, ...]:
    """A bundle's events, and behind them those of `DERIVED_EVENTS` that it does not name itself."""
    named = {event.name for event in events}
    return (*events, *(event for event in DERIVED_EVENTS if event.name not in named))


def derive(
    probability: Floats, quantiles: NDArray[np.floating], levels: Sequence[float], events: Sequence[Event]
) -> None:
    """Set the probabilities [..., E] of the derived among `events` [E] from quantiles [..., V, Q] of the output
    variables, in place; NaN where a quantile is."""
    for e, event in enumerate(events):
        if event in DERIVED_EVENTS:
            probability[..., e] = chance(event, quantiles[..., OUTPUT_VARIABLES.index(event.variable), :], levels)


def chance(event: Event, quantiles: NDArray[np.floating], levels: Sequence[float]) -> Floats:
    """Probability of an event [...] from quantiles [..., Q] of its variable, in its unit; NaN where one is missing.

    >>> round(float(chance(DERIVED_EVENTS[0], np.array([-3.0, -1.0, 1.0]), (0.1, 0.5, 0.9))), 3)
    0.7
    """
    below = share_below(quantiles, levels, event.least)
    return below if event.comparison == "<" else 1.0 - below


def share_below(
    quantiles: NDArray[np.floating], levels: Sequence[float] | Floats, x: float | Floats, *, ties: bool = False
) -> Floats:
    """F(x) of distributions given by quantiles [..., Q], [...]; NaN where one is missing.

    Straight between the quantiles, with a jump where several are equal. Outside, the density goes on from what it is
    between the two outermost, and falls off exponentially: F(x) = p exp((x - q) / s) below the first quantile q of
    level p, s = p (q' - q) / (p' - p) with the second, and likewise above the last: of a normal distribution with
    levels 0.05 and 0.1 this gives 0.0075 where 0.01 is right. Derived here: mass p beyond q, and no jump of the density
    at q.

    Args:
        levels: [Q], growing, at least two.
        x: in the unit of the quantiles, one or [...].
        ties: where several quantiles equal x, F is that of the last of them and not of the first.
    """
    q, tau = np.asarray(quantiles, np.float64), np.asarray(levels, np.float64)
    x = np.asarray(x, np.float64)
    k = ((q <= x[..., None]) if ties else (q < x[..., None])).sum(axis=-1)
    inner = np.clip(k, 1, len(tau) - 1)
    left, right = (np.take_along_axis(q, at[..., None], axis=-1)[..., 0] for at in (inner - 1, inner))
    width = np.maximum(right - left, _NO_WIDTH)
    step = tau[inner] - tau[inner - 1]
    between = tau[inner - 1] + np.clip((x - left) / width, 0.0, 1.0) * step
    low, high = tau[0], 1.0 - tau[-1]
    before = low * np.exp(-np.maximum(left - x, 0.0) / width * step / low)
    after = 1.0 - high * np.exp(-np.maximum(x - right, 0.0) / width * step / high)
    jump = right - left <= _NO_WIDTH  # all that lies beyond is there: calm, saturated air
    before, after = np.where(jump & (not ties), 0.0, before), np.where(jump & ties, 1.0, after)
    found = np.where(k == 0, before, np.where(k == len(tau), after, between))
    return np.asarray(np.where(np.isnan(q).any(axis=-1), np.nan, found))
