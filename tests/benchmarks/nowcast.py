"""One station, 30 days of 10-second readings in the store: from the question to the forecast acknowledged by a broker.

    python tests/benchmarks/nowcast.py [--days 30] [--cadence 10]

The baseline is anomaly persistence in numpy on the same store over the same connection.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from parts import arguments, fill, nowcasters, publisher, seconds, show, wait

from edge_agent.config import Station
from edge_agent.forecast.nowcast import Nowcaster
from edge_agent.store import Store


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--cadence", type=int, default=10, help="seconds")
    args = parser.parse_args()
    model, persistence = nowcasters(args.bundle)
    station = Station("bench", 50.98, 3.82, 20.0)
    with tempfile.TemporaryDirectory() as name, Store.open(Path(name) / "bench.sqlite") as store:
        origin = fill(store, station.id, args.days, args.cadence) // 900 * 900
        print(f"{args.days} days every {args.cadence} s: {store.size_mb():.0f} MB")
        with publisher(Path(name), [station], origin) as publishing:

            def published(nowcaster: Nowcaster) -> None:
                before = publishing.health().published
                history, ages = store.history([station.id], origin), store.ages([station.id], origin)
                (forecast,) = nowcaster.forecast([station], history, ages, origin, origin + 5)
                publishing.forecast(forecast)
                wait(lambda: publishing.health().published > before)

            took, baseline = (seconds(lambda n=n: published(n), args.repeat) for n in (model, persistence))
            show("store to acknowledged forecast", took, baseline, "anomaly persistence")
        history, ages = store.history([station.id], origin), store.ages([station.id], origin)
        took, baseline = (
            seconds(lambda n=n: n.forecast([station], history, ages, origin, origin + 5), args.repeat)
            for n in (model, persistence)
        )
        show("inference alone", took, baseline, "anomaly persistence")


if __name__ == "__main__":
    main()
