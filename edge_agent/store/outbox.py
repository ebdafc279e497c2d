"""What still has to reach a destination: a row per observation and destination, bounded, with books that balance.

`accepted = acknowledged + queued + dropped` holds at any time and over restarts: each change and its entry in the books
are one transaction, together with the observation itself. `books` are those of the last commit: what they call accepted
or acknowledged, no power cut takes back.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Literal

import msgspec

from edge_agent.observation import Judged
from edge_agent.store.cells import WORST_RANK
from edge_agent.store.connection import Connection
from edge_agent.store.rows import OBSERVATION_COLUMNS, OBSERVATION_TABLES, judged_of, only

Policy = Literal["drop_oldest", "drop_lowest_priority", "reject"]

FULL, OLD = "outbox-full", "outbox-old"  # reasons for which rows are dropped here
LOWEST = 255  # priority of what nobody can use; the others have the rank of their source, 0 = the preferred one
ROOM = 0.99  # of the bound is left full where priorities are compared, which looks at every row
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
    """An observation that got another time, `old` -> `new`. `own`: its boot and seq, by which a row may name it;
    `bytes`: of its values and flags; `priority`: as in `put`; `parts`: the observations that filled it up, and then
    `names`: the values it came with itself."""

    old: int
    new: int
    own: tuple[int, int]
    bytes: int
    priority: int = 0
    parts: Sequence[Part] = ()
    names: Sequence[str] | None = None


_Identity = tuple[int, int] | None  # boot and seq of a part; None: the observation that came first


def priority_of(judged: Judged) -> int:
    """In the outbox, of an observation."""
    return min(judged.observation.rank, WORST_RANK) if judged.usable() else LOWEST


class Outbox:
    """The rows and the books, in the connection's open transaction. `limit_bytes` for each destination; `policy`: what
    becomes of rows beyond it. `drop_oldest`: the oldest go; `drop_lowest_priority`: those with the largest `priority`
    number, and of these the oldest; `reject`: the new one."""

    def __init__(self, connection: Connection, limit_bytes: int, policy: Policy = "drop_oldest") -> None:
        self.last_key = 0  # never given twice, also where the transaction it was given in was lost
        self._connection, self._limit, self._policy = connection, limit_bytes, policy
        self._books: dict[str, OutboxCounts] = {}
        connection.after_commit.append(self.take_stock)

    def put(
        self, destination: str, series: int, t: int, size: int, part: Part | None, priority: int = 0,
        names: Sequence[str] | None = None,
    ) -> None:  # fmt: skip
        """Queue an observation. `size`: bytes of its values and flags; `names`: of one that was filled up, the values
        it stands for itself, None = all."""
        c = self._connection
        size += ROW_BYTES
        alone = part.names if part else names
        text = None if alone is None else msgspec.json.encode(list(alone)).decode()
        own = (part.boot, part.seq, text) if part else (None, None, text)
        self.last_key = self.last_given() + 1
        rejected = not self.takes(destination, size)
        c.write(
            "INSERT INTO outbox_totals (destination, accepted, bytes) VALUES (?, 1, ?) ON CONFLICT (destination)"
            " DO UPDATE SET accepted = accepted + 1, bytes = bytes + excluded.bytes",
            (destination, 0 if rejected else size),
        )
        if rejected:
            self.note_dropped(destination, FULL, 1)
            return
        c.write(
            "INSERT INTO outbox VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (self.last_key, destination, series, t, size, *own, priority),
        )
        self.keep_bound(destination)

    def begin_after(self, key: int) -> None:
        """Give no key up to that one, also in a later run: rows that had them were settled before they came here."""
        self.last_key = max(self.last_key, key)
        c = self._connection
        if not c.write("UPDATE sqlite_sequence SET seq = MAX(seq, ?) WHERE name = 'outbox'", (key,)):
            c.write("INSERT INTO sqlite_sequence VALUES ('outbox', ?)", (key,))

    def takes(self, destination: str, size: int) -> bool:
        """False if a new row of `size` bytes is to be rejected."""
        return self._policy != "reject" or self._held(destination) + size <= self._limit

    def last_given(self) -> int:
        """The last key that was given."""
        ((given,),) = self._connection.read("SELECT COALESCE(MAX(seq), 0) FROM sqlite_sequence WHERE name = 'outbox'")
        return max(self.last_key, int(given))

    def keep_part(self, series: int, t: int, names: Sequence[str]) -> None:
        """Rows of an observation that is about to be filled up stand for these values only."""
        text = msgspec.json.encode(list(names)).decode()
        self._connection.write(
            "UPDATE outbox SET names = ? WHERE series = ? AND t = ? AND names IS NULL", (text, series, t)
        )

    def move(self, destination: str, series: int, moved: Sequence[Moved]) -> None:
        """Observations got other times. What waits goes by them, under new keys, as the broker may be about to
        acknowledge the old time; what has left is queued once more, and counts as accepted once more."""
        c, waiting = self._connection, defaultdict[int, defaultdict[_Identity, list[int]]](lambda: defaultdict(list))
        span = min(m.old for m in moved), max(m.old for m in moved)
        query = (
            "SELECT id, t, boot, seq FROM outbox WHERE series = ? AND t BETWEEN ? AND ? AND destination = ? ORDER BY id"
        )
        for key, t, boot, seq in c.read(query, (series, *span, destination)):
            waiting[t][None if boot is None else (boot, seq)].append(key)
        for m in moved:
            here = waiting[m.old]
            for key in chain.from_iterable(here.values()):
                self._renew(key, m.new)
            if not (here[None] or here[m.own]):
                self.put(destination, series, m.new, m.bytes, None, m.priority, m.names)
            for part in m.parts:
                if not here[part.boot, part.seq]:
                    self.put(destination, series, m.new, m.bytes, part, m.priority)

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
        if done:
            self._connection.write(
                "UPDATE outbox_totals SET acknowledged = acknowledged + ? WHERE destination = ?", (done, destination)
            )
        return done

    def drop(self, destination: str, keys: Iterable[int], reason: str) -> int:
        """Rows will never arrive, because of `reason`, a short stable word. The number that were still queued."""
        n = self._remove(destination, keys)
        self.note_dropped(destination, reason, n)
        return n

    def expire(self, now: int, keep_s: int) -> int:
        """Drop what has waited for longer than `keep_s`, to the spacing of the calls; how many rows. `now`: UTC seconds
        that can be believed. A row's age counts from the first call after it came, not from a time that stands on it:
        the clock may have been wrong when it did."""
        c = self._connection
        c.write("DELETE FROM outbox_marks WHERE t >= ?", (now,))
        ((last,),) = c.read("SELECT COALESCE(MAX(id), 0) FROM outbox")
        c.write("INSERT INTO outbox_marks VALUES (?, ?)", (now, last))
        old = c.read("SELECT t, key FROM outbox_marks WHERE t <= ? ORDER BY t DESC LIMIT 1", (now - keep_s,))
        if not old:
            return 0
        ((t, key),) = old
        c.write("DELETE FROM outbox_marks WHERE t < ?", (t,))
        gone = c.read("SELECT destination, SUM(bytes) FROM outbox WHERE id <= ? GROUP BY destination", (key,))
        total = 0
        for destination, size in gone:
            n = c.write("DELETE FROM outbox WHERE destination = ? AND id <= ?", (destination, key))
            c.write("UPDATE outbox_totals SET bytes = bytes - ? WHERE destination = ?", (size, destination))
            self.note_dropped(destination, OLD, n)
            total += n
        return total

    def drop_without_observation(self, reason: str) -> None:
        """Drop the rows whose observation is gone."""
        gone = self._connection.read(
            "SELECT q.destination, q.id FROM outbox q WHERE NOT EXISTS"
            " (SELECT 1 FROM observations o WHERE o.series = q.series AND o.t = q.t)"
        )
        for destination in {row[0] for row in gone}:
            self.drop(destination, [key for name, key in gone if name == destination], reason)

    def books(self) -> dict[str, OutboxCounts]:
        """Destination -> its books when the last commit was made."""
        return dict(self._books)

    def take_stock(self) -> None:
        """What is written now is committed."""
        self._books = {destination: self.counts(destination) for destination in self.destinations()}

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

    def keep_bound(self, destination: str) -> None:
        """Drop what is beyond the bound; a policy that rejects new rows has none there."""
        held = self._held(destination)
        if held <= self._limit or self._policy == "reject":
            return
        lowest = self._policy == "drop_lowest_priority"
        order, bound = ("priority DESC, id", self._limit * ROOM) if lowest else ("id", self._limit)
        first = f"SELECT id, bytes FROM outbox WHERE destination = ? ORDER BY {order} LIMIT ?"
        while held > bound:
            keys = []
            for key, size in self._connection.read(first, (destination, _BATCH)):
                if held <= bound:
                    break
                keys.append(key)
                held -= size
            if not keys:
                return
            self.drop(destination, keys, FULL)

    def _renew(self, key: int, t: int) -> None:
        """The same row under a new key, and at another time."""
        self.last_key = self.last_given() + 1
        rest = "bytes, boot, seq, names, priority"
        self._connection.write(
            f"INSERT INTO outbox (id, destination, series, t, {rest}) SELECT ?, destination, series, ?, {rest}"
            " FROM outbox WHERE id = ?",
            (self.last_key, t, key),
        )
        self._connection.write("DELETE FROM outbox WHERE id = ?", (key,))

    def _held(self, destination: str) -> int:
        rows = self._connection.read("SELECT bytes FROM outbox_totals WHERE destination = ?", (destination,))
        return int(rows[0][0]) if rows else 0

    def note_dropped(self, destination: str, reason: str, n: int) -> None:
        """Enter rows in the books that were accepted and will never arrive."""
        if n:
            self._connection.write(
                "INSERT INTO outbox_dropped VALUES (?, ?, ?) ON CONFLICT (destination, reason)"
                " DO UPDATE SET n = n + excluded.n",
                (destination, reason, n),
            )

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
