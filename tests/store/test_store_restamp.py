"""Observations that get their time later: once each, in their place, under their own ids, and told again."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_agent.clock import ManualClock
from edge_agent.config import Store as Settings
from edge_agent.errors import StoreError
from edge_agent.observation import Flag, Judged, Revision, Verdict
from edge_agent.store import Keeper, Store, restamp
from edge_agent.store.observations import PAGE_ROWS
from edge_agent.store.restamp import Doubtful
from edge_agent.store.revisions import OPERATOR
from tests.store.disks import LimitedFiles
from tests.store.readings import DAY, judged

MACHINE = "this run of the machine"


@dataclass(frozen=True)
class Timeline:
    """What time it turned out to be."""

    offset_s: float
    state: str = "synced"

    def state_at(self, steady_s: float) -> str:
        return self.state


def arrived(
    steady: float,
    values: dict[str, float],
    offset: float = 0.0,
    clock: str = "unsynced",
    machine: str = MACHINE,
    **more: object,
) -> Judged:
    """An observation that came at `steady` and was stamped with an offset that nobody knew to be right."""
    one = judged(int(steady + offset // 1), values, seq=int(steady * 1000), **more)  # type: ignore[arg-type]
    return replace(
        one, observation=replace(one.observation, clock=clock, machine=machine, steady_s=steady, stamped=True)
    )


def put_right(store: Store | Keeper, timeline: Timeline, until: float = 10**6, **more: tuple[str, ...]) -> int:
    doubtful, moved = Doubtful(MACHINE, int(until * 1000), **more), 0
    for series in store.doubtful(doubtful):
        for slice_ in store.slices(series, doubtful, timeline):
            moved += store.restamp(series, slice_, timeline, ["mqtt"])
    return moved


def test_what_has_left_is_queued_again_and_what_waits_moves(store: Store) -> None:
    for steady in (100.0, 110.0, 120.0):
        store.add(arrived(steady, {"temperature": steady}), ["mqtt"])
    first, second, third = store.queued("mqtt", 9)
    store.acknowledge("mqtt", [first.key])  # second is on its way, third has not been sent
    assert put_right(store, Timeline(DAY)) == 3
    assert store.acknowledge("mqtt", [second.key]) == 0  # the broker took its old time: that is not it
    rows = store.queued("mqtt", 9)
    assert [row.judged.observation.t - DAY for row in rows] == [100, 110, 120]
    assert [row.judged.observation.id for row in rows] == [q.judged.observation.id for q in (first, second, third)]
    assert [row.judged.observation.restamped_from for row in rows] == [100, 110, 120]
    assert min(row.key for row in rows) > third.key
    books = store.counts("mqtt")
    assert (books.accepted, books.acknowledged, books.queued) == (4, 1, 3)


def test_messages_that_filled_up_an_observation_keep_their_ids(store: Store) -> None:
    store.add(arrived(100.0, {"temperature": 1.0}), ["mqtt"])
    store.add(arrived(100.5, {"wind_speed": 2.0}), ["mqtt"])
    store.add(arrived(100.7, {"rain": 0.2}), ["mqtt"])
    sent = {row.judged.observation.id: row.judged.observation.values for row in store.queued("mqtt", 9)}
    store.acknowledge("mqtt", [row.key for row in store.queued("mqtt", 9)][:2])
    for offset, state in ((DAY, "holdover"), (DAY + 30, "synced")):  # a person's word, then a time server's
        put_right(store, Timeline(offset, state), states=("unsynced", "holdover"))
        rows = store.queued("mqtt", 9)
        assert {row.judged.observation.id: row.judged.observation.values for row in rows} == sent
        assert {row.judged.observation.t for row in rows} == {offset + 100}
        store.acknowledge("mqtt", [row.key for row in rows])
    assert put_right(store, Timeline(DAY + 60), states=("unsynced", "holdover")) == 0


def test_a_restart_gives_no_key_of_the_outbox_twice(path: Path, store: Store) -> None:
    store.add(arrived(100.0, {"temperature": 1.0}), ["mqtt"])
    put_right(store, Timeline(DAY))
    key = store.queued("mqtt", 1)[0].key
    store.close()
    with Store.open(path) as again:
        again.add(judged(DAY + 500, {"temperature": 2.0}), ["mqtt"])
        assert again.queued("mqtt", 9)[1].key > key


def test_only_what_this_machine_stamped_without_knowing_is_moved(store: Store) -> None:
    store.add(judged(50, {"temperature": 0.0}))  # a message's own time
    store.add(arrived(100.0, {"temperature": 1.0}, boot_id="another machine's", machine="another"))
    store.add(arrived(110.0, {"temperature": 2.0}, clock="synced"))
    store.add(arrived(120.0, {"temperature": 3.0}, clock="holdover"))
    store.add(arrived(130.0, {"temperature": 4.0}))
    store.add(arrived(900.0, {"temperature": 5.0}))
    assert put_right(store, Timeline(DAY), until=500) == 1
    assert [j.observation.t for j in store.observations("roof")] == [50, 100, 110, 120, 900, DAY + 130]


@given(
    steps=st.lists(st.tuples(st.floats(0.05, 3000), st.sampled_from([0.0, 0.37, -5000.5])), min_size=1, max_size=25),
    offset=st.floats(-200_000, 200_000),
    rows=st.sampled_from([1, 3, restamp.SLICE_ROWS]),
)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_grid_newest_and_rows_are_as_if_the_time_had_been_known(
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    steps: list[tuple[float, float]],
    offset: float,
    rows: int,
) -> None:
    folder = tmp_path_factory.mktemp("stores")
    monkeypatch.setattr(restamp, "SLICE_ROWS", rows)
    if rows <= 3:  # clocks that were wrong in both directions meet each other, and may then be some seconds off
        steps = [(wait, steps[0][1]) for wait, _ in steps]
    with Store.open(folder / "late.sqlite") as late, Store.open(folder / "known.sqlite") as known:
        steady, came = 0.0, {}
        for n, (wait, jump) in enumerate(steps):
            steady = round(steady + wait, 3)
            one = arrived(steady, {"temperature": float(n), "rain": 0.1}, 10**6 + jump)
            if late.add(replace(one, observation=replace(one.observation, seq=n))):
                came[n] = steady
        late.add(judged(10**6 - 1000, {"humidity": 50.0}, source="other"))
        put_right(late, Timeline(10**6 + offset))
        found = list(late.observations("roof"))
        for o in (judged.observation for judged in found if judged.observation.source == "mast"):
            assert abs(o.t - (came.pop(o.seq) + 10**6 + offset)) <= 1.0 + 1e-3
        assert not came
        for row in found:
            known.add(row)
        assert known.newest("roof") == late.newest("roof")
        origin = (10**6 + 300_000) // 900 * 900
        assert np.array_equal(known.history(["roof"], origin), late.history(["roof"], origin), equal_nan=True)
        assert known.ages(["roof"], origin) == late.ages(["roof"], origin)


def test_a_disk_that_fails_in_the_middle_moves_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for steady in (100.0, 110.0):
        store.add(arrived(steady, {"temperature": steady}), ["mqtt"])

    def fails(*_: object) -> None:
        raise RuntimeError("in the middle")

    before = [judged.observation.t for judged in store.observations("roof")]
    monkeypatch.setattr(store._outbox, "move", fails)
    with pytest.raises(RuntimeError):
        put_right(store, Timeline(DAY))
    monkeypatch.undo()
    assert [judged.observation.t for judged in store.observations("roof")] == before
    assert put_right(store, Timeline(DAY)) == 2


def test_a_second_that_holds_another_moment_is_left_to_it(store: Store) -> None:
    store.add(arrived(100.0, {"temperature": 1.0}, clock="synced"))
    assert store.free_second("roof", "mast", 100, 100.4, MACHINE) == 100  # the same moment: it fills up
    assert store.free_second("roof", "mast", 100, 3700.0, MACHINE) == 101
    assert store.free_second("roof", "mast", 100, 100.0, "after a power cut") == 101
    assert store.free_second("roof", "another", 100, 3700.0, MACHINE) == 100
    assert store.free_second("yard", "mast", 100, 3700.0, MACHINE) == 100


def test_a_row_keeps_its_priority_in_the_outbox(path: Path) -> None:
    with Store.open(path, outbox_policy="drop_lowest_priority") as store:
        store.add(arrived(100.0, {"temperature": 1.0}, rank=7), ["mqtt"])
        store.add(arrived(110.0, {"temperature": 2.0}, rank=7), ["mqtt"])
        store.acknowledge("mqtt", [store.queued("mqtt", 1)[0].key])
        put_right(store, Timeline(DAY))  # one goes by its row, the other is queued anew
        assert store.tables.connection.read("SELECT priority FROM outbox") == [(7,), (7,)]


def test_later_verdicts_go_with_the_rows_that_they_name(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restamp, "SLICE_ROWS", 3)
    for n in range(10):
        store.add(arrived(100.0 + 10 * n, {"temperature": float(n)}), ["mqtt"])
    doubt = Revision("roof", "mast", "temperature", 120, 170, Verdict(Flag.FAIL, "spike", "a test", 2.0))
    store.revise(doubt, DAY)
    put_right(store, Timeline(DAY))
    (record,) = store.unpublished_revisions(9)
    assert (record.revision.start, record.revision.end, record.rows) == (DAY + 120, DAY + 170, 6)
    failed = [j.observation.t - DAY for j in store.observations("roof") if j.verdicts["temperature"].flag is Flag.FAIL]
    assert failed == [120, 130, 140, 150, 160, 170]
    word = Revision("roof", "mast", "temperature", DAY + 120, DAY + 170, Verdict(Flag.GOOD, OPERATOR, "it was hot"))
    assert store.revise(word, DAY) == {Flag.FAIL: 6}


def test_rows_of_a_clock_that_was_taken_for_right_are_moved_where_their_times_are_named(store: Store) -> None:
    for n in range(4):
        store.add(arrived(100.0 + 10 * n, {"temperature": float(n)}, DAY, "synced"), ["mqtt"])
    for n in range(4, 8):
        store.add(arrived(100.0 + 10 * n, {"temperature": float(n)}, DAY + 86_400, "synced"), ["mqtt"])
    named = Doubtful(MACHINE, 10**9, since_ms=120_000, times=(DAY + 86_400, DAY + 87_000))
    for series in store.doubtful(named):
        for slice_ in store.slices(series, named, Timeline(DAY)):
            assert store.restamp(series, slice_, Timeline(DAY), ["mqtt"]) == 4
    assert [j.observation.t - DAY for j in store.observations("roof")] == [100 + 10 * n for n in range(8)]
    assert store.newest("roof")["temperature"][:2] == (DAY + 170, 7.0)


def test_a_block_of_taken_seconds_is_passed_whole(store: Store) -> None:
    for n in range(2 * PAGE_ROWS + 5):
        store.add(arrived(100.0 + n, {"temperature": 1.0}))
    assert store.free_second("roof", "mast", 150, 9e6, MACHINE) == 100 + 2 * PAGE_ROWS + 5


# --- where the store is not what it was -------------------------------------------------------------------------------


def told(store: Store | Keeper) -> list[Judged]:
    return list(store.observations("roof"))


def test_what_came_while_the_disk_was_full_is_put_right_when_it_works_again(tmp_path: Path) -> None:
    disk = LimitedFiles(tmp_path)
    with Keeper(Settings(str(tmp_path / "store.sqlite")), ManualClock(DAY)) as store:
        store.add(arrived(100.0, {"temperature": 1.0}), ["mqtt"])
        store.commit(100)
        disk.fill()
        for steady in (110.0, 110.2, 120.0):  # the second one fills up the first
            values = {"wind_speed": 2.0} if steady == 110.2 else {"temperature": steady}
            t = store.free_second("roof", "mast", int(steady), steady, MACHINE)
            assert t == int(steady) and store.add(arrived(steady, values), ["mqtt"])
        assert store.free_second("roof", "mast", 100, 9000.0, MACHINE) == 101  # the disk's
        assert store.free_second("roof", "mast", 110, 9000.0, MACHINE) == 111  # the memory's
        store.commit(160)
        assert not store.on_disk
        with pytest.raises(StoreError, match="no observation gets its time meanwhile"):
            put_right(store, Timeline(DAY))
        before = told(store)
        disk.free()
        store.commit(220)
        assert store.on_disk and told(store) == before
        ids = {row.judged.observation.id for row in store.queued("mqtt", 9)}
        assert put_right(store, Timeline(DAY)) == 3
        assert [one.observation.t - DAY for one in told(store)] == [100, 110, 120]
        rows = store.queued("mqtt", 9)
        assert {row.judged.observation.id for row in rows} == ids and len(rows) == 4
        assert store.newest("roof")["temperature"] == (DAY + 120, 120.0, 1)


@pytest.mark.parametrize("header", [False, True])
def test_a_damaged_file_gives_the_times_of_arrival_too(tmp_path: Path, header: bool) -> None:
    path = tmp_path / "store.sqlite"
    with Store.open(path) as store:
        for n in range(200):
            store.add(arrived(100.0 + 10 * n, {"temperature": float(n % 20)}), ["mqtt"])
        store.add(arrived(110.3, {"wind_speed": 2.0}), ["mqtt"])
        put_right(store, Timeline(1000, "holdover"), until=500)  # some have been moved once
        before, ids = told(store), [row.judged.observation.id for row in store.queued("mqtt", 1000)]
    with path.open("r+b") as file:  # the header: row by row from its pages; else what follows it: as a database
        file.seek(0 if header else 4096 * 3)
        file.write(b"\x00" * 4096)
    clock = ManualClock(DAY)
    with Keeper(Settings(str(path)), clock) as salvaged:
        while salvaged.salvaged is None:
            salvaged.commit(DAY)
        while salvaged.salvage(1.0):
            pass
        after = told(salvaged)
        assert len(after) > 150 and all(one in before for one in after)
        queued = [row.judged.observation.id for row in salvaged.queued("mqtt", 1000)]
        assert put_right(salvaged, Timeline(DAY), states=("unsynced", "holdover")) == len(after)
        assert [one.observation.t - DAY for one in told(salvaged)] == sorted(
            int(one.observation.steady_s or 0) for one in after
        )
        again = [row.judged.observation.id for row in salvaged.queued("mqtt", 1000)]
        assert sorted(again) == sorted(queued) and set(again) <= set(ids)


def test_rows_of_an_older_schema_are_taken_from_the_pages_of_a_damaged_file(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    with Store.open(path) as store:
        c = store.tables.connection
        for n in range(100):
            store.add(judged(DAY + n, {"temperature": 1.0}))
        c.commit()
        for sql in (
            "DROP INDEX observations_doubtful",
            *(f"ALTER TABLE observations DROP COLUMN {name}" for name in ("steady_ms", "stamped", "was")),
            "ALTER TABLE boots DROP COLUMN machine",
            "DROP TABLE parts",
        ):
            c.raw.execute(sql)
        expected = [DAY + n for n in range(100)]
        c.raw.close()
    with path.open("r+b") as file:
        file.write(b"\x00" * 100)
    with Keeper(Settings(str(path)), ManualClock(DAY)) as salvaged:
        while salvaged.salvage(1.0):
            pass
        found = told(salvaged)
        assert [one.observation.t for one in found] == expected
        assert {(one.observation.boot_id, one.observation.machine, one.observation.stamped) for one in found} == {
            ("boot", "", False)
        }
