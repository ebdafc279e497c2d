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
    """`<store>.lock`. On a disk that cannot be written an existing one is held all the same."""

    def __init__(self, store: Path) -> None:
        self._store, self._path = store, Path(f"{store}.lock")
        self._handle: int | None = None

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
            raise unreachable(error, self._path) from None
        try:
            _lock(handle, self._store)
        except StoreError:
            os.close(handle)
            raise
        self._handle = handle
        with suppress(OSError):  # the number is for people only; a full disk may refuse it
            os.truncate(handle, 0)
            os.pwrite(handle, str(os.getpid()).encode(), 0)

    def release(self) -> None:
        """Let go of it."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def _open(self) -> int:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            return os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            if error.errno not in (errno.EROFS, errno.ENOSPC, errno.EDQUOT) or not self._path.exists():
                raise
            return os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)


def holder(store: Path) -> int | None:
    """The process that holds a store's lock; None where there is none."""
    try:
        handle = os.open(f"{store}.lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        text = os.pread(handle, 20, 0).decode(errors="replace").strip()
        return int(text) if text.isdecimal() else 0
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
    pid = os.pread(handle, 20, 0).decode(errors="replace").strip() or "unknown"
    text = f"store {store}: another agent (pid {pid}) works with it: stop that one, or set another [store] path"
    raise StoreError(text, reason=LOCKED)
