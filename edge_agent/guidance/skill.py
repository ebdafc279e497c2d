"""The skill table of a guided hindcast: what was issued beside raw guidance, and beside the baselines where they are.

Forecast and raw guidance are compared on the same pairs; so are forecast and baselines.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edge_agent.guidance import Floats, Times
from edge_agent.variables import VARIABLES
from edge_agent.verification import ScoreRow, pair_scores

ISSUED, RAW = "forecast", "guidance"
BESIDE = (RAW, "persistence", "anomaly-persistence")
SHOWN_H = (0.25, 1, 2, 3, 6, 9, 12, 18, 24, 36, 48, 72, 96, 120, 144, 168)
MOST_SHOWN = 24


class GuidedSkill:
    """Sums by source, variable and lead. Beside each source the forecast is summed on that source's pairs."""

    def __init__(self, levels: Sequence[float]) -> None:
        self._levels = tuple(levels)
        self._sums: dict[tuple[str, str, int], Floats] = {}

    def add(self, name: str, lead_s: Times, issued: tuple[Floats, Floats], beside: Mapping[str, Floats],
            observed: Floats) -> None:  # fmt: skip
        """Take pairs [N] of a variable: `issued` mean [N] and quantiles [N, Q], `beside`: source -> mean [N]."""
        mean, quantiles = issued
        self._take(ISSUED, name, lead_s, pair_scores(name, mean, quantiles, observed, self._levels))
        for source, other in beside.items():
            seen = np.where(np.isnan(other) | np.isnan(mean), np.nan, observed)
            point = np.repeat(other[:, None], len(self._levels), axis=1)
            self._take(source, name, lead_s, pair_scores(name, other, point, seen, self._levels))
            own = pair_scores(name, mean, quantiles, seen, self._levels)
            self._take(f"{ISSUED} beside {source}", name, lead_s, own)

    def _take(self, source: str, name: str, lead_s: Times, scores: Floats) -> None:
        for lead in np.unique(lead_s).tolist():
            key = source, name, int(lead)
            self._sums[key] = self._sums.get(key, np.zeros(6)) + scores[:, lead_s == lead].sum(axis=1)

    def row(self, source: str, name: str, lead_s: int) -> ScoreRow:
        """The scores of a source for a variable at a lead."""
        n, error, absolute, square, score, hits = self._sums.get((source, name, lead_s), np.zeros(6)).tolist()
        return ScoreRow("", "", source, name, lead_s, int(n), error, absolute, square, score, int(hits))

    def scored(self) -> dict[str, list[int]]:
        """Variables with at least one pair, and their leads."""
        found: dict[str, list[int]] = {}
        for source, name, lead in sorted(self._sums):
            if source == ISSUED and self._sums[source, name, lead][0]:
                found.setdefault(name, []).append(lead)
        return found

    def entries(self) -> list[dict[str, Any]]:
        """Everything, one entry a variable and lead; null where there is no pair. `rmse_below`: by how much the
        forecast's RMSE lies below the other's, as a share, on the pairs of both."""
        return [self._entry(name, lead) for name, leads in self.scored().items() for lead in leads]

    def _entry(self, name: str, lead: int) -> dict[str, Any]:
        own = self.row(ISSUED, name, lead)
        entry: dict[str, Any] = {"variable": name, "unit": VARIABLES[name].unit, "lead_s": lead, "n": own.n}
        entry |= {score: _number(getattr(own, score)) for score in ("rmse", "mae", "crps", "coverage80", "bias")}
        for source in BESIDE:
            row, same = self.row(source, name, lead), self.row(f"{ISSUED} beside {source}", name, lead)
            below = 1.0 - same.rmse / row.rmse if row.n and row.rmse > 0 else math.nan
            entry[source.replace("-", "_")] = (
                {"n": row.n, "rmse": _number(row.rmse), "mae": _number(row.mae), "rmse_below": _number(below)}
                if row.n
                else None
            )
        return entry

    def as_json(self, about: Mapping[str, Any]) -> str:
        return json.dumps({**about, "skill": self.entries()}, indent=1)

    def as_table(self, about: Mapping[str, Any]) -> str:
        """For a terminal, at selected leads, 80 columns wide."""
        origins = about["origins"]
        lines = [
            f"{Path(about['history']).name} with {Path(about['guidance']).name}, bundle {about['bundle'] or 'none'}",
            f"{origins['n']} origins, {origins['first']} to {origins['last']}; stations: {about['stations']}",
            "",
            "fc    the forecast: nowcast, corrected guidance, or both blended",
            "raw   the guidance as it came; pers, anom: persistence, along the mean day",
            "less  by how much the forecast's RMSE lies below raw's",
            "80 %  share of readings within the forecast's central 80 % interval",
        ]
        for name, leads in self.scored().items():
            lines += ["", f"{name}, {VARIABLES[name].unit}"]
            lines.append(f"{'lead':>7} {'pairs':>7} {'RMSE fc':>8} {'raw':>6} {'pers':>6} {'anom':>6} {'less':>7}"
                         f" {'MAE fc':>7} {'raw':>6} {'CRPS':>6} {'80 %':>5}")  # fmt: skip
            lines += [self._line(name, lead) for lead in _shown(leads)]
        if not self.scored():
            lines += [
                "",
                "Nothing to score: no reading within 150 s of a valid time has a forecast. Does each run",
                "reach beyond the next origin? Otherwise choose a smaller --every.",
            ]
        return "\n".join(lines)

    def _line(self, name: str, lead: int) -> str:
        own, raw, pers, anom = (self.row(source, name, lead) for source in (ISSUED, *BESIDE))
        same = self.row(f"{ISSUED} beside {RAW}", name, lead)
        less = f"{100 * (1 - same.rmse / raw.rmse):6.1f}%" if raw.n and raw.rmse > 0 else ""
        cells = [f"{_cell(x):>6}" for x in (raw.rmse, pers.rmse, anom.rmse)]
        label = f"{lead / 3600:g} h" if lead >= 3600 else f"{lead // 60} min"
        return (
            f"{label:>7} {own.n:>7} {own.rmse:8.2f} {' '.join(cells)} {less:>7}"
            f" {own.mae:7.2f} {_cell(raw.mae):>6} {own.crps:6.2f} {100 * own.coverage80:5.0f}"
        )


def _shown(leads: list[int]) -> list[int]:
    if len(leads) <= MOST_SHOWN:
        return leads
    return [lead for lead in leads if lead / 3600 in SHOWN_H] or leads[:MOST_SHOWN]


def _cell(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.2f}"


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 5)
