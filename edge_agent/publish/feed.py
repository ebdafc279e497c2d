"""From the store's outbox to the broker: rows go out in order, and leave the outbox when the broker has them.

A broker that refuses a station's rows holds up that station only: its oldest row is tried again now and then, the rest
wait in the outbox. Never blocks, never drops a row without a reason in the books.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from edge_agent.clock import Clock
from edge_agent.observation import Judged, Observation
from edge_agent.publish.payloads import Latest, observation_payload, to_json
from edge_agent.publish.session import MAX_IN_FLIGHT, Message, Outcome
from edge_agent.publish.topics import KINDS, topic

DESTINATION = "mqtt"
LATE_S = 120  # a row older than this, or than two of its periods, is history
BATCH = 25  # rows read and sent in one go
MAX_TRIES = 8  # of one row that is refused; with the pauses between them about ten minutes
PAUSE_S = 5.0
MAX_PAUSE_S = 600.0
PROBE_ROWS = 200


class Row(Protocol):
    """A row of the outbox: `edge_agent.store.Queued`."""

    @property
    def key(self) -> int: ...
    @property
    def judged(self) -> Judged: ...


class Outbox(Protocol):
    """What the publisher needs of the store."""

    @property
    def rollbacks(self) -> int:
        """How many transactions were lost. Rows acknowledged or dropped in one are queued again."""

    def queued(self, destination: str, limit: int, after: int = 0) -> Sequence[Row]:
        """The oldest rows with a key above `after`, in the order in which they were accepted."""

    def acknowledge(self, destination: str, keys: Iterable[int]) -> Any:
        """Rows have arrived."""

    def drop(self, destination: str, keys: Iterable[int], reason: str) -> Any:
        """Rows will never arrive."""


class Link(Protocol):
    """What the feed needs of the connection: `edge_agent.publish.connection.Connection`."""

    session: int | None

    def send(self, session: int, message: Message, token: Hashable) -> None: ...
    def keep(self, message: Message) -> None: ...
    def outcomes(self) -> list[Outcome]: ...


@dataclass(slots=True)
class _Pause:
    """A station the broker refuses. `oldest`: key of its oldest row that waits, tried again at `until` (monotonic);
    `probe`: the key under way; `tried`, `tries`: the key tried last, and how often."""

    oldest: int
    until: float
    pauses: int = 1
    probe: int | None = None
    tried: int = 0
    tries: int = 0


class Feed:
    """Moves rows from an outbox to a connection; used from one thread."""

    def __init__(
        self,
        link: Link,
        clock: Clock,
        monotonic: Callable[[], float] = time.monotonic,
        others: Callable[[Outcome], None] = lambda outcome: None,
    ) -> None:
        """`others` is told what became of publications that are no rows."""
        self._link, self._clock, self._monotonic, self._others = link, clock, monotonic, others
        self._session: int | None = None
        self._cursor = 0  # every row up to here was sent in this session, or belongs to a paused station
        self._rollbacks = 0
        self._in_flight: dict[int, str] = {}  # key -> station
        self._pauses: dict[str, _Pause] = {}
        self._latest: dict[str, Latest] = {}
        self._touched: set[str] = set()
        self._arrived: list[int] = []  # acknowledged by the broker, not yet in the books

    def pump(self, outbox: Outbox) -> int:
        """Settle what the broker acknowledged, send what waits and fits; the number of rows sent."""
        session = self._link.session  # read first: the outcomes of earlier sessions are then complete
        self._settle(outbox)
        if session != self._session:
            self._session, self._cursor = session, 0
            self._in_flight.clear()
            self._pauses.clear()  # another broker, or another mind: ask again
        if outbox.rollbacks != self._rollbacks:
            self._rollbacks, self._cursor = outbox.rollbacks, 0  # rows that had left are back
        if session is None:
            return 0
        sent = self._probe(outbox, session) + self._advance(outbox, session)
        self._publish_last()
        return sent

    def _settle(self, outbox: Outbox) -> None:
        hopeless: dict[str, list[int]] = {}
        for outcome in self._link.outcomes():
            key = outcome.token
            if not isinstance(key, int):
                self._others(outcome)
                continue
            station = self._in_flight.pop(key, None)
            if not outcome.reason:
                self._arrived.append(key)
            elif outcome.hopeless:
                hopeless.setdefault(outcome.reason, []).append(key)
            elif station is not None:
                self._pause(outbox, station, key, outcome.reason)
            if station is not None and not (outcome.reason and not outcome.hopeless):
                self._resume(station, key)
        if self._arrived:
            outbox.acknowledge(DESTINATION, self._arrived)
            self._arrived = []
        for reason, keys in hopeless.items():
            outbox.drop(DESTINATION, keys, reason)

    def _pause(self, outbox: Outbox, station: str, key: int, reason: str) -> None:
        pause = self._pauses.setdefault(station, _Pause(key, self._monotonic() + PAUSE_S))
        pause.oldest = min(pause.oldest, key)
        if pause.probe != key:
            return
        pause.probe = None
        pause.tried, pause.tries = key, pause.tries + 1 if pause.tried == key else 1
        pause.until = self._monotonic() + min(PAUSE_S * 2.0**pause.pauses, MAX_PAUSE_S)
        pause.pauses += 1
        if pause.tries >= MAX_TRIES:  # this one row may be the trouble: let the next have its turn
            outbox.drop(DESTINATION, [key], reason)

    def _resume(self, station: str, key: int) -> None:
        """A row of the station was settled; if it was the probe, the station is free again."""
        pause = self._pauses.get(station)
        if pause is not None and pause.probe == key:
            del self._pauses[station]
            self._cursor = min(self._cursor, pause.oldest - 1)

    def _probe(self, outbox: Outbox, session: int) -> int:
        """Try the oldest row of each paused station whose pause is over."""
        now, sent = self._monotonic(), 0
        for station, pause in list(self._pauses.items()):
            if pause.probe is not None or now < pause.until:
                continue
            rows = outbox.queued(DESTINATION, PROBE_ROWS, pause.oldest - 1)
            row = next((r for r in rows if r.judged.observation.station == station), None)
            if row is None:  # dropped meanwhile, for want of space
                del self._pauses[station]
                self._cursor = min(self._cursor, pause.oldest - 1)
            elif row.key not in self._in_flight:
                pause.oldest = pause.probe = row.key
                self._send(session, row)
                sent += 1
        return sent

    def _advance(self, outbox: Outbox, session: int) -> int:
        """Send the rows after the cursor, as far as there is room."""
        room = min(MAX_IN_FLIGHT - len(self._in_flight), BATCH)
        if room <= 0:
            return 0
        sent = 0
        for row in outbox.queued(DESTINATION, room, self._cursor):
            self._cursor = row.key
            pause = self._pauses.get(row.judged.observation.station)
            if pause is not None:
                pause.oldest = min(pause.oldest, row.key)
            elif row.key not in self._in_flight:
                self._send(session, row)
                sent += 1
        return sent

    def _send(self, session: int, row: Row) -> None:
        observation = row.judged.observation
        historical = is_late(observation, self._clock.now())
        kind = "obs/history" if historical else "obs"
        payload = observation_payload(row.judged, historical)
        self._in_flight[row.key] = observation.station
        self._link.send(session, Message(topic(observation.station, kind), to_json(payload)), row.key)
        if not historical or observation.restamped_from is not None:
            self._latest.setdefault(observation.station, Latest()).add(observation.t, payload)
            self._touched.add(observation.station)

    def _publish_last(self) -> None:
        for station in self._touched:
            payload = self._latest[station].payload()
            if payload is not None:
                message = Message(topic(station, "obs/last"), to_json(payload), KINDS["obs/last"].retained)
                self._link.keep(message)
        self._touched.clear()


def is_late(observation: Observation, now: float) -> bool:
    """True if an observation is history by now: imported, put right, or older than two minutes and two of its
    periods."""
    late = now - observation.t > max(2 * (observation.period_s or 0), LATE_S)
    return late or observation.historical or observation.restamped_from is not None
