"""A gateway as the real agent: 1,000 stations at one message a minute, how long a message takes from the wire to `obs`,
and how many observations a second it takes at most.

    python tests/benchmarks/gateway.py [--stations 1000] [--seconds 120] [--rate 100] [--flood 20000] [--only PART]

All in real time, over Mosquitto, with the shipped bundle. `minute`: each station once a minute, for --seconds; the
processor, memory, bytes and flushes of the agent. `latency`: --rate messages a second from as many stations, each
stamped when it is handed to the socket and when its `obs` is back. `flood`: --flood messages as fast as they are taken
in, until the store has them, on disk. The baseline is a bare paho client on the same broker that publishes each message
again and keeps none. Telegraf, which would be another, is no Debian package.
"""

from __future__ import annotations

import json
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import paho.mqtt.client as mqtt
from parts import arguments, wait
from process import AGENT, Disk, Figures, Watched, disk, python

from edge_agent.demo.broker import Broker, broker
from edge_agent.store import Store

WINDOW = 800  # messages of the flood that are on their way at once: Mosquitto keeps 1,000 for a slow subscriber
COMMIT_S = 5
READY_S = 60.0
PARTS = ("minute", "latency", "flood")
CONFIG = """\
[store]
path = "bench.sqlite"
commit_s = {commit}
outbox_mb = 1000

[mqtt]
host = "{host}"
port = {port}

[[sensor]]
name = "radio"
driver = "mqtt_json"
topic = "raw/{{station}}"
max_messages_s = 10000
time = "at"
map = {{ t = {{ variable = "temperature", unit = "degC" }}, h = {{ variable = "humidity", unit = "%" }} }}
"""
STATION = '[[station]]\nid = "s{n:04}"\nlatitude = {lat:.3f}\nlongitude = {lon:.3f}\nelevation_m = 200\n'

# Publishes what comes on raw/+ again, below wx/v1, as the agent does, and does nothing else. Arguments: host, port.
ECHO = """
import os, signal, sys
import paho.mqtt.client as mqtt
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
client.max_queued_messages_set(0)
client.max_inflight_messages_set(1000)
def again(client, userdata, message):
    client.publish("wx/v1/" + message.topic.split("/")[1] + "/obs", message.payload, 1)
def connected(client, *rest):
    client.subscribe("raw/+", 1)
    client.publish("wx/v1/s0000/status", b"{}", 1, True)
client.on_message, client.on_connect = again, connected
client.connect(sys.argv[1], int(sys.argv[2]))
client.loop_forever()
"""


class Line:
    """The devices and the receiver: sends readings, notes when each was sent and when its `obs` came. A reading is
    known by its station and its second."""

    def __init__(self, where: Broker) -> None:
        self.sent: dict[tuple[str, int], float] = {}
        self.back: dict[tuple[str, int], float] = {}
        self.forecasts = 0
        self.ready = threading.Event()
        self._out, self._in = (self._client() for _ in range(2))
        self._in.on_message = self._on_message
        self._in.on_connect = lambda client, *_: client.subscribe([(f"wx/v1/+/{kind}", 0) for kind in KINDS])
        for client in (self._out, self._in):
            client.connect(where.host, where.port)
            client.loop_start()

    def send(self, station: str, t: int, value: float) -> None:
        payload = json.dumps({"at": t, "t": round(value, 1), "h": 71})
        self.sent[station, t] = time.perf_counter()
        self._out.publish(f"raw/{station}", payload, 1)

    def close(self) -> None:
        for client in (self._out, self._in):
            client.disconnect()
            client.loop_stop()

    def took(self) -> np.ndarray:
        """Seconds from sent to back, of what came back."""
        return np.array([self.back[key] - at for key, at in self.sent.items() if key in self.back])

    @staticmethod
    def _client() -> mqtt.Client:
        client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
        client.max_queued_messages_set(0)
        client.max_inflight_messages_set(1000)
        return client

    def _on_message(self, client: mqtt.Client, userdata: object, message: mqtt.MQTTMessage) -> None:
        now = time.perf_counter()
        _, _, station, kind = message.topic.split("/", 3)
        if kind == "status":
            self.ready.set()
        elif kind == "forecast/nowcast":
            self.forecasts += 1
        else:
            said = json.loads(message.payload)
            self.back.setdefault((station, said["at"] if "at" in said else _seconds(said["t"])), now)


KINDS = ("obs", "obs/history", "status", "forecast/nowcast")


def _seconds(text: str) -> int:
    return int(np.datetime64(text.removesuffix("Z"), "s").astype(int))


@contextmanager
def agent(place: Disk, running: Broker, stations: int) -> Iterator[tuple[Watched, Line]]:
    """Started, connected, and with its first status said."""
    text = CONFIG.format(commit=COMMIT_S, host=running.host, port=running.port)
    for n in range(stations):
        text += STATION.format(n=n, lat=46 + n // 40 * 0.05, lon=6 + n % 40 * 0.05)
    config = place.folder / "agent.toml"
    config.write_text(text)
    with watched(python(AGENT, config, time.time(), 1.0), place, running) as both:
        yield both


@contextmanager
def watched(command: list[str], place: Disk, running: Broker) -> Iterator[tuple[Watched, Line]]:
    line = Line(running)
    program = Watched(command, place)
    try:
        wait(lambda: line.ready.is_set() or program.process.poll() is not None, READY_S)
        yield program, line
    finally:
        program.end()
        line.close()


def minute(program: Watched, line: Line, stations: int, seconds: float) -> tuple[Figures, Figures]:
    """Each station once a minute; figures before and after."""
    first, began, n = program.figures(), time.monotonic(), 0
    while time.monotonic() < began + seconds:
        line.send(f"s{n % stations:04}", int(time.time()), 12 + n // stations % 7 / 5)
        n += 1
        time.sleep(max(began + n * 60 / stations - time.monotonic(), 0.0))
    time.sleep(COMMIT_S + 1)
    return first, program.figures()


def latency(line: Line, rate: int, seconds: float) -> np.ndarray:
    """Evenly spaced, each of another station; seconds from the wire to `obs`."""
    began, n = time.monotonic(), 0
    while time.monotonic() < began + seconds:
        line.send(f"s{n % rate:04}", int(time.time()) - 1, 12 + n // rate % 7 / 5)
        n += 1
        time.sleep(max(began + n / rate - time.monotonic(), 0.0))
    wait(lambda: len(line.back) >= len(line.sent) - 2, 30)
    return line.took()


def flood(line: Line, stations: int, messages: int, durable: Callable[[], int]) -> tuple[float, float]:
    """As fast as they are taken in. Observations a second until all are back, and until all are durable."""
    began, first = time.monotonic(), int(time.time()) - messages // stations - 1
    for n in range(messages):
        while len(line.sent) - len(line.back) >= WINDOW:
            time.sleep(0.002)
        line.send(f"s{n % stations:04}", first + n // stations, 12 + n // stations % 7 / 5)
    wait(lambda: len(line.back) >= messages, 300)
    back = time.monotonic()
    wait(lambda: time.sleep(0.2) or durable() >= messages, 60)
    return messages / (back - began), messages / (time.monotonic() - began)


def kept(path: Path) -> int:
    """Observations that are committed."""
    with Store.open(path, read_only=True) as store:
        ((n,),) = store.tables.connection.read("SELECT COUNT(*) FROM observations")
        return int(n)


def tell_minute(figures: tuple[Figures, Figures], stations: int, seconds: float) -> None:
    first, last = figures
    cpu, written = last.cpu_s - first.cpu_s, last.written_mb - first.written_mb
    flushes = "" if first.flushes is None or last.flushes is None else f", {last.flushes - first.flushes} flushes"
    print(f"{stations} stations once a minute, {seconds:.0f} s: {100 * cpu / seconds:.1f} % of a core, "
          f"{last.rss_mb:.0f} MB, {written:.1f} MB to the disk{flushes}")  # fmt: skip


def tell_latency(ours: np.ndarray, base: np.ndarray, rate: int) -> None:
    p50, p99, most = (1000 * float(np.percentile(ours, p)) for p in (50, 99, 100))
    echo = 1000 * float(np.percentile(base, 99))
    kept = "kept" if p99 < 100 else "MISSED"
    print(
        f"wire to obs at {rate} a second, {len(ours)} messages: 50 % {p50:.1f} ms, 99 % {p99:.1f} ms, most {most:.0f}"
    )
    print(f"   99 % is {p99 / echo:.1f} x a bare echo ({echo:.1f} ms); budget 100 ms: {kept}")


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--stations", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=120.0, help="of `minute` and of `latency` each")
    parser.add_argument("--rate", type=int, default=100, help="messages a second of `latency`")
    parser.add_argument("--flood", type=int, default=20_000, help="messages of `flood`")
    parser.add_argument("--only", choices=PARTS, action="append", help="default: all")
    args = parser.parse_args()
    for part in args.only or PARTS:
        with tempfile.TemporaryDirectory() as name, broker(Path(name)) as running, disk(Path(name)) as place:
            stations = args.rate if part == "latency" else args.stations
            with agent(place, running, stations) as (program, line):
                if part == "minute":
                    tell_minute(minute(program, line, stations, args.seconds), stations, args.seconds)
                elif part == "latency":
                    ours = latency(line, args.rate, args.seconds)
                else:
                    path = place.folder / "bench.sqlite"
                    rates = flood(line, stations, args.flood, lambda path=path: kept(path))
        if part == "minute":
            continue
        with tempfile.TemporaryDirectory() as name, broker(Path(name)) as running:
            echo = python(ECHO, running.host, running.port)
            with watched(echo, Disk(Path(name), None), running) as (_, line):
                if part == "latency":
                    tell_latency(ours, latency(line, args.rate, args.seconds), args.rate)
                else:
                    bare, _ = flood(line, stations, args.flood, lambda messages=args.flood: messages)
                    print(
                        f"flood of {args.flood}: {rates[0]:.0f} a second until published, {rates[1]:.0f} until durable"
                    )
                    print(f"   a bare echo {bare:.0f} ({bare / rates[1]:.1f} x)")


if __name__ == "__main__":
    main()
