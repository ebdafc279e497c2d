"""When the agent forecasts and keeps house, also while its clock is being set."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.agent import PROMPT
from edge_agent.grid import STEP_S
from edge_agent.schedule import GAP_S, SETTLE_S, Allowance, Every, Origins

NOON = 1_700_049_600  # a whole hour
CHECKPOINTS = 100  # flushes a day, three for each: far more than there are at a lone station


def test_the_last_quarter_hour_at_once_and_then_each_five_seconds_after_it_began() -> None:
    origins = Origins()
    start = NOON + 400
    issued = {
        passed: origin for passed in range(4 * STEP_S) if (origin := origins.due(start + passed, passed)) is not None
    }
    assert issued == {0: NOON, 505: NOON + 900, 1405: NOON + 1800, 2305: NOON + 2700, 3205: NOON + 3600}


def test_a_clock_set_back_or_forward_brings_one_forecast_for_the_time_it_says_now() -> None:
    origins = Origins()
    assert origins.due(NOON + 400, 0) == NOON
    assert origins.due(NOON + 400 - 86_400, 100) == NOON - 86_400
    assert origins.due(NOON + 401 - 86_400, 101) is None
    assert origins.due(NOON + 86_400 * 365, 200) == NOON + 86_400 * 365 - 900
    assert origins.due(NOON + 86_400 * 365 + SETTLE_S, 205) is None  # too soon after the one before ...
    assert origins.due(NOON + 86_400 * 365 + SETTLE_S + GAP_S, 225) == NOON + 86_400 * 365  # ... but not forgotten


@given(st.lists(st.tuples(st.integers(1, 600), st.just(0) | st.integers(-(10**8), 10**8)), max_size=60))
def test_no_jumps_of_the_clock_bring_a_storm_or_a_standstill(steps: list[tuple[int, int]]) -> None:
    origins, now, steady = Origins(), NOON, 0
    issued: list[tuple[int, int]] = []
    for passes, jumps in steps:
        now, steady = now + passes + jumps, steady + passes
        origin = origins.due(now, steady)
        if origin is not None:
            issued.append((steady, origin))
            assert 0 <= now - origin < STEP_S + SETTLE_S + 1  # never from the past or the future
    assert all(b[0] - a[0] >= GAP_S for a, b in pairwise(issued))
    assert all(a[1] != b[1] for a, b in pairwise(issued))
    origins.due(now, steady + GAP_S)
    assert origins.due(now + STEP_S, steady + GAP_S + STEP_S) is not None  # a quarter hour in peace brings the next


def test_what_was_missed_is_not_made_up_for() -> None:
    every = Every(60.0, 5.0)
    assert [steady for steady in range(300) if every.due(steady)] == [5, 65, 125, 185, 245]
    assert every.due(10_000.0) and not every.due(10_000.1)


def test_what_is_committed_at_once_leaves_the_day_below_2880_flushes() -> None:
    allowance = Allowance(*PROMPT, 0.0)
    prompt = sum(allowance.take(second) for second in range(86_400))  # a sensor that comes and goes every second
    assert prompt > 700 and prompt + 86_400 / 60 + CHECKPOINTS <= 2880


def test_an_allowance_is_there_at_once_and_comes_back_with_time() -> None:
    allowance = Allowance(2, 10.0, 0.0)
    assert [allowance.take(t) for t in (0, 0, 0, 9, 10, 11, 1000, 1000, 1000)] == [
        True, True, False, False, True, False, True, True, False,
    ]  # fmt: skip
