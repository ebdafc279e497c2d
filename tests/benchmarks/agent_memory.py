"""Memory of a one-station agent with 30 days of 10-second readings, after forecasts, with its sensor and its broker.

    python tests/benchmarks/agent_memory.py [--seconds 40]

The agent runs at 60 times the pace in a process of its own. The baseline is a process that imports the same
libraries and does nothing.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

CONFIG = """\
station = {{ id = "bench", latitude = 50.98, longitude = 3.82, elevation_m = 20 }}
store = {{ path = "bench.sqlite" }}
mqtt = {{ host = "{host}", port = {port}, protocol = "{protocol}" }}
forecast = {{ bundle = "{bundle}", allow_unsigned = true }}

[[sensor]]
name = "logger"
driver = "json_lines"
port = "{line}"
map = {{ t = {{ variable = "temperature", unit = "degC" }}, h = {{ variable = "humidity", unit = "%" }} }}
"""
LIBRARIES = "import numpy, onnxruntime, paho.mqtt.client, msgspec, sqlite_utils, serial, click"
PACE = 60.0


def agent(folder: Path, seconds: float, start: int, fields: dict[str, str]) -> None:
    """Run the agent for so many real seconds and print its memory and the levels of its forecasts as JSON."""
    from edge_agent.agent import Agent
    from edge_agent.clock import ReplayClock
    from edge_agent.config import load
    from edge_agent.demo.scene import serial_line
    from edge_agent.events import Event

    levels: list[str] = []

    def on_event(event: Event) -> None:
        if event.forecast is not None:
            levels.append(event.forecast.level.value)

    stop = threading.Event()
    with serial_line() as (port, write):
        path = folder / "agent.toml"
        path.write_text(CONFIG.format(line=port, **fields))
        running = threading.Thread(target=Agent(load(path), ReplayClock(start, PACE), on_event).run, args=(stop,))
        running.start()
        for _ in range(int(seconds * PACE / 10)):
            write(b'{"t": 12.5, "h": 71}')
            stop.wait(10 / PACE)
        memory = memory_mb()
        stop.set()
        running.join()
    print(json.dumps([*memory, levels]))


def memory_mb() -> tuple[float, float]:
    """(resident now, most so far) of this process, MB (1e6 bytes)."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    now, most = (int(lines[name].split()[0]) * 1024 / 1e6 for name in ("VmRSS", "VmHWM"))
    return now, most


def spawn(code: str) -> list[object]:
    """What a fresh interpreter prints last, as JSON; this file can be imported in it."""
    child = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n{code}"]
    done = subprocess.run(child, stdout=subprocess.PIPE, text=True, check=True)
    return list(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    from parts import arguments, fill

    from edge_agent.demo.broker import broker
    from edge_agent.store import Store

    parser = arguments(__doc__)
    parser.add_argument("--seconds", type=float, default=40.0, help="real ones")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with Store.open(folder / "bench.sqlite") as store:
            start = fill(store, "bench", 30, 10) + 1
        with broker(folder) as running:
            fields = {"host": running.host, "port": str(running.port), "protocol": running.protocol}
            fields["bundle"] = str(args.bundle.resolve())
            called = f"agent_memory.agent(pathlib.Path({name!r}), {args.seconds}, {start}, {fields!r})"
            now, most, levels = spawn(f"import agent_memory, pathlib\n{called}")
        base = spawn(f"{LIBRARIES}\nimport agent_memory, json\nprint(json.dumps(agent_memory.memory_mb()))")
    print(f"forecasts: {', '.join(map(str, levels))}")
    print(f"agent: {now:.0f} MB resident, at most {most:.0f} MB")
    print(f"       {now / base[0]:.2f} x the bare imports ({base[0]:.0f} MB)")


if __name__ == "__main__":
    main()
