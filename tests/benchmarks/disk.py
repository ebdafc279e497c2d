"""What the store takes and writes on disk, for one station and for a gateway: forecasts with their baselines, the
agent's own status, and a day of everything.

    python tests/benchmarks/disk.py [--stations 1000] [--rounds 8] [--hours 6]

Forecasts are the bundle's, from noisy readings. Their baseline is the same numbers in single precision; that of the
status is all of it, every minute. Bytes written are those this process handed to the system, write-ahead log and
checkpoints included; the baseline of a day is what was in the rows. Flushes are counted by strace where it is there.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
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
from edge_agent.observation import Flag, Judged, Observation, Verdict
from edge_agent.publish.payloads import status_payload
from edge_agent.publish.structs import StatusPayload
from edge_agent.sensors import Health
from edge_agent.store import Store
from edge_agent.store.pruning import KEEP_FORECAST_DAYS, KEEP_QUANTILE_DAYS
from edge_agent.verification import LATE_S, ScoreRow, scored_leads

DAY_S = 86_400
A_DAY = 96  # forecasts of a station
PENDING = (LEADS_S[-1] + LATE_S) // 900 + 1  # origins that wait to be scored
MINUTES = 60  # of status, of which a day is made
LONE_S, GATEWAY_S = 10, 60  # cadence of readings, of one station and of a gateway's
SCORED = 28  # rows of scores for each station and lead and quarter hour: seven variables, four sources


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


def whole(stations: int, hours: int, issued: tuple[Forecast, list[Forecast]]) -> None:
    """Print what hours of readings, publishing, status, forecasts and scores write, as a day."""
    names = [f"station-{n:04}" for n in range(stations)]
    cadence_s = LONE_S if stations == 1 else GATEWAY_S
    rows = 0
    with tempfile.TemporaryDirectory() as name, Store.open(Path(name) / "bench.sqlite") as store:
        heart = Heartbeat(store)
        before, begun = written(), START + DAY_S // 2
        for t in range(begun, begun + 3600 * hours, cadence_s):
            for station in names:
                rows += read(store, station, t, t // cadence_s)
            store.acknowledge("mqtt", [row.key for row in store.queued("mqtt", 10_000)])
            if t % 900 < cadence_s:
                rows += quarter(store, names, t // 900 * 900, issued)
            if t % 60 < cadence_s:
                heart.keep({station: say(station, (t - START) // 60) for station in names})
                store.commit(t)
        store.commit()
        store._connection.read("PRAGMA wal_checkpoint(TRUNCATE)")
        a_day = (written() - before) * 24 / hours / 1e6
    least = rows * 24 / hours / 1e6
    print(f"everything of {stations}, readings every {cadence_s} s: {a_day:.0f} MB a day, "
          f"{a_day / least:.1f} x what is in the rows ({least:.0f} MB)")  # fmt: skip


def read(store: Store, station: str, t: int, n: int) -> int:
    """Add a reading of seven variables; the bytes of its values."""
    values = {
        "temperature": 12.3 + n % 7, "humidity": 70.0 + n % 5, "pressure": 1010.1 + n % 3, "wind_speed": 3.1 + n % 4,
        "wind_gust": 5.2 + n % 6, "wind_direction": float(200 + n % 20), "rain": 0.0,
    }  # fmt: skip
    good = {name: Verdict(Flag.GOOD) for name in values}
    store.add(Judged(Observation(station, f"sensor-{station}", t, values, "boot", n), good), ("mqtt",))
    return len(msgspec.json.encode(values))


def quarter(store: Store, names: Sequence[str], origin: int, issued: tuple[Forecast, list[Forecast]]) -> int:
    """Keep a forecast of each station, and score as many; bytes of it, roughly."""
    leads = scored_leads(len(names))
    for station in names:
        at = {"station": station, "origin": origin}
        store.add_forecast(replace(issued[0], **at), [replace(other, **at) for other in issued[1]])
        day = str(origin // DAY_S)
        store.add_scores(
            ScoreRow(station, day, f"source-{i % 3}", f"variable-{i // 3}", lead, 1, 0.1, 0.1, 0.01, 0.1, 1)
            for i in range(SCORED)
            for lead in leads
        )
    store.forget_baselines(origin - LEADS_S[-1])
    return len(names) * (1800 + 124 * SCORED * len(leads) // A_DAY)


def flushes(stations: int, hours: int) -> None:
    """Print how often the same flushes, counted in a process of its own."""
    strace = shutil.which("strace")
    if strace is None or subprocess.run([strace, "-o", os.devnull, "true"], check=False).returncode:
        print("flushes: strace is not installed, or may not trace here")
        return
    with tempfile.TemporaryDirectory() as name:
        log = Path(name) / "flushes"
        command = [sys.executable, __file__, "--only-whole", "--stations", str(stations), "--hours", str(hours)]
        trace = [strace, "-f", "-e", "trace=fsync,fdatasync,sync,syncfs,msync", "-o", str(log)]
        subprocess.run([*trace, *command], check=True, stdout=subprocess.DEVNULL)
        count = sum("sync" in line and "resumed" not in line for line in log.read_text().splitlines())
    print(f"flushes of {stations}: {count * 24 / hours:.0f} a day, {count / 60 / hours:.2f} x one a minute")


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--stations", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--hours", type=int, default=6, help="of a lone station; a gateway has one")
    parser.add_argument("--only-whole", action="store_true", help="only a day of everything, of --stations")
    args = parser.parse_args()
    if args.only_whole:
        hours = args.hours if args.stations == 1 else 1
        whole(args.stations, hours, made(args.bundle, scored_leads(args.stations))[0])
        return
    for stations, rounds in ((1, A_DAY), (args.stations, args.rounds)):
        print(f"-- {stations} stations")
        day = made(args.bundle, scored_leads(stations))
        forecasts(stations, rounds, day)
        status(stations)
        whole(stations, args.hours if stations == 1 else 1, day[0])
    flushes(1, args.hours)


if __name__ == "__main__":
    main()
