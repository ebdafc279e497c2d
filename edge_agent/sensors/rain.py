"""The one rain accumulator: running totals in, millimetres since the previous reading out.

Pure state, no clock of its own. A total that does not follow from the one before is held until the next reading says
which of the two was wrong: one corrupt reading makes no rain, and holding only delays, it loses none. The state can be
kept and taken up again, so that what falls while nobody listens is counted.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from edge_agent.observation import RainState

# A rise is believed at once up to ROOM + HOLD x minutes, and never above MOST; two readings agree with each other up to
# ROOM + AGREE x minutes; a counter that began anew can have counted ROOM + ANEW x minutes.
ROOM_MM, HOLD, AGREE, ANEW, MOST_MM = 1.0, 2.0, 10.0, 1.0, 60.0
SLACK_MM = 1e-6  # rounding of printed totals and of unit conversion
USUAL_GAIN = 0.05  # what a new spacing of readings adds to the usual one
GATHERED = 2.0  # an increment over so many usual spacings gathered while nobody listened
FORGET_S = 3600.0  # a total that stays a little low for so long is the new level: a weighing gauge has lost water

# Where totals wrap: displays at a power of ten, 16-bit counters of tips at 65536 tips. Smaller ones (8 bits) are left
# out: an ordinary daily total can end just below them, and then midnight would look like a wrap.
_DISPLAYS = (1_000.0, 10_000.0, 100_000.0)
_TIPS = (1.0, 0.1, 0.2, 0.25, 0.254, 0.3, 0.5, 0.01)


def wraps_of(factor: float) -> tuple[float, ...]:
    """Totals (mm) at which a counter may wrap whose unit is `factor` mm."""
    return tuple(sorted({size * factor for size in (*_DISPLAYS, *(65_536.0 * tip for tip in _TIPS))}))


@dataclass(frozen=True, slots=True)
class Increment:
    """`mm`: rain since the last reading that gave any; None while it is not known.

    `note`: empty, or `first-total` (a beginning: nothing to subtract from), `held-total` (waits for the next reading),
    `corrupt-total` (a held total proved wrong and was left out), `lower-total` (slightly below an earlier one),
    `jumped-total` (the counter stands elsewhere and no rain explains it), `late-total` (older than one already seen).
    `gathered_s`: over how many seconds it fell, where these are more than usual for this gauge; None = ordinary.
    """

    mm: float | None
    note: str = ""
    gathered_s: int | None = None


@dataclass(frozen=True, slots=True)
class _Total:
    mm: float
    t: float


class RainAccumulator:
    """Running totals of one gauge. `wraps_at`: totals (mm) after which it starts at zero again, as from `wraps_of`."""

    def __init__(self, wraps_at: Iterable[float] = ()) -> None:
        self._wraps_at = tuple(wraps_at)
        self._last: _Total | None = None  # the total all rain so far is counted from
        self._settled = False  # a second reading has agreed with the first
        self._rise = 0.0  # what the last step gave
        self._doubt: _Total | None = None  # a total that does not follow from the last
        self._before: _Total | None = None  # where the total stood before it began anew
        self._carried = 0.0
        self._usual_s: float | None = None  # the usual spacing of increments

    @classmethod
    def restored(cls, state: RainState, wraps_at: Iterable[float], shift_s: float) -> RainAccumulator:
        """One that goes on from `state`, whose times plus `shift_s` are on the time scale of `add`."""
        gauge = cls(wraps_at)
        gauge._last = _shifted(state.last, shift_s)
        gauge._doubt, gauge._before = _shifted(state.doubt, shift_s), _shifted(state.before, shift_s)
        gauge._settled, gauge._rise = state.settled, state.rise
        gauge._carried, gauge._usual_s = state.carried, state.usual_s
        return gauge

    def state(self, unit_mm: float, shift_s: float) -> RainState | None:
        """What `restored` needs, with times shifted by `shift_s`; None before the first total."""
        if self._last is None:
            return None
        last, doubt, before = (
            None if total is None else (total.mm, total.t + shift_s)
            for total in (self._last, self._doubt, self._before)
        )
        assert last is not None
        return RainState(unit_mm, last, self._settled, self._rise, doubt, before, self._carried, self._usual_s)

    def add(self, total: float, t: float) -> Increment:
        """The next total (mm, finite), read at `t` (seconds on any steady time scale)."""
        new = _Total(total, t)
        last, doubt = self._last, self._doubt
        if last is None:
            self._last, self._carried = new, 0.0
            return Increment(None, "first-total")
        if t < last.t or (doubt is not None and t < doubt.t):
            return Increment(None, "late-total")
        if _follows(last, new, HOLD, MOST_MM):
            self._settled = True
            return self._advance(new, new.mm - last.mm, last, "corrupt-total" if doubt else "")
        if not self._settled:
            self._last = new  # one of the two is corrupt, and which is not known
            return Increment(None, "first-total")
        if doubt is None or not _follows(doubt, new, AGREE):
            self._doubt = new
            return Increment(None, "corrupt-total" if doubt else "held-total")
        return self._settle(last, doubt, new)

    def carry(self, mm: float) -> None:
        """Rain that was given but could not be delivered comes with the next increment; rain that was delivered
        otherwise (`mm` below 0) is taken from it."""
        self._carried += mm

    def _advance(self, new: _Total, mm: float, since: _Total, note: str = "") -> Increment:
        """`mm` fell from `since` on."""
        self._last, self._doubt, self._rise = new, None, max(mm, 0.0)
        carried, self._carried = self._carried, 0.0
        mm = max(round(self._rise + carried, 4), 0.0)  # a difference of totals: 0.2 mm, not 0.19999
        return Increment(mm, note, self._gathered(new.t - since.t))

    def _gathered(self, span_s: float) -> int | None:
        """The span of an increment where it is unusually long; learns what is usual."""
        usual = span_s if self._usual_s is None else self._usual_s
        self._usual_s = usual + USUAL_GAIN * (min(span_s, 4 * usual) - usual)
        return int(span_s) if span_s > GATHERED * usual else None

    def _settle(self, last: _Total, doubt: _Total, new: _Total) -> Increment:
        """Two totals agree with each other and not with the last: the counter really stands there."""
        since = new.mm - doubt.mm
        minutes = (doubt.t - last.t) / 60
        before, self._before = self._before, None
        if doubt.mm > last.mm:
            if before is not None and _follows(before, doubt, HOLD, MOST_MM):
                # it had never begun anew: zeros sent in error
                return self._advance(new, new.mm - before.mm, before, "corrupt-total")
            if doubt.mm - last.mm <= _record(minutes):
                return self._advance(new, new.mm - last.mm, last)
            return self._advance(new, since, doubt, "jumped-total")
        for size in self._wraps_at:
            if 0 <= size - last.mm + doubt.mm <= ROOM_MM + HOLD * minutes:
                return self._advance(new, size - last.mm + new.mm, last)
        fall = last.mm - doubt.mm
        if fall <= min(max(self._rise, ROOM_MM), last.mm / 4):
            return self._lower(last, new, before)
        if doubt.mm <= min(ROOM_MM + ANEW * minutes, _record(minutes)):
            self._before = last
            return self._advance(new, new.mm, last)
        return self._advance(new, since, doubt, "jumped-total")

    def _lower(self, last: _Total, new: _Total, before: _Total | None) -> Increment:
        """Slightly below: the last reading was a little too high, and its rain is already counted; what is missing to
        that mark must not be counted again."""
        self._before = before
        if new.t - last.t > FORGET_S:
            return self._advance(new, 0.0, last, "jumped-total")
        self._doubt = new
        return Increment(0.0, "lower-total")


def _shifted(total: tuple[float, float] | None, shift_s: float) -> _Total | None:
    return None if total is None else _Total(total[0], total[1] + shift_s)


def _follows(earlier: _Total, later: _Total, rate: float, most: float = float("inf")) -> bool:
    """True if rain at `rate` (mm/min) can have brought the total from one to the other."""
    rise = later.mm - earlier.mm
    return -SLACK_MM <= rise <= min(ROOM_MM + rate * (later.t - earlier.t) / 60, most) + SLACK_MM


def _record(minutes: float) -> float:
    """The most rain (mm) ever measured in so many minutes: 422 x hours^0.475, the envelope of the world's point
    rainfall records (WMO-No. 168, Guide to Hydrological Practices)."""
    return 422.0 * math.pow(minutes / 60, 0.475)
