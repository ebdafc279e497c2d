"""The skill table of a hindcast: sums over its parts, and their rendering for people and programs.

Forecast and baselines are compared on the same pairs: those where all three have a value and something was read.
"""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.forecast import Level
from edge_agent.forecast.baselines import BASELINES
from edge_agent.forecast.nowcast import LADDER, Nowcaster
from edge_agent.variables import VARIABLES
from edge_agent.verification import EVENT, ScoreRow, event_scores, pair_scores

if TYPE_CHECKING:
    from edge_agent.forecast.hindcast import Part

Floats = NDArray[np.float64]

SHOWN_LEADS_S = (900, 1800, 3600, 7200, 10_800, 21_600)
ISSUED, ALONE = "forecast", "bundle"
NAMES = {
    ISSUED: "forecast", ALONE: "bundle", "persistence": "persistence", "anomaly-persistence": "anomaly_persistence",
}  # fmt: skip
_SHORT = {ISSUED: "fc", ALONE: "bndl", "persistence": "pers", "anomaly-persistence": "anom"}


class Skill:
    """Scores by source (the issued forecast, the bundle alone where that was adapted, and both baselines), variable or
    event, and lead."""

    def __init__(self, nowcaster: Nowcaster, *, adapted: bool = False) -> None:
        self._nowcaster = nowcaster
        self.sources = (ISSUED, *((ALONE,) if adapted else ()), *BASELINES)
        self.leads_s = nowcaster.leads_s
        self.columns = (*nowcaster.variables, *(EVENT + event.name for event in nowcaster.events))
        shape = (6, len(self.leads_s), len(self.columns))
        self._sums = {source: np.zeros(shape) for source in self.sources}
        self._rungs = np.zeros((len(nowcaster.variables), len(LADDER)), np.int64)

    def add(self, part: Part) -> None:
        """Take the pairs of a part."""
        n, batch = self._nowcaster, part.batch
        forecasts = {ISSUED: (batch.mean, batch.quantiles)} | part.base
        chances = {ISSUED: batch.probability} | part.chance
        if part.alone is not None:
            forecasts[ALONE], chances[ALONE] = (part.alone.mean, part.alone.quantiles), part.alone.probability
        seen = ~np.logical_or.reduce([np.isnan(mean) for mean, _ in forecasts.values()])
        observed = np.where(seen, part.observed, np.nan)
        for source, (mean, quantiles) in forecasts.items():
            for v, name in enumerate(n.variables):
                scores = pair_scores(name, mean[:, :, v], quantiles[:, :, v], observed[:, :, v], n.levels)
                self._sums[source][:, :, v] += scores.sum(axis=1)
        seen = ~np.logical_or.reduce([np.isnan(p) for p in chances.values()])
        outcome = np.where(seen, part.outcome, np.nan)
        for source, p in chances.items():
            self._sums[source][:, :, len(n.variables) :] += event_scores(p, outcome).sum(axis=1)
        for rung in range(len(LADDER)):
            self._rungs[:, rung] += (batch.rung == rung).sum(axis=0)

    def row(self, source: str, column: str, lead_s: int) -> ScoreRow:
        """The scores of one of `sources` for a variable or `event:<name>`."""
        cell = self._sums[source][:, self.leads_s.index(lead_s), self.columns.index(column)].tolist()
        n, error, absolute, square, score, hits = cell
        return ScoreRow("", "", source, column, lead_s, int(n), error, absolute, square, score, int(hits))

    def scored(self) -> list[str]:
        """Variables and events with at least one pair."""
        pairs = self._sums[ISSUED][0].sum(axis=0)
        return [name for name, n in zip(self.columns, pairs, strict=True) if n]

    def levels(self) -> dict[str, dict[str, int]]:
        """How many origins stood on which rung, by variable; variables that were never read are left out."""
        return {
            name: {LADDER[rung].value: int(self._rungs[v, rung]) for rung in reversed(range(len(LADDER)))}
            for v, name in enumerate(self._nowcaster.variables)
            if self._rungs[v].any()
        }

    def as_json(self, about: Mapping[str, Any]) -> str:
        """Everything, at all leads, as a JSON object; null where there is no pair."""
        table = [self._entry(name, lead) for name in self.scored() for lead in self.leads_s]
        return json.dumps({**about, "levels": self.levels(), "skill": table}, indent=1)

    def as_table(self, about: Mapping[str, Any]) -> str:
        """For a terminal, at selected leads, 80 columns wide."""
        origins = about["origins"]
        lines = [
            f"{Path(about['history']).name}, bundle {about['bundle']}",
            *_seen(about["neighbours"]),
            f"{origins['n']} origins, one every {_lead(origins['every_s'])}, {origins['first']} to {origins['last']}",
            "",
            *self._what_fc_is(),
            "pers  persistence: the last value",
            "anom  diurnal-anomaly persistence: it moves along the station's mean day",
            "80 %  share of readings within the forecast's central 80 % interval",
        ]
        leads = [lead for lead in SHOWN_LEADS_S if lead in self.leads_s]
        for name in self.scored():
            event = name.startswith(EVENT)
            lines += ["", *(self._event_block(name, leads) if event else self._block(name, leads))]
        if not self.scored():
            lines += ["", "Nothing to score: no reading within 150 s of a valid time has a forecast."]
        lines += ["", *self._mix()]
        return "\n".join(lines)

    def _entry(self, name: str, lead: int) -> dict[str, Any]:
        rows = {source: self.row(source, name, lead) for source in self.sources}
        own = rows.pop(ISSUED)
        if name.startswith(EVENT):
            entry: dict[str, Any] = {"variable": name, "unit": "1", "lead_s": lead, "n": own.n}
            entry |= {"brier": _number(own.crps), "bias": _number(own.bias)}
            return entry | {NAMES[source]: {"brier": _number(row.crps)} for source, row in rows.items()}
        entry = {"variable": name, "unit": VARIABLES[name].unit, "lead_s": lead, "n": own.n}
        entry |= _scores(own) | {"bias": _number(own.bias)}
        return entry | {NAMES[source]: _scores(row) for source, row in rows.items()}

    def _what_fc_is(self) -> list[str]:
        if ALONE not in self.sources:
            return ["fc    the forecast: the bundle alone"]
        return ["fc    the forecast, adapted to the station", "bndl  the bundle alone"]

    def _block(self, name: str, leads: list[int]) -> list[str]:
        adapted = ALONE in self.sources
        scores = ("rmse", "crps") if adapted else ("rmse", "mae", "crps")
        digits, width = max(VARIABLES[name].decimals, 1), 6 * len(self.sources) - 1
        groups = " ".join(f"{score.upper():^{width}}" for score in scores)
        head = " ".join(" ".join(f"{_SHORT[source]:>5}" for source in self.sources) for _ in scores)
        inside = f"{'80 %':>5}" + (f" {_SHORT[ALONE]:>5}" if adapted else "")
        title = f"{name}, {VARIABLES[name].unit}"
        lines = [title, f"{'lead':>7} {'pairs':>7} {groups}".rstrip(), f"{'':>15} {head} {inside}"]
        for lead in leads:
            rows = {source: self.row(source, name, lead) for source in self.sources}
            numbers = [f"{getattr(row, score):5.{digits}f}" for score in scores for row in rows.values()]
            n = rows[ISSUED].n
            if n:
                held = [f"{100 * row.coverage80:5.0f}" for source, row in rows.items() if source in (ISSUED, ALONE)]
                lines.append(f"{_lead(lead):>7} {n:>7} {' '.join(numbers + held)}")
        return lines

    def _event_block(self, name: str, leads: list[int]) -> list[str]:
        event = next(e for e in self._nowcaster.events if EVENT + e.name == name)
        short = _SHORT | {"anomaly-persistence": "often"}
        head = " ".join(f"{short[source]:>6}" for source in self.sources)
        lines = [
            f"{name}: {event.variable} >= {event.threshold:g} {event.unit} in 15 min",
            f"{'lead':>7} {'pairs':>7}     Brier score; often: its share of the 30 days before",
            f"{'':>15} {head}",
        ]
        for lead in leads:
            rows = [self.row(source, name, lead) for source in self.sources]
            if rows[0].n:
                lines.append(f"{_lead(lead):>7} {rows[0].n:>7} " + " ".join(f"{row.crps:6.4f}" for row in rows))
        return lines

    def _mix(self) -> list[str]:
        """Which share of the forecasts came from where."""
        lines = ["Share of forecasts by level, %:"]
        for name, counts in self.levels().items():
            all_ = sum(counts.values())
            shares = ", ".join(f"{level} {100 * n / all_:.1f}" for level, n in counts.items() if n)
            lines.append(f"  {name:<15} {shares}")
        return lines if len(lines) > 1 else [f"No forecast: level {Level.NONE.value} throughout."]


def _scores(row: ScoreRow) -> dict[str, float | None]:
    return {score: _number(getattr(row, score)) for score in ("rmse", "mae", "crps", "coverage80")}


def _seen(names: Sequence[str]) -> list[str]:
    """Which neighbours the forecasts saw, in lines; none where they saw nobody."""
    return textwrap.wrap(f"sees {len(names)} neighbours: {', '.join(names)}", 80) if names else []


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 5)


def _lead(lead_s: int) -> str:
    return f"{lead_s // 60} min" if lead_s < 3600 else f"{lead_s / 3600:g} h"
