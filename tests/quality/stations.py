"""An ordinary station made up of sine waves and a little noise, for tests that need weeks of it."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence

import numpy as np

from edge_agent.config import Station
from edge_agent.history import History
from edge_agent.observation import Flag, Judged, Observation
from edge_agent.quality import QualityControl

SITE = Station(id="roof", latitude=47.36, longitude=8.54, elevation_m=408.0)
START = 1_717_200_000  # 2024-06-01 00:00 UTC
STEP_S = 600
DAY = 86_400 // STEP_S

Values = dict[str, float]


def ordinary(days: float, seed: int = 1, *, winter: bool = False) -> list[Values]:
    """Rows of a station every ten minutes, with days and nights, weather of a few days' period and noise."""
    chance = random.Random(seed)
    rows = []
    for i in range(int(days * DAY)):
        day, slow = 2 * math.pi * i / DAY, 2 * math.pi * i / (4.3 * DAY)
        warm = math.sin(day - 2.0)
        temperature = (2 if winter else 16) + 6 * warm + 3 * math.sin(slow) + chance.gauss(0, 0.08)
        humidity = min(max(68 - 18 * warm + 8 * math.cos(slow) + chance.gauss(0, 0.6), 15), 100)
        wind = abs(2.5 + 1.5 * warm + math.sin(5.1 * slow) + chance.gauss(0, 0.3))
        rows.append(
            {
                "temperature": round(temperature, 1),
                "humidity": round(humidity, 0),
                "pressure": round(966 + 7 * math.sin(slow + 1) + chance.gauss(0, 0.06), 1),
                "wind_speed": round(wind, 1),
                "wind_gust": round(1.6 * wind + abs(chance.gauss(0, 0.4)), 1),
                "wind_direction": float(round(200 + 60 * math.sin(slow) + chance.gauss(0, 15)) % 360),
            }
        )
    return rows


def observation(row: int, values: Mapping[str, float], station: str = "roof") -> Observation:
    """Row `row` as an observation."""
    return Observation(station, "mast", START + row * STEP_S, values, "boot", row)


def judge(rows: Sequence[Mapping[str, float]], control: QualityControl | None = None) -> list[Judged]:
    """Rows through quality control."""
    control = control or QualityControl([SITE])
    return [control.judge(observation(i, values)) for i, values in enumerate(rows)]


def flags(judged: Sequence[Judged], name: str) -> list[int]:
    """A variable's flags after all revisions, which only make them worse."""
    found = [int(one.verdicts[name].flag) if name in one.verdicts else 0 for one in judged]
    for one in judged:
        for revision in one.revisions:
            if revision.variable == name:
                first, last = ((t - START) / STEP_S for t in (revision.start, revision.end))
                for row in range(math.ceil(first), math.floor(last) + 1):
                    if 0 < found[row] != Flag.MISSING:
                        found[row] = max(found[row], int(revision.verdict.flag))
    return found


def history(rows: Sequence[Mapping[str, float]]) -> History:
    """Rows as a file would give them; NaN where a row lacks a variable."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    times = START + STEP_S * np.arange(len(rows), dtype=np.int64)
    return History(times, {name: np.array([row.get(name, math.nan) for row in rows]) for name in names}, [])
