"""Regression that learns from pairs as they are verified, in bounded memory: moments, not pairs, are kept.

Pure arrays. Must never need a pair twice, or let old pairs weigh as much as new ones.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Columns = NDArray[np.int64]

DAY_S = 86_400.0
LEAST_SPREAD = 1e-9  # of a column: below it says nothing


class Moments:
    """Discounted first and second moments of (predictors, target), one set a band.

    Recursive least squares in its information form: with weights 2^(-age / half-life) the sums n, sum z and sum z z'
    of z = (x, y) are all that a regression needs (Ljung and Soderstrom 1983, Theory and Practice of Recursive
    Identification, section 2.2).

    Attributes:
        half_life_s: age at which a pair counts half.
        pairs, days: [B], discounted numbers of pairs and of days on which pairs were verified.
    """

    def __init__(self, bands: int, predictors: int, half_life_s: float) -> None:
        self.half_life_s = half_life_s
        self.pairs, self.days = np.zeros(bands), np.zeros(bands)
        self._sum = np.zeros((bands, predictors + 1))
        self._square = np.zeros((bands, predictors + 1, predictors + 1))
        self._at = np.zeros(bands)

    def arrays(self) -> tuple[NDArray[np.float64], ...]:
        """All that was learned; written into, it is taken up again."""
        return self.pairs, self.days, self._sum, self._square, self._at

    def learn(self, band: int, x: Floats, y: Floats, at: float) -> None:
        """Take pairs that were verified at `at` (UTC seconds). `x`: [N, P], NaN = unknown; `y`: [N]."""
        keep = 0.5 ** (max(at - self._at[band], 0.0) / self.half_life_s) if self._at[band] else 0.0
        self.days[band] = keep * self.days[band] + _new_day(at, self._at[band])
        self._at[band] = max(at, self._at[band])
        z = np.column_stack([self.filled(band, x), y])
        self.pairs[band] = keep * self.pairs[band] + len(y)
        self._sum[band] = keep * self._sum[band] + z.sum(axis=0)
        self._square[band] = keep * self._square[band] + z.T @ z

    def filled(self, band: int, x: Floats) -> Floats:
        """Predictors with what is unknown at its mean so far, [N, P]: there it says nothing."""
        unknown = np.isnan(x)
        if not unknown.any():
            return x
        mean = self._sum[band, :-1] / max(self.pairs[band], 1.0)
        return np.where(unknown, mean, x)

    def solve(self, band: int, columns: Columns, ridge: float) -> tuple[float, Floats]:
        """Intercept and coefficients [C] of the target on some of the predictors.

        Ridge on standardised predictors, b = (R + (k / n) I)^-1 r with R, r their correlations, k = `ridge` days'
        worth of "no effect", as pairs of one day share its weather; n in days, too. The intercept is free (Hoerl and
        Kennard 1970, Technometrics 12, 55-67).
        """
        n = self.pairs[band]
        if not n:
            return 0.0, np.zeros(len(columns))
        mean = self._sum[band] / n
        covariance = self._square[band] / n - np.outer(mean, mean)
        own = covariance[np.ix_(columns, columns)]
        spread = np.sqrt(np.maximum(np.diag(own), 0.0))
        useful = spread > LEAST_SPREAD * (1.0 + np.abs(mean[columns]))
        scale = np.where(useful, spread, 1.0)
        inside = np.outer(useful, useful)
        correlation = np.where(inside, own / np.outer(scale, scale), 0.0)
        with_y = np.where(useful, covariance[columns, -1] / scale, 0.0)
        beta = np.linalg.solve(correlation + (ridge / self.days[band] + 1e-6) * np.eye(len(columns)), with_y) / scale
        return float(mean[-1] - beta @ mean[columns]), beta


class Means:
    """Discounted means of an error, one a station and band: `half_life_s` as in `Moments`."""

    def __init__(self, stations: int, bands: int, half_life_s: float) -> None:
        self.half_life_s = half_life_s
        self._sum = np.zeros((stations, bands))
        self._n = np.zeros((stations, bands))
        self._square = np.zeros(bands)
        self._days = np.zeros(bands)
        self._at = np.zeros(bands)

    def arrays(self) -> tuple[NDArray[np.float64], ...]:
        """As of `Moments`."""
        return self._sum, self._n, self._square, self._days, self._at

    def learn(self, station: Columns, band: int, error: Floats, at: float) -> None:
        """Take errors [N] that were verified at `at`."""
        keep = 0.5 ** (max(at - self._at[band], 0.0) / self.half_life_s)
        self._days[band] = keep * self._days[band] + _new_day(at, self._at[band])
        self._at[band] = max(at, self._at[band])
        for sums, added in ((self._sum, error), (self._n, np.ones(len(error)))):
            sums[:, band] *= keep
            np.add.at(sums[:, band], station, added)
        self._square[band] = keep * self._square[band] + (error**2).sum()

    def of(self, station: Columns, band: int, shrink: float) -> Floats:
        """The means [N], drawn to the mean of all stations: with so many days as `shrink`, they have half the say."""
        worth = shrink * self._pairs_a_day(band)
        return np.asarray(((self._sum[:, band] + worth * self.of_all(band)) / (self._n[:, band] + worth))[station])

    def left(self, station: Columns, band: int, shrink: float) -> Floats:
        """The means [N], drawn to nothing: with so many days as `shrink`, they have half the say."""
        return np.asarray((self._sum[:, band] / (self._n[:, band] + shrink * self._pairs_a_day(band)))[station])

    def _pairs_a_day(self, band: int) -> float:
        """Of the station that has most, and at least 1: pairs of one day say much the same."""
        most = float(self._n[:, band].max(initial=0.0))
        return max(most / float(self._days[band]), 1.0) if most else 1.0

    def beyond_chance(self, band: int, spell_days: float) -> float:
        """The mean m over all stations, less what chance makes of it: m (1 - v / ((N - 1) m^2)), not past 0. v: the
        errors' variance; N: days / `spell_days`, as the errors of one spell of weather are alike.

        Source: the positive-part estimator of James and Stein (1961), Proc. 4th Berkeley Symp. 1, 361-379, in the form
        of empirical Bayes (Efron and Morris 1973, J. Am. Stat. Assoc. 68, 117-130).
        """
        mean, free = self.of_all(band), self._days[band] / spell_days - 1.0
        if mean**2 < np.finfo(float).tiny or free <= 0:
            return 0.0
        variance = max(self._square[band] / self._n[:, band].sum() - mean**2, 0.0)
        return float(mean * max(1.0 - variance / (free * mean**2), 0.0))

    def of_all(self, band: int) -> float:
        """The mean over all stations; 0 before the first error."""
        n = self._n[:, band].sum()
        return float(self._sum[:, band].sum() / n) if n > 0 else 0.0


def _new_day(at: float, before: float) -> bool:
    return int(at // DAY_S) > int(before // DAY_S)
