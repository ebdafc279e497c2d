"""Nowcast and corrected guidance as one forecast, each weighted by how wrong it has been at each lead.

Must never weigh by anything but verified errors, or by what each says of its own spread while there are few.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.circle import compass, near, wrap

Floats = NDArray[np.float64]
Columns = NDArray[np.int64]

HALF_LIFE = 720.0  # verified pairs of a lead
PRIOR_PAIRS = 24.0  # stated variances count as much as so many verified pairs
RATE = 0.02  # of the calibration, in units of the spread, a verdict
NORMAL_80 = 2.563  # width of the central 80 % of a normal distribution, in standard deviations


class Blend:
    """The two forecasts of one variable, at L leads and Q levels; stations share what is learned.

    With error variances s_n, s_g and covariance s_ng the weight of the nowcast is
    (s_g - s_ng) / (s_n + s_g - 2 s_ng), held to 0..1 (Bates and Granger 1969, Oper. Res. Q. 20, 451-468). Quantiles are
    averaged with the same weights and then moved by what their verdicts say.
    """

    def __init__(self, leads: int, levels: Sequence[float], *, circular: bool, bounds: tuple[float, float]) -> None:
        self._levels = np.asarray(levels, np.float64)
        self._low, self._high = (int(np.argmin(np.abs(self._levels - level))) for level in (0.1, 0.9))
        self._circular, self._bounds = circular, bounds
        self._errors = np.zeros((leads, 3))  # nowcast squared, guidance squared, product
        self._pairs = np.zeros(leads)
        self._shift = np.zeros((leads, len(levels)))

    def arrays(self) -> tuple[Floats, ...]:
        """All that was learned; written into, it is taken up again."""
        return self._errors, self._pairs, self._shift

    def check(self, arrays: Sequence[NDArray[Any]]) -> None:
        """Raises ValueError: other arrays than `arrays` gives, or with numbers that are none."""
        for given, own in zip(arrays, self.arrays(), strict=True):
            if given.shape != own.shape or given.dtype != own.dtype or not np.isfinite(given).all():
                raise ValueError("of other leads or levels")
        if (arrays[0][:, :2] < 0).any() or (arrays[1] < 0).any():
            raise ValueError("squares or numbers below zero")

    def mix(
        self, lead: Columns, nowcast: tuple[Floats, Floats], guided: tuple[Floats, Floats]
    ) -> tuple[Floats, Floats, Floats]:
        """Mean [N], quantiles [N, Q] and scale [N] from those of both. `lead`: index [N]."""
        (mean_n, q_n), (mean_g, q_g) = nowcast, guided
        if self._circular:
            turned = near(mean_g, mean_n)
            mean_g, q_g = turned, q_g + (turned - mean_g)[:, None]
        variance_n, variance_g = (
            np.maximum((q[:, self._high] - q[:, self._low]) / NORMAL_80, 1e-3) ** 2 for q in (q_n, q_g)
        )
        n = self._pairs[lead]
        seen = self._errors[lead]
        square_n = (seen[:, 0] + PRIOR_PAIRS * variance_n) / (n + PRIOR_PAIRS)
        square_g = (seen[:, 1] + PRIOR_PAIRS * variance_g) / (n + PRIOR_PAIRS)
        product = seen[:, 2] / (n + PRIOR_PAIRS)
        weight = np.clip((square_g - product) / np.maximum(square_n + square_g - 2 * product, 1e-9), 0.0, 1.0)
        mean = weight * mean_n + (1 - weight) * mean_g
        scale = np.sqrt(np.maximum(weight * variance_n + (1 - weight) * variance_g, 1e-6))
        quantiles = weight[:, None] * q_n + (1 - weight)[:, None] * q_g + scale[:, None] * self._shift[lead]
        if self._circular:
            whole = compass(mean)
            return whole, np.sort(quantiles, axis=1) + (whole - mean)[:, None], scale
        return np.clip(mean, *self._bounds), np.sort(np.clip(quantiles, *self._bounds), axis=1), scale

    def learn(self, lead: Columns, nowcast: Floats, guided: Floats, quantiles: Floats, observed: Floats) -> None:
        """Take verified pairs: means [N] of both, the blend's quantiles [N, Q], what came [N]; NaN = nothing."""
        there = ~np.isnan(observed) & ~np.isnan(nowcast) & ~np.isnan(guided)
        lead, observed = lead[there], observed[there]
        if not len(lead):
            return
        errors = [observed - nowcast[there], observed - guided[there]]
        if self._circular:
            errors = [wrap(error) for error in errors]
            observed = near(observed, quantiles[there][:, quantiles.shape[1] // 2])
        products = np.stack([errors[0] ** 2, errors[1] ** 2, errors[0] * errors[1]], axis=1)
        for i in np.unique(lead).tolist():
            rows = lead == i
            keep = 0.5 ** (rows.sum() / HALF_LIFE)
            self._errors[i] = keep * self._errors[i] + products[rows].sum(axis=0)
            self._pairs[i] = keep * self._pairs[i] + rows.sum()
            hit = (observed[rows, None] <= quantiles[there][rows]).mean(axis=0)
            self._shift[i] += RATE * (self._levels - hit)
