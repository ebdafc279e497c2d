"""From starting `edge-agent run` to the first reading of its serial sensor, as a subscriber receives it.

    python tests/benchmarks/agent_start.py [--repeat 10]

The sensor sends a line every 50 ms from before the start. The baseline is an interpreter that imports the libraries the
agent imports, and ends.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from agent_memory import CONFIG, LIBRARIES
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion
from parts import seconds, show, wait

from edge_agent.bundle.reader import default_bundle
from edge_agent.demo.broker import broker
from edge_agent.demo.scene import serial_line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, default=default_bundle())
    parser.add_argument("--repeat", type=int, default=10)
    args = parser.parse_args()
    first = threading.Event()
    done = threading.Event()
    with tempfile.TemporaryDirectory() as name, broker(Path(name)) as running, serial_line() as (port, write):

        def chatter() -> None:
            while not done.wait(0.05):
                write(b'{"t": 12.5, "h": 71}')

        client = Client(CallbackAPIVersion.VERSION2)
        client.on_message = lambda *_: first.set()
        client.connect(running.host, running.port)
        client.loop_start()
        client.subscribe("wx/v1/bench/obs", 1)
        path = Path(name) / "agent.toml"
        fields = {"host": running.host, "port": running.port, "protocol": running.protocol}
        path.write_text(CONFIG.format(line=port, bundle=args.bundle.resolve(), **fields))
        talking = threading.Thread(target=chatter)
        talking.start()
        took = []
        for _ in range(args.repeat):
            first.clear()
            began = time.perf_counter()
            agent = subprocess.Popen([sys.executable, "-m", "edge_agent.cli", "run", "--config", str(path)])
            wait(first.is_set)
            took.append(time.perf_counter() - began)
            agent.send_signal(signal.SIGTERM)
            agent.wait()
        done.set()
        talking.join()
        client.disconnect()
        client.loop_stop()
    bare = seconds(lambda: subprocess.run([sys.executable, "-c", LIBRARIES], check=True), args.repeat)
    show("start to first reading published", np.array(took), bare, "the bare imports")


if __name__ == "__main__":
    main()
