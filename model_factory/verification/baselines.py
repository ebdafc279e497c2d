"""The station's own regressions, ridge and LightGBM, trained on its earlier part.

The bar that a shared model is held against. Both forecast the error of diurnal-anomaly persistence. They see a
station's past only: training ends six hours before the part that is scored, and what has to be chosen (ridge's
penalty, the number of trees) is chosen on the last fifth of the training part. Their forecasts do not depend on any
run, so they are kept in a cache.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_agent.bundle.station_task import OUTPUT_VARIABLES
from edge_agent.circle import compass
from edge_agent.forecast.persistence import BOUNDS
from edge_agent.grid import STEP_S
from model_factory.verification.features import LEAD_STEPS, base_forecasts, channels, features, wind_vector
from model_factory.verification.pairs import LEADS, Index, Record, held_out_origins
from model_factory.verification.trees import MIN_ROWS, Split, enough, tree_pool

RECIPE = "2"  # grows when a regression changes: cached forecasts of another recipe are not used
GAP_STEPS = 24  # between training and what is forecast: no target overlaps
PENALTIES = tuple(10.0**k for k in range(-1, 6))
# What is regressed: the variables themselves, and the wind as a vector, from which the direction comes. Trees are grown
# for the first ones alone.
TREE_TARGETS = ("temperature", "humidity", "pressure", "wind_speed", "wind_gust", "solar_radiation")
TARGETS = (*TREE_TARGETS, "rain", "u", "v")

Floats = NDArray[np.float64]
Rows = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Regressions:
    """Forecasts at `features.LEAD_STEPS`, [O, K, 8] each; NaN where there is none. Trees leave out direction, rain."""

    ridge: Rows
    lightgbm: Rows


@dataclass(frozen=True, slots=True)
class Scaling:
    """Features to mean 0 and deviation 1 of the training rows; missing becomes 0 beside a column that says so."""

    mean: Rows
    spread: Rows
    gaps: NDArray[np.bool_]

    @classmethod
    def of(cls, x: Rows) -> Scaling:
        """As found in the training rows, [N, F]."""
        there = ~np.isnan(x)
        n = np.maximum(there.sum(axis=0), 1)
        mean = np.where(there, x, 0).sum(axis=0, dtype=np.float64) / n
        spread = np.sqrt((np.where(there, x - mean, 0) ** 2).sum(axis=0) / n)
        spread[spread < 1e-6] = np.inf
        gaps = np.asarray(~there.all(axis=0) & there.any(axis=0))
        return cls(mean.astype(np.float32), spread.astype(np.float32), gaps)

    def apply(self, x: Rows) -> Rows:
        """[N, F] to [N, F + columns with gaps]."""
        standard = np.clip(np.nan_to_num((x - self.mean) / self.spread), -8.0, 8.0)
        return np.concatenate([standard, np.isnan(x[:, self.gaps])], axis=1).astype(np.float32)


def cached_regressions(
    one: Record, at: Index, folder: Path, tick: Callable[[], None] = lambda: None
) -> Regressions | None:
    """`regressions` for held-out origins, read from or written to `folder`; the file's name holds a digest of the
    readings. Files hold every full hour, so that sparser origins need no training of their own."""
    whole = held_out_origins(one, 3600)
    if not np.isin(at, whole).all():
        whole = held_out_origins(one, STEP_S)
    digest = hashlib.sha256(RECIPE.encode())
    for held_in in (one.history, one.came, one.steps[:1], one.site, np.array([one.split]), whole):
        digest.update(np.ascontiguousarray(held_in).tobytes())
    path = folder / f"{one.network}--{one.station}--{digest.hexdigest()[:16]}.npz"
    if not path.exists():
        _keep(regressions(one, whole, tick), path)
    with np.load(path) as held:
        if not len(held["ridge"]):
            return None
        rows = np.searchsorted(whole, at)
        return Regressions(held["ridge"][rows], held["lightgbm"][rows])


def _keep(made: Regressions | None, path: Path) -> None:
    """Write forecasts, or that there are none, beside `path` and move them there."""
    nothing = np.zeros((0, 0, 0), np.float32)
    ridge, trees = (made.ridge, made.lightgbm) if made else (nothing, nothing)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}.part")
    with part.open("wb") as file:
        np.savez_compressed(file, ridge=ridge, lightgbm=trees)
    part.replace(path)


def regressions(one: Record, at: Index, tick: Callable[[], None] = lambda: None) -> Regressions | None:
    """Train on the part before `one.split` and forecast from the origins `at` [O]; None where the station has fewer
    than 500 origins to train on. `tick` is called after each lead."""
    train = training_origins(one)
    if len(train) < MIN_ROWS:
        return None
    cut = train[int(0.8 * len(train))]
    raw = features(one, train)
    scaling = Scaling.of(raw)
    split = Split(scaling.apply(raw), train < cut - GAP_STEPS, train >= cut)
    ahead = scaling.apply(features(one, at))
    moved, targets = departures(one, train), bases(one, at)
    ridge, trees = targets.copy(), targets.copy()
    trees[..., len(TREE_TARGETS) :] = np.nan
    with tree_pool(split, ahead) as forecast_by_trees:
        for k in range(len(LEAD_STEPS)):
            y = moved[:, k]
            grown = [forecast_by_trees(y[:, i]) for i in range(len(TREE_TARGETS))]
            for i in range(len(TARGETS)):
                ridge[:, k, i] += ridge_forecast(split, y[:, i], ahead)
            for i, forecast in enumerate(grown):
                trees[:, k, i] += forecast.result()
            tick()
    return Regressions(as_variables(ridge), as_variables(trees))


def training_origins(one: Record) -> Index:
    """Origins whose readings are as fresh as those that are scored: a reading stands at the origin, targets end before
    the split. [N]"""
    last = max(one.split - GAP_STEPS, 0)
    return np.flatnonzero((~np.isnan(one.came[:last])).any(axis=1)).astype(np.int64)


def ridge_forecast(split: Split, y: Floats, ahead: Rows) -> Floats:
    """[O]: least squares with a penalty on the squared weights, on standardized features.

    w = (X'X + a n I)^-1 X'y for centred X and y; a is the one of `PENALTIES` (x 1e-4) with the least squared error on
    `choose`, then w is found from all rows. Source: Hoerl and Kennard (1970), Technometrics 12, 55-67, eq. 2.1.
    """
    there = ~np.isnan(y)
    fit, choose = split.fit & there, split.choose & there
    if not enough(fit, choose):
        return np.full(len(ahead), np.nan)
    solved = _solve(split.x[fit], y[fit])
    scores = [np.mean((y[choose] - solved(a, split.x[choose])) ** 2) for a in PENALTIES]
    return _solve(split.x[there], y[there])(PENALTIES[int(np.argmin(scores))], ahead)


def _solve(x: Rows, y: Floats) -> Callable[[float, Rows], Floats]:
    """Ridge for any penalty from one matrix of products: (a, features) -> forecasts."""
    centre, level = x.mean(axis=0, dtype=np.float64).astype(np.float32), float(y.mean())
    z = x - centre
    products, projected = (z.T @ z).astype(np.float64), z.T @ (y - level)

    def forecast(a: float, rows: Rows) -> Floats:
        weights = np.linalg.solve(products + a * 1e-4 * len(x) * np.eye(len(products)), projected)
        return np.asarray((rows - centre) @ weights + level)

    return forecast


def departures(one: Record, at: Index) -> Floats:
    """What came less the base, [O, K, 9] over TARGETS; NaN where either is missing."""
    came = {name: one.came[:, i] for i, name in enumerate(OUTPUT_VARIABLES)}
    u, v = wind_vector(came["wind_speed"], came["wind_direction"])
    all_targets = np.stack([*(came[name] for name in TARGETS[:-2]), u, v], axis=1)
    return np.asarray(all_targets[at[:, None] + np.array(LEAD_STEPS)] - bases(one, at))


def bases(one: Record, at: Index) -> Floats:
    """What the regressions start from, [O, K, 9] over TARGETS: anomaly persistence; the wind vector of now."""
    linear = base_forecasts(one, at, cycle=True)[:, np.array(LEAD_STEPS) - 1].astype(np.float64)
    out = np.empty((len(at), len(LEAD_STEPS), len(TARGETS)))
    out[..., :-2] = linear[..., [OUTPUT_VARIABLES.index(name) for name in TARGETS[:-2]]]
    out[..., -2:] = channels(one)[at, None, 5:7]
    return out


def as_variables(targets: Floats) -> Rows:
    """[O, K, 9] over TARGETS to [O, K, 8] over the output variables, within physical bounds."""
    out = np.empty((*targets.shape[:2], len(OUTPUT_VARIABLES)), np.float32)
    for i, name in enumerate(OUTPUT_VARIABLES):
        if name == "wind_direction":
            out[..., i] = compass(np.degrees(np.arctan2(-targets[..., -2], -targets[..., -1])))
        else:
            out[..., i] = np.clip(targets[..., TARGETS.index(name)], *BOUNDS.get(name, (-np.inf, np.inf)))
    return out


assert max(LEAD_STEPS) <= LEADS
