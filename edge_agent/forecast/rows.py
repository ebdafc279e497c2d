"""Forecasts as CSV: one row per origin, valid time and variable. Empty = missing; times RFC 3339 with Z.

Numbers carry one digit more than the variable's own. Directions' quantiles are unwrapped around their mean, so that
they ascend; wrap them to 0-360 for a compass.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO

import numpy as np
from numpy.typing import NDArray

from edge_agent.clock import format_time
from edge_agent.errors import ConfigError
from edge_agent.forecast import Forecast
from edge_agent.forecast.nowcast import Nowcaster
from edge_agent.variables import VARIABLES, Kind
from edge_agent.verification import EVENT

if TYPE_CHECKING:
    from edge_agent.forecast.hindcast import Part

Floats = NDArray[np.float64]


COLUMNS = ("origin", "valid_time", "lead_s", "variable", "observed", "mean", "p")


class ForecastFile:
    """A CSV file of forecasts, opened with its header; without a path, nothing is written.

    Raises:
        ConfigError: the file cannot be written.
    """

    def __init__(self, path: Path | None, columns: Sequence[str]) -> None:
        self._path, self._columns = path, columns
        self._file: TextIO | None = None

    def __enter__(self) -> Self:
        if self._path is not None:
            try:
                self._file = self._path.open("w", encoding="utf-8", newline="")
            except OSError as error:
                raise self._failed(error) from None
            self._put([",".join(self._columns) + "\n"])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            try:
                self._file.close()
            except OSError as failure:
                raise self._failed(failure) from None

    def _put(self, lines: Iterable[str]) -> None:
        """Append lines, none of which is made where there is no file."""
        if self._file is not None:
            try:
                self._file.write("".join(lines).replace(",nan", ","))
            except OSError as error:
                raise self._failed(error) from None

    def _failed(self, error: OSError) -> ConfigError:
        return ConfigError(f"{self._path}: cannot be written: {error.strerror}")


class ForecastWriter(ForecastFile):
    """FORECASTS.csv, written part by part; without a path, nothing.

    Columns: origin, valid_time, lead_s, variable, observed, mean, p, and q<level> per quantile. Events are rows with
    the variable `event:<name>`, their probability in `p` and 0 or 1 in `observed`. A variable that was not read in the
    30 days before an origin has no rows there; one without a forecast has rows without numbers.

    Raises:
        ConfigError: the file cannot be written.
    """

    def __init__(self, path: Path | None, nowcaster: Nowcaster) -> None:
        super().__init__(path, (*COLUMNS, *quantile_columns(nowcaster.levels)))
        self._nowcaster = nowcaster

    def write(self, part: Part) -> None:
        """Append the rows of a part."""
        self._put(self._rows(part))

    def _rows(self, part: Part) -> Iterator[str]:
        n, leads_s = self._nowcaster, self._nowcaster.leads_s
        batch = part.batch
        numbers = np.concatenate([part.observed[..., None], batch.mean[..., None], batch.quantiles], axis=3)
        forms = []
        for v, name in enumerate(n.variables):
            digits = decimals(name)
            numbers[:, :, v] = in_file(name, numbers[:, :, v], mean=1)
            forms.append(f",{name},%.{digits}f,%.{digits}f,{f',%.{digits}f' * len(n.levels)}\n")
        chances = np.stack([part.outcome, np.round(batch.probability, 4) + 0.0], axis=3).tolist()
        empty = "," * len(n.levels)
        events = [
            (e, n.variables.index(event.variable), f"{EVENT}{event.name}") for e, event in enumerate(n.all_events)
        ]
        rungs, values = batch.rung.tolist(), numbers.tolist()
        for row, origin in enumerate(part.origins.tolist()):
            start, rung = format_time(origin), rungs[row]
            known = [v for v in range(len(n.variables)) if rung[v] >= 0]
            for i, lead in enumerate(leads_s):
                head = f"{start},{format_time(origin + lead)},{lead}"
                step = values[row][i]
                for v in known:
                    yield head + forms[v] % tuple(step[v])
                for e, v, name in events:
                    if rung[v] >= 0:
                        came, chance = chances[row][i][e]
                        yield f"{head},{name},{came:.0f},,{chance:.4f}{empty}\n"


def forecast_csv(forecast: Forecast) -> str:
    """One forecast: `lead_s,valid_time,variable,mean,p,q<level>...`, events as in `ForecastWriter`."""
    lines = [",".join(("lead_s", "valid_time", "variable", "mean", "p", *quantile_columns(forecast.levels_q)))]
    for i, lead in enumerate(forecast.leads_s):
        head = f"{lead},{format_time(forecast.origin + lead)}"
        for name, own in forecast.variables.items():
            numbers = np.full(1 + len(forecast.levels_q), np.nan)
            if own.mean is not None and own.quantiles is not None:
                numbers = in_file(name, np.array([own.mean[i], *own.quantiles[:, i]]), mean=0)
            mean, *quantiles = (_number(x, decimals(name)) for x in numbers.tolist())
            lines.append(",".join((head, name, mean, "", *quantiles)))
        for name, p in forecast.events.items():
            lines.append(",".join((head, EVENT + name, "", _number(p[i], 4), *[""] * len(forecast.levels_q))))
    return "\n".join(lines)


def quantile_columns(levels: Sequence[float]) -> list[str]:
    """q0.05, q0.1, ... q0.95."""
    return [f"q{float(level):g}" for level in levels]


def decimals(name: str) -> int:
    """Digits in files: one more than the variable carries."""
    return VARIABLES[name].decimals + 1


def in_file(name: str, numbers: Floats, mean: int) -> Floats:
    """Numbers [..., N] of a variable with the digits of files, no -0.00; of a direction, the one at `mean` is held
    below 360 after that: 359.97 is 0.0 and not 360.0."""
    short = np.round(numbers, decimals(name)) + 0.0
    if VARIABLES[name].kind is Kind.DIRECTION:
        short[..., mean] %= 360.0
    return np.asarray(short)


def _number(value: float, digits: int) -> str:
    return "" if math.isnan(value) else f"{round(float(value), digits) + 0.0:.{digits}f}"
