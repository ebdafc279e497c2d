"""Forecasts for people at a terminal: a table, and small fan charts in plain characters. Text in, text out: no colours,
no cursor, nothing that a log file could not hold."""

from __future__ import annotations

from textwrap import wrap

import numpy as np
from numpy.typing import NDArray

from edge_agent.circle import compass
from edge_agent.clock import format_time
from edge_agent.forecast import Forecast, VariableForecast
from edge_agent.forecast.fan import Fan
from edge_agent.variables import VARIABLES, Kind

Floats = NDArray[np.float64]

SHOWN_LEADS_S = (900, 1800, 3600, 7200, 10_800, 14_400, 21_600)
CHART_PAST_S = 6 * 3600
_WIDTH = 80
_LABEL = 22
_CELL = 7
_AXIS = 9  # characters left of a chart
_LEAST_SUM = 0.2  # a chart of rain reaches at least this high, mm
# past, middle of the forecast, inner and outer band, what came, ground
_MARKS = {True: ("●", "━", "▒", "░", "○"), False: ("o", "-", "#", ":", "x")}


def forecast_table(forecast: Forecast) -> str:
    """Mean and 10-90 % of each variable at selected leads, with level, source and age; 80 columns wide."""
    at = [i for i, lead in enumerate(forecast.leads_s) if lead in SHOWN_LEADS_S]
    leads = [forecast.leads_s[i] for i in at]
    lines = [
        f"{forecast.station}: forecast from {format_time(forecast.origin)}",
        f"level {forecast.level.value}, source {forecast.source}"
        + (f", bundle {forecast.bundle}" * bool(forecast.bundle)),
        *wrap(f"why: {forecast.why}" if forecast.why else "", _WIDTH),
        *wrap(f"adapted to the station: {', '.join(forecast.adapted)}" if forecast.adapted else "", _WIDTH),
        "",
        " " * (_LABEL + 5) + "".join(f"{_lead(lead):>{_CELL}}" for lead in leads),
        f"{'valid at, UTC':<{_LABEL + 5}}" + "".join(f"{_clock(forecast.origin + lead):>{_CELL}}" for lead in leads),
    ]
    for own in forecast.variables.values():
        lines += ["", *_variable(own, forecast.levels_q, at)]
    for name, p in forecast.events.items():
        cells = "".join(f"{f'{100 * p[i]:.0f} %':>{_CELL}}" for i in at)
        lines += ["", f"{'event ' + name:<{_LABEL}}{'p':>5}{cells}"]
    return "\n".join(lines)


def fan_chart(fan: Fan, width: int = 80, height: int = 9, unicode: bool = True) -> str:
    """The last 6 hours and the forecast of one variable as a chart of `width` columns and `height` rows, with a title
    and an axis. `unicode` False: ASCII only. Bands: central 80 % and 40 %."""
    dot, line, inner, outer, came = _MARKS[unicode]
    columns, rows = max(width - _AXIS, 16), max(height, 3)
    seconds = np.linspace(-CHART_PAST_S, fan.leads_s[-1], columns)
    past, mean = _along(seconds, fan.past_s, fan.past), _along(seconds, fan.leads_s, fan.mean)
    bands = {level: _along(seconds, fan.leads_s, fan.quantile(level)) for level in (0.1, 0.3, 0.7, 0.9)}
    observed = np.full(columns, np.nan) if fan.observed is None else _along(seconds, fan.leads_s, fan.observed)
    low, high = _range(np.concatenate([past, mean, observed, *bands.values()]), fan.variable)
    cells = np.full((rows, columns), " ")
    for lower, upper, mark in ((0.1, 0.9, outer), (0.3, 0.7, inner)):
        for column in np.flatnonzero(~np.isnan(bands[lower])):
            top, bottom = (_row(bands[level][column], low, high, rows) for level in (upper, lower))
            cells[top : bottom + 1, column] = mark
    for series, mark in ((mean, line), (observed, came), (past, dot)):
        for column in np.flatnonzero(~np.isnan(series)):
            cells[_row(series[column], low, high, rows), column] = mark
    labels = {row: _cell(fan.variable, high - (high - low) * row / (rows - 1)) for row in (0, rows // 2, rows - 1)}
    bar = "│" if unicode else "|"
    body = [f"{labels.get(row, ''):>{_AXIS - 2}} {bar}{''.join(cells[row]).rstrip()}" for row in range(rows)]
    now = int(np.argmin(np.abs(seconds)))
    axis = list(" " * (_AXIS + columns))
    for at, text in ((0, "-6 h"), (now - 1, "now"), (columns - 4, f"{_lead(int(fan.leads_s[-1])):>4}")):
        axis[_AXIS + at : _AXIS + at + len(text)] = text
    title = f"{fan.variable}, {fan.unit}"
    legend = f"   {dot} read  {line} mean  {inner} 30-70 %  {outer} 10-90 %" + (
        f"  {came} came" if fan.observed is not None else ""
    )
    return "\n".join([title + (legend if len(title + legend) <= width else ""), *body, "".join(axis).rstrip()])


def _variable(own: VariableForecast, levels: tuple[float, ...], at: list[int]) -> list[str]:
    title = f"{own.variable} {VARIABLES[own.variable].unit}"
    if own.mean is None or own.quantiles is None:
        return wrap(f"{title}: no forecast: {own.why}", _WIDTH)
    rows = {"mean": own.mean}
    for level in (0.9, 0.1):
        rows[f"{100 * level:.0f} %"] = own.quantiles[int(np.argmin(np.abs(np.asarray(levels) - level)))]
    age = "" if own.age_s is None else f"  reading {_age(own.age_s)} old"
    labels = (title, f"  {own.level.value}", age)
    return [
        f"{label:<{_LABEL}}{row:>5}" + "".join(_cell(own.variable, values[i]) for i in at)
        for label, (row, values) in zip(labels, rows.items(), strict=True)
    ]


def _cell(name: str, value: float) -> str:
    if VARIABLES[name].kind is Kind.DIRECTION:
        value = float(compass(round(value)))
    digits = _digits(name)
    return f"{round(value, digits) + 0.0:{_CELL}.{digits}f}"


def _digits(name: str) -> int:
    about = VARIABLES[name]
    return about.decimals if about.kind is Kind.SUM else min(about.decimals, 1)


def _along(seconds: Floats, at: NDArray[np.int64], values: Floats) -> Floats:
    """The value of the latest point at or before each moment, if it is at most a step old; NaN elsewhere."""
    step = int(at[1] - at[0]) if len(at) > 1 else 1
    index = np.searchsorted(at, np.ceil(seconds), side="right") - 1
    there = (index >= 0) & (seconds - at[np.maximum(index, 0)] < max(step, 1))
    return np.where(there, values[np.maximum(index, 0)], np.nan)


def _range(values: Floats, name: str) -> tuple[float, float]:
    known = values[~np.isnan(values)]
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 0.0)
    if VARIABLES[name].kind is Kind.SUM:
        return 0.0, max(high, _LEAST_SUM)
    least = 2.0 * 10.0 ** -_digits(name)
    return (low, high) if high - low >= least else (low - least / 2, low + least / 2)


def _row(value: float, low: float, high: float, rows: int) -> int:
    return round((high - value) / (high - low) * (rows - 1))


def _clock(t: int) -> str:
    return format_time(t)[11:16]


def _lead(lead_s: int) -> str:
    return f"{lead_s // 60}min" if lead_s < 3600 else f"{lead_s / 3600:g} h"


def _age(age_s: int) -> str:
    return f"{age_s // 60} min"
