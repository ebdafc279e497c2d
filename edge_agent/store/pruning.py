"""How long things are kept, and letting go of what is too old."""

from __future__ import annotations

from dataclasses import dataclass

from edge_agent.store.cells import DAY_S
from edge_agent.store.revisions import Revisions
from edge_agent.store.tables import Tables

KEEP_GRID_DAYS = 40
KEEP_FORECAST_DAYS = 8
KEEP_QUANTILE_DAYS = 1  # scored six hours and a half after the origin, shown for a day
KEEP_DAY_SCORES = 35  # one by one; then a week is one row
KEEP_SCORE_DAYS = 400


@dataclass(frozen=True, slots=True)
class Pruned:
    """How many rows were too old and are gone."""

    observations: int
    grid_days: int
    forecasts: int
    scores: int


def prune(tables: Tables, revisions: Revisions, now: int, keep_days: int) -> Pruned:
    """As `Store.prune`. `keep_days`: observations, and later verdicts on them."""
    grid_days = tables.grid.prune(now // DAY_S - KEEP_GRID_DAYS)
    forecasts, scores = tables.forecasts.prune(
        now, KEEP_FORECAST_DAYS, KEEP_QUANTILE_DAYS, KEEP_DAY_SCORES, KEEP_SCORE_DAYS
    )
    observations = tables.observations.prune(now - keep_days * DAY_S)
    revisions.prune(now - keep_days * DAY_S)
    return Pruned(observations, grid_days, forecasts, scores)
