"""Running totals: what fell is counted once, whatever the counter does; what did not fall is not."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from edge_agent.observation import RainState
from edge_agent.sensors.rain import HOLD, RainAccumulator, wraps_of

TIP = 0.2  # mm
STEP_S = 60.0


def run(totals: list[float], step_s: float = STEP_S, wraps_at: tuple[float, ...] = ()) -> tuple[float, list[str]]:
    """All the rain that came of these totals, and the notes that were made."""
    gauge = RainAccumulator(wraps_at)
    increments = [gauge.add(total, i * step_s) for i, total in enumerate(totals)]
    return sum(i.mm or 0.0 for i in increments), [i.note for i in increments if i.note]


def counters(first: float = 0.0, longest: int = 30) -> st.SearchStrategy[list[float]]:
    """Totals of a healthy tipping bucket, one a minute, up to 120 mm/h."""

    def climb(tips: list[int]) -> list[float]:
        total, totals = round(first / TIP), []
        for n in tips:
            total += n
            totals.append(total * TIP)
        return totals

    return st.lists(st.integers(0, round(HOLD / TIP)), min_size=3, max_size=longest).map(climb)


@given(counters())
def test_increments_add_up_to_what_the_counter_counted(totals: list[float]) -> None:
    rain, notes = run(totals)
    assert rain == pytest.approx(totals[-1] - totals[0])
    assert notes == ["first-total"]


@given(counters(first=115.0), st.data(), st.integers(0, 65535))
def test_one_corrupt_counter_makes_no_rain(totals: list[float], data: st.DataObject, corrupt: int) -> None:
    """115 -> 49 -> 115 is a bad reading, not a wrap and not a storm; and what fell meanwhile is not lost."""
    at = data.draw(st.integers(2, len(totals) - 1))
    totals += [totals[-1], totals[-1]]  # the counter goes on after it
    true, wrong = totals[-1] - totals[0], corrupt * TIP
    assume(not 0 < wrong - totals[at - 1] <= 1.0 + HOLD)  # that could be rain: the next test
    rain, _ = run([*totals[:at], wrong, *totals[at:]])
    assert rain == pytest.approx(true)


@given(counters(first=115.0, longest=10), st.floats(0.2, 2.9))
def test_a_reading_that_is_a_little_too_high_is_not_counted_twice(totals: list[float], excess: float) -> None:
    after = [totals[-1] + 3.0 + i * TIP for i in range(20)]
    rain, _ = run([*totals, totals[-1] + excess, totals[-1], *after])
    assert rain == pytest.approx(after[-1] - totals[0])


@pytest.mark.parametrize("wrong", [49.0, 0.0, 114.8, 12_345.6])
def test_the_textbook_case_is_counted_and_named(wrong: float) -> None:
    rain, notes = run([114.8, 115.0, wrong, 115.0, 115.2])
    assert rain == pytest.approx(0.4)
    assert notes == ["first-total", "held-total", "corrupt-total"]


@given(st.lists(counters(), min_size=1, max_size=4))
def test_a_counter_that_begins_anew_loses_no_rain(days: list[list[float]]) -> None:
    """A reset, at midnight or by hand: each day's total counts, the fall to zero does not."""
    days = [[0.0, *day, day[-1] + 2.0, day[-1] + 4.0] for day in days]  # each day wetter than one minute can be
    rain, _ = run([total for day in days for total in day])
    assert rain == pytest.approx(sum(day[-1] for day in days))


def test_rain_at_midnight_itself_is_counted() -> None:
    rain, _ = run([7.0, 7.2, 0.2, 0.4, 0.6])
    assert rain == pytest.approx(0.8)


def test_a_few_zeros_from_a_failing_sensor_are_no_reset() -> None:
    rain, _ = run([115.0, 115.2, 0.0, 0.0, 0.0, 115.2, 115.4, 115.4])
    assert rain == pytest.approx(0.4)


@given(st.sampled_from([0.1, 0.2, 0.254, 0.3]), st.integers(1, 8), st.integers(0, 4), st.integers(0, 4))
def test_a_sixteen_bit_counter_wraps_without_a_loss(tip: float, below: int, above: int, more: int) -> None:
    tips = [65536 - below - 1, 65536 - below, above, above + more]
    rain, _ = run([n * tip for n in tips], step_s=300, wraps_at=wraps_of(1.0))
    assert rain == pytest.approx((1 + below + above + more) * tip)


def test_a_wrap_while_out_of_contact_loses_no_rain() -> None:
    gauge = RainAccumulator(wraps_of(1.0))
    tips = ((65530, 0), (65534, 60), (10, 6 * 3600), (12, 6 * 3600 + 60))
    assert sum(gauge.add(n * TIP, t).mm or 0.0 for n, t in tips) == pytest.approx(18 * TIP)


def test_a_display_wraps_at_a_power_of_ten() -> None:
    rain, _ = run([9998.0, 9999.5, 0.5, 1.0], wraps_at=wraps_of(1.0))
    assert rain == pytest.approx(3.0)


def test_after_hours_without_contact_the_rain_of_those_hours_arrives() -> None:
    gauge = RainAccumulator()
    assert gauge.add(100.0, 0).mm is None
    assert gauge.add(100.0, 60).mm == 0.0
    assert gauge.add(131.0, 6 * 3600).mm == pytest.approx(31.0)


def test_after_hours_and_a_restart_of_the_counter_what_it_counted_since_arrives() -> None:
    gauge = RainAccumulator()
    for t in (0, 60):
        gauge.add(100.0, t)
    assert gauge.add(20.0, 6 * 3600).mm is None
    assert gauge.add(20.4, 6 * 3600 + 60).mm == pytest.approx(20.4)


def test_a_cloudburst_is_late_but_complete() -> None:
    """300 mm/h: each step is doubted, and all of it is delivered once two totals agree."""
    rain, notes = run([10.0, 10.0, 15.0, 20.0, 25.0, 30.0, 30.0])
    assert rain == pytest.approx(20.0)
    assert "held-total" in notes


def test_a_new_gauge_in_its_place_makes_no_rain() -> None:
    rain, notes = run([12.0, 12.0, 4000.0, 4000.2, 4000.4])
    assert rain == pytest.approx(0.4)
    assert "jumped-total" in notes


@given(st.floats(0, 10_000), counters(first=20_000.0))
def test_a_corrupt_first_total_makes_no_rain(corrupt: float, totals: list[float]) -> None:
    rain, _ = run([corrupt, *totals])
    assert rain == pytest.approx(totals[-1] - totals[0])


def test_a_weighing_gauge_that_loses_water_makes_no_rain() -> None:
    drying = [50.0 - 0.1 * (i // 10) for i in range(120)]
    rain, _ = run(drying)
    assert rain == 0.0


def test_an_old_total_that_comes_late_changes_nothing() -> None:
    gauge = RainAccumulator()
    for total, t in ((10.0, 0), (10.2, 600), (10.4, 1200)):
        gauge.add(total, t)
    assert gauge.add(10.2, 600).note == "late-total"
    assert gauge.add(10.4, 1200).mm == 0.0  # the same once more
    assert gauge.add(10.6, 1800).mm == pytest.approx(0.2)


@given(st.lists(st.floats(0, 70_000), max_size=50), st.floats(0, 4000))
def test_whatever_comes_rain_is_never_negative(totals: list[float], step_s: float) -> None:
    gauge = RainAccumulator(wraps_of(0.2))
    for i, total in enumerate(totals):
        mm = gauge.add(total, i * step_s).mm
        assert mm is None or mm >= 0.0


def test_rain_that_could_not_be_delivered_comes_with_the_next() -> None:
    gauge = RainAccumulator()
    gauge.add(1.0, 0)
    given = gauge.add(1.4, 60).mm
    assert given == pytest.approx(0.4)
    gauge.carry(0.4)
    assert gauge.add(1.6, 120).mm == pytest.approx(0.6)


# --- from one run to the next ---------------------------------------------------------------------------------------


@given(st.lists(st.floats(0, 300).map(lambda x: round(x, 1)), min_size=2, max_size=20), st.data())
def test_a_gauge_that_is_put_down_and_taken_up_gives_the_same_rain(totals: list[float], data: st.DataObject) -> None:
    """Whatever its totals did before and do after, and on another time scale."""
    at = data.draw(st.integers(1, len(totals) - 1))
    whole, first = RainAccumulator(wraps_of(0.2)), RainAccumulator(wraps_of(0.2))
    expected = [whole.add(total, 60.0 * i) for i, total in enumerate(totals)]
    found = [first.add(total, 60.0 * i) for i, total in enumerate(totals[:at])]
    state = msgspec.json.decode(msgspec.json.encode(first.state(0.2, 1e9)), type=RainState)
    second = RainAccumulator.restored(state, wraps_of(0.2), -1e9 - 500)
    found += [second.add(total, 60.0 * (at + i) - 500) for i, total in enumerate(totals[at:])]
    assert found == expected


def test_before_the_first_total_there_is_nothing_to_put_down() -> None:
    assert RainAccumulator().state(1.0, 0.0) is None


@pytest.mark.parametrize(("gap_s", "gathered"), [(60, None), (110, None), (1800, 1800), (86_400, 86_400)])
def test_an_increment_over_an_unusual_gap_says_how_long_it_gathered(gap_s: int, gathered: int | None) -> None:
    gauge = RainAccumulator()
    for i in range(20):
        assert gauge.add(10 + i * TIP, 60.0 * i).gathered_s is None
    then = gauge.add(10 + 20 * TIP, 60.0 * 19 + gap_s)
    assert then.mm == pytest.approx(TIP) and then.gathered_s == gathered
    assert gauge.add(10 + 21 * TIP, 60.0 * 20 + gap_s).gathered_s is None


def test_a_counter_that_reports_by_the_hour_gathers_nothing_unusual() -> None:
    gauge = RainAccumulator()
    assert {gauge.add(i * TIP, 3600.0 * i).gathered_s for i in range(30)} == {None}
