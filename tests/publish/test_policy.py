"""When a broker is tried again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.publish.policy import Backoff, Waits

WAITS = Waits(first=1.0, cap=60.0, takeover=300.0, stable=10.0)


def longest(low: float, high: float) -> float:
    return high


@given(st.lists(st.floats(0, 100), max_size=80), st.floats(0, 1))
def test_waiting_never_leaves_its_bounds(lives, luck):
    backoff = Backoff(WAITS, lambda low, high: low + luck * (high - low))
    assert all(WAITS.first / 2 <= backoff.after(lived) <= WAITS.cap for lived in lives)


def test_waiting_doubles_and_starts_over_after_a_good_connection():
    backoff = Backoff(WAITS, longest)
    assert [backoff.after(0) for _ in range(8)] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert [backoff.after(11), backoff.after(0)] == [1, 2]


def test_the_length_of_an_outage_does_not_delay_what_follows_a_short_connection():
    backoff = Backoff(WAITS, longest)
    for _ in range(20):
        backoff.after(0)
    assert [backoff.after(3), backoff.after(0), backoff.after(0)] == [1, 2, 4]


def test_connections_that_die_at_once_count_as_failures():
    backoff = Backoff(WAITS, longest)
    assert [backoff.after(0.5) for _ in range(4)] == [1, 2, 4, 8]


def test_after_a_takeover_it_waits_long_so_that_two_agents_do_not_throw_each_other_out():
    assert Backoff(WAITS, min).after(3600, taken_over=True) >= WAITS.takeover
