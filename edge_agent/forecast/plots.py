"""Pictures of forecasts as PNG. matplotlib is an extra: it is imported when a picture is asked for, and only then."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_agent.clock import format_time
from edge_agent.errors import ConfigError
from edge_agent.forecast.fan import Fan
from edge_agent.forecast.skill import ISSUED
from edge_agent.variables import VARIABLES, Kind
from edge_agent.verification import EVENT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from edge_agent.forecast.skill import Skill
    from edge_agent.verified import Table

_STYLES = {
    ISSUED: ("forecast", "#1b6ca8", "-"),
    "anomaly-persistence": ("diurnal-anomaly persistence", "#c46a1b", "--"),
    "persistence": ("persistence", "#777777", ":"),
}
_VERIFIED_STYLES = {
    "bundle": _STYLES[ISSUED],
    "fallback": ("persistence in the model's place", "#9b4d9b", "-"),
    "climatology": ("climatology", "#7a9a3a", "--"),
    **{name: _STYLES[name] for name in ("anomaly-persistence", "persistence")},
}
_WEEKLY_LEAD_S = 10_800
_BANDS = ((0.05, 0.95, 0.15), (0.1, 0.9, 0.2), (0.3, 0.7, 0.3))
_ROW_INCHES = 2.3


def check(path: Path) -> None:
    """Say before the work, and not after it, that a picture cannot be drawn.

    Raises:
        ConfigError: matplotlib is not installed, or the file cannot be in that place.
    """
    _figure_class()
    if path.is_dir():
        raise ConfigError(f"--plot {path}: is a folder: name a file in it")
    if not path.parent.is_dir():
        raise ConfigError(f"--plot {path}: there is no folder {path.parent}: make it, or choose another place")


def draw_nowcast(path: Path, fans: Sequence[Fan], title: str) -> None:
    """Fan charts of one forecast with its last 12 hours, one panel a variable.

    Raises:
        ConfigError: matplotlib is not installed, or the file cannot be written.
    """
    columns = 2 if len(fans) > 1 else 1
    rows = max(-(-len(fans) // columns), 1)
    figure, panels = _figure(rows, columns, 5.0 * columns)
    for panel, fan in zip(panels, fans, strict=False):
        _fan(panel, fan)
    for panel in panels[len(fans) :]:
        panel.set_axis_off()
    if not fans:
        panels[0].text(0.5, 0.5, "no forecast", ha="center")
    else:
        panels[0].legend(fontsize=7, loc="best")
    _save(figure, path, title)


def draw_hindcast(path: Path, skill: Skill, fans: Sequence[Fan], title: str) -> None:
    """Skill by lead and an example fan with what came, one row a variable: RMSE and CRPS against both baselines.

    Raises: as `draw_nowcast`.
    """
    scored = [name for name in skill.scored() if not name.startswith(EVENT)]
    by_name = {fan.variable: fan for fan in fans}
    figure, panels = _figure(max(len(scored), 1), 3, 12.0)
    for row, name in enumerate(scored):
        rmse, crps, example = panels[3 * row : 3 * row + 3]
        _skill(rmse, skill, name, "rmse")
        _skill(crps, skill, name, "crps")
        if name in by_name:
            _fan(example, by_name[name])
        else:
            example.set_axis_off()
    if scored:
        panels[0].legend(fontsize=7, loc="lower right")
        panels[2].legend(fontsize=7, loc="best")
    else:
        panels[1].text(0.5, 0.5, "nothing to score", ha="center")
    _save(figure, path, title)


def draw_verified(path: Path, table: Table, weeks: Mapping[str, Table], title: str) -> None:
    """Verified skill, one row a variable: RMSE and CRPS by lead beside everything it was held against, and the RMSE at
    3 hours week by week for as long as scores are kept.

    Raises: as `draw_nowcast`.
    """
    names = [name for name in table.variables() if not name.startswith(EVENT)]
    model = any("bundle" in by for by in table.sums.values())
    sources = ["bundle" if model else "fallback", *table.others()]
    figure, panels = _figure(max(len(names), 1), 3, 12.0)
    for row, name in enumerate(names):
        for panel, score in zip(panels[3 * row :], ("rmse", "crps"), strict=False):
            for source in sources:
                found = [(k[1] / 3600, by[source]) for k, by in table.sums.items() if k[0] == name and source in by]
                _verified(panel, source, [(hours, getattr(one, score)) for hours, one in found if one.n])
            panel.set_xlabel("lead, hours", fontsize=7)
            panel.set_ylabel(f"{score.upper()}\n{name}, {VARIABLES[name].unit}", fontsize=8)
        for source in sources:
            held = [(monday, week.sums.get((name, _WEEKLY_LEAD_S), {}).get(source)) for monday, week in weeks.items()]
            points = [(date.fromisoformat(monday), one.rmse) for monday, one in held if one and one.n]
            _verified(panels[3 * row + 2], source, points)
        panels[3 * row + 2].set_ylabel("RMSE at 3 h\nby week", fontsize=8)
        panels[3 * row + 2].tick_params(axis="x", rotation=30)
        panels[3 * row + 2].set_xlim(*_year(weeks))
        for panel in panels[3 * row : 3 * row + 3]:
            panel.set_ylim(bottom=0.0)
    if names:
        panels[0].legend(fontsize=7, loc="lower right")
    else:
        panels[1].text(0.5, 0.5, "nothing was scored yet", ha="center")
    _save(figure, path, title)


def _year(weeks: Mapping[str, Table]) -> tuple[date, date]:
    """From a week before the first to a week after the last."""
    days = [date.fromisoformat(monday) for monday in weeks]
    return min(days) - timedelta(weeks=1), max(days) + timedelta(weeks=1)


def _verified(panel: Any, source: str, points: Sequence[tuple[Any, float]]) -> None:
    label, colour, style = _VERIFIED_STYLES.get(source, (source, "#2e8b57", "-."))
    if points:
        panel.plot(
            *zip(*points, strict=True), style, color=colour, linewidth=1.3, label=label, marker=".", markersize=3
        )


def _fan(panel: Any, fan: Fan) -> None:
    leads = np.concatenate([[0.0], fan.leads_s / 3600])
    now = fan.past[-1]
    start = fan.mean[0] if np.isnan(now) else now
    for lower, upper, shade in _BANDS:
        low, high = (np.concatenate([[start], fan.quantile(level)]) for level in (lower, upper))
        label = f"{100 * lower:.0f}-{100 * upper:.0f} %"
        panel.fill_between(leads, low, high, color="#1b6ca8", alpha=shade, linewidth=0, label=label)
    panel.plot(leads, np.concatenate([[start], fan.mean]), color="#1b6ca8", linewidth=1.3, label="mean")
    kept = fan.past_s >= -12 * 3600
    line = 0.0 if VARIABLES[fan.variable].kind is Kind.DIRECTION else 0.6
    panel.plot(fan.past_s[kept] / 3600, fan.past[kept], "k.-", markersize=2.5, linewidth=line, label="read before")
    if fan.observed is not None:
        panel.plot(fan.leads_s / 3600, fan.observed, "o", mfc="none", mec="k", markersize=3, label="came")
    panel.axvline(0.0, color="0.6", linewidth=0.6)
    panel.set_xticks(range(-12, int(leads[-1]) + 1, 3))
    panel.set_ylabel(f"{fan.variable}\n{fan.unit}", fontsize=8)
    panel.set_xlabel(f"hours from {format_time(fan.origin)}", fontsize=7)


def _skill(panel: Any, skill: Skill, name: str, score: str) -> None:
    rows = {source: [skill.row(source, name, lead) for lead in skill.leads_s] for source in _STYLES}
    for source, (label, colour, style) in _STYLES.items():
        points = [(row.lead_s / 3600, getattr(row, score)) for row in rows[source] if row.n]
        panel.plot(*zip(*points, strict=True), style, color=colour, linewidth=1.3, label=label)
    panel.set_ylim(bottom=0.0)
    panel.set_xticks(range(int(skill.leads_s[-1] / 3600) + 1))
    panel.set_ylabel(f"{score.upper()}\n{name}", fontsize=8)
    panel.set_xlabel("lead, hours", fontsize=7)


def _figure_class() -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ConfigError("--plot needs matplotlib: pip install stationcast[plot]") from None
    return Figure


def _figure(rows: int, columns: int, width: float) -> tuple[Any, Any]:
    figure = _figure_class()(figsize=(width, _ROW_INCHES * rows + 0.4), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel in panels:
        panel.tick_params(labelsize=7)
    return figure, panels


def _save(figure: Any, path: Path, title: str) -> None:
    figure.suptitle(title, fontsize=9)
    try:
        figure.savefig(path, format="png", dpi=130)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from None
