"""One agent per store: a lock that dies with its process."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path

from edge_agent.errors import StoreError
from edge_agent.store.connection import unreachable

LOCKED = "locked"  # why a store is refused that another agent works with
TRIES, PAUSE_S = 4, 0.05  # real seconds; a look at who holds it (`holder`) holds it for an instant


class Lock:
    """`<store>.lock`. On a disk that cannot be written an existing one is held all the same; where none can be made,
    the folder is marked as in use, which keeps nobody out but shows."""

    def __init__(self, store: Path) -> None:
        self._store, self._path = store, Path(f"{store}.lock")
        self._handle: int | None = None
        self._mark: int | None = None

    def take(self) -> None:
        """Hold it; nothing happens where it is held already.

        Raises:
            StoreError: another agent holds it (`reason` "locked"), or it cannot be made.
        """
        if self._handle is not None:
            return
        try:
            handle = self._open()
        except OSError as error:
            self._mark_folder()
            raise unreachable(error, self._path) from None
        try:
            _lock(handle, self._store)
        except StoreError:
            os.close(handle)
            raise
        self.release()
        self._handle = handle

    def release(self) -> None:
        """Let go of it."""
        for handle in (self._handle, self._mark):
            if handle is not None:
                os.close(handle)
        self._handle = self._mark = None

    def _mark_folder(self) -> None:
        if self._mark is None:
            with suppress(OSError):  # then it does not show
                self._mark = os.open(_folder(self._store), os.O_RDONLY | os.O_CLOEXEC)
                fcntl.flock(self._mark, fcntl.LOCK_SH | fcntl.LOCK_NB)

    def _open(self) -> int:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            return os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            if error.errno not in (errno.EROFS, errno.ENOSPC, errno.EDQUOT) or not self._path.exists():
                raise
            return os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)


def holder(store: Path) -> str | None:
    """Which process holds a store's lock or, where there is none to hold, works with its folder: its number, or
    "unknown"; None where there is no such process."""
    try:
        try:
            handle, how = os.open(f"{store}.lock", os.O_RDONLY | os.O_CLOEXEC), fcntl.LOCK_SH
        except FileNotFoundError:
            handle, how = os.open(_folder(store), os.O_RDONLY | os.O_CLOEXEC), fcntl.LOCK_EX
    except OSError:
        return None
    try:
        fcntl.flock(handle, how | fcntl.LOCK_NB)
    except OSError:
        return _pid(handle)
    finally:
        os.close(handle)
    return None


def _lock(handle: int, store: Path) -> None:
    for left in reversed(range(TRIES)):
        try:
            return fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not left:
                break
            time.sleep(PAUSE_S)
        except OSError as error:
            text = f"store {store}: cannot be locked ({error.strerror}): use a local disk"
            raise StoreError(text, reason="refused") from None
    text = (
        f"store {store}: another agent (pid {_pid(handle)}) works with it: stop that one, or set another [store] path"
    )
    raise StoreError(text, reason=LOCKED)


def _pid(handle: int) -> str:
    """Which process has a lock on the file, as the kernel knows it; "unknown" where it does not tell."""
    seen = os.fstat(handle)
    place = f"{os.major(seen.st_dev):02x}:{os.minor(seen.st_dev):02x}:{seen.st_ino}"
    try:
        locks = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    except OSError:
        return "unknown"
    # "1: FLOCK  ADVISORY  WRITE 812 08:01:131 0 EOF"; one that waits has "->" behind its number
    found = [words[4] for words in locks if words[1] == "FLOCK" and words[5] == place and int(words[4]) > 0]
    return found[0] if found else "unknown"


def _folder(store: Path) -> Path:
    """Where a store lies or, as far as there is such a folder yet, would lie."""
    return next(parent for parent in store.absolute().parents if parent.is_dir())
