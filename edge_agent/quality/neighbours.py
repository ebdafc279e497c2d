"""Who stands near whom, what they last said, and what is usual between a station and its neighbours."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from edge_agent.observation import Flag, Verdict
from edge_agent.quality import limits
from edge_agent.quality.spatial import (
    QUANTITY,
    Expected,
    Voter,
    distance_km,
    expected,
    objections,
    quantities,
    tolerance,
)

_BINS = 24 // limits.DIFFERENCE_HOURS


@dataclass(frozen=True, slots=True)
class Place:
    """Where a station or neighbour stands: degrees, metres above sea level."""

    id: str
    latitude: float
    longitude: float
    elevation_m: float


@dataclass(slots=True)
class _Said:
    """A quantity as a neighbour last told it: when, what, its usual spacing, and when it last moved, up or down."""

    t: int
    value: float
    span_s: float = 0.0
    moved: int = -(2**62)
    up: bool = False


@dataclass(slots=True)
class Difference:
    """The usual difference of one variable to the neighbours, by time of day; the usual size of what is left, and of
    that over a day. A median and mean absolute differences that follow slowly and believe no single reading."""

    by_hour: list[float] = field(default_factory=lambda: [math.nan] * _BINS)
    size: float = 0.0
    drift: float = 0.0
    drift_size: float = 0.0
    hours: float = 0.0
    t: int | None = None

    @property
    def ready(self) -> bool:
        return self.hours >= limits.DIFFERENCE_READY_H

    def usual(self, t: int) -> float:
        """At that time of day, as far as it is known."""
        known = [value for value in self.by_hour if not math.isnan(value)]
        here = self.by_hour[_bin(t)]
        return here if not math.isnan(here) else (sum(known) / len(known) if known else 0.0)

    def judge(self, name: str, t: int, value: float, voters: Sequence[Voter]) -> tuple[Verdict | None, int]:
        """A quantity against what neighbours say, and remembered: the objection, and to which side it is off where
        moving air could explain it (0 = nothing could)."""
        said = expected(QUANTITY[name], voters)
        near = limits.NEAR[name]
        room = tolerance(name, said, self.size if self.ready else None)
        few = len(voters) < limits.VOTERS
        room *= limits.FEW_VOTERS if few else 1.0
        usual = self.usual(t)
        off = value - usual - said.value
        side = int(math.copysign(1, off)) if abs(off) <= limits.LIFT_FACTOR * room else 0
        found = None
        if self.ready or not few:
            agreed = objections(value, usual, said, room) >= limits.AGREEMENT * len(voters)
            if abs(off) > room and agreed:
                found = _objection(name, value, said, len(voters), usual, room)
        limit = max(near.drift, limits.DRIFT_USUAL * self.drift_size) * (limits.FEW_VOTERS if few else 1.0)
        limit += near.per_km * said.km
        known = self.hours >= limits.DRIFT_READY_H
        if found is None and known and abs(self.drift) > limit and off * self.drift > 0:
            found, side = _drifted(name, self.drift, len(voters), limit), 0
        most = near.base if math.isinf(limit) else max(near.base, 2 * limit)  # else no mean could show a drift
        self._learn(t, value - said.value, most, drifting=abs(self.drift) > limit / 2)
        return found, side

    def _learn(self, t: int, difference: float, most: float, *, drifting: bool) -> None:
        """One more difference. While it is `drifting` the usual one follows more slowly still."""
        hours = 0.0 if self.t is None else min(max(t - self.t, 0), limits.HOUR) / limits.HOUR
        self.t = t
        bin_, rest = _bin(t), difference - self.usual(t)
        room = max(4 * self.size, most)
        rest = min(max(rest, -room), room)
        self.drift += min(hours / limits.DRIFT_H, 1.0) * (rest - self.drift)
        self.hours += hours
        share = min(max(hours / limits.DIFFERENCE_MEMORY_H, hours / max(self.hours, 1e-9) / 2), 0.5)
        share *= limits.DRIFT_RELEARN if drifting else 1.0
        self.by_hour[bin_] = self.usual(t) + min(_BINS * share, 0.5) * rest
        self.size += share * (abs(rest) - self.size)
        self.drift_size += share * (abs(self.drift) - self.drift_size)


class Neighbours:
    """All stations of a gateway and all neighbours named to it; bounded by their number."""

    def __init__(self, places: Sequence[Place]) -> None:
        self._places = {place.id: place for place in places}
        self._said: dict[str, dict[str, _Said]] = {}
        self._around: dict[str, list[tuple[float, Place]]] = {}

    def __contains__(self, id_: str) -> bool:
        return id_ in self._places

    def hear(self, id_: str, t: int, good: Mapping[str, float], doubted: Mapping[str, float] | None = None) -> None:
        """What a station measured: `good` values stand until the next; `doubted` ones only show that something moved,
        as a front is doubted where it comes first."""
        said = self._said.setdefault(id_, {})
        for name, value in quantities({**good, **(doubted or {})}, self._places[id_].elevation_m):
            quantity = QUANTITY[name]
            before = said.get(quantity)
            if before is None or t <= before.t - limits.NEIGHBOUR_CLOCK_S:  # new, or its clock was ahead
                if name in good:
                    said[quantity] = _Said(t, value)
                continue
            span, change = t - before.t, value - before.value
            if span <= 0:
                continue
            if span <= limits.EVIDENCE_GAP_S and abs(change) >= limits.NEIGHBOUR_MOVED.get(quantity, math.inf):
                before.moved, before.up = t, change > 0
            if name in good:
                before.span_s += (0.2 if before.span_s else 1.0) * (min(span, limits.HOUR) - before.span_s)
                before.t, before.value = t, value

    def alone(self, id_: str) -> bool:
        """Whether nobody is near enough to be compared with."""
        return not self._near(id_)

    def voters(self, id_: str, quantity: str, t: int) -> list[Voter]:
        """The nearest neighbours that have a value, at most five; those without one make room for the next."""
        here, found = self._places[id_], []
        for km, place in self._near(id_):
            said = self._said.get(place.id, {}).get(quantity)
            if said is None:
                continue
            hourly = said.span_s > limits.NEIGHBOUR_AGE_S
            age = limits.NEIGHBOUR_AGE_HOURLY_S if hourly else limits.NEIGHBOUR_AGE_S
            if -age <= t - said.t <= age:
                found.append(Voter(km, place.elevation_m - here.elevation_m, said.value))
                if len(found) == limits.NEIGHBOURS:
                    break
        return found

    def moved(self, id_: str, quantity: str, t: int, up: bool) -> bool:
        """Whether a neighbour's quantity lately moved in that direction too."""
        for _, place in self._near(id_)[: limits.NEIGHBOURS]:
            said = self._said.get(place.id, {}).get(quantity)
            if said is not None and said.up == up and abs(t - said.moved) <= limits.NEIGHBOUR_EVIDENCE_AGE_S:
                return True
        return False

    def _near(self, id_: str) -> list[tuple[float, Place]]:
        """Those near enough to be compared, nearest first."""
        if id_ not in self._around:
            here = self._places[id_]
            found = []
            for place in self._places.values():
                higher = abs(place.elevation_m - here.elevation_m)
                if place.id == id_ or not higher <= limits.NEIGHBOUR_HEIGHT_M:  # nor where one is not known
                    continue
                km = distance_km((here.latitude, here.longitude), (place.latitude, place.longitude))
                if km <= limits.NEIGHBOUR_KM:
                    found.append((km, place))
            found.sort(key=lambda near: (near[0], near[1].id))
            self._around[id_] = found[: limits.NEIGHBOURS_KEPT]
        return self._around[id_]


_WORDS = {
    "humidity": ("dew point from humidity", "degC"),
    "dew_point": ("dew_point", "degC"),
    "temperature": ("temperature", "degC"),
    "pressure": ("pressure at sea level", "hPa"),
    "pressure_msl": ("pressure at sea level", "hPa"),
    "wind_speed": ("root of wind_speed", "(m/s)^0.5"),
    "wind_gust": ("root of wind_gust", "(m/s)^0.5"),
}


def _objection(name: str, value: float, said: Expected, n: int, usual: float, room: float) -> Verdict:
    words, unit = _WORDS[name]
    why = (
        f"{words} {value:.1f} {unit}, but {n} neighbour{'s' * (n > 1)} at {said.km:.0f} km on average say "
        f"{said.value:.1f}; usual is {usual:+.1f} to them, tolerated {room:.1f}"
    )
    return Verdict(Flag.SUSPECT, "spatial", why, room, value)


def _drifted(name: str, drift: float, n: int, limit: float) -> Verdict:
    words, unit = _WORDS[name]
    why = f"{words} has drifted by {drift:+.1f} {unit} against {n} neighbour{'s' * (n > 1)}, its mean over a day; "
    return Verdict(Flag.SUSPECT, "spatial", why + f"tolerated {limit:.1f}", limit)


def _bin(t: int) -> int:
    return t % 86_400 // (limits.DIFFERENCE_HOURS * limits.HOUR)
