"""A store's file that is damaged: found, put aside where nobody overwrites it, and opened for reading.

Nothing here writes into a damaged file or deletes one.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path
from threading import Thread
from urllib.parse import quote

from edge_agent.store.connection import unreachable

CHECK_BYTES = 1_000_000_000  # a larger file is not read through at the start


def set_aside(path: Path, now: float) -> Path:
    """Rename a store and its write-ahead log to `<path>.damaged-<time>`; the new path.

    Raises:
        StoreError: it is no file, or its folder may not be written.
    """
    stamp = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")
    names = (f"{path}.damaged-{stamp}", *(f"{path}.damaged-{stamp}-{n}" for n in range(2, 1000)))
    aside = next(Path(name) for name in names if not os.path.lexists(name))
    try:
        if path.is_dir():  # somebody's folder: not ours to move
            raise IsADirectoryError(21, "is a folder, not a file", str(path))
        if path.exists():
            os.rename(path, aside)
        with suppress(FileNotFoundError):
            os.rename(f"{path}-wal", f"{aside}-wal")
        with suppress(FileNotFoundError):
            os.unlink(f"{path}-shm")
        sync_folder(path.parent)
    except OSError as error:
        raise unreachable(error, path) from error
    return aside


def sync_folder(folder: Path) -> None:
    """Make names in a folder durable. Raises OSError."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def open_damaged(path: Path) -> sqlite3.Connection | None:
    """A damaged file for reading, with its write-ahead log where that helps; None where it says nothing at all."""
    for more in ("", "&immutable=1"):  # without its log, if the log is what is wrong
        uri = f"file:{quote(str(path.absolute()))}?mode=ro{more}"
        with ExitStack() as closing, suppress(sqlite3.Error):
            db = sqlite3.connect(uri, uri=True, isolation_level=None)
            closing.callback(db.close)
            db.execute("PRAGMA cell_size_check=ON")
            db.execute("SELECT COUNT(*) FROM sqlite_master").fetchall()
            closing.pop_all()
            return db
    return None


class Checkup:
    """Reads a store through once, in a thread of its own. `fault`: what is wrong with it, in the database's words."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self.fault = ""
        self._db = db
        self._thread = Thread(target=self._run, name="store-checkup", daemon=True)
        self._thread.start()

    @classmethod
    def of(cls, path: Path) -> Checkup | None:
        """Begin one; None where the file is too large, or cannot be opened a second time."""
        try:
            if path.stat().st_size > CHECK_BYTES:
                return None
            uri = f"file:{quote(str(path.absolute()))}?mode=ro"
            return cls(sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False))
        except (OSError, sqlite3.Error):
            return None

    def stop(self) -> None:
        """End it, finished or not."""
        with suppress(sqlite3.ProgrammingError):  # it has just been closed
            self._db.interrupt()
        self._thread.join()

    def _run(self) -> None:
        try:
            ((said,),) = self._db.execute("PRAGMA quick_check(1)").fetchall()
        except sqlite3.Error as error:
            name = getattr(error, "sqlite_errorname", "") or ""
            said = str(error) if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")) else "ok"
        finally:
            self._db.close()
        self.fault = "" if said == "ok" else str(said)
