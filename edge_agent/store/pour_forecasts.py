"""The part of `pour` that is about forecasts and their scores."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from itertools import islice

import msgspec

from edge_agent import grid
from edge_agent.store.connection import Row
from edge_agent.store.forecast_rows import Packed, unpack_forecast
from edge_agent.store.forecasts import Forecasts
from edge_agent.store.reader import EPOCHS, Reader

SLICE = 500  # rows between two looks at the time
LONGEST_DAYS = 1000  # of scores, where their days cannot be read


def pour_forecasts(reader: Reader, target: Forecasts, kept: Counter[str], *, newer: bool) -> Iterator[None]:
    """Forecasts and baselines; of a forecast whose quantiles cannot be read, the rest."""
    forms: dict[int, bytes] = dict(reader.by_id("forecast_forms", "id, form"))
    span = reader.bounds("SELECT {}(origin) FROM forecasts", (), EPOCHS)
    sql = "SELECT origin, station, form, body FROM forecasts WHERE origin BETWEEN ? AND ? ORDER BY origin"
    rows = reader.between(lambda low, high: reader.rows(sql, low, high), span, grid.STEP_S)
    while part := list(islice(rows, SLICE)):
        for origin, station, form, body in part:
            found = reader.one("SELECT body FROM forecast_quantiles WHERE origin = ? AND station = ?", origin, station)
            quantiles = found[0] if found else None
            for packed in (Packed(forms.get(form, b""), body, quantiles), Packed(forms.get(form, b""), body, None)):
                if _unpacks(packed):
                    kept["forecasts"] += target.put(origin, station, packed, replace=newer)
                    break
        yield
    rows = reader.by_id("baselines", "rowid, origin, station, source, form, body, quantiles")
    while part := list(islice(rows, SLICE)):
        for _, origin, station, source, form, body, quantiles in part:
            packed = Packed(forms.get(form, b""), body, quantiles)
            if _unpacks(packed):
                target.put_baseline(origin, station, source, packed)
        yield


def pour_scores(
    reader: Reader, target: Forecasts, stations: Sequence[str], kept: Counter[str], *, newer: bool
) -> Iterator[None]:
    """Score sums; where the target has a row of the same key, they add up if the source is the newer one."""
    today = datetime.now(UTC).date()
    otherwise = (today - timedelta(days=LONGEST_DAYS)).toordinal(), today.toordinal()
    for station in stations:
        ends = [reader.one(f"SELECT {which}(day) FROM scores WHERE station = ?", station) for which in ("MIN", "MAX")]
        if (None,) in ends:
            continue
        days = [None if end is None else _ordinal(end[0]) for end in ends]
        first, last = (other if day is None else day for day, other in zip(days, otherwise, strict=True))
        rows = reader.between(
            lambda low, high, station=station: _scores_of(reader, target.score_columns, station, low, high),  # type: ignore[misc]
            (first, max(first, last)),
            1,
        )
        while part := list(islice(rows, SLICE)):
            for _, *row in part:
                kept["scores"] += target.put_score(row, add=newer)
            yield


def _scores_of(reader: Reader, columns: Sequence[str], station: str, low: int, high: int) -> Iterator[Row]:
    """Rows of a station between two days, the day's number first."""
    days = date.fromordinal(low).isoformat(), date.fromordinal(high).isoformat()
    names = ", ".join(columns)
    for row in reader.rows(
        f"SELECT {names} FROM scores WHERE station = ? AND day BETWEEN ? AND ? ORDER BY day", station, *days
    ):
        day = _ordinal(row[1])
        if day is not None and all(isinstance(value, int | float) for value in row[4:]):
            yield (day, *row)


def _unpacks(packed: Packed) -> bool:
    try:
        unpack_forecast("", 0, packed)
    except (zlib.error, msgspec.MsgspecError, ValueError, TypeError, KeyError, IndexError):
        return False
    return True


def _ordinal(day: object) -> int | None:
    """A day (YYYY-MM-DD) as a number; None where it is none."""
    with suppress(ValueError, TypeError):
        return date.fromisoformat(day).toordinal()  # type: ignore[arg-type]
    return None
