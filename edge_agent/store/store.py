"""The store's one door: what the agent's main loop adds, asks and keeps. See the package for the loss window."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_agent import grid
from edge_agent.forecast import Forecast
from edge_agent.observation import Flag, Judged, RainState, Revision
from edge_agent.store.cells import DAY_S
from edge_agent.store.connection import BUSY_S, Connection, connect, connect_memory
from edge_agent.store.forecasts import Forecasts
from edge_agent.store.insert import insert
from edge_agent.store.learned import Learned
from edge_agent.store.observations import Fate, Observations
from edge_agent.store.open_steps import OpenSteps
from edge_agent.store.outbox import Outbox, OutboxCounts, Policy, Queued
from edge_agent.store.past import Past
from edge_agent.store.pruning import Pruned, prune
from edge_agent.store.restamp import Doubtful, Restamp, Slice, Timeline
from edge_agent.store.revisions import Recorded, Revisions
from edge_agent.store.state import GridDays, Newest, RainTotals
from edge_agent.store.tables import Tables
from edge_agent.store.verifying import Verifying
from edge_agent.store.waiting import Waiting
from edge_agent.verification import ScoreRow

_AS_OF = "committed-at"


class Store:
    """Observations, grid, forecasts, scores and outbox of all stations. Every method raises StoreError where the file
    cannot be read or written. Only for the thread that opened it. `tables`: to move rows; `waiting`: to be scored."""

    def __init__(
        self, connection: Connection, *, keep_days: int, outbox_bytes: int, outbox_policy: Policy = "drop_oldest"
    ) -> None:
        self._connection, self._keep_days = connection, keep_days
        self._observations = Observations(connection)
        self._open = OpenSteps(connection)
        self._grid = GridDays(connection, self._observations, self._open)
        self._newest = Newest(connection, self._observations, self._open)
        self._rain = RainTotals(connection)
        self._forecasts, self._learned = Forecasts(connection), Learned(connection)
        self.waiting = Waiting(connection, self._forecasts)
        self._outbox = Outbox(connection, outbox_bytes, outbox_policy)
        self._revisions = Revisions(connection, self._observations, self._open, self._grid, self._newest)
        self.tables = Tables(
            connection, self._observations, self._open, self._grid, self._newest, self._rain, self._forecasts,
            self._outbox,
        )  # fmt: skip
        self._restamp = Restamp(self.tables, self._revisions)
        self._past = Past(self._observations, self._grid)
        self._verifying = Verifying(connection, self._observations)
        self._identity: tuple[int, int] | None = None

    @classmethod
    def open(
        cls, path: str | Path, *, keep_days: int = 90, outbox_mb: float = 200.0, outbox_policy: Policy = "drop_oldest",
        read_only: bool = False, patience_s: float = BUSY_S,
    ) -> Store:  # fmt: skip
        """The store in that file, made where it is not there.

        `keep_days`: raw observations. `outbox_mb`: bound of what waits for each destination, millions of bytes;
        `outbox_policy`: what becomes of rows beyond it, as `Outbox`. `read_only`: for a process beside the agent; sees
        what was committed. `patience_s`: with others that write.

        Raises:
            StoreError: not permitted, damaged, another program's file, a newer schema; read only: not there.
        """
        connection = connect(Path(path), read_only=read_only, patience_s=patience_s)
        store = cls(connection, keep_days=keep_days, outbox_bytes=int(outbox_mb * 1e6), outbox_policy=outbox_policy)
        store._outbox.take_stock()
        store.last_key = store._outbox.last_given()
        with suppress(OSError):
            store._identity = _identity(store.path)
        return store

    @classmethod
    def in_memory(cls, behind: Callable[[str, int, int], Mapping[int, bytes]], last_key: int) -> Store:
        """A store of nothing but memory, for while the disk fails. `behind`: packed grid days that are elsewhere, by
        station, first and last day; `last_key`: the last one of the outbox that was given."""
        store = cls(connect_memory(), keep_days=36_500, outbox_bytes=2**40)
        store._grid.behind = lambda number, first, last: behind(store._observations.name(number), first, last)
        store._outbox.last_key = last_key
        return store

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def path(self) -> Path:
        """The file."""
        return self._connection.path

    def is_in_place(self) -> bool:
        """False if the file was moved, deleted or replaced since it was opened."""
        try:
            return self._identity == _identity(self.path)
        except OSError:
            return False

    def size_mb(self) -> float:
        """The file and its write-ahead log, millions of bytes."""
        files = (self.path, Path(f"{self.path}-wal"))
        return sum(file.stat().st_size for file in files if file.exists()) / 1e6

    # --- observations ---------------------------------------------------------------------------------------------

    def add(
        self, judged: Judged, destinations: Sequence[str] = (), totals: Mapping[str, RainState] | None = None
    ) -> Fate:
        """Keep an observation, bring the grid up to date, and queue it for each destination. `totals`: how its source's
        running totals stand after it, by variable; they are kept if it is.

        A second observation of the same station, source and time fills up the variables the first did not have; queued
        for a destination it stands for these alone, under its own id. One that brings no new variable changes nothing.
        The answer, by variable, is false where nothing was kept.
        """
        fate = insert(self.tables, judged, destinations, totals or {})
        if fate:
            self._verifying.forget()
        return fate

    def revise(self, revision: Revision, made: float, *, publish: bool = True) -> Counter[Flag]:
        """Take a later verdict on values that are kept, and put it on record: flags become worse, unless an operator
        says otherwise (`revisions.OPERATOR`), and then stay so. What values had a different flag before, by flag.
        `made`: UTC seconds; `publish`: receivers of live data know these rows."""
        self._connection.begin()
        before = self._revisions.apply(revision, int(made), publish=publish)
        self._verifying.forget()
        return before

    def revisions(self, station: str | None = None, *, by_operator: bool = False) -> list[Recorded]:
        """Later verdicts on record, oldest first."""
        return self._revisions.recorded(station, by_operator=by_operator)

    def unpublished_revisions(self, limit: int) -> list[Recorded]:
        """Later verdicts that receivers do not know yet, oldest first."""
        return self._revisions.unpublished(limit)

    def revisions_published(self, keys: Iterable[int]) -> None:
        """Receivers know these later verdicts."""
        self._revisions.published(keys)

    def observations(self, station: str, start: int | None = None, end: int | None = None) -> Iterator[Judged]:
        """A station's observations by time, then rank; `start` <= t <= `end`. Few are in memory at once."""
        return self._observations.between(station, start, end)

    def first_of_newest(self, station: str, rows: int, start: int) -> int:
        """The earliest time, not before `start`, from which on a station has at most so many observations."""
        return self._observations.first_of_newest(station, rows, start)

    def observation(self, station: str, source: str, t: int) -> Judged | None:
        """The one of a source and time; None where there is none."""
        return self._observations.at(station, source, t)

    def stations(self) -> list[str]:
        """Every station with observations, by name."""
        return self._observations.stations()

    def sources(self, station: str) -> list[str]:
        """The sources a station's observations came from, in the order in which they first came."""
        return self._observations.sources(station)

    def rain_totals(self) -> dict[str, dict[tuple[str, str], RainState]]:
        """Source -> (station, variable) -> how a running total stood when the last commit was made."""
        return self._rain.all()

    def newest_of(self, station: str, source: str) -> int | None:
        """UTC seconds of the newest observation of a station's source; None where there is none."""
        number = self._observations.station(station)
        return None if number is None else self._observations.newest(number, source)

    def newest(self, station: str) -> dict[str, tuple[int, float, int]]:
        """variable -> (t, value, flag) of its newest reading, whatever its flag."""
        number = self._observations.station(station)
        return {} if number is None else dict(self._newest.of(number).newest)

    def free_second(self, station: str, source: str, t: int, steady_s: float, machine: str) -> int:
        """The first second from `t` on in which the source has no observation that arrived at another moment than
        `steady_s` of `machine`'s steady clock."""
        return self._observations.free_second(station, source, t, steady_s, machine)

    def doubtful(self, doubtful: Doubtful) -> list[int]:
        """The series with such observations, by number."""
        return self._restamp.series(doubtful)

    def slices(self, series: int, doubtful: Doubtful, timeline: Timeline) -> list[Slice]:
        """The slices in which `restamp` puts such observations of a series where they belong, in this order."""
        return self._restamp.slices(series, doubtful, timeline)

    def restamp(self, series: int, slice_: Slice, timeline: Timeline, destinations: Sequence[str] = ()) -> int:
        """Give a slice of the observations the time that `timeline` says, in grid, newest readings, revisions and
        outbox too; what has left for a destination is queued for it once more. How many got another time."""
        self._verifying.forget()
        return self._restamp.move(series, slice_, timeline, destinations)

    def verifying(self, station: str, variable: str, valid_times: grid.Times) -> grid.Values:
        """What came at each valid time, [M] float64, NaN where nothing usable did; as `grid.verifying`. Where several
        sources measure the variable, the best one that has a value stands."""
        return self._verifying.at(station, variable, valid_times)

    # --- the grid -------------------------------------------------------------------------------------------------

    def history(self, stations: Sequence[str], origin: int) -> NDArray[np.float32]:
        """What a bundle reads: the 30 days up to `origin`.

        Args:
            stations: S names; one that has no observations is all NaN. Memory grows by 92 kB a station: pass chunks.
            origin: UTC seconds, a multiple of 900.

        Returns:
            [S, 2880, 8], columns as `grid.GRID_VARIABLES`, usable values only, NaN = missing.
        """
        return self._past.history(stations, origin)

    def grid_days(self, station: str, first: int, last: int) -> dict[int, bytes]:
        """A station's packed grid days, by day since 1970; `first` <= day <= `last`."""
        number = self._observations.station(station)
        return {} if number is None else self._grid.between(number, first, last)

    def ages(self, stations: Sequence[str], origin: int) -> list[dict[str, int]]:
        """Per station: seconds from each grid variable's newest usable reading to `origin`, a multiple of 900; a
        variable that was not read in the 30 days before it is left out."""
        return self._past.ages(stations, origin)

    # --- forecasts and scores -------------------------------------------------------------------------------------

    def add_forecast(self, forecast: Forecast, baselines: Sequence[Forecast] = ()) -> None:
        """Keep a forecast, and beside it the baselines that verification will hold it against, numbers rounded as they
        are published; those of the same station and origin are replaced."""
        self._forecasts.add(forecast, baselines)

    def forecasts(self, station: str, *, since: int, until: int) -> Iterator[Forecast]:
        """A station's forecasts by origin; `since` <= origin <= `until`. Those whose quantiles `prune` has deleted have
        None in their place."""
        return self._forecasts.between(station, since, until)

    def next_origin(self, since: int, until: int) -> int | None:
        """The earliest origin with a forecast of any station, None where none has; `since` <= origin <= `until`."""
        return self._forecasts.next_origin(since, until)

    def forecast_stations(self, origin: int) -> list[str]:
        """The stations with a forecast from an origin, by name."""
        return self._forecasts.stations_at(origin)

    def baselines(self, station: str, origin: int) -> list[Forecast]:
        """The baselines kept beside a forecast, until `forget_baselines`."""
        return self._forecasts.baselines(station, origin)

    def forget_baselines(self, until: int) -> None:
        """Let go of the baselines of all forecasts with an origin up to `until`."""
        self._forecasts.forget_baselines(until)

    def forget_forecasts(self, since: int, until: int) -> None:
        """Delete the forecasts of all stations from these origins on, and what stands beside them."""
        self._forecasts.forget(since, until)

    def last_forecast(self, station: str) -> Forecast | None:
        """The forecast with the newest origin."""
        return self._forecasts.last(station)

    def add_scores(self, rows: Iterable[ScoreRow]) -> None:
        """Add sums to those of the same station, day, source, variable and lead."""
        self._forecasts.add_scores(rows)

    def scores(self, station: str, since_day: str | None = None) -> list[ScoreRow]:
        """A station's scores from a day (YYYY-MM-DD, UTC) on, by day, source, variable and lead."""
        return self._forecasts.scores(station, since_day)

    def learned(self, station: str) -> bytes | None:
        """What a station has learned, as `keep_learned` got it; None where there is nothing, empty after a reset."""
        return self._learned.get(station)

    def learned_is_handed(self, station: str) -> bool:
        """Whether `hand_learned` put it there, and nothing was kept since."""
        return self._learned.is_handed(station)

    def keep_learned(self, station: str, body: bytes) -> None:
        """Keep what a station has learned."""
        self._learned.put(station, body)

    def hand_learned(self, station: str, body: bytes) -> None:
        """From another process than the agent: what it shall go on from in place of what it knows; nothing: anew."""
        self._learned.hand(station, body)

    # --- the outbox -----------------------------------------------------------------------------------------------

    def queued(self, destination: str, limit: int, after: int = 0) -> list[Queued]:
        """The oldest observations that wait, as they were accepted. `after`: only those with a larger key."""
        return self._outbox.queued(destination, limit, after)

    def acknowledge(self, destination: str, keys: Iterable[int]) -> int:
        """Observations have arrived; keys that no longer wait change nothing. The number that were waiting."""
        return self._outbox.acknowledge(destination, keys)

    def drop(self, destination: str, keys: Iterable[int], reason: str) -> int:
        """Observations will never arrive, because of `reason`, a short stable word. The number that were waiting."""
        return self._outbox.drop(destination, keys, reason)

    def expire(self, now: float, keep_days: float) -> int:
        """Drop what has waited for a destination for longer; how many rows. As `Outbox.expire`."""
        return self._outbox.expire(int(now), int(keep_days * DAY_S))

    def counts(self, destination: str) -> OutboxCounts:
        """A destination's books, with what is not committed yet; accepted = acknowledged + queued + dropped."""
        return self._outbox.counts(destination)

    def books(self) -> dict[str, OutboxCounts]:
        """Destination -> its books when the last commit was made: no power cut takes them back."""
        return self._outbox.books()

    @property
    def rollbacks(self) -> int:
        """How many transactions were lost since the store was opened. Rows that left the outbox in one are back."""
        return self._connection.rollbacks

    @property
    def last_key(self) -> int:
        """The last key that was given to a row of the outbox; set it to have later ones begin behind it."""
        return self._outbox.last_key

    @last_key.setter
    def last_key(self, key: int) -> None:
        self._outbox.last_key = key

    def destinations(self) -> list[str]:
        """Every destination that ever had a row, by name."""
        return self._outbox.destinations()

    # --- small things ---------------------------------------------------------------------------------------------

    def get(self, key: str) -> str | None:
        """A small thing by name; None where it was never set."""
        rows = self._connection.read("SELECT value FROM meta WHERE key = ?", (key,))
        return str(rows[0][0]) if rows else None

    def set(self, key: str, value: str) -> None:
        """Keep a small thing by name."""
        self._connection.write(
            "INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value", (key, value)
        )

    # --- the file -------------------------------------------------------------------------------------------------

    def commit(self, now: float | None = None) -> None:
        """Make durable what was written since the last commit. On failure the message says whether it is lost.

        `now`: UTC seconds; where there is something to commit, it is kept as the time of this state (`as_of`). Grid and
        newest readings are then written once a quarter hour, and made again from the observations until then; without
        it, at once.
        """
        self._open.at = None if now is None else int(now)
        if now is not None and self._connection.writing:
            self.set(_AS_OF, str(int(now)))
        self._connection.commit()

    def as_of(self) -> int | None:
        """UTC seconds of the last commit that was given its time; None before the first."""
        text = self.get(_AS_OF)
        return None if text is None else int(text)

    @property
    def wanted(self) -> bool:
        """Whether another process waits to write: a commit lets it in."""
        return self._connection.wanted

    def close(self) -> None:
        """Commit and close."""
        self._open.at = None
        self._connection.close()

    def roll_back(self) -> None:
        """Let go of what was written since the last commit. Never fails."""
        self._connection.roll_back()

    def abandon(self) -> None:
        """Close without a commit. Never fails; nothing happens where it is closed."""
        self._connection.abandon()

    def forget_oldest(self, n: int, reason: str) -> None:
        """Delete the oldest observations; rows of the outbox that wait for them are dropped for that reason."""
        self._observations.forget_oldest(n)
        self._outbox.drop_without_observation(reason)

    def prune(self, now: float) -> Pruned:
        """Delete what is too old: observations after `keep_days` (not those that wait in the outbox), grid days after
        40, forecasts after 8 and their quantiles after 1, scores after 400 days; those older than 35 days become sums
        of weeks. Commits now and then, so that the write-ahead log stays small."""
        return prune(self.tables, self._revisions, int(now), self._keep_days)


def _identity(path: Path) -> tuple[int, int]:
    """Which file that is. Raises OSError."""
    seen = path.stat()
    return seen.st_dev, seen.st_ino
