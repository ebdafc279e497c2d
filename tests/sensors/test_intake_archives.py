"""A device's archive, caught up: no rain twice, none lost."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_agent.clock import ManualClock
from edge_agent.observation import Reading
from edge_agent.sensors.mapping import Count, uncounted
from edge_agent.sensors.source import Intake
from tests.sensors.conftest import NOW

MAP = {"t": ("temperature", "degC")}


@dataclass
class Said:
    """A decoder whose messages are the readings themselves."""

    readings: list[Reading]
    detects_cuts: bool = True

    def decode(self, payload: bytes, count: Count = uncounted) -> list[Reading]:
        return [self.readings[int(payload)]]


@pytest.fixture
def hand_on(make_sensor):
    """Hands readings on, a minute apart; (what came of them, the intake)."""

    def hand_on(readings: list[Reading], newest: float | None = None) -> tuple[list[Reading], Intake]:
        came: list[Reading] = []
        clock = ManualClock(NOW)
        sensor = make_sensor("json_lines", MAP)
        intake = Intake(sensor, Said(readings), lambda s, r, t: not came.append(r), clock, ["home"], newest=newest)
        for n in range(len(readings)):
            intake.message(str(n).encode())
            clock.advance(60)
        return came, intake

    return hand_on


def live(total: float) -> Reading:
    return Reading({"temperature": 1.0}, totals={"rain": total})


def kept(minutes: float, rain: float, period_s: int = 300) -> Reading:
    """A record that ends so many minutes after NOW."""
    return Reading({"rain": rain}, int(NOW + minutes * 60), period_s=period_s, historical=True)


def test_rain_that_an_archive_has_told_is_not_counted_again_with_the_running_total(hand_on):
    came, intake = hand_on([live(10), live(10), live(11), kept(3, 0.2), kept(8, 0.4), kept(9, 0.6, 60), live(13)])
    assert [r.values.get("rain") for r in came] == [None, 0.0, 1.0, 0.4, 0.6, pytest.approx(1.0)]
    assert intake.health("reading", "", 0).rejected == {"first-total": 1, "overlapping-sum": 1}


def test_an_archive_before_the_first_total_takes_nothing_from_what_follows(hand_on):
    came, _ = hand_on([kept(-5, 3.0), live(10), live(10.2)])
    assert [r.values.get("rain") for r in came] == [3.0, None, pytest.approx(0.2)]


def test_an_interval_that_began_before_the_newest_kept_reading_brings_no_sum(hand_on):
    came, _ = hand_on([kept(0, 3.0), kept(5, 2.0)], newest=NOW - 120)
    assert [r.values.get("rain") for r in came] == [2.0]


def test_rain_is_never_negative_whatever_an_archive_says(hand_on):
    came, _ = hand_on([live(10), live(10), kept(9, 5.0), live(10.2), live(10.4)])
    assert [r.values.get("rain") for r in came] == [None, 0.0, 5.0, 0.0, pytest.approx(0.2)]


def test_the_newest_reading_is_known_also_from_before_the_start_and_from_the_archive(hand_on):
    assert hand_on([])[1].newest is None
    assert hand_on([], newest=7.0)[1].newest == 7.0
    assert hand_on([live(1)], newest=7.0)[1].newest == NOW
    assert hand_on([live(1), kept(9, 1.0)])[1].newest == NOW + 540
    assert hand_on([live(1), kept(-9, 1.0)])[1].newest == NOW


def test_what_a_devices_clock_shows_is_told_and_is_no_reading(hand_on):
    came, intake = hand_on([Reading({}, device_clock=NOW + 3)])
    assert not came and intake.health("reading", "", 0).device_clock == (NOW + 3, 0.0)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tips=st.lists(st.integers(0, 9), min_size=30, max_size=60), gone=st.integers(3, 10), back=st.integers(13, 28))
def test_over_an_outage_that_an_archive_fills_every_tip_is_counted_once(make_sensor, tips, gone, back):
    """A reading a minute but between `gone` and `back`; the archive's intervals are of five minutes."""
    total = [sum(tips[: n + 1]) * 0.2 for n in range(len(tips))]
    records = [
        Reading({"rain": sum(tips[n - 4 : n + 1]) * 0.2}, int(NOW) + 60 * n, period_s=300, historical=True)
        for n in range(5, back, 5)
        if n > gone
    ]
    came: list[Reading] = []
    clock, decoder = ManualClock(NOW), Said([live(mm) for mm in total] + records)
    intake = Intake(make_sensor("json_lines", MAP), decoder, lambda s, r, t: not came.append(r), clock, ["home"])
    for n in range(len(tips)):
        if n == back:
            for record in range(len(records)):
                intake.message(str(len(tips) + record).encode())
        if not gone < n < back:
            intake.message(str(n).encode())
        clock.advance(60)
    assert sum(r.values.get("rain", 0.0) for r in came) == pytest.approx(total[-1] - total[0])
