"""What a correction is told: the predictors of each pair, from guidance and from observations up to the origin."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Times = NDArray[np.int64]

HOUR_S, DAY_S = 3600, 86_400
SPREADS = ("spread", "sd", "std", "stdev")  # predictors that are no forecasts themselves
SEASON = ("guidance", "season_sin", "season_cos")
LEAN = (*SEASON, "hour_sin", "hour_cos", "newest_error", "lead_error", "day_before", "newest", "lead_error_mean")
VERIFIED = (*SEASON, "hour_sin", "hour_cos", "lead_error", "lead_error_mean")
RECENT = (
    "error_change", "error_6h", "error_24h", "reading_change", "guidance_change", "guidance_slope", "hour_sin2",
    "hour_cos2",
)  # fmt: skip
BRIEF = ("newest_error", "newest", *RECENT[:6])  # what is wrong just now, and nothing that takes weeks to tell
ENSEMBLE = ("members_mean", "members_spread")
PLACE = ("latitude", "longitude", "elevation")
MOST_COLUMNS = 80
LEAST_MEMBERS = 5  # columns that only a number tells apart


@dataclass(frozen=True, slots=True)
class Layout:
    """Columns of the predictors of `variable`.

    `own`: guidance columns `<variable>__<name>` that are forecasts of it; `alike`: those that only a number tells
    apart, one ensemble's members, of which their mean and spread tell all; `spreads`: those that tell its spread;
    `others`: all other columns of the guidance; `pooled`: stations are told apart by their place.
    """

    variable: str
    own: tuple[str, ...]
    alike: tuple[str, ...]
    spreads: tuple[str, ...]
    others: tuple[str, ...]
    pooled: bool

    @classmethod
    def of(cls, variable: str, columns: Sequence[str], pooled: bool) -> Layout:
        """The layout for a guidance with these columns."""
        mine = [name for name in columns if name.startswith(f"{variable}__")][:MOST_COLUMNS]
        spreads = tuple(name for name in mine if is_spread(name))
        stems = Counter(_stem(name) for name in mine)
        alike = tuple(n for n in mine if n not in spreads and _stem(n) != n and stems[_stem(n)] >= LEAST_MEMBERS)
        own = tuple(name for name in mine if name not in spreads and name not in alike)
        others = tuple(n for n in columns if n != variable and n not in mine)[: MOST_COLUMNS - len(mine)]
        return cls(variable, own, alike, spreads, others, pooled)

    @property
    def names(self) -> tuple[str, ...]:
        place = PLACE if self.pooled else ()
        return (*LEAN, *place, *RECENT, *ENSEMBLE, *self.own, *self.spreads, *self.others)

    @property
    def width(self) -> int:
        return len(self.names)

    @property
    def widths(self) -> int:
        """Columns of what the spread is told from: season, members' spread, newest errors, spreads given."""
        return 5 + len(self.spreads)

    def columns(self, which: str, *, short: bool, season: bool) -> NDArray[np.int64]:
        """Where the predictors of a regression stand. `which`: "brief" (in short bands), "season", "members", "lean",
        "own" or "rich". `season`: it was seen turning; short bands forget sooner, to them it would be a trend."""
        few = LEAN if self.pooled else VERIFIED  # a lone station has too few pairs for more
        wanted: list[str] = list({"brief": BRIEF, "season": SEASON, "members": SEASON, "own": few}.get(which, LEAN))
        if which not in ("brief", "season", "members") and self.pooled:
            wanted += PLACE
        if which != "brief" and short:
            wanted += RECENT
        if short or not season:
            wanted = [name for name in wanted if name not in SEASON[1:]]
        if which in ("season", "members", "own", "rich"):
            wanted += ENSEMBLE if which != "season" else ENSEMBLE[:1]
        if which in ("members", "own", "rich"):
            wanted += (*self.own, *self.spreads)
        if which == "rich":
            wanted += self.others
        at = {name: i for i, name in enumerate(self.names)}
        return np.array([at[name] for name in wanted], np.int64)


def _stem(name: str) -> str:
    """A column's name without the number at its end."""
    return name.rstrip("0123456789")


def is_spread(name: str) -> bool:
    """Whether a further predictor is a spread: in the variable's unit, but no forecast of it."""
    return name.partition("__")[2].rstrip("0123456789_") in SPREADS


def clocks(valid: Times, longitude: float) -> dict[str, Floats]:
    """Sine and cosine of the day of the year and of the solar hour, by name, [L] each."""
    year = 2 * np.pi * (valid % (365.2425 * DAY_S)) / (365.2425 * DAY_S)
    hour = 2 * np.pi * ((valid % DAY_S) / DAY_S + longitude / 360.0)
    return {
        "season_sin": np.sin(year), "season_cos": np.cos(year), "hour_sin": np.sin(hour), "hour_cos": np.cos(hour),
        "hour_sin2": np.sin(2 * hour), "hour_cos2": np.cos(2 * hour),
    }  # fmt: skip


def members(layout: Layout, raw: Floats, columns: Mapping[str, Floats]) -> dict[str, Floats]:
    """What members and other models say beside the guidance: each model less the guidance; mean and spread of the
    members, or of the models where there are none."""
    found = {name: columns[name] - raw for name in layout.own}
    whose = layout.alike or layout.own
    if not whose:
        none = np.full(len(raw), np.nan)
        return {"members_mean": none, "members_spread": none}
    less = np.stack([columns[name] for name in whose], axis=1) - raw[:, None]
    there = ~np.isnan(less)
    n = np.maximum(there.sum(axis=1), 1)
    mean = np.where(there, less, 0.0).sum(axis=1) / n
    spread = np.sqrt(np.where(there, (less - mean[:, None]) ** 2, 0.0).sum(axis=1) / n)
    empty = ~there.any(axis=1)
    return found | {
        "members_mean": np.where(empty, np.nan, mean), "members_spread": np.where(empty, np.nan, spread),
    }  # fmt: skip
