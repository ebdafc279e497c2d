"""Civil stamps as UTC by their order: days of 23, 24 and 25 hours, whatever the interval."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.sensors.civil import civil, in_order, instants

ZURICH = ZoneInfo("Europe/Zurich")
ZONES = [ZoneInfo(name) for name in ("Europe/Zurich", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "UTC")]
HOUR = 3600


def utc(*parts: int) -> int:
    return int(datetime(*parts, tzinfo=UTC).timestamp())


def test_a_stamp_means_one_instant_except_in_the_hour_that_comes_twice():
    assert instants(datetime(2024, 7, 1, 12, 0), ZURICH) == [utc(2024, 7, 1, 10)]
    assert instants(datetime(2024, 10, 27, 2, 30), ZURICH) == [utc(2024, 10, 27, 0, 30), utc(2024, 10, 27, 1, 30)]
    # the end of the summer's last hour is 3:00 on a clock that has not gone back yet
    assert instants(datetime(2024, 10, 27, 3, 0), ZURICH) == [utc(2024, 10, 27, 1), utc(2024, 10, 27, 2)]
    assert instants(datetime(2024, 10, 27, 3, 5), ZURICH) == [utc(2024, 10, 27, 2, 5)]


def test_an_hour_that_does_not_come_is_that_of_a_clock_not_yet_advanced():
    assert instants(datetime(2024, 3, 31, 2, 0), ZURICH) == [utc(2024, 3, 31, 1)]
    assert instants(datetime(2024, 3, 31, 3, 0), ZURICH) == [utc(2024, 3, 31, 1)]
    assert instants(datetime(2024, 3, 31, 2, 30), ZURICH) == [utc(2024, 3, 31, 1, 30)]


@pytest.mark.parametrize(("day", "hours"), [((2024, 3, 31), 23), ((2024, 7, 1), 24), ((2024, 10, 27), 25)])
@pytest.mark.parametrize("minutes", [1, 5, 10, 15, 30, 60])
@pytest.mark.parametrize("end_as_summer", [False, True])
def test_every_record_of_a_civil_day_gets_its_own_time(day, hours, minutes, end_as_summer):
    """`end_as_summer`: the console writes the record of the very change before it sets its clock back."""
    start = int(datetime(*day, tzinfo=ZURICH).timestamp())
    times = list(range(start, start + hours * HOUR + 1, minutes * 60))
    stamps = [civil(t, ZURICH) for t in times]
    if end_as_summer and hours == 25:
        stamps[times.index(utc(2024, 10, 27, 1))] = datetime(2024, 10, 27, 3, 0)
    assert in_order(stamps, ZURICH, None) == times
    assert in_order(stamps[1:], ZURICH, times[0]) == times[1:]


@given(
    st.sampled_from(ZONES),
    st.integers(utc(2024, 1, 1) // 300, utc(2026, 1, 1) // 300),
    st.sampled_from([1, 5, 10, 15, 30, 60]),
    st.integers(2, 40),
)
def test_where_the_one_before_is_known_an_unbroken_archive_is_read_back(zone, start, minutes, n):
    times = [start * 300 + i * minutes * 60 for i in range(n)]
    assert in_order([civil(t, zone) for t in times[1:]], zone, times[0]) == times[1:]


def test_what_follows_tells_which_of_two_hours_the_first_is_of():
    late = [datetime(2024, 10, 27, 2, 50) + i * timedelta(minutes=5) for i in range(4)]
    assert in_order(late, ZURICH, None)[0] == utc(2024, 10, 27, 1, 50)
    back = [datetime(2024, 10, 27, 2, 50), datetime(2024, 10, 27, 2, 55), datetime(2024, 10, 27, 2, 0)]
    assert in_order(back, ZURICH, None) == [utc(2024, 10, 27, 0, 50), utc(2024, 10, 27, 0, 55), utc(2024, 10, 27, 1)]


def test_a_stamp_that_is_not_later_has_no_time():
    noon = datetime(2024, 7, 1, 12, 0)
    assert in_order([noon, noon, noon - timedelta(days=9)], ZURICH, None) == [utc(2024, 7, 1, 10), None, None]
    assert in_order([], ZURICH, None) == []


@given(st.sampled_from(ZONES), st.lists(st.datetimes(datetime(2000, 1, 1), datetime(2127, 12, 31)), max_size=20))
def test_times_always_rise(zone, stamps):
    known = [t for t in in_order(stamps, zone, None) if t is not None]
    assert known == sorted(set(known))
    assert not stamps or known
