"""A damaged store is put aside, a new one begun, and what can be read of the old one taken over."""

from __future__ import annotations

import os
import random
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_agent.clock import ManualClock
from edge_agent.config import Store as Settings
from edge_agent.observation import Flag, RainState, Revision, Verdict
from edge_agent.store import Keeper, OutboxCounts, Store
from edge_agent.store.carve import Pages, records
from edge_agent.store.rebuild import Rebuilt
from edge_agent.store.revisions import OPERATOR
from edge_agent.verification import ScoreRow
from tests.store.readings import DAY, forecast, judged

PAGE = 4096
DAMAGES = int(os.environ.get("STORE_DAMAGES", "12"))  # random ones of the last test
STATIONS = ("roof", "hill")
READINGS = 800  # of each station
NOW = DAY + 10 * READINGS


def keeper(path: Path) -> Keeper:
    return Keeper(Settings(str(path)), ManualClock(NOW))


def value(i: int) -> float:
    return i % 30 / 2


def made(path: Path, *, log: bool = False) -> None:
    """A store with a past: readings of two stations, of which the last 40 wait and 5 were refused, forecasts, scores,
    a running total and an import. `log`: all of it is still in the write-ahead log."""
    path.parent.mkdir(parents=True, exist_ok=True)
    store = Store.open(path)
    if log:
        store.tables.connection.raw.execute("PRAGMA wal_autocheckpoint=0")
    for i in range(READINGS):
        for station in STATIONS:
            totals = {"rain": RainState(0.2, (i / 2, float(DAY + 10 * i)))}
            values = {"temperature": value(i), "rain": 0.5}
            store.add(judged(DAY + 10 * i, values, station=station), ("mqtt",), totals)
    keys = [row.key for row in store.queued("mqtt", 10_000)]
    store.drop("mqtt", keys[:5], "refused")
    store.acknowledge("mqtt", keys[5:-40])
    for station in STATIONS:
        for n in range(8):
            store.add_forecast(forecast(DAY + 900 * n, station), [forecast(DAY + 900 * n, station)])
        store.add_scores(
            [ScoreRow(station, "2023-11-15", "bundle", "rain", lead, 4, 1, 2, 3, 4, 1) for lead in (900, 1800)]
        )
    for test in ("spike", OPERATOR):
        for station in STATIONS:
            store.revise(later(station, test), NOW)
    store.revisions_published([one.key for one in store.unpublished_revisions(10)[:3]])
    store.set("imported-sources:roof", '["import"]')
    store.set("pruned-at", str(DAY))
    store.commit(NOW)
    if not log:
        store.close()
    else:  # as a power cut leaves it
        raw = path.read_bytes(), Path(f"{path}-wal").read_bytes()
        store.close()
        path.write_bytes(raw[0])
        Path(f"{path}-wal").write_bytes(raw[1])


def later(station: str, test: str) -> Revision:
    """A later verdict on one reading."""
    t = DAY + (1000 if test == OPERATOR else 500)
    return Revision(station, "mast", "temperature", t, t, Verdict(Flag.SUSPECT, test, f"because of {test}", 2.0))


def found_out(store: Keeper) -> None:
    """Wait until it knows: when it is opened, or once it has been read through beside the work."""
    deadline = time.monotonic() + 30
    while store.salvaged is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
        store.commit(NOW)


def all_salvaged(store: Keeper) -> None:
    while store.salvage(1.0):
        pass


def kept(store: Keeper | Store, station: str) -> dict[int, dict[str, float]]:
    return {one.observation.t: dict(one.observation.values) for one in store.observations(station)}


def expected(station: str) -> dict[int, dict[str, float]]:
    return {DAY + 10 * i: {"temperature": value(i), "rain": 0.5} for i in range(READINGS)}


def balanced(books: OutboxCounts) -> bool:
    return books.accepted == books.acknowledged + books.queued + sum(books.dropped.values())


def aside(path: Path) -> Path:
    (found,) = (p for p in path.parent.glob("*.damaged-*") if not p.name.endswith(("-wal", "-shm", "-rows")))
    return found


def spoil(path: Path, *pages: int, seed: int = 1) -> None:
    """Random bytes in pages, counted from 0."""
    rng = random.Random(seed)
    with path.open("r+b") as file:
        for page in pages:
            file.seek(page * PAGE)
            file.write(rng.randbytes(PAGE))


def root(path: Path, table: str) -> int:
    """The page, counted from 0, with the root of a table."""
    with Store.open(path) as store:
        rows = store.tables.connection.read("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,))
    return int(rows[0][0]) - 1


# --- what is hit, and what is left -----------------------------------------------------------------------------------

HITS: dict[str, Callable[[Path], None]] = {
    "the header": lambda path: spoil(path, 0),
    "the schema": lambda path: spoil(path, root(path, "open_steps") - 1),
    "the root of the observations": lambda path: spoil(path, root(path, "observations")),
    "the grid": lambda path: spoil(path, root(path, "grid_days")),
    "the names of the sources": lambda path: spoil(path, root(path, "series")),
    "the names of the stations": lambda path: spoil(path, root(path, "stations")),
    "the outbox' index": lambda path: spoil(path, root(path, "outbox_destination")),
    "small things": lambda path: spoil(path, root(path, "meta")),
}


@pytest.mark.parametrize("hit", HITS)
def test_almost_every_reading_outlives_one_damaged_page(tmp_path: Path, hit: str) -> None:
    path = tmp_path / "store.sqlite"
    made(path)
    HITS[hit](path)
    before = path.read_bytes()
    with keeper(path) as store:
        found_out(store)
        store.add(judged(NOW, {"temperature": 1.0}), ("mqtt",))
        all_salvaged(store)
        said = store.salvaged
        for station in STATIONS:
            found = kept(store, station)
            found.pop(NOW, None)
            assert found.items() <= expected(station).items(), "nothing is invented"
            assert len(found) >= 0.95 * READINGS
            history = store.history([station], NOW + 900)[0, :, 6]
            assert np.nansum(history) == pytest.approx(0.5 * len(found)), "the grid is that of the readings"
        assert store.on_disk and store.get("imported-sources:roof") in ('["import"]', None)
        store.commit(NOW + 60)
        books = store.books()["mqtt"]
        assert balanced(books) and books.acknowledged in (0, 2 * READINGS - 45)
        rowless = "index" in hit or "schema" in hit  # a page that need not hold a row
        assert said is not None and said.done and (said.unreadable >= 1 or rowless)
        assert said.observations >= 0.95 * 2 * READINGS
    assert aside(path).read_bytes() == before, "the damaged file is as it was"
    with Store.open(path) as after:
        assert after.tables.connection.read("PRAGMA integrity_check") == [("ok",)]
        assert not list(tmp_path.glob("*-rows"))


@pytest.mark.parametrize("hit", ["the header", "the root of the observations", "small things", "the revisions' index"])
def test_the_record_of_later_verdicts_outlives_a_damaged_page(tmp_path: Path, hit: str) -> None:
    """An operator's word above all: nothing makes it again."""
    path = tmp_path / "store.sqlite"
    made(path)
    HITS.get(hit, lambda path: spoil(path, root(path, "revisions_unpublished")))(path)
    with keeper(path) as store:
        found_out(store)
        store.revise(later("roof", "range"), NOW + 60)  # of nothing that is there yet
        all_salvaged(store)
        store.commit(NOW + 60)
    with Store.open(path) as after:
        recorded = [(one.revision, one.made, one.rows) for one in after.revisions()]
        assert sorted(recorded, key=str) == sorted(
            ((later(station, test), NOW, 1) for station in STATIONS for test in ("spike", OPERATOR)), key=str
        )
        assert len(after.unpublished_revisions(10)) == 1, "receivers know the others"


def test_a_record_that_says_what_cannot_be_is_left_out_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    made(path)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE revisions SET variable = 'phlogiston' WHERE id = 1")
        db.execute("UPDATE revisions SET flag = 77 WHERE id = 2")
    spoil(path, root(path, "meta"))
    with keeper(path) as store:
        found_out(store)
        all_salvaged(store)
        assert store.salvaged is not None and store.salvaged.unreadable >= 2
    with Store.open(path) as after:
        assert len(after.revisions()) == 2


def test_a_file_that_was_cut_off_gives_what_is_left_of_it(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    made(path)
    os.truncate(path, path.stat().st_size * 2 // 3 // 512 * 512)
    with keeper(path) as store:
        found_out(store)
        all_salvaged(store)
        found = sum(len(kept(store, station)) for station in store.newest("roof") and STATIONS)
        assert found > READINGS // 2
        assert balanced(store.books()["mqtt"])


@pytest.mark.parametrize(
    "content", [b"not a database, but long enough to look at: " * 1000, b"\0" * 40_000, b"\xff" * 5]
)
def test_a_file_that_is_no_database_is_put_aside_and_gives_nothing(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "store.sqlite"
    path.write_bytes(content)
    with keeper(path) as store:
        store.add(judged(DAY, {"temperature": 1.0}), ("mqtt",))
        all_salvaged(store)
        store.commit(NOW)
        assert store.on_disk and store.salvaged is not None and store.salvaged.observations == 0
        assert store.books()["mqtt"] == OutboxCounts(1, 0, 1, {})
    assert aside(path).read_bytes() == content


def test_rows_are_found_in_the_pages_of_the_log_too(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    made(path, log=True)
    path.write_bytes(random.Random(3).randbytes(3 * PAGE))
    with closing(Rebuilt(path)) as rebuilt:
        for _ in rebuilt.run():
            pass
        found = rebuilt.db.execute(
            "SELECT series, COUNT(*), MIN(t), MAX(t) FROM observations GROUP BY series"
        ).fetchall()
        assert found == [(n, READINGS, DAY, NOW - 10) for n in (1, 2)]
        assert [row[0] for row in rebuilt.db.execute("SELECT station FROM stations ORDER BY id")] == list(STATIONS)
    assert not list(tmp_path.glob("*-rows"))


def test_a_page_that_was_written_long_ago_is_read_as_it_was(tmp_path: Path) -> None:
    """The carver against the database itself, on rows of every kind and size."""
    path = tmp_path / "any.sqlite"
    rng = random.Random(5)
    rows = [
        (n, rng.choice([None, rng.randint(-(2**63), 2**63 - 1), rng.randint(-200, 200), 0, 1, rng.random()]),
         rng.choice([None, "", "h\N{SNOWFLAKE}" * rng.randint(0, 9), rng.randbytes(rng.choice([0, 90, 4050, 30_000]))]))
        for n in range(1, 400)
    ]  # fmt: skip
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE numbered (id INTEGER PRIMARY KEY, a, b)")
        db.execute("CREATE TABLE plain (k INTEGER PRIMARY KEY, a, b) WITHOUT ROWID")
        for table in ("numbered", "plain"):
            db.executemany(f"INSERT INTO {table} VALUES (?, ?, ?)", rows)
        db.commit()
    pages = Pages(path)
    found = list(records(pages))
    pages.close()
    assert sorted((number, *columns[1:]) for number, columns in found if number and columns[0] is None) == rows
    assert sorted(columns for number, columns in found if number is None) == rows


def test_damage_that_comes_while_it_works_loses_no_new_reading(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    made(path)
    with keeper(path) as store:
        for i in range(READINGS, READINGS + 50):
            store.add(judged(DAY + 10 * i, {"temperature": value(i), "rain": 0.5}), ("mqtt",))
        waiting = [row.key for row in store.queued("mqtt", 1000)]
        store.acknowledge("mqtt", waiting[-50:-10])
        store.commit(NOW)
        store.add(judged(NOW + 5000, {"temperature": 1.0}), ("mqtt",))
        spoil(path, *range(2, path.stat().st_size // PAGE))  # all of it but the schema
        Path(f"{path}-wal").write_bytes(b"")
        for _ in range(3):
            list(store.observations("roof"))
            store.history(["hill"], NOW + 900)
            store.commit(NOW + 60)
        assert store.on_disk and aside(path).exists()
        assert NOW + 5000 in kept(store, "roof")
        all_salvaged(store)
        fresh = [row for row in store.queued("mqtt", 1000) if row.judged.observation.t == NOW + 5000]
        assert len(fresh) == 1 and fresh[0].key > max(waiting)
        store.commit(NOW)
        assert balanced(store.books()["mqtt"])


def test_a_salvage_that_is_interrupted_goes_on_at_the_next_start_and_counts_nothing_twice(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    made(path)
    spoil(path, root(path, "outbox_destination"))
    for _ in range(12):
        with keeper(path) as store:
            found_out(store)
            store.salvage(0.0)
    with keeper(path) as store:
        all_salvaged(store)
        books = store.books()["mqtt"]
        assert balanced(books) and (books.accepted, books.acknowledged) == (2 * READINGS, 2 * READINGS - 45)
        assert {name: len(kept(store, name)) for name in STATIONS} == dict.fromkeys(STATIONS, READINGS)
        assert np.nansum(store.history(["roof"], NOW + 900)[0, :, 6]) == pytest.approx(0.5 * READINGS)
        assert [row.sum_sq for row in store.scores("roof")] == [3, 3]
        assert store.rain_totals()["mast"]["roof", "rain"].last == ((READINGS - 1) / 2, NOW - 10)


@given(seed=st.integers(0, 2**32), hits=st.integers(1, 40), cut=st.booleans())
@settings(max_examples=DAMAGES, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_damaged_the_agent_has_a_sound_store_and_no_reading_that_was_none(
    tmp_path: Path, seed: int, hits: int, cut: bool
) -> None:
    folder = tmp_path / str(time.monotonic_ns())
    path = folder / "store.sqlite"
    made(path)
    rng = random.Random(seed)
    size = path.stat().st_size
    spoil(path, *(rng.randrange(size // PAGE) for _ in range(hits)), seed=seed)
    if cut:
        os.truncate(path, rng.randrange(size))
    with keeper(path) as store:
        store.add(judged(NOW, {"temperature": 1.0, "rain": 0.5}), ("mqtt",))
        for _ in range(2):
            store.history(["roof", "hill"], NOW + 900)
            store.queued("mqtt", 100)
            store.prune(NOW)
            store.commit(NOW)
        all_salvaged(store)
        for station in STATIONS:
            found = kept(store, station)
            found.pop(NOW, None)
            assert found.items() <= expected(station).items()
        store.commit(NOW)
        assert all(map(balanced, store.books().values()))
        assert NOW in kept(store, "roof")
        if store.salvaged is not None:
            with Store.open(path, read_only=True) as reader:
                assert reader.tables.connection.read("PRAGMA integrity_check") == [("ok",)]
