"""One agent per store: a lock that dies with its process."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from edge_agent.errors import StoreError


@contextmanager
def hold_lock(store: Path) -> Iterator[None]:
    """Hold `<store>.lock` while inside.

    Raises:
        StoreError: another agent holds it, or it cannot be made.
    """
    path = Path(f"{store}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}: the agent's user must be able to write there") from None
    try:
        _lock(handle, store)
        with suppress(OSError):  # the number is for people only; a full disk may refuse it
            os.truncate(handle, 0)
            os.pwrite(handle, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(handle)


def _lock(handle: int, store: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = os.pread(handle, 20, 0).decode(errors="replace").strip() or "unknown"
        raise StoreError(
            f"store {store}: another agent (pid {pid}) works with it: stop that one, or set another [store] path"
        ) from None
    except OSError as error:
        raise StoreError(f"store {store}: cannot be locked ({error.strerror}): use a local disk") from None
