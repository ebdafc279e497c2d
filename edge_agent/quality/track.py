"""What is remembered of one variable of one source: neighbours in time, how long it stands still, what its steps are
like. A few hundred bytes, whatever the length of the series."""

from __future__ import annotations

import math
from array import array
from typing import NamedTuple

from edge_agent.quality.limits import OFFSET_SHARE, OWN_STEP_READINGS, STEP_GAP_S, STILL_GAP_S

LONG_AGO = -(2**62)  # UTC seconds
_LONGEST_SPAN_S = 86_400
EQUAL = 1e-9  # values nearer than this are the same
_FIRST = 0.005  # upper edge of the first bin of steps
_GROWTH = 1.25
_LOG_GROWTH = math.log(_GROWTH)
_BINS = 64  # up to 6,000
_GRAINS = (10.0, 5.0, 1.0, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01)
_LEARN_STEPS = 20  # changes before a resolution is read from them
_HALVE_AT = 200_000  # readings; old ones then count half, so that a replaced sensor is learned


class Steps:
    """The distribution of a series' steps between neighbouring readings, in bins that grow by a quarter."""

    __slots__ = ("_changes", "_counts", "_grain", "_next", "_own", "_resolution", "_total")

    def __init__(self) -> None:
        self._counts = array("I", bytes(4 * _BINS))
        self._total = self._changes = 0
        self._next = _LEARN_STEPS
        self._grain = 0  # index into _GRAINS of the coarsest one that explains every value so far
        self._resolution = 0.0
        self._own: float | None = None

    def see(self, value: float) -> None:
        """One more value, for its decimal grain."""
        while self._grain < len(_GRAINS) and not _multiple(value, _GRAINS[self._grain]):
            self._grain += 1

    def add(self, step: float) -> None:
        """One more step, >= 0."""
        self._total += 1
        if step > EQUAL:
            self._changes += 1
            bin_ = 0 if step <= _FIRST else min(math.ceil(math.log(step / _FIRST) / _LOG_GROWTH), _BINS - 1)
            self._counts[bin_] += 1
        if self._total >= self._next:
            self._learn()

    def grain(self) -> float:
        """The coarsest round unit that explains every value so far, in the variable's unit; 0 = none does. Known from
        the first value on, and too coarse rather than too fine at the beginning."""
        return _GRAINS[self._grain] if self._grain < len(_GRAINS) else 0.0

    def resolution(self) -> float:
        """The sensor's unit of change in the variable's unit; 0 = not known yet.

        The larger of two lower bounds: the grain of the values, and the step that 90 % of all changes reach, which also
        sees through converted units, and through a few reports in finer ones between the others.
        """
        return max(self.grain(), self._resolution) if self._changes >= _LEARN_STEPS else 0.0

    def largest_ordinary(self) -> float | None:
        """This series' own 99.99 % step; None before there are enough readings."""
        return self._own

    def _learn(self) -> None:
        """Read both quantiles off the bins: at 20 readings, then ever more rarely, at least every 1,000."""
        self._next = self._total + min(max(self._total // 2, _LEARN_STEPS), 1000)
        if self._changes >= _LEARN_STEPS:
            below, rare = 0, self._changes * 0.1
            for i, count in enumerate(self._counts):
                below += count
                if below > rare:
                    self._resolution = _edge(i)
                    break
        if self._total >= OWN_STEP_READINGS:
            above, rare = 0, self._total * 1e-4
            for i in range(_BINS - 1, -1, -1):
                above += self._counts[i]
                if above > rare:
                    self._own = _edge(i)
                    break
        if self._total >= _HALVE_AT:
            self._counts = array("I", (n // 2 for n in self._counts))
            self._changes = sum(self._counts)
            self._total //= 2
            self._next = self._total + 1000


class Left(NamedTuple):
    """A jump away from a level: when, by how much, until when a jump back belongs to it, and whether nothing explains
    it."""

    t: int
    jump: float
    until: int
    doubted: bool


class Track:
    """One variable of one source, from its accepted readings in order of time."""

    __slots__ = (
        "_doubt", "before", "good_t", "good_v", "left", "run", "since", "span_s", "spikes", "steps", "t", "told", "v",
    )  # fmt: skip

    def __init__(self, t: int, v: float) -> None:
        self.t, self.v = t, v  # the latest reading within range
        self.good_t, self.good_v = t, v  # the latest one that was no jump
        self.since, self.run = t, 1  # the readings that equal the latest: since when, how many
        self.span_s = 0.0  # the usual spacing of readings
        self.steps = Steps()
        self.steps.see(v)
        self.before: tuple[int, float] | None = None  # the reading before the latest
        self.spikes = Steps()  # of readings that left and came back: how far
        self.left: Left | None = None  # a jump that was not taken back yet
        self.told = False  # that it stands still
        self._doubt = 0.0  # a jump that the next reading will confirm or undo

    def add(self, t: int, v: float, *, jumped: bool, step_cap: float) -> None:
        """A reading later than the latest. `jumped`: it is far from its neighbours. Steps above `step_cap` are faults
        and teach nothing."""
        span = float(min(t - self.t, _LONGEST_SPAN_S))
        step = abs(v - self.v)
        if self.span_s == 0.0:
            self.span_s = span
        if self.usual(span):
            self._learn(v, step, jumped, step_cap)
        self.steps.see(v)
        self.span_s += 0.05 * (min(span, 4 * self.span_s) - self.span_s)
        if step > EQUAL or span > STILL_GAP_S:
            self.since, self.run, self.told = t, 0, False
        self.run += 1
        self.before = (self.t, self.v)
        self.t, self.v = t, v
        if not jumped:
            self.good_t, self.good_v = t, v

    def _learn(self, v: float, step: float, jumped: bool, cap: float) -> None:
        """Count a step. A jump counts once the next reading stays there; a spike counts neither way."""
        if self.t != self.good_t:  # the latest was a jump
            if abs(v - self.good_v) < step:
                step = abs(v - self.good_v)
            elif self._doubt:
                self.steps.add(self._doubt)
        self._doubt = step if jumped and step <= cap else 0.0
        if not jumped and step <= cap:
            self.steps.add(step)

    def came_back(self, t: int, v: float, doubted: bool) -> Left | None:
        """The jump that this reading takes back: one of about its size the other way, in time. `doubted`: whether
        nothing explains this one; it must be so of one of them."""
        left, back = self.left, v - self.v
        if left is not None and t > left.until:
            left = self.left = None
        if left is None or t - self.t > STEP_GAP_S or not (doubted or left.doubted):
            return None
        returns = back * left.jump < 0
        if returns and abs(back + left.jump) <= OFFSET_SHARE * abs(left.jump):
            return left
        if returns and self.t == left.t and 2 * abs(back) > abs(left.jump):
            self.left = None  # a single reading that left: the next jump of its size has nothing to do with it
        return None

    def usual(self, span_s: float) -> bool:
        """Whether a spacing is near the series' usual one."""
        return 0.5 * self.span_s <= span_s <= 1.5 * self.span_s

    def part(self) -> None:
        """What comes next has no neighbour in time; what was learned of the sensor stays."""
        self.t = self.good_t = LONG_AGO
        self.before = self.left = None


def _edge(bin_: int) -> float:
    return float(_FIRST * _GROWTH**bin_)


def _multiple(value: float, grain: float) -> bool:
    ratio = value / grain
    return abs(ratio - round(ratio)) < 1e-6 * max(abs(ratio), 1.0)
