"""What the pairs say beyond the mean: CRPS of everything that forecasts a distribution, and where readings lie in it.

Scores as in `edge_agent.verification`. The baselines' distributions are those a device would issue.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from edge_agent.bundle.station_task import OUTPUT_VARIABLES
from edge_agent.forecast import QUANTILES, persistence
from edge_agent.grid import GRID_VARIABLES
from edge_agent.verification import crps
from model_factory.verification.paired import AT_LEADS, CIRCULAR, PAIRED_LEADS_S, Pairs, pit_interval, resolution_of
from model_factory.verification.pairs import Index, Record, windows
from model_factory.verification.scoring import ANOMALY, MODEL, PERSISTENCE

DRESSED_EVERY_S = 10_800  # a baseline's distribution is made at these origins: it takes a thousand sorts each
CHUNK = 128

Floats = NDArray[np.floating]


def station_pairs(
    one: Record,
    at: Index,
    setting: str,
    came: Floats,
    means: Mapping[str, Floats],
    quantiles: Floats,
    probability: Floats,
) -> Pairs:
    """A station's pairs at the seven leads.

    Args:
        came: [O, 24, 7]; means: source -> [O, 24, 7]; quantiles [O, 24, 7, Q] and probability [O, 24, E] of the model.
    """
    there, q = came[:, AT_LEADS], quantiles[:, AT_LEADS]
    pit = np.empty((*there.shape, 2))
    for i, name in enumerate(OUTPUT_VARIABLES):
        pit[:, :, i] = pit_interval(name, q[:, :, i], there[:, :, i], resolution_of(one.came[:, i]))
    scores = {MODEL: _crps(q, there)} | {
        source: _dressed(one, at, there, cycle) for source, cycle in ((PERSISTENCE, False), (ANOMALY, True))
    }
    return Pairs(
        setting,
        one.network,
        (one.station,),
        one.site[None, :2].astype(np.float64),
        np.zeros(len(at), np.int64),
        one.steps[at],
        there,
        {source: mean[:, AT_LEADS] for source, mean in means.items()},
        scores,
        pit,
        probability[:, AT_LEADS, 0],
    )


def _crps(q: Floats, came: Floats) -> Floats:
    """[O, 7, 7] of quantiles [O, 7, 7, Q]."""
    scores = [crps(q[:, :, i], came[:, :, i], QUANTILES, turns) for i, turns in enumerate(CIRCULAR)]
    return np.stack(scores, axis=-1)


def _dressed(one: Record, at: Index, came: Floats, cycle: bool) -> Floats:
    """CRPS [O, 7, 7] of a persistence with the quantiles of its own errors; NaN at the origins between."""
    out = np.full(came.shape, np.nan)
    some = np.flatnonzero(one.steps[at] % DRESSED_EVERY_S == 0)
    for start in range(0, len(some), CHUNK):
        rows = some[start : start + CHUNK]
        history = windows(one, at[rows])
        for i, name in enumerate(OUTPUT_VARIABLES):
            if np.isnan(came[rows, :, i]).all():
                continue
            x = history[:, GRID_VARIABLES.index(name)]
            q = persistence.quantiles(x, name, PAIRED_LEADS_S, QUANTILES, cycle=cycle)
            out[rows, :, i] = crps(q, came[rows, :, i], QUANTILES, CIRCULAR[i])
    return out
