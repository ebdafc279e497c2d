"""A crash loop ends in safe mode, and safe mode ends: counted in running time, whatever the clock says."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.errors import StoreError
from edge_agent.runs import STABLE_S, UNCLEAN_ENDS, WITHIN_S, Run, begun


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store.sqlite"


def lives(run: Run, seconds: float) -> bool:
    """Time passes in it; whether it left safe mode meanwhile."""
    return sum(run.lasted(float(age)) for age in (*range(0, int(seconds), 10), seconds)) > 0


def killed(store: Path, after_s: float = 0) -> Run:
    """A run that nobody ended."""
    run = Run(Path(f"{store}.runs"))
    lives(run, after_s)
    return run


def next_is_safe(store: Path) -> bool:
    with begun(store) as run:
        return run.safe


def test_a_few_runs_killed_in_a_row_and_the_next_is_in_safe_mode_and_says_why(store):
    for n in range(UNCLEAN_ENDS):
        assert not killed(store).safe, n
    run = killed(store)
    assert run.safe
    assert f"the last {UNCLEAN_ENDS} runs" in run.why and "edge-agent run --normal" in run.why


@settings(max_examples=15)
@given(st.lists(st.integers(0, 7000), min_size=UNCLEAN_ENDS, max_size=UNCLEAN_ENDS + 3))
def test_ends_that_lie_more_than_an_hour_of_running_apart_are_no_loop_and_those_in_half_of_it_are(spans):
    """Ages are written down at doublings, so that a gap is known to within a factor of two."""
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "store"
        for span in spans:
            run = Run(Path(f"{store}.runs"))
            if run.safe:
                return  # a loop already: what comes after it has its own test
            for age in (*range(0, span, 60), span):
                run.lasted(float(age))
        last = spans[-UNCLEAN_ENDS:]
        if sum(last[1:]) <= WITHIN_S and max(last) < STABLE_S:
            assert next_is_safe(store)
        if sum(last[1:]) > 2.2 * WITHIN_S:
            assert not next_is_safe(store)


def test_runs_that_were_told_to_stop_or_said_what_to_do_do_not_count(store):
    for _ in range(3 * UNCLEAN_ENDS):
        with begun(store) as run:
            assert not run.safe
    for _ in range(3 * UNCLEAN_ENDS):
        with pytest.raises(StoreError), begun(store) as run:
            assert not run.safe
            raise StoreError("disk full")


def test_a_fault_of_ours_counts(store):
    for _ in range(UNCLEAN_ENDS):
        with pytest.raises(ZeroDivisionError), begun(store):
            raise ZeroDivisionError
    assert next_is_safe(store)


def test_a_stable_hour_ends_safe_mode_and_one_more_such_end_returns_to_it(store):
    for _ in range(UNCLEAN_ENDS):
        killed(store)
    run = killed(store)
    assert run.safe and not lives(run, STABLE_S - 1)
    assert run.lasted(STABLE_S) and not run.safe and run.why == ""
    again = killed(store)
    assert again.safe
    assert lives(again, STABLE_S) and not again.safe
    assert not any(again.lasted(STABLE_S + age) for age in range(1, int(STABLE_S) + 1))
    assert not killed(store).safe, "after a second stable hour all is forgotten"


def cut(store: Path, boot: int, after_s: float = 0) -> Run:
    """A run whose machine lost its power."""
    run = Run(Path(f"{store}.runs"), boot=f"boot-{boot}")
    lives(run, after_s)
    return run


def test_power_cuts_are_no_crash_loop_however_many_come(store):
    assert not any(cut(store, n).safe for n in range(4 * UNCLEAN_ENDS))


def test_a_power_cut_amid_a_crash_loop_does_not_hide_it(store):
    for n in range(UNCLEAN_ENDS - 1):
        assert not cut(store, 1).safe, n
    assert not cut(store, 1).safe
    assert not cut(store, 2).safe, "the machine went, and this run of it"
    assert cut(store, 2).safe


def test_where_boots_cannot_be_told_apart_every_unclean_end_counts(store):
    runs = [Run(Path(f"{store}.runs"), boot="") for _ in range(UNCLEAN_ENDS + 1)]
    assert runs[-1].safe


def test_safe_mode_lasts_through_a_restart_that_was_asked_for(store):
    for _ in range(UNCLEAN_ENDS):
        killed(store)
    assert next_is_safe(store) and next_is_safe(store)


def test_the_operator_may_insist(store):
    for _ in range(UNCLEAN_ENDS):
        killed(store)
    with begun(store, normal=True) as run:
        assert not run.safe
    assert not next_is_safe(store)


def test_a_run_without_trouble_writes_when_it_begins_and_when_it_ends(store):
    path = Path(f"{store}.runs")
    with begun(store) as run:
        before = path.stat().st_ino
        lives(run, 3 * STABLE_S)
        assert path.stat().st_ino == before


@pytest.mark.parametrize(
    "content",
    [b"", b"\0" * 100, b"[]", b'{"ends": ["x"]}', b'{"ends": [-1, 1e300]}', b'{"ends": ["\x80"]}', b"{" * 20_000],
)
def test_a_file_that_says_nothing_keeps_nobody_from_starting(store, content):
    Path(f"{store}.runs").write_bytes(content)
    assert not next_is_safe(store)


def test_a_place_that_cannot_be_written_is_said_once_and_the_run_goes_on(tmp_path, caplog):
    with begun(tmp_path / "nowhere" / "store") as run:
        lives(run, 4000)
    assert sum("cannot be written" in record.message for record in caplog.records) == 1
