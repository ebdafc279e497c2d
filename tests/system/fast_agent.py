"""An agent on a clock that runs fast, in a process of its own.

Arguments: agent.toml; the time (UTC seconds) that it was on that clock at a moment; that moment (UTC seconds of this
machine); how many times as fast as the world it runs.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from pathlib import Path

from edge_agent.agent import Agent
from edge_agent.clock import ReplayClock
from edge_agent.config import load
from edge_agent.events import log_event

if __name__ == "__main__":
    then, moment, speed = (float(word) for word in sys.argv[2:5])
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    clock = ReplayClock(then + (time.time() - moment) * speed, speed)
    Agent(load(Path(sys.argv[1])), clock, log_event).run(stop)
    logging.shutdown()
    os._exit(0)  # as `edge-agent run` does, and for its reason
