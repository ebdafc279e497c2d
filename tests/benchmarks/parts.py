"""What the benchmarks share: a bundle, a filled store, a broker, and how a figure is printed."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from edge_agent.bundle.reader import default_bundle, read_bundle
from edge_agent.clock import ReplayClock
from edge_agent.config import Config, Forecast, Mqtt, Station
from edge_agent.config import Store as StoreConfig
from edge_agent.demo.broker import broker
from edge_agent.forecast.nowcast import Nowcaster
from edge_agent.inference.onnx import OnnxSession
from edge_agent.observation import Flag, Judged, Observation, Verdict
from edge_agent.publish.mqtt import Publisher
from edge_agent.store import Store

START = 1_700_006_400  # a midnight


def arguments(description: str | None) -> argparse.ArgumentParser:
    """A parser with the options all benchmarks have."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--bundle", type=Path, default=default_bundle(), help="default: the one shipped with the agent")
    parser.add_argument("--repeat", type=int, default=30)
    return parser


def nowcasters(bundle: Path) -> tuple[Nowcaster, Nowcaster]:
    """(with the bundle, anomaly persistence in numpy: the baseline)."""
    loaded = read_bundle(bundle)
    about = loaded.manifest
    print(f"bundle {about.name} {about.version}, {about.precision}, {len(loaded.model)} bytes")
    return Nowcaster(OnnxSession(loaded)), Nowcaster(None)


def fill(store: Store, station: str, days: int, cadence_s: int) -> int:
    """Readings of a plausible station up to the end of `days` days; the time of the last one."""
    rng = np.random.default_rng(0)
    times = range(START, START + days * 86_400 + 1, cadence_s)
    noise = rng.normal(size=(len(times), 3))
    good = {}
    for seq, t in enumerate(times):
        wave = float(np.cos((t - START) * 2 * np.pi / 86_400))
        a, b, c = noise[seq]
        values = {
            "temperature": 12 - 5 * wave + 0.2 * a, "humidity": 70 + 15 * wave + b, "pressure": 1010 + 0.1 * c,
            "wind_speed": 3 + abs(a), "wind_gust": 5 + 2 * abs(b), "wind_direction": 200 + 20 * c, "rain": 0.0,
        }  # fmt: skip
        good = good or {name: Verdict(Flag.GOOD) for name in values}
        store.add(Judged(Observation(station, "roof", t, values, "boot", seq), good))
    store.commit()
    return times[-1]


@contextmanager
def publisher(folder: Path, stations: list[Station], now: int) -> Iterator[Publisher]:
    """Connected to a broker of its own; it is `now` there, so that no forecast has expired."""
    clock = ReplayClock(now)
    with broker(folder) as running:
        mqtt = Mqtt(host=running.host, port=running.port, protocol=running.protocol)
        config = Config(station=stations, store=StoreConfig("unused"), mqtt=mqtt, forecast=Forecast())
        publishing = Publisher(config, clock)
        publishing.start()
        wait(lambda: publishing.health().connected)
        wait(lambda: publishing.health().in_flight == 0)
        try:
            yield publishing
        finally:
            publishing.stop()


def wait(met: Callable[[], bool], limit_s: float = 60.0) -> None:
    """Poll every 0.2 ms. Raises TimeoutError."""
    end = time.perf_counter() + limit_s
    while not met():
        if time.perf_counter() > end:
            raise TimeoutError(f"nothing happened in {limit_s:.0f} s")
        time.sleep(0.0002)


def seconds(action: Callable[[], object], repeat: int) -> np.ndarray:
    """How long each of `repeat` runs takes, after one to warm up."""
    action()
    took = []
    for _ in range(repeat):
        began = time.perf_counter()
        action()
        took.append(time.perf_counter() - began)
    return np.array(took)


def show(what: str, took: np.ndarray, baseline: np.ndarray, named: str) -> None:
    """One figure with its ratio to the baseline. Both in seconds."""
    middle, slow = (1000 * float(np.percentile(took, p)) for p in (50, 95))
    base = 1000 * float(np.median(baseline))
    print(f"{what}: {middle:.1f} ms (95 %: {slow:.1f} ms), {middle / base:.2f} x {named} ({base:.1f} ms)")
