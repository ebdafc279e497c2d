"""The file: what a power cut may cost, how it lives with other processes, and what it says when it cannot work."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from sqlite_utils import Database

from edge_agent.errors import StoreError
from edge_agent.store import Store
from tests.store.readings import DAY, forecast, judged

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}

# A day at the default cadence: a reading every 10 s, published at once, a commit every 60 s, a forecast every 15 min.
A_DAY = """
import sys
import numpy as np
from tests.store.readings import DAY, forecast, judged
from edge_agent.store import Store
hours = int(sys.argv[2])
store = Store.open(sys.argv[1])
for t in range(DAY, DAY + hours * 3600, 10):
    names = ("temperature", "humidity", "pressure", "wind_speed", "wind_gust", "wind_direction", "rain")
    values = {name: 10.25 for name in names}
    store.add(judged(t, values), ("mqtt",))
    store.acknowledge("mqtt", [row.key for row in store.queued("mqtt", 50)])
    if t % 900 == 10:
        store.history(["roof"], t - 10)
        store.add_forecast(forecast(t - 10))
    if t % 60 == 50:
        store.set("status", "x" * 2000)
        store.commit()
store.prune(DAY + hours * 3600)
store.close()
"""

# Writes for ever, a commit after every tenth reading, and says which were committed.
WRITER = """
import sys
from tests.store.readings import DAY, judged
from edge_agent.store import Store
store = Store.open(sys.argv[1])
t = DAY
while True:
    store.add(judged(t, {"temperature": 1.0, "rain": 0.5}), ("mqtt",))
    t += 10
    if t % 100 == 0:
        store.commit()
        print(t, flush=True)
"""


PRELUDE = """
import os, resource, sys
from pathlib import Path
from edge_agent.errors import StoreError
from edge_agent.store import Store
from tests.store.readings import DAY, judged
path = Path(sys.argv[1])
"""

ADD_ONE = """
with Store.open(path) as store:
    store.add(judged(DAY + 10, {"temperature": 1.0}))
"""

BECOME_NOBODY = """
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
"""


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT)


def said_by(code: str, *arguments: object) -> str:
    """What the StoreError says that the code ends with in a process of its own; "" if it ends well."""
    lines = ["try:", *(f"    {line}" for line in code.strip().splitlines())]
    lines += ["except StoreError as error:", "    print(error)"]
    with start("\n".join([PRELUDE, *lines]), *arguments) as child:
        said, _ = child.communicate(timeout=60)
    assert child.returncode == 0
    return said.strip()


# --- what is lost and what is not ----------------------------------------------------------------------------------


def test_a_kill_costs_what_was_not_committed_and_nothing_else(path: Path) -> None:
    with start(WRITER, path) as writer:
        assert writer.stdout is not None
        for _ in range(20):
            committed = int(writer.stdout.readline())
        writer.send_signal(signal.SIGKILL)
        committed = int((writer.stdout.read().split() or [committed])[-1])
    with Store.open(path) as store:
        times = [one.observation.t for one in store.observations("roof")]
        assert times == list(range(DAY, times[-1] + 10, 10))
        assert committed - 10 <= times[-1] <= committed + 100  # one commit more may have been made and not yet told
        assert len(times) % 10 == 0
        books = store.counts("mqtt")
        assert books.accepted == books.queued == len(times)
        assert store.newest("roof")["rain"][0] == times[-1]
        assert store.ages(["roof"], times[-1] // 900 * 900 + 900)[0]["rain"] == 900 - times[-1] % 900
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_stop_loses_nothing(path: Path) -> None:
    with Store.open(path) as store:
        store.add(judged(DAY, {"temperature": 1.0}), ("mqtt",))
    with Store.open(path, read_only=True) as store:
        assert len(list(store.observations("roof"))) == 1
        assert store.history(["roof"], DAY)[0, -1, 0] == 1.0


def test_a_day_at_the_default_cadence_takes_at_most_2880_fsyncs(path: Path, tmp_path: Path) -> None:
    """Counted by strace over two hours, start and stop included."""
    strace = shutil.which("strace")
    log = tmp_path / "fsyncs"
    if strace is None or subprocess.run([strace, "-o", os.devnull, "true"], check=False).returncode:
        pytest.skip("strace is not installed or may not trace here (apt-get install strace)")
    hours = 2
    trace = [strace, "-f", "-e", "trace=fsync,fdatasync,sync,syncfs,msync,sync_file_range", "-o", str(log)]
    command = [*trace, sys.executable, "-c", A_DAY, str(path), str(hours)]
    subprocess.run(command, check=True, env=ENVIRONMENT, timeout=120)
    fsyncs = [line for line in log.read_text().splitlines() if "sync" in line and "resumed" not in line]
    assert 60 * hours <= len(fsyncs) <= 2880 / 24 * hours  # a commit each minute is there to be seen
    with Store.open(path, read_only=True) as store:
        assert len(list(store.observations("roof"))) == 360 * hours


def test_a_day_at_the_default_cadence_takes_few_commits_and_checkpoints(path: Path) -> None:
    """The same by the law of the write-ahead log: a commit is one fsync, a checkpoint at most three. Pages written in
    two hours say how often the log is full."""
    subprocess.run([sys.executable, "-c", A_DAY, str(path), "0"], check=True, env=ENVIRONMENT)
    hours = 2
    with Store.open(path, read_only=True):  # keeps the last one out from emptying the log
        subprocess.run([sys.executable, "-c", A_DAY, str(path), str(hours)], check=True, env=ENVIRONMENT)
        pages = Path(f"{path}-wal").stat().st_size / 4120
    with Store.open(path) as store:
        checkpoint_pages = store._connection.read("PRAGMA wal_autocheckpoint")[0][0]
    assert pages > 60 * hours  # every commit is there to be seen
    checkpoints = 24 / hours * pages / checkpoint_pages
    assert 24 * 60 + 3 * checkpoints <= 2880


def test_every_commit_is_durable_and_the_log_is_bounded(store: Store) -> None:
    c = store._connection
    assert c.read("PRAGMA journal_mode") == [("wal",)]
    assert c.read("PRAGMA synchronous") == [(2,)]  # FULL
    for t in range(DAY, DAY + 100_000, 10):
        store.add(judged(t, {"temperature": 1.0, "wind_gust": 2.0}, flags={}), ("mqtt",))
        store.set("status", f"{t}" * 100)
        if t % 1000 == 0:
            store.commit()
    store.commit()
    assert Path(f"{store.path}-wal").stat().st_size <= 40_000_000
    assert c.read("PRAGMA journal_size_limit")[0][0] <= 40_000_000
    assert 1 < store.size_mb() < 60


# --- other processes -----------------------------------------------------------------------------------------------


def test_no_transaction_is_open_between_a_commit_and_the_next_write(store: Store, path: Path) -> None:
    store.add(judged(DAY, {"temperature": 1.0}))
    store.commit()
    store.history(["roof"], DAY)
    list(store.observations("roof"))
    with closing(sqlite3.connect(path, timeout=0)) as other:
        other.execute("BEGIN IMMEDIATE")
        other.rollback()


def test_an_import_gets_in_beside_a_process_that_always_writes(path: Path) -> None:
    with start(WRITER, path) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        with Store.open(path) as store:
            for t in range(5):
                store.add(judged(DAY - t, {"humidity": 50.0}, source="import"))
                store.commit()
            store.add(judged(DAY - 10, {"humidity": 50.0}, source="import"))
        writer.stdout.readline()  # and the writer goes on
        writer.kill()
    with Store.open(path, read_only=True) as store:
        assert sum(one.observation.source == "import" for one in store.observations("roof")) == 6


def test_a_process_that_never_lets_go_is_named(store: Store, path: Path) -> None:
    store.add(judged(DAY, {"temperature": 1.0}))
    with Store.open(path, patience_s=0.2) as other, pytest.raises(StoreError, match="another process has been writing"):
        other.add(judged(DAY, {"temperature": 1.0}))
    store.commit()
    with (
        Path(f"{path}.turn").open() as turn,
        Store.open(path, patience_s=0.2) as other,
        pytest.raises(StoreError, match="another process has been writing"),
    ):
        fcntl.flock(turn, fcntl.LOCK_EX)
        other.add(judged(DAY, {"temperature": 1.0}))


def test_who_commits_for_a_process_that_waits_does_not_begin_again_before_it(store: Store, path: Path) -> None:
    """However seldom that one gets to look: here SQLite looks ten times a second, and the store commits at once."""
    store.add(judged(DAY, {"temperature": 1.0}))
    assert not store.wanted
    with start(PRELUDE + ADD_ONE, path) as other:
        while not store.wanted:
            assert other.poll() is None
            time.sleep(0.01)
        store.commit()
        assert not store.wanted, "nothing is open"
        store.add(judged(DAY + 20, {"temperature": 1.0}))
        assert [one.observation.t for one in store.observations("roof")] == [DAY, DAY + 10, DAY + 20]
        assert other.wait(60) == 0
    assert not store.wanted


def test_a_reader_sees_what_was_committed(store: Store, path: Path) -> None:
    store.add(judged(DAY, {"temperature": 1.0}))
    store.commit()
    store.add(judged(DAY + 10, {"temperature": 2.0}))
    with Store.open(path, read_only=True) as reader:
        assert reader.newest("roof")["temperature"][:2] == (DAY, 1.0)
        store.commit()
        assert reader.newest("roof")["temperature"][:2] == (DAY + 10, 2.0)
        with pytest.raises(StoreError, match="reading only"):
            reader.add(judged(DAY, {"temperature": 1.0}))


# --- what cannot work ----------------------------------------------------------------------------------------------


def test_the_folder_is_made(tmp_path: Path) -> None:
    with Store.open(tmp_path / "a" / "b" / "store.sqlite") as store:
        assert store.stations() == []


def test_reading_a_store_that_is_not_there_says_how_to_begin(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="edge-agent run"):
        Store.open(tmp_path / "none.sqlite", read_only=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "content", [b"not a database, but long enough to look at: " * 100, b"SQLite format 3\0" + b"\1" * 4000]
)
def test_a_file_that_is_no_store_is_refused_and_left_alone(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    for read_only in (False, True):
        with pytest.raises(StoreError, match="not a Stationcast store"):
            Store.open(path, read_only=read_only)
    assert path.read_bytes() == content


def test_another_programs_database_is_refused_and_left_alone(path: Path) -> None:
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE bookmarks (url TEXT)")
    before = path.read_bytes()
    with pytest.raises(StoreError, match="another program"):
        Store.open(path)
    assert path.read_bytes() == before


def test_a_damaged_store_says_what_to_do(path: Path) -> None:
    with Store.open(path) as store:
        for t in range(DAY, DAY + 20_000, 10):
            store.add(judged(t, {"temperature": 1.0}))
    content = bytearray(path.read_bytes())
    content[4096 * 4 :] = b"\x55" * (len(content) - 4096 * 4)
    path.write_bytes(content)
    with pytest.raises(StoreError, match="damaged: move the file away"), Store.open(path) as store:
        store.history(["roof"], DAY)
        list(store.observations("roof"))


def test_a_newer_schema_is_refused_by_name(path: Path) -> None:
    Store.open(path).close()
    db = Database(sqlite3.connect(path))
    db["_sqlite_migrations"].insert({"migration_set": "stationcast-store", "name": "tides", "applied_at": "2031"})
    db.close()
    with pytest.raises(StoreError, match=r"newer schema \(tides\): upgrade this edge-agent"):
        Store.open(path)


def test_an_older_schema_is_brought_up_to_date_and_told_to_readers(path: Path) -> None:
    Store.open(path).close()
    db = Database(sqlite3.connect(path))
    db.execute("DROP TABLE meta")
    db["_sqlite_migrations"].delete_where("name = 'meta'")
    db.close()
    with pytest.raises(StoreError, match="older schema"):
        Store.open(path, read_only=True)
    with Store.open(path) as store:
        store.set("key", "value")
    with Store.open(path, read_only=True) as store:
        assert store.get("key") == "value"


def test_forecasts_of_the_older_form_go_and_all_else_stays(path: Path) -> None:
    with Store.open(path) as store:
        store.add(judged(DAY, {"temperature": 1.0}), ("mqtt",))
    db = Database(sqlite3.connect(path))
    for table in ("forecasts", "forecast_forms", "forecast_quantiles", "baselines"):
        db.execute(f"DROP TABLE {table}")
    db["_sqlite_migrations"].delete_where("name = 'small_forecasts'")
    db.execute("CREATE TABLE forecasts (station TEXT, origin INTEGER, body BLOB, PRIMARY KEY (station, origin))")
    db.execute("INSERT INTO forecasts VALUES ('roof', ?, x'00')", (DAY,))
    db.conn.commit()
    db.close()
    with Store.open(path) as store:
        assert store.last_forecast("roof") is None
        assert store.newest("roof")["temperature"][:2] == (DAY, 1.0) and store.counts("mqtt").queued == 1
        store.add_forecast(forecast(DAY))
        assert store.last_forecast("roof") is not None


@pytest.mark.parametrize("where", ["file.txt/store.sqlite", "folder"])
def test_a_path_that_cannot_be_a_file_says_so(tmp_path: Path, where: str) -> None:
    (tmp_path / "file.txt").write_text("")
    (tmp_path / "folder").mkdir()
    with pytest.raises(StoreError, match=r"must be able to write|set another path"):
        Store.open(tmp_path / where)


def test_a_folder_that_may_not_be_written_says_so_and_can_still_be_read(tmp_path: Path) -> None:
    folder = tmp_path / "owned"
    path = folder / "store.sqlite"
    with Store.open(path) as store:
        store.add(judged(DAY, {"temperature": 1.0}))
    os.remove(f"{path}.turn")
    for part in (tmp_path, *tmp_path.parents):
        if not part.stat().st_mode & 0o001:
            part.chmod(0o755)
    folder.chmod(0o555)
    path.chmod(0o444)

    write = "Store.open(path).add(judged(DAY + 10, {'temperature': 1.0}))"
    read = "assert Store.open(path, read_only=True).newest('roof')['temperature'][0] == DAY"
    try:
        assert "must be able to write the file and its folder" in said_by(BECOME_NOBODY + write, path)
        assert "must be able to write the file and its folder" in said_by(BECOME_NOBODY + write, folder / "new.sqlite")
        assert said_by(BECOME_NOBODY + read, path) == ""
    finally:
        folder.chmod(0o755)


def test_a_full_disk_costs_nothing_that_was_committed_and_says_what_to_do(store: Store) -> None:
    store.add(judged(DAY, {"temperature": 1.0}))
    store.commit()
    c = store._connection
    ((pages,),) = c.read("PRAGMA page_count")
    c.read(f"PRAGMA max_page_count={pages + 4}")  # the database's own word for a disk of that size
    with pytest.raises(StoreError, match=r"the disk is full: free space, or lower keep_days"):
        for t in range(DAY + 10, DAY + 100_000, 10):
            store.add(judged(t, {"temperature": 1.0}), ("mqtt",))
    c.read("PRAGMA max_page_count=1000000")
    assert store.add(judged(DAY - 10, {"temperature": 5.0}), ("mqtt",))
    store.commit()
    kept = [one.observation.t for one in store.observations("roof")]
    assert kept[:2] == [DAY - 10, DAY]
    books = store.counts("mqtt")
    assert books.accepted == books.queued == len(kept) - 1
    assert store.ages(["roof"], DAY)[0]["temperature"] == 0


def test_a_disk_that_refuses_to_write_is_told_with_what_it_costs(path: Path) -> None:
    Store.open(path).close()

    said = said_by(
        """
resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
store = Store.open(path)
for t in range(DAY, DAY + 100_000, 10):
    store.add(judged(t, {"temperature": 1.0}), ("mqtt",))
store.commit()
""",
        path,
    )
    assert "the disk failed to read or write" in said
    assert "readings since the last commit are lost" in said
    with Store.open(path) as store:
        assert list(store.observations("roof")) == []
