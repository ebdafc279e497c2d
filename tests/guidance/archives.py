"""Invented stations with guidance that is wrong in a known way."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np

from edge_agent.clock import format_time

START = 1_577_880_000  # 2020-01-01 12:00 UTC
DAY_S = 86_400


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def daily(folder: Path, days: int, *, bias: float = 3.0, seed: int = 0, stations: int = 1) -> tuple[Path, Path]:
    """HISTORY.csv and GUIDANCE.csv of noon temperatures, guidance a day and two ahead that is too cold by `bias`; with
    many stations each has its own bias beside that."""
    rng = np.random.default_rng(seed)
    history, guidance = [], []
    own = rng.normal(0.0, 1.0, stations) if stations > 1 else np.zeros(1)
    for s in range(stations):
        place = {"station": f"s{s}", "latitude": 50 + s / 10, "longitude": 8, "elevation": 100} if stations > 1 else {}
        truth = 10 + 8 * np.sin(2 * np.pi * np.arange(days + 2) / 365) + rng.normal(0, 3, days + 2)
        for d in range(days):
            history.append({"time": format_time(START + d * DAY_S), **place, "temperature": round(truth[d], 2)})
            for lead in (1, 2):
                valid = START + (d + lead) * DAY_S
                said = truth[d + lead] - bias - own[s] + rng.normal(0, lead)
                row = {"issued": format_time(START + d * DAY_S + 7 * 3600), "valid_time": format_time(valid)}
                guidance.append({**row, **place, "temperature": round(said, 2)})
    return write(folder / "history.csv", history), write(folder / "guidance.csv", guidance)


def hourly(folder: Path, days: int, seed: int = 0) -> tuple[Path, Path]:
    """As `daily` with hourly readings and runs every 6 h to 48 h, whose errors last for some hours."""
    rng = np.random.default_rng(seed)
    steps = days * 24 + 60
    t = START + 3600 * np.arange(steps)
    error = np.zeros(steps)
    for i in range(1, steps):
        error[i] = 0.95 * error[i - 1] + rng.normal(0, 0.3)
    truth = 10 + 5 * np.sin(2 * np.pi * (t % DAY_S) / DAY_S) + np.cumsum(rng.normal(0, 0.1, steps))
    history = [{"time": format_time(t[i]), "temperature": round(truth[i], 2)} for i in range(days * 24)]
    guidance = [
        {"issued": format_time(t[i]), "valid_time": format_time(t[i + k]),
         "temperature": round(truth[i + k] + error[i + k] + 1.0, 2)}
        for i in range(0, days * 24, 6) for k in range(49)
    ]  # fmt: skip
    return write(folder / "history.csv", history), write(folder / "guidance.csv", guidance)
