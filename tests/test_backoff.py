"""Waiting between attempts: long enough for no storm, and no longer than what went wrong last is worth."""

from __future__ import annotations

import threading

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.backoff import Backoff
from edge_agent.clock import ManualClock
from edge_agent.errors import NetworkError
from edge_agent.sensors.supervisor import Pauses, Supervisor

WHAT = st.lists(st.sampled_from(["failed", "short", "lasted"]), max_size=60)


def longest(low: float, high: float) -> float:
    return high


def wait(backoff: Backoff, what: str) -> float:
    return backoff.failed() if what == "failed" else backoff.ended(lasted=what == "lasted")


@given(WHAT, st.floats(0, 1))
def test_waits_keep_their_bounds_whatever_happens(happened, luck):
    backoff = Backoff(1.0, 60.0, lambda low, high: low + luck * (high - low))
    assert all(0.5 <= wait(backoff, what) <= 60.0 for what in happened)


@given(WHAT)
def test_after_a_connection_only_the_short_ones_before_it_count(happened):
    """However many attempts failed in between."""
    connections = [what for what in happened if what != "failed"]
    whole, bare = Backoff(uniform=longest), Backoff(uniform=longest)
    waits = [wait(whole, what) for what in happened]
    assert [w for w, what in zip(waits, happened, strict=True) if what != "failed"] == [
        wait(bare, what) for what in connections
    ]


def test_a_broker_that_accepts_and_drops_is_left_alone_for_longer_each_time():
    backoff = Backoff(1.0, 60.0, longest)
    assert [backoff.ended(lasted=False) for _ in range(8)] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert backoff.ended(lasted=True) == 1


def test_many_do_not_come_back_at_the_same_time():
    assert len({Backoff(64.0, 64.0).failed() for _ in range(20)}) > 10


class WaitsCounted(ManualClock):
    """Nobody waits on it; it tells how long they would have."""

    def __init__(self) -> None:
        super().__init__(0.0)
        self.waits: list[float] = []

    def wall(self, span_s: float) -> float:
        self.waits.append(span_s)
        return 0.0


def test_a_supervised_connection_comes_back_soon_after_a_long_outage_and_one_short_life():
    clock, over = WaitsCounted(), threading.Event()
    script = iter(["failed"] * 8 + ["short", "failed", "lasted", "failed"])

    def work() -> None:
        what = next(script, "over")
        if what == "over":
            over.set()
            supervisor.stopping.wait()
            return
        if what != "failed":
            supervisor.opened()
        if what == "lasted":
            supervisor.progress()
        raise NetworkError("gone")

    supervisor = Supervisor("test", work, clock, lambda error: None, Pauses(1.0, 60.0))
    supervisor.start()
    assert over.wait(30)
    supervisor.stop()
    assert clock.waits[7] >= 30 and len(clock.waits) == 12
    for waited, most in zip(clock.waits[8:], (1, 2, 1, 2), strict=True):
        assert most / 2 <= waited <= most
