"""Honest intervals: how far each quantile lies from the median, and where the median lies, moved by every verdict.

One state per rung of the ladder. Only what was known when a forecast was issued moves it: a verdict comes when the
reading has landed, and judges the quantiles as they were issued.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge_agent.forecast.chances import share_below

Floats = NDArray[np.float64]
Rungs = NDArray[np.int8]

RATE = 0.015  # of the log width a verdict, at the first lead; verdicts of later ones repeat each other
QUICK_RATE = 0.05  # beside it, of widths only, and forgotten again within about `QUICK_MEMORY` verdicts
QUICK_MEMORY = 400.0
FIRST_RATE = 0.06  # more at the start, falling by halves every `SETTLED` verdicts
SETTLED = 200.0
MEDIAN_SHARE = 0.2  # of `RATE` and `FIRST_RATE`, for the median
DAILY_SHARE = 0.5  # of `RATE`, for the course over the day
MOST = 3.0  # a width changes by at most this factor's exponential, a median by so many typical errors
TERMS = 3  # a constant, sine and cosine of the hour
_RATES = RATE * np.array([1.0, DAILY_SHARE, DAILY_SHARE])
_FIRST_RATES = FIRST_RATE * np.array([1.0, 0.0, 0.0])
SAME = 1e-6  # a reading so near to a quantile is on it


def hour_terms(valid: NDArray[np.int64] | int) -> Floats:
    """[..., TERMS] of valid times, UTC seconds."""
    angle = 2 * np.pi * (np.asarray(valid) % 86_400) / 86_400
    return np.stack([np.ones_like(angle), np.sin(angle), np.cos(angle)], axis=-1)


def below(quantiles: Floats, came: Floats, levels: Floats, resolution: Floats | float = 0.0) -> Floats:
    """How much of a verdict lies below each quantile: 1 where the reading does, 0 where it lies above, [..., Q].

    A reading that equals several quantiles (calm, saturated air, no rain) stands for the whole range of levels that
    they share, and one that was rounded (whole hPa) for that between F(came - resolution / 2) and
    F(came + resolution / 2), as a randomized probability integral transform draws from it, on average:
    (level - low) / (high - low). Source: Czado, Gneiting and Held (2009), Biometrics 65, 1254-1261, eq. 1 and 2. The
    range of equal quantiles ends somewhere between the last level that is on the reading and the next one that is not:
    half way, unless there is none. Worked, levels 0.1, 0.5, 0.9: quantiles 0, 0, 2, reading 0 -> 1/7, 5/7, 1; quantiles
    0, 1, 2, reading 1.25 in whole numbers -> F from 0.4 to 0.8 -> 0, 0.25, 1.

    Args:
        quantiles: [..., Q] ascending; came: [...]; levels: [Q]; resolution: [...], in the unit of the readings.
    """
    reading, half = came[..., None], np.asarray(resolution) / 2.0
    on = np.abs(quantiles - reading) <= SAME
    first = ((quantiles < reading) & ~on).sum(axis=-1)
    tied = on.sum(axis=-1)
    ends = np.concatenate([[0.0], (levels[1:] + levels[:-1]) / 2, [1.0]])
    low = share_below(quantiles, levels, came - half)
    high = share_below(quantiles, levels, came + half, ties=True)
    low = np.where(tied, np.minimum(low, ends[first]), low)[..., None]
    high = np.where(tied, np.maximum(high, ends[first + tied]), high)[..., None]
    return np.asarray(np.clip((levels - low) / np.maximum(high - low, SAME), 0.0, 1.0))


class Calibration:
    """Log widths of L leads, V variables and Q levels for each of R rungs, with their course over the day; that of the
    median is a shift instead.

    width += rate (level - below) above the median, rate (below - level) under it. Source: Gibbs and Candes (2021),
    Adaptive conformal inference under distribution shift, eq. 2, here on the log of the width. A tail comes in by at
    most its level a verdict, and goes out nine times as fast: `quick` follows a season or a sensor that sticks for a
    fortnight, and lets go of it; `terms` keep what stays.
    """

    def __init__(self, rungs: int, leads: int, variables: int, levels: Sequence[float]) -> None:
        self.levels = np.asarray(levels)
        self.terms = np.zeros((rungs, leads, variables, len(levels), TERMS), np.float32)
        self.quick = np.zeros((rungs, leads, variables, len(levels)), np.float32)
        self.verdicts = np.zeros((rungs, leads, variables), np.float32)
        self._middle = int(np.argmin(np.abs(self.levels - 0.5)))
        self._outwards = np.where(self.levels < self.levels[self._middle], -1.0, 1.0)
        self._outwards[self._middle] = MEDIAN_SHARE
        self._quick_rates = np.where(np.arange(len(levels)) == self._middle, 0.0, QUICK_RATE)
        self._at = np.ogrid[:leads, :variables]
        self._pace = 1.0 / np.sqrt(1.0 + np.arange(leads))[:, None]

    def apply(self, rung: Rungs, quantiles: Floats, unit: Floats, hours: Floats) -> Floats:
        """Quantiles [L, V, Q] calibrated, ascending. `rung`: [V]; `unit`: [L, V] typical errors; `hours`: [L, TERMS] of
        the valid times."""
        lead, variable = self._at
        at = (rung[None, :], lead, variable)
        moved = np.einsum("lvqh,lh->lvq", self.terms[at], hours) + self.quick[at]
        np.clip(moved, -MOST, MOST, out=moved)
        median = quantiles[..., self._middle, None]
        shifted = median + moved[..., self._middle, None] * unit[..., None]
        return np.sort(shifted + (quantiles - median) * np.exp(moved), axis=-1)

    def learn(self, rung: Rungs, quantiles: Floats, came: Floats, hours: Floats, resolution: Floats) -> None:
        """Take verdicts on quantiles as issued [L, V, Q] on their rungs [L, V]; `came` [L, V], NaN where there is none,
        rounded to `resolution` [L, V]; `hours`: [TERMS]."""
        there = ~np.isnan(came) & ~np.isnan(quantiles).any(axis=-1)
        at = (rung, *self._at)
        n = self.verdicts[at]
        self.verdicts[at] = n + there
        below_ = below(np.nan_to_num(quantiles), np.nan_to_num(came), self.levels, resolution)
        miss = np.where(there, self._pace, 0.0)[..., None] * (self.levels - below_) * self._outwards
        rates = _RATES + _FIRST_RATES * 0.5 ** (n / SETTLED)[..., None]
        step = miss[..., None] * (rates * hours)[:, :, None]
        self.terms[at] = np.clip(self.terms[at] + step, -MOST, MOST)
        kept = np.where(there, 1.0 - 1.0 / QUICK_MEMORY, 1.0)[..., None]
        self.quick[at] = np.clip(kept * self.quick[at] + self._quick_rates * miss, -MOST, MOST)
