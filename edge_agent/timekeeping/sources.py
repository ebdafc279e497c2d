"""The sources of time, weighed against each other: who is believed, and within what.

Each source is remembered by its latest word and by when that was on the steady clock; from then on its error grows by
the drift of an uncorrected crystal, `kernel.DRIFT`. That is what holdover is. Pure: told the time, never reads one.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from dataclasses import dataclass

from edge_agent.timekeeping.kernel import DRIFT

RANKS = ("ntp", "gps", "operator", "host", "console", "rtc")  # who is believed where two contradict each other
REFERENCES = frozenset({"ntp", "gps"})  # that synchronise; the others only know the time within their bounds
SETTLED = frozenset({"ntp", "operator"})  # whose word stands, however early the time that they say
RELEASED = 1_735_689_600  # 2025-01-01: a GPS receiver or a battery-backed clock that says less has lost count
AGREE_S = 1.0  # beyond their bounds two sources may differ by this: whole seconds, leap seconds
STANDS_S = 600.0  # a source that contradicts itself is believed after it has done so for this long
FRESH_S = 60.0  # and forgotten again where it has fallen silent for this long
SYNCED_S = 2.0  # within this a reference still synchronises; beyond it, it is held over


@dataclass(frozen=True, slots=True)
class Report:
    """A source's word: `utc_s` at `steady_s` of the steady clock, right within `error_s` then."""

    source: str
    utc_s: float
    steady_s: float
    error_s: float

    @property
    def offset_s(self) -> float:
        """UTC minus steady seconds."""
        return self.utc_s - self.steady_s

    def error_at(self, steady_s: float) -> float:
        """How far `steady_s` + `offset_s` may be off, at any time of the same run of the machine."""
        return self.error_s + DRIFT * abs(steady_s - self.steady_s)

    def agrees(self, other: Report, steady_s: float) -> bool:
        """Whether both can be right."""
        room = self.error_at(steady_s) + other.error_at(steady_s) + AGREE_S
        return abs(self.offset_s - other.offset_s) <= room


@dataclass(frozen=True, slots=True)
class Believed:
    """What the sources say together. `doubt`: why nothing can be said of its error, empty where its bound holds."""

    report: Report
    doubt: str = ""


@dataclass(frozen=True, slots=True)
class Told:
    """A source for people. `note`: why it is not believed, empty where it is."""

    report: Report
    note: str = ""


@dataclass(slots=True)
class _Other:
    """A word of a source that contradicts its earlier one: the latest, and since when it stands."""

    report: Report
    since_s: float


class TimeSources:
    """What all sources said last. May be told from any thread."""

    def __init__(self) -> None:
        self.floor_s = -math.inf  # UTC seconds that had passed for certain when the machine was started
        self._held: dict[str, Report] = {}
        self._heard_s: dict[str, float] = {}  # steady seconds of the last word, also of one that was not taken
        self._others: dict[str, _Other] = {}
        self._refused: dict[str, str] = {}
        self._lock = threading.Lock()

    def report(self, source: str, utc_s: float, monotonic_s: float, error_s: float) -> bool:
        """A source says that it was `utc_s` at `monotonic_s` on the steady clock, within `error_s`; whether it counts.

        A word that contradicts the source's earlier one counts once it has stood for ten minutes; a person's counts at
        once, also for the source that it bears out.
        """
        new = Report(source, float(utc_s), float(monotonic_s), float(error_s))
        with self._lock:
            refusal = self._refusal(new)
            if refusal:
                self._refused[source] = refusal
                return False
            self._refused.pop(source, None)
            self._heard_s[source] = new.steady_s
            if source == "operator":
                self._held[source] = new
                self._others = {
                    name: other for name, other in self._others.items() if not self._settle(name, other, new)
                }
            else:
                self._hear(new)
        return True

    def best(self, steady_s: float) -> Believed | None:
        """Whom to believe at `steady_s`: of those that no better one contradicts, the one with the smallest error. None
        before the first word."""
        with self._lock:
            accepted = self._accepted(steady_s)
            if not accepted:
                return None
            best = min(accepted, key=lambda report: report.error_at(steady_s))
            if best.source not in self._others:
                return Believed(best)
            other = self._others[best.source]
            for report in accepted:
                firm = report.source not in self._others and report.source in (*REFERENCES, "operator")
                if firm and self._heard_s.get(report.source, -math.inf) >= other.since_s:
                    return Believed(report)  # it has borne the old time out since
            jump = other.report.offset_s - best.offset_s
            left = max(STANDS_S - (steady_s - other.since_s), 0.0)
            doubt = f"{best.source} jumped by {jump:+.0f} s, which is believed if it stands for {left:.0f} s"
            return Believed(best, doubt)

    def all(self, steady_s: float) -> list[Told]:
        """Every source by rank, and why it is not believed if it is not."""
        with self._lock:
            accepted = {report.source for report in self._accepted(steady_s)}
            return [Told(report, self._note(report, accepted)) for report in self._by_rank(steady_s)]

    def restore(self, report: Report) -> None:
        """What a source said before, in the same run of the machine: its present word is held against it."""
        with self._lock:
            now = self._held.get(report.source)
            self._held[report.source] = report
            if now is not None:
                self._hear(now)

    def _refusal(self, new: Report) -> str:
        if not (math.isfinite(new.utc_s) and math.isfinite(new.error_s)):
            return "not a time"
        if new.source in SETTLED or new.utc_s >= max(RELEASED, self.floor_s - AGREE_S - new.error_s):
            return ""
        return "its time has passed long ago"

    def _hear(self, new: Report) -> None:
        held, other = self._held.get(new.source), self._others.get(new.source)
        if held is None:
            self._held[new.source] = new
        elif new.agrees(held, new.steady_s):
            self._others.pop(new.source, None)
            if new.error_s <= held.error_at(new.steady_s):
                self._held[new.source] = new
        elif other is None or not new.agrees(other.report, new.steady_s) or self._silent(other, new.steady_s):
            self._others[new.source] = _Other(new, new.steady_s)
        elif new.steady_s - other.since_s >= STANDS_S:
            self._held[new.source] = new
            del self._others[new.source]
        else:
            other.report = new

    def _settle(self, name: str, other: _Other, person: Report) -> bool:
        """Whether a person's word bears out a source's new one, which is then believed."""
        if not person.agrees(other.report, person.steady_s):
            return False
        self._held[name] = other.report
        return True

    def _accepted(self, steady_s: float) -> list[Report]:
        """By rank, those that no better one contradicts."""
        self._others = {name: other for name, other in self._others.items() if not self._silent(other, steady_s)}
        found: list[Report] = []
        for report in self._by_rank(steady_s):
            if all(report.agrees(better, steady_s) for better in found):
                found.append(report)
        return found

    def _by_rank(self, steady_s: float) -> Iterator[Report]:
        yield from sorted(self._held.values(), key=lambda report: (self._place(report, steady_s), report.source))

    def _place(self, report: Report, steady_s: float) -> float:
        """A reference that has fallen silent stands just below a person."""
        lively = steady_s - self._heard_s.get(report.source, -math.inf) <= FRESH_S
        return rank(report.source) if lively or report.source not in REFERENCES else RANKS.index("operator") + 0.5

    def _note(self, report: Report, accepted: set[str]) -> str:
        if report.source in self._refused:
            return self._refused[report.source]
        if report.source in self._others:
            return f"jumped by {self._others[report.source].report.offset_s - report.offset_s:+.0f} s"
        return "" if report.source in accepted else "contradicts a better source"

    @staticmethod
    def _silent(other: _Other, steady_s: float) -> bool:
        return steady_s - other.report.steady_s > FRESH_S


def rank(source: str) -> int:
    """A source's place on the ladder, 0 = believed before all others."""
    return RANKS.index(source) if source in RANKS else len(RANKS)
