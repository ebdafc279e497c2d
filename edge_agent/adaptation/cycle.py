"""One cycle of learning: the verdicts that are in, then the forecast. The same for the agent and for a hindcast."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from edge_agent.adaptation.features import CORRECTED
from edge_agent.adaptation.learner import Learner
from edge_agent.forecast import chances, persistence
from edge_agent.forecast.nowcast import Batch
from edge_agent.grid import GRID_VARIABLES, Times

Floats = NDArray[np.float64]
Came = Callable[[Times], Floats]  # valid times [N] -> readings [N, V] by `grid.verifying`, NaN where there is none


def bases(history: NDArray[np.float32], leads_s: tuple[int, ...]) -> Floats:
    """Anomaly persistence of the variables whose mean is corrected, [S, L, C]. `history`: [S, T, 8]."""
    columns = (np.ascontiguousarray(history[:, :, GRID_VARIABLES.index(name)]) for name in CORRECTED)
    return np.stack([persistence.base(x, name, leads_s) for x, name in zip(columns, CORRECTED, strict=True)], axis=2)


def take(learner: Learner, origin: int, came: Came) -> None:
    """Learn what may be known at an origin and is not learned yet."""
    due = learner.due(origin)
    if len(due):
        for valid, readings in zip(due.tolist(), came(due), strict=True):
            learner.learn(valid, readings)


def move(learner: Learner, origin: int, history: NDArray[np.float32], base: Floats, batch: Batch, row: int) -> None:
    """Adapt a row of a batch, in place. `history`: [T, 8] that it was made from; `base`: its row of `bases`."""
    own = batch.probability[row, :, : len(learner.events)]  # behind them: what quantiles tell
    batch.adapted[row] = learner.adapt(
        origin, history, base, batch.rung[row], batch.mean[row], batch.quantiles[row], own
    )
    chances.derive(batch.probability[row], batch.quantiles[row], learner.levels, chances.with_derived(learner.events))
