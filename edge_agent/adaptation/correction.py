"""The recursive correction: least squares with forgetting, one small regression for every variable and lead."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

HALF_LIFE = 60 * 96  # verdicts
PRECISION = 60.0  # of the prior weights, in verdicts
CLIP = 5.0  # an innovation is no larger, in units of the typical error
MOST_TRACE = 1.0  # of the covariance: what is not excited must not grow without bound


class Correction:
    """Recursive least squares for N regressions of K inputs, in units of each one's typical error.

    k = P z / (f + z'P z), w += k clip(y - z'w), P = (P - k z'P) / f. Source: Ljung (1999), System Identification, 2nd
    ed., eq. 11.16. `covariance`: of each P the upper half with the diagonal, row by row, [N, K (K + 1) / 2].
    """

    def __init__(self, prior: Floats, cells: int) -> None:
        """`prior` [K]: the weights it starts with."""
        k = len(prior)
        self.prior = prior
        self.weights = np.tile(np.asarray(prior, np.float32), (cells, 1))
        self._half, self._whole = _halves(k)
        self.covariance = np.tile((np.eye(k, dtype=np.float32) / PRECISION)[self._half], (cells, 1))

    def forecast(self, z: Floats) -> Floats:
        """[N] from inputs [N, K]."""
        return np.asarray(np.einsum("nk,nk->n", z, self.weights))

    def covariances(self, at: NDArray[np.int64]) -> Floats:
        """Whole ones, [M, K, K]."""
        return np.asarray(self.covariance[at][:, self._whole], np.float64)

    def learn(self, at: NDArray[np.int64], z: Floats, y: Floats) -> None:
        """Take verdicts of some regressions `at` [M]: inputs [M, K], what came [M]."""
        keep = 0.5 ** (1.0 / HALF_LIFE)
        covariance = self.covariances(at)
        pz = np.einsum("nij,nj->ni", covariance, z)
        gain = pz / (keep + np.einsum("ni,ni->n", z, pz))[:, None]
        innovation = np.clip(y - np.einsum("nk,nk->n", z, self.weights[at]), -CLIP, CLIP)
        self.weights[at] += gain * innovation[:, None]
        covariance = (covariance - gain[:, :, None] * pz[:, None, :]) / keep
        trace = np.trace(covariance, axis1=1, axis2=2)
        covariance *= np.minimum(1.0, MOST_TRACE / trace)[:, None, None]
        self.covariance[at] = covariance[:, *self._half]


@cache
def _halves(k: int) -> tuple[tuple[NDArray[np.int64], NDArray[np.int64]], NDArray[np.int64]]:
    """(rows and columns of the upper half of a matrix [K, K], where each number of the whole stands in it)."""
    half = np.triu_indices(k)
    whole = np.zeros((k, k), np.int64)
    whole[half] = whole.T[half] = np.arange(len(half[0]))
    return half, whole
