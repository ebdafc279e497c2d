"""The plot that travels with a bundle: RMSE by lead, a row of panels per setting. Computes no score of its own."""

from __future__ import annotations

import io
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from edge_agent.bundle.manifest import SkillRow
from edge_agent.bundle.skill import Pooled, pool
from edge_agent.variables import VARIABLES

COLOURS = 32  # lines and letters need no more, and a bundle goes over slow links
_SHOWN = ("temperature", "humidity", "pressure", "wind_speed", "wind_gust")
_STYLES = {
    "persistence": ("0.75", "persistence"),
    "anomaly_persistence": ("0.45", "anomaly persistence"),
    "ridge": ("tab:orange", "ridge, this station"),
    "lightgbm": ("tab:green", "LightGBM, this station"),
}


def skill_plot(rows: Sequence[SkillRow]) -> bytes:
    """PNG: networks pooled; a column per variable. A baseline is drawn where every pooled cell has it."""
    pooled = pool(rows)
    settings = list(dict.fromkeys(row.setting for row in pooled))
    names = [name for name in _SHOWN if any(row.variable == name for row in pooled)]
    figure = Figure(figsize=(2.8 * len(names), 2.4 * len(settings) + 0.4), layout="constrained")
    panels = figure.subplots(len(settings), len(names), squeeze=False)
    for line, setting in zip(panels, settings, strict=True):
        for panel, name in zip(line, names, strict=True):
            _draw(panel, [row for row in pooled if (row.setting, row.variable) == (setting, name)])
            panel.set_title(f"{setting}\n{name}, {VARIABLES[name].unit}", fontsize=8)
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=8, frameon=False)
    drawn, small = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", dpi=100)
    Image.open(drawn).convert("RGB").quantize(COLOURS).save(small, format="png", optimize=True)
    return small.getvalue()


def _draw(panel: Axes, rows: Sequence[Pooled]) -> None:
    for name, (color, label) in _STYLES.items():
        known = [(row.lead_s / 3600, row.baseline[name]) for row in rows if name in row.complete]
        panel.plot([x for x, _ in known], [y for _, y in known], color=color, lw=1.2, label=label)
    panel.plot(
        [row.lead_s / 3600 for row in rows], [row.rmse for row in rows], color="tab:blue", lw=1.8, label="bundle"
    )
    panel.set_ylim(bottom=0)
    panel.set_xlim(left=0)
    panel.tick_params(labelsize=7)
    panel.set_xlabel("lead, h", fontsize=7)
