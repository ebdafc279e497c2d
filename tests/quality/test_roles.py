"""Columns that changed places and values in another unit: found, named, and let go of when they are over."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.observation import Flag
from edge_agent.quality import limits
from edge_agent.quality.levels import AXES, BINS, READY_H, Level
from edge_agent.quality.roles import ROLES, Roles, surprise
from edge_agent.variables import conversion
from tests.quality.stations import DAY, flags, judge, ordinary

CLEAN = ordinary(12)
FROM, TO = 9 * DAY + 50, 10 * DAY + 90


def swap(one: str, other: str) -> list[dict[str, float]]:
    rows = [dict(row) for row in CLEAN]
    for row in rows[FROM:TO]:
        row[one], row[other] = row[other], row[one]
    return rows


def test_an_ordinary_station_keeps_its_roles() -> None:
    assert all(v.test != "role" for one in judge(CLEAN) for v in one.verdicts.values())


@pytest.mark.parametrize(
    ("one", "other"),
    list(itertools.combinations(("temperature", "humidity", "pressure", "wind_speed", "wind_direction"), 2)),
)
def test_two_columns_under_each_other_s_name_are_found_and_named(one: str, other: str) -> None:
    judged = judge(swap(one, other))
    told = flags(judged, one), flags(judged, other)
    for found in told:
        assert sum(flag >= Flag.SUSPECT for flag in found[FROM:TO]) > 0.97 * (TO - FROM)
    reasons = " ".join(v.why for row in judged[FROM:TO] for v in row.verdicts.values() if v.test == "role")
    assert one in reasons and other in reasons and "swapped" in reasons


def test_the_columns_that_stayed_in_place_are_left_alone() -> None:
    judged = judge(swap("temperature", "humidity"))
    for name in ("pressure", "wind_speed", "wind_gust", "wind_direction"):
        assert set(flags(judged, name)) == {1}


def test_columns_in_order_again_are_believed_again_at_once() -> None:
    judged = judge(swap("humidity", "pressure"))
    for name in ("humidity", "pressure"):
        assert set(flags(judged, name)[TO + 1 :]) == {1}


def test_four_columns_that_moved_round_are_found_at_their_first_reading() -> None:
    names = ["temperature", "humidity", "pressure", "wind_speed"]
    rows = [dict(row) for row in CLEAN]
    for row in rows[FROM:TO]:
        row.update(dict(zip(names, [row[name] for name in names[1:] + names[:1]], strict=True)))
    judged = judge(rows)
    first = judged[FROM].verdicts
    assert all(first[name].flag == Flag.FAIL for name in names)
    assert all(set(flags(judged, name)[FROM:TO]) == {4} for name in names)


@pytest.mark.parametrize(
    ("name", "unit", "digits"), [("temperature", "degF", 1), ("pressure", "inHg", 2), ("pressure", "kPa", 2)]
)
def test_another_unit_is_named_and_every_value_of_it_doubted(name: str, unit: str, digits: int) -> None:
    factor, offset = conversion(name, unit)
    rows = [dict(row) for row in CLEAN]
    for row in rows[FROM:TO]:
        row[name] = round((row[name] - offset) / factor, digits)
    judged = judge(rows)
    told = flags(judged, name)
    assert all(flag >= Flag.SUSPECT for flag in told[FROM:TO])
    assert f"in {unit}" in judged[FROM].verdicts[name].why
    assert set(told[TO + 1 :]) == {1}


def test_a_value_in_another_unit_is_named_also_where_nothing_is_known_of_the_station() -> None:
    verdict = judge([{"pressure": 28.5, "temperature": 290.0}])[0].verdicts
    assert "in inHg it would be" in verdict["pressure"].why
    assert "in K it would be 16.9 degC" in verdict["temperature"].why


def test_a_first_summer_is_no_slip_of_units() -> None:
    """From -5 to 30 degC within five weeks: far from the past, and in degF at home in it."""
    rows = ordinary(35, winter=True)
    for i, row in enumerate(rows):
        row["temperature"] = round(row["temperature"] + 25 * i / len(rows), 1)
    assert all(v.test != "role" for one in judge(rows) for v in one.verdicts.values())


def test_a_storm_is_no_slip_of_units() -> None:
    rows = [dict(row) for row in CLEAN]
    for i, row in enumerate(rows[FROM:]):
        blow = 1 + 3 * min(i / 20, 1.0)
        row["wind_speed"], row["wind_gust"] = round(row["wind_speed"] * blow, 1), round(row["wind_gust"] * blow, 1)
    assert all(v.test != "role" for one in judge(rows) for v in one.verdicts.values())


def test_a_first_warm_rain_is_no_swap() -> None:
    """Dew points above all before while it rains as never before: both amounts were dew points, neither was rain."""
    rows = [dict(row, dew_point=round(1.5 + 1.5 * math.sin(i / 40), 1), rain=0.0) for i, row in enumerate(CLEAN)]
    for i, row in enumerate(rows[FROM:]):
        row["dew_point"] = round(row["dew_point"] + 6 * min(i / 30, 1.0), 1)
        row["rain"] = round(0.4 + 0.2 * (i % 11), 1)
    assert all(v.test != "role" for one in judge(rows) for v in one.verdicts.values())


@pytest.mark.parametrize("unit", ["degF", "K"])
def test_a_slip_of_one_reading_ends_with_it(unit: str) -> None:
    factor, offset = conversion("temperature", unit)
    rows = [dict(row) for row in CLEAN]
    rows[FROM]["temperature"] = round((rows[FROM]["temperature"] - offset) / factor, 1)
    told = flags(judge(rows), "temperature")
    assert [i for i, flag in enumerate(told) if flag != Flag.GOOD] == [FROM]


def test_a_swap_over_a_gap_is_found_by_the_station_s_past() -> None:
    """The reading before is too old to tell; the humidity of days in the column of the wind's direction does."""
    rows = swap("wind_direction", "pressure")
    for row in rows[FROM : FROM + 30]:
        row.clear()
    judged = [one for one in judge(rows) if one.observation.values]
    late = [one.verdicts["wind_direction"] for one in judged[FROM + 60 : TO - 40]]
    assert all(verdict.flag >= Flag.SUSPECT for verdict in late)


def test_a_column_that_was_never_possible_may_be_driven_out_as_well() -> None:
    """Pressure is zero from the first reading on; then the humidity moves there."""
    rows = [dict(row, pressure=0.0) for row in CLEAN]
    for row in rows[FROM:TO]:
        moved = {"pressure": row["humidity"], "humidity": row["temperature"], "temperature": row["pressure"]}
        row.update(moved)
    told = flags(judge(rows), "humidity")
    assert all(flag >= Flag.SUSPECT for flag in told[FROM:TO])


def test_evidence_that_came_slowly_is_taken_back_to_its_beginning() -> None:
    """Directions all over the circle in the humidity column, without a jump to tell it by."""
    roles = Roles()
    for i in range(14 * DAY):
        roles.see(i * 600, {"humidity": 60.0 + i % 20, "wind_direction": 150.0 + (7 * i) % 120})
    begin, revised = 14 * DAY * 600 + 4 * 3600, []
    for i in range(3 * DAY):
        _, later = roles.see(begin + i * 600, {"humidity": 101.0 + i % 3, "wind_direction": 60.0 + i % 20})
        revised += later
    names = {name for name, *_ in revised}
    assert names in (set(), {"humidity", "wind_direction"})
    assert all(start >= begin and flag.flag >= Flag.SUSPECT for _, start, _, flag in revised)


anything = st.one_of(st.floats(-300, 1e5), st.sampled_from([0.0, 1013.0, -90.0, 1e300, -1e300]))


@settings(max_examples=400)
@given(
    st.lists(st.tuples(st.integers(0, 40_000), st.dictionaries(st.sampled_from(ROLES), anything)), max_size=60),
    st.sets(st.sampled_from(ROLES)),
    st.integers(0, 30),
)
def test_whatever_comes_only_what_came_is_judged(
    rows: list[tuple[int, dict[str, float]]], known: set[str], known_days: int
) -> None:
    past = {name: Level(AXES[name]) for name in known}
    for name, level in past.items():
        for i in range(known_days):
            level.learn(CLEAN[i].get(name, 1.0), 24.0)
    roles, t = Roles(past), 0
    for span, values in rows:
        t += span
        found, revised = roles.see(t, values)
        assert found.keys() <= values.keys()
        assert {v.flag for v in found.values()} <= {Flag.SUSPECT, Flag.FAIL}
        assert all(v.test == "role" and v.why and len(v.why) < 400 for v in found.values())
        assert all(start <= end < t for _, start, end, _ in revised)


@given(st.sampled_from(ROLES), st.floats(0, 1e4), st.floats(0, 1e4), st.floats(0.1, 100))
def test_a_larger_departure_never_surprises_less(name: str, one: float, other: float, scale: float) -> None:
    if name != "wind_direction":
        small, large = sorted((one, other))
        assert surprise(name, small, scale) <= surprise(name, large, scale)
    assert (
        surprise(name, one, scale) == pytest.approx(surprise(name, -one, scale)) and surprise(name, one, scale) >= 0.0
    )


def test_north_is_near_north() -> None:
    assert surprise("wind_direction", 358.0, 15.0) == pytest.approx(surprise("wind_direction", 2.0, 15.0))


# --- levels ------------------------------------------------------------------------------------------------------


@given(st.sampled_from(["temperature", "dew_point", "humidity"]), st.lists(st.floats(5, 30), min_size=1, max_size=40))
def test_a_density_is_one_over_all_values(name: str, values: list[float]) -> None:
    level = Level(AXES[name])
    for value in values:
        level.learn(value, 12.0)
    low, width = AXES[name].low or 0.0, AXES[name].width
    total = sum(math.exp(level.log_density(low + (i + 0.5) * width)) * width for i in range(BINS))
    assert total == pytest.approx(1.0, abs=0.03)
    assert level.ready == (level.hours >= READY_H)


@given(st.lists(st.floats(-20, 35), min_size=1, max_size=200))
def test_many_values_at_once_teach_what_they_teach_one_by_one(values: list[float]) -> None:
    one, many = Level(AXES["temperature"]), Level(AXES["temperature"])
    for value in values:
        one.learn(value, 0.25)
    many.learn_many(np.array([*values, math.nan]), 0.25)
    assert many.hours == pytest.approx(one.hours)
    assert [many.log_density(v) for v in values] == pytest.approx([one.log_density(v) for v in values])


def test_every_role_has_a_grain_and_known_units() -> None:
    assert set(limits.ROLE_GRAIN) == set(ROLES) == set(AXES)
    assert set(limits.UNIT_SLIPS) <= set(ROLES)
    assert set(limits.ROLE_LEVEL_UNITS) <= set(limits.UNIT_SLIPS)
