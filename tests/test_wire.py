"""In which version of MQTT a broker is spoken to."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.wire import V5, V311, VersionChoice


def test_a_broker_that_refuses_version_5_is_asked_in_3_1_1_for_good():
    choice = VersionChoice(V5)
    assert choice.refused() and choice.current == V311
    assert not any(choice.closed_early() for _ in range(10)) and choice.current == V311


def test_two_silent_closes_lead_to_the_other_version_and_back():
    choice = VersionChoice(V5)
    assert [choice.closed_early() for _ in range(4)] == [False, True, False, True]
    assert choice.current == V5


@given(st.sampled_from([V5, V311]), st.lists(st.booleans(), max_size=20))
def test_a_version_that_worked_is_not_given_up_for_closed_connections(configured, events):
    choice = VersionChoice(configured)
    choice.accepted()
    for _ in events:
        assert not choice.closed_early()
    assert choice.current == configured


def test_a_configured_3_1_1_stays():
    choice = VersionChoice(V311)
    assert not choice.refused() and not any(choice.closed_early() for _ in range(5))
    assert choice.current == V311
