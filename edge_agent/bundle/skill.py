"""Reading a skill table: cells of many networks pooled per setting, variable and lead, with ratios to the baselines.

Pure. A ratio is always formed over exactly the cells where the baseline exists.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from edge_agent.bundle.manifest import SkillRow
from edge_agent.variables import VARIABLES

BASELINES: tuple[str, ...] = ("persistence", "anomaly_persistence", "ridge", "lightgbm")


@dataclass(frozen=True, slots=True)
class Pooled:
    """Several cells as one: `rmse` pooled over all `n` pairs; `baseline`: RMSE of each baseline; `ratio`: the bundle's
    RMSE over the baseline's, 1 = as good, both over the cells where the baseline exists; `complete`: baselines that
    exist in every cell, whose RMSE may stand beside `rmse`."""

    setting: str
    variable: str
    lead_s: int
    n: int
    rmse: float
    mae: float
    crps: float
    coverage80: float
    baseline: dict[str, float]
    ratio: dict[str, float]
    complete: frozenset[str]


def pool(rows: Iterable[SkillRow]) -> list[Pooled]:
    """Cells of equal setting, variable and lead as one, in the order settings appear, then of the vocabulary, then by
    lead. RMSE = sqrt(sum n rmse^2 / sum n); the other scores are means weighted by n."""
    groups: dict[tuple[str, str, int], list[SkillRow]] = {}
    settings: dict[str, int] = {}
    for row in rows:
        settings.setdefault(row.setting, len(settings))
        if row.n > 0:
            groups.setdefault((row.setting, row.variable, row.lead_s), []).append(row)
    names = {name: i for i, name in enumerate(VARIABLES)}
    order = sorted(groups, key=lambda key: (settings[key[0]], names.get(key[1], len(names)), key[2]))
    return [_pooled(key, groups[key]) for key in order]


def root_mean_square(cells: Sequence[tuple[int, float]]) -> float:
    """(n, rmse) of each cell -> RMSE over all of them."""
    return math.sqrt(sum(n * rmse * rmse for n, rmse in cells) / sum(n for n, _ in cells))


def _pooled(key: tuple[str, str, int], rows: Sequence[SkillRow]) -> Pooled:
    n = sum(row.n for row in rows)

    def mean(name: str) -> float:
        return float(sum(row.n * getattr(row, name) for row in rows) / n)

    bars, ratios, complete = {}, {}, set()
    for name in BASELINES:
        both = [(row.n, row.rmse, getattr(row, name)) for row in rows if getattr(row, name) is not None]
        bar = root_mean_square([(m, score) for m, _, score in both]) if both else 0.0
        if bar > 0.0:
            bars[name] = bar
            ratios[name] = root_mean_square([(m, rmse) for m, rmse, _ in both]) / bar
            complete |= {name} if len(both) == len(rows) else set()
    rmse = root_mean_square([(row.n, row.rmse) for row in rows])
    return Pooled(*key, n, rmse, mean("mae"), mean("crps"), mean("coverage80"), bars, ratios, frozenset(complete))
