"""A disk that is full, read-only, failing or gone: the agent's store goes on from memory, says so, and comes back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edge_agent.clock import ManualClock
from edge_agent.config import Store as Settings
from edge_agent.errors import StoreError
from edge_agent.observation import Flag, RainState, Revision, Verdict
from edge_agent.store import Keeper, OutboxCounts, Store, refuge
from edge_agent.store.revisions import Recorded
from tests.store.disks import Disk, LimitedFiles, small_disk
from tests.store.readings import DAY, forecast, judged

ROOT = Path(__file__).parents[2]


@pytest.fixture(params=["no file may grow", "no room"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    """With both kinds of failure that a full disk shows; who may not mount one has the first twice."""
    limited = LimitedFiles(tmp_path)
    with small_disk(tmp_path / "small") as small:
        found = small if small is not None and request.param == "no room" else limited
        yield found
        limited.free()


def keeper(folder: Path, **settings: object) -> Keeper:
    return Keeper(Settings(str(folder / "store.sqlite"), **settings), ManualClock(DAY))  # type: ignore[arg-type]


def add(store: Keeper | Store, first: int, n: int, **more: object) -> None:
    """Readings every ten seconds: the number `first` and those behind it."""
    for i in range(first, first + n):
        assert store.add(judged(DAY + 10 * i, {"temperature": i % 30 / 2, "rain": 0.5}, **more), ("mqtt",))  # type: ignore[arg-type]


def rain(store: Keeper | Store, until: int) -> float:
    return float(np.nansum(store.history(["roof"], until)[0, :, 6]))


def times(store: Keeper | Store) -> list[int]:
    return [(one.observation.t - DAY) // 10 for one in store.observations("roof")]


def balanced(books: OutboxCounts) -> bool:
    return books.accepted == books.acknowledged + books.queued + sum(books.dropped.values())


# --- a full disk ---------------------------------------------------------------------------------------------------


def test_a_full_disk_loses_no_reading_and_is_taken_up_again(disk: Disk) -> None:
    with keeper(disk.folder) as store:
        add(store, 0, 300)
        store.add_forecast(forecast(DAY))
        store.commit(DAY + 3000)
        add(store, 300, 10)
        disk.fill()
        store.commit(DAY + 3100)
        assert not store.on_disk and store.in_memory == 10 and "disk" in store.trouble
        add(store, 310, 290)
        store.add_forecast(forecast(DAY + 900))
        assert times(store) == list(range(600))
        assert rain(store, DAY + 6300) == pytest.approx(300)  # forecasts see all of it
        assert store.ages(["roof"], DAY + 6300)[0]["rain"] == 310
        assert store.newest("roof")["rain"][0] == DAY + 5990
        store.commit(DAY + 3200)
        assert not store.on_disk and store.in_memory == 300
        disk.free()
        store.commit(DAY + 3300)
        assert store.on_disk and store.in_memory == 0 and store.trouble == ""
        assert store.lost == {"store": 1}
    with Store.open(disk.folder / "store.sqlite") as after:
        assert times(after) == list(range(600))
        assert rain(after, DAY + 6300) == pytest.approx(300)
        assert after.counts("mqtt") == OutboxCounts(600, 0, 600, {})
        assert [one.origin for one in after.forecasts("roof", since=0, until=2**40)] == [DAY, DAY + 900]
        assert after.tables.connection.read("PRAGMA integrity_check") == [("ok",)]


def worse(first: int, last: int, flag: Flag = Flag.SUSPECT) -> Revision:
    """A later verdict on the readings with these numbers."""
    verdict = Verdict(flag, "spike", "left and came back", 2.0)
    return Revision("roof", "mast", "temperature", DAY + 10 * first, DAY + 10 * last, verdict)


def flags(store: Keeper | Store) -> list[int]:
    return [int(one.verdicts["temperature"].flag) for one in store.observations("roof")]


def spans(revisions: list[Recorded]) -> list[tuple[int, int, int]]:
    found = ((one.revision.start, one.revision.end, one.rows) for one in revisions)
    return [((start - DAY) // 10, (end - DAY) // 10, rows) for start, end, rows in found]


def test_a_verdict_made_while_the_disk_fails_is_kept_for_file_and_memory_and_published_after_it(disk: Disk) -> None:
    with keeper(disk.folder) as store:
        add(store, 0, 10)
        store.revise(worse(0, 1), DAY)
        store.commit(DAY)
        add(store, 10, 2)
        store.revise(worse(4, 5), DAY + 1)  # in the transaction that is lost
        disk.fill()
        store.commit(DAY + 60)
        add(store, 12, 8)
        store.revise(worse(9, 13), DAY + 2)
        (known,) = store.unpublished_revisions(10)
        assert spans([known]) == [(0, 1, 2)], "the file's"
        store.revisions_published([known.key])
        assert store.unpublished_revisions(10) == [], "it is not said again and again while the disk fails"
        disk.free()
        store.commit(DAY + 120)
        suspect = {0, 1, 4, 5, *range(9, 14)}
        assert flags(store) == [3 if n in suspect else 1 for n in range(20)]
        assert spans(store.unpublished_revisions(10)) == [(4, 5, 2), (9, 9, 1), (10, 13, 4)]
    with Store.open(disk.folder / "store.sqlite") as after:
        assert spans(after.revisions()) == [(0, 1, 2), (4, 5, 2), (9, 9, 1), (10, 13, 4)]
        assert spans(after.unpublished_revisions(10)) == [(4, 5, 2), (9, 9, 1), (10, 13, 4)]


def test_memory_for_verdicts_is_bounded_and_what_it_has_no_room_for_is_counted(disk: Disk, monkeypatch) -> None:
    monkeypatch.setattr(refuge, "MEMORY_REVISIONS", 3)
    with keeper(disk.folder) as store:
        add(store, 0, 10)
        store.commit(DAY)
        disk.fill()
        add(store, 10, 1)
        store.commit(DAY + 60)
        for n in range(5):
            store.revise(worse(n, n), DAY + n)
        assert store.lost["verdicts"] == 2
        disk.free()
        store.commit(DAY + 120)
        assert flags(store)[:6] == [1, 1, 3, 3, 3, 1]


def test_publishing_goes_on_from_file_and_memory_and_settles_each_row_once(disk: Disk) -> None:
    with keeper(disk.folder) as store:
        add(store, 0, 20)
        store.commit(DAY)
        add(store, 20, 5)
        before = [row.key for row in store.queued("mqtt", 100)]
        store.acknowledge("mqtt", before[:3])
        disk.fill()
        store.commit(DAY + 60)
        add(store, 25, 5)
        rows = store.queued("mqtt", 100)
        assert [row.key for row in rows[:22]] == before[3:], "keys stay as they were"
        assert [row.judged.observation.t for row in rows] == [DAY + 10 * i for i in range(3, 30)]
        assert [row.key for row in store.queued("mqtt", 4, after=rows[15].key)] == [row.key for row in rows[16:20]]
        store.acknowledge("mqtt", [row.key for row in rows[:25]])
        store.drop("mqtt", [rows[25].key], "refused")
        assert [row.key for row in store.queued("mqtt", 100)] == [rows[26].key]
        assert store.books()["mqtt"] == OutboxCounts(20, 0, 20, {}), "what is in memory counts for nothing yet"
        disk.free()
        store.commit(DAY + 120)
        assert store.books()["mqtt"] == OutboxCounts(30, 28, 1, {"refused": 1})
        add(store, 30, 1)
        assert store.queued("mqtt", 100)[-1].key > rows[-1].key


def test_a_key_that_was_settled_in_memory_is_not_given_again_by_the_next_run(disk: Disk) -> None:
    with keeper(disk.folder) as store:
        add(store, 0, 1)
        disk.fill()
        store.commit(DAY)
        (row,) = store.queued("mqtt", 9)
        store.acknowledge("mqtt", [row.key])
        disk.free()
    with keeper(disk.folder) as store:
        add(store, 1, 1)
        assert store.queued("mqtt", 9)[0].key > row.key
        store.commit(DAY)
        assert store.books()["mqtt"] == OutboxCounts(2, 1, 1, {})


def test_what_was_read_before_is_told_from_what_is_new_also_in_memory(disk: Disk) -> None:
    state = {"rain": RainState(0.2, (12.4, float(DAY)))}
    with keeper(disk.folder) as store:
        store.add(judged(DAY, {"temperature": 1.0}, seq=1), ("mqtt",))
        store.commit(DAY)
        store.add(judged(DAY, {"temperature": 1.0, "humidity": 50.0}, seq=2), ("mqtt",))
        disk.fill()
        store.commit(DAY + 60)
        assert store.in_memory == 1
        assert not store.add(judged(DAY, {"temperature": 1.0}, seq=3), ("mqtt",))
        fate = store.add(judged(DAY, {"temperature": 9.0, "rain": 0.2}, seq=4), ("mqtt",), state)
        assert (fate.kept, fate.other) == ({"rain"}, {"temperature"})
        disk.free()
        store.commit(DAY + 120)
        (one,) = store.observations("roof")
        assert one.observation.values == {"temperature": 1.0, "humidity": 50.0, "rain": 0.2}
        sent = [(row.judged.observation.seq, set(row.judged.observation.values)) for row in store.queued("mqtt", 9)]
        assert sent == [(1, {"temperature"}), (2, {"humidity"}), (4, {"rain"})]
        assert store.rain_totals() == {"mast": {("roof", "rain"): state["rain"]}}
        assert rain(store, DAY + 900) == pytest.approx(0.2)


def test_memory_is_bounded_and_what_it_has_no_room_for_is_counted(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_agent.store.refuge.MEMORY_READINGS", 100)
    with keeper(disk.folder) as store:
        add(store, 0, 5)
        store.commit(DAY)
        disk.fill()
        add(store, 5, 1)
        store.commit(DAY)
        add(store, 6, 500)
        assert 80 < store.in_memory <= 100 and store.in_memory + store.lost["readings"] == 501
        assert times(store)[-1] == 505 and len(store.queued("mqtt", 1000)) == 5 + store.in_memory
        disk.free()
        store.commit(DAY)
        books = store.books()["mqtt"]
        assert balanced(books) and books.dropped == {"memory-full": store.lost["readings"]}
        assert len(times(store)) == 506 - store.lost["readings"]


def test_an_end_on_a_full_disk_says_what_is_lost(disk: Disk) -> None:
    store = keeper(disk.folder)
    add(store, 0, 5)
    store.commit(DAY)
    add(store, 5, 3)
    disk.fill()
    store.commit(DAY)
    with pytest.raises(StoreError, match="3 readings that were only in memory are lost"):
        store.close()
    disk.free()
    with keeper(disk.folder) as again:  # the lock went with it
        assert times(again) == list(range(5))


def test_a_disk_that_fails_in_the_middle_of_a_statement_loses_nothing(tmp_path: Path) -> None:
    """The database itself says that it is full, long before a commit."""
    with keeper(tmp_path) as store:
        add(store, 0, 10)
        store.commit(DAY)
        file = store._refuge.file
        assert file is not None
        raw = file.tables.connection.raw
        raw.execute(f"PRAGMA max_page_count={raw.execute('PRAGMA page_count').fetchone()[0] + 2}")
        add(store, 10, 400)
        assert not store.on_disk and "the disk is full: free space" in store.trouble
        raw.execute("PRAGMA max_page_count=1000000")
        store.commit(DAY)
        assert store.on_disk and times(store) == list(range(410))
        assert store.books()["mqtt"] == OutboxCounts(410, 0, 410, {})


# --- a disk that cannot be written from the start ------------------------------------------------------------------


def test_a_disk_that_is_read_only_at_the_start_is_read_and_written_once_it_may_be(tmp_path: Path) -> None:
    """As nobody, in a folder that nobody may write; for root on a disk that is mounted so."""
    with small_disk(tmp_path / "small") as small:
        folder = tmp_path / "owned" if small is None else small.folder / "owned"
        with keeper(folder) as store:
            add(store, 0, 300)
        if small is None:
            pytest.skip("only root can mount a read-only disk; a folder without permission is a mistake, and refused")
        small.read_only(True)
        with keeper(folder) as store:
            assert not store.on_disk and store.trouble
            add(store, 300, 5)
            assert times(store) == list(range(305)) and rain(store, DAY + 3600) == pytest.approx(152.5)
            assert len(store.queued("mqtt", 1000)) == 305
            store.commit(DAY)
            assert rain(store, DAY + 3600) == pytest.approx(152.5)
            assert store.books()["mqtt"] == OutboxCounts(300, 0, 300, {})
            small.read_only(False)
            store.commit(DAY)
            assert store.on_disk and store.books()["mqtt"] == OutboxCounts(305, 0, 305, {})
        with Store.open(folder / "store.sqlite") as after:
            assert times(after) == list(range(305)) and rain(after, DAY + 3600) == pytest.approx(152.5)


def test_a_disk_that_was_never_written_says_that_it_is_read_only(tmp_path: Path) -> None:
    with small_disk(tmp_path / "small") as small:
        if small is None:
            pytest.skip("only root can mount a read-only disk")
        small.read_only(True)
        with keeper(small.folder) as store:
            assert "Read-only" in store.trouble and "mount it for writing" in store.trouble
            assert store.trouble.count("store.sqlite") == 1 and "No such file" not in store.trouble


def test_a_folder_in_the_place_of_the_file_is_left_alone_and_the_file_made_when_it_is_gone(tmp_path: Path) -> None:
    (tmp_path / "store.sqlite").mkdir()
    with keeper(tmp_path) as store:
        add(store, 0, 5)
        store.commit(DAY)
        assert not store.on_disk and "cannot be opened" in store.trouble and store.in_memory == 5
        assert (tmp_path / "store.sqlite").is_dir()
        (tmp_path / "store.sqlite").rmdir()
        store.commit(DAY)
        assert store.on_disk and times(store) == list(range(5))


def test_another_programs_file_is_a_mistake_and_refused(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", OTHER, str(tmp_path / "store.sqlite")], check=True)
    before = (tmp_path / "store.sqlite").read_bytes()
    with pytest.raises(StoreError, match="another program"):
        keeper(tmp_path)
    assert (tmp_path / "store.sqlite").read_bytes() == before
    assert [path.name for path in tmp_path.glob("*damaged*")] == []


OTHER = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('CREATE TABLE bookmarks (url TEXT)')"


def test_a_second_agent_is_refused_also_where_the_disk_is_full(disk: Disk) -> None:
    with keeper(disk.folder):
        disk.fill()
        with pytest.raises(StoreError, match="another agent"):
            keeper(disk.folder)
        disk.free()


# --- a file that goes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["deleted", "moved", "replaced"])
def test_a_file_that_is_taken_away_while_it_is_written_is_begun_anew(tmp_path: Path, how: str) -> None:
    path = tmp_path / "store.sqlite"
    with keeper(tmp_path) as store:
        add(store, 0, 5)
        store.commit(DAY)
        add(store, 5, 5)
        if how == "deleted":
            path.unlink()
        elif how == "moved":
            path.rename(tmp_path / "elsewhere.sqlite")
        else:
            Store.open(tmp_path / "other.sqlite").close()
            os.replace(tmp_path / "other.sqlite", path)
        store.commit(DAY + 60)
        assert store.on_disk and store.lost == {"store": 1}
        add(store, 10, 5)
    with Store.open(path) as after:
        assert times(after) == list(range(5, 15))
        assert balanced(after.counts("mqtt"))
    if how == "moved":  # with everything that was committed to it
        with Store.open(tmp_path / "elsewhere.sqlite") as moved:
            assert times(moved) == list(range(5))


# --- a process that dies in between --------------------------------------------------------------------------------

DIES = """
import os, resource, sys
from tests.store.test_store_disk_fails import add, keeper
from pathlib import Path
store = keeper(Path(sys.argv[1]))
add(store, 0, 50)
store.commit(0)
add(store, 50, 10)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, -1))
store.commit(0)
add(store, 60, 10)
if sys.argv[2] == "back":
    resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))
    store.commit(0)
os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize(("when", "kept"), [("in memory", 50), ("back", 70)])
def test_who_dies_with_readings_in_memory_had_not_called_them_durable(tmp_path: Path, when: str, kept: int) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    died = subprocess.run([sys.executable, "-c", DIES, str(tmp_path), when], check=False, env=environment)
    assert died.returncode == -signal.SIGKILL
    with Store.open(tmp_path / "store.sqlite") as after:
        assert times(after) == list(range(kept))
        assert after.counts("mqtt") == OutboxCounts(kept, 0, kept, {})
