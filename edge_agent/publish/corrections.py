"""Later verdicts on what went out: from the store's record to the topic `qc`, each until the broker has it.

Never blocks, and never holds up observations: a broker that refuses is asked again after a while.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from edge_agent.observation import Revision
from edge_agent.publish.feed import Link
from edge_agent.publish.payloads import revision_payload, to_json
from edge_agent.publish.session import Message, Outcome
from edge_agent.publish.topics import topic

BATCH = 20  # under way at once
LOOK_S = 2.0  # between looks at the record
PAUSE_S = 60.0  # after a refusal
_TOKEN = "qc"


class Record(Protocol):
    """A later verdict on record: `edge_agent.store.revisions.Recorded`."""

    @property
    def key(self) -> int: ...
    @property
    def revision(self) -> Revision: ...
    @property
    def made(self) -> int: ...
    @property
    def by_operator(self) -> bool: ...


class Revised(Protocol):
    """What is needed of the store."""

    @property
    def rollbacks(self) -> int:
        """How many transactions were lost. A key may then stand for another verdict."""

    def unpublished_revisions(self, limit: int) -> Sequence[Record]:
        """The oldest that receivers do not know yet."""

    def revisions_published(self, keys: Iterable[int]) -> Any:
        """Receivers know them, or never will."""


class Corrections:
    """Moves later verdicts to a connection; used from one thread."""

    def __init__(self, link: Link, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._link, self._monotonic = link, monotonic
        self._session: int | None = None
        self._in_flight: set[int] = set()
        self._done: list[int] = []
        self._rollbacks = 0
        self._not_before = 0.0

    def settle(self, outcome: Outcome) -> None:
        """What became of one of them: told by whoever reads the connection's outcomes."""
        if not (isinstance(outcome.token, tuple) and outcome.token[0] == _TOKEN):
            return
        key = outcome.token[1]
        if key not in self._in_flight:
            return
        self._in_flight.discard(key)
        if not outcome.reason or outcome.hopeless:
            self._done.append(key)
        else:
            self._not_before = self._monotonic() + PAUSE_S

    def pump(self, store: Revised) -> None:
        """Note what arrived, send what waits. Raises StoreError: the store failed."""
        if store.rollbacks != self._rollbacks:
            self._rollbacks = store.rollbacks
            self._in_flight.clear()
            self._done = []
        if self._done:
            store.revisions_published(self._done)
            self._done = []
        if self._link.session != self._session:
            self._session = self._link.session
            self._in_flight.clear()
        if self._session is None or self._in_flight or self._monotonic() < self._not_before:
            return
        self._not_before = self._monotonic() + LOOK_S
        for record in store.unpublished_revisions(BATCH):
            payload = revision_payload(record.revision, record.made, by_operator=record.by_operator)
            self._in_flight.add(record.key)
            message = Message(topic(record.revision.station, "qc"), to_json(payload))
            self._link.send(self._session, message, (_TOKEN, record.key))
