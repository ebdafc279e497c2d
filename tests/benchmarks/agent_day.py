"""A day of one station that speaks every ten seconds, as the real agent lives it: processor, memory, bytes to the disk,
flushes, wake-ups.

    python tests/benchmarks/agent_day.py [--hours 24] [--speed 288] [--idle 60]

The agent runs in a process of its own, with the shipped bundle, 30 days of past, a serial line and a broker, on a clock
that runs --speed times as fast: a day of work. What it does between readings goes with real time and is measured at
the world's pace, for --idle seconds; processor time of a day is the sum of both, extrapolated to 24 h where --hours are
fewer. The baseline is a bare logger in its place: serial line, SQLite committed once a minute, MQTT.
"""

from __future__ import annotations

import json
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import paho.mqtt.client as mqtt
from parts import START, arguments, fill
from process import AGENT, BARE, DAY_S, Disk, Figures, Watched, disk, python

from edge_agent.demo.broker import Broker, broker
from edge_agent.demo.scene import serial_line
from edge_agent.store import Store

CADENCE_S = 10
SETTLE_S = 15.0  # real seconds after the first forecast, in which what was due from before is scored
BUDGET = {"memory": 120.0, "written": 100.0, "fsyncs": 2880}
CONFIG = """\
station = {{ id = "bench", latitude = 50.98, longitude = 3.82, elevation_m = 20 }}
store = {{ path = "bench.sqlite" }}
mqtt = {{ host = "{host}", port = {port}, protocol = "{protocol}" }}

[[sensor]]
name = "logger"
driver = "json_lines"
port = "{line}"
max_messages_s = 1000
map = {{ {fields} }}
"""
FIELDS = {
    "temperature": "degC", "humidity": "%", "pressure": "hPa", "wind_speed": "m/s", "wind_gust": "m/s",
    "wind_direction": "degree", "rain": "mm",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Life:
    """What a program did: its figures when the measured part began and when it ended, `real_s` later."""

    first: Figures
    last: Figures
    real_s: float

    def of(self, name: str) -> float | None:
        """How much of a figure came in the measured part."""
        before, after = getattr(self.first, name), getattr(self.last, name)
        return None if before is None else after - before


def lines(seed: int = 0) -> Iterator[bytes]:
    """A plausible station, a line each ten seconds."""
    rng = np.random.default_rng(seed)
    n = 0
    while True:
        wave, noise = float(np.cos(n * CADENCE_S * 2 * np.pi / DAY_S)), rng.normal(size=3)
        n += 1
        yield json.dumps(
            {
                "temperature": round(12 - 5 * wave + 0.2 * noise[0], 1), "humidity": round(70 + 15 * wave + noise[1]),
                "pressure": round(1010 + 0.1 * noise[2], 1), "wind_speed": round(3 + abs(noise[0]), 1),
                "wind_gust": round(5 + 2 * abs(noise[1]), 1), "wind_direction": round(200 + 20 * noise[2]), "rain": 0.0,
            }
        ).encode()  # fmt: skip


@contextmanager
def said(running: Broker, topic: str) -> Iterator[threading.Event]:
    """Set as soon as something comes on a topic."""
    heard = threading.Event()
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
    client.on_connect = lambda *_: client.subscribe(topic)
    client.on_message = lambda *_: heard.set()
    client.connect(running.host, running.port)
    client.loop_start()
    try:
        yield heard
    finally:
        client.disconnect()
        client.loop_stop()


def live(program: Watched, write: Callable[[bytes], None], ready: threading.Event, real_s: float, speed: float) -> Life:
    """Feed it at its pace: until it is ready, some more seconds in which it settles, and then for so long."""
    pace, feed = CADENCE_S / speed, lines()
    due = time.monotonic()
    first: Figures | None = None
    began = end = 0.0
    settled: float = 0.0
    while first is None or due < end:
        write(next(feed))
        due += pace
        time.sleep(max(due - time.monotonic(), 0.0))
        settled = settled or (ready.is_set() and time.monotonic() + SETTLE_S)
        if first is None and settled and time.monotonic() >= settled:
            first, began = program.figures(), time.monotonic()
            due, end = began, began + real_s
    last, real = program.figures(), time.monotonic() - began
    program.end()
    return Life(first, last, real)


def agent(store: Path, place: Disk, running: Broker, hours: float, speed: float) -> Life:
    """With a copy of a store that has a past."""
    start = START + 30 * DAY_S + 1
    with serial_line() as (line, write), said(running, "wx/v1/bench/forecast/nowcast") as ready:
        (place.folder / "bench.sqlite").write_bytes(store.read_bytes())
        os.sync()  # these bytes are not the agent's
        fields = ", ".join(f'{name} = {{ variable = "{name}", unit = "{unit}" }}' for name, unit in FIELDS.items())
        where = {"host": running.host, "port": running.port, "protocol": running.protocol}
        config = place.folder / "agent.toml"
        config.write_text(CONFIG.format(line=line, fields=fields, **where))
        program = Watched(python(AGENT, config, start, speed), place, log_of(store.parent, speed))
        return live(program, write, ready, hours * 3600 / speed, speed)


def bare(folder: Path, place: Disk, running: Broker, hours: float, speed: float) -> Life:
    """The logger in its place."""
    with serial_line() as (line, write), said(running, "bare/ready") as ready:
        command = python(BARE, line, place.folder, running.host, running.port)
        return live(Watched(command, place, log_of(folder, speed)), write, ready, hours * 3600 / speed, speed)


def log_of(folder: Path, speed: float) -> Path | None:
    """Where flushes are traced: not at the world's pace, where wake-ups are counted."""
    return folder / "strace" if speed > 1 else None


def lives(folder: Path, running: Broker, hours: float, speed: float) -> dict[str, Life]:
    """Both programs, each on a disk of its own."""
    found = {}
    for name in ("agent", "bare"):
        own = Path(tempfile.mkdtemp(dir=folder))
        with disk(own) as place:
            print(f"   {name}: {hours * 60:.0f} min at {speed:g} x; bytes are {place.how}", flush=True)
            if name == "agent":
                found[name] = agent(folder / "past.sqlite", place, running, hours, speed)
            else:
                found[name] = bare(folder, place, running, hours, speed)
    return found


def tell(what: str, ours: float | None, base: float | None, unit: str, budget: float | None = None) -> None:
    """A line: the figure, its ratio to the bare logger's, its budget."""
    if ours is None:
        print(f"{what}: not measured (strace is not there, or may not trace)")
        return
    ratio = f", {ours / base:.1f} x a bare logger ({base:.3g} {unit})" if base else ""
    bound = f"; budget {budget:g}: {'kept' if ours <= budget else 'MISSED'}" if budget is not None else ""
    print(f"{what}: {ours:.3g} {unit}{ratio}{bound}")


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--hours", type=float, default=24.0, help="of work, on the agent's clock")
    parser.add_argument("--speed", type=float, default=288.0, help="of that clock")
    parser.add_argument("--idle", type=float, default=60.0, help="seconds at the world's pace")
    parser.add_argument("--days", type=int, default=30, help="of past, a reading every ten seconds")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, broker(Path(name)) as running:
        folder = Path(name)
        with Store.open(folder / "past.sqlite") as store:
            fill(store, "bench", args.days, CADENCE_S)
        work = lives(folder, running, args.hours, args.speed)
        idle = lives(folder, running, args.idle / 3600, 1.0)
    day, rest = 24 / args.hours, DAY_S / idle["agent"].real_s
    per_day: dict[str, dict[str, float | None]] = {}
    for who, life in work.items():
        resting = (idle[who].of("cpu_s") or 0.0) * rest
        shared = resting * life.real_s / DAY_S  # is in both
        per_day[who] = {name: scaled(life.of(name), day) for name in ("written_mb", "fsyncs", "flushes")}
        per_day[who]["cpu_s"] = (life.of("cpu_s") or 0.0) * day + resting - shared * day
    ours, base = per_day["agent"], per_day["bare"]
    print(f"a day at {CADENCE_S} s, of {args.hours:g} h at {args.speed:g} x and {args.idle:g} s at the world's pace:")
    tell("processor", ours["cpu_s"], base["cpu_s"], "s")
    tell("memory", work["agent"].last.rss_mb, work["bare"].last.rss_mb, "MB", BUDGET["memory"])
    tell("bytes to the disk", ours["written_mb"], base["written_mb"], "MB", BUDGET["written"])
    tell("fsyncs", ours["fsyncs"], base["fsyncs"], "a day", BUDGET["fsyncs"])
    tell("flushes by the device", ours["flushes"], base["flushes"], "a day")
    woken = [(life.of("switches") or 0.0) / life.real_s for life in (idle["agent"], idle["bare"])]
    tell("wake-ups of all threads", woken[0], woken[1], "a second")


def scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


if __name__ == "__main__":
    main()
