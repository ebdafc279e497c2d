"""A whole agent with a Davis console: what the console kept while the agent was away is in the store, once."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from edge_agent.clock import SystemClock
from edge_agent.config import load
from edge_agent.setup.check import check_sensor
from tests.agents import HOME, Kept, Running, until, write_config
from tests.sensors.vantage_console import Console, Plugged, record

pytestmark = pytest.mark.system

TOKYO = ZoneInfo("Asia/Tokyo")  # no summer time: the test may run on any day
FIVE = timedelta(minutes=5)
SENSOR = '\n[[sensor]]\nname = "vantage"\ndriver = "davis_vantage"\nport = "{port}"\n'


@pytest.fixture
def plugged(tmp_path: Path) -> Iterator[Plugged]:
    now = datetime.now(TOKYO).replace(tzinfo=None)
    last = now.replace(minute=now.minute // 5 * 5, second=0, microsecond=0)
    console = Console(now, [record(last - i * FIVE, 600 + i) for i in range(29, -1, -1)])
    console.fields["year"] = 828
    plugged = Plugged(console, tmp_path / "usb-console")
    plugged.plug()
    yield plugged
    plugged.close()


def run(config: Path) -> Kept:
    """Run until a packet has come."""
    agent = Running(config, SystemClock())
    until(lambda: agent.failure or any(not o.historical for o in agent.seen("vantage")), "a packet")
    return agent.stop()


@pytest.fixture
def config(tmp_path: Path, plugged: Plugged) -> Path:
    station = {**HOME, "timezone": "Asia/Tokyo"}
    return write_config(tmp_path, SENSOR.format(port=plugged.port), stations=(station,))


def test_the_archive_is_history_at_the_first_start_and_is_not_fetched_again(config: Path, plugged: Plugged) -> None:
    first = [judged.observation for judged in run(config).observations["home"]]
    caught_up = [o for o in first if o.historical]
    assert len(caught_up) == 30 and {o.period_s for o in caught_up} == {300}
    assert [o.values["temperature"] for o in caught_up] == pytest.approx(
        [(59.9 + i / 10 - 32) / 1.8 for i in range(30, 0, -1)]
    )
    assert any("pressure" in o.values for o in first if not o.historical)
    plugged.console.clock += timedelta(hours=1)  # so that it is asked at all
    again = [judged.observation for judged in run(config).observations["home"]]
    assert sum(o.historical for o in again) == 30


def test_check_says_what_a_console_measures_and_leaves_its_archive_alone(config: Path, plugged: Plugged) -> None:
    loaded = load(config)
    said = check_sensor(loaded.sensor[0], loaded)
    assert "temperature 20.00 degC" in said and "davis_vantage" in said
    assert b"DMPAFT" not in plugged.console.asked
