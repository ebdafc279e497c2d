"""The part of an agent that publishes, among real brokers."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date

import msgspec
import numpy as np

from edge_agent import config as c
from edge_agent.clock import SystemClock
from edge_agent.guidance.daily import DayOutlook, NightOutlook
from edge_agent.publish.mqtt import Publisher
from edge_agent.publish.payloads import info_payload, status_payload, verify_payload
from edge_agent.publish.policy import Waits
from edge_agent.publish.topics import kind_of
from edge_agent.store import Store
from edge_agent.verification import ScoreRow
from tests.publish.samples import STATION, forecast, judged
from tests.system.subscriber import wait_for

QUICK = Waits(first=0.1, cap=0.5, stable=10.0, connect=2.0, answer=2.0)
YARD = c.Station(id="yard", latitude=1, longitude=2, elevation_m=3)


class Publishing:
    """The part of the agent that publishes: a store with an outbox, a publisher, and the main loop's turns."""

    def __init__(self, store: Store, broker: c.Mqtt, stations: list[c.Station], expiry_s: int, waits: Waits) -> None:
        config = c.Config(stations, c.Store("unused"), broker, forecast=c.Forecast(expiry_s=expiry_s))
        self.store, self.clock = store, SystemClock()
        self.publisher = Publisher(config, self.clock, waits)
        self.seq = 0
        self.publisher.start()

    def read(self, n: int = 1, station: str = "roof", source: str = "mast", *, late: bool = False) -> list[str]:
        """Readings of an hourly sensor, live or long overdue; their ids."""
        ids = []
        for _ in range(n):
            self.seq += 1
            t = int(self.clock.now()) - (10_000 if late else 3600) + self.seq
            item = judged(self.seq, t=t, station=station, source=source, period_s=3600)
            assert self.store.add(item, ("mqtt",))
            ids.append(item.observation.id)
        return ids

    def pump(self) -> int:
        return self.publisher.pump(self.store)

    def until(self, condition: Callable[[], object], what: str) -> None:
        wait_for(condition, what, self.pump)

    def connected(self) -> Publishing:
        self.until(lambda: self.publisher.health().connected, "the connection")
        return self

    def drained(self) -> None:
        self.until(lambda: self.store.counts("mqtt").queued == 0, "the outbox to be empty")


def at(broker, **options: object) -> c.Mqtt:
    return c.Mqtt(host=broker.host, port=broker.port, **options)


def ids(messages: list, *kinds: str) -> list[str]:
    """Of the observations among them, in order of arrival, each once."""
    return list(dict.fromkeys(msgspec.json.decode(m.payload)["id"] for m in messages if kind_of(m.topic) in kinds))


def publish_states(agent: Publishing, station: c.Station = STATION) -> None:
    now = int(agent.clock.now())
    status = status_payload(
        now,
        uptime_s=1,
        clock="synced",
        sensors=[],
        outbox={"mqtt": agent.store.counts("mqtt")},
        forecast=None,
        flags={},
        broker=agent.publisher.health(),
    )
    row = ScoreRow(station.id, "2024-05-01", "bundle", "temperature", 900, 4, 2.0, 3.0, 4.0, 1.0, 3)
    agent.publisher.info(station.id, info_payload(station, ["temperature"], "wx-1", "a" * 64))
    agent.publisher.status(station.id, status)
    agent.publisher.verify_daily(station.id, verify_payload("2024-05-01", [row]))
    made = forecast(station.id, origin=now - now % 900, issued=now)
    agent.publisher.forecast(made)
    agent.publisher.hourly(made)
    day = DayOutlook(date(2024, 5, 2), now, now + 86_400, {"temperature_max": (20.0, np.linspace(15.0, 25.0, 11))})
    night = NightOutlook(now, now + 43_200, {"frost": 0.25})
    agent.publisher.daily(made, [day], "UTC", [night])
