"""Sources of time against each other: whom the clock believes, within what, and since when."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.clock import ManualClock, parse_time
from edge_agent.timekeeping.kernel import DRIFT
from edge_agent.timekeeping.sources import STANDS_S, TimeSources
from edge_agent.timekeeping.station_clock import MAX_ERROR_S, PERSISTED, StationClock

NOW = float(parse_time("2026-03-01T12:00:00Z"))


def believed(sources: TimeSources, steady: float) -> tuple[str, float, str]:
    best = sources.best(steady)
    assert best is not None
    return best.report.source, steady + best.report.offset_s, best.doubt


def test_without_a_word_from_anyone_nothing_is_known() -> None:
    assert TimeSources().best(0.0) is None


@pytest.mark.parametrize(
    ("words", "who"),
    [
        ({"ntp": (0, 0.1), "gps": (0.3, 0.6), "rtc": (1, 9)}, "ntp"),
        ({"gps": (0, 0.6), "console": (40, 60)}, "gps"),
        ({"console": (0, 60), "rtc": (3600, 20)}, "console"),  # the better one is contradicted by a better source
        ({"operator": (0, 60), "console": (3600, 60)}, "operator"),  # a console an hour off, as daylight saving has it
        ({"rtc": (0, 20), "console": (30, 60)}, "rtc"),  # both can be right: the narrower one
        ({"ntp": (0, 0.1), "operator": (86_400, 60)}, "ntp"),
    ],
)
def test_the_narrowest_word_that_no_better_source_contradicts(words: dict[str, tuple[float, float]], who: str) -> None:
    sources = TimeSources()
    for source, (ahead, error) in words.items():
        assert sources.report(source, NOW + ahead, 100.0, error)
    assert believed(sources, 101.0)[0] == who
    notes = {told.report.source: told.note for told in sources.all(101.0)}
    assert list(notes) == sorted(notes, key=["ntp", "gps", "operator", "host", "console", "rtc"].index)
    assert notes[who] == ""


@given(
    st.lists(
        st.tuples(st.sampled_from(["ntp", "gps", "console"]), st.floats(0, 1), st.floats(-1, 1), st.floats(0.01, 100)),
        min_size=1,
        max_size=30,
    ),
    st.floats(-DRIFT, DRIFT),
    st.integers(0, 10**6),
)
def test_while_all_sources_keep_within_what_they_say_so_does_the_clock(
    words: list[tuple[str, float, float, float]], drift: float, later: int
) -> None:
    sources, steady = TimeSources(), 0.0
    for source, wait, off, error in words:
        steady += wait * 1000
        truth = NOW + steady * (1 + drift)
        sources.report(source, truth + off * error, steady, error)
    steady += later
    best = sources.best(steady)
    assert best is not None and not best.doubt
    assert abs(steady + best.report.offset_s - (NOW + steady * (1 + drift))) <= best.report.error_at(steady) + 1e-6


def test_a_source_that_contradicts_itself_is_believed_after_ten_minutes() -> None:
    sources = TimeSources()
    sources.report("ntp", NOW, 0.0, 0.1)
    for steady in range(10, int(STANDS_S) + 30, 10):
        sources.report("ntp", NOW + steady - 3600, steady, 0.1)
        source, utc, doubt = believed(sources, steady)
        assert source == "ntp" and bool(doubt) == (steady < STANDS_S + 10)
        assert utc == NOW + steady - (0 if doubt else 3600)


def test_one_that_contradicts_itself_ever_anew_or_falls_silent_is_not_believed() -> None:
    sources = TimeSources()
    sources.report("gps", NOW, 0.0, 0.6)
    for steady in range(10, 3000, 10):
        sources.report("gps", NOW + steady + 60 * steady, steady, 0.6)
    assert believed(sources, 3000)[1] == NOW + 3000
    assert believed(sources, 3200)[2] == ""  # forgotten


def test_another_source_or_a_person_settles_a_doubt_at_once() -> None:
    for other, ahead in (("gps", 0), ("operator", 0), ("operator", 3600)):
        sources = TimeSources()
        sources.report("ntp", NOW, 0.0, 0.1)
        sources.report("ntp", NOW + 10 + 3600, 10.0, 0.1)
        assert believed(sources, 10)[2]
        sources.report(other, NOW + 20 + ahead, 20.0, 1.0)
        sources.report("ntp", NOW + 30 + 3600, 30.0, 0.1)
        source, utc, doubt = believed(sources, 30)
        assert not doubt and utc == pytest.approx(NOW + 30 + ahead, abs=0.5), (other, source)


def test_a_persons_word_stands_above_a_reference_that_has_fallen_silent() -> None:
    sources = TimeSources()
    sources.report("ntp", NOW + 31_536_000, 0.0, 0.1)  # a time server that lied, and is gone
    sources.report("operator", NOW + 100, 100.0, 60.0)
    assert believed(sources, 100)[0] == "operator"


def test_a_receiver_that_lost_count_of_its_weeks_and_a_flat_battery_are_not_heard() -> None:
    sources = TimeSources()
    assert not sources.report("gps", NOW - 1024 * 7 * 86_400, 0.0, 0.6)
    assert not sources.report("rtc", 946_684_800.0, 0.0, 0.5)
    assert not sources.report("gps", float("nan"), 0.0, 0.6)
    sources.floor_s = NOW
    assert not sources.report("rtc", NOW - 3600, 0.0, 0.5)  # the time was known to be later than that
    assert sources.best(0.0) is None


def test_states_and_bounds_of_the_station_clock() -> None:
    machine = ManualClock(NOW, "unsynced")
    clock = StationClock(machine)
    clock.look()
    assert (clock.state(), clock.error_s(), clock.known.source) == ("unsynced", None, PERSISTED)
    assert "not synchronised" in clock.unfit()
    machine.set(NOW, "synced")
    clock.look()
    assert (clock.state(), clock.error_s(), clock.unfit()) == ("synced", 0.1, "")
    machine.set(NOW, "unsynced")
    machine.advance(6 * 3600)
    clock.look()
    assert clock.state() == "holdover" and clock.error_s() == pytest.approx(0.1 + 6 * 3600 * DRIFT)
    machine.advance(MAX_ERROR_S / DRIFT)
    assert clock.state() == "holdover" and "may be off by 122 s" in clock.unfit()


def test_a_battery_backed_clock_is_believed_from_where_it_was_seen_right() -> None:
    machine = WithRtc(NOW)
    clock = StationClock(machine)
    clock.look()
    assert clock.state() == "unsynced"  # nobody has ever seen it right
    clock.trust_rtc((NOW - 30 * 86_400, 1.0))
    clock.look()
    assert clock.state() == "holdover" and clock.known.source == "rtc"
    assert clock.error_s() == pytest.approx(0.5 + 1.0 + 50e-6 * 30 * 86_400)


class WithRtc(ManualClock):
    """A machine whose system clock stands in 1970, beside a battery-backed clock that is right."""

    def __init__(self, rtc: float) -> None:
        super().__init__(0.0, "unsynced")
        self.rtc = rtc

    def readings(self):  # type: ignore[no-untyped-def]
        from edge_agent.timekeeping.sources import Report

        return [Report("rtc", self.rtc + self.monotonic(), self.monotonic(), 0.5)]
