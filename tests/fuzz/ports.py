"""Random and mutated bytes at every port of a real agent: `python -m tests.fuzz.ports [--seconds 3600] [--pause 0.02]`.

The agent runs as a process with a sensor of each kind: serial lines, a Modbus and a WeatherLink device on TCP,
listeners for HTTP and UDP, MQTT topics. Beside them one good sensor speaks ten times a second. At the end the agent
must be alive, have kept every good reading, and end when it is told to; how its memory went is printed.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import tty
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import paho.mqtt.client as mqtt

from edge_agent.demo.broker import broker, free_port
from edge_agent.heartbeat import last_said
from edge_agent.store import Store
from tests.fuzz.seeds import seeds_of

ROOT = Path(__file__).resolve().parents[2]
MOST_MB = 200.0  # resident, with the shipped bundle
GOOD_S = 0.1
PAUSE_S = 0.005  # between two messages at one port
START_S = 60.0
END_S = 90.0  # what systemd gives a service
SERIAL = ("json_lines", "csv_lines", "nmea", "ultimeter", "sds011", "pms5003", "vaisala_wxt", "davis_vantage")
TOPICS = ("mqtt_json", "rtl_433", "weewx", "tasmota", "esphome", "zigbee2mqtt")
MAP = '\nmap = { "t" = { variable = "temperature", unit = "degC" } }'
MORE = {
    "json_lines": MAP, "csv_lines": MAP.replace('"t" =', '"1" ='), "mqtt_json": MAP, "esphome": MAP,
    "davis_vantage": '\noptions = { timezone = "UTC" }', "rtl_433": '\noptions = { model = "Acurite-5n1" }',
}  # fmt: skip
TOPIC = {"esphome": "noise/sensor/+/state", "zigbee2mqtt": "zigbee2mqtt/noise"}
HEAD = """\
station = {{ id = "home", latitude = 47.0, longitude = 8.0, elevation_m = 400.0 }}
store = {{ path = "store.sqlite", commit_s = 2 }}
mqtt = {{ host = "127.0.0.1", port = {port} }}
"""
SENSOR = '\n[[sensor]]\nname = "{name}"\ndriver = "{driver}"\n{place}{more}\n'


@dataclass
class Outcome:
    """`problems`: what should not have been, in words; `thrown`: messages by port; `good`: readings sent and kept;
    `heard`: messages and values that the agent took or refused, by sensor; `rss_mb`: its memory after a fifth of the
    time, at the end, and at most; `end_s`: how long it took to end when told to."""

    problems: list[str] = field(default_factory=list)
    thrown: Counter[str] = field(default_factory=Counter)
    good: tuple[int, int] = (0, 0)
    heard: Counter[str] = field(default_factory=Counter)
    rss_mb: tuple[float, float, float] = (0.0, 0.0, 0.0)
    end_s: float = 0.0


class Noise:
    """Bytes for one driver: anything, or one of its seeds with a few changes."""

    def __init__(self, driver: str, seed: int) -> None:
        self._random = random.Random(f"{driver} {seed}")
        self._seeds = seeds_of(f"driver-{driver}")

    def __call__(self) -> bytes:
        r = self._random
        if r.random() < 0.4:
            return r.randbytes(int(4 ** r.uniform(0, 6)))
        data = bytearray(r.choice(self._seeds)[1:])
        for _ in range(r.randint(0, 4)):
            at = r.randint(0, len(data))
            data[at : at + r.randint(0, 3)] = r.randbytes(r.randint(0, 3))
        return bytes(data * r.choice((1, 1, 1, 2, 50)))


@contextmanager
def cable() -> Iterator[tuple[str, Callable[[bytes], None]]]:
    """A serial port and what prints to it; what the agent says there is not heard, what it does not take is lost."""
    far, near = os.openpty()
    tty.setraw(near)
    os.set_blocking(far, False)

    def say(data: bytes) -> None:
        with suppress(BlockingIOError):
            os.read(far, 65_536)
        with suppress(BlockingIOError):
            os.write(far, data)

    try:
        yield os.ttyname(near), say
    finally:
        os.close(near)
        os.close(far)


@contextmanager
def device(noise: Callable[[], bytes]) -> Iterator[str]:
    """A device on TCP that answers every question with noise; its address."""

    def answer(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.settimeout(5)
            while connection.recv(4096):
                connection.sendall(noise())

    def serve() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)


def page(body: bytes) -> bytes:
    """An answer over HTTP, now and then none."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
    return body if len(body) % 5 == 4 else head + body


def knock(port: int, path: str, noise: Noise) -> Callable[[], None]:
    """Something at an HTTP port: now bytes of any kind, now a request whose body is noise."""

    def throw() -> None:
        body = noise()
        request = b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (path.encode(), len(body))
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=0.2) as line:
            line.sendall(body if len(body) % 3 == 0 else request + body)
            line.recv(1000)

    return throw


class Bench:
    """The agent's configuration and what throws at each of its ports."""

    def __init__(self, folder: Path, closing: ExitStack, seed: int) -> None:
        running = closing.enter_context(broker(folder))
        self.throws: dict[str, Callable[[], object]] = {}
        self.config = folder / "agent.toml"
        self._text, self._seed = HEAD.format(port=running.port), seed
        port, self.say = closing.enter_context(cable())
        self._add("good", "json_lines", f'port = "{port}"', MAP + '\ntime = "at"')
        for driver in SERIAL:
            port, say = closing.enter_context(cable())
            self._add(driver, driver, f'port = "{port}"', MORE.get(driver, ""))
            noise = self._noise(driver)
            self.throws[driver] = lambda say=say, noise=noise: say(noise())
        self._listeners(closing)
        self._devices(closing)
        client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
        client.connect(running.host, running.port)
        client.loop_start()
        closing.callback(client.loop_stop)
        closing.callback(client.disconnect)
        for driver in TOPICS:
            topic = TOPIC.get(driver, f"noise/{driver}")
            self._add(driver, driver, f'topic = "{topic}"', MORE.get(driver, ""))
            to, noise = topic.replace("+", "t"), self._noise(driver)
            self.throws[driver] = lambda to=to, noise=noise: client.publish(to, noise())
        self.config.write_text(self._text)

    def _add(self, name: str, driver: str, place: str, more: str = "") -> None:
        self._text += SENSOR.format(name=name, driver=driver, place=place, more=more)

    def _noise(self, driver: str) -> Noise:
        return Noise(driver, self._seed)

    def _listeners(self, closing: ExitStack) -> None:
        for driver, path in (("ecowitt", "/a"), ("ambient", "/b"), ("wunderground", "/c")):
            port = free_port()
            self._add(driver, driver, f'listen = "127.0.0.1:{port}"', f'\noptions = {{ path = "{path}" }}')
            self.throws[driver] = knock(port, path, self._noise(driver))
        port = free_port()
        self._add("tempest", "tempest", f'listen = "127.0.0.1:{port}"')
        udp = closing.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        noise = self._noise("tempest")
        self.throws["tempest"] = lambda: udp.sendto(noise(), ("127.0.0.1", port))

    def _devices(self, closing: ExitStack) -> None:
        where = closing.enter_context(device(self._noise("modbus")))
        options = '\noptions = { map = "renke", unit = 1, interval_s = 1, timeout_s = 0.3 }'
        self._add("modbus", "modbus", f'port = "tcp://{where}"', options)
        noise = self._noise("weatherlink_live")
        where = closing.enter_context(device(lambda: page(noise())))
        self._add("live", "weatherlink_live", f'host = "{where}"', "\noptions = { poll_s = 10 }")


def run(seconds: float, seed: int = 1, log: Path | None = None, pause_s: float = PAUSE_S) -> Outcome:
    """The whole of it, for so many seconds."""
    outcome = Outcome()
    with ExitStack() as closing:
        folder = Path(closing.enter_context(tempfile.TemporaryDirectory()))
        bench = Bench(folder, closing, seed)
        errors = log or folder / "log"
        command = [sys.executable, "-m", "edge_agent.cli", "run", "--config", str(bench.config)]
        with errors.open("wb") as told:
            agent = subprocess.Popen(command, stderr=told, stdin=subprocess.DEVNULL, cwd=ROOT)
        closing.callback(agent.wait)
        closing.callback(agent.kill)
        _wait_for_store(folder / "store.sqlite", agent)
        ending = threading.Event()
        threads = [
            threading.Thread(target=_throw, args=(name, throw, pause_s, ending, outcome))
            for name, throw in bench.throws.items()
        ]
        for thread in threads:
            thread.start()
        sent = _speak(bench.say, agent, seconds, outcome)
        ending.set()
        for thread in threads:
            thread.join(10)
        _judge(outcome, agent, folder, sent, errors)
    return outcome


def _wait_for_store(store: Path, agent: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_S
    while not store.exists():
        if agent.poll() is not None or time.monotonic() > deadline:
            raise TimeoutError("the agent did not start")
        time.sleep(0.1)
    time.sleep(2.0)  # until its ports are open


def _throw(name: str, throw: Callable[[], object], pause_s: float, ending: threading.Event, outcome: Outcome) -> None:
    while not ending.wait(pause_s):
        with suppress(OSError):  # a datagram that is too long
            throw()
            outcome.thrown[name] += 1


def _speak(say: Callable[[bytes], None], agent: subprocess.Popen[bytes], seconds: float, outcome: Outcome) -> int:
    """Good readings, and looks at the agent's memory; how many were sent."""
    began, sent, at = time.monotonic(), 0, int(time.time()) - 1_000_000
    early = now = most = 0.0
    while (age := time.monotonic() - began) < seconds and agent.poll() is None:
        say(b'{"at": %d, "t": %.1f}\n' % (at + sent, 10 + sent % 50 / 10))
        sent += 1
        if sent % 10 == 0:
            now = _rss_mb(agent.pid)
            most, early = max(most, now), now if age < seconds / 5 else early
        time.sleep(GOOD_S)
    outcome.rss_mb = (early, now, most)
    return sent


def _judge(outcome: Outcome, agent: subprocess.Popen[bytes], folder: Path, sent: int, errors: Path) -> None:
    time.sleep(1.0)
    if agent.poll() is not None:
        outcome.problems.append(f"the agent ended with {agent.returncode}")
    else:
        agent.send_signal(signal.SIGTERM)
        began = time.monotonic()
        with suppress(subprocess.TimeoutExpired):
            agent.wait(END_S)
        if agent.returncode != 0:
            outcome.problems.append(f"told to end it ended with {agent.returncode} after {END_S:.0f} s")
        outcome.end_s = time.monotonic() - began
    with Store.open(folder / "store.sqlite", read_only=True) as store:
        kept = sum(judged.observation.source == "good" for judged in store.observations("home"))
        if store.tables.connection.read("PRAGMA integrity_check") != [("ok",)]:
            outcome.problems.append("the store is damaged")
        for name, told in last_said(store, ["home"])["home"].sensors.items():
            outcome.heard[name] = told.accepted + sum(told.rejected.values())
    outcome.good = sent, kept
    if kept != sent:
        outcome.problems.append(f"{sent - kept} of {sent} good readings are not there")
    if outcome.rss_mb[2] > MOST_MB:
        outcome.problems.append(f"{outcome.rss_mb[2]:.0f} MB of memory, more than {MOST_MB:.0f}")
    said = errors.read_text(errors="replace")
    if "internal error" in said.lower() or "Traceback" in said:
        outcome.problems.append(f"an internal error: {said[said.find('Traceback') :][:2000]}")


def _rss_mb(pid: int) -> float:
    with suppress(OSError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 1e6
    return 0.0


def main() -> int:
    """0 if it stood."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pause", type=float, default=PAUSE_S, help="between two messages at one port, s")
    parser.add_argument("--log", type=Path, help="where the agent's log is kept; default: nowhere")
    chosen = parser.parse_args()
    outcome = run(chosen.seconds, chosen.seed, chosen.log, chosen.pause)
    early, now, most = outcome.rss_mb
    print(f"{outcome.thrown.total()} messages in {chosen.seconds:g} s, by port: {dict(outcome.thrown)}")
    print(f"heard by the agent, taken or refused: {dict(outcome.heard)}")
    print(f"good readings: {outcome.good[0]} sent, {outcome.good[1]} kept")
    print(f"it took {outcome.end_s:.1f} s to end")
    print(f"memory: {early:.0f} MB after a fifth of the time, {now:.0f} MB at the end, {most:.0f} MB at most")
    for problem in outcome.problems:
        print(f"FELL: {problem}")
    return 1 if outcome.problems else 0


if __name__ == "__main__":
    sys.exit(main())
