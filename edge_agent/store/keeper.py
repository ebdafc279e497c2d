"""The agent's store on a disk that may fail: as `Store`, and where the file cannot be written everything goes on from
memory (see `refuge`).

Must never call anything durable, accepted or acknowledged that is only in memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from edge_agent import grid
from edge_agent.clock import Clock
from edge_agent.config import Store as Settings
from edge_agent.errors import StoreError
from edge_agent.forecast import Forecast
from edge_agent.observation import Flag, Judged, RainState, Revision
from edge_agent.store.observations import Fate, fate_of
from edge_agent.store.outbox import OutboxCounts, Queued
from edge_agent.store.pruning import Pruned
from edge_agent.store.refuge import Refuge
from edge_agent.store.restamp import Doubtful, Slice, Timeline
from edge_agent.store.revisions import Recorded
from edge_agent.store.rows import only
from edge_agent.store.salvage import Salvaged
from edge_agent.store.store import Store
from edge_agent.store.waiting import Key
from edge_agent.verification import ScoreRow

MOST_SETTLED = 200_000  # rows of the file settled while it cannot be written; then no more of it are sent


class Keeper:
    """As `Store`, for the running agent. No method fails because of the disk, but for opening, closing,
    `doubtful`, `slices` and `restamp`."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        """Raises StoreError: another agent works with it, another program's file, a newer schema, not permitted."""
        self._refuge = Refuge(settings, clock)

    def __enter__(self) -> Keeper:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- how it is doing ----------------------------------------------------------------------------------------------

    @property
    def on_disk(self) -> bool:
        """False while everything goes to memory."""
        return self._refuge.memory is None

    @property
    def trouble(self) -> str:
        """Why everything goes to memory, in words; empty on the disk."""
        return self._refuge.trouble

    @property
    def in_memory(self) -> int:
        """Readings that are only in memory because the disk fails."""
        return self._refuge.held

    @property
    def wanted(self) -> bool:
        """Whether another process waits to write in the file: a commit lets it in."""
        return self._refuge.memory is None and self._refuge.file is not None and self._refuge.file.wanted

    @property
    def lost(self) -> Counter[str]:
        """By reason: `readings` that memory had no room for; `store`: how often the disk failed."""
        return self._refuge.lost

    @property
    def salvaged(self) -> Salvaged | None:
        """What became of the last file that was damaged; None where none ever was."""
        return self._refuge.salvage.state if self._refuge.salvage else None

    @property
    def rollbacks(self) -> int:
        """How often it went from disk to memory or back. Rows that left the outbox may be back."""
        return self._refuge.switches

    def size_mb(self) -> float:
        """The file and its write-ahead log, millions of bytes; 0 where it cannot be seen."""
        try:
            return 0.0 if self._refuge.file is None else self._refuge.file.size_mb()
        except OSError:
            return 0.0

    def books(self) -> dict[str, OutboxCounts]:
        """As `Store.books`: what is durable, whatever is in memory."""
        return self._refuge.books()

    # --- readings -----------------------------------------------------------------------------------------------------

    def add(
        self, judged: Judged, destinations: Sequence[str] = (), totals: Mapping[str, RainState] | None = None
    ) -> Fate:
        """As `Store.add`."""
        return self._refuge.do(partial(self._add, judged, destinations, totals))

    def _add(
        self, judged: Judged, destinations: Sequence[str], totals: Mapping[str, RainState] | None, store: Store
    ) -> Fate:
        if store is not self._refuge.memory:
            return store.add(judged, destinations, totals)
        o = judged.observation
        there = self._refuge.look(lambda file: file.observation(o.station, o.source, o.t), None)
        if there is None:
            return store.add(judged, destinations, totals)
        fate = fate_of(there, judged)
        if not fate:
            return fate
        part = store.add(only(judged, set(fate.kept), o.boot_id, o.seq), destinations, totals)
        return Fate(part.kept, fate.same | part.same, fate.other | part.other)

    def observations(self, station: str, start: int | None = None, end: int | None = None) -> Iterator[Judged]:
        """As `Store.observations`; those on the disk come first."""
        nothing: list[Judged] = []
        yield from self._refuge.look(lambda store: list(store.observations(station, start, end)), nothing)
        if self._refuge.memory is not None:
            yield from self._refuge.memory.observations(station, start, end)

    def first_of_newest(self, station: str, rows: int, start: int) -> int:
        """As `Store.first_of_newest`, of what is on the disk."""
        return self._refuge.look(lambda store: store.first_of_newest(station, rows, start), start)

    def newest(self, station: str) -> dict[str, tuple[int, float, int]]:
        """As `Store.newest`."""
        nothing: dict[str, tuple[int, float, int]] = {}
        found = self._refuge.look(lambda store: store.newest(station), nothing)
        if self._refuge.memory is not None:
            for name, newer in self._refuge.memory.newest(station).items():
                found[name] = max(newer, found.get(name, newer))
        return found

    def newest_of(self, station: str, source: str) -> int | None:
        """As `Store.newest_of`, of what is on the disk."""
        return self._refuge.look(lambda store: store.newest_of(station, source), None)

    def revise(self, revision: Revision, made: float) -> Counter[Flag]:
        """As `Store.revise`. While the disk fails rows in memory are revised, those of the file once it is written
        again; both are published then."""
        return self._refuge.do(partial(self._revise, revision, made))

    def _revise(self, revision: Revision, made: float, store: Store) -> Counter[Flag]:
        if store is self._refuge.memory:
            self._refuge.put_off(revision, made)
        return store.revise(revision, made)

    def unpublished_revisions(self, limit: int) -> list[Recorded]:
        """As `Store.unpublished_revisions`, of what is on the disk."""
        nothing: list[Recorded] = []
        told = self._refuge.told
        found = self._refuge.look(lambda store: store.unpublished_revisions(limit + len(told)), nothing)
        return [one for one in found if one.key not in told][:limit]

    def revisions_published(self, keys: Iterable[int]) -> None:
        """As `Store.revisions_published`; while the disk fails it is noted in memory."""
        self._refuge.tell(list(keys))

    def free_second(self, station: str, source: str, t: int, steady_s: float, machine: str) -> int:
        """As `Store.free_second`, on the disk and in memory."""
        while True:
            free = self._refuge.look(lambda store, t=t: store.free_second(station, source, t, steady_s, machine), t)  # type: ignore[misc]
            if self._refuge.memory is None:
                return free
            t = self._refuge.memory.free_second(station, source, free, steady_s, machine)
            if t == free:
                return t

    def doubtful(self, doubtful: Doubtful) -> list[int]:
        """As `Store.doubtful`.

        Raises StoreError: the disk fails.
        """
        found = self._refuge.on_disk(lambda store: store.doubtful(doubtful), None)
        return self._moved_later() if found is None else found

    def slices(self, series: int, doubtful: Doubtful, timeline: Timeline) -> list[Slice]:
        """As `Store.slices`.

        Raises StoreError: the disk fails.
        """
        found = self._refuge.on_disk(lambda store: store.slices(series, doubtful, timeline), None)
        return self._moved_later() if found is None else found

    def restamp(self, series: int, slice_: Slice, timeline: Timeline, destinations: Sequence[str] = ()) -> int:
        """As `Store.restamp`.

        Raises StoreError: the disk fails.
        """
        moved = self._refuge.on_disk(lambda store: store.restamp(series, slice_, timeline, destinations), None)
        return self._moved_later() if moved is None else moved

    def _moved_later(self) -> NoReturn:
        raise StoreError(f"{self.trouble}: no observation gets its time meanwhile")

    def rain_totals(self) -> dict[str, dict[tuple[str, str], RainState]]:
        """As `Store.rain_totals`."""
        nothing: dict[str, dict[tuple[str, str], RainState]] = {}
        return self._refuge.look(lambda store: store.rain_totals(), nothing)

    def verifying(self, station: str, variable: str, valid_times: grid.Times) -> grid.Values:
        """As `Store.verifying`, of what is on the disk."""
        nothing = np.full(len(valid_times), np.nan)
        return self._refuge.look(lambda store: store.verifying(station, variable, valid_times), nothing)

    # --- the grid -----------------------------------------------------------------------------------------------------

    def history(self, stations: Sequence[str], origin: int) -> NDArray[np.float32]:
        """As `Store.history`."""
        nothing = np.full((len(stations), grid.HISTORY_STEPS, len(grid.GRID_VARIABLES)), np.nan, np.float32)
        found = self._refuge.look(lambda store: store.history(stations, origin), nothing)
        if self._refuge.memory is not None:
            rows = self._in_memory(stations)
            found[rows] = self._refuge.memory.history([stations[row] for row in rows], origin)
        return found

    def ages(self, stations: Sequence[str], origin: int) -> list[dict[str, int]]:
        """As `Store.ages`."""
        nothing: list[dict[str, int]] = [{} for _ in stations]
        found = self._refuge.look(lambda store: store.ages(stations, origin), nothing)
        if self._refuge.memory is not None:
            for row in self._in_memory(stations):
                (found[row],) = self._refuge.memory.ages([stations[row]], origin)
        return found

    def _in_memory(self, stations: Sequence[str]) -> list[int]:
        """Rows of the stations that memory knows: it has their days from the disk, and its own."""
        known = set(self._refuge.memory.stations()) if self._refuge.memory is not None else set()
        return [row for row, station in enumerate(stations) if station in known]

    # --- forecasts and scores -----------------------------------------------------------------------------------------

    def add_forecast(self, forecast: Forecast, baselines: Sequence[Forecast] = ()) -> None:
        """As `Store.add_forecast`."""
        self._refuge.do(lambda store: store.add_forecast(forecast, baselines))

    def forget_forecasts(self, since: int, until: int) -> None:
        """As `Store.forget_forecasts`."""
        self._refuge.do(lambda store: store.forget_forecasts(since, until))

    def forecasts(self, station: str, *, since: int, until: int) -> Iterator[Forecast]:
        """As `Store.forecasts`, of what is on the disk."""
        nothing: list[Forecast] = []
        return iter(self._refuge.look(lambda store: list(store.forecasts(station, since=since, until=until)), nothing))

    def next_origin(self, since: int, until: int) -> int | None:
        """As `Store.next_origin`, of what is on the disk."""
        return self._refuge.look(lambda store: store.next_origin(since, until), None)

    def forecast_stations(self, origin: int) -> list[str]:
        """As `Store.forecast_stations`, of what is on the disk."""
        nothing: list[str] = []
        return self._refuge.look(lambda store: store.forecast_stations(origin), nothing)

    def baselines(self, station: str, origin: int) -> list[Forecast]:
        """As `Store.baselines`, of what is on the disk."""
        nothing: list[Forecast] = []
        return self._refuge.look(lambda store: store.baselines(station, origin), nothing)

    def forget_baselines(self, until: int) -> None:
        """As `Store.forget_baselines`."""
        self._refuge.do(lambda store: store.forget_baselines(until))

    def add_scores(self, rows: Iterable[ScoreRow]) -> None:
        """As `Store.add_scores`."""
        kept = list(rows)
        self._refuge.do(lambda store: store.add_scores(kept))

    def scores(self, station: str, since_day: str | None = None) -> list[ScoreRow]:
        """As `Store.scores`, of what is on the disk."""
        nothing: list[ScoreRow] = []
        return self._refuge.look(lambda store: store.scores(station, since_day), nothing)

    def wait(self, rows: Sequence[tuple[Key, bytes]]) -> None:
        """As `Waiting.put`; nothing while the disk fails."""
        self._refuge.on_disk(lambda store: store.waiting.put(rows), None)

    def due(self, until: int, limit: int) -> list[tuple[Key, bytes]]:
        """As `Waiting.due`, of what is on the disk."""
        nothing: list[tuple[Key, bytes]] = []
        return self._refuge.look(lambda store: store.waiting.due(until, limit), nothing)

    def settle(self, keys: Sequence[Key], scores: Sequence[ScoreRow]) -> None:
        """As `Waiting.settle`; nothing while the disk fails."""
        self._refuge.on_disk(lambda store: store.waiting.settle(keys, scores), None)

    def learned(self, station: str) -> bytes | None:
        """As `Store.learned`, of what is on the disk."""
        return self._refuge.look(lambda store: store.learned(station), None)

    def learned_is_handed(self, station: str) -> bool:
        """As `Store.learned_is_handed`, of what is on the disk."""
        return self._refuge.look(lambda store: store.learned_is_handed(station), False)

    def keep_learned(self, station: str, body: bytes) -> None:
        """As `Store.keep_learned`; nothing while the disk fails."""
        self._refuge.on_disk(lambda store: store.keep_learned(station, body), None)

    # --- the outbox ---------------------------------------------------------------------------------------------------

    def queued(self, destination: str, limit: int, after: int = 0) -> list[Queued]:
        """As `Store.queued`; what waits in the file goes on being sent while it cannot be written."""
        rows: list[Queued] = []
        if self._refuge.memory is None:
            rows = self._refuge.look(lambda store: store.queued(destination, limit, after), rows)
            if self._refuge.memory is None:
                return rows
        done, more, at = self._refuge.settled.get(destination, {}), True, after
        while more and len(rows) < limit and len(done) < MOST_SETTLED:
            nothing: list[Queued] = []
            part = self._refuge.look(partial(_queued, destination, limit, at), nothing)
            rows += [row for row in part if row.key not in done]
            more = len(part) == limit
            at = part[-1].key if part else at
        return (rows + self._refuge.memory.queued(destination, limit, after))[:limit]

    def acknowledge(self, destination: str, keys: Iterable[int]) -> int:
        """As `Store.acknowledge`."""
        return self._refuge.settle(destination, list(keys), "")

    def drop(self, destination: str, keys: Iterable[int], reason: str) -> int:
        """As `Store.drop`."""
        return self._refuge.settle(destination, list(keys), reason)

    def expire(self, now: float, keep_days: float) -> int:
        """As `Store.expire`; nothing while the disk fails."""
        return self._refuge.on_disk(lambda store: store.expire(now, keep_days), 0)

    # --- small things, and the file -----------------------------------------------------------------------------------

    def get(self, key: str) -> str | None:
        """As `Store.get`."""
        found = None if self._refuge.memory is None else self._refuge.memory.get(key)
        return self._refuge.look(lambda store: store.get(key), None) if found is None else found

    def set(self, key: str, value: str) -> None:
        """As `Store.set`."""
        self._refuge.do(lambda store: store.set(key, value))

    def as_of(self) -> int | None:
        """As `Store.as_of`, of what is on the disk."""
        return self._refuge.look(lambda store: store.as_of(), None)

    def prune(self, now: float) -> Pruned:
        """As `Store.prune`; nothing while the disk fails."""
        return self._refuge.on_disk(lambda store: store.prune(now), Pruned(0, 0, 0, 0))

    def commit(self, now: float | None = None) -> None:
        """Make durable what was written since the last commit; in memory, see whether the disk works again."""
        self._refuge.commit(now)

    def salvage(self, budget_s: float) -> bool:
        """Take over a part of what can be read of a damaged file, for so many real seconds; false where there is none
        left."""
        return self._refuge.take_over(budget_s)

    def close(self) -> None:
        """Commit and close.

        Raises:
            StoreError: the disk fails, and readings in memory are lost.
        """
        self._refuge.close()


def _queued(destination: str, limit: int, after: int, store: Store) -> list[Queued]:
    return store.queued(destination, limit, after)
