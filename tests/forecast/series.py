"""Recorded-looking series for tests: a daily cycle and noise, at any cadence, with any gaps."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edge_agent import grid
from edge_agent.clock import format_time
from edge_agent.history import History

START = 1_700_006_400  # 2023-11-15T00:00:00Z
DAY_S = 86_400
TYPICAL = {  # mean, daily amplitude, noise
    "temperature": (12.0, 5.0, 0.5), "humidity": (65.0, 15.0, 2.0), "pressure": (1005.0, 0.0, 0.3),
    "wind_speed": (3.0, 1.5, 0.8), "wind_gust": (6.0, 2.0, 1.0), "wind_direction": (180.0, 0.0, 40.0),
    "rain": (0.0, 0.0, 0.3), "solar_radiation": (200.0, 200.0, 20.0),
}  # fmt: skip
STATES = ("temperature", "humidity", "pressure", "wind_speed")


def recorded(days: float, step_s: int = 600, names: tuple[str, ...] = tuple(TYPICAL), seed: int = 0) -> History:
    """A station's series from `START`."""
    rng = np.random.default_rng(seed)
    times = np.arange(START, START + int(days * DAY_S), step_s, dtype=np.int64)
    hour = 2 * np.pi * (times % DAY_S) / DAY_S
    values = {}
    for name in names:
        mean, amplitude, noise = TYPICAL[name]
        values[name] = mean + amplitude * np.sin(hour) + noise * rng.standard_normal(len(times))
        if name in ("wind_speed", "wind_gust", "solar_radiation"):
            values[name] = np.maximum(values[name], 0.0)
        if name == "wind_direction":
            values[name] %= 360.0
        if name == "humidity":
            values[name] = np.clip(values[name], 0.0, 100.0)
        if name == "rain":
            values[name] = np.where(rng.random(len(times)) < 0.05, np.abs(values[name]), 0.0)
    return History(times, values, [])


def windows(rows: int, seed: int = 0, gaps: float = 0.0) -> np.ndarray:
    """[rows, 2880, 8] histories of different noise, a share of the steps missing."""
    rng = np.random.default_rng(seed)
    one = recorded(31, 900, seed=seed).grid_ending(START + 30 * DAY_S)
    noise = rng.standard_normal((rows, *one.shape)).astype(np.float32)
    out = np.abs(one + 0.3 * noise)
    out[..., grid.GRID_VARIABLES.index("rain")] = one[:, grid.GRID_VARIABLES.index("rain")]
    out[..., grid.GRID_VARIABLES.index("humidity")] = np.minimum(out[..., grid.GRID_VARIABLES.index("humidity")], 100)
    out[rng.random(out.shape) < gaps] = np.nan
    out[:, -1] = np.where(np.isnan(out[:, -1]), one[-1], out[:, -1])
    return out.astype(np.float32)


def write_csv(path: Path, history: History) -> Path:
    """The series as a HISTORY.csv."""
    lines = [",".join(("time", *history.values))]
    for i, t in enumerate(history.times):
        numbers = (column[i] for column in history.values.values())
        lines.append(",".join((format_time(t), *("" if np.isnan(x) else f"{x:.3f}" for x in numbers))))
    path.write_text("\n".join(lines) + "\n")
    return path
