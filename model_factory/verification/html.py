"""One evaluation as one HTML page for people: plots inside it as SVG, nothing fetched. Draws what others computed."""

from __future__ import annotations

import html
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from numpy.typing import NDArray

from edge_agent.bundle.manifest import Event
from edge_agent.bundle.station_task import OUTPUT_VARIABLES
from edge_agent.errors import DataError
from edge_agent.variables import VARIABLES
from model_factory.verification.aims import aims
from model_factory.verification.curves import (
    PIT_EDGES,
    SEASONS,
    Slice,
    curves,
    pit_counts,
    reliability,
    slices,
    told,
)
from model_factory.verification.gate import judge
from model_factory.verification.paired import NAMED_EVENTS, PAIRED_LEADS_S, Pairs
from model_factory.verification.scoring import (
    ANOMALY,
    CLIMATOLOGY,
    FOUNDATION,
    FP32,
    LIGHTGBM,
    LIGHTGBM_ALL,
    MODEL,
    PERSISTENCE,
    RIDGE,
)

if TYPE_CHECKING:
    from model_factory.verification.evaluate import Evaluated

STYLES = {
    MODEL: ("forecast", "#1b6ca8", "-", 2.2),
    FP32: ("forecast before quantization", "#1b6ca8", ":", 1.0),
    PERSISTENCE: ("persistence", "#9a9a9a", ":", 1.3),
    ANOMALY: ("anomaly persistence", "#555555", "--", 1.3),
    RIDGE: ("ridge, this station", "#d1822b", "-", 1.3),
    LIGHTGBM: ("LightGBM, this station", "#4c9a4c", "-", 1.3),
    LIGHTGBM_ALL: ("LightGBM, all stations", "#4c9a4c", "--", 1.3),
    FOUNDATION: ("Fracast-0, zero-shot", "#8a5aa8", "--", 1.3),
    CLIMATOLOGY: ("climatology of 30 days", "#c9a227", ":", 1.3),
}
EVENT_RIVALS = (CLIMATOLOGY, PERSISTENCE, ANOMALY)
HOURS = np.array(PAIRED_LEADS_S) / 3600
WIDTH, COLUMNS = 11.0, 4  # inches of a figure, panels in a row
HONESTY_WORDS = (
    "Above: share of readings within the central 80 and 90 %, ties by randomized PIT. Below: PIT histograms over all "
    "leads; flat is honest, a U too narrow, a hump too wide, a slope biased. Where readings are tied (calm, saturated "
    "air, whole hPa, no rain) the position is drawn within the tie."
)
TEST_WORDS = (
    "Diebold-Mariano tests on squared errors: stations averaged first, autocorrelation accounted for, the false "
    "discovery rate over all of them held at 5 %. Green: better. Red: worse, and by more than 0.5 %."
)
EVENT_WORDS = (
    "Brier skill: 1 - BS / BS of the baseline, on common pairs; above 0 is better. Baselines: how often it came in the "
    "30 days at that time of day (rain: at any), and the two persistences with their own errors (rain: whether it "
    "rains now, and how often it did). Below: share that came against the probability given; larger dots: more often."
)
STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:1080px;margin:2rem auto;padding:0 1rem;color:#1d2733;background:#fff}
h1{font-size:1.7rem;margin-bottom:0}h2{margin-top:2.6rem;border-bottom:2px solid #1b6ca8;padding-bottom:.2rem}
h3{margin:1.6rem 0 .3rem}p.note{color:#5a6775;margin:.3rem 0 .8rem;max-width:46rem}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:13px;margin:.5rem 0}
th,td{padding:.22rem .7rem;text-align:right;border-bottom:1px solid #e3e8ee}
th:first-child,td:first-child{text-align:left}
th{color:#5a6775;font-weight:600}td.better{background:#dff0e2}td.worse{background:#f8dcd8}
svg{width:100%;height:auto}
nav a{margin-right:1rem;color:#1b6ca8}
"""


def write_report(path: Path, done: Evaluated, title: str) -> None:
    """Write the page.

    Raises:
        DataError: the file cannot be written.
    """
    try:
        path.write_text("\n".join(page(done.pairs, done.left_out, title)), encoding="utf-8")
    except OSError as error:
        raise DataError(f"--html {path}: cannot be written: {error.strerror}") from error


def page(networks: Mapping[str, Pairs], left_out: Sequence[str], title: str) -> Iterator[str]:
    """The page, piece by piece."""
    yield f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
    yield f"<style>{STYLE}</style></head><body><h1>{html.escape(title)}</h1>"
    yield '<p class="note">Scored on the part of each record that no training saw, on the same pairs.</p>'
    yield "<nav>" + "".join(f'<a href="#{html.escape(name)}">{html.escape(name)}</a>' for name in networks) + "</nav>"
    if networks:
        yield from _aims(networks)
    for name, pairs in networks.items():
        yield from _network(name, pairs)
    if left_out:
        yield "<h2>Left out</h2><ul>" + "".join(f"<li>{html.escape(line)}</li>" for line in left_out) + "</ul>"
    yield "</body></html>"


def _network(name: str, pairs: Pairs) -> Iterator[str]:
    names = [v for i, v in enumerate(OUTPUT_VARIABLES) if not np.isnan(pairs.came[..., i]).all()]
    span = [np.datetime_as_string(np.datetime64(int(t), "s"), "D") for t in (pairs.origin.min(), pairs.origin.max())]
    yield f'<h2 id="{html.escape(name)}">{html.escape(name)}, {html.escape(pairs.setting)}</h2>'
    yield f'<p class="note">Stations: {len(pairs.stations)}, origins: {len(pairs.origin)}, {span[0]} to {span[1]}.</p>'
    yield "<h3>Error by lead</h3>" + _svg(_errors(pairs, names))
    yield "<h3>Skill</h3>" + _skill(pairs, names)
    yield from _significance(name, pairs)
    yield "<h3>Are the intervals honest?</h3>"
    yield f'<p class="note">{HONESTY_WORDS}</p>'
    yield _svg(_honesty(pairs, names))
    yield from _events(pairs)
    yield "<h3>By season and by day and night</h3>" + _slices(pairs, names)


def _errors(pairs: Pairs, names: Sequence[str]) -> Figure:
    """RMSE and CRPS by lead, a panel a variable and score, four in a row."""
    rows = -(-len(names) // COLUMNS)
    figure = Figure(figsize=(WIDTH, 4.2 * rows + 0.4), layout="constrained")
    panels = figure.subplots(2 * rows, COLUMNS, squeeze=False)
    for panel in panels.ravel():
        panel.set_axis_off()
    for at, name in enumerate(names):
        for below, (score, lines) in enumerate(curves(pairs, OUTPUT_VARIABLES.index(name)).items()):
            panel = panels[2 * (at // COLUMNS) + below][at % COLUMNS]
            panel.set_axis_on()
            _curve(panel, lines)
            panel.set_title(f"{name.replace('_', ' ')}: {score}, {VARIABLES[name].unit}", fontsize=9)
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=8, frameon=False)
    return figure


def _curve(panel: Any, lines: Mapping[str, NDArray[np.float64]]) -> None:
    for source, values in lines.items():
        label, colour, style, width = STYLES[source]
        there = ~np.isnan(values)
        panel.plot(HOURS[there], values[there], style, color=colour, lw=width, label=label, marker=".", ms=3)
    panel.set_ylim(bottom=0)
    panel.set_xlim(0, HOURS[-1] * 1.03)
    panel.set_xlabel("lead, h", fontsize=7)


def _skill(pairs: Pairs, names: Sequence[str]) -> str:
    """RMSE of the forecast, and by how much it is below each baseline's, at every lead."""
    rivals = [s for s in (PERSISTENCE, ANOMALY, RIDGE, LIGHTGBM, LIGHTGBM_ALL, FOUNDATION) if s in pairs.means]
    heads = ["variable", "lead", "pairs", "RMSE", *(STYLES[s][0] for s in rivals)]
    rows = []
    for name in names:
        i = OUTPUT_VARIABLES.index(name)
        lines = curves(pairs, i)["RMSE"]
        for k, lead in enumerate(PAIRED_LEADS_S):
            own = lines[MODEL][k]
            if np.isnan(own):
                continue
            n = int((~np.isnan(pairs.came[:, k, i])).sum())
            cells = [(name, ""), (_lead(lead), ""), (f"{n}", ""), (f"{own:.3g} {VARIABLES[name].unit}", "")]
            for source in rivals:
                other = lines.get(source, np.full(len(PAIRED_LEADS_S), np.nan))[k]
                better = 100 * (1 - own / other) if other > 0 else np.nan
                cells.append(("-" if np.isnan(better) else f"{better:+.1f} %", ""))
            rows.append(cells)
    return '<p class="note">How far its RMSE lies below each baseline\'s.</p>' + _table(heads, rows)


def _significance(name: str, pairs: Pairs) -> Iterator[str]:
    """The gate's tests against the baselines."""
    yield "<h3>Skill or luck?</h3>"
    yield f'<p class="note">{TEST_WORDS}</p>'
    try:
        verdict = judge({name: pairs}, None)
    except DataError as error:
        yield f"<p>{html.escape(str(error))}</p>"
        return
    rows = []
    for key in dict.fromkeys((cell.score, cell.rival, cell.variable) for cell in verdict.cells):
        score, rival, variable = key
        held = {c.lead_s: c for c in verdict.cells if (c.score, c.rival, c.variable) == key}
        cells = [(f"{score.upper()}, {variable} against {STYLES[rival][0]}", "")]
        for lead in PAIRED_LEADS_S:
            cell = held.get(lead)
            kind = "" if cell is None else "better" if cell.better else "worse" if cell.worse else ""
            cells.append(("-" if cell is None else f"{cell.ratio:.3f}", kind))
        rows.append(cells)
    yield _table(["score over the baseline's", *(_lead(lead) for lead in PAIRED_LEADS_S)], rows)


def _honesty(pairs: Pairs, names: Sequence[str]) -> Figure:
    """Coverage by lead, and a PIT histogram a variable."""
    rows = -(-len(names) // COLUMNS)
    figure = Figure(figsize=(WIDTH, 2.3 + 1.9 * rows), layout="constrained")
    above, below = figure.subfigures(2, 1, squeeze=False, height_ratios=(2.3, 1.9 * rows)).ravel()
    for panel, share in zip(above.subplots(1, 2), (80, 90), strict=True):
        for name in names:
            whole = slices(pairs, OUTPUT_VARIABLES.index(name)).get("all")
            if whole is not None:
                held = whole.coverage if share == 80 else whole.coverage90
                panel.plot(HOURS, 100 * held, marker=".", label=name.replace("_", " "), lw=1.3)
        panel.axhline(share, color="k", lw=0.8)
        panel.axhspan(share - 3, share + 3, color="0.9")
        panel.set_ylabel(f"in central {share} %, %", fontsize=8)
        panel.set_xlabel("lead, h", fontsize=8)
        if share == 80:
            panel.legend(fontsize=7, ncols=2, frameon=False)
    panels = below.subplots(rows, COLUMNS, squeeze=False).ravel()
    for each in panels[len(names) :]:
        each.set_axis_off()
    width = np.diff(PIT_EDGES)
    for each, name in zip(panels, names, strict=False):
        density = pit_counts(pairs, OUTPUT_VARIABLES.index(name)) / width
        each.bar(PIT_EDGES[:-1], density, width, align="edge", color="#1b6ca8", alpha=0.75, edgecolor="white", lw=0.5)
        each.axhline(1, color="k", lw=0.8)
        each.set_title(name.replace("_", " "), fontsize=8)
        each.set_xlim(0, 1)
    return figure


def _aims(networks: Mapping[str, Pairs]) -> Iterator[str]:
    """What is aimed at, beside what was reached."""
    rows = []
    for aim in aims(networks):
        kind = {True: "better", False: "worse", None: ""}[aim.met]
        got = "-" if aim.met is None else f"{aim.got:.3f}"
        rows.append(
            [(aim.network, ""), (aim.about, ""), (f"{aim.sign} {aim.bound:g}", ""), (got, kind), (aim.verdict, ""),
             (aim.where, "")]
        )  # fmt: skip
    yield "<h2>Aims</h2>" + _table(["network", "aim", "bound", "reached", "", "where"], rows)


def _events(pairs: Pairs) -> Iterator[str]:
    """Events that came at all: Brier skill at every lead, and reliability at an hour and at six."""
    for event in NAMED_EVENTS:
        if MODEL not in pairs.chances or not np.nansum(pairs.outcome(event)):
            continue
        rule = f"{event.variable} {event.comparison} {event.threshold:g} {event.unit}"
        yield f"<h3>{html.escape(f'{event.name}: {rule}')}</h3>" + f'<p class="note">{EVENT_WORDS}</p>'
        rows = []
        for k, lead in enumerate(PAIRED_LEADS_S):
            found = told(pairs, event, slice(k, k + 1))
            cells = [(_lead(lead), ""), (f"{found.n}", ""), (f"{found.came}", ""), (f"{found.brier:.4f}", "")]
            for source in EVENT_RIVALS:
                skill = found.skill.get(source, np.nan)
                cells.append(("-", "") if np.isnan(skill) else (f"{skill:+.3f}", "better" if skill > 0 else "worse"))
            rows.append(cells)
        yield _table(["lead", "pairs", "came", "Brier score", *(STYLES[s][0] for s in EVENT_RIVALS)], rows)
        yield _svg(_reliability(pairs, event))
        classes = zip(*reliability(pairs, event), strict=True)
        shown = [
            [(f"{100 * given:.1f} %", ""), (f"{100 * came:.1f} %", ""), (f"{n}", "")] for given, came, n in classes
        ]
        yield _table(["probability given, all leads", "it came", "pairs"], shown)


def _reliability(pairs: Pairs, event: Event) -> Figure:
    """Reliability at an hour and at six, with how often each probability was given."""
    figure = Figure(figsize=(7.4, 3.1), layout="constrained")
    for panel, lead in zip(figure.subplots(1, 2), (3600, 21_600), strict=True):
        k = PAIRED_LEADS_S.index(lead)
        given, came, n = reliability(pairs, event, slice(k, k + 1))
        panel.plot([0, 1], [0, 1], color="0.6", lw=0.8)
        panel.scatter(given, came, s=8 + 140 * n / max(n.max(initial=0), 1), color="#1b6ca8", alpha=0.8)
        panel.plot(given, came, color="#1b6ca8", lw=1)
        panel.set_title(f"{event.name} in {_lead(lead)}", fontsize=9)
        panel.set_xlabel("probability given", fontsize=8)
        panel.set_ylabel("it came", fontsize=8)
    return figure


def _slices(pairs: Pairs, names: Sequence[str]) -> str:
    """RMSE over anomaly persistence's and coverage, over all leads, of parts of the pairs."""
    kinds = ("all", *SEASONS, "day", "night")
    rows = []
    for name in names:
        parts = slices(pairs, OUTPUT_VARIABLES.index(name))
        rows.append([(name, ""), *((_slice(parts.get(kind)), "") for kind in kinds)])
    note = (
        "RMSE over that of anomaly persistence (geometric mean over the leads), and shares in the central 80 and 90 %. "
    )
    return f'<p class="note">{note}Day: the sun is up at the valid time.</p>' + _table(["variable", *kinds], rows)


def _slice(part: Slice | None) -> str:
    if part is None:
        return "-"
    return f"{part.ratio:.2f}, {100 * np.nanmean(part.coverage):.0f} %, {100 * np.nanmean(part.coverage90):.0f} %"


def _table(heads: Sequence[str], rows: Sequence[Sequence[tuple[str, str]]]) -> str:
    head = "".join(f"<th>{html.escape(text)}</th>" for text in heads)
    body = "".join(
        "<tr>" + "".join(f'<td class="{kind}">{html.escape(text)}</td>' for text, kind in row) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _svg(figure: Any) -> str:
    """A figure as an element of the page, with its text as text."""
    for panel in figure.get_axes():
        panel.tick_params(labelsize=7)
        panel.spines[["top", "right"]].set_visible(False)
    buffer = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "stationcast", "font.family": "sans-serif"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    style = f'<svg style="max-width:{98 * figure.get_figwidth():.0f}px"'
    return style + buffer.getvalue().partition("<svg")[2]


def _lead(lead_s: int) -> str:
    return f"{lead_s // 60} min" if lead_s < 3600 else f"{lead_s / 3600:g} h"
