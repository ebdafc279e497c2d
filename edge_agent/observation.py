"""What travels from a sensor to the store: readings, observations, and the verdicts on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum

import msgspec

PERIOD = "period"  # the test that says of a sum that it is not of its own interval, see `Observation.gathered_s`


class Flag(IntEnum):
    """QARTOD's quality flags."""

    GOOD = 1
    NOT_EVALUATED = 2
    SUSPECT = 3
    FAIL = 4
    MISSING = 9


class RainState(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a rain counter stands, from one run of the agent to the next; totals as (mm, UTC seconds).

    `unit_mm`: the sensor's unit, mm; a state in another unit is of no use. The rest is `RainAccumulator`'s own.
    """

    unit_mm: float
    last: tuple[float, float]
    settled: bool = False
    rise: float = 0.0
    doubt: tuple[float, float] | None = None
    before: tuple[float, float] | None = None
    carried: float = 0.0
    usual_s: float | None = None

    @property
    def newest(self) -> float:
        """UTC seconds of the latest total in it."""
        return max(self.last[1], self.doubt[1]) if self.doubt else self.last[1]


@dataclass(frozen=True, slots=True)
class Reading:
    """One decoded message: vocabulary names and units. `t` is UTC seconds where the message carries its own time,
    the end of its interval; None = stamp on arrival. `station` only where a message names its station.

    `totals`: running totals of accumulating variables in their unit, from which the intake makes increments. `device`:
    which of several devices behind one source speaks (its totals and batteries are its own). `battery`: by the part
    that has one (`outdoor`, `console`, ...): `ok`, `low`, or volts. `period_s`: length of the interval, where the
    message says it. `historical`: from a device's archive, caught up; a sum in it stands in `values`. `device_clock`:
    UTC seconds that the device's own clock shows as it sends (a GPS receiver's): a hint for this agent's clock, which
    stamps no value. `gathered_s` as in `Observation`; `gauges`: how its running totals stand after it, by gauge. Both
    are the intake's.
    """

    values: Mapping[str, float]
    t: int | None = None
    station: str | None = None
    totals: Mapping[str, float] = field(default_factory=dict)
    device: str = ""
    battery: Mapping[str, str | float] = field(default_factory=dict)
    period_s: int | None = None
    historical: bool = False
    device_clock: float | None = None
    gathered_s: int | None = None
    gauges: Mapping[str, RainState] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Observation:
    """An accepted reading with its identity.

    `t`: UTC seconds, the end of the interval; `period_s`: its length where known; `clock`: `synced`, `holdover` or
    `unsynced`; `historical`: arrived by import or catch-up, not live. `rank`: position of the source among the
    station's sources (0 = preferred) for variables that several sources measure. `gathered_s`: sums in it fell over so
    many seconds, because nobody listened meanwhile; None = over its ordinary interval. It is for quality control and
    not kept. `steady_s`: when it arrived on the steady clock of `machine`, a run of the machine (empty = not known), to
    a millisecond; `stamped`: `t` is from there, and not the message's own. `restamped_from`: the `t` it had, and may
    have been published with, before the time was known.
    """

    station: str
    source: str
    t: int
    values: Mapping[str, float]
    boot_id: str
    seq: int
    clock: str = "synced"
    period_s: int | None = None
    historical: bool = False
    rank: int = 0
    gathered_s: int | None = None
    machine: str = ""
    steady_s: float | None = None
    stamped: bool = False
    restamped_from: int | None = None

    @property
    def id(self) -> str:
        """Unique for ever: receivers deduplicate on it."""
        return f"{self.boot_id}:{self.source}:{self.seq}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What quality control says of one value. `test` decided; `why` is words with threshold and value in them."""

    flag: Flag
    test: str = ""
    why: str = ""
    threshold: float | None = None
    value: float | None = None


GOOD = Verdict(Flag.GOOD)


@dataclass(frozen=True, slots=True)
class Revision:
    """A later verdict on values that were judged before: those of one variable of one source from `start` to `end`,
    UTC seconds, both included. It makes a flag worse and never better, unless an operator gave it."""

    station: str
    source: str
    variable: str
    start: int
    end: int
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Judged:
    """An observation and the verdict on each of its values. The raw values are kept, whatever the verdict. `revisions`:
    what it taught of earlier values."""

    observation: Observation
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)
    revisions: tuple[Revision, ...] = ()

    def usable(self) -> dict[str, float]:
        """Values that forecasts and verification may use: everything not flagged FAIL or MISSING, and no sum that fell
        over more than its own interval."""
        bad = {name for name, verdict in self.verdicts.items() if not may_be_used(verdict.flag, verdict.test)}
        return {name: value for name, value in self.observation.values.items() if name not in bad}


def may_be_used(flag: int, test: str) -> bool:
    """Whether forecasts and verification may use a value with this verdict."""
    return flag not in (Flag.FAIL, Flag.MISSING) and test != PERIOD
