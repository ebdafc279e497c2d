"""LightGBM, grown in processes of its own.

Never imports PyTorch: both bring an OpenMP runtime, and a process with the two of them ends in a segmentation fault
now and then.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Rows = NDArray[np.float32]
Mask = NDArray[np.bool_]

MIN_ROWS = 500  # training origins below which a station has no regression
TREES = 200
TREE_SETTINGS = {
    "objective": "regression",
    "learning_rate": 0.05,
    "num_leaves": 15,
    "min_data_in_leaf": 20,
    "max_bin": 63,
    "feature_fraction": 0.4,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "seed": 0,
    "deterministic": True,
    "force_row_wise": True,
    "num_threads": 1,  # one tree does not wait for two busy cores; several are grown side by side
    "verbosity": -1,
}


@dataclass(frozen=True, slots=True)
class Split:
    """Training rows of a station as two parts in time, `fit` and `choose`, six hours apart."""

    x: Rows
    fit: NDArray[np.bool_]
    choose: NDArray[np.bool_]


def enough(fit: Mask, choose: Mask) -> bool:
    """Whether so many rows can train a regression and choose among its settings."""
    return bool(fit.sum() >= MIN_ROWS // 2 and choose.sum() >= MIN_ROWS // 10)


@contextmanager
def tree_pool(split: Split, ahead: Rows) -> Iterator[Callable[[Floats], Future[Floats]]]:
    """A station's trees, several at a time: target [N] -> its forecast [O] to come, as `tree_forecast`."""
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn"), _hold, (split, ahead)) as pool:
        yield lambda y: pool.submit(_forecast, y)


def tree_forecast(split: Split, y: Floats, ahead: Rows) -> Floats:
    """[O]: gradient-boosted trees (LightGBM), stopped when `choose` has not improved for 20 trees."""
    import lightgbm

    there = ~np.isnan(y)
    fit, choose = split.fit & there, split.choose & there
    if not enough(fit, choose):
        return np.full(len(ahead), np.nan)
    known = lightgbm.Dataset(split.x[fit], y[fit], free_raw_data=True)
    held = lightgbm.Dataset(split.x[choose], y[choose], reference=known, free_raw_data=True)
    stop = lightgbm.early_stopping(20, verbose=False)
    grown = lightgbm.train(TREE_SETTINGS, known, TREES, valid_sets=[held], callbacks=[stop])
    return np.asarray(grown.predict(ahead), np.float64)


_held: list[tuple[Split, Rows]] = []  # in a worker: its station, sent once


def _hold(split: Split, ahead: Rows) -> None:
    _held[:] = [(split, ahead)]


def _forecast(y: Floats) -> Floats:
    [(split, ahead)] = _held
    return tree_forecast(split, y, ahead)
