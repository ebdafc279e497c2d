"""Forecasts of a guided hindcast as rows: FORECASTS.csv and what is scored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_agent.clock import format_time
from edge_agent.forecast.rows import COLUMNS, ForecastFile, decimals, in_file, quantile_columns
from edge_agent.guidance import Floats, Times
from edge_agent.guidance.skill import GuidedSkill
from edge_agent.verification import EVENT


@dataclass(frozen=True, slots=True)
class Rows:
    """Forecasts of one variable or event from one origin, [N] and [N, Q]. `station`: index; `source`: "nowcast",
    "corrected" or "blend"; `beside`: other forecasts of the same, [N] each. Of an event, `mean` is its probability."""

    station: int
    name: str
    source: str
    lead_s: Times
    observed: Floats
    mean: Floats
    quantiles: Floats
    beside: Mapping[str, Floats]

    @classmethod
    def of_event(cls, station: int, event: str, lead_s: Times, outcome: Floats, chance: Floats) -> Rows:
        """Rows of an event, from the nowcast."""
        return cls(station, EVENT + event, "nowcast", lead_s, outcome, chance, np.empty((len(lead_s), 0)), {})

    def of(self, rows: np.ndarray) -> Rows:
        """Some of the rows."""
        beside = {source: values[rows] for source, values in self.beside.items()}
        lead_s, observed = self.lead_s[rows], self.observed[rows]
        return Rows(
            self.station, self.name, self.source, lead_s, observed, self.mean[rows], self.quantiles[rows], beside
        )

    def score(self, skill: GuidedSkill) -> None:
        """Hand the pairs to the table; events have none there."""
        if len(self.lead_s) and not self.name.startswith(EVENT):
            skill.add(self.name, self.lead_s, (self.mean, self.quantiles), self.beside, self.observed)


class GuidedWriter(ForecastFile):
    """FORECASTS.csv as of `forecast.rows.ForecastWriter`, with `source` behind its columns and, where there are many,
    `station` behind that; without a path, nothing. Raises ConfigError: the file cannot be written."""

    def __init__(self, path: Path | None, levels: Sequence[float], stations: Sequence[str] | None) -> None:
        last = ("source", "station") if stations else ("source",)
        super().__init__(path, (*COLUMNS, *quantile_columns(levels), *last))
        self._levels, self._stations = levels, stations

    def write(self, origin: int, rows: Sequence[Rows]) -> None:
        """Append the rows of an origin."""
        self._put(line for part in rows for line in self._lines(origin, part))

    def _lines(self, origin: int, part: Rows) -> Iterator[str]:
        start, end = format_time(origin), f",{part.source}\n"
        if self._stations:
            end = f",{part.source},{self._stations[part.station]}\n"
        heads = [f"{start},{format_time(origin + lead)},{lead},{part.name}" for lead in part.lead_s.tolist()]
        if part.name.startswith(EVENT):
            empty = "," * len(self._levels)
            chances = np.round(part.mean, 4) + 0.0
            for head, came, chance in zip(heads, part.observed.tolist(), chances.tolist(), strict=True):
                yield f"{head},{came:.0f},,{chance:.4f}{empty}{end}"
            return
        digits = decimals(part.name)
        form = f",%.{digits}f,%.{digits}f,{f',%.{digits}f' * len(self._levels)}"
        numbers = np.column_stack([part.observed, part.mean, part.quantiles])
        for head, values in zip(heads, in_file(part.name, numbers, mean=1).tolist(), strict=True):
            yield head + form % tuple(values) + end
