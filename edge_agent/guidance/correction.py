"""Guidance corrected by what this station, or many of them, has seen of its errors.

A mix of experts per lead band: the guidance as it is, its mean errors of 15, 60 and 365 days, and regressions, each
weighted by what it was worth when verified. Learns from each pair once, when its observation arrives. Must never see an
observation later than the origin, or trust a regression before it has been right for long enough.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.circle import wrap
from edge_agent.guidance.bands import BANDS, SHORT, hours_ahead
from edge_agent.guidance.predictors import Layout
from edge_agent.guidance.regression import DAY_S, Columns, Floats, Means, Moments

BIAS_DAYS = (15.0, 60.0, 365.0)
SHRINK = 3.0  # of many, a station's mean error counts n / (n + 3) beside that of all
SPELL_DAYS = 5.0  # for so long errors are alike
STATION_SHRINK = 1.0  # the same of what a regression leaves of its errors, beside nothing
LEAST_DAYS = 90  # of pairs, below which a long band trusts no regression
POOLED_RIDGE = 10.0  # of the ridge, where the stations of a region share a regression
POOLED_DAYS = 5  # the same where many stations are pooled
MANY = 8  # stations that are many
SHORT_DAYS = 3  # the same of a short band
SEASON_DAYS = 180  # since the first pair, below which the season would be but a trend
MIX_DAYS = 45.0  # half-life of an expert's verified error
HEDGE = 0.3  # of the weight is given more evenly: by a fifth of the power
MIX_DOUBT = (1.0, 5.0)  # days of verification before any expert is preferred: half a day for each hour of the lead
VERDICTS_A_DAY = (1.0, 4.0)  # that tell something new: one in twice the time that a lead takes
RATE = 0.05  # of the calibration, in units of the spread, a verdict
SPREAD_RIDGE = 20.0  # days
PAIRS_BEFORE_SPREAD = 10.0  # with so many pairs, the ordinary spread still has half the say


@dataclass(frozen=True, slots=True)
class Regressor:
    """One regression expert: which columns, how fast it forgets, how much it is held back (ridge, in days).

    `station_days`: of many stations, each adds the mean of what the regression left of its own errors, with this
    half-life.
    """

    columns: str
    half_life_days: float
    ridge: float
    station_days: float = 60.0


SHORT_REGRESSORS = (Regressor("brief", 60.0, 1.0), Regressor("lean", 60.0, 1.0), Regressor("rich", 60.0, 3.0))
LONG_REGRESSORS = (
    Regressor("season", 730.0, 2.0),
    Regressor("lean", 730.0, 4.0),
    Regressor("own", 730.0, 4.0),
    Regressor("rich", 730.0, 8.0),
    Regressor("own", 180.0, 8.0),
)
POOLED_REGRESSORS = (
    Regressor("season", 730.0, 2.0, station_days=3.0),
    Regressor("season", 730.0, 2.0, station_days=365.0),
    Regressor("members", 730.0, 4.0, station_days=3.0),
    Regressor("own", 730.0, 4.0, station_days=365.0),
    Regressor("rich", 730.0, 8.0, station_days=365.0),
)


@dataclass(frozen=True, slots=True)
class Issued:
    """Corrected guidance of N pairs still to be verified, of one variable.

    `station`, `band` [N]; `raw` [N]; `x` [N, P]; `wide` [N, W]: what its spread is told from; `experts` [N, K]; `mean`,
    `scale` [N]; `quantiles` [N, Q].
    """

    station: Columns
    band: Columns
    raw: Floats
    x: Floats
    wide: Floats
    experts: Floats
    mean: Floats
    scale: Floats
    quantiles: Floats


class Correction:
    """What was learned about one variable's guidance: `stations` share the regressions, each has its own mean errors.

    Args:
        layout: which columns of the predictors are what.
        bounds: what the variable can be.
        circular: its differences are on the circle.
        spread: an ordinary error, in the variable's unit, for the time before any was seen.
        regions: in how many of them the stations lie; one region's stations share a day's weather, and its errors.
    """

    def __init__(
        self,
        stations: int,
        layout: Layout,
        levels: Sequence[float],
        *,
        bounds: tuple[float, float] = (-np.inf, np.inf),
        circular: bool = False,
        spread: float = 2.0,
        regions: int = 1,
    ) -> None:
        self._stations, self._layout, self._bounds, self._circular = stations, layout, bounds, circular
        self._levels = np.asarray(levels, np.float64)
        self._spread = spread
        self._hold_back = POOLED_RIDGE / regions if stations > 1 else 1.0
        self._bias = [Means(stations, BANDS, days * DAY_S) for days in BIAS_DAYS]
        self._short, self._long = SHORT_REGRESSORS, POOLED_REGRESSORS if stations > 1 else LONG_REGRESSORS
        both = dict.fromkeys((*self._short, *self._long))
        self._left = {r: Means(stations, BANDS, r.station_days * DAY_S) for r in both} if stations > 1 else {}
        lives = {r.half_life_days for r in both}
        self._moments = {days: Moments(BANDS, layout.width, days * DAY_S) for days in sorted(lives)}
        most = max(len(self._short), len(self._long))
        self._loss = np.zeros((BANDS, 1 + len(BIAS_DAYS) + most))
        self._weighed = np.zeros(BANDS)
        self._loss_at = np.zeros(BANDS)
        self._since = np.zeros(BANDS)
        self._days = np.zeros(BANDS, np.int64)
        self._day = np.zeros(BANDS, np.int64)
        self._width = Moments(BANDS, layout.widths, 365.0 * DAY_S)
        self._step = np.tile([NormalDist().inv_cdf(level) for level in levels], (BANDS, 1))
        self._solved: dict[tuple[int, int], tuple[Columns, float, Floats]] = {}  # until the band learns again
        self._widths: dict[int, tuple[float, Floats, float]] = {}

    def issue(self, station: Columns, band: Columns, raw: Floats, x: Floats, wide: Floats) -> Issued:
        """Correct guidance [N] with what has been learned up to now. `x`: [N, P], `wide`: [N, W], NaN = unknown."""
        n, experts = len(raw), self._loss.shape[1]
        made = np.full((n, experts), np.nan)
        mean, scale = np.empty(n), np.empty(n)
        quantiles = np.empty((n, len(self._levels)))
        for b in np.unique(band).tolist():
            rows = np.flatnonzero(band == b)
            made[rows] = self._experts(b, station[rows], x[rows])
            weights = self._weights(b)
            mean[rows] = raw[rows] + made[rows][:, weights > 0] @ weights[weights > 0]
            scale[rows] = self._scale(b, wide[rows])
            quantiles[rows] = mean[rows, None] + scale[rows, None] * self._step[b]
        low, high = self._bounds
        mean, quantiles = np.clip(mean, low, high), np.clip(quantiles, low, high)
        return Issued(station, band, raw, x, wide, made, mean, scale, quantiles)

    def learn(self, issued: Issued, observed: Floats, at: float) -> None:
        """Take what came, [N], NaN = nothing was read. `at`: when it was known, UTC seconds."""
        for b in np.unique(issued.band).tolist():
            rows = np.flatnonzero((issued.band == b) & ~np.isnan(observed) & ~np.isnan(issued.raw))
            if len(rows):
                self._learn(b, issued, rows, observed[rows], at)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What was learned, by name."""
        own = (self._loss, self._weighed, self._loss_at, self._since, self._days, self._day, self._step)
        learned: list[Means | Moments] = [*self._bias, *self._left.values(), *self._moments.values(), self._width]
        parts = [own, *(part.arrays() for part in learned)]
        return {f"{i}.{j}": array for i, part in enumerate(parts) for j, array in enumerate(part)}

    def check(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Raises ValueError: arrays of another shape or kind than `arrays` gives, or with numbers that are none."""
        for key, own in self.arrays().items():
            given = arrays[key]
            if given.shape != own.shape or given.dtype != own.dtype or not np.isfinite(given).all():
                raise ValueError("of other guidance, stations or another version")

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take up what `arrays` gave and `check` passed."""
        for key, own in self.arrays().items():
            own[:] = arrays[key]
        self._solved.clear()
        self._widths.clear()

    def _learn(self, b: int, issued: Issued, rows: Columns, observed: Floats, at: float) -> None:
        station, error = issued.station[rows], self._difference(observed, issued.raw[rows])
        missed = error[:, None] - issued.experts[rows]
        self._weigh(b, missed, at)
        for means in self._bias:
            means.learn(station, b, error, at)
        for i, regressor in enumerate(self._regressors(b)):
            if regressor in self._left:
                self._left[regressor].learn(station, b, error - self._regressed(b, i, issued.x[rows]), at)
        for moments in self._moments.values():
            moments.learn(b, issued.x[rows], error, at)
        left = self._difference(observed, issued.mean[rows])
        for i in range(len(self._regressors(b))):
            self._solved.pop((b, i), None)
        self._widths.pop(b, None)
        self._width.learn(b, issued.wide[rows], np.abs(left), at)
        hit = observed[:, None] <= issued.quantiles[rows]
        share = 1.0 / (1.0 + self._days[b] / 10.0)
        rate = max(RATE, 0.3 * share)
        self._step[b] = np.sort(self._step[b] + rate * (self._levels - hit.mean(axis=0)))

    def _difference(self, observed: Floats, forecast: Floats) -> Floats:
        return wrap(observed - forecast) if self._circular else observed - forecast

    def _regressors(self, b: int) -> tuple[Regressor, ...]:
        return self._short if b < SHORT else self._long

    def _experts(self, b: int, station: Columns, x: Floats) -> Floats:
        """What each expert adds to the guidance, [N, K]."""
        made = np.full((len(station), self._loss.shape[1]), np.nan)
        made[:, 0] = 0.0
        for i, means in enumerate(self._bias, 1):
            made[:, i] = means.of(station, b, SHRINK) if self._stations > 1 else means.beyond_chance(b, SPELL_DAYS)
        for i, regressor in enumerate(self._regressors(b)):
            own = self._left[regressor].left(station, b, STATION_SHRINK) if regressor in self._left else 0.0
            made[:, 1 + len(BIAS_DAYS) + i] = self._regressed(b, i, x) + own
        return made

    def _regressed(self, b: int, i: int, x: Floats) -> Floats:
        """What a regression of a band makes of predictors [N, P], [N]; solved once until the band learns again."""
        regressor = self._regressors(b)[i]
        moments = self._moments[regressor.half_life_days]
        if (b, i) not in self._solved:
            turned = bool(self._loss_at[b] - self._since[b] >= SEASON_DAYS * DAY_S)
            columns = self._layout.columns(regressor.columns, short=b < SHORT, season=turned)
            self._solved[b, i] = columns, *moments.solve(b, columns, regressor.ridge * self._hold_back)
        columns, constant, beta = self._solved[b, i]
        return np.asarray(constant + moments.filled(b, x)[:, columns] @ beta)

    def _weigh(self, b: int, missed: Floats, at: float) -> None:
        """Add the squared errors of a verification, [N, K], as one day's where they are of one day. Time without
        verdicts does not make these forgotten: which expert was good last summer is known when summer comes."""
        gap = min(max(at - self._loss_at[b], 0.0), DAY_S)
        keep = 0.5 ** (gap / (MIX_DAYS * DAY_S)) if self._loss_at[b] else 0.0
        self._since[b] = self._since[b] or at
        self._loss_at[b] = max(at, self._loss_at[b])
        day = int(at // DAY_S)
        self._days[b] += day != self._day[b]
        self._day[b] = day
        self._loss[b] = keep * self._loss[b] + (np.nan_to_num(missed) ** 2).mean(axis=0)
        self._weighed[b] = keep * self._weighed[b] + 1.0

    def _weights(self, b: int) -> Floats:
        """Of each expert, [K]: with n days of verified errors, exp(-n / 2 log(MSE)), as the likelihood of normal
        errors weighs models (Raftery et al. 2005, Mon. Wea. Rev. 133, 1155-1174, with one spread an expert)."""
        plain = 1 + len(BIAS_DAYS)
        used = plain + len(self._regressors(b)) if self._trusts(b) else plain
        weights = np.zeros(self._loss.shape[1])
        days = min(self._days[b], self._weighed[b], MIX_DAYS / np.log(2.0))
        hours = hours_ahead(b)
        doubt, news = np.clip(hours / 2, *MIX_DOUBT), np.clip(12 / hours, *VERDICTS_A_DAY)
        verified = max(days - doubt, 0.0) * news
        mse = np.maximum(self._loss[b, :used] / max(self._weighed[b], 1.0), 1e-12)
        worse = verified * np.log(mse / mse.min())
        for share, sharpness in ((1.0 - HEDGE, 0.5), (HEDGE, 0.1)):
            part = np.exp(-sharpness * worse)
            weights[:used] += share * part / part.sum()
        return weights

    def _trusts(self, b: int) -> bool:
        """Whether regressions of a band may have a say."""
        pooled = POOLED_DAYS if self._stations >= MANY else LEAST_DAYS
        return bool(self._days[b] >= (SHORT_DAYS if b < SHORT else pooled))

    def _scale(self, b: int, wide: Floats) -> Floats:
        """Standard deviation of the error, [N]: the mean absolute error that its predictors let expect, by
        sqrt(pi / 2), as of normal errors; with few pairs an ordinary one."""
        n = self._width.pairs[b]
        if not n:
            return np.full(len(wide), self._spread)
        if b not in self._widths:
            every = np.arange(wide.shape[1])
            self._widths[b] = *self._width.solve(b, every, SPREAD_RIDGE), self._width.solve(b, every[:0], 0.0)[0]
        constant, beta, middle = self._widths[b]
        expected = constant + self._width.filled(b, wide) @ beta
        expected = np.clip(expected, 0.4 * middle, 3.0 * middle) * np.sqrt(np.pi / 2)
        weight = n / (n + PAIRS_BEFORE_SPREAD)
        return np.asarray(np.maximum(weight * expected + (1 - weight) * self._spread, 1e-3))
