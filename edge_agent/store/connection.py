"""One SQLite connection whose transaction stays open between commits, shared fairly with other processes.

Turns every error of the database into a StoreError that says what to do; never retries, never hides a lost transaction.
"""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlite_utils import Database

from edge_agent.errors import StoreError
from edge_agent.store.schema import KNOWN, SCHEMA
from edge_agent.store.turn import Turn

BUSY_S = 120.0  # of patience with another process that writes; the agent goes on from memory then
OLDEST_SQLITE = (3, 24, 0)  # the first with ON CONFLICT DO UPDATE
WAL_CHECKPOINT_PAGES = 4000  # 16 MB: a lone station checkpoints a few times a day, each costs three fsyncs
WAL_LIMIT_BYTES = 32 * 1024 * 1024
CACHE_KIB = 8192

Row = tuple[Any, ...]


class Connection:
    """A connection to the store's file.

    The first write begins a transaction; `commit` ends it, and none is begun before the next write. Reads see what is
    written and not yet committed. `before_commit` are called with the transaction open, `after_commit` when it has
    become durable; `forget` whenever what was read
    may be out of date: another process has written, or a transaction was lost. `unsaved`: readings in the open
    transaction, as the store counts them. `rollbacks`: transactions lost.
    """

    def __init__(
        self, path: Path, db: Database, *, read_only: bool = False, alone: bool = False, patience_s: float = BUSY_S
    ) -> None:
        self.path = path
        self._turn = Turn(None if alone else path, patience_s)
        self.before_commit: list[Callable[[], None]] = []
        self.after_commit: list[Callable[[], None]] = []
        self.forget: list[Callable[[], None]] = []
        self._sqlite = db.conn
        self._read_only = read_only
        self._open = False
        self.unsaved = self.rollbacks = 0
        self._version = self._data_version()

    def read(self, sql: str, parameters: Sequence[object] = ()) -> list[Row]:
        """All rows of a query."""
        self.refresh()
        try:
            return self._sqlite.execute(sql, parameters).fetchall()
        except sqlite3.Error as error:
            raise self._failed(error) from error

    def refresh(self) -> None:
        """Forget what was read if another process has written since; none can while a transaction is open."""
        if self._open:
            return
        try:
            version = self._data_version()
        except sqlite3.Error as error:
            raise self._failed(error) from error
        if version != self._version:
            self._version = version
            self._forget()

    def write(self, sql: str, parameters: Sequence[object] = ()) -> int:
        """Execute a statement in the open transaction; the number of rows it changed."""
        self.begin()
        try:
            return self._sqlite.execute(sql, parameters).rowcount
        except sqlite3.Error as error:
            raise self._failed(error) from error

    def write_many(self, sql: str, rows: Iterable[Sequence[object]]) -> int:
        """Execute a statement for each row; the number of rows changed."""
        self.begin()
        try:
            return self._sqlite.executemany(sql, rows).rowcount
        except sqlite3.Error as error:
            raise self._failed(error) from error

    @property
    def writing(self) -> bool:
        """True while a transaction is open."""
        return self._open

    def begin(self) -> None:
        """Begin the transaction if there is none. Waits for another process' one, at most for its patience."""
        if self._open:
            return
        if self._read_only:
            raise StoreError(f"store {self.path}: opened for reading only: nothing can be written")
        try:
            with self._turn.next():
                self._sqlite.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            raise self._failed(error) from error
        except TimeoutError:
            raise StoreError(_busy(self.path), reason="busy") from None
        except OSError as error:
            raise unreachable(error, self.path) from error
        self.refresh()
        self._open = True

    @contextmanager
    def together(self) -> Iterator[None]:
        """Writes that happen all or not at all; what came before them in the transaction stays. May be nested: a name
        of a savepoint means the innermost, and one that is always the same is parsed once."""
        self.begin()
        try:
            self._sqlite.execute("SAVEPOINT together")
            try:
                yield
            except BaseException:
                if self._sqlite.in_transaction:  # a full disk may have ended it already
                    self._sqlite.execute("ROLLBACK TO together")
                    self._sqlite.execute("RELEASE together")
                raise
            self._sqlite.execute("RELEASE together")
        except sqlite3.Error as error:
            raise self._failed(error) from error

    def commit(self) -> None:
        """Make durable what was written. Nothing happens without a transaction."""
        if not self._open:
            return
        for prepare in self.before_commit:
            prepare()
        try:
            self._sqlite.execute("COMMIT")
        except sqlite3.Error as error:
            raise self._failed(error) from error
        self._open = False
        self.unsaved = 0
        for follow in self.after_commit:
            follow()

    @property
    def wanted(self) -> bool:
        """Whether another process waits for the open transaction to end."""
        return self._open and self._turn.wanted()

    def roll_back(self) -> None:
        """Let go of what was written since the last commit; nothing where there is no transaction. Never fails."""
        if self._sqlite.in_transaction:
            with suppress(sqlite3.Error):
                self._sqlite.execute("ROLLBACK")
        if self._open:
            self._open = False
            self.unsaved = 0
            self.rollbacks += 1
        self._forget()

    @property
    def raw(self) -> sqlite3.Connection:
        """The database itself, for reading a store that is given up."""
        return self._sqlite

    def empty_log(self) -> None:
        """Have everything that was committed in the file itself, also where that has another name by now: the log would
        be taken for that of another one. Never fails."""
        with suppress(sqlite3.Error):
            self._sqlite.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def abandon(self) -> None:
        """Close without a commit. Never fails; nothing happens where it is closed."""
        with suppress(sqlite3.Error):
            self.roll_back()
            self._sqlite.close()

    def close(self) -> None:
        """Commit and close. The file is closed also where the commit fails."""
        try:
            self.commit()
        finally:
            self._open = False
            self._sqlite.close()

    def _data_version(self) -> int:
        return int(self._sqlite.execute("PRAGMA data_version").fetchone()[0])

    def _forget(self) -> None:
        for forget in self.forget:
            forget()

    def _failed(self, error: sqlite3.Error) -> StoreError:
        reason, text = explain(error, self.path)
        lost = 0
        if self._open and not self._sqlite.in_transaction:  # SQLite rolled back by itself
            lost = self.unsaved
            self._open = False
            self.unsaved = 0
            self.rollbacks += 1
            self._forget()
        return StoreError(text, reason=reason, lost=lost)


def connect(path: Path, *, read_only: bool = False, patience_s: float = BUSY_S) -> Connection:
    """Open the store's file; for writing it is made where it is not there, its folder too, and brought up to date.
    `patience_s`: how long it is waited for another process' transaction.

    Raises:
        StoreError: not there (read only), not permitted, damaged, another program's, or of a newer schema.
    """
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        raise StoreError(
            f"SQLite {sqlite3.sqlite_version} is too old: at least 3.24 is needed; use a newer Python build",
            reason="refused",
        )
    if read_only and not path.exists():
        raise StoreError(f"store {path}: not there yet: start the agent with `edge-agent run`, or `edge-agent import`")
    try:
        if not read_only:
            path.parent.mkdir(parents=True, exist_ok=True)
        sqlite = _open_read_only(path) if read_only else _open(path, patience_s)
    except OSError as error:
        raise unreachable(error, path) from error
    except sqlite3.Error as error:
        raise _explained(error, path) from error
    try:
        db = Database(sqlite, execute_plugins=False)
        _check_schema(path, db)
        if not read_only:
            _prepare(path, db)
        elif SCHEMA.pending(db):
            raise StoreError(
                f"store {path}: of an older schema: start this version of the agent once to bring it up to date"
            )
        return Connection(path, db, read_only=read_only, patience_s=patience_s)
    except sqlite3.Error as error:
        sqlite.close()
        raise _explained(error, path) from error
    except StoreError:
        sqlite.close()
        raise


def connect_memory() -> Connection:
    """A store of nothing but memory."""
    db = Database(sqlite3.connect(":memory:", isolation_level=None), execute_plugins=False)
    SCHEMA.apply(db)
    return Connection(Path(":memory:"), db, alone=True)


def explain(error: sqlite3.Error, path: Path) -> tuple[str, str]:
    """What happened to the store, as a short stable word, and what to do about it, in words."""
    name = getattr(error, "sqlite_errorname", "") or ""
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return "busy", _busy(path)
    if str(error).startswith("Could not decode"):  # a text that is none: sqlite3's own check, without a code
        name = "SQLITE_CORRUPT"
    for prefix, (reason, remedy) in _REMEDIES.items():
        if name.startswith(prefix):
            return reason, f"store {path}: {remedy}"
    return "", f"store {path}: {error}"


def unreachable(error: OSError, path: Path) -> StoreError:
    """An error of the system as one of the store."""
    reason = _REASONS.get(error.errno or 0, "cannot-open")
    where = "" if error.filename in (None, str(path)) else f"{error.filename}: "
    remedy = "mount it for writing, or set another path in [store]" if reason == "read-only" else _permission()
    return StoreError(f"store {path}: {where}{error.strerror}: {remedy}", reason=reason)


def damaged(path: Path, what: str) -> StoreError:
    """Something in the file that cannot be: `what` in words."""
    return StoreError(f"store {path}: damaged: {what}: {_SET_ASIDE}", reason="damaged")


def _explained(error: sqlite3.Error, path: Path) -> StoreError:
    reason, text = explain(error, path)
    return StoreError(text, reason=reason)


def _open(path: Path, patience_s: float) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=patience_s, isolation_level=None)


def _open_read_only(path: Path) -> sqlite3.Connection:
    """For reading; a reader that may not write beside the file can still read it while nobody has it open."""
    uri = f"file:{quote(str(path.absolute()))}?mode=ro"
    sqlite = sqlite3.connect(uri, uri=True, timeout=BUSY_S, isolation_level=None)
    try:
        sqlite.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchall()
    except sqlite3.Error as error:
        sqlite.close()
        if not isinstance(error, sqlite3.OperationalError) or Path(f"{path}-wal").exists():
            raise
        sqlite = sqlite3.connect(uri + "&immutable=1", uri=True, isolation_level=None)
    return sqlite


def _check_schema(path: Path, db: Database) -> None:
    tables = db.table_names()
    applied = {migration.name for migration in SCHEMA.applied(db)}
    if tables and not applied:
        raise StoreError(
            f"store {path}: an SQLite file of another program: set another path in [store]", reason="refused"
        )
    unknown = applied - KNOWN
    if unknown:
        raise StoreError(
            f"store {path}: of a newer schema ({', '.join(sorted(unknown))}): upgrade this edge-agent, or set another "
            "path in [store]",
            reason="refused",
        )


def _prepare(path: Path, db: Database) -> None:
    """Settings, and the migrations that are due."""
    db.enable_wal()
    if db.journal_mode != "wal":
        raise StoreError(
            f"store {path}: this file system has no shared memory (a network share?): use a local disk",
            reason="refused",
        )
    db.execute("PRAGMA synchronous=FULL")
    db.execute(f"PRAGMA wal_autocheckpoint={WAL_CHECKPOINT_PAGES}")
    db.execute(f"PRAGMA journal_size_limit={WAL_LIMIT_BYTES}")
    db.execute(f"PRAGMA cache_size=-{CACHE_KIB}")
    if SCHEMA.pending(db):
        db.execute("BEGIN IMMEDIATE")  # of two processes that open a new file at once, one migrates
        with ExitStack() as undo:
            undo.callback(db.rollback)
            SCHEMA.apply(db)
            db.commit()


def _busy(path: Path) -> str:
    return (
        f"store {path}: another process has been writing to it for minutes: is a second agent or a long import "
        "running? Stop it, or give each agent its own [store] path"
    )


def _permission() -> str:
    return "the agent's user must be able to write the file and its folder (ls -ld), or set another path in [store]"


_SET_ASIDE = "move the file away (and keep it); `edge-agent run` does so, and salvages what can be read"
_REMEDIES = {
    "SQLITE_FULL": ("full", "the disk is full: free space, or lower keep_days and outbox_mb in [store]"),
    "SQLITE_READONLY": ("read-only", f"not writable: {_permission()}"),
    "SQLITE_CANTOPEN": ("cannot-open", f"cannot be opened: {_permission()}"),
    "SQLITE_PERM": ("permission", f"not permitted: {_permission()}"),
    "SQLITE_NOTADB": ("damaged", "not a Stationcast store: set another path in [store], or move this file away"),
    "SQLITE_CORRUPT": ("damaged", f"damaged: {_SET_ASIDE}"),
    "SQLITE_IOERR": ("io", "the disk failed to read or write: check it (dmesg), and the free space"),
}
_REASONS = {
    errno.EROFS: "read-only",
    errno.ENOSPC: "full",
    errno.EDQUOT: "full",
    errno.EIO: "io",
    errno.EACCES: "permission",
    errno.EPERM: "permission",
}
