"""Taking over what can be read of a file that was put aside: beside the work, and over several runs of the agent."""

from __future__ import annotations

import logging
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import msgspec

from edge_agent.store.connection import damaged
from edge_agent.store.damage import open_damaged
from edge_agent.store.pour import Pour
from edge_agent.store.rebuild import Rebuilt
from edge_agent.store.store import Store

log = logging.getLogger(__name__)

KEY = "salvage"  # in the new store


class Salvaged(msgspec.Struct):
    """`file`: the damaged one, in the folder of the store; `done`: everything that can be read was taken over;
    `observations`, `queued`, `forecasts`, `scores`: rows of each; `unreadable`: parts, of a row or many, that cannot be
    read as a database, and whose rows may be lost."""

    file: str
    done: bool = False
    observations: int = 0
    queued: int = 0
    forecasts: int = 0
    scores: int = 0
    unreadable: int = 0


class Salvage:
    """One damaged file. `state`: how far it has come."""

    def __init__(self, state: Salvaged, folder: Path) -> None:
        self.state, self._path = state, folder / state.file
        self._work: Iterator[None] | None = None
        self._rollbacks = 0
        self._closed = 0  # 1: it cannot be opened as a database

    @classmethod
    def begin(cls, store: Store, aside: Path) -> None:
        """Note in a new store from which file it is to take over."""
        store.set(KEY, msgspec.json.encode(Salvaged(aside.name)).decode())

    @classmethod
    def of(cls, store: Store) -> Salvage | None:
        """The one that a store has noted; begun anew where it was not finished, as what is there already stays."""
        state = last_salvage(store)
        return None if state is None else cls(state, store.path.parent)

    def work(self, store: Store) -> bool:
        """Take over some hundred rows; false when there are no more.

        Raises StoreError: the store failed.
        """
        if self.state.done:
            return False
        if self._work is None or self._rollbacks != store.rollbacks:  # rows that were taken over may be gone
            self.stop()
            self.state, self._rollbacks = Salvaged(self.state.file), store.rollbacks
            self._work = self._steps(store)
        if next(self._work, self) is self:
            self.state.done = True
            log.warning(
                "%s: %d observations, %d waiting rows, %d forecasts and %d scores taken over; %d parts cannot be read",
                self._path, self.state.observations, self.state.queued, self.state.forecasts, self.state.scores,
                self.state.unreadable,
            )  # fmt: skip
        store.set(KEY, msgspec.json.encode(self.state).decode())
        return not self.state.done

    def stop(self) -> None:
        """Let go of the file."""
        if self._work is not None:
            self._work.close()  # type: ignore[attr-defined]
            self._work = None

    def _steps(self, store: Store) -> Iterator[None]:
        """The file as a database, then page by page, as some rows are found only so; at last what waits in its outbox,
        as that needs the observations."""
        with ExitStack() as closing_:
            db = open_damaged(self._path)
            if db is not None:
                closing_.callback(db.close)
            self._closed = int(db is None)
            pours = [Pour(one, store.tables, newer=False, name=self.state.file) for one in (db,) if one is not None]
            for pour in pours:
                yield from self._told(pours, pour.rows())
            try:
                rebuilt = Rebuilt(self._path)
                closing_.callback(rebuilt.close)
                yield from rebuilt.run()
            except (OSError, sqlite3.Error) as error:
                log.error("%s: rows cannot be taken from its pages (%s)", self._path, error)
            else:
                pours.append(Pour(rebuilt.db, store.tables, newer=False, name=self.state.file))
                yield from self._told(pours, pours[-1].rows())
            for pour in pours:
                yield from self._told(pours, pour.outbox(books=pour is pours[0]))

    def _told(self, pours: list[Pour], steps: Iterator[None]) -> Iterator[None]:
        for _ in steps:
            kept: Counter[str] = sum((pour.kept for pour in pours), Counter())
            self.state = Salvaged(
                self.state.file, False, kept["observations"], kept["queued"], kept["forecasts"], kept["scores"],
                max(pour.unreadable for pour in pours) + self._closed,
            )  # fmt: skip
            yield


def last_salvage(store: Store) -> Salvaged | None:
    """What a store says of the last file that was damaged.

    Raises StoreError: it cannot be read.
    """
    text = store.get(KEY)
    try:
        return None if text is None else msgspec.json.decode(text, type=Salvaged)
    except msgspec.MsgspecError as error:
        raise damaged(store.path, KEY) from error
