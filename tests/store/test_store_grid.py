"""The 15-minute grid in the store is the one rule of `grid.on_grid`, whatever way the readings came."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_agent import grid
from edge_agent.observation import Flag, Judged
from edge_agent.store import Store
from tests.store.readings import DAY, ORIGIN, elsewhere, judged

STEPS = ORIGIN + grid.STEP_S * np.arange(1 - grid.HISTORY_STEPS, 1, dtype=np.int64)
WINDOW_S = grid.HISTORY_STEPS * grid.STEP_S
SLOW = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])


def on_grid(readings: list[Judged]) -> NDArray[np.float32]:
    """What `grid.on_grid` makes of the readings of one source, [2880, 8]."""
    rows = sorted((j.observation.t, j.usable()) for j in readings if STEPS[0] - 900 < j.observation.t <= ORIGIN)
    times = np.array([t for t, _ in rows], np.int64)
    columns = [
        grid.on_grid(times, np.array([values.get(name, np.nan) for _, values in rows]), name, STEPS)
        for name in grid.GRID_VARIABLES
    ]
    return np.stack(columns, axis=1).astype(np.float32)


@st.composite
def series(draw: st.DrawFn) -> list[Judged]:
    """One source: some cadence with jitter, gaps, bursts, missing and failed values; ends around the origin."""
    rng = random.Random(draw(st.integers(0, 2**32)))
    cadence = draw(st.sampled_from([10, 60, 300, 599, 600, 899, 900, 901, 1200, 1800, 3600, 5400]))
    jitter = draw(st.sampled_from([0, 0, 1, cadence // 3]))
    missing = draw(st.sampled_from([0.0, 0.1, 0.6]))
    t = ORIGIN + draw(st.integers(-4000, 4000)) - cadence * draw(st.integers(1, 120))
    if draw(st.booleans()):
        t -= WINDOW_S  # partly before the window
    readings: dict[int, Judged] = {}
    while len(readings) < 120 and t < ORIGIN + 4000:
        values = {name: round(rng.uniform(0, 30), 2) for name in grid.GRID_VARIABLES if rng.random() >= missing}
        flags = {name: Flag.FAIL for name in values if rng.random() < 0.05}
        if values:
            readings[t] = judged(t, values, flags=flags)
        t += max(1, cadence + rng.randint(-jitter, jitter)) + (rng.randint(0, 20_000) if rng.random() < 0.03 else 0)
    return list(readings.values())


@given(readings=series(), seed=st.integers(0, 2**32))
@SLOW
def test_history_is_what_the_grid_rule_makes_of_the_same_readings_in_any_order(
    store: Store, path: Path, readings: list[Judged], seed: int
) -> None:
    station, shuffled = elsewhere(random.Random(seed).sample(readings, len(readings)))
    for i, one in enumerate(shuffled):
        assert store.add(one)
        if i == 37:
            store.commit()
    before = store.history([station], ORIGIN)[0]
    store.commit()
    with Store.open(path, read_only=True) as reader:
        after = reader.history([station], ORIGIN)[0]
    np.testing.assert_array_equal(before, after)
    expected = on_grid(readings)
    rain = grid.GRID_VARIABLES.index("rain")
    np.testing.assert_array_equal(np.delete(before, rain, axis=1), np.delete(expected, rain, axis=1))
    np.testing.assert_allclose(before[:, rain], expected[:, rain], rtol=1e-5)  # sums in single precision


@given(readings=series(), more=series(), seed=st.integers(0, 2**32))
@SLOW
def test_a_better_source_stands_wherever_it_read_and_the_order_of_arrival_does_not_matter(
    store: Store, readings: list[Judged], more: list[Judged], seed: int
) -> None:
    def from_worse(j: Judged) -> Judged:
        flags = {name: v.flag for name, v in j.verdicts.items() if v.flag is not Flag.GOOD}
        return judged(j.observation.t, j.observation.values, source="worse", rank=3, flags=flags)

    both = [*readings, *map(from_worse, more)]
    histories = []
    for order in (both, random.Random(seed).sample(both, len(both))):
        station, rows = elsewhere(order)
        for one in rows:
            store.add(one)
        histories.append(store.history([station], ORIGIN)[0])
    np.testing.assert_allclose(*histories, rtol=1e-5)
    own = cells_of(readings)
    np.testing.assert_array_equal(histories[0][own], on_grid(readings)[own])


def cells_of(readings: list[Judged]) -> NDArray[np.bool_]:
    """True for the cells, rain apart, in which a source has a usable reading."""
    own = np.zeros((grid.HISTORY_STEPS, len(grid.GRID_VARIABLES)), bool)
    for one in readings:
        at = (int(grid.step_of(np.int64(one.observation.t))) - int(STEPS[0])) // grid.STEP_S
        if 0 <= at < grid.HISTORY_STEPS:
            for name in one.usable():
                own[at, grid.GRID_VARIABLES.index(name)] = name != "rain"
    return own


def test_an_hourly_series_is_held_for_the_hour_and_a_frequent_one_is_not(store: Store) -> None:
    for hour in range(48):
        store.add(judged(DAY - 3600 * hour, {"temperature": float(hour), "rain": 1.0}, station="hourly"))
    for ten_minutes in range(6, 300):
        store.add(judged(DAY - 600 * ten_minutes, {"temperature": 5.0}, station="often"))
    hourly, often = store.history(["hourly", "often"], DAY)
    np.testing.assert_array_equal(hourly[-9:, 0], [2, 2, 2, 2, 1, 1, 1, 1, 0][-9:])
    assert np.isfinite(hourly[-9:, 6]).sum() == 3  # a sum is never held
    np.testing.assert_array_equal(often[-5:, 0], [5.0, 5.0, np.nan, np.nan, np.nan])  # 15 minutes and no more


def test_a_step_takes_the_15_minutes_that_end_at_it(store: Store) -> None:
    for t, value in ((DAY - 900, 1.0), (DAY - 899, 2.0), (DAY, 4.0), (DAY + 1, 8.0)):
        store.add(judged(t, {"rain": value}))
    np.testing.assert_array_equal(store.history(["roof"], DAY + 900)[0, -3:, 6], [1.0, 6.0, 8.0])


def test_nothing_after_the_origin_is_in_its_history(store: Store) -> None:
    store.add(judged(DAY + 1, {"temperature": 1.0}))
    assert np.isnan(store.history(["roof"], DAY)).all()
    assert store.ages(["roof"], DAY) == [{}]


def test_humidity_is_completed_from_dew_point_where_it_was_not_measured(store: Store) -> None:
    store.add(judged(DAY, {"temperature": 20.0, "dew_point": 10.0}))
    store.add(judged(DAY + 890, {"temperature": 20.0, "dew_point": 10.0, "humidity": 40.0}))
    store.add(judged(DAY + 1800, {"temperature": 20.0, "dew_point": 10.0}, flags={"dew_point": Flag.FAIL}))
    store.add(judged(DAY + 2700, {"temperature": 20.0}))
    store.add(judged(DAY + 2700, {"dew_point": 20.0}))  # a message of its own
    humidity = store.history(["roof"], DAY + 2700)[0, -4:, 1]
    np.testing.assert_allclose(humidity, [52.5, 40.0, np.nan, 100.0], atol=0.05)
    assert "humidity" not in next(store.observations("roof")).observation.values


def test_measured_humidity_replaces_the_completed_one_of_the_same_time(store: Store) -> None:
    store.add(judged(DAY, {"temperature": 20.0, "dew_point": 10.0}))
    store.add(judged(DAY, {"humidity": 44.0}))
    assert store.history(["roof"], DAY)[0, -1, 1] == 44.0


def test_failed_and_missing_values_stay_off_the_grid_and_suspects_are_on_it(store: Store) -> None:
    values = {"temperature": 1.0, "humidity": 2.0, "pressure": 3.0, "wind_speed": 4.0}
    flags = dict(zip(values, (Flag.FAIL, Flag.MISSING, Flag.SUSPECT, Flag.NOT_EVALUATED), strict=True))
    store.add(judged(DAY, values, flags=flags))
    np.testing.assert_array_equal(store.history(["roof"], DAY)[0, -1, :4], [np.nan, np.nan, 3.0, 4.0])
    assert store.ages(["roof"], DAY) == [{"pressure": 0, "wind_speed": 0}]


def test_unknown_stations_have_an_empty_history(store: Store) -> None:
    store.add(judged(DAY, {"temperature": 1.0}))
    history = store.history(["nowhere", "roof"], DAY)
    assert history.shape == (2, 2880, 8)
    assert history.dtype == np.float32
    assert np.isnan(history[0]).all()
    assert history[1, -1, 0] == 1.0


@given(readings=series(), step=st.integers(-2880, 4))
@SLOW
def test_ages_are_those_of_the_newest_usable_readings_before_the_origin(
    store: Store, readings: list[Judged], step: int
) -> None:
    origin = ORIGIN + 900 * step
    station, rows = elsewhere(readings)
    for one in rows:
        store.add(one)
    (found,) = store.ages([station], origin)
    expected = {}
    for name in grid.GRID_VARIABLES:
        times = [j.observation.t for j in readings if name in j.usable() and j.observation.t <= origin]
        if times and max(times) > origin - WINDOW_S:
            expected[name] = origin - max(times)
    assert found == expected


def test_more_days_than_fit_in_memory_are_kept_all_the_same(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_agent.store.state.HOT_DAYS", 3)
    days = [*range(20)] * 2
    random.Random(1).shuffle(days)
    for i, day in enumerate(days):
        store.add(judged(DAY - 86_400 * day - i, {"rain": 1.0}))
    assert np.nansum(store.history(["roof"], DAY)[0, :, 6]) == 40.0


def test_another_process_rows_are_on_the_grid_at_once(store: Store, path: Path) -> None:
    """The importer writes between two commits; what the agent has in memory gives way to it."""
    store.add(judged(DAY, {"rain": 1.0}))
    store.commit()
    with Store.open(path) as other:
        other.add(judged(DAY - 10, {"rain": 2.0}, source="import", rank=0))
        other.add(judged(DAY + 900, {"temperature": 7.0}, source="import", rank=0))
    assert store.ages(["roof"], DAY + 900)[0]["temperature"] == 0
    assert store.newest("roof")["temperature"] == (DAY + 900, 7.0, 1)
    assert store.history(["roof"], DAY)[0, -1, 6] == 3.0
    store.add(judged(DAY - 20, {"rain": 4.0}))
    store.commit()
    with Store.open(path, read_only=True) as reader:
        assert reader.history(["roof"], DAY)[0, -1, 6] == 7.0


@given(readings=series(), seed=st.integers(0, 2**32), commits=st.integers(1, 20))
@settings(SLOW, max_examples=20)
def test_the_grid_is_the_same_while_its_last_quarter_hours_are_not_written(
    store: Store, path: Path, readings: list[Judged], seed: int, commits: int
) -> None:
    """For the process that writes, for one that reads, and for the next that opens the file after a crash."""
    station, shuffled = elsewhere(random.Random(seed).sample(readings, len(readings)))
    now = ORIGIN + random.Random(seed).randint(0, 900)
    for i, one in enumerate(shuffled):
        assert store.add(one)
        if i % commits == 0:
            store.commit(now := now + 60)
    store.commit(now + 60)
    with Store.open(path, read_only=True) as reader:
        after = reader.history([station], ORIGIN)[0]
        assert reader.ages([station], ORIGIN) == store.ages([station], ORIGIN)
        assert reader.newest(station) == store.newest(station)
    np.testing.assert_allclose(store.history([station], ORIGIN)[0], after, rtol=1e-5)
    expected = on_grid(readings)
    np.testing.assert_allclose(after, expected, rtol=1e-5)


def test_grid_days_are_written_once_a_quarter_hour(store: Store, path: Path) -> None:
    def written() -> bytes:
        with Store.open(path, read_only=True) as reader:
            rows = reader.tables.connection.read("SELECT cells FROM grid_days")
        return rows[0][0] if rows else b""

    changes = 0
    for minute in range(120):
        before = written()
        store.add(judged(DAY + 60 * minute, {"temperature": float(minute)}))
        store.commit(DAY + 60 * minute)
        changes += written() != before
    assert 8 <= changes <= 9
