"""Verdicts that need later readings: what they change, and that they only make it worse."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.observation import Flag
from edge_agent.quality import checks, limits
from edge_agent.quality.triple import Triple
from tests.quality.stations import DAY, STEP_S, flags, judge, ordinary

CLEAN = ordinary(3)
ROW = 2 * DAY + 20


def shifted(name: str, by: float, rows: range) -> list[dict[str, float]]:
    found = [dict(row) for row in CLEAN]
    for row in rows:
        found[row][name] = round(found[row][name] + by, 2)
    return found


def test_an_ordinary_station_is_never_revised() -> None:
    assert all(not one.revisions for one in judge(CLEAN))


@pytest.mark.parametrize(
    ("name", "by"), [("temperature", 2.6), ("temperature", -2.7), ("humidity", 14), ("pressure", 1.1)]
)
def test_a_spike_too_small_for_a_step_is_known_when_it_came_back(name: str, by: float) -> None:
    judged = judge(shifted(name, by, range(ROW, ROW + 1)))
    assert judged[ROW].verdicts[name].flag == Flag.GOOD  # as it came
    told = flags(judged, name)
    assert told[ROW] == Flag.SUSPECT
    assert set(told[:ROW] + told[ROW + 1 :]) == {1}


def test_a_spike_beyond_nature_fails_and_its_neighbours_stay_good() -> None:
    told = flags(judge(shifted("temperature", 25.0, range(ROW, ROW + 1))), "temperature")
    assert told[ROW] == Flag.FAIL
    assert set(told[:ROW] + told[ROW + 1 :]) == {1}


def test_a_step_that_stays_is_no_spike() -> None:
    told = flags(judge(shifted("temperature", 2.6, range(ROW, len(CLEAN)))), "temperature")
    assert set(told) == {1}


@pytest.mark.parametrize(("name", "by"), [("temperature", 8.0), ("pressure", -6.0), ("humidity", -45.0)])
def test_what_lies_between_a_jump_and_one_back_is_off(name: str, by: float) -> None:
    rows = range(ROW, ROW + 40)
    told = flags(judge(shifted(name, by, rows)), name)
    assert {told[row] for row in rows} == {3}
    assert set(told[: rows.start] + told[rows.stop :]) == {1}


def test_two_spikes_hours_apart_say_nothing_of_what_lies_between() -> None:
    rows = [dict(row) for row in CLEAN]
    rows[ROW]["temperature"] += 8
    rows[ROW + 1]["temperature"] += 1.5  # the way back is shorter
    rows[ROW + 40]["temperature"] -= 8
    told = flags(judge(rows), "temperature")
    assert set(told[ROW + 2 : ROW + 40]) == {1}


def test_a_stuck_value_is_doubted_from_its_beginning() -> None:
    rows = [dict(row) for row in CLEAN]
    for row in range(ROW, ROW + 60):
        rows[row]["temperature"] = rows[ROW]["temperature"]
    judged = judge(rows)
    assert judged[ROW + 20].verdicts["temperature"].flag == Flag.GOOD
    assert set(flags(judged, "temperature")[ROW + 1 : ROW + 60]) == {3}


def test_more_rain_than_falls_is_a_counter_that_wrapped() -> None:
    rows = [dict(row, rain=0.2 if i % 50 == 0 else 0.0) for i, row in enumerate(CLEAN)]
    rows[ROW]["rain"], rows[ROW + 5]["rain"] = 51.2, -51.0
    verdicts = [row.verdicts["rain"] for row in judge(rows)]
    assert (verdicts[ROW].flag, verdicts[ROW + 5].flag) == (Flag.SUSPECT, Flag.FAIL)
    assert "counter" in verdicts[ROW].why


@given(st.floats(60, 86_400), st.floats(60, 86_400))
def test_a_longer_time_never_has_less_room_for_rain(one: float, other: float) -> None:
    short, long = sorted((one, other))
    assert limits.rain_limit(short) <= limits.rain_limit(long)
    assert checks.rain_test(limits.rain_limit(short), short) is None


@given(st.sampled_from(sorted(limits.SPIKES)), st.integers(1, 7200), st.integers(1, 7200))
def test_a_longer_span_never_has_a_smaller_limit_for_spikes(name: str, one: int, other: int) -> None:
    short, long = sorted((one, other))
    assert limits.SPIKES[name].limit(short) <= limits.SPIKES[name].limit(long) * (1 + 1e-12)


values = st.floats(-30, 45).map(lambda v: round(v, 1))


@settings(max_examples=100)
@given(st.lists(st.tuples(st.integers(1, 9000), values), min_size=2, max_size=60))
def test_revisions_speak_of_what_came_before_and_never_of_more(rows: list[tuple[int, float]]) -> None:
    from edge_agent.observation import Observation
    from edge_agent.quality import QualityControl
    from tests.quality.stations import SITE, START

    control, t, seen = QualityControl([SITE]), START, []
    for span, value in rows:
        t += span
        judged = control.judge(Observation("roof", "mast", t, {"temperature": value}, "boot", t))
        for revision in judged.revisions:
            assert revision.station == "roof" and revision.source == "mast" and revision.variable == "temperature"
            assert seen and seen[0] <= revision.start <= revision.end < t
            assert revision.verdict.flag in (Flag.SUSPECT, Flag.FAIL) and revision.verdict.why
        seen.append(t)


# --- three measurements of two things ----------------------------------------------------------------------------


def three(days: float = 4) -> list[dict[str, float]]:
    from edge_agent.quality.spatial import dew_point_of

    rows = [{"temperature": row["temperature"], "humidity": row["humidity"]} for row in ordinary(days)]
    return [row | {"dew_point": round(dew_point_of(row["temperature"], row["humidity"]) or 0.0, 1)} for row in rows]


def test_three_that_agree_are_left_in_peace() -> None:
    assert all(v.test != "consistency" for one in judge(three()) for v in one.verdicts.values())


@pytest.mark.parametrize("name", ["temperature", "humidity", "dew_point"])
def test_of_three_the_one_that_jumped_is_accused_for_as_long_as_it_stays_away(name: str) -> None:
    rows, first = three(), 3 * DAY
    for row in rows[first : first + 50]:
        row[name] += {"humidity": -30, "temperature": 7, "dew_point": -7}[name]
    judged = judge(rows)
    for other in ("temperature", "humidity", "dew_point"):
        told = {int(row.verdicts[other].flag) for row in judged[first : first + 50]}
        assert told == ({3} if other == name else {1})


def test_of_three_one_that_stands_still_is_accused() -> None:
    triple, found = Triple(), {}
    for i, row in enumerate(three(6)):
        temperature = row["temperature"] if i < 5 * DAY else 20.0
        found = triple.see(i * STEP_S, temperature, row["humidity"], row["dew_point"]) or found
    assert set(found) == {"temperature"}


@given(st.lists(st.tuples(st.floats(-300, 300), st.floats(-10, 200), st.floats(-300, 300)), max_size=50))
def test_whatever_three_come_one_of_them_is_accused_or_none(rows: list[tuple[float, float, float]]) -> None:
    triple = Triple()
    for i, row in enumerate([(15.0, 60.0, 7.3)] * 320 + rows):
        found = triple.see(i * 600, *row)
        assert set(found) <= {"temperature", "humidity", "dew_point"}
        assert all(v.flag == Flag.SUSPECT and v.threshold is not None for v in found.values())
