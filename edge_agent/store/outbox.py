"""What still has to reach a destination: a row per observation and destination, bounded, with books that balance.

`accepted = acknowledged + queued + dropped` holds at any time and over restarts: each change and its entry in the books
are one transaction.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec

from edge_agent.observation import Judged
from edge_agent.store.connection import Connection
from edge_agent.store.rows import OBSERVATION_COLUMNS, OBSERVATION_TABLES, judged_of, only

FULL = "outbox-full"
ROW_BYTES = 160  # what a row and its observation take beside values and flags, rounded up
_BATCH = 500  # parameters of one statement


@dataclass(frozen=True, slots=True)
class Queued:
    """A row that waits. `key` goes back to `acknowledge`."""

    key: int
    judged: Judged


@dataclass(frozen=True, slots=True)
class OutboxCounts:
    """A destination's books since the store was made: accepted = acknowledged + queued + all `dropped`, by reason."""

    accepted: int
    acknowledged: int
    queued: int
    dropped: dict[str, int]


@dataclass(frozen=True, slots=True)
class Part:
    """An observation that filled up an earlier one of its source and time: its own identity, and what it brought."""

    boot: int
    seq: int
    names: Sequence[str]


@dataclass(frozen=True, slots=True)
class Moved:
    """An observation that got another time, `old` -> `new`. `bytes`: of its values and flags; `parts`: the observations
    that filled it up, and then `names`: the values it came with itself."""

    old: int
    new: int
    bytes: int
    parts: Sequence[Part] = ()
    names: Sequence[str] | None = None


_Identity = tuple[int, int] | None  # boot and seq of a part; None: the observation that came first


class Outbox:
    """The rows and the books, in the connection's open transaction. `limit_bytes` for each destination."""

    def __init__(self, connection: Connection, limit_bytes: int) -> None:
        self._connection, self._limit = connection, limit_bytes
        self._last_key = 0  # never given twice, also where the transaction it was given in was lost

    def put(
        self, destination: str, series: int, t: int, size: int, part: Part | None, names: Sequence[str] | None = None
    ) -> None:
        """Queue an observation, `size`: bytes of its values and flags. Beyond the limit the oldest rows are dropped.
        `names`: of the one that came first, the values it stands for; None = all."""
        c = self._connection
        size += ROW_BYTES
        alone = part.names if part else names
        text = None if alone is None else msgspec.json.encode(list(alone)).decode()
        own = (part.boot, part.seq, text) if part else (None, None, text)
        c.write(
            "INSERT INTO outbox VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (self._next_key(), destination, series, t, size, *own)
        )
        c.write(
            "INSERT INTO outbox_totals (destination, accepted, bytes) VALUES (?, 1, ?) ON CONFLICT (destination)"
            " DO UPDATE SET accepted = accepted + 1, bytes = bytes + excluded.bytes",
            (destination, size),
        )
        self._keep_bound(destination)

    def keep_part(self, series: int, t: int, names: Sequence[str]) -> None:
        """Rows of an observation that is about to be filled up stand for these values only."""
        text = msgspec.json.encode(list(names)).decode()
        self._connection.write(
            "UPDATE outbox SET names = ? WHERE series = ? AND t = ? AND names IS NULL", (text, series, t)
        )

    def move(self, destination: str, series: int, moved: Sequence[Moved]) -> None:
        """Observations got other times. What waits goes by them, under new keys, as the broker may be about to
        acknowledge the old time; what has left is queued once more, and counts as accepted once more."""
        c, waiting = self._connection, defaultdict[tuple[int, _Identity], list[int]](list)
        span = min(m.old for m in moved), max(m.old for m in moved)
        query = (
            "SELECT id, t, boot, seq FROM outbox WHERE series = ? AND t BETWEEN ? AND ? AND destination = ? ORDER BY id"
        )
        for key, t, boot, seq in c.read(query, (series, *span, destination)):
            waiting[t, None if boot is None else (boot, seq)].append(key)
        for m in moved:
            for part in (None, *m.parts):
                keys = waiting.get((m.old, None if part is None else (part.boot, part.seq)), [])
                for key in keys:
                    self._renew(key, m.new)
                if not keys:
                    self.put(destination, series, m.new, m.bytes, part, m.names if part is None else None)

    def queued(self, destination: str, limit: int, after: int = 0) -> list[Queued]:
        """The oldest rows, in the order in which they were accepted. `after`: only those with a larger key."""
        rows = self._connection.read(
            f"SELECT q.id, q.names, qb.boot_id, q.seq, {OBSERVATION_COLUMNS} FROM outbox q"
            f" CROSS JOIN {OBSERVATION_TABLES} LEFT JOIN boots qb ON qb.id = q.boot"
            " WHERE o.series = q.series AND o.t = q.t AND q.destination = ? AND q.id > ? ORDER BY q.id LIMIT ?",
            (destination, after, limit),
        )
        found = []
        for key, names, boot_id, seq, *columns in rows:
            judged = judged_of(tuple(columns))
            if names is not None:
                o = judged.observation
                own = (o.boot_id, o.seq) if boot_id is None else (boot_id, seq)
                judged = only(judged, set(msgspec.json.decode(names)), *own)
            found.append(Queued(key, judged))
        return found

    def acknowledge(self, destination: str, keys: Iterable[int]) -> int:
        """Rows have arrived. Keys that are not queued (any more) change nothing. The number that were."""
        done = self._remove(destination, keys)
        self._connection.write(
            "UPDATE outbox_totals SET acknowledged = acknowledged + ? WHERE destination = ?", (done, destination)
        )
        return done

    def drop(self, destination: str, keys: Iterable[int], reason: str) -> int:
        """Rows will never arrive, because of `reason`, a short stable word. The number that were still queued."""
        n = self._remove(destination, keys)
        if n:
            self._connection.write(
                "INSERT INTO outbox_dropped VALUES (?, ?, ?) ON CONFLICT (destination, reason)"
                " DO UPDATE SET n = n + excluded.n",
                (destination, reason, n),
            )
        return n

    def counts(self, destination: str) -> OutboxCounts:
        """The books."""
        c = self._connection
        totals = c.read("SELECT accepted, acknowledged FROM outbox_totals WHERE destination = ?", (destination,))
        ((queued,),) = c.read("SELECT COUNT(*) FROM outbox WHERE destination = ?", (destination,))
        dropped: dict[str, int] = dict(
            c.read("SELECT reason, n FROM outbox_dropped WHERE destination = ?", (destination,))
        )
        accepted, acknowledged = totals[0] if totals else (0, 0)
        return OutboxCounts(accepted, acknowledged, queued, dropped)

    def destinations(self) -> list[str]:
        """Every destination that ever had a row."""
        return [row[0] for row in self._connection.read("SELECT destination FROM outbox_totals ORDER BY destination")]

    def _renew(self, key: int, t: int) -> None:
        """The same row under a new key, and at another time."""
        self._connection.write(
            "INSERT INTO outbox SELECT ?, destination, series, ?, bytes, boot, seq, names FROM outbox WHERE id = ?",
            (self._next_key(), t, key),
        )
        self._connection.write("DELETE FROM outbox WHERE id = ?", (key,))

    def _next_key(self) -> int:
        ((given,),) = self._connection.read("SELECT COALESCE(MAX(seq), 0) FROM sqlite_sequence WHERE name = 'outbox'")
        self._last_key = max(self._last_key, given) + 1
        return self._last_key

    def _keep_bound(self, destination: str) -> None:
        c = self._connection
        ((held,),) = c.read("SELECT bytes FROM outbox_totals WHERE destination = ?", (destination,))
        while held > self._limit:
            oldest = c.read(
                "SELECT id, bytes FROM outbox WHERE destination = ? ORDER BY id LIMIT ?", (destination, _BATCH)
            )
            keys = []
            for key, size in oldest:
                if held <= self._limit:
                    break
                keys.append(key)
                held -= size
            if not keys:
                return
            self.drop(destination, keys, FULL)

    def _remove(self, destination: str, keys: Iterable[int]) -> int:
        """Delete rows that are there; their number."""
        c, wanted, n = self._connection, list(dict.fromkeys(keys)), 0
        for start in range(0, len(wanted), _BATCH):
            batch = wanted[start : start + _BATCH]
            which = f"destination = ? AND id IN ({','.join('?' * len(batch))})"
            ((size,),) = c.read(f"SELECT COALESCE(SUM(bytes), 0) FROM outbox WHERE {which}", (destination, *batch))
            n += c.write(f"DELETE FROM outbox WHERE {which}", (destination, *batch))
            c.write("UPDATE outbox_totals SET bytes = bytes - ? WHERE destination = ?", (size, destination))
        return n
