"""How a recipe does at networks it never saw, on the parts before their test periods: what recipes are chosen by.

python -m model_factory.training.left_out DATA --bank BANK.pt --out FOLDER [--steps N] [--network N ...]

Trains once per measuring network without it, then scores windows drawn from that network alone. The test periods of the
networks stay unseen.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from edge_agent.bundle.station_task import OUTPUT_VARIABLES
from edge_agent.circle import wrap
from edge_agent.forecast import QUANTILES, persistence
from edge_agent.grid import GRID_VARIABLES
from model_factory.models.front import LEADS
from model_factory.models.station import StationModel
from model_factory.training.data import SHARES, Corpus
from model_factory.training.station import Bank, Settings, read_corpus, ready_bank, train

WINDOWS = 4_080
AT_ONCE = 255
SHOWN = (1, 2, 4, 8, 12, 24)  # leads, steps
SCORED = OUTPUT_VARIABLES[:6]

Floats = NDArray[np.float64]
Scores = dict[str, dict[str, list[float]]]  # variable -> against and coverage -> one number a shown lead


def main() -> None:
    """One table a network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--bank", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=Settings().steps)
    parser.add_argument("--samples", type=int, default=Settings().samples)
    parser.add_argument("--network", action="append", choices=sorted(SHARES))
    chosen = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    settings = Settings(steps=chosen.steps, samples=chosen.samples)
    bank = ready_bank(chosen.data, settings, device, chosen.bank)
    scores = {}
    for network in chosen.network or sorted(SHARES):
        scores[network] = left_out(network, bank, chosen.data, settings, chosen.out, device)
        Console(width=110).print(table(network, scores[network]))
        (chosen.out / "scores.json").write_text(json.dumps(scores, indent=1))


def left_out(network: str, bank: Bank, data: Path, settings: Settings, out: Path, device: torch.device) -> Scores:
    """Train without a network, score on it."""
    folder = out / network
    folder.mkdir(parents=True, exist_ok=True)
    state = train(bank.without((network,)), settings, folder, device)
    others = tuple(n for n in bank.networks if n != network)
    corpus = read_corpus(data, Settings(hold_out=others), device)
    return score(state.averaged.eval(), corpus)


def score(model: StationModel, corpus: Corpus) -> Scores:
    """RMSE over that of anomaly persistence and of persistence, and the share within the 10 and 90 % quantiles."""
    generator = torch.Generator().manual_seed(11)
    parts: list[dict[str, Floats]] = []
    for _ in range(WINDOWS // AT_ONCE):
        drawn = corpus.draw(AT_ONCE, generator)
        with torch.no_grad():
            mean, quantiles, _, _ = model(drawn.history, drawn.site, drawn.origin, drawn.group)
        parts.append(_errors(*(x.cpu().double().numpy() for x in (drawn.history, drawn.target, mean, quantiles))))
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    found: Scores = {}
    for v, name in enumerate(SCORED):
        ours, anomaly, plain, inside = (joined[key][:, :, v] for key in ("model", "anomaly", "persistence", "inside"))
        found[name] = {
            "anomaly": _at_leads(_rms(ours) / _rms(anomaly)),
            "persistence": _at_leads(_rms(ours) / _rms(plain)),
            "inside": _at_leads(np.nanmean(inside, axis=0)),
        }
    return found


def table(network: str, scores: Scores) -> Table:
    """What a person compares: one row a variable."""
    shown = Table(title=f"{network} left out: RMSE / anomaly persistence, / persistence, 80 % coverage")
    for column in ("", *(f"{15 * lead} min" for lead in SHOWN)):
        shown.add_column(column)
    for name, rows in scores.items():
        cells = zip(rows["anomaly"], rows["persistence"], rows["inside"], strict=True)
        shown.add_row(name, *(f"{a:.3f} {p:.3f} {c:.2f}" for a, p, c in cells))
    return shown


def _errors(history: Floats, target: Floats, mean: Floats, quantiles: Floats) -> dict[str, Floats]:
    """Forecast minus observed of each source [S, L, V], NaN where any of them has none; `inside` as 0 and 1."""
    leads_s = tuple(900 * lead for lead in range(1, LEADS + 1))
    columns: dict[str, list[Floats]] = {key: [] for key in ("model", "anomaly", "persistence", "inside")}
    low, high = QUANTILES.index(0.1), QUANTILES.index(0.9)
    for v, name in enumerate(SCORED):
        series = np.ascontiguousarray(history[:, :, GRID_VARIABLES.index(name)])
        forecasts = {
            "model": mean[:, :, v],
            "anomaly": persistence.base(series, name, leads_s),
            "persistence": persistence.base(series, name, leads_s, cycle=False),
        }
        missing = np.isnan(np.sum([*forecasts.values(), target[:, :, v]], axis=0))
        for key, forecast in forecasts.items():
            error = forecast - target[:, :, v]
            columns[key].append(np.where(missing, np.nan, wrap(error) if name == "wind_direction" else error))
        came = target[:, :, v]
        if name == "wind_direction":
            came = mean[:, :, v] + wrap(came - mean[:, :, v])
        inside = (came >= quantiles[:, :, v, low]) & (came <= quantiles[:, :, v, high])
        columns["inside"].append(np.where(missing, np.nan, inside.astype(float)))
    return {key: np.stack(column, -1) for key, column in columns.items()}


def _rms(error: Floats) -> Floats:
    return np.asarray(np.sqrt(np.nanmean(error * error, axis=0)))


def _at_leads(row: Floats) -> list[float]:
    return [round(float(row[lead - 1]), 4) for lead in SHOWN]


if __name__ == "__main__":
    main()
