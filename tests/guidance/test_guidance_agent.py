"""The agent itself with a background on a real HTTP server: at a full hour it publishes hours and days."""

from __future__ import annotations

import threading
from pathlib import Path

from edge_agent.clock import ManualClock, format_time
from edge_agent.forecast import Forecast, Level
from edge_agent.guidance.daily import NightOutlook
from edge_agent.publish.mqtt import Publisher
from tests.agents import Running, fill, until, write_config
from tests.guidance.test_guidance_fetch import Server
from tests.guidance.test_guidance_sources import background

NOON = 1_700_049_600  # a whole hour


def test_at_a_full_hour_the_agent_publishes_hours_and_days_from_a_background(tmp_path: Path, monkeypatch):
    hours: list[Forecast] = []
    days: list[int] = []
    monkeypatch.setattr(Publisher, "hourly", lambda self, forecast: hours.append(forecast))
    nights: list[NightOutlook] = []

    def daily(self, forecast, found, zone, told):
        nights.extend(told)
        days.append(len(found))

    monkeypatch.setattr(Publisher, "daily", daily)
    valid = [format_time(NOON + 3600 * k) for k in range(-1, 73)]
    with Server() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        server.body = background(
            issued=format_time(NOON - 3600), valid_time=valid, elevation=400.0,
            variables={"temperature": {"unit": "degC", "values": [12.0] * len(valid)}},
        )  # fmt: skip
        config = write_config(tmp_path)
        with config.open("a", encoding="utf-8") as file:
            file.write(f'[guidance]\nsources = ["background"]\nbackground_url = "{server.url}"\nallow_http = true\n')
        fill(tmp_path / "store.sqlite", NOON, 40 * 24)
        clock = ManualClock(NOON - 900 + 6)
        running = Running(config, clock)
        try:
            until(
                lambda: running.events and running._agent._forecasting._guided._asking["home"].due > 0,
                "an answer and a forecast",
            )
            clock.advance(900)
            until(lambda: days, "the days")
        finally:
            running.end()
            server.shutdown()
    assert (tmp_path / "store.sqlite.guidance").is_file()  # as it was told to stop, long before the next copy
    [forecast] = hours
    assert forecast.level is Level.FULL
    assert forecast.origin == NOON and forecast.leads_s[-1] == 72 * 3600
    assert forecast.variables["temperature"].mean is not None
    assert days == [3]
    assert {*forecast.events} == {"frost"} and forecast.events["frost"].max() < 0.5
    assert [(night.start, {*night.events}) for night in nights] == [
        (NOON + 5 * 3600 + 86_400 * k, {"frost"}) for k in range(3)
    ]
