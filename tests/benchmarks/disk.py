"""What the store takes and writes on disk, for one station and for a gateway: forecasts with their baselines, and the
agent's own status.

    python tests/benchmarks/disk.py [--stations 1000] [--rounds 8]

Forecasts are the bundle's, from noisy readings. Their baseline is the same numbers in single precision; that of the
status is all of it, every minute. Bytes written are those this process handed to the system, write-ahead log and
checkpoints included.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
from parts import START, arguments, fill, nowcasters

from edge_agent.config import Station
from edge_agent.forecast import LEADS_S, Forecast
from edge_agent.forecast.baselines import beside
from edge_agent.heartbeat import Heartbeat
from edge_agent.observation import Flag
from edge_agent.publish.payloads import status_payload
from edge_agent.publish.structs import StatusPayload
from edge_agent.sensors import Health
from edge_agent.store import Store
from edge_agent.store.store import KEEP_FORECAST_DAYS, KEEP_QUANTILE_DAYS
from edge_agent.verification import LATE_S, scored_leads

DAY_S = 86_400
A_DAY = 96  # forecasts of a station
PENDING = (LEADS_S[-1] + LATE_S) // 900 + 1  # origins that wait to be scored
MINUTES = 60  # of status, of which a day is made


def written() -> int:
    """Bytes this process has handed to the system so far."""
    lines = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(lines["wchar"])


def made(bundle: Path, leads_s: Sequence[int]) -> list[tuple[Forecast, list[Forecast]]]:
    """A day of forecasts of one station, with their baselines."""
    model, _ = nowcasters(bundle)
    station = Station("bench", 50.98, 3.82, 20.0)
    with tempfile.TemporaryDirectory() as name, Store.open(Path(name) / "past.sqlite") as store:
        end = fill(store, station.id, 32, 600) // 900 * 900
        found = []
        for origin in range(end - DAY_S, end, 900):
            history, ages = store.history([station.id], origin), store.ages([station.id], origin)
            (forecast,) = model.forecast([station], history, ages, origin, origin + 5)
            found.append((forecast, beside([forecast], history, leads_s)[0]))
    return found


def forecasts(stations: int, rounds: int, day: list[tuple[Forecast, list[Forecast]]]) -> None:
    """Print what forecasts take, by what is kept of them and for how long."""
    with tempfile.TemporaryDirectory() as name, Store.open(Path(name) / "bench.sqlite") as store:

        def add(with_quantiles: bool, with_baselines: bool, first: int) -> float:
            """Bytes a forecast adds to the file."""
            before = size(store)
            for n in range(rounds):
                for i in range(stations):
                    forecast, others = day[(n + i) % len(day)]
                    own = forecast if with_quantiles else without_quantiles(forecast)
                    at = {"station": f"station-{i:04}", "origin": first + n * 900}
                    store.add_forecast(replace(own, **at), [replace(o, **at) for o in others if with_baselines])
                store.commit()
            return (size(store) - before) / rounds / stations

        add(True, True, START)  # so that tables and pages are there
        bare = add(False, False, START + DAY_S)
        whole = add(True, False, START + 2 * DAY_S)
        pending = add(True, True, START + 3 * DAY_S) - whole
    single = 4 * sum((1 + len(v.quantiles)) * len(v.mean) for v in day[0][0].variables.values())
    print(f"a forecast: {whole:.0f} bytes, {whole / single:.2f} x single precision ({single}); {bare:.0f} after a day")
    print(f"its baselines, until they are scored: {pending:.0f} bytes")
    kept = A_DAY * (KEEP_QUANTILE_DAYS * whole + (KEEP_FORECAST_DAYS - KEEP_QUANTILE_DAYS) * bare) + PENDING * pending
    print(f"{stations} stations: {stations * kept / 1e6:.1f} MB in {KEEP_FORECAST_DAYS} days")


def size(store: Store) -> int:
    """Bytes of the pages in use."""
    ((pages,),) = store._connection.read("PRAGMA page_count")
    ((free,),) = store._connection.read("PRAGMA freelist_count")
    return 4096 * (pages - free)


def without_quantiles(forecast: Forecast) -> Forecast:
    variables = {name: replace(v, quantiles=None) for name, v in forecast.variables.items()}
    return replace(forecast, variables=variables)


def say(name: str, minute: int) -> StatusPayload:
    """A station whose sensor has taken a reading every ten seconds."""
    n = 6 * minute
    sensor = Health(f"sensor-{name}", "mqtt_json", "reading", "", n, {"nan": n // 100}, float(START + 60 * minute), 0)
    return status_payload(
        START + 60 * minute, uptime_s=60 * minute, clock="synced", sensors=[sensor], outbox={}, forecast=None,
        flags={Flag.GOOD: 7 * n}, lost={"duplicate": minute}, rss_mb=120.0, store_mb=900.0,
    )  # fmt: skip


def status(stations: int) -> None:
    """Print what an hour of status writes, as a day."""
    names = [f"station-{n:04}" for n in range(stations)]

    def a_day(keep: Callable[[Store, dict[str, StatusPayload]], None]) -> float:
        with tempfile.TemporaryDirectory() as name, Store.open(Path(name) / "bench.sqlite") as store:
            keep(store, {name: say(name, 0) for name in names})
            store.commit()
            before = written()
            for minute in range(1, MINUTES + 1):
                keep(store, {name: say(name, minute) for name in names})
                store.commit()
            store._connection.read("PRAGMA wal_checkpoint(TRUNCATE)")
            return (written() - before) * 1440 / MINUTES / 1e6

    hearts: dict[int, Heartbeat] = {}
    ours = a_day(lambda store, said: hearts.setdefault(id(store), Heartbeat(store)).keep(said))
    everything = a_day(lambda store, said: store.set("status", msgspec.json.encode(said).decode()))
    print(f"status of {stations}: {ours:.0f} MB a day, {ours / everything:.3f} x all of it ({everything:.0f} MB)")


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--stations", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=8)
    args = parser.parse_args()
    for stations, rounds in ((1, A_DAY), (args.stations, args.rounds)):
        print(f"-- {stations} stations")
        forecasts(stations, rounds, made(args.bundle, scored_leads(stations)))
        status(stations)


if __name__ == "__main__":
    main()
