"""Rolling EMOS: the probabilistic bar that corrected guidance is held against.

Normal with mean a + b'x and variance exp(c)^2 + exp(d)^2 s^2, x the predictors and s^2 the ensemble's variance, fitted
by least CRPS on the pairs of the days before (Gneiting et al. 2005, Mon. Wea. Rev. 133, 1098-1118).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize  # type: ignore[import-untyped]
from scipy.special import ndtr  # type: ignore[import-untyped]

Floats = NDArray[np.float64]

MOST_STEPS = 30  # of the optimizer, which starts from yesterday's fit


def normal_crps(mean: Floats, sigma: Floats, observed: Floats) -> Floats:
    """CRPS of normal forecasts, [N]: sigma (z (2 Phi(z) - 1) + 2 phi(z) - 1 / sqrt(pi)), z = (o - mean) / sigma.

    Source: Gneiting et al. (2005), eq. 5. Worked: mean 0, sigma 1, observed 0 -> 0.2337.
    """
    z = (observed - mean) / sigma
    density = np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)
    return np.asarray(sigma * (z * (2 * ndtr(z) - 1) + 2 * density - 1 / np.sqrt(np.pi)))


def rolling_crps(x: Floats, spread: Floats, observed: Floats, first: int, window: int, delay: int) -> Floats:
    """CRPS of the days from `first` on, [N - first], each forecast by a fit on the `window` days up to `delay` days
    before it. `x`: [N, P], `spread`, `observed`: [N], one pair a day in order, without gaps."""
    centre, scale = x.mean(axis=0), x.std(axis=0) + 1e-9
    design = np.column_stack([np.ones(len(x)), (x - centre) / scale])
    start = np.zeros(design.shape[1] + 2)
    scores = []
    for day in range(first, len(x)):
        rows = slice(max(day - delay - window + 1, 0), day - delay + 1)
        if not start.any():
            start[:-2] = np.linalg.lstsq(design[rows], observed[rows], rcond=None)[0]
        start = _fit(start, design[rows], spread[rows], observed[rows])
        mean, sigma = _forecast(start, design[day : day + 1], spread[day : day + 1])
        scores.append(float(normal_crps(mean, sigma, observed[day : day + 1])[0]))
    return np.array(scores)


def _forecast(parameters: Floats, design: Floats, spread: Floats) -> tuple[Floats, Floats]:
    floor, factor = np.exp(np.clip(parameters[-2:], -6.0, 4.0))
    return design @ parameters[:-2], np.sqrt(floor**2 + factor**2 * spread**2)


def _fit(start: Floats, design: Floats, spread: Floats, observed: Floats) -> Floats:
    def loss(parameters: Floats) -> float:
        return float(normal_crps(*_forecast(parameters, design, spread), observed).mean())

    return np.asarray(minimize(loss, start, method="L-BFGS-B", options={"maxiter": MOST_STEPS}).x)
