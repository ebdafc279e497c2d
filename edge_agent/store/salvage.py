"""Taking over what can be read of a file that was put aside: beside the work, and over several runs of the agent."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import msgspec

from edge_agent.store.damage import open_damaged
from edge_agent.store.pour import Pour
from edge_agent.store.store import Store

log = logging.getLogger(__name__)

KEY = "salvage"  # in the new store


class Salvaged(msgspec.Struct):
    """`file`: the damaged one, in the folder of the store; `done`: everything that can be read was taken over;
    `observations`, `queued`, `forecasts`, `scores`: rows of each; `unreadable`: parts, of a row or many, that are
    lost."""

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
        self._pour: Pour | None = None
        self._steps: Iterator[None] = iter(())
        self._rollbacks = 0
        self._db = None if state.done else open_damaged(self._path)

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
        if self._pour is None or self._rollbacks != store.rollbacks:  # rows that were taken over may be gone
            self._rollbacks = store.rollbacks
            if self._db is not None:
                self._pour = Pour(self._db, store.tables, newer=False, name=self.state.file)
                self._steps = self._pour.run()
        more = next(self._steps, self) is not self
        if self._pour is not None:
            for kind, n in self._pour.kept.items():
                setattr(self.state, kind, n)
            self.state.unreadable = self._pour.unreadable
        if not more:
            self.state.done = True
            self.stop()
            log.warning(
                "%s: %d observations, %d waiting rows, %d forecasts and %d scores taken over; %d parts cannot be read",
                self._path, self.state.observations, self.state.queued, self.state.forecasts, self.state.scores,
                self.state.unreadable,
            )  # fmt: skip
        store.set(KEY, msgspec.json.encode(self.state).decode())
        return more

    def stop(self) -> None:
        """Close the file."""
        self._steps = iter(())
        if self._db is not None:
            self._db.close()
            self._db = None


def last_salvage(store: Store) -> Salvaged | None:
    """What a store says of the last file that was damaged.

    Raises StoreError: it cannot be read.
    """
    text = store.get(KEY)
    return None if text is None else msgspec.json.decode(text, type=Salvaged)
