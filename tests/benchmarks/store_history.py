"""How long the store takes to hand 30 days of many stations to a bundle, and how much memory: `make bench`, or

    python tests/benchmarks/store_history.py [--stations 1000] [--chunk 64] [--cadence 600]

The baseline beside it is the least that has to happen: reading the same packed days and copying them into an array.
"""

from __future__ import annotations

import argparse
import resource
import sqlite3
import tempfile
import time
from pathlib import Path

import numpy as np

from edge_agent.observation import Flag, Judged, Observation, Verdict
from edge_agent.store import Store

START = 1_700_006_400  # a midnight
DAYS = 31


def fill(path: Path, stations: int, cadence_s: int) -> None:
    """One station reading by reading; the others get copies of its days."""
    with Store.open(path) as store:
        for seq, t in enumerate(range(START, START + DAYS * 86_400, cadence_s)):
            values = {
                "temperature": 10.0, "humidity": 60.0, "pressure": 1000.0, "wind_speed": 3.0, "wind_gust": 6.0,
                "wind_direction": 200.0, "rain": 0.1,
            }  # fmt: skip
            verdicts = {name: Verdict(Flag.GOOD) for name in values}
            store.add(Judged(Observation("s0", "roof", t, values, "boot", seq), verdicts))
    db = sqlite3.connect(path)
    with db:
        for i in range(1, stations):
            db.execute(
                "INSERT INTO stations (id, station, newest) SELECT ?, ?, newest FROM stations WHERE id = 1",
                (i + 1, f"s{i}"),
            )
            db.execute("INSERT INTO grid_days SELECT ?, day, cells FROM grid_days WHERE station = 1", (i + 1,))
    db.close()


def rss_mb() -> float:
    """Largest resident set so far, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stations", type=int, default=1000)
    parser.add_argument("--chunk", type=int, default=64)
    parser.add_argument("--cadence", type=int, default=600)
    args = parser.parse_args()
    names = [f"s{i}" for i in range(args.stations)]
    chunks = [names[i : i + args.chunk] for i in range(0, len(names), args.chunk)]
    origin = START + DAYS * 86_400 - 900
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bench.sqlite"
        fill(path, args.stations, args.cadence)
        base_rss = rss_mb()
        began = time.perf_counter()
        db = sqlite3.connect(path)
        for i in range(args.stations):
            rows = db.execute("SELECT cells FROM grid_days WHERE station = ?", (i + 1,)).fetchall()
            np.stack([np.frombuffer(row[0], np.uint8) for row in rows])
        db.close()
        baseline = time.perf_counter() - began
        with Store.open(path) as store:
            began = time.perf_counter()
            present = sum(float(np.isfinite(store.history(chunk, origin)).sum()) for chunk in chunks)
            took = time.perf_counter() - began
            began = time.perf_counter()
            store.ages(names, origin)
            ages = time.perf_counter() - began
        print(f"{args.stations} stations, every {args.cadence} s, {path.stat().st_size / 1e6:.0f} MB")
        print(f"history: {took:.2f} s, {took / baseline:.1f} x the bare read ({baseline:.2f} s); {present:.0f} values")
        print(f"ages: {ages:.3f} s; resident at most {rss_mb():.0f} MB, {base_rss:.0f} MB before")


if __name__ == "__main__":
    main()
