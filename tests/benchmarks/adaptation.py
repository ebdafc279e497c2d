"""A cycle of learning and adapting: a lone station with its local expert, and a gateway without.

    python tests/benchmarks/adaptation.py [--stations 1000] [--cycles 40]

The stations share one history and one bundle's forecasts; each learns for itself. Forecasting alone is the baseline.
"""

from __future__ import annotations

import resource
import time
from functools import partial

import numpy as np
from parts import START, arguments, nowcasters, seconds, show

from edge_agent import grid
from edge_agent.adaptation import cycle
from edge_agent.adaptation.learner import Learner
from edge_agent.adaptation.saved import pack
from edge_agent.bundle.station_task import OUTPUT_VARIABLES
from edge_agent.forecast.nowcast import Batch, Nowcaster

CHUNK = 64


def history() -> np.ndarray:
    """[1, 2880, 8] of a plausible station."""
    rng = np.random.default_rng(0)
    typical = np.array([12.0, 70.0, 1005.0, 4.0, 7.0, 200.0, 0.0, 150.0])
    noise = np.array([1.0, 4.0, 0.5, 1.0, 1.5, 30.0, 0.0, 50.0])
    return (typical + noise * rng.standard_normal((1, grid.HISTORY_STEPS, len(typical)))).astype(np.float32)


def forecast(nowcaster: Nowcaster, x: np.ndarray, rows: int) -> Batch:
    """One row's forecast, `rows` times over."""
    site = np.array([[51.0, 3.7, 10.0, np.nan]], np.float32)
    ages = [dict.fromkeys(grid.GRID_VARIABLES, 0)]
    return nowcaster.batch(site, x, ages, np.array([START])).rows(np.zeros(rows, np.int64))


def one_cycle(learners: list[Learner], nowcaster: Nowcaster, x: np.ndarray, fresh: Batch, origin: int) -> float:
    """All stations at one origin, in chunks; seconds."""
    rng = np.random.default_rng(origin)
    spent = 0.0
    for start in range(0, len(learners), CHUNK):
        part = learners[start : start + CHUNK]
        batch, many = fresh.rows(np.arange(len(part))), np.repeat(x, len(part), axis=0)
        came = fresh.mean[0, 0] + 0.3 * rng.standard_normal(len(OUTPUT_VARIABLES))
        began = time.perf_counter()
        base = cycle.bases(many, nowcaster.leads_s)
        for row, learner in enumerate(part):
            cycle.take(learner, origin, lambda valid, came=came: np.tile(came, (len(valid), 1)))
            cycle.move(learner, origin, many[row], base[row], batch, row)
        spent += time.perf_counter() - began
    return spent


def measure(stations: int, cycles: int, *, expert: bool, nowcaster: Nowcaster, baseline: np.ndarray) -> None:
    x = history()
    fresh = forecast(nowcaster, x, min(stations, CHUNK))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    n = nowcaster
    learners = [Learner(n.leads_s, n.levels, n.events, expert=expert) for _ in range(stations)]
    took = [one_cycle(learners, n, x, fresh, START + 900 * k) for k in range(cycles)]
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    kept = len(pack(learners[0])) / 1e6
    named = f"{stations} station{'s' * (stations > 1)} {'with' if expert else 'without'} local expert"
    show(f"{named}, a cycle", np.array(took[cycles // 2 :]), baseline * stations, "forecasting as many")
    print(f"  memory {grown:.0f} MB in all, {kept:.2f} MB a station in the store")


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--stations", type=int, default=1000)
    parser.add_argument("--cycles", type=int, default=40)
    args = parser.parse_args()
    nowcaster, _ = nowcasters(args.bundle)
    baseline = seconds(partial(forecast, nowcaster, history(), 1), args.repeat)
    measure(1, 4 * args.cycles, expert=True, nowcaster=nowcaster, baseline=baseline)
    measure(args.stations, args.cycles, expert=False, nowcaster=nowcaster, baseline=baseline)


if __name__ == "__main__":
    main()
