"""What stands still: a sensor that is stuck, and weather that is not."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from edge_agent.config import Station
from edge_agent.observation import Flag
from edge_agent.quality import QualityControl
from tests.quality.test_quality_control import HOUR, NOON, flags, judge, lively, series


def stuck(name: str, value: float, hours: float, before: Iterable[float] = (), step_s: int = 600) -> list[int]:
    return flags(series(name, [*before, *[value] * (int(hours * HOUR / step_s) + 1)], step_s), name)


LIVELY = [12.3, 12.4, 12.1, 12.2] * 10


def test_a_stuck_thermometer_is_suspect_after_six_hours_and_not_before() -> None:
    told = stuck("temperature", 12.7, 8, LIVELY)
    first = told.index(3) - len(LIVELY)
    assert first * 600 == 6 * HOUR + 600
    assert set(told[told.index(3) :]) == {3}


def test_it_is_good_again_as_soon_as_it_moves() -> None:
    rows = series("temperature", [*[12.7] * 50, 12.8])
    assert flags(rows, "temperature")[-2:] == [3, 1]


@pytest.mark.parametrize("before", [[], [1012.0, 1013.0, 1014.0, 1013.0] * 10])
def test_pressure_in_whole_hectopascals_may_stand_still_for_most_of_a_day(before: list[float]) -> None:
    """From the first reading on: nothing has to be learned first."""
    shore = QualityControl([Station(id="roof", latitude=29.8, longitude=-84.9, elevation_m=2.0)])
    rows = series("pressure", [*before, *[1015.0] * 150])
    told = [int(j.verdicts["pressure"].flag) for j in judge(rows, shore)]
    assert set(told[: len(before) + 144]) == {1}
    assert told[-1] == 3


def test_pressure_in_tenths_may_not() -> None:
    assert stuck("pressure", 966.3, 7, [966.1, 966.2, 966.0] * 10)[-1] == 3


def test_a_sensor_in_foreign_units_shows_its_resolution_in_its_steps() -> None:
    """0.02 inHg is 0.68 hPa: no decimal grain, but no smaller step either."""
    unit = 0.02 * 33.863886667
    before = [955 + unit * k for k in (0, 1, 2, 1, 0, 1, 2, 3, 2, 1) * 5]
    assert set(stuck("pressure", 955 + 4 * unit, 10, before)) == {1}


def test_a_sensor_in_whole_degrees_fahrenheit_may_stand_still_though_some_reports_are_finer() -> None:
    before = [round((60 + k - 32) / 1.8, 1) for k in (0, 1, 2, 3, 2, 1) * 8]
    for i in range(10, 48, 12):
        before[i] = round(before[i - 1] + 0.2, 1)
    assert set(stuck("temperature", 15.6, 9, before)) == {1}


@pytest.mark.parametrize(
    ("name", "value"), [("wind_speed", 0.0), ("rain", 0.0), ("humidity", 100.0), ("solar_radiation", 0.0)]
)
def test_calm_dry_saturated_and_dark_are_weather(name: str, value: float) -> None:
    assert set(stuck(name, value, 20)) == {1}


def test_but_no_air_is_calm_for_days() -> None:
    assert stuck("wind_speed", 0.0, 80)[-1] == 3


def test_a_gap_ends_a_run() -> None:
    rows = series("temperature", [12.7] * 30) + series("temperature", [12.7] * 30, start=NOON + 30 * 600 + 3 * HOUR)
    assert set(flags(rows, "temperature")) == {1}


def test_few_equal_readings_prove_nothing() -> None:
    rows = [(NOON + i * 7100, {"temperature": 12.7}) for i in range(5)]
    assert set(flags(rows, "temperature")) == {1}


def test_a_message_that_repeats_is_noticed_within_the_hour() -> None:
    rows = lively(50)
    frozen = rows[-1][1]
    rows += [(rows[-1][0] + (i + 1) * 600, frozen) for i in range(8)]
    last = judge(rows)[-1].verdicts
    assert last["temperature"].flag == Flag.SUSPECT
    assert "the message repeats" in last["temperature"].why
    assert last["humidity"].flag == Flag.GOOD  # in whole percent it may well stand still
