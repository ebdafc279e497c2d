"""Where the agent's store is written: in its file, or in memory while the disk fails.

What was written since the last commit is remembered, so that a transaction that the disk loses is made again in memory;
what gathers in memory is poured into the file as soon as it can be written again. A damaged file is put aside, a new
one begun, and what can be read of the old one is taken over beside the work.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar, cast

from edge_agent.clock import Clock
from edge_agent.config import Store as Settings
from edge_agent.errors import StoreError
from edge_agent.observation import Revision
from edge_agent.store.damage import Checkup, set_aside
from edge_agent.store.lock import LOCKED, Lock
from edge_agent.store.observations import Fate
from edge_agent.store.outbox import OutboxCounts, Policy
from edge_agent.store.pour import Pour
from edge_agent.store.salvage import Salvage
from edge_agent.store.store import Store

log = logging.getLogger(__name__)
T = TypeVar("T")
Work = Callable[[Store], object]

MEMORY_READINGS = 50_000  # kept while the disk fails, about 50 MB; then the oldest go
MEMORY_FORECASTS = 5_000  # the same, of forecasts: 25 MB
MEMORY_REVISIONS = 10_000  # the same, of later verdicts on rows of the file: a few MB
MOST_REDO = 10_000  # things written between two commits; then there is one before its time
FAR_KEYS = 2**50  # keys of the outbox begin about here where those of the file cannot be read
ASIDE_S = 600.0  # between two files that are put aside: a disk that damages each new one would fill up with them
PROBE = "written-again"  # in the store: when it was last found that it can be
REFUSED = (LOCKED, "refused", "permission")  # at the start: nothing that a working disk would mend


class Refuge:
    """The file and, while it cannot be written, the memory beside it. Nothing fails because of the disk, but for the
    first opening and closing.

    `memory`: None while the file is written. `settled`: rows of the outbox whose end is not durable yet: destination ->
    key -> why dropped, "" = arrived. `told`: the same, of later verdicts that receivers know. `held`: readings in
    memory. `trouble`: why they are there, in words. `lost`, by reason: `readings` and `verdicts`, for want of memory;
    `store`: how often the disk failed. `switches`: from one to the other.
    """

    def __init__(self, settings: Settings, clock: Clock) -> None:
        """Raises StoreError: another agent works with it, another program's file, a newer schema, not permitted."""
        self.memory: Store | None = None
        self.settled: dict[str, dict[int, str]] = {}
        self.told: set[int] = set()
        self.held = self.switches = 0
        self.trouble = ""
        self.lost: Counter[str] = Counter()
        self.salvage: Salvage | None = None
        self._settings, self._clock = settings, clock
        self._path = Path(settings.path)
        self._lock = Lock(self._path)
        self._file: Store | None = None
        self._writable = self._damaged = False  # a damaged file is put aside before it is written again
        self._put_off: deque[tuple[Revision, float]] = deque()  # later verdicts, and when they were made
        self._redo: list[tuple[int, Work]] = []  # since the last commit: the outbox's last key before, what was done
        self._last_key: int | None = None
        self._books: dict[str, OutboxCounts] = {}
        self._checkup: Checkup | None = None
        self._aside_at = -ASIDE_S
        try:
            self._open()
        except StoreError as error:
            if error.reason in REFUSED:
                self._lock.release()
                raise
            self._look_at_it()
            self._fall_back(error)

    @property
    def file(self) -> Store | None:
        """The file, where there is one to be read."""
        return None if self._damaged else self._file

    def books(self) -> dict[str, OutboxCounts]:
        """The outbox's books, as of what is durable."""
        if self._file is not None and not self._damaged:
            self._books = self._file.books()
        return dict(self._books)

    # --- working ------------------------------------------------------------------------------------------------------

    def do(self, work: Callable[[Store], T]) -> T:
        """Write; what is written in the file is remembered until the next commit."""
        if self.memory is None:
            store = self._disk()
            before = store.last_key
            try:
                done = work(store)
            except StoreError as error:
                self._fall_back(error)
            else:
                if not isinstance(done, Fate) or done:
                    self._redo.append((before, work))
                if len(self._redo) >= MOST_REDO:
                    self.commit(int(self._clock.now()))
                return done
        done = work(self.memory or self._disk())
        if self.memory is not None and isinstance(done, Fate) and done:
            self._hold()
        return done

    def look(self, work: Callable[[Store], T], otherwise: T) -> T:
        """Read what is in the file, as far as it can be read."""
        if self.file is None:
            return otherwise
        try:
            return work(self.file)
        except StoreError as error:
            if self.memory is None:
                self._fall_back(error)
            return otherwise

    def on_disk(self, work: Callable[[Store], T], otherwise: T) -> T:
        """Write in the file, or not at all; it may commit."""
        self.commit(int(self._clock.now()))
        if self.memory is None:
            try:
                return work(self._disk())
            except StoreError as error:
                self._fall_back(error)
        return otherwise

    def settle(self, destination: str, keys: list[int], reason: str) -> int:
        """Rows of the outbox have arrived, or are dropped for a reason; how many waited."""
        self.settled.setdefault(destination, {}).update(dict.fromkeys(keys, reason))
        if self.memory is None:
            try:
                return _settle(self._disk(), destination, keys, reason)
            except StoreError as error:
                self._fall_back(error)
                return len(keys)
        return _settle(self.memory, destination, keys, reason)

    def tell(self, keys: list[int]) -> None:
        """Receivers know later verdicts of the file."""
        self.told.update(keys)
        if self.memory is None:
            try:
                self._disk().revisions_published(keys)
            except StoreError as error:
                self._fall_back(error)

    def put_off(self, revision: Revision, made: float) -> None:
        """A later verdict also on rows of the file, for when it can be written again."""
        self._put_off.append((revision, made))
        if len(self._put_off) > MEMORY_REVISIONS:
            self._put_off.popleft()
            self.lost["verdicts"] += 1

    def commit(self, now: float | None) -> None:
        """Make durable what was written; in memory, see whether the disk works again."""
        if self.memory is not None:
            self._go_back(now)
            return
        try:
            self._see_whether_it_is_well()
            self._disk().commit(now)
        except StoreError as error:
            self._fall_back(error)
        else:
            self._made_durable()

    def take_over(self, budget_s: float) -> bool:
        """A part of what can be read of a damaged file, for so many real seconds; false where there is none left."""
        if self.salvage is None or self.salvage.state.done or self.memory is not None:
            return False
        until = time.monotonic() + budget_s
        try:
            while self.salvage.work(self._disk()) and time.monotonic() < until:
                pass
        except StoreError as error:
            self._fall_back(error)
            return False
        self.commit(int(self._clock.now()))
        return not self.salvage.state.done

    def close(self) -> None:
        """Commit and close.

        Raises:
            StoreError: the disk fails, and readings in memory are lost.
        """
        self._stop_watching()
        try:
            if self.memory is not None:
                self._go_back(int(self._clock.now()))
            if self.memory is not None and self.held:
                raise StoreError(f"{self.trouble}. {self.held} readings that were only in memory are lost")
            if self.memory is None:
                self._disk().close()
        finally:
            self._stop_watching()
            if self._file is not None:
                self._file.abandon()
            self._lock.release()

    # --- opening ------------------------------------------------------------------------------------------------------

    def _disk(self) -> Store:
        assert self._file is not None
        return self._file

    def _open(self) -> None:
        """Open the file for writing; a new one where the old one is damaged."""
        self._lock.take()
        if self._file is not None:
            self._file.abandon()
            self._file = None
        self._stop_watching()
        if self._damaged:
            self._put_aside()
        s = self._settings
        try:
            self._file = Store.open(
                s.path, keep_days=s.keep_days, outbox_mb=s.outbox_mb, outbox_policy=cast(Policy, s.outbox_policy)
            )
        except StoreError as error:
            if error.reason != "damaged" or self._damaged:
                raise
            log.error("%s", error)
            self.lost["store"] += 1
            self._damaged = True
            return self._open()
        self._writable, self._damaged = True, False
        self._file.last_key = max(self._last_key or 0, self._file.last_key)
        self.salvage = Salvage.of(self._file)
        self._checkup = Checkup.of(self._path)
        return None

    def _look_at_it(self) -> None:
        """Have the file for reading, where it cannot be written."""
        self._writable = False
        try:
            self._file = Store.open(self._path, read_only=True)
        except StoreError:
            self._file = None

    def _put_aside(self) -> None:
        if self._clock.monotonic() - self._aside_at < ASIDE_S:
            raise StoreError(
                f"store {self._path}: damaged again within minutes: is the disk failing?", reason="damaged"
            )
        self.told.clear()
        aside = set_aside(self._path, self._clock.now())
        self._aside_at = self._clock.monotonic()
        with Store.open(self._path) as new:
            new.last_key = self._last_key or _far_key()
            Salvage.begin(new, aside)
        log.error("store %s: damaged: put aside as %s. A new one is begun", self._path, aside)

    def _see_whether_it_is_well(self) -> None:
        """Raises StoreError: the file was found damaged, or is not the one any more that has this name."""
        if self._checkup is not None and self._checkup.fault:
            raise StoreError(f"store {self._path}: damaged: {self._checkup.fault}", reason="damaged")
        if not self._disk().is_in_place():
            raise StoreError(f"store {self._path}: was moved, deleted or replaced", reason="gone")

    def _stop_watching(self) -> None:
        if self._checkup is not None:
            self._checkup.stop()
            self._checkup = None
        if self.salvage is not None:
            self.salvage.stop()

    # --- between disk and memory --------------------------------------------------------------------------------------

    def _fall_back(self, error: StoreError) -> None:
        """To memory: what the lost transaction held is made again there."""
        self.trouble = error.what
        self.lost["store"] += 1
        log.error("%s. Going on from memory", error.what)
        self.books()
        self._damaged = error.reason == "damaged"
        redo, self._redo = self._redo, []
        self.told.clear()  # a key that is not durable may come again, for another verdict
        if self._file is not None:
            self._last_key = self._file.last_key
            self._file.roll_back()
            if error.reason == "gone":
                self._stop_watching()
                self._file.tables.connection.empty_log()
                self._file.abandon()
                self._file = None
        self._last_key = self._last_key or _far_key()
        self.switches += 1
        self.memory = Store.in_memory(self._days_in_file, self._last_key)
        for before, work in redo:
            self.memory.last_key = before
            done = work(self.memory)
            self.held += isinstance(done, Fate) and bool(done)
        self.memory.last_key = self._last_key
        for destination, keys in self.settled.items():
            for reason in set(keys.values()):
                _settle(self.memory, destination, [key for key, why in keys.items() if why == reason], reason)
        if error.reason in ("damaged", "gone"):
            self._go_back(int(self._clock.now()))

    def _days_in_file(self, station: str, first: int, last: int) -> dict[int, bytes]:
        return self.look(lambda store: store.grid_days(station, first, last), {})

    def _go_back(self, now: float | None) -> None:
        """To the disk, if it works again: what gathered in memory goes there in one transaction."""
        memory = self.memory
        assert memory is not None
        memory.commit()
        memory.tables.forecasts.forget_oldest(MEMORY_FORECASTS)
        self._last_key = memory.last_key
        try:
            if self._file is None or self._damaged or not self._writable:
                self._open()
            store = self._disk()
            store.set(PROBE, str(self._clock.now()))  # a full disk refuses this before there is much work
            store.commit(now)
            for destination, keys in self.settled.items():
                for reason in set(keys.values()):
                    _settle(store, destination, [key for key, why in keys.items() if why == reason], reason)
            store.revisions_published(self.told)
            for revision, made in self._put_off:
                store.revise(revision, made)
            pour = Pour(memory.tables.connection.raw, store.tables, newer=True)
            for _ in pour.run():
                pass
            store.tables.outbox.begin_after(memory.last_key)
            store.commit(now)
        except StoreError as error:
            self.trouble = error.what
            self._damaged = self._damaged or error.reason == "damaged"
            if self._file is not None:
                self._file.roll_back()
            elif not self._damaged:
                self._look_at_it()
            return
        log.warning("store %s: on the disk again, with %d readings that were in memory", self._path, self.held)
        memory.close()
        self._put_off.clear()
        self.memory, self.held, self.trouble = None, 0, ""
        self.switches += 1
        self._made_durable()

    def _hold(self) -> None:
        """One reading more in memory; beyond the bound the oldest go."""
        assert self.memory is not None
        self.held += 1
        if self.held > MEMORY_READINGS:
            n = MEMORY_READINGS // 10
            self.memory.forget_oldest(n, "memory-full")
            self.held -= n
            self.lost["readings"] += n

    def _made_durable(self) -> None:
        self._redo.clear()
        self.settled.clear()
        self.told.clear()


def _settle(store: Store, destination: str, keys: list[int], reason: str) -> int:
    return store.drop(destination, keys, reason) if reason else store.acknowledge(destination, keys)


def _far_key() -> int:
    return FAR_KEYS + secrets.randbits(48)
