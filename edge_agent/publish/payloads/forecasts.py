"""Forecasts and their scores, as they are published."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from edge_agent.clock import format_time
from edge_agent.errors import DataError
from edge_agent.forecast import Forecast, Level, VariableForecast
from edge_agent.publish.numbers import probabilities, rounded, series
from edge_agent.publish.structs import (
    MAX_TEXT,
    DailyPayload,
    DayForecast,
    DayValue,
    EventSeries,
    ForecastPayload,
    NightForecast,
    ScoreSeries,
    VariableSeries,
    VerifyPayload,
)
from edge_agent.variables import VARIABLES, variable

if TYPE_CHECKING:
    from edge_agent.guidance.daily import DayOutlook, NightOutlook


class Score(Protocol):
    """One row of a day's scores: `edge_agent.verification.ScoreRow`."""

    @property
    def source(self) -> str: ...
    @property
    def variable(self) -> str: ...
    @property
    def lead_s(self) -> int: ...
    @property
    def n(self) -> int: ...
    @property
    def bias(self) -> float: ...
    @property
    def mae(self) -> float: ...
    @property
    def rmse(self) -> float: ...
    @property
    def crps(self) -> float: ...
    @property
    def coverage80(self) -> float: ...


def forecast_payload(forecast: Forecast, expiry_s: int) -> ForecastPayload:
    """A forecast as published, good for `expiry_s` from its issue.

    Raises:
        DataError: lead times that are not the multiples of the first: `start` and `step_s` cannot say them.
    """
    step = forecast.leads_s[0] if forecast.leads_s else 0
    if step <= 0 or any(lead != step * (i + 1) for i, lead in enumerate(forecast.leads_s)):
        raise DataError(f"forecast of {forecast.station}: leads {forecast.leads_s[:4]} are not multiples of the first")
    variables = {name: _variable(v) for name, v in forecast.variables.items()}
    ages = [s.age_s for s in variables.values() if s.mean is not None and s.age_s is not None]
    return ForecastPayload(
        issued=format_time(forecast.issued),
        start=format_time(forecast.origin + step),
        step_s=step,
        expires=format_time(forecast.issued + expiry_s),
        level=forecast.level,
        source=forecast.source,
        age_s=max(ages, default=None),
        bundle=forecast.bundle[:MAX_TEXT],
        quantiles=[float(level) for level in forecast.levels_q],
        vars=variables,
        events={name: EventSeries(p=probabilities(p)) for name, p in forecast.events.items()},
        why=forecast.why[:MAX_TEXT],
        adapted=list(forecast.adapted),
    )


def daily_payload(
    forecast: Forecast, days: Sequence[DayOutlook], timezone: str, expiry_s: int, nights: Sequence[NightOutlook] = ()
) -> DailyPayload:
    """The days and nights of an hourly forecast as published, good for `expiry_s` from its issue."""
    ages = [own.age_s for own in forecast.variables.values() if own.age_s is not None]
    return DailyPayload(
        issued=format_time(forecast.issued),
        expires=format_time(forecast.issued + expiry_s),
        level=forecast.level,
        source=forecast.source,
        age_s=max(ages, default=None),
        timezone=timezone,
        quantiles=[float(level) for level in forecast.levels_q],
        days=[
            DayForecast(
                day=day.day.isoformat(),
                start=format_time(day.start),
                end=format_time(day.end),
                vars={
                    name: DayValue(
                        unit=variable(name).unit,
                        mean=series(np.array([mean]), variable(name))[0],
                        q=series(quantiles, variable(name)),
                    )
                    for name, (mean, quantiles) in day.values.items()
                },
            )
            for day in days
        ],
        nights=[
            NightForecast(
                start=format_time(night.start),
                end=format_time(night.end),
                events=dict(zip(night.events, probabilities(np.array([*night.events.values()])), strict=True)),
            )
            for night in nights
        ],
        why=forecast.why[:MAX_TEXT],
    )


def verify_payload(day: str, rows: Iterable[Score]) -> VerifyPayload:
    """The scores of one station and UTC day. Of several rows for one source, variable and lead the last stands."""
    table: dict[str, dict[str, dict[int, Score]]] = {}
    for row in rows:
        table.setdefault(row.source, {}).setdefault(row.variable, {})[row.lead_s] = row
    leads = sorted({lead for variables in table.values() for by_lead in variables.values() for lead in by_lead})
    return VerifyPayload(
        day=day,
        leads_s=leads,
        scores={
            source: {name: _score_series(name, by_lead, leads) for name, by_lead in variables.items()}
            for source, variables in table.items()
        },
    )


def _variable(forecast: VariableForecast) -> VariableSeries:
    about = variable(forecast.variable)
    age = None if forecast.age_s is None else max(int(forecast.age_s), 0)
    if forecast.mean is None or forecast.quantiles is None:
        why = forecast.why or "no forecast"
        return VariableSeries(unit=about.unit, level=Level.NONE, mean=None, q=None, age_s=age, why=why[:MAX_TEXT])
    return VariableSeries(
        unit=about.unit,
        level=forecast.level,
        mean=series(forecast.mean, about),
        q=series(np.asarray(forecast.quantiles).T, about),
        age_s=age,
        why=forecast.why[:MAX_TEXT],
    )


def _score_series(name: str, by_lead: Mapping[int, Score], leads: Sequence[int]) -> ScoreSeries:
    about = VARIABLES.get(name)
    rows = [by_lead.get(lead) for lead in leads]

    def column(score: str) -> list[float | None]:
        return [rounded(getattr(row, score), 3) if row is not None and row.n else None for row in rows]

    return ScoreSeries(
        unit=about.unit if about else "1",
        n=[row.n if row is not None else 0 for row in rows],
        bias=column("bias"),
        mae=column("mae"),
        rmse=column("rmse"),
        crps=column("crps"),
        coverage80=column("coverage80"),
    )
