"""A power cut at any moment of the agent's work: no corruption, and nothing is gone that a commit had confirmed.

POWER_CUTS in the environment says how many cuts (1,000), POWER_SEED which.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from edge_agent.errors import StoreError
from edge_agent.observation import Judged
from edge_agent.store import Store
from edge_agent.store.cells import COLUMNS, DayCells, day_of
from edge_agent.store.rows import grid_values
from tests.store.power import Op, apply, cuts, record
from tests.store.readings import DAY

CUTS, SEED = (int(os.environ.get(name, default)) for name, default in (("POWER_CUTS", "1000"), ("POWER_SEED", "1")))
STATIONS = ("roof", "hill", "lake")

# Half an hour of three stations as the agent has it, on a disk whose log is written back after 50 pages: readings,
# publishing, status, forecasts, pruning, a restart, and a reader. After each commit it says what was confirmed.
WORK = """
import os, sys
from pathlib import Path
import edge_agent.store.connection as connection
connection.WAL_CHECKPOINT_PAGES = 50
from edge_agent.clock import ManualClock
from edge_agent.config import Store as Settings
from edge_agent.store import Keeper, Store
from tests.store.readings import DAY, forecast, judged
folder, level = Path(sys.argv[1]), sys.argv[2]
said = os.open(str(folder / "said"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
clock = ManualClock(DAY)
def start():
    keeper = Keeper(Settings(str(folder / "store.sqlite")), clock)
    keeper._refuge._file._connection.raw.execute("PRAGMA synchronous=" + level)
    return keeper
keeper = start()
for minute in range(30):
    for t in range(DAY + 60 * minute, DAY + 60 * minute + 60, 20):
        for n, station in enumerate(("roof", "hill", "lake")):
            if (t // 20 + n) % 7:
                values = {"temperature": t % 31 / 10, "rain": 0.2, "wind_gust": 5.0}
                keeper.add(judged(t, values, station=station), ("mqtt",))
    keeper.acknowledge("mqtt", [row.key for row in keeper.queued("mqtt", 5)])
    keeper.set("status", "x" * (900 + 60 * minute))
    if minute % 15 == 0:
        for station in ("roof", "hill", "lake"):
            keeper.add_forecast(forecast(DAY + 900 * (minute // 15), station))
    if minute == 20:
        keeper.prune(DAY + 60 * minute)
    clock.advance(60)
    if minute == 12:
        keeper.close()
        keeper = start()
    else:
        keeper.commit(DAY + 60 * minute + 60)
    books = keeper.books()["mqtt"]
    os.write(said, f"{DAY + 60 * minute + 59} {books.accepted} {books.acknowledged}\\n".encode())
    if minute % 10 == 5:
        with Store.open(folder / "store.sqlite", read_only=True) as reader:
            reader.newest("roof")
keeper.close()
"""


@pytest.fixture(scope="module")
def scratch() -> Iterator[Path]:
    """In memory where there is such a place: what follows is about content, and flushes thousands of times."""
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="power-", dir=memory if os.access(memory, os.W_OK) else None))
    yield folder
    shutil.rmtree(folder)


def recorded(scratch: Path, level: str) -> list[Op]:
    folder = scratch / level.lower()
    folder.mkdir()
    return record(folder, WORK, level)


def faults(said: str, path: Path) -> Iterator[str]:
    """What is wrong with a store after a power cut, in words. `said`: what had been confirmed."""
    confirmed = [tuple(map(int, line.split())) for line in said.splitlines()]
    until, accepted, acknowledged = confirmed[-1] if confirmed else (0, 0, 0)
    if not path.exists():
        if confirmed:
            yield "lost: the file"
        return
    try:
        with Store.open(path) as store:
            store.tables.connection.raw.execute("PRAGMA synchronous=OFF")
            yield from wrong_in(store, until, accepted, acknowledged)
    except (StoreError, sqlite3.Error) as error:
        yield f"corrupt: {error}"


def wrong_in(store: Store, until: int, accepted: int, acknowledged: int) -> Iterator[str]:
    c = store.tables.connection
    if c.read("PRAGMA integrity_check") != [("ok",)]:
        yield "corrupt: integrity"
    if c.read("PRAGMA foreign_key_check"):
        yield "corrupt: a row refers to nothing"
    there = {name: list(store.observations(name)) for name in store.stations()}
    missing = sum(len(given(name, until) - {one.observation.t for one in there.get(name, [])}) for name in STATIONS)
    if missing:
        yield f"lost: {missing} rows"
    books = store.counts("mqtt")
    if books.accepted != books.acknowledged + books.queued + sum(books.dropped.values()):
        yield "the books do not balance"
    if (
        books.accepted != sum(map(len, there.values()))
        or books.accepted < accepted
        or books.acknowledged < acknowledged
    ):
        yield "lost: the books"
    if len(store.queued("mqtt", 10_000)) != books.queued:
        yield "a row of the outbox has no observation"
    for name, rows in there.items():
        yield from wrong_with(store, name, rows)


def given(station: str, until: int) -> set[int]:
    """Times of the readings of a station up to then."""
    n = STATIONS.index(station)
    return {t for t in range(DAY, until + 1, 20) if (t // 20 + n) % 7}


def wrong_with(store: Store, name: str, rows: list[Judged]) -> Iterator[str]:
    """The grid and the newest readings are those of the observations."""
    days = gridded(tuple(one.observation.t for one in rows), tuple(grid_values(one)["temperature"] for one in rows))
    found = store.grid_days(name, day_of(DAY) - 1, day_of(DAY) + 2)
    if found.keys() != days.keys():
        yield "the grid has other days than the observations"
    elif not all(np.allclose(DayCells(found[day]).value, days[day].value, 1e-5, equal_nan=True) for day in days):
        yield "the grid is not that of the observations"
    if rows and store.newest(name)["rain"][0] != rows[-1].observation.t:
        yield "the newest reading is not"


@cache
def gridded(times: tuple[int, ...], temperatures: tuple[float, ...]) -> dict[int, DayCells]:
    """The days of such readings."""
    days: dict[int, DayCells] = {}
    for t, temperature in zip(times, temperatures, strict=True):
        day = days.get(day_of(t)) or days.setdefault(day_of(t), DayCells())
        for variable, value in {"temperature": temperature, "rain": 0.2, "wind_gust": 5.0}.items():
            day.put(t, COLUMNS[variable], value, 0)
    return days


def after_cuts(ops: list[Op], n: int, scratch: Path) -> Counter[str]:
    """Faults after `n` cuts, by kind."""
    found: Counter[str] = Counter()
    for said, folder in cuts(ops, n, SEED, scratch / "cut"):
        kinds = {fault.split(":")[0] for fault in faults(said, folder / "store.sqlite")}
        found.update(kinds)
    return found


@pytest.fixture(scope="module")
def full(scratch: Path) -> list[Op]:
    return recorded(scratch, "FULL")


def test_no_power_cut_corrupts_the_store_or_takes_what_was_confirmed(full: list[Op], scratch: Path) -> None:
    assert after_cuts(full, CUTS, scratch) == Counter()


def test_the_run_that_is_cut_holds_all_that_a_store_does(full: list[Op], scratch: Path) -> None:
    """Flushes, checkpoints into the file between others, a log that is begun anew, and names; nothing goes past the
    recorder."""
    files = {op.data.decode(): op.file for op in full if op.kind == "O"}
    main = files["store.sqlite"]
    kinds = Counter(op.kind for op in full)
    assert kinds["S"] > 40 and kinds["D"] >= 1 and kinds["U"] >= 1
    written_back = [at for at, op in enumerate(full) if op.kind == "S" and op.file == main]
    assert len(written_back) >= 5
    mapped = {op.file for op in full if op.kind == "M"}
    assert not mapped & {number for name, number in files.items() if not name.endswith("-shm")}
    assert (scratch / "full" / "store.sqlite").read_bytes() == whole(full, main)


def whole(ops: list[Op], file: int) -> bytes:
    content = bytearray()
    for op in ops:
        if op.file == file and op.kind in "WT":
            apply(content, op)
    return bytes(content)


def test_without_flushes_the_same_cuts_find_corruption_and_losses(scratch: Path) -> None:
    found = after_cuts(recorded(scratch, "OFF"), CUTS // 8, scratch)
    assert found["corrupt"] and found["lost"]


def test_where_only_checkpoints_flush_the_same_cuts_find_losses_and_no_corruption(scratch: Path) -> None:
    found = after_cuts(recorded(scratch, "NORMAL"), CUTS // 8, scratch)
    assert found["lost"] and not found["corrupt"]
