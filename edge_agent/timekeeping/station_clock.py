"""The agent's own time: the steady clock plus an offset that the best source gives, with a state and a bound.

It does not follow the system's clock wherever somebody sets it: it goes on from the last time that was known. Its
offset changes in `look` alone, which only the agent's loop calls; everything else may be asked from any thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edge_agent.clock import Clock
from edge_agent.timekeeping.kernel import DRIFT
from edge_agent.timekeeping.sources import REFERENCES, SYNCED_S, Report, TimeSources

MAX_ERROR_S = 120.0  # a clock that may be further off is good enough for persistence only
PERSISTED = "persisted"  # the source where none says the time: what the store, or a clock nobody keeps, last knew
RTC_DRIFT = 50e-6  # of a battery-backed clock in the cold; DS3231 modules do far better


@dataclass(frozen=True, slots=True)
class Known:
    """What time it is: `offset_s`, UTC minus steady seconds; `error_s` of it at `steady_s`, None = not known, and then
    `doubt` says why."""

    source: str
    offset_s: float
    steady_s: float
    error_s: float | None
    doubt: str = ""

    def error_at(self, steady_s: float) -> float | None:
        return None if self.error_s is None else self.error_s + DRIFT * abs(steady_s - self.steady_s)

    def state_at(self, steady_s: float) -> str:
        """`synced`, `holdover` or `unsynced`, of a moment of this run of the machine."""
        error_s = self.error_at(steady_s)
        if error_s is None:
            return "unsynced"
        return "synced" if self.source in REFERENCES and error_s <= SYNCED_S else "holdover"


class StationClock:
    """A `Clock` for the whole agent, on top of the machine's own; knows nothing before the first `look`. `sources`:
    where others report what they know."""

    def __init__(self, machine: Clock) -> None:
        self.sources = TimeSources()
        self._machine = machine
        self.rtc_ahead_s: float | None = None  # the battery-backed clock's time minus ours; None where there is none
        self._rtc_right: tuple[float, float] | None = None
        self.known = Known(PERSISTED, self._system_offset(), machine.monotonic(), None, _NOBODY)

    @property
    def boot_id(self) -> str:
        return self._machine.boot_id

    def now(self) -> float:
        return self.at(self._machine.monotonic())

    def monotonic(self) -> float:
        return self._machine.monotonic()

    def wall(self, span_s: float) -> float:
        return self._machine.wall(span_s)

    def state(self) -> str:
        return self.known.state_at(self._machine.monotonic())

    def readings(self) -> Sequence[Report]:
        return self._machine.readings()

    def at(self, steady_s: float) -> float:
        """UTC seconds at a moment of the steady clock in this run of the machine, as known now."""
        return steady_s + self.known.offset_s

    def error_s(self) -> float | None:
        """How far `now` may be off, seconds; None = not known."""
        return self.known.error_at(self._machine.monotonic())

    def unfit(self) -> str:
        """Why forecasts may be no better than persistence now, empty where they may."""
        error_s = self.error_s()
        if error_s is None:
            return f"the clock is not synchronised ({self.known.doubt}): it may be off by any time"
        if error_s > MAX_ERROR_S:
            return f"the clock may be off by {error_s:.0f} s: {self.known.source} was heard long ago"
        return ""

    def detail(self) -> str:
        """What is wrong with the time and what to do, empty where nothing is."""
        notes = [f"{told.report.source}: {told.note}" for told in self.sources.all(self.monotonic()) if told.note]
        doubt = self.known.doubt
        ahead = self._system_offset() - self.known.offset_s
        if self.known.source != PERSISTED and abs(ahead) > MAX_ERROR_S and not doubt:
            notes.append(f"the system's clock is {ahead:+.0f} s off: set it")
        return "; ".join(filter(None, (doubt, *notes)))

    def look(self) -> None:
        """Ask the machine's own keepers, weigh all sources, and go by the best."""
        rtc: Report | None = None
        for word in self._machine.readings():
            error_s = word.error_s
            if word.source == "rtc":
                rtc = word
                if self._rtc_right is None:
                    continue  # nobody ever saw it right
                since_s, within_s = self._rtc_right
                error_s += within_s + RTC_DRIFT * max(word.utc_s - since_s, 0.0)
            self.sources.report(word.source, word.utc_s, word.steady_s, error_s)
        steady = self._machine.monotonic()
        best = self.sources.best(steady)
        if best is not None:
            report = best.report
            bound_s = None if best.doubt else report.error_s
            self.known = Known(report.source, report.offset_s, report.steady_s, bound_s, best.doubt)
        else:  # forward only: of two clocks that nobody keeps the later one has stood still for less long
            offset = max(self.known.offset_s, self._system_offset())
            self.known = Known(PERSISTED, offset, steady, None, _NOBODY)
        self.rtc_ahead_s = None if rtc is None else rtc.offset_s - self.known.offset_s

    def not_before(self, utc_s: float) -> None:
        """The machine was started after `utc_s`, which the store has as the last time of an earlier run."""
        if self.known.source == PERSISTED:
            offset = max(self.known.offset_s, utc_s + 1.0)  # `monotonic` counts from the start of the machine
            self.known = Known(PERSISTED, offset, self.known.steady_s, None, _NOBODY)

    def trust_rtc(self, right: tuple[float, float] | None) -> None:
        """When the battery-backed clock was last seen right (UTC seconds) and within what; None = it was not."""
        self._rtc_right = right

    def go_on(self, words: Sequence[Report], offset_s: float) -> None:
        """Go on from what sources said and what the offset was before, in the same run of the machine."""
        for word in words:
            self.sources.restore(word)
        if self.known.source == PERSISTED:
            self.known = Known(PERSISTED, offset_s, self.known.steady_s, None, _NOBODY)
        self.look()

    def _system_offset(self) -> float:
        return self._machine.now() - self._machine.monotonic()


_NOBODY = "nothing has told the time since the machine was started"
