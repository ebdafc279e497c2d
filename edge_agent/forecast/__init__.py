"""What a forecast is, and how one is made: the nowcast, persistence below it, hindcasts, and their display.

Every number carries its level, source and age; a variable without a forecast says why. Must never let a forecast see a
reading later than its origin, or fail because a model did.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

LEADS_S: tuple[int, ...] = tuple(range(900, 6 * 3600 + 1, 900))
QUANTILES: tuple[float, ...] = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
MIN_HISTORY_S = 24 * 3600  # below this a variable falls back to `persistence`
MAX_AGE_S = 3600  # without a reading for longer there is no forecast


class Level(StrEnum):
    """The degradation ladder, best first."""

    FULL = "full"
    BACKGROUND_STALE = "background-stale"
    NOWCAST_ONLY = "nowcast-only"
    PERSISTENCE = "persistence"
    NONE = "none"


Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class VariableForecast:
    """One variable: `mean` [L] and `quantiles` [Q, L] in its unit, or None with the reason in `why`. Quantiles of
    `wind_direction` are around the mean direction and unwrapped (they may leave 0-360); publishing wraps them. Of an
    old forecast the store has the mean alone."""

    variable: str
    level: Level
    mean: Floats | None
    quantiles: Floats | None
    age_s: int | None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Forecast:
    """All variables of one station from one origin. `source`: the bundle's name, or `persistence`; `levels_q`: [Q];
    `events`: probability [L] per event name; `why`: why the level is not the best; `adapted`: variables whose numbers
    the station's own verdicts have moved."""

    station: str
    origin: int
    issued: int
    leads_s: tuple[int, ...]
    levels_q: tuple[float, ...]
    level: Level
    source: str
    bundle: str
    variables: dict[str, VariableForecast]
    events: dict[str, Floats]
    why: str = ""
    adapted: tuple[str, ...] = ()
