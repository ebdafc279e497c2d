"""Honest probabilities: each event's odds, stretched and shifted by what came of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

RATE = 0.01  # of both terms a verdict
HALF_LIFE = 30 * 96  # verdicts that Brier scores are remembered
_LEAST = 1e-4  # a probability is at least this, and at most its complement
_HARD = 2.0  # unit of the log odds


class Chances:
    """Logistic recalibration of L leads and E events: logit p' = logit p + a + b logit p / 2, moved by the gradient of
    the log score. Source: Platt (1999), Advances in Large Margin Classifiers, 61-74, made recursive.

    `scores` [2, L, E]: Brier scores of what the bundle said and of what is made of it, remembered by halves.
    """

    def __init__(self, leads: int, events: int) -> None:
        self.terms = np.zeros((leads, events, 2))
        self.scores = np.zeros((2, leads, events))

    def apply(self, probability: Floats) -> Floats:
        """Recalibrate [L, E] in place where that was not worse; returns [L, E, 2], both as `scores` has them."""
        said = probability.copy()
        terms = _terms(said)
        made = 1.0 / (1.0 + np.exp(-(_HARD * terms[..., 1] + (terms * self.terms).sum(axis=-1))))
        probability[:] = np.where(self.used(), made, said)
        return np.stack([said, made], axis=-1)

    def used(self) -> NDArray[np.bool_]:
        """Where the recalibrated probability is used, [L, E]."""
        return np.asarray(self.scores[1] <= self.scores[0])

    def learn(self, leads: NDArray[np.int64], chance: Floats, outcome: Floats) -> None:
        """Take verdicts at some leads [N]: `chance` [N, E, 2] as `apply` gave it, `outcome` [E], NaN = none."""
        miss = outcome[:, None] - chance
        there = np.asarray(~np.isnan(miss).any(axis=-1))
        step = np.where(there[..., None], miss[..., 1:] * _terms(chance[..., 0]), 0.0)
        self.terms[leads] += RATE * step
        keep = np.where(there, 0.5 ** (1.0 / HALF_LIFE), 1.0)[..., None]
        scores = keep * np.moveaxis(self.scores[:, leads], 0, -1) + (1.0 - keep) * np.nan_to_num(miss) ** 2
        self.scores[:, leads] = np.moveaxis(scores, -1, 0)


def _terms(probability: Floats) -> Floats:
    """[..., 2]: 1 and the log odds in units of `_HARD`."""
    p = np.clip(probability, _LEAST, 1.0 - _LEAST)
    return np.stack([np.ones_like(p), np.log(p / (1.0 - p)) / _HARD], axis=-1)
