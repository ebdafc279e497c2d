"""Observations: what is added is there, once, whole, and in order."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_agent import grid
from edge_agent.errors import StoreError
from edge_agent.observation import PERIOD, Flag, Judged, Observation, RainState, Verdict
from edge_agent.store import Store
from edge_agent.variables import VARIABLES
from tests.store.readings import DAY, elsewhere, judged

NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
VERDICTS = st.one_of(
    st.just(Verdict(Flag.GOOD)),
    st.builds(
        Verdict,
        st.sampled_from([Flag.NOT_EVALUATED, Flag.SUSPECT, Flag.FAIL]),
        st.text(max_size=5),
        st.text(max_size=20),
        st.none() | NUMBERS,
        st.none() | NUMBERS,
    ),
)


@st.composite
def observations(draw: st.DrawFn) -> Judged:
    values = draw(st.dictionaries(st.sampled_from(sorted(VARIABLES)), NUMBERS, min_size=1, max_size=6))
    observation = Observation(
        "roof",
        draw(st.sampled_from(["mast", "Ground floor, \N{SNOWFLAKE}"])),
        draw(st.integers(-2_208_988_800, 7_258_118_400)),
        values,
        draw(st.sampled_from(["boot-1", "boot-2"])),
        draw(st.integers(0, 2**40)),
        clock=draw(st.sampled_from(["synced", "holdover", "unsynced"])),
        period_s=draw(st.none() | st.integers(1, 86_400)),
        historical=draw(st.booleans()),
        rank=draw(st.integers(0, 300)),
    )
    return Judged(observation, {name: draw(VERDICTS) for name in values})


@given(one=observations())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_an_observation_comes_back_as_it_was(store: Store, path: Path, one: Judged) -> None:
    station, rows = elsewhere([one])
    assert store.add(rows[0])
    assert list(store.observations(station)) == rows  # before the commit
    store.commit()
    with Store.open(path, read_only=True) as reader:
        assert list(reader.observations(station)) == rows


def test_a_value_without_a_verdict_counts_as_not_evaluated(store: Store) -> None:
    store.add(Judged(Observation("roof", "mast", DAY, {"temperature": 1.0}, "boot", 1)))
    (one,) = store.observations("roof")
    assert one.verdicts == {"temperature": Verdict(Flag.NOT_EVALUATED)}
    assert store.newest("roof")["temperature"] == (DAY, 1.0, Flag.NOT_EVALUATED)


def test_a_value_that_is_no_number_is_missing_and_never_the_newest(store: Store) -> None:
    store.add(judged(DAY, {"temperature": 4.0}))
    store.add(judged(DAY + 10, {"temperature": math.nan, "humidity": math.inf, "rain": 0.0}))
    values = list(store.observations("roof"))[1].observation.values
    assert math.isnan(values["temperature"])
    assert math.isnan(values["humidity"])
    assert store.newest("roof") == {"temperature": (DAY, 4.0, 1), "rain": (DAY + 10, 0.0, 1)}
    assert np.isnan(store.history(["roof"], DAY + 900)[0, -1, 1])


def test_the_same_message_twice_is_one_observation(store: Store) -> None:
    assert store.add(judged(DAY, {"temperature": 1.0}), ("mqtt",))
    assert not store.add(judged(DAY, {"temperature": 2.0}, seq=7), ("mqtt",))
    assert store.add(judged(DAY, {"temperature": 2.0}, source="other"), ("mqtt",))
    first, _ = store.observations("roof")
    assert first.observation.values == {"temperature": 1.0}
    assert store.counts("mqtt").accepted == 2


def test_a_message_that_brings_another_variable_fills_the_row_up(store: Store) -> None:
    assert store.add(judged(DAY, {"temperature": 1.0}))
    assert store.add(judged(DAY, {"temperature": 9.0, "rain": 0.4}, flags={"rain": Flag.SUSPECT}))
    (one,) = store.observations("roof")
    assert one.observation.values == {"temperature": 1.0, "rain": 0.4}
    assert one.verdicts["temperature"].flag is Flag.GOOD
    assert one.verdicts["rain"].flag is Flag.SUSPECT
    assert store.newest("roof") == {"temperature": (DAY, 1.0, 1), "rain": (DAY, 0.4, 3)}
    last = store.history(["roof"], DAY)[0, -1]
    assert last[0] == 1.0
    assert last[6] == np.float32(0.4)
    assert not store.add(judged(DAY, {"rain": 0.4}))


def test_of_what_is_there_already_it_says_whether_it_is_the_same(store: Store) -> None:
    assert store.add(judged(DAY, {"temperature": 1.0, "humidity": math.nan})).kept == {"temperature", "humidity"}
    fate = store.add(judged(DAY, {"temperature": 1.0, "humidity": 50.0, "rain": math.inf}))
    assert (fate.kept, fate.same, fate.other) == ({"humidity"}, {"temperature"}, set())
    fate = store.add(judged(DAY, {"temperature": 2.0, "humidity": 50.0}))
    assert (fate.kept, fate.same, fate.other) == (set(), {"humidity"}, {"temperature"}) and not fate


def test_observations_come_by_time_then_rank_and_both_ends_count(store: Store) -> None:
    for t in (DAY + 20, DAY, DAY + 10):
        store.add(judged(t, {"rain": 0.0}, source="second", rank=1))
        store.add(judged(t, {"rain": 0.0}, source="first"))
    seen = [(j.observation.t - DAY, j.observation.source) for j in store.observations("roof", DAY, DAY + 10)]
    assert seen == [(0, "first"), (0, "second"), (10, "first"), (10, "second")]
    assert len(list(store.observations("roof"))) == 6
    assert list(store.observations("nowhere")) == []
    assert store.sources("roof") == ["second", "first"]


def test_pages_of_a_long_series_join_without_a_gap(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_agent.store.observations.PAGE_ROWS", 7)
    times = list(range(DAY, DAY + 21 * 10, 10))
    for t in times:
        store.add(judged(t, {"rain": 0.0}))
    assert [j.observation.t for j in store.observations("roof")] == times


def test_a_late_reading_does_not_become_the_newest(store: Store) -> None:
    store.add(judged(DAY + 60, {"temperature": 2.0}))
    store.add(judged(DAY, {"temperature": 1.0, "rain": 0.2}))
    assert store.newest("roof") == {"temperature": (DAY + 60, 2.0, 1), "rain": (DAY, 0.2, 1)}
    assert store.newest("nowhere") == {}


@given(
    readings=st.dictionaries(
        st.integers(0, 4 * 3600), st.tuples(st.floats(0, 30), st.booleans(), st.booleans()), max_size=60
    ),
    valid=st.lists(st.integers(0, 16).map(lambda i: 900 * i), max_size=10),
    name=st.sampled_from(["temperature", "rain", "wind_gust", "wind_direction"]),
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_came_is_what_the_grids_rule_says(
    store: Store, readings: dict[int, tuple[float, bool, bool]], valid: list[int], name: str
) -> None:
    """Failed values do not verify. The rule is asked about all readings of the time in question."""
    rows = []
    for t, (value, fails, has_it) in readings.items():
        values = {name: value} if has_it else {"pressure": 1000.0}
        rows.append(judged(DAY + t, values, flags={name: Flag.FAIL} if fails and has_it else {}))
    station, rows = elsewhere(rows)
    for one in rows:
        store.add(one)
    at = DAY + np.array(valid, np.int64)
    found = store.verifying(station, name, at)
    kept = sorted((t, v) for t, (v, fails, has_it) in readings.items() if has_it and not fails)
    if valid:
        low, high = min(valid) - 3600 - grid.MATCH_S, max(valid) + grid.MATCH_S
        kept = [(t, v) for t, v in kept if low <= t <= high]
    times = DAY + np.array([t for t, _ in kept], np.int64)
    expected = grid.verifying(times, np.array([v for _, v in kept], float), name, at)
    np.testing.assert_array_equal(found, expected)


def test_the_better_source_verifies_and_the_other_stands_in(store: Store) -> None:
    store.add(judged(DAY, {"rain": 5.0}, source="worse", rank=1))
    store.add(judged(DAY, {"temperature": 20.0}, source="worse", rank=1, seq=2))
    store.add(judged(DAY, {"temperature": 10.0}, source="better"))
    store.add(judged(DAY + 900, {"temperature": 21.0}, source="worse", rank=1))
    came = store.verifying("roof", "temperature", np.array([DAY, DAY + 900, DAY + 1800]))
    np.testing.assert_array_equal(came, [10.0, 21.0, np.nan])
    assert np.isnan(store.verifying("nowhere", "rain", np.array([DAY]))).all()


def test_a_new_reading_changes_what_came(store: Store) -> None:
    at = np.array([DAY])
    assert np.isnan(store.verifying("roof", "temperature", at)).all()
    store.add(judged(DAY, {"temperature": 3.0, "dew_point": 3.0}))
    assert store.verifying("roof", "temperature", at)[0] == 3.0
    assert store.verifying("roof", "humidity", at)[0] == 100.0


def test_the_newest_of_a_source_is_its_own(store: Store) -> None:
    assert store.newest_of("roof", "mast") is None
    for source, t in (("mast", 600), ("mast", 300), ("garden", 900)):
        observation = Observation("roof", source, DAY + t, {"temperature": 1.0}, "boot-1", t)
        store.add(Judged(observation, {}))
    assert store.newest_of("roof", "mast") == DAY + 600
    assert store.newest_of("roof", "none") is None


# --- running totals ------------------------------------------------------------------------------------------------

TOTAL = {"rain": RainState(0.2, (12.4, float(DAY)), True)}


def test_how_totals_stand_is_kept_with_the_reading(path: Path) -> None:
    with Store.open(path) as store:
        store.add(judged(DAY, {"rain": 0.2}), (), TOTAL)
        store.add(judged(DAY, {"rain": 0.2}, station="hill"), (), {"rain": RainState(1.0, (3.0, float(DAY)))})
        assert store.rain_totals() == {}
        store.commit()
        store.add(judged(DAY, {"rain": 0.4}), (), {"rain": RainState(0.2, (99.0, float(DAY)))})  # a duplicate
    with Store.open(path) as store:
        found = store.rain_totals()
        assert found["mast"]["roof", "rain"] == TOTAL["rain"]
        assert found["mast"]["hill", "rain"].last == (3.0, DAY)


def test_totals_go_with_the_readings_of_a_lost_transaction(store: Store) -> None:
    """Rain of readings that are gone is counted again from the total before them."""
    store.add(judged(DAY, {"rain": 0.2}), (), TOTAL)
    store.commit()
    c = store._connection
    c.read(f"PRAGMA max_page_count={c.read('PRAGMA page_count')[0][0] + 2}")
    with pytest.raises(StoreError):
        for n in range(1, 10_000):
            store.add(judged(DAY + n, {"rain": 0.2}), (), {"rain": RainState(0.2, (12.4 + n, float(DAY + n)))})
    c.read("PRAGMA max_page_count=1000000")
    store.add(judged(DAY + 20_000, {"temperature": 1.0}))
    store.commit()
    assert store.rain_totals() == {"mast": {("roof", "rain"): TOTAL["rain"]}}


def test_rain_that_gathered_over_hours_is_kept_and_is_no_steps_own(store: Store) -> None:
    for n in range(20):
        store.add(judged(DAY + 600 * n, {"rain": 0.1, "temperature": 1.0}))
    t = DAY + 5 * 3600
    late = judged(t, {"rain": 12.4, "temperature": 2.0})
    verdicts = {**late.verdicts, "rain": Verdict(Flag.NOT_EVALUATED, PERIOD, "fell over 2 h", None, 12.4)}
    store.add(Judged(late.observation, verdicts))
    rain, temperature = grid.GRID_VARIABLES.index("rain"), grid.GRID_VARIABLES.index("temperature")
    last = store.history(["roof"], t)[0, -1]
    assert np.isnan(last[rain]) and last[temperature] == 2.0
    assert np.isnan(store.verifying("roof", "rain", np.array([t]))[0])
    assert store.verifying("roof", "temperature", np.array([t]))[0] == 2.0
    assert [one.observation.values["rain"] for one in store.observations("roof", t)] == [12.4]
    assert store.newest("roof")["rain"] == (t, 12.4, Flag.NOT_EVALUATED)


@given(times=st.lists(st.integers(0, 40), unique=True), rows=st.integers(0, 45), start=st.integers(0, 41))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_newest_so_many_are_all_from_their_first_time_on(
    store: Store, times: list[int], rows: int, start: int
) -> None:
    """Of all sources together; a second less would be one too many."""
    made = [judged(DAY + t, {"temperature": 1.0}, source=f"source-{t % 2}") for t in times]
    station, placed = elsewhere(made)
    for one in placed:
        store.add(one)
    first = store.first_of_newest(station, rows, DAY + start)
    later = list(store.observations(station, first))
    assert first >= DAY + start and len(later) <= rows
    assert first == DAY + start or len(list(store.observations(station, first - 1))) > rows
