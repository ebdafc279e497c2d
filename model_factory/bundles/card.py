"""The card of a bundle: what it is, what it saw, how good it was and where it was not, in words and tables.

Only arranges figures that others computed. Every figure says under which setting it came about.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from edge_agent.bundle.benchmark import Benchmark
from edge_agent.bundle.devices import DEVICES
from edge_agent.bundle.manifest import Budget, Manifest, SkillRow
from edge_agent.bundle.skill import BASELINES, Pooled, pool
from edge_agent.variables import VARIABLES
from model_factory.bundles.proof import Proof
from model_factory.quantize.measure import Comparison, Speed
from model_factory.verification.gate import Verdict, summary
from model_factory.verification.scoring import FINAL_PERIOD, HELD_OUT

SHOWN_S = (900, 1800, 3600, 7200, 10_800, 21_600)
LABELS = {
    "persistence": "persistence",
    "anomaly_persistence": "anomaly persistence",
    "ridge": "ridge",
    "lightgbm": "LightGBM",
}
FINAL_WORDS = (
    "The last {part} of every station's record was kept out of the {weights} weights, as input and as target. The "
    "stations themselves were in training: these figures are for places it knows."
)
RECIPE_WORDS = (
    "The same recipe was trained again without the whole network and scored on the final part of that network's "
    "records: these figures are for a station that nobody trained on. They are the recipe's. The shipped weights were "
    "trained on these networks as well, so they cannot be scored this way."
)
HELD_OUT_WORDS = "These weights never saw anything of these networks: the figures are for a station nobody trained on."
SCORE_WORDS = (
    "Root mean square errors in the variable's unit; in brackets the bundle's over the baseline's: below 1 the bundle "
    "is better. Persistence: the last value stays. Anomaly persistence: it changes as the station's own mean day does. "
    "Ridge and LightGBM: regressions trained per station and lead on that station's own earlier record, which a new "
    "station does not have. All on the same pairs of forecast and reading."
)
GATE_WORDS = (
    "Paired tests of squared errors per variable and lead on pairs that no training saw (Diebold and Mariano, stations "
    "averaged first, false discovery rate 5 % over the table): at how many leads it is better, and worse by more than "
    "0.5 % of RMSE. A bundle that is worse anywhere, or whose 80 % intervals hold less well, is refused."
)
PROOF_WORDS = (
    "The weights that ship learned from whole records: nothing is left to score them on. The skill below is that of "
    "other runs of the same recipe, first of all of the proof, which did without the last {part} of every station's "
    "record. It and these weights forecast alike: their means lie apart by {apart} of the proof's usual error."
)
LIMITS = (
    "Not for warnings, and not where life or property depends on it. Official warnings come first.",
    "The sets above are few and from few climates: high mountains, the tropics and the polar regions are hardly there.",
    "It reads one station and nothing else: it cannot see a front or a shower before the station feels it.",
    "It needs 24 hours of a variable to forecast it, and 30 days to know the station's own mean day.",
    "Rain amounts and gusts were learned from few instruments: take them as a first guess.",
    "How often its 80 % intervals held is in the tables (in 80 %); nothing corrects them for your station.",
    "Pressure is station pressure. Where it is read in whole hPa, the first hour's forecasts mostly see the rounding.",
)


@dataclass(frozen=True, slots=True)
class Card:
    """All that a card tells. `networks`: name, licence, attribution, source, ... of each set trained on; `hold_out`:
    networks these weights never saw; `measured`: on the machine it was made on; `comparison`: with FP32, where both
    exist; `verdict`: of the promotion gate; `proof`: the run that was scored, where it is another."""

    manifest: Manifest
    networks: Sequence[Mapping[str, str]]
    hold_out: Sequence[str]
    test_fraction: float
    measured: Sequence[Benchmark]
    comparison: Comparison | None
    plot: str | None
    verdict: Verdict | None = None
    proof: Proof | None = None

    @property
    def kept_out(self) -> float:
        """Share of each record that the weights which were scored never saw."""
        return self.proof.part if self.proof else self.test_fraction


def render_card(card: Card) -> str:
    """card.md."""
    sections = (_head, _training, _unseen, _skill, _beaten, _gate, _quantized, _costs, _limits)
    return "\n".join(line for section in sections for line in (*section(card), "")).rstrip() + "\n"


def _head(card: Card) -> Iterator[str]:
    manifest = card.manifest
    leads = manifest.leads_s
    yield f"# {manifest.name} {manifest.version}, release {manifest.counter}"
    yield ""
    yield (
        f"A nowcast for one weather station: from its last 30 days of readings to its next {leads[-1] / 3600:g} hours "
        f"in steps of {manifest.step_s // 60} minutes, as a mean and {len(manifest.quantiles)} quantiles of "
        f"{_listed(manifest.output_variables())}, with the probability of rain. A residual network on top of "
        f"diurnal-anomaly persistence and the station's own regression on its 30 days; {_parameters(manifest)}"
        f"{manifest.precision.upper()}; "
        f"made {manifest.created}; licence {manifest.licence}."
    )


def _training(card: Card) -> Iterator[str]:
    yield "## What it was trained on"
    yield ""
    yield from _table(
        ("set", "licence", "attribution", "source"),
        ([net.get(key, "") for key in ("name", "licence", "attribution", "source")] for net in card.networks),
    )
    notes = [f"* {net['name']}: {net['notes']}" for net in card.networks if net.get("notes")]
    if notes:
        yield ""
        yield from notes


def _unseen(card: Card) -> Iterator[str]:
    yield "## What these weights never saw"
    yield ""
    if card.proof:
        shares = [f"{share:.2f} ({name.replace('_', ' ')})" for name, share in card.proof.apart.items()]
        yield PROOF_WORDS.format(part=_percent(card.proof.part), apart=_listed(shares))
        yield ""
    if card.test_fraction:
        yield f"* The last {_percent(card.test_fraction)} of every station's record, neither as input nor as target."
    if card.hold_out:
        yield f"* Anything of {_listed(card.hold_out)}."
    yield "* Any station outside the sets above: yours, most likely."


def _skill(card: Card) -> Iterator[str]:
    yield "## Skill"
    yield ""
    if not card.manifest.skill:
        yield "This bundle was not evaluated: nothing is known about its skill."
        return
    yield SCORE_WORDS
    if card.plot:
        yield ""
        yield f"![RMSE by lead]({card.plot})"
    for setting, rows in _by_setting(card.manifest.skill):
        yield ""
        yield f"### Setting {setting}"
        yield ""
        networks = dict.fromkeys(row.network for row in rows)
        yield from _setting_words(card, setting, networks)
        yield f"All networks of the setting together ({_listed(networks)}):"
        yield ""
        yield from _pooled_table(rows)
        yield ""
        yield "Each network, as its RMSE over that of anomaly persistence / of ridge:"
        yield ""
        yield from _network_table(rows)


def _setting_words(card: Card, setting: str, networks: Iterable[str]) -> Iterator[str]:
    if setting == FINAL_PERIOD:
        yield FINAL_WORDS.format(part=_percent(card.kept_out), weights="proof's" if card.proof else "shipped")
        yield ""
    elif setting == HELD_OUT:
        yield HELD_OUT_WORDS if set(networks) <= set(card.hold_out) else RECIPE_WORDS
        yield ""


def _pooled_table(rows: Sequence[SkillRow]) -> Iterator[str]:
    heads = ("variable", "lead", "pairs", "RMSE", *(LABELS[name] for name in BASELINES), "MAE", "CRPS", "in 80 %")
    yield from _table(heads, (_pooled_cells(row) for row in pool(rows) if row.lead_s in SHOWN_S))


def _pooled_cells(row: Pooled) -> list[str]:
    bars = [f"{row.baseline[b]:.3g} ({row.ratio[b]:.2f})" if b in row.baseline else "-" for b in BASELINES]
    scores = [f"{row.rmse:.3g}", *bars, f"{row.mae:.3g}", f"{row.crps:.3g}", f"{100 * row.coverage80:.0f} %"]
    return [f"{row.variable}, {_unit(row.variable)}", _lead(row.lead_s), str(row.n), *scores]


def _network_table(rows: Sequence[SkillRow]) -> Iterator[str]:
    leads = [lead for lead in SHOWN_S if any(row.lead_s == lead for row in rows)]
    cells = {(row.network, row.variable, row.lead_s): row for row in rows}
    lines = []
    for network, variable in dict.fromkeys((row.network, row.variable) for row in rows):
        found = [cells.get((network, variable, lead)) for lead in leads]
        ratios = [f"{_ratio(row, 'anomaly_persistence')} / {_ratio(row, 'ridge')}" if row else "-" for row in found]
        lines.append([network, variable, *ratios])
    yield from _table(("network", "variable", *(_lead(lead) for lead in leads)), lines)


def _beaten(card: Card) -> Iterator[str]:
    """Where a baseline is as good or better, cell by cell."""
    if not card.manifest.skill:
        return
    yield "## Where it does not win"
    for baseline, words in (
        ("ridge", "Not better than the station's own ridge"),
        ("lightgbm", "Not better than the station's own LightGBM"),
        ("anomaly_persistence", "Not better than anomaly persistence"),
        ("persistence", "Not better than persistence"),
    ):
        lines = list(beaten_by(card.manifest.skill, baseline))
        yield ""
        yield f"{words}: {'nowhere in this table.' if not lines else ''}".rstrip()
        yield from ([""] if lines else [])
        yield from lines


def beaten_by(rows: Sequence[SkillRow], baseline: str) -> Iterator[str]:
    """One line per setting, network and variable with leads at which the bundle's RMSE is not below the baseline's."""
    for (setting, network, variable), group in groupby(rows, key=lambda r: (r.setting, r.network, r.variable)):
        asked = [row for row in group if row.n > 0 and getattr(row, baseline) is not None]
        lost = [row for row in asked if row.rmse >= getattr(row, baseline)]
        if lost:
            worst = max(_quotient(row.rmse, getattr(row, baseline)) for row in lost)
            leads = ", ".join(_lead(row.lead_s) for row in lost) if len(lost) < len(asked) else "every lead"
            much = f", up to {100 * (worst - 1):.1f} % worse" if math.isfinite(worst) else ""
            yield f"* {setting}, {network}, {variable}: {leads}{much}"


def _gate(card: Card) -> Iterator[str]:
    """The promotion gate's verdict, where there was one."""
    verdict = card.verdict
    if verdict is None:
        return
    yield "## The promotion gate"
    yield ""
    yield f"{'Promoted' if verdict.promoted else 'Refused'}, on {_listed(verdict.networks)}. {GATE_WORDS}"
    yield ""
    lines = (
        [rival.replace("_", " "), variable, f"{ratio:.3f}", f"{better} of {leads}", f"{worse} of {leads}"]
        for rival, variable, leads, better, worse, ratio in summary(verdict)
    )
    yield from _table(("against", "variable", "RMSE over its", "better", "worse"), lines)
    if verdict.why:
        yield ""
        yield from (f"* {why}" for why in verdict.why)


def _quantized(card: Card) -> Iterator[str]:
    both = [row for row in card.manifest.skill if row.rmse_fp32 and row.n > 0]
    if card.manifest.precision == "fp32":
        return
    yield f"## {card.manifest.precision.upper()} against FP32"
    if not both:
        yield ""
        yield "What quantization costs in skill was not measured."
    else:
        yield from _change_table(precision_changes(both), "RMSE")
    scored = crps_changes(both)
    if scored:
        yield from _change_table(scored, "CRPS")
    if card.comparison is not None:
        here, there = card.comparison.bytes_after / 1e6, card.comparison.bytes_fp32 / 1e6
        yield ""
        yield f"Size: {here:.2f} MB, {card.comparison.size_ratio:.2f} times that of FP32 ({there:.2f} MB)."
        for row in card.comparison.speed:
            yield ""
            yield _speed_line(row, card.measured[0].board)


def _change_table(changes: Mapping[tuple[str, int], float], score: str) -> Iterator[str]:
    """Changes in per cent, a row a lead."""
    (name, lead), worst = max(changes.items(), key=lambda item: abs(item[1]))
    yield ""
    yield (
        f"Change of the {score} by quantization, in per cent, over all settings; the largest is {worst:+.2f} % "
        f"({name}, {_lead(lead)}):"
    )
    yield ""
    names = list(dict.fromkeys(name for name, _ in changes))
    lines = (
        [_lead(at), *(_change(changes.get((name, at))) for name in names)] for at in sorted({k[1] for k in changes})
    )
    yield from _table(("lead", *names), lines)


def crps_changes(rows: Iterable[SkillRow]) -> dict[tuple[str, int], float]:
    """As `precision_changes`, of the CRPS, where it is known of FP32."""
    sums: dict[tuple[str, int], tuple[float, float]] = {}
    for row in rows:
        if row.crps_fp32 is not None:
            here, there = sums.get((row.variable, row.lead_s), (0.0, 0.0))
            sums[row.variable, row.lead_s] = (here + row.n * row.crps, there + row.n * row.crps_fp32)
    return {key: 100.0 * (here / there - 1.0) for key, (here, there) in sums.items() if there > 0.0}


def precision_changes(rows: Iterable[SkillRow]) -> dict[tuple[str, int], float]:
    """(variable, lead) -> change of the RMSE against FP32 in per cent, cells pooled by their number of pairs."""
    sums: dict[tuple[str, int], tuple[float, float]] = {}
    for row in rows:
        if row.rmse_fp32 is not None:
            here, there = sums.get((row.variable, row.lead_s), (0.0, 0.0))
            sums[row.variable, row.lead_s] = (here + row.n * row.rmse**2, there + row.n * row.rmse_fp32**2)
    return {key: 100.0 * (math.sqrt(here / there) - 1.0) for key, (here, there) in sums.items() if there > 0.0}


def _costs(card: Card) -> Iterator[str]:
    first = card.measured[0]
    yield "## What it costs"
    yield ""
    yield f"Measured where it was made, which is no board: {first.board}, {first.cores} cores, {first.runtime}."
    yield ""
    heads = ("threads", "stations in one run", "p50", "p95", "start to first forecast", "peak memory")
    yield from _table(heads, (_cost_cells(row) for row in card.measured))
    yield ""
    yield "For devices, with the limits of `firmware_configs/devices`; a bundle above one of them is refused:"
    yield ""
    columns = ("device", "basis", "model", "p50", "p95", "peak memory", "how")
    yield from _table(columns, (_budget_cells(row) for row in card.manifest.budgets))


def _cost_cells(row: Benchmark) -> list[str]:
    cost = row.cost
    times = [f"{cost.p50_ms:.2f} ms", f"{cost.p95_ms:.2f} ms", f"{cost.startup_ms:.0f} ms"]
    return [str(row.threads), str(row.stations), *times, f"{cost.peak_rss_mb:.0f} MB"]


def _budget_cells(row: Budget) -> list[str]:
    limits = DEVICES[row.device]
    return [
        row.device,
        row.basis,
        f"{row.model_bytes / 1e6:.2f} of {limits.model_bytes / 1e6:g} MB",
        f"{row.p50_ms:g} ms",
        f"{row.p95_ms:g} of {limits.p95_ms:g} ms",
        f"{row.peak_rss_mb:g} of {limits.peak_rss_mb:g} MB",
        row.note,
    ]


def _limits(card: Card) -> Iterator[str]:
    yield "## Limits of use"
    yield ""
    yield from (f"* {words}" for words in LIMITS)


def _speed_line(row: Speed, processor: str) -> str:
    stations = "1 station" if row.stations == 1 else f"{row.stations} stations"
    return (
        f"Speed with {stations} in one run: {row.after_ms:.2f} ms against {row.fp32_ms:.2f} ms, "
        f"{row.ratio:.2f} times as fast (medians of {row.runs} runs each in turn, {processor})."
    )


def _by_setting(rows: Sequence[SkillRow]) -> Iterator[tuple[str, list[SkillRow]]]:
    for setting in dict.fromkeys(row.setting for row in rows):
        yield setting, [row for row in rows if row.setting == setting]


def _table(heads: Sequence[str], lines: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(heads)} |"
    yield f"|{' --- |' * len(heads)}"
    for line in lines:
        yield f"| {' | '.join(cell.replace('|', '/') for cell in line)} |"


def _parameters(manifest: Manifest) -> str:
    count = manifest.provenance.training.get("parameters")
    return f"{int(count):,} parameters; " if isinstance(count, int) else ""


def _quotient(mine: float, theirs: float) -> float:
    return mine / theirs if theirs > 0 else math.inf


def _ratio(row: SkillRow, baseline: str) -> str:
    bar = getattr(row, baseline)
    return f"{row.rmse / bar:.2f}" if bar else "-"


def _change(value: float | None) -> str:
    return "-" if value is None else f"{value:+.2f}"


def _lead(lead_s: int) -> str:
    return f"{lead_s // 60} min" if lead_s < 3600 else f"{lead_s / 3600:g} h"


def _unit(name: str) -> str:
    return VARIABLES[name].unit if name in VARIABLES else ""


def _percent(part: float) -> str:
    return f"{100 * part:.0f} %"


def _listed(names: Iterable[str]) -> str:
    *most, last = [name.replace("_", " ") for name in names] or [""]
    return f"{', '.join(most)} and {last}" if most else last
