"""A recorded series through quality control row by row: `judge_series` and what it keeps."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.config import Station
from edge_agent.history import History
from edge_agent.observation import Flag, Revision, Verdict
from edge_agent.quality.series import Verdicts, judge_series
from tests.quality.stations import DAY, SITE, START, STEP_S, history, ordinary

NEAR = Station(id="near", latitude=47.40, longitude=8.54, elevation_m=420.0)


def cut(past: History, first: int, last: int) -> History:
    return History(past.times[first:last], {name: column[first:last] for name, column in past.values.items()}, [])


def flags_of(verdicts: Verdicts) -> dict[str, dict[int, int]]:
    return {name: {row: int(verdict.flag) for row, verdict in found.items()} for name, found in verdicts.found.items()}


def test_every_value_is_counted_and_every_row_with_one_is_reported_done() -> None:
    rows = [dict(row) for row in ordinary(9)]
    for i in range(100, 160):
        del rows[i]["humidity"]
    past = history(rows)
    for column in past.values.values():
        column[700:720] = np.nan  # rows without any value
    told: list[int] = []
    present = judge_series(SITE, past, advance=told.append).present
    assert present == {name: int((~np.isnan(column)).sum()) for name, column in past.values.items()}
    assert sum(told) == len(rows) - 20


def test_nothing_is_said_of_a_value_that_is_not_there() -> None:
    rows = [dict(row) for row in ordinary(3)]
    for i in range(200, 300):  # stuck, with holes in it
        rows[i]["temperature"] = 14.0
    for i in range(200, 300, 7):
        del rows[i]["temperature"]
    past = history(rows)
    found = judge_series(SITE, past).found["temperature"]
    assert len(found) > 60
    assert not any(np.isnan(past.values["temperature"][row]) for row in found)


def test_a_series_without_rows_is_judged() -> None:
    assert judge_series(SITE, cut(history(ordinary(1)), 0, 0)).found == {}


def test_neighbours_that_measured_at_another_time_change_nothing() -> None:
    rows = [dict(row) for row in ordinary(4)]
    rows[300]["temperature"] += 9
    past = history(rows)
    elsewhen = History(past.times - 400 * 86_400, past.values, [])
    assert flags_of(judge_series(SITE, past, [(NEAR, elsewhen)])) == flags_of(judge_series(SITE, past))


def test_a_neighbour_s_reading_of_the_same_time_is_heard_first() -> None:
    """A jump that a neighbour makes in the same minute is weather, in whatever order the files are given."""
    rows = [{"temperature": row["temperature"] - (4.0 if i >= 300 else 0.0)} for i, row in enumerate(ordinary(4))]
    past = history(rows)
    alone = judge_series(SITE, past).found["temperature"]
    assert alone[300].test == "step"
    assert judge_series(SITE, past, [(NEAR, past)]).found.get("temperature", {}) == {}


def test_what_a_neighbour_says_later_does_not_reach_back() -> None:
    past = history([{"temperature": row["temperature"]} for row in ordinary(8)])
    later = History(past.times, {"temperature": past.values["temperature"].copy()}, [])
    later.values["temperature"][6 * DAY :] += 12.0
    found = judge_series(SITE, past, [(NEAR, later)]).found.get("temperature", {})
    assert all(row >= 6 * DAY for row in found)


REVISIONS = st.lists(
    st.tuples(st.integers(-5, 25), st.integers(0, 12), st.sampled_from([Flag.SUSPECT, Flag.FAIL])), max_size=8
)


@settings(max_examples=200)
@given(REVISIONS, st.lists(st.booleans(), min_size=20, max_size=20))
def test_a_revision_makes_worse_what_it_names_and_touches_nothing_else(
    revisions: list[tuple[int, int, Flag]], there: list[bool]
) -> None:
    """The order of revisions does not matter either: the worst that was said stands."""
    times = START + STEP_S * np.arange(20, dtype=np.int64)
    values = np.where(there, 12.0, np.nan)
    worst = np.zeros(20, np.int64)
    said = [
        Revision(
            "roof", "mast", "temperature", START + first * STEP_S, START + (first + n) * STEP_S, Verdict(flag, "step")
        )
        for first, n, flag in revisions
    ]
    for one in said:
        named = (times >= one.start) & (times <= one.end) & ~np.isnan(values)
        worst = np.where(named, np.maximum(worst, int(one.verdict.flag)), worst)
    for order in (said, said[::-1]):
        verdicts = Verdicts(times)
        for one in order:
            before = dict(verdicts.found.get("temperature", {}))
            changed = verdicts.revise(one, values)
            now = verdicts.found["temperature"]
            assert {row for row in now if now[row] is not before.get(row)} == set(changed)
        found = verdicts.found.get("temperature", {})
        assert [int(found[row].flag) if row in found else 0 for row in range(20)] == worst.tolist()
