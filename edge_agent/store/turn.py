"""Whose turn it is to write in a store: a lock beside it, `<store>.turn`, that whoever waits to begin holds.

SQLite has no queue: a process that writes all the time would keep the others out for ever. The lock keeps the one that
just committed from beginning again before who waits, however seldom that one gets to look.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_POLL_S = 0.01


class Turn:
    """Of the processes that write in `store`; None: there is no other. `patience_s`: how long it is waited."""

    def __init__(self, store: Path | None, patience_s: float) -> None:
        self._path = None if store is None else Path(f"{store}.turn")
        self._patience_s = patience_s

    @contextmanager
    def next(self) -> Iterator[None]:
        """Be the next to begin, for as long as inside.

        Raises:
            TimeoutError: another process would not begin, or not let go; OSError: the lock cannot be made.
        """
        if self._path is None:
            yield
            return
        file = self._open(self._path)
        try:
            self._lock(file)
            yield
        finally:
            os.close(file)

    def wanted(self) -> bool:
        """Whether another process waits to begin."""
        if self._path is None:
            return False
        try:
            file = self._open(self._path)
        except OSError:
            return False
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        finally:
            os.close(file)
        return False

    def _lock(self, file: int) -> None:
        deadline = time.monotonic() + self._patience_s
        while True:
            try:
                return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise TimeoutError from None
                time.sleep(_POLL_S)

    @staticmethod
    def _open(path: Path) -> int:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
