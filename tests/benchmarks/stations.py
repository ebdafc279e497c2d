"""A gateway with 1,000 stations: inference in chunks, and from the store to forecasts acknowledged by a broker, as
the agent does it: all are published, then they are kept with their baselines.

    python tests/benchmarks/stations.py [--stations 1000] [--chunk 64]

All stand in one place, so that a bundle that looks at neighbours sees as many as it ever does; chunks cut no group. The
baseline is anomaly persistence in numpy, in the same chunks on the same store. Memory is that of this process,
which holds the store, the model and the MQTT connection but no sensors.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
from agent_memory import memory_mb
from parts import arguments, nowcasters, publisher, show, wait
from store_history import DAYS, START, fill

from edge_agent.config import Station
from edge_agent.forecast.baselines import beside
from edge_agent.forecast.groups import groups, whole
from edge_agent.forecast.nowcast import Nowcaster
from edge_agent.store import Store
from edge_agent.verification import scored_leads


def main() -> None:
    parser = arguments(__doc__)
    parser.set_defaults(repeat=3)
    parser.add_argument("--stations", type=int, default=1000)
    parser.add_argument("--chunk", type=int, default=64)
    args = parser.parse_args()
    model, persistence = nowcasters(args.bundle)
    stations = [Station(f"s{i}", 50.98, 3.82, 20.0) for i in range(args.stations)]
    began = time.perf_counter()
    group = groups(stations) if model.looks_around else np.arange(len(stations))
    order = np.argsort(group, kind="stable")
    stations, group = [stations[row] for row in order.tolist()], group[order]
    print(f"{len(np.unique(group))} groups, found in {time.perf_counter() - began:.3f} s")
    chunks = [(stations[part], group[part]) for part in whole(group, args.chunk)]
    origin = START + DAYS * 86_400 - 900
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "bench.sqlite"
        fill(path, args.stations, 600)
        with Store.open(path) as store, publisher(Path(name), stations, origin) as publishing:

            def run(nowcaster: Nowcaster) -> tuple[float, float, float]:
                """Seconds for all stations: (inference alone, store to acknowledged, until all are kept)."""
                began, inference = time.perf_counter(), 0.0
                before = publishing.health().published
                made = []
                for chunk, its in chunks:
                    ids = [station.id for station in chunk]
                    history, ages = store.history(ids, origin), store.ages(ids, origin)
                    asked = time.perf_counter()
                    made.append(nowcaster.forecast(chunk, history, ages, origin, origin + 5, group=its))
                    inference += time.perf_counter() - asked
                    for forecast in made[-1]:
                        publishing.forecast(forecast)
                wait(lambda: publishing.health().published >= before + len(stations))
                published = time.perf_counter() - began
                for forecasts in made:
                    history = store.history([forecast.station for forecast in forecasts], origin)
                    baselines = beside(forecasts, history, scored_leads(len(stations)))
                    for forecast, others in zip(forecasts, baselines, strict=True):
                        store.add_forecast(forecast, others)
                store.commit()
                return inference, published, time.perf_counter() - began

            run(model)
            print(f"resident {memory_mb()[0]:.0f} MB, at most {memory_mb()[1]:.0f} MB, after the model's first round")
            took = np.array([run(model) for _ in range(args.repeat)])
            baseline = np.array([run(persistence) for _ in range(args.repeat)])
            print(f"{args.stations} stations in chunks of {args.chunk}")
            show("inference", took[:, 0], baseline[:, 0], "anomaly persistence")
            show("store to acknowledged forecasts", took[:, 1], baseline[:, 1], "anomaly persistence")
            show("until they are kept with their baselines", took[:, 2], baseline[:, 2], "anomaly persistence")


if __name__ == "__main__":
    main()
