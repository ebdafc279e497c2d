"""What lines miss: a ridge regression on cosines of random directions, on top of the local expert's forecast.

One matrix of products serves all leads and variables. It never sees a past row twice.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from edge_agent.grid import STEP_S

Floats = NDArray[np.float64]
Rows = NDArray[np.float32]
Whole = NDArray[np.int64]

FEATURES = 256
MIXES = 4  # inputs in each direction: few, so that a curve is of few things at a time
HALF_LIFE = 180 * 96  # rows
PENALTY = 0.003  # of the squared weights, in each feature's own sum of squares ...
PRIOR_ROWS = 2000.0  # ... and so many rows' worth of it beside
TINY = 1e-3  # of a row
MIN_ROWS = 96.0
CLIP = 6.0  # an error is no larger, in typical errors
SOLVE_S = 6 * 3600  # from one solution to the next
DISCOUNT = 0.1  # what rows still count when another network comes


class Curves:
    """Recursive ridge of L leads and K targets on a constant and F features cos(a'g + b) of inputs g [D] that are the
    same for all leads.

    w = (X'DX + P)^-1 X'Dy as in the expert, y = the error of what it is added to. X'DX is of the rows whose longest
    lead has come; a lead with more or fewer verdicts is weighed to as many. Source of the features: Rahimi and Recht
    (2007), Random Features for Large-Scale Kernel Machines, NIPS 20, algorithm 1; here with sparse directions.
    """

    def __init__(self, leads_s: Whole, inputs: int, targets: int) -> None:
        """`leads_s` [L], ascending."""
        leads, f = len(leads_s), FEATURES + 1
        self.products = np.zeros((1, f, f), np.float32)
        self.crossed = np.zeros((leads, f, targets), np.float32)
        self.rows = np.zeros(leads)
        self._weights = np.zeros((leads, f, targets), np.float32)
        self._leads_s = leads_s
        self._directions, self._turns = _drawn(inputs)
        length = int(leads_s.max()) // STEP_S + 2  # origins that wait for verdicts, which come one step late
        self._seen = np.zeros((length, f), np.float16)
        self._said = np.zeros((length, leads, targets), np.float16)
        self._origins = np.full(length, -1, np.int64)
        self._solved_s = 0

    def forecast(self, origin: int, g: Floats) -> Floats:
        """What to add, [L, K], in typical errors; remembered until its verdicts come. `g` [D]."""
        if origin // SOLVE_S != self._solved_s // SOLVE_S:
            self.solve()
            self._solved_s = origin
        seen = np.append(1.0, np.cos(g @ self._directions + self._turns)).astype(np.float32)
        said = np.einsum("f,lfk->lk", seen, self._weights)
        at = origin // STEP_S % len(self._seen)
        self._seen[at], self._said[at], self._origins[at] = seen, said, origin
        return np.asarray(said, np.float64)

    def learn(self, valid: int, leads: Whole, missed: Floats) -> None:
        """Take verdicts of forecasts for a valid time at some leads [N], ascending: `missed` [N, K], reading minus sum,
        in typical errors; NaN counts as met."""
        origins = valid - self._leads_s[leads]
        at = origins // STEP_S % len(self._seen)
        held = self._origins[at] == origins  # others a clock that was wrong has overwritten
        at, leads, missed = at[held], leads[held], missed[held]
        if not len(leads):
            return
        x = self._seen[at].astype(np.float32)
        y = np.clip(np.nan_to_num(missed) + self._said[at, leads], -CLIP, CLIP).astype(np.float32)
        keep = np.float32(0.5 ** (1.0 / HALF_LIFE))
        for i, lead in enumerate(leads):
            self.crossed[lead] *= keep
            self.crossed[lead] += np.outer(x[i], y[i])
        self.rows[leads] = self.rows[leads] * keep + 1.0
        if leads[-1] == len(self.rows) - 1:
            self.products *= keep
            self.products[0] += np.outer(x[-1], x[-1])

    def solve(self) -> None:
        """Find all weights anew."""
        n = self.rows[-1]
        if n < MIN_ROWS:
            return
        penalized = self.products[0].copy()
        diagonal = np.einsum("ff->f", penalized)
        diagonal += np.float32(PENALTY + PRIOR_ROWS / n) * diagonal + np.float32(TINY * n)
        even = (n / np.maximum(self.rows, 1.0)).astype(np.float32)
        leads, f, k = self.crossed.shape
        sums = (self.crossed * even[:, None, None]).transpose(1, 0, 2).reshape(f, leads * k)
        self._weights = np.linalg.solve(penalized, sums).reshape(f, leads, k).transpose(1, 0, 2).copy()

    def discount(self) -> None:
        """Another network has come: what was learned stands, and gives way soon."""
        for sums in (self.products, self.crossed, self.rows):
            sums *= DISCOUNT


@cache
def _drawn(inputs: int) -> tuple[Rows, Rows]:
    """Directions [D, F] and phases [F]: the same in every agent, as weights are kept and these are not."""
    rng = np.random.RandomState(0)  # its numbers are frozen, other generators' may change with a NumPy
    chosen = rng.rand(inputs, FEATURES).argsort(axis=0).argsort(axis=0) < MIXES
    directions = np.where(chosen, rng.randn(inputs, FEATURES), 0.0) / np.sqrt(MIXES)
    return directions.astype(np.float32), (2 * np.pi * rng.rand(FEATURES)).astype(np.float32)
