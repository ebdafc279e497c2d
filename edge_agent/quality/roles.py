"""Columns that changed places and values in another unit: each value may be plausible, only not in its role.

What is likely is judged twice: by the reading before (does the column go on, or does another one go on here?) and by
the station's own past (`levels.py`). Evidence is a sum of log likelihood ratios. One `Roles` per source; it judges
nothing else and alters no value.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from edge_agent.clock import format_time
from edge_agent.observation import Flag, Verdict
from edge_agent.quality import limits
from edge_agent.quality.levels import AXES, Level
from edge_agent.variables import VARIABLES, conversion

ROLES = tuple(AXES)
_SLIPS = {
    name: {unit: conversion(name, unit) for unit in units} for name, units in limits.UNIT_SLIPS.items()
}  # variable -> unit -> (factor, offset) to the variable's own unit

_MOST = 1e9  # departures beyond are all the same

Values = Mapping[str, float]
Revised = tuple[str, int, int, Verdict]  # variable, from, to, what is to be said of it


def surprise(name: str, departure: float, scale: float) -> float:
    """How unlikely a departure from the last reading is, as a natural logarithm: 1.5 log(1 + (d / 3s)^2), the tail of a
    Student distribution of two degrees of freedom. Worked: d = 3 s -> 1.04; d = 30 s -> 6.92."""
    if name == "wind_direction":
        departure = (departure + 180.0) % 360.0 - 180.0
    ratio = min(abs(departure) / (3.0 * scale), _MOST)
    return 1.5 * math.log1p(ratio * ratio)


@dataclass(slots=True)
class Held:
    """What is believed to be wrong: variable -> the column it stands in (None = in none), or a unit its column is in.
    `evidence` for it, and since when."""

    since: int
    evidence: float
    columns: dict[str, str | None] = field(default_factory=dict)
    unit: tuple[str, str] | None = None  # variable, unit

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.columns) if self.unit is None else (self.unit[0],)

    def believed(self, name: str, values: Values) -> float | None:
        """What the variable's value is in truth; None = it stands nowhere."""
        if self.unit is not None:
            factor, offset = _SLIPS[name][self.unit[1]]
            return values[name] * factor + offset if name in values else None
        column = self.columns[name]
        return None if column is None else values.get(column)


@dataclass(slots=True)
class _Sum:
    """Evidence that adds up from row to row, since when it has not been zero."""

    total: float
    since: int


_Key = tuple[str, str]  # two variables, or a variable and a unit


class Roles:
    """Remembers of each variable its last believed value, its usual step and its level."""

    def __init__(self, levels: Mapping[str, Level] | None = None) -> None:
        """`levels`: what is known of the station's past, to go on from."""
        self.levels = {name: level.copy() for name, level in (levels or {}).items()}
        self._last: dict[str, tuple[int, float]] = {}
        self._step: dict[str, float] = {}
        self._held: list[Held] = []
        self._sums: dict[_Key, _Sum] = {}
        self._t: int | None = None

    def see(self, t: int, values: Values) -> tuple[dict[str, Verdict], list[Revised]]:
        """A reading, later than all before: what is to be said of its values, and of earlier ones."""
        columns = {name: values[name] for name in ROLES if name in values}
        span = 0 if self._t is None else t - self._t
        self._t = t
        revised: list[Revised] = []
        for held in self._held:
            self._weigh_held(held, columns, span)
        self._let_go()
        if 0 < span <= limits.ROLE_GAP_S:
            self._look_for_jumps(t, columns)
        if span > 0:
            revised = list(self._look_for_levels(t, span, columns))
        self._learn(t, min(span, limits.HOUR) / limits.HOUR, columns)
        found = {name: verdict for held in self._held for name, verdict in _verdicts(held, columns)}
        return found, revised

    def part(self) -> None:
        """What comes next has no neighbour in time; what was learned stays."""
        self._last.clear()
        self._t = None

    # --- what holds now ---

    def _role(self, name: str) -> Held | None:
        return next((held for held in self._held if name in held.names), None)

    def _believed(self, name: str, columns: Values) -> float | None:
        held = self._role(name)
        return columns.get(name) if held is None else held.believed(name, columns)

    def _learn(self, t: int, hours: float, columns: Values) -> None:
        for name in ROLES:
            value = self._believed(name, columns)
            if value is None or not _possible(name, value):
                continue
            before = self._last.get(name)
            if before is not None and t - before[0] <= limits.ROLE_GAP_S:
                step = abs(value - before[1])
                if name == "wind_direction":
                    step = min(step, 360.0 - step)
                usual = self._step.get(name, 0.0)
                self._step[name] = usual + 0.01 * (min(step, 5 * max(usual, limits.ROLE_GRAIN[name])) - usual)
            self._last[name] = (t, value)
            self._level(name).learn(value, hours)

    def _level(self, name: str) -> Level:
        level = self.levels.get(name)
        if level is None:
            level = self.levels[name] = Level(AXES[name])
        return level

    def _surprise(self, name: str, value: float) -> float | None:
        """Of a value after the last believed one; None where there is none to compare with."""
        before = self._last.get(name)
        if before is None or self._t is None or self._t - before[0] > limits.ROLE_GAP_S:
            return None
        scale = max(limits.ROLE_GRAIN[name], 1.5 * self._step.get(name, 0.0))
        return surprise(name, value - before[1], scale)

    def _gain(self, name: str, other: float, own: float) -> float:
        """Natural logarithm of how much more likely `other` is than `own`, by the variable's past; 0 = unknown."""
        level = self.levels.get(name)
        return level.log_density(other) - level.log_density(own) if level is not None and level.ready else 0.0

    # --- does it still hold? ---

    def _let_go(self) -> None:
        """What is no longer believed is over, and with a swap all that was seen while it lasted."""
        over = [held for held in self._held if held.evidence <= limits.ROLE_OVER]
        since = min((held.since for held in over if held.unit is None), default=None)
        self._held = [
            held
            for held in self._held
            if held not in over and (since is None or held.unit is not None or held.since < since)
        ]

    def _weigh_held(self, held: Held, columns: Values, span: int) -> None:
        """Add what this reading says of a swap or a slip; one that is over by continuity ends at once. Where nothing
        is known to weigh it by, belief in it wanes."""
        back = level = 0.0
        weighed = False
        whole = {name: value for name in ROLES if (value := self._believed(name, columns)) is not None}
        if _contradict(whole) and not _contradict(columns):
            held.evidence -= limits.ROLE_IMPOSSIBLE
        for name in held.names:
            value, own = held.believed(name, columns), columns.get(name)
            if value is None or own is None:
                continue
            if not _possible(name, value) and _possible(name, own):
                held.evidence -= limits.ROLE_IMPOSSIBLE
            if 0 < span <= limits.ROLE_GAP_S:
                going_on, returned = self._surprise(name, value), self._surprise(name, own)
                if going_on is not None and returned is not None:
                    back += going_on - returned if returned <= 2 * limits.ROLE_FITS else min(going_on - returned, 0.0)
            known = self.levels.get(name)
            if known is not None and known.ready:
                weighed = True
                level += self._gain(name, value, own) + _jacobian(held)
        if back >= limits.ROLE_RETURN:
            held.evidence = -math.inf
            return
        share = min(span / limits.ROLE_SAMPLE_S, 1.0)
        held.evidence = min(held.evidence + share * (level if weighed else -1.0), limits.ROLE_MOST)

    # --- by the reading before ---

    def _look_for_jumps(self, t: int, columns: Values) -> None:
        shock: dict[str, float] = {}
        for name in ROLES:
            value = self._believed(name, columns)
            level = self.levels.get(name)
            if value is None or level is None or level.hours < limits.ROLE_KNOWN_H:
                continue
            found = self._surprise(name, value)
            if found is not None and found > limits.ROLE_JUMPED:
                shock[name] = found
        if not shock or max(shock.values()) < limits.ROLE_SURPRISED:
            return
        own = {name: size for name, size in shock.items() if name in columns}  # others are believed from elsewhere
        if len(own) > 1:
            self._swap(t, columns, own)
        for name, size in shock.items():
            if self._role(name) is None and size > limits.ROLE_SURPRISED:
                self._slip(t, name, columns[name], size)

    def _swap(self, t: int, columns: Values, shock: Mapping[str, float]) -> None:
        """Do other columns go on where these variables were? Each column is used once, best matches first."""
        taken = {column for held in self._held for name, column in held.columns.items() if column and name not in shock}
        offers: list[tuple[float, str, str]] = []
        for name, size in shock.items():
            for column in columns:
                unsettled = column in self._displaced() or column not in self._last
                loose = column in shock or column in limits.ROLE_WILD or unsettled
                free = loose and column not in taken
                if column == name or not free or not _possible(name, columns[column]):
                    continue
                fit = self._surprise(name, columns[column])
                if fit is not None and fit <= limits.ROLE_FITS and size - fit >= limits.ROLE_JUMPED:
                    offers.append((size - fit, name, column))
        chosen: dict[str, str] = {}
        total = 0.0
        for gain, name, column in sorted(offers, reverse=True):
            if name not in chosen and column not in chosen.values():
                chosen[name] = column
                total += gain
        level = sum(self._gain(name, columns[column], columns[name]) for name, column in chosen.items())
        whole = {**columns, **{name: columns[column] for name, column in chosen.items()}}
        if len(chosen) < 2 or _contradict(whole) or total < limits.ROLE_SWAP or level < -limits.ROLE_JUMPED:
            return
        moved: dict[str, str | None] = {**chosen, **self._homeless(columns, shock, chosen)}
        self._held = [held for held in self._held if not moved.keys() & set(held.names)]
        self._held.append(Held(t, min(total, limits.ROLE_MOST), moved))
        self._sums = {key: kept for key, kept in self._sums.items() if not moved.keys() & set(key)}

    def _displaced(self) -> set[str]:
        """Columns whose own variable stands elsewhere or nowhere."""
        return {name for held in self._held for name in held.columns}

    def _homeless(
        self, columns: Values, shock: Mapping[str, float], chosen: Mapping[str, str]
    ) -> dict[str, str | None]:
        """Variables in whose column another one stands now, and those that jumped to where no column was before: they
        stand in the one column that is left over, if it fits, or in none."""
        left = [column for column in chosen if column not in chosen.values() and column in columns]
        found: dict[str, str | None] = {}
        for name in ROLES:
            if name in chosen or name not in columns:
                continue
            driven_out = name in chosen.values()
            strange = shock.get(name, 0.0) > limits.ROLE_SURPRISED and self.levels[name].ready
            if driven_out or (strange and self._is_weak(name, columns[name], 4.0)):
                found[name] = None
        if len(found) == len(left) == 1:
            (name,), column = found, left[0]
            fit = self._surprise(name, columns[column])
            if fit is not None and fit <= 2 * limits.ROLE_FITS and _possible(name, columns[column]):
                found[name] = column
        return found

    def _slip(self, t: int, name: str, value: float, size: float) -> None:
        for unit, (factor, offset) in _SLIPS.get(name, {}).items():
            meant = value * factor + offset
            fit = self._surprise(name, meant)
            if fit is None or fit > limits.ROLE_FITS or not _possible(name, meant):
                continue
            gain = size - fit + math.log(factor) + min(self._gain(name, meant, value), 3.0)
            if gain >= limits.ROLE_UNIT:
                self._held.append(Held(t, gain, unit=(name, unit)))
                return

    # --- by the station's past ---

    def _look_for_levels(self, t: int, span: int, columns: Values) -> Iterator[Revised]:
        known = {
            name: value
            for name, value in columns.items()
            if self._role(name) is None and name in self.levels and self.levels[name].ready
        }
        weak = {name for name, value in known.items() if self._is_weak(name, value, limits.ROLE_WEAK)}
        share = min(span / limits.ROLE_SAMPLE_S, 1.0)
        heard = set()
        if weak:
            for key, gain in self._likelier(known, weak):
                heard.add(key)
                kept = self._sums.setdefault(key, _Sum(0.0, t))
                kept.total = min(kept.total + share * gain, limits.ROLE_MOST)
        for key, kept in list(self._sums.items()):
            if key not in heard:
                kept.total -= share
            if kept.total <= 0.0:
                del self._sums[key]
            elif kept.total >= limits.ROLE_LEVEL:
                yield from self._settle(t, key, kept)

    def _is_weak(self, name: str, value: float, by: float) -> bool:
        level = self.levels[name]
        return level.log_density(value) < level.typical - by

    def _at_home(self, name: str, value: float) -> bool:
        """Whether the variable had such a value before; one that it never had may be new weather."""
        level = self.levels[name]
        return level.log_density(value) > level.floor + limits.ROLE_SEEN

    def _likelier(self, known: Values, weak: set[str]) -> Iterator[tuple[_Key, float]]:
        """How much better another role, or another unit, explains these values."""
        names = sorted(known)
        for i, one in enumerate(names):
            for other in names[i + 1 :]:
                if one not in weak and other not in weak:
                    continue
                if _possible(one, known[other]) and _possible(other, known[one]) and _in_order(one, other, known):
                    gain = self._gain(one, known[other], known[one]) + self._gain(other, known[one], known[other])
                    if gain < 0.0 or (self._at_home(one, known[other]) and self._at_home(other, known[one])):
                        yield (one, other), gain
        for name in weak.intersection(limits.ROLE_LEVEL_UNITS):
            for unit, (factor, offset) in _SLIPS[name].items():
                meant = known[name] * factor + offset
                if _possible(name, meant):
                    yield (name, unit), self._gain(name, meant, known[name]) + math.log(factor)

    def _settle(self, t: int, key: _Key, kept: _Sum) -> Iterator[Revised]:
        """The evidence suffices: from now on this is believed, and it was so since the evidence began."""
        one, other = key
        del self._sums[key]
        if _is_unit(key):
            held = Held(kept.since, kept.total, unit=(one, other))
        else:
            held = Held(kept.since, kept.total, {one: other, other: one})
        self._held.append(held)
        for name, verdict in _verdicts(held, dict.fromkeys(held.names, math.nan)):
            yield name, kept.since, t - 1, verdict


def _is_unit(key: _Key) -> bool:
    return key[1] not in AXES


def _possible(name: str, value: float) -> bool:
    low, high = VARIABLES[name].suspect
    return low <= value <= high


def _contradict(values: Values) -> bool:
    """Whether a dew point lies above the temperature by more than errors explain."""
    return values.get("dew_point", -math.inf) > values.get("temperature", math.inf) + limits.DEW_POINT_ABOVE


def _in_order(one: str, other: str, columns: Values) -> bool:
    """Whether two variables of which one is never the smaller would be in order after a swap."""
    for larger, smaller in (("wind_gust", "wind_speed"), ("temperature", "dew_point")):
        if {one, other} == {larger, smaller}:
            return columns[smaller] >= columns[larger]
    return True


def _jacobian(held: Held) -> float:
    return 0.0 if held.unit is None else math.log(_SLIPS[held.unit[0]][held.unit[1]][0])


def _verdicts(held: Held, columns: Values) -> Iterator[tuple[str, Verdict]]:
    """What is to be said of each column that is not what it is called."""
    flag = Flag.FAIL if held.evidence >= limits.ROLE_FAILS else Flag.SUSPECT
    since = format_time(held.since)
    for name in held.names:
        if name not in columns:
            continue
        if held.unit is not None:
            why = f"{name} seems to come in {held.unit[1]} since {since}: read so, it goes on where it was"
        else:
            why = f"columns seem to be swapped since {since}: {_what_stands(held, name)}"
        yield name, Verdict(flag, "role", why, limits.ROLE_FAILS, columns[name])


def _what_stands(held: Held, name: str) -> str:
    looks = next((v for v, column in held.columns.items() if column == name), None)
    column = held.columns[name]
    here = f"what stands in {name} looks like {looks}" if looks else f"what stands in {name} is no {name}"
    return f"{here}; {name} seems to stand in {column}" if column else f"{here}; {name} stands in no column"
