"""The local expert: a ridge regression per lead that never sees a past row twice.

Rows of inputs are folded into one matrix of products a lead, shared by all variables; weights are found from it for one
lead a cycle, which keeps it cheap. Old rows are forgotten by halves.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_agent.grid import STEP_S

Floats = NDArray[np.float64]

HALF_LIFE = 180 * 96  # rows
PENALTY = 0.003  # of the squared weights, in each input's own sum of squares ...
PRIOR_ROWS = 2000.0  # ... and so many rows' worth of it beside
TINY = 1e-3  # of a row: an input that was never anything but 0 has a weight of 0
MIN_ROWS = 96.0
DISCOUNT = 0.1  # what rows still count when another network comes


class Expert:
    """Recursive ridge of L leads, F inputs, K targets; the last K inputs are a network's forecast of these targets.

    Two forecasts from the same sums: `own` from all inputs but the network's, and `beside`, the network's forecast plus
    what all inputs say of its error.

    w = (X'DX + P)^-1 X'Dy, D = forgetting weights, P = diagonal, `PENALTY` and `PRIOR_ROWS` of the inputs' squares. One
    solution of the own inputs' part serves both; the network's is found by its Schur complement.
    Source: Hoerl and Kennard (1970), Technometrics 12, 55-67, eq. 2.1; forgetting as in Ljung (1999), System
    Identification, 2nd ed., section 11.2.
    """

    def __init__(self, leads: int, inputs: int, targets: int) -> None:
        self.products = np.zeros((leads, inputs, inputs), np.float32)
        self.crossed = np.zeros((leads, inputs, targets), np.float32)
        self.rows = np.zeros(leads)
        self._weights = np.zeros((leads, inputs, 2 * targets))
        self._k = targets

    def learn(self, at: NDArray[np.int64], x: Floats, y: Floats) -> None:
        """Take a row for some leads `at` [N]: inputs [N, F], targets [N, K]. A target that is NaN counts as met."""
        expected = np.einsum("nf,nfk->nk", x, self._weights[at, :, : self._k])
        x32, y32 = x.astype(np.float32), np.where(np.isnan(y), expected, y).astype(np.float32)
        keep = np.float32(0.5 ** (1.0 / HALF_LIFE))
        for i, lead in enumerate(at):
            self.products[lead] *= keep
            self.products[lead] += np.outer(x32[i], x32[i])
            self.crossed[lead] *= keep
            self.crossed[lead] += np.outer(x32[i], y32[i])
        self.rows[at] = self.rows[at] * keep + 1.0

    def solve(self, origin: int) -> None:
        """Find the weights of the lead whose turn it is anew."""
        self._solve(origin // STEP_S % len(self.rows))

    def solve_all(self) -> None:
        """Find all weights, as after a restart."""
        for lead in range(len(self.rows)):
            self._solve(lead)

    def forecast(self, x: Floats) -> tuple[Floats, Floats]:
        """(own, beside), [L, K] each, from inputs [L, F]."""
        both = np.einsum("lf,lfk->lk", x, self._weights)
        return both[:, : self._k], x[:, -self._k :] + both[:, self._k :]

    def discount(self) -> None:
        """Another network has come: what was learned stands, and gives way soon."""
        for sums in (self.products, self.crossed, self.rows):
            sums *= DISCOUNT

    def _solve(self, lead: int) -> None:
        rows = float(self.rows[lead])
        if rows < MIN_ROWS:
            return
        k = self._k
        products = self.products[lead].astype(np.float64)
        crossed = self.crossed[lead].astype(np.float64)
        share = PENALTY + PRIOR_ROWS / rows
        penalized = products + np.diag(share * np.diagonal(products) + TINY * rows)
        ahead = products[:-k, -k:]  # own inputs with the network's
        solved = np.linalg.solve(penalized[:-k, :-k], np.concatenate([crossed[:-k], ahead], axis=1))
        own, through = solved[:, :k], solved[:, k:]
        error = crossed[-k:] - products[-k:, -k:] - ahead.T @ (own - through)
        beside = np.linalg.solve(penalized[-k:, -k:] - ahead.T @ through, error)
        self._weights[lead, :-k, :k] = own
        self._weights[lead, :-k, k:] = own - through - through @ beside
        self._weights[lead, -k:, k:] = beside
