"""Forecasts as an operator gets them, adapted to the station: FORECASTS.csv of `edge-agent hindcast`.

Read only, to be scored on the same pairs as everything else.
"""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_agent.bundle.station_task import EVENTS, OUTPUT_VARIABLES
from edge_agent.clock import parse_time
from edge_agent.errors import DataError
from edge_agent.forecast import LEADS_S, QUANTILES
from edge_agent.forecast.rows import COLUMNS, quantile_columns
from edge_agent.verification import EVENT
from model_factory.verification.pairs import Index, Record

MAX_BYTES = 4 * 2**30  # of a file: hourly origins of 30 years
_LEAD = {str(lead): k for k, lead in enumerate(LEADS_S)}
_VARIABLE = {name: i for i, name in enumerate(OUTPUT_VARIABLES)}
_EVENT = {EVENT + event.name: e for e, event in enumerate(EVENTS)}
_NUMBERS = ("mean", "p", *quantile_columns(QUANTILES))

Rows = NDArray[np.float32]


def read_issued(path: Path, one: Record, at: Index) -> tuple[Index, Rows, Rows, Rows]:
    """The origins among `at` [O] that a file has forecasts from, [P], and their mean [P, 24, 8], quantiles
    [P, 24, 8, 11] and probability of the bundle's events [P, 24, E]; NaN where it has no number.

    Raises:
        DataError: it cannot be read, is too large, or is not what `hindcast --out` writes.
    """
    place = {int(t): row for row, t in enumerate(one.steps[at])}
    mean = np.full((len(at), len(LEADS_S), len(OUTPUT_VARIABLES)), np.nan, np.float32)
    quantiles = np.full((*mean.shape, len(QUANTILES)), np.nan, np.float32)
    probability = np.full((*mean.shape[:2], len(EVENTS)), np.nan, np.float32)
    there = np.zeros(len(at), bool)
    row: int | None = None
    read = ""  # the origin of the line before: times are parsed once
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DataError(f"{path}: more than {MAX_BYTES >> 30} GiB: give fewer origins with --start and --every")
        with path.open(newline="", encoding="utf-8") as file:
            lines = csv.reader(file)
            origin, lead, name, numbers = _columns(path, next(lines, []))
            for cells in lines:
                if cells[origin] != read:
                    read = cells[origin]
                    row = place.get(parse_time(read))
                k = _LEAD.get(cells[lead])
                if row is None or k is None:
                    continue
                there[row] = True
                values = [float(cells[column]) if cells[column] else math.nan for column in numbers]
                if (i := _VARIABLE.get(cells[name])) is not None:
                    mean[row, k, i], quantiles[row, k, i] = values[0], values[2:]
                elif (e := _EVENT.get(cells[name])) is not None:
                    probability[row, k, e] = values[1]
    except (OSError, ValueError, IndexError, csv.Error) as error:
        raise DataError(f"{path}: not forecasts as `edge-agent hindcast --out` writes them ({error})") from error
    return at[there], mean[there], quantiles[there], probability[there]


def _columns(path: Path, header: list[str]) -> tuple[int, int, int, list[int]]:
    """Where the origin, lead, variable and the numbers stand. Raises DataError: a column is missing."""
    lacking = [name for name in (*COLUMNS, *_NUMBERS) if name not in header]
    if lacking:
        raise DataError(f"{path}: no column {', '.join(lacking)}: it is not what `edge-agent hindcast --out` writes")
    return (*(header.index(name) for name in ("origin", "lead_s", "variable")), [header.index(n) for n in _NUMBERS])  # type: ignore[return-value]
