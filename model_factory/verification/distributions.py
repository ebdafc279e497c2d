"""What the pairs say beyond the mean: CRPS of everything that forecasts a distribution, and where readings lie in it.

Scores as in `edge_agent.verification`. The baselines' distributions are those a device would issue.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from edge_agent.bundle.station_task import EVENTS, OUTPUT_VARIABLES
from edge_agent.forecast import QUANTILES, chances, persistence
from edge_agent.forecast.climatology import climatology
from edge_agent.grid import GRID_VARIABLES
from edge_agent.verification import crps, errors, resolution_of
from model_factory.verification.paired import (
    AT_LEADS,
    CIRCULAR,
    NAMED_EVENTS,
    PAIRED_LEADS_S,
    Pairs,
    pit_interval,
)
from model_factory.verification.pairs import Index, Record, windows
from model_factory.verification.scoring import ANOMALY, CLIMATOLOGY, LIGHTGBM, LIGHTGBM_ALL, MODEL, PERSISTENCE, RIDGE

DRESSED_EVERY_S = 10_800  # a baseline's distribution is made at these origins: it takes a thousand sorts each
REACH_S, FEW_RESIDUALS = 30 * 86_400, 48  # past errors that dress a regression
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
        came: [O, 24, 8]; means: source -> [O, 24, 8]; quantiles [O, 24, 8, Q] and probability [O, 24, E] of the
            bundle's events, of the model.
    """
    there, q = came[:, AT_LEADS], quantiles[:, AT_LEADS]
    pit = np.empty((*there.shape, 2))
    for i, name in enumerate(OUTPUT_VARIABLES):
        pit[:, :, i] = pit_interval(name, q[:, :, i], there[:, :, i], resolution_of(one.came[:, i]))
    scores: dict[str, Floats] = {MODEL: _crps(q, there)}
    odds: dict[str, Floats] = {MODEL: _odds(q, probability[:, AT_LEADS])}
    for source in (PERSISTENCE, ANOMALY, CLIMATOLOGY):
        scores[source], odds[source] = _dressed(one, at, there, source)
    times = one.steps[at]
    for source in (RIDGE, LIGHTGBM, LIGHTGBM_ALL):
        if source in means:
            scores[source] = _by_residuals(times, means[source][:, AT_LEADS], there)
    return Pairs(
        setting,
        one.network,
        (one.station,),
        one.site[None, :2].astype(np.float64),
        one.steps[:1],
        np.zeros(len(at), np.int64),
        times,
        there,
        {source: mean[:, AT_LEADS] for source, mean in means.items()},
        scores,
        pit,
        odds,
    )


def _crps(q: Floats, came: Floats) -> Floats:
    """[O, 7, 8] of quantiles [O, 7, 8, Q]."""
    scores = [crps(q[:, :, i], came[:, :, i], QUANTILES, turns) for i, turns in enumerate(CIRCULAR)]
    return np.stack(scores, axis=-1)


def _odds(q: Floats, own: Floats) -> NDArray[np.float64]:
    """Probabilities [O, 7, E] of `NAMED_EVENTS`: `own` [O, 7, .] of the first, and what quantiles [O, 7, 8, Q] tell."""
    out = np.full((*q.shape[:2], len(NAMED_EVENTS)), np.nan)
    out[..., : own.shape[-1]] = own
    chances.derive(out, q, QUANTILES, NAMED_EVENTS)
    return out


def _by_residuals(times: Index, mean: Floats, came: Floats) -> Floats:
    """CRPS [O, 7, 8] of a regression's mean with the quantiles of its own errors that were known at the origin, of the
    30 days before it; NaN where there are fewer than `FEW_RESIDUALS`, and at the origins between."""
    out = np.full(came.shape, np.nan)
    some = np.flatnonzero(times % DRESSED_EVERY_S == 0)
    first = np.searchsorted(times, times[some] - REACH_S)
    for k, lead in enumerate(PAIRED_LEADS_S):
        known = np.searchsorted(times, times[some] - lead, side="right")
        for i, name in enumerate(OUTPUT_VARIABLES):
            wrong = errors(came[:, k, i], mean[:, k, i], CIRCULAR[i])
            for row, start, end in zip(some, first, known, strict=True):
                past = wrong[start:end]
                past = past[~np.isnan(past)]
                if len(past) >= FEW_RESIDUALS and not np.isnan(wrong[row]):
                    low, high = persistence.BOUNDS.get(name, (-np.inf, np.inf))
                    q = np.clip(mean[row, k, i] + np.quantile(past, QUANTILES), low, high)
                    out[row, k, i] = crps(q, came[row, k, i], QUANTILES, CIRCULAR[i])
    return out


def _dressed(one: Record, at: Index, came: Floats, source: str) -> tuple[Floats, Floats]:
    """CRPS [O, 7, 8] and probabilities of events [O, 7, E] of a persistence with the quantiles of its own errors, or of
    the climatology of 30 days; NaN at the origins between. Rain is as likely as plain persistence has it now, or as it
    was in 30 days."""
    out, odds = np.full(came.shape, np.nan), np.full((*came.shape[:2], len(NAMED_EVENTS)), np.nan)
    some = np.flatnonzero(one.steps[at] % DRESSED_EVERY_S == 0)
    for start in range(0, len(some), CHUNK):
        rows = some[start : start + CHUNK]
        history = windows(one, at[rows])
        q = np.full((*came[rows].shape, len(QUANTILES)), np.nan)
        for i, name in enumerate(OUTPUT_VARIABLES):
            if not np.isnan(came[rows, :, i]).all():
                q[:, :, i] = _quantiles(history[:, GRID_VARIABLES.index(name)], name, source)
        out[rows] = _crps(q, came[rows])
        columns = (history[:, GRID_VARIABLES.index(event.variable)] for event in EVENTS)
        own = [
            persistence.event_probability(x, event, cycle=source != PERSISTENCE)
            for x, event in zip(columns, EVENTS, strict=True)
        ]
        odds[rows] = _odds(q, np.stack(own, axis=-1)[:, None].repeat(q.shape[1], axis=1))
    return out, odds


def _quantiles(x: Floats, name: str, source: str) -> Floats:
    """[S, 7, Q] of a baseline from windows [S, T]."""
    if source == CLIMATOLOGY:
        return climatology(x, name, PAIRED_LEADS_S, QUANTILES)[1]
    return persistence.quantiles(x, name, PAIRED_LEADS_S, QUANTILES, cycle=source == ANOMALY)
