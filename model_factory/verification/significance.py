"""Whether one forecast is better than another, or luck: paired tests on the losses of the same pairs. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student  # type: ignore[import-untyped]

Floats = NDArray[np.float64]
Times = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Paired:
    """Mean loss difference (negative: the first is better), its variance, and how many times it rests on."""

    mean: float
    variance: float
    n: int


@dataclass(frozen=True, slots=True)
class Tested:
    """`statistic`: of Diebold and Mariano; `p_worse`, `p_better`: one-sided, of no difference against the first being
    worse, or better."""

    statistic: float
    p_worse: float
    p_better: float


def over_stations(origin: Times, difference: Floats) -> tuple[Times, Floats]:
    """Times in order and the mean of what stations have there; NaN do not count. Stations that stand together see the
    same weather: averaged first, they are one witness and not many."""
    there = ~np.isnan(difference)
    times, place = np.unique(origin[there], return_inverse=True)
    sums, n = (np.bincount(place, weights, len(times)) for weights in (difference[there], None))
    return times, np.asarray(sums / np.maximum(n, 1))


def paired(origin: Times, difference: Floats, lead_s: int) -> Paired | None:
    """The mean of loss differences and its long-run variance; None below two times.

    Forecasts made one after the other look at overlapping weather: V = (g_0 + 2 sum_k w_k g_k) / n with
    autocovariances g_k over times k steps apart, w_k = 1 - k / (K + 1), K twice the lead in steps and n^(1/3) more.
    Sources: Diebold and Mariano (1995), J. Bus. Econ. Stat. 13, 253-263 (the test); Newey and West (1987), Econometrica
    55, 703-708 (the weights, which keep V positive).

    Args:
        origin: [N], UTC s, any order; several stations may have the same.
        difference: [N], loss of the first less that of the second, NaN where a pair is incomplete.
    """
    times, x = over_stations(origin, difference)
    n = len(times)
    if n < 2:
        return None
    step = int(np.min(np.diff(times)))
    grid = np.zeros(int((times[-1] - times[0]) // step) + 1)
    grid[(times - times[0]) // step] = x - x.mean()
    lags = min(2 * math.ceil(lead_s / step) + math.floor(n ** (1 / 3)), len(grid) - 1)
    cut = 1.0 - np.arange(lags + 1) / (lags + 1)
    covariances = np.array([grid[: len(grid) - k] @ grid[k:] for k in range(lags + 1)]) / n
    variance = float(covariances[0] + 2.0 * (cut[1:] @ covariances[1:])) / n
    return Paired(float(x.mean()), max(variance, 0.0), n)


def pooled(parts: Sequence[Paired]) -> Paired:
    """Networks of different places and years as one: each counts the same, and they do not depend on each other."""
    count = len(parts)
    variance = sum(part.variance for part in parts) / count**2
    return Paired(sum(part.mean for part in parts) / count, variance, sum(part.n for part in parts))


def diebold_mariano(difference: Paired) -> Tested:
    """Student's t with n - 1 degrees of freedom, after Harvey, Leybourne and Newbold (1997), Int. J. Forecasting 13,
    281-291. No variance, as of a forecast against itself: no difference, or one that is sure."""
    if difference.variance == 0.0:
        sure = float(np.sign(difference.mean))
        return Tested(0.0 if not sure else math.copysign(math.inf, sure), (1 - sure) / 2, (1 + sure) / 2)
    statistic = difference.mean / math.sqrt(difference.variance)
    return Tested(
        statistic,
        float(student.sf(statistic, difference.n - 1)),
        float(student.cdf(statistic, difference.n - 1)),
    )


def false_discovery(p: Sequence[float]) -> Floats:
    """p-values adjusted for their number: those below q are, on average, wrong in at most the share q of cases.

    p_(i) becomes min over j >= i of m p_(j) / j. Source: Benjamini and Hochberg (1995), J. R. Stat. Soc. B 57, 289-300.

    >>> false_discovery([0.01, 0.04, 0.03, 0.5]).round(4).tolist()
    [0.04, 0.0533, 0.0533, 0.5]
    """
    values = np.asarray(p, np.float64)
    order = np.argsort(values)
    scaled = values[order] * len(values) / np.arange(1, len(values) + 1)
    adjusted = np.empty(len(values))
    adjusted[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return adjusted
