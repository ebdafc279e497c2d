"""What is old is deleted when time has passed, and never because a clock says so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent.clock import ManualClock
from edge_agent.observation import Judged, Observation
from edge_agent.retention import BELIEVED_AFTER, Retention
from edge_agent.store import Store
from edge_agent.timekeeping.station_clock import StationClock

NOW, DAY = 1_772_366_833, 86_400


class Years:
    """A store with a row of each of the last 80 days, and an agent's daily look at it."""

    def __init__(self, path: Path, state: str = "synced") -> None:
        self.store = Store.open(path, keep_days=90)
        for day in range(80):
            t = NOW - day * DAY
            self.store.add(Judged(Observation("roof", "mast", t, {"temperature": 1.0}, "boot", day)))
        self.machine = ManualClock(NOW, state)
        self.start()

    def start(self) -> None:
        self.clock = StationClock(self.machine)
        self.clock.look()
        self.retention = Retention(self.store, self.clock)
        self.retention.look()

    def jump(self, to: float, state: str | None = None) -> None:
        """The machine's clock is set, and stays so until the agent believes it."""
        self.machine.set(to, state)
        for _ in range(22):
            self.machine.advance(30)
            self.clock.look()

    def pass_days(self, days: int) -> None:
        for _ in range(days):
            self.machine.advance(DAY)
            self.clock.look()
            self.retention.look()

    @property
    def left(self) -> int:
        return sum(1 for _ in self.store.observations("roof"))


@pytest.fixture(params=["synced", "unsynced"])
def years(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Years]:
    years = Years(tmp_path / "store.sqlite", request.param)
    yield years
    years.store.close()


def test_what_is_older_than_its_bound_goes_as_time_passes(years: Years) -> None:
    years.pass_days(15)
    assert years.left == 80 - 4  # days 10 to 90 back


def test_a_jump_of_a_year_deletes_nothing_while_it_lasts_for_a_week(years: Years) -> None:
    years.jump(years.machine.now() + 365 * DAY)
    assert years.clock.now() > NOW + 365 * DAY
    years.pass_days(BELIEVED_AFTER - 1)
    assert years.left == 80
    years.jump(NOW + (BELIEVED_AFTER - 1) * DAY)
    years.pass_days(1)
    assert years.left == 80


def test_a_device_that_was_switched_off_for_a_year_is_believed_after_a_week(tmp_path: Path) -> None:
    years = Years(tmp_path / "store.sqlite")
    years.machine = ManualClock(NOW + 365 * DAY, "synced")
    years.start()
    years.pass_days(BELIEVED_AFTER - 1)
    assert years.left == 80
    years.pass_days(1)
    assert years.left == 0
    years.store.close()


def test_a_clock_set_back_deletes_nothing_when_it_comes_back(years: Years) -> None:
    years.jump(0.0)
    years.pass_days(2)
    years.jump(NOW + 2 * DAY, "synced")
    years.pass_days(2)
    assert years.left == 80


def test_what_waits_goes_by_the_time_that_has_passed_and_not_by_a_clock_that_jumps(years: Years) -> None:
    years.pass_days(1)
    years.machine.advance(3600)
    years.clock.look()
    assert years.retention.time() == pytest.approx(NOW + DAY + 3600, abs=1)
    years.jump(years.machine.now() + 365 * DAY)
    assert years.clock.now() > NOW + 365 * DAY
    years.machine.advance(3600)
    by = years.retention.time()
    assert by is not None and by < NOW + 2 * DAY
