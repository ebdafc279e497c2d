"""Later verdicts: flags change where they may, values never, and the grid is what it would have been."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_agent.observation import Flag, Revision, Verdict
from edge_agent.store import Store
from edge_agent.store.revisions import OPERATOR
from tests.store.readings import DAY, elsewhere, judged

NAMES = ("temperature", "humidity", "rain", "wind_gust", "dew_point")
ORIGIN = DAY + 86_400


def revision(
    flag: Flag, start: int, end: int, *, variable: str = "temperature", test: str = "spike", station: str = "roof"
) -> Revision:
    return Revision(station, "mast", variable, start, end, Verdict(flag, test, f"because of {test}", 2.0))


def flags(store: Store, station: str = "roof", variable: str = "temperature") -> list[int]:
    return [int(j.verdicts[variable].flag) for j in store.observations(station) if variable in j.observation.values]


@pytest.fixture
def filled(store: Store) -> Store:
    for i in range(6):
        store.add(judged(DAY + 600 * i, {"temperature": 10.0 + i, "rain": 0.2}), ("mqtt",))
    return store


def test_a_verdict_comes_worse_for_the_values_it_speaks_of_and_for_no_others(filled: Store) -> None:
    before = filled.revise(revision(Flag.SUSPECT, DAY + 600, DAY + 1200), DAY + 9000)
    assert before == {Flag.GOOD: 2}
    assert flags(filled) == [1, 3, 3, 1, 1, 1]
    assert flags(filled, variable="rain") == [1] * 6
    rows = list(filled.observations("roof"))
    assert [j.observation.values["temperature"] for j in rows] == [10.0, 11.0, 12.0, 13.0, 14.0, 15.0]
    verdict = rows[1].verdicts["temperature"]
    assert (verdict.test, verdict.why, verdict.value) == ("spike", "because of spike", 11.0)


def test_a_test_never_makes_a_flag_better(filled: Store) -> None:
    filled.revise(revision(Flag.FAIL, DAY, DAY + 600), DAY)
    assert filled.revise(revision(Flag.SUSPECT, DAY, DAY + 1200), DAY) == {Flag.GOOD: 1}
    assert flags(filled) == [4, 4, 3, 1, 1, 1]


def test_an_operator_s_word_stands_against_every_test(filled: Store) -> None:
    filled.revise(revision(Flag.FAIL, DAY, DAY + 1200), DAY)
    filled.revise(revision(Flag.GOOD, DAY, DAY + 600, test=OPERATOR), DAY + 1)
    filled.revise(revision(Flag.FAIL, DAY, DAY + 1200), DAY + 2)
    assert flags(filled) == [1, 1, 4, 1, 1, 1]
    assert next(iter(filled.observations("roof"))).verdicts["temperature"].test == OPERATOR
    filled.revise(revision(Flag.SUSPECT, DAY, DAY, test=OPERATOR), DAY + 3)  # and may change
    assert flags(filled)[0] == 3


def test_what_was_not_there_is_not_revised(filled: Store) -> None:
    assert not filled.revise(revision(Flag.FAIL, DAY, DAY + 9000, station="garden"), DAY)
    assert not filled.revise(revision(Flag.FAIL, DAY, DAY + 9000, variable="pressure"), DAY)
    assert not filled.revise(Revision("roof", "other", "temperature", DAY, DAY, Verdict(Flag.FAIL, "x", "y")), DAY)
    assert filled.revisions() == []


def test_what_waits_for_the_broker_goes_out_with_the_later_verdict(filled: Store) -> None:
    filled.revise(revision(Flag.SUSPECT, DAY + 600, DAY + 600), DAY)
    assert [int(q.judged.verdicts["temperature"].flag) for q in filled.queued("mqtt", 10)] == [1, 3, 1, 1, 1, 1]


def test_each_is_on_record_and_published_once(filled: Store) -> None:
    filled.revise(revision(Flag.SUSPECT, DAY, DAY), DAY + 5)
    filled.revise(revision(Flag.SUSPECT, DAY + 600, DAY + 600), DAY + 6, publish=False)
    filled.revise(revision(Flag.GOOD, DAY, DAY, test=OPERATOR), DAY + 7)
    assert [(r.made - DAY, r.rows, r.by_operator) for r in filled.revisions("roof")] == [
        (5, 1, False),
        (6, 1, False),
        (7, 1, True),
    ]
    assert [r.made - DAY for r in filled.revisions(by_operator=True)] == [7]
    waiting = filled.unpublished_revisions(10)
    assert [r.made - DAY for r in waiting] == [5, 7]
    filled.revisions_published([waiting[0].key])
    assert [r.made - DAY for r in filled.unpublished_revisions(10)] == [7]


def test_an_operator_s_word_outlives_the_rows(store: Store) -> None:
    store.add(judged(DAY, {"temperature": 10.0}))
    store.revise(revision(Flag.SUSPECT, DAY, DAY), DAY)
    store.revise(revision(Flag.FAIL, DAY, DAY, test=OPERATOR), DAY)
    store.prune(DAY + 400 * 86_400)
    assert [r.by_operator for r in store.revisions()] == [True]


def test_it_is_still_so_after_the_file_was_closed(path) -> None:
    with Store.open(path) as store:
        store.add(judged(DAY, {"temperature": 10.0}))
        store.revise(revision(Flag.GOOD, DAY, DAY, test=OPERATOR), DAY)
        store.revise(revision(Flag.FAIL, DAY, DAY), DAY)
    with Store.open(path, read_only=True) as store:
        assert flags(store) == [1]
        assert store.revisions(by_operator=True)[0].revision.verdict.why == "because of operator"


def test_the_newest_reading_s_flag_and_age_follow(filled: Store) -> None:
    filled.revise(revision(Flag.FAIL, DAY + 3000, DAY + 3000), DAY)
    assert filled.newest("roof")["temperature"] == (DAY + 3000, 15.0, 4)
    assert filled.ages(["roof"], DAY + 3600)[0]["temperature"] == 3600 - 2400


def test_ages_are_of_the_readings_that_stand_on_the_grid(store: Store) -> None:
    """A reading of a worse source does not count where the better one has the step, whichever came first."""
    step = DAY + 45_000
    store.add(judged(DAY + 600, {"temperature": 9.0}))
    store.add(judged(step, {"temperature": 12.0}, source="shed", rank=1))
    assert store.ages(["roof"], ORIGIN)[0]["temperature"] == ORIGIN - step
    store.add(judged(step - 600, {"temperature": 11.0}))
    assert store.ages(["roof"], ORIGIN)[0]["temperature"] == ORIGIN - step + 600
    store.revise(revision(Flag.FAIL, DAY + 600, DAY + 600), DAY)
    assert store.ages(["roof"], ORIGIN)[0]["temperature"] == ORIGIN - step + 600
    store.revise(revision(Flag.FAIL, step - 600, step - 600), DAY)
    assert store.ages(["roof"], ORIGIN)[0]["temperature"] == ORIGIN - step


readings = st.lists(
    st.tuples(
        st.integers(1, 130),
        st.dictionaries(st.sampled_from(NAMES), st.integers(1, 90).map(float), min_size=1),
        st.integers(0, 1),
    ),
    min_size=1,
    max_size=25,
    unique_by=lambda row: (row[0], row[2]),
)
revisions = st.lists(
    st.tuples(
        st.sampled_from(NAMES),
        st.integers(0, 130),
        st.integers(0, 40),
        st.sampled_from([Flag.SUSPECT, Flag.FAIL]),
    ),
    max_size=5,
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(readings, revisions)
def test_the_grid_is_what_it_would_have_been_with_these_verdicts_from_the_start(store, rows, later) -> None:
    """The law of the grid: 10-minute rows of two sources, and revisions of one of them."""
    kept = [
        judged(DAY + 600 * n, values, source="mast" if rank == 0 else "shed", rank=rank) for n, values, rank in rows
    ]
    late, first = elsewhere(kept)
    for one in first:
        store.add(one)
    store.history([late], ORIGIN)
    for variable, start, length, flag in later:
        store.revise(
            revision(flag, DAY + 600 * start, DAY + 600 * (start + length), variable=variable, station=late), DAY
        )
    known, _ = elsewhere([])
    for one in list(store.observations(late)):
        store.add(replace(one, observation=replace(one.observation, station=known)))
    np.testing.assert_array_equal(store.history([late], ORIGIN), store.history([known], ORIGIN))
    assert store.ages([late], ORIGIN) == store.ages([known], ORIGIN)
