"""Two forms of one model side by side: size, speed and how far their answers lie apart. Measures, decides nothing."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edge_agent.bundle import station_task
from edge_agent.inference import Array
from edge_agent.inference.onnx import open_model
from model_factory.bundles.graph import read_without_notes

BATCHES = (1, 64)
_TURN, _MOST = 5, 400  # runs in a turn, runs in all


@dataclass(frozen=True, slots=True)
class Speed:
    """Median time of one run with that many stations on one thread, in turn with the other model's runs."""

    stations: int
    fp32_ms: float
    after_ms: float
    runs: int

    @property
    def ratio(self) -> float:
        """How many times as fast the second is."""
        return self.fp32_ms / self.after_ms


@dataclass(frozen=True, slots=True)
class Change:
    """Difference of one output along its variable axis, in its unit; directions along the circle."""

    output: str
    name: str
    largest: float
    rms: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """FP32 against what quantization made of it."""

    bytes_fp32: int
    bytes_after: int
    speed: tuple[Speed, ...]
    changes: tuple[Change, ...]

    @property
    def size_ratio(self) -> float:
        """Size of the second over that of the first."""
        return self.bytes_after / self.bytes_fp32


def compare_models(fp32: Path, quantized: Path, samples: Mapping[str, Array], *, seconds: float = 2.0) -> Comparison:
    """Both models on the same samples, about `seconds` of timing per batch size; sizes without exporters' notes."""
    raw = [read_without_notes(path) for path in (fp32, quantized)]
    pair = (open_model(raw[0], name="fp32"), open_model(raw[1], name="quantized"))
    count = len(next(iter(samples.values())))
    speed = [_race(pair, _rows(samples, n), n, seconds) for n in BATCHES if n <= count]
    some = _rows(samples, min(count, BATCHES[-1]))
    names = [output.name for output in pair[0].get_outputs()]
    answers = [dict(zip(names, session.run(names, some), strict=True)) for session in pair]
    return Comparison(len(raw[0]), len(raw[1]), tuple(speed), tuple(_changes(names, *answers)))


def _race(pair: Sequence[Any], feed: Mapping[str, Array], stations: int, seconds: float) -> Speed:
    """Run the two in turn, a few runs each, so that whatever else the machine does slows both; the first run of a turn
    finds the other's data in the caches and does not count."""
    times: tuple[list[float], list[float]] = ([], [])
    end = time.monotonic() + seconds
    while len(times[0]) < _TURN or (time.monotonic() < end and len(times[0]) < _MOST):
        for session, mine in zip(pair, times, strict=True):
            session.run(None, dict(feed))
            mine.extend(_time_ms(session, feed) for _ in range(_TURN))
    return Speed(stations, statistics.median(times[0]), statistics.median(times[1]), len(times[0]))


def _time_ms(session: Any, feed: Mapping[str, Array]) -> float:
    start = time.perf_counter()
    session.run(None, dict(feed))
    return 1000.0 * (time.perf_counter() - start)


def _rows(samples: Mapping[str, Array], count: int) -> dict[str, Array]:
    return {name: np.ascontiguousarray(value[:count]) for name, value in samples.items()}


def _changes(names: Sequence[str], before: Mapping[str, Array], after: Mapping[str, Array]) -> list[Change]:
    """Per variable where the output is one of the station task's, else per output."""
    known = {tensor.name: tensor for tensor in station_task.outputs()}
    rows = []
    for name in names:
        tensor = known.get(name)
        if tensor is None or before[name].ndim < 3:
            rows.append(_change(name, "", before[name], after[name]))
            continue
        for i, axis in enumerate(tensor.axis):
            rows.append(_change(name, axis.name, before[name].take(i, 2), after[name].take(i, 2)))
    return rows


def _change(output: str, name: str, before: Array, after: Array) -> Change:
    apart = np.abs(after.astype(np.float64) - before)
    if name == "wind_direction":
        apart = np.minimum(apart % 360.0, 360.0 - apart % 360.0)
    apart = apart[~np.isnan(apart)]
    return Change(
        output, name, float(np.max(apart, initial=0.0)), float(np.sqrt(np.mean(apart**2))) if apart.size else 0.0
    )
