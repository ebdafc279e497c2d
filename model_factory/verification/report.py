"""Skill rows for people: tables in the terminal and a plot by lead. Computes no score."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edge_agent.bundle.manifest import SkillRow
from edge_agent.bundle.skill import BASELINES
from edge_agent.variables import VARIABLES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from rich.table import Table

    from model_factory.verification.paired import Pairs

SHOWN_S = (1800, 3600, 7200, 10_800, 21_600)
FROM_S = 1800  # leads that the ratios are taken over begin here
WIDTH = 112
LABELS = {
    "persistence": "persistence",
    "anomaly_persistence": "anomaly persistence",
    "ridge": "ridge, this station",
    "lightgbm": "LightGBM, this station",
}


def show(rows: Sequence[SkillRow], left_out: Sequence[str]) -> None:
    """Print the skill at a few leads, the ratios to each baseline over all leads, and what was left out."""
    from rich.console import Console

    console = Console()
    if console.width < WIDTH:
        console = Console(width=WIDTH)  # in a pipe or a narrow window: long lines rather than cut numbers
    for setting, network in dict.fromkeys((row.setting, row.network) for row in rows):
        mine = [row for row in rows if (row.setting, row.network) == (setting, network)]
        console.print(skill_table(mine, f"{network}, {setting}"), ratio_table(mine))
    for line in left_out:
        console.print(f"left out: {line}", highlight=False)


def show_aims(networks: Mapping[str, Pairs]) -> None:
    """Print every aim beside what was reached; nothing without pairs."""
    from rich.console import Console
    from rich.table import Table

    from model_factory.verification.aims import aims

    if not networks:
        return
    table = Table(title="Aims on pairs kept out of training")
    for name in ("network", "aim", "bound", "got", "", "where"):
        table.add_column(name, justify="right" if name in ("bound", "got") else "left", no_wrap=True)
    for aim in aims(networks):
        table.add_row(
            aim.network, aim.about, f"{aim.sign} {aim.bound:g}", "-" if math.isnan(aim.got) else f"{aim.got:.3f}",
            aim.verdict, aim.where,
        )  # fmt: skip
    Console(width=2 * WIDTH).print(table)


def skill_table(rows: Sequence[SkillRow], title: str) -> Table:
    """RMSE of every source, and MAE, CRPS and 80 % coverage of the model."""
    from rich.table import Table

    table = Table(title=f"{title}: RMSE on the same pairs; the model's MAE, CRPS and coverage")
    table.add_column("variable", no_wrap=True)
    for name in ("min", "n", "model", "fp32", "persist.", "anomaly", "ridge", "LightGBM", "MAE", "CRPS", "in 80 %"):
        table.add_column(name, justify="right")
    for row in rows:
        if row.lead_s in SHOWN_S:
            numbers = [row.rmse, row.rmse_fp32, *(getattr(row, name) for name in BASELINES), row.mae, row.crps]
            table.add_row(
                *(row.variable, str(row.lead_s // 60), str(row.n)),
                *(_number(x, row.variable) for x in numbers),
                f"{100 * row.coverage80:.0f} %",
            )
    return table


def ratio_table(rows: Sequence[SkillRow]) -> Table:
    """The model's RMSE as a share of each baseline's: geometric mean over the leads from 30 minutes; and at how many of
    these leads it is not better."""
    from rich.table import Table

    table = Table(title="model / baseline, leads from 30 min (at how many of them it is not better)")
    table.add_column("variable", no_wrap=True)
    for name in BASELINES:
        table.add_column(LABELS[name], justify="right")
    for variable in dict.fromkeys(row.variable for row in rows):
        mine = [row for row in rows if row.variable == variable and row.lead_s >= FROM_S]
        table.add_row(variable, *(_ratio(mine, name) for name in BASELINES))
    return table


def draw(rows: Sequence[SkillRow], path: Path) -> None:
    """RMSE by lead as PNG: a row of panels per setting and network, a column per variable."""
    from matplotlib.figure import Figure

    places = list(dict.fromkeys((row.setting, row.network) for row in rows))
    names = [name for name in VARIABLES if any(row.variable == name for row in rows)]
    figure = Figure(figsize=(2.9 * len(names), 2.3 * len(places)), layout="constrained")
    panels = figure.subplots(len(places), len(names), squeeze=False)
    for line, (setting, network) in zip(panels, places, strict=True):
        for panel, name in zip(line, names, strict=True):
            mine = [r for r in rows if (r.setting, r.network, r.variable) == (setting, network, name)]
            _draw_panel(panel, mine)
            panel.set_title(f"{network}\n{name}, {VARIABLES[name].unit}", fontsize=8)
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=8, frameon=False)
    figure.savefig(path, dpi=110)


def _draw_panel(panel: Axes, rows: Sequence[SkillRow]) -> None:
    for name, style in zip(BASELINES, ("0.75", "0.5", "tab:orange", "tab:green"), strict=True):
        known = [(r.lead_s / 3600, getattr(r, name)) for r in rows if getattr(r, name) is not None]
        panel.plot([x for x, _ in known], [y for _, y in known], color=style, lw=1.2, label=LABELS[name])
    panel.plot([r.lead_s / 3600 for r in rows], [r.rmse for r in rows], color="tab:blue", lw=1.8, label="model")
    panel.set_ylim(bottom=0)
    panel.set_xlim(0, 6)
    panel.set_xticks(range(0, 7, 2))
    panel.tick_params(labelsize=7)


def _ratio(rows: Sequence[SkillRow], name: str) -> str:
    both = [(r.rmse, getattr(r, name)) for r in rows if getattr(r, name)]
    logs = [math.log(mine / theirs) for mine, theirs in both if mine > 0]
    if not logs:
        return "-"
    worse = sum(mine >= theirs for mine, theirs in both)
    return f"{math.exp(sum(logs) / len(logs)):.3f} ({worse} of {len(both)})"


def _number(value: float | None, variable: str) -> str:
    return "-" if value is None else f"{value:.{max(2, VARIABLES[variable].decimals)}f}"
