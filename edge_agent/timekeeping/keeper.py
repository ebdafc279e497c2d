"""Between the station clock and the store: what was known is kept over restarts and power cuts, what devices and people
say is handed to the clock, and what was stamped without knowing the time is put right once it is known.

Only for the thread that opened the store. Never waits, and never works for long at a time: a few series a turn.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import msgspec

from edge_agent.errors import StoreError
from edge_agent.grid import STEP_S
from edge_agent.publish.payloads import clock_status
from edge_agent.publish.structs import ClockStatus
from edge_agent.sensors import Health
from edge_agent.store import Keeper, Store
from edge_agent.store.restamp import Doubtful, Slice
from edge_agent.timekeeping.sources import AGREE_S, Report
from edge_agent.timekeeping.station_clock import Known, StationClock

log = logging.getLogger(__name__)

KEPT = "clock"  # in the store: what was known
CONFIRMED = "clock-confirmed"  # and what a person said
BUDGET_S = 0.2
MOST_LEFT = 8  # times of one run of the machine that were known and are not believed any more
MOST_RANGES = 50  # of origins; then they grow together
KEEP_S = 300.0  # between writes of it where nothing changed
OPERATOR_ERROR_S = 60.0  # of a person's word: a watch, a telephone, a minute spoken
RTC_RIGHT_S = 5.0  # a battery-backed clock within this is right, and may be believed after the next power cut
# What devices say, by driver: the source, how much later than it was it arrives, and within what it is right, seconds.
# A GPS receiver sends within the second; a console is set by hand.
DEVICES = {"nmea": ("gps", 0.5, 0.6)}
OTHER_DEVICE = ("console", 0.0, 60.0)


class Word(msgspec.Struct, frozen=True):
    """A `Report` as it is kept."""

    source: str
    utc_s: float
    steady_s: float
    error_s: float

    def report(self) -> Report:
        return Report(self.source, self.utc_s, self.steady_s, self.error_s)


class Boot(msgspec.Struct, frozen=True):
    """What was known of the time in a run of the machine, as in `Known`."""

    machine: str
    source: str
    offset_s: float
    steady_s: float
    error_s: float | None
    synced: bool = False  # a reference has synchronised it

    def known(self) -> Known:
        return Known(self.source, self.offset_s, self.steady_s, self.error_s)


class Kept(msgspec.Struct):
    """All that is kept. `words`: of the sources, in the latest run; `owed`: runs whose time became known, while
    observations still wait for it; `good_s`: UTC seconds when the clock was last synchronised; `rtc_right`: when the
    battery-backed clock was last seen right, and within what; `doubtful`: first and last origins of forecasts issued at
    unknown or wrong times; `left`: what was known in this run of the machine before a source that jumped was believed,
    until when (`steady_s`)."""

    boot: Boot
    words: list[Word] = []
    owed: list[Boot] = []
    good_s: float | None = None
    rtc_right: tuple[float, float] | None = None
    doubtful: list[tuple[int, int]] = []
    left: list[Boot] = []


class Confirmation(msgspec.Struct, frozen=True):
    """A person's word: it was `utc_s` at `steady_s` of the steady clock of `machine`."""

    machine: str
    utc_s: float
    steady_s: float
    error_s: float = OPERATOR_ERROR_S


@dataclass(slots=True)
class _Job:
    """Observations to be put right, series by series; `slices`: of the first one, None = not looked up yet."""

    doubtful: Doubtful
    known: Known
    series: list[int] | None = None
    slices: list[Slice] | None = None


@dataclass(slots=True)
class Timekeeper:
    """Keeps the agent's time. `settled` is called when the past has got other times; `restamped`: observations so far
    that got another time."""

    clock: StationClock
    store: Store | Keeper
    destinations: Sequence[str] = ()
    settled: Callable[[], None] = lambda: None
    restamped: int = 0
    _kept: Kept = field(init=False)
    _jobs: list[_Job] = field(default_factory=list)
    _sure: tuple[Known, float] | None = None  # what was known when its error was for the last time, and when
    _heard: dict[str, float] = field(default_factory=dict)
    _confirmed: str = ""
    _told: int = 0
    _rollbacks: int = 0
    _written: bytes = b""
    _written_at: float = float("-inf")

    def __post_init__(self) -> None:
        clock, before = self.clock, read_kept(self.store)
        same = before is not None and before.boot.machine == clock.boot_id
        newest = self.store.as_of()
        if before is not None:
            clock.trust_rtc(before.rtc_right)
            if same:
                self._sure = None if before.boot.error_s is None else (before.boot.known(), clock.monotonic())
                clock.go_on([word.report() for word in before.words], before.boot.offset_s)
            else:
                before.left = []
                clock.sources.floor_s = before.good_s or clock.sources.floor_s
                before.owed += [before.boot] if before.boot.error_s is not None else []
        if newest is not None and not same:
            clock.not_before(newest)
        clock.look()
        self._kept = before or Kept(self._boot(synced=False))
        self._kept.boot = self._boot(synced=same and self._kept.boot.synced)
        self._rollbacks = self.store.rollbacks
        for boot in list(self._kept.owed):
            self._owe(boot.known(), boot.machine, float("inf"), ("unsynced", "holdover"))
        self._after(Known("", 0.0, 0.0, None))

    def look(self, healths: Iterable[Health] = ()) -> bool:
        """Hear devices and people, weigh all sources, and see what follows; whether the state is another one now.

        Raises:
            StoreError: what is known could not be kept.
        """
        for health in healths:
            if health.device_clock is not None and self._heard.get(health.name) != health.device_clock[1]:
                utc_s, steady_s = health.device_clock
                source, late_s, error_s = DEVICES.get(health.driver, OTHER_DEVICE)
                self._heard[health.name] = steady_s
                self.clock.sources.report(source, utc_s + late_s, steady_s, error_s)
        if self._rollbacks != self.store.rollbacks:
            self._begin_anew()
        self._hear_person()
        before, was = self.clock.known, self.clock.state()
        self.clock.look()
        self._after(before)
        self._keep()
        return self.clock.state() != was

    @property
    def owing(self) -> bool:
        """Observations may wait for their time."""
        return bool(self._jobs)

    def restamp(self, budget_s: float = BUDGET_S) -> bool:
        """Put right what is owed: a slice at least, and for `budget_s` real seconds; whether there is more to do.

        Raises:
            StoreError: it could not be done, and will be tried again.
        """
        deadline = time.monotonic() + budget_s
        while self._jobs:
            self._put_right(self._jobs[0])
            if time.monotonic() > deadline:
                break
        return bool(self._jobs)

    def _put_right(self, job: _Job) -> None:
        if job.series is None:
            job.series = self.store.doubtful(job.doubtful)
        if job.series:
            if job.slices is None:
                job.slices = self.store.slices(job.series[0], job.doubtful, job.known)
            if job.slices:
                self.restamped += self.store.restamp(job.series[0], job.slices[0], job.known, self.destinations)
                del job.slices[0]
            if not job.slices:
                job.slices = None
                del job.series[0]
        if not job.series:
            self._finish(self._jobs.pop(0))

    def told(self) -> ClockStatus:
        """Where the time comes from and how good it is, as published."""
        clock = self.clock
        return clock_status(clock.state(), clock.known.source, clock.error_s(), clock.detail(), self.restamped)

    def issued(self, origin: int) -> None:
        """Forecasts were issued from `origin` while nobody knew the time: they are not for verification."""
        if self.clock.error_s() is None:
            self._doubt(origin, origin)

    def _doubt(self, first: int, last: int) -> None:
        """Forecasts with these origins are to be forgotten."""
        ranges = self._kept.doubtful
        if ranges and (ranges[-1][0] <= first <= ranges[-1][1] + STEP_S or len(ranges) >= MOST_RANGES):
            first, last = min(first, ranges[-1][0]), max(last, ranges.pop()[1])
        ranges.append((first, last))

    def _after(self, before: Known) -> None:
        """What follows from what is known now."""
        clock, known, steady = self.clock, self.clock.known, self.clock.monotonic()
        synced = clock.state() == "synced"
        error_s = known.error_at(steady)
        if error_s is not None:
            old_s = before.error_at(steady)
            contradicted = old_s is not None and abs(known.offset_s - before.offset_s) > old_s + error_s
            if contradicted or (synced and not self._kept.boot.synced):
                self._owe(known, clock.boot_id, steady, ("unsynced", "holdover"))
            elif old_s is None:
                self._owe(known, clock.boot_id, steady, ("unsynced",))
            self._see_whether_it_jumped(known, steady, error_s)
        self._kept.boot = self._boot(synced=synced or self._kept.boot.synced)
        if synced:
            self._kept.good_s = clock.now()
        if clock.rtc_ahead_s is not None and (synced or known.source == "operator") and not known.doubt:
            within_s = abs(clock.rtc_ahead_s) + (error_s or 0.0)
            right = abs(clock.rtc_ahead_s) <= RTC_RIGHT_S + (error_s or 0.0)
            self._kept.rtc_right = (clock.now(), within_s) if right else None
            clock.trust_rtc(self._kept.rtc_right)

    def _see_whether_it_jumped(self, known: Known, steady: float, error_s: float) -> None:
        """A source that jumped is believed now. Where it jumped back to what was known before, it was wrong in between:
        what was stamped and forecast then is put right."""
        sure, self._sure = self._sure, (known, steady)
        if sure is None or not _apart(sure[0], known, steady, error_s):
            return
        left = self._kept.left
        back = next((n for n, boot in enumerate(left) if not _apart(boot.known(), known, steady, error_s)), None)
        before, at = sure
        if back is None:
            if len(left) < MOST_LEFT:
                left.append(Boot(self.clock.boot_id, before.source, before.offset_s, at, before.error_at(at)))
            return
        since_s = left[back].steady_s
        for offset_s in {before.offset_s, *(boot.offset_s for boot in left[back + 1 :])}:
            times = math.floor(since_s + offset_s), math.ceil(steady + offset_s)
            where = Doubtful(self.clock.boot_id, int(steady * 1000), since_ms=int(since_s * 1000), times=times)
            self._jobs.append(_Job(where, known))
            self._doubt(times[0] // STEP_S * STEP_S, times[1])
        del left[back:]

    def _begin_anew(self) -> None:
        """A transaction was lost, and with it perhaps observations that were put right."""
        self._rollbacks, self._written = self.store.rollbacks, b""
        for job in self._jobs:
            job.series = job.slices = None
        if self.clock.error_s() is not None:
            self._owe(self.clock.known, self.clock.boot_id, self.clock.monotonic(), ("unsynced", "holdover"))

    def _owe(self, known: Known, machine: str, until_s: float, states: tuple[str, ...]) -> None:
        if all(boot.machine != machine for boot in self._kept.owed):
            self._kept.owed.append(Boot(machine, known.source, known.offset_s, known.steady_s, known.error_s))
        until_ms = int(min(until_s * 1000, 2**50))
        self._jobs.append(_Job(Doubtful(machine, until_ms, states), known))

    def _finish(self, job: _Job) -> None:
        machine = job.doubtful.machine
        if all(other.doubtful.machine != machine for other in self._jobs):
            self._kept.owed = [boot for boot in self._kept.owed if boot.machine != machine]
        if self._jobs or self.clock.error_s() is None:
            return
        for first, last in self._kept.doubtful:
            self.store.forget_forecasts(first, last)
        self._kept.doubtful = []
        if self.restamped > self._told:
            log.info("%d observations got their time", self.restamped - self._told)
            self._told = self.restamped
            self.settled()

    def _boot(self, *, synced: bool) -> Boot:
        known = self.clock.known
        return Boot(self.clock.boot_id, known.source, known.offset_s, known.steady_s, known.error_s, synced)

    def _hear_person(self) -> None:
        text = self.store.get(CONFIRMED)
        if text is None or text == self._confirmed:
            return
        self._confirmed = text
        try:
            said = msgspec.json.decode(text, type=Confirmation)
        except msgspec.DecodeError:
            raise StoreError(
                f"the store's {CONFIRMED} is of another version: `edge-agent clock confirm` again"
            ) from None
        if said.machine == self.clock.boot_id:
            self.clock.sources.report("operator", said.utc_s, said.steady_s, said.error_s)

    def _keep(self) -> None:
        """Write what is known, where it changed or now and then: it becomes durable with the next commit."""
        steady = self.clock.monotonic()
        boot, kept = self._kept.boot, self._kept
        known = boot.source, round(boot.offset_s, 1), boot.error_s is None, boot.synced
        key = msgspec.json.encode((known, kept.owed, kept.doubtful, kept.left))
        if key == self._written and steady - self._written_at < KEEP_S:
            return
        told = self.clock.sources.all(steady)
        self._kept.words = [Word(t.report.source, t.report.utc_s, t.report.steady_s, t.report.error_s) for t in told]
        self.store.set(KEPT, msgspec.json.encode(self._kept).decode())
        self._written, self._written_at = key, steady


def _apart(one: Known, other: Known, steady_s: float, error_s: float) -> bool:
    """Whether two cannot both be right at a moment, when the other may be off by `error_s`."""
    return abs(one.offset_s - other.offset_s) > (one.error_at(steady_s) or 0.0) + error_s + AGREE_S


def read_kept(store: Store | Keeper) -> Kept | None:
    """What an agent kept in this store; None where none did, or one of another version."""
    text = store.get(KEPT)
    try:
        return None if text is None else msgspec.json.decode(text, type=Kept)
    except msgspec.DecodeError:
        return None
