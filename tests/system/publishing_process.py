"""A publisher in a process of its own, for tests that kill it: host, port and station id as arguments."""

from __future__ import annotations

import sys
import time

from edge_agent.clock import SystemClock
from edge_agent.config import Config, Mqtt, Station, Store
from edge_agent.publish.mqtt import Publisher

if __name__ == "__main__":
    host, port, station = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    where = Station(id=station, latitude=0, longitude=0, elevation_m=0)
    publisher = Publisher(Config(where, Store("unused"), Mqtt(host=host, port=port)), SystemClock())
    publisher.start()
    time.sleep(60)
