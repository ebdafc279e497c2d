"""Work that may fail without ending the loop that does it: failures are counted and told, never raised."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from typing import TypeVar

from edge_agent.errors import StationcastError, StoreError

log = logging.getLogger(__name__)
T = TypeVar("T")

TOLD_EVERY = 1000  # failures of a kind; the first is told too


class Guard:
    """Does the loop's work. `lost`: what could not be kept or done, by reason; others count theirs here too."""

    def __init__(self) -> None:
        self.lost: Counter[str] = Counter()

    def __call__(self, what: str, work: Callable[[], T]) -> T | None:
        """What `work` returns, or None where it failed: counted as `what`, told the first time and then now and again.
        Readings that a store lost are counted one by one."""
        try:
            return work()
        except StationcastError as error:
            if isinstance(error, StoreError) and error.lost:
                self.lost["readings"] += error.lost
            if self._failed(what):
                log.error("%s (%d times so far)", error, self.lost[what])
        except Exception:  # the loop's top: our bug must not end acquisition
            if self._failed("internal-error"):
                log.exception("internal error, please report it (%d times so far)", self.lost["internal-error"])
        return None

    def _failed(self, what: str) -> bool:
        """Count a failure; True if it is time to tell."""
        self.lost[what] += 1
        return self.lost[what] == 1 or self.lost[what] % TOLD_EVERY == 0
