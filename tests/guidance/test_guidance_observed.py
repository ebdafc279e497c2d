"""What came at a valid time, and from when on it is known."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.grid import MATCH_S
from edge_agent.guidance.observed import Observed
from edge_agent.history import History

HOUR_S = 3600


@given(
    off_s=st.integers(-400, 400),
    step_s=st.sampled_from([600, 900, 3600]),
    now=st.integers(20 * HOUR_S, 21 * HOUR_S),
    name=st.sampled_from(["temperature", "rain", "wind_gust", "temperature_max"]),
)
def test_what_is_settled_no_later_reading_changes(off_s, step_s, now, name):
    times = np.arange(off_s, 24 * HOUR_S, step_s, dtype=np.int64)
    values = np.arange(len(times), dtype=np.float64)
    valid = np.arange(HOUR_S, 24 * HOUR_S, HOUR_S, dtype=np.int64)
    length = np.full(len(valid), HOUR_S)
    seen = Observed(History(times, {name: values}, []))
    other = Observed(History(times, {name: np.where(times > now, -values, values)}, []))
    settled = seen.settled(name, valid, now)
    np.testing.assert_array_equal(seen.came(name, valid, length)[settled], other.came(name, valid, length)[settled])
    assert settled[valid + MATCH_S <= now].all() and not settled[valid > now].any()


def test_a_reading_at_the_valid_time_settles_it_at_once():
    at = np.array([HOUR_S])
    for t, settled in ((HOUR_S, True), (HOUR_S + 60, False), (HOUR_S - 60, False)):
        observed = Observed(History(np.array([t]), {"temperature": np.ones(1)}, []))
        assert observed.settled("temperature", at, HOUR_S).all() == settled
        assert observed.settled("temperature", at, HOUR_S + MATCH_S).all()
        assert not observed.settled("humidity", at, HOUR_S).any()
