"""One station's quality control: which tests are made of an observation, against what, and what is remembered of it."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from edge_agent.config import Station
from edge_agent.forecast import Forecast
from edge_agent.observation import GOOD, Flag, Judged, Observation, Revision, Verdict
from edge_agent.quality import checks, limits
from edge_agent.quality.anomaly import Outlook, anomaly_test, outlooks
from edge_agent.quality.levels import AXES, Level
from edge_agent.quality.neighbours import Difference, Neighbours
from edge_agent.quality.roles import Roles
from edge_agent.quality.spatial import QUANTITY, quantities
from edge_agent.quality.sun import sun_elevation
from edge_agent.quality.track import LONG_AGO, Left, Track
from edge_agent.quality.triple import Triple
from edge_agent.variables import VARIABLES

MAX_SOURCES = 64  # remembered per station

_MISSING = Verdict(Flag.MISSING, "missing", "no value was sent")


class _Source:
    """What is remembered of one source, and how far its time has come."""

    __slots__ = ("differences", "late", "late_t", "roles", "t", "tracks", "triple")

    def __init__(self, past: Mapping[str, Level]) -> None:
        self.tracks: dict[str, Track] = {}
        self.roles = Roles(past)
        self.triple = Triple()
        self.differences: dict[str, Difference] = {}  # to the neighbours
        self.t = self.late_t = LONG_AGO
        self.late = 0

    def in_order(self, t: int) -> bool:
        """Whether a reading continues the series. Many late ones in a row, in order among themselves, mean that the
        newest time was wrong: the series goes on from them."""
        if t > self.t:
            self.t, self.late = t, 0
            return True
        self.late = self.late + 1 if t > self.late_t else 1
        self.late_t = t
        if self.late < limits.LATE_BEFORE_RESTART:
            return False
        for track in self.tracks.values():
            track.part()
        self.roles.part()
        self.t, self.late = t, 0
        return True


class Site:
    """One station: its place (NaN where unknown: tests that need it are not made), its sources, what lately moved."""

    def __init__(self, station: Station, neighbours: Neighbours) -> None:
        self._station, self._neighbours = station, neighbours
        self._sources: OrderedDict[str, _Source] = OrderedDict()
        self._moved: dict[str, int] = {}  # variable -> when it last changed as weather does
        self._outlook: dict[str, Outlook] = {}
        self._humidity: tuple[int, float] | None = None  # the station's latest good one, whichever sensor's
        self._past: dict[str, Level] = {}  # for sources that are still to come

    def judge(self, observation: Observation) -> Judged:
        """The verdict on each value, and on earlier ones."""
        source, values, t = self._source(observation.source), observation.values, observation.t
        verdicts = {name: self._alone(name, value, values) for name, value in values.items()}
        verdicts |= checks.gathered_test(verdicts, values, observation.gathered_s)
        in_order = source.in_order(t)
        revised: list[tuple[str, int, int, Verdict]] = []
        if in_order:
            finite = {name: value for name, value in values.items() if value is not None and math.isfinite(value)}
            roles, revised = source.roles.see(t, finite)
            verdicts |= {name: v for name, v in roles.items() if v.flag >= verdicts[name].flag}
        good = {name: values[name] for name, verdict in verdicts.items() if verdict is GOOD}
        _worse(verdicts, self._together(observation, good, source))
        if in_order:
            self._note_moves(source, t, good)
            _worse(verdicts, self._among_three(source, t, good))
            _worse(verdicts, self._in_time(source, observation, good, revised))
            # what neighbours hear does not depend on what they said: two that differ must not silence each other
            passed = {name: value for name, value in good.items() if verdicts[name] is GOOD}
            steps = {name: value for name, value in good.items() if verdicts[name].test == "step"}
            self._neighbours.hear(self._station.id, t, passed, steps)
            _worse(verdicts, list(self._in_space(source, t, good, verdicts)))
            _worse(verdicts, self._against_forecast(t, good))
        return Judged(observation, verdicts, tuple(self._revision(observation, one) for one in revised))

    def expect(self, forecast: Forecast) -> None:
        """Hold what comes against this forecast."""
        self._outlook = outlooks(forecast)

    def seed_levels(self, values: Mapping[str, NDArray[np.float64]], hours: float) -> None:
        """The past of the station, for sources that begin."""
        self._past = {name: Level(AXES[name]) for name in values if name in AXES}
        for name, level in self._past.items():
            level.learn_many(values[name], hours)

    def _source(self, name: str) -> _Source:
        """The source's memory; the one unheard of for longest makes room."""
        source = self._sources.pop(name, None) or _Source(self._past)
        self._sources[name] = source
        if len(self._sources) > MAX_SOURCES:
            self._sources.popitem(last=False)
        return source

    def _revision(self, observation: Observation, revised: tuple[str, int, int, Verdict]) -> Revision:
        name, start, end, verdict = revised
        return Revision(observation.station, observation.source, name, start, end, verdict)

    # --- one observation ---

    def _alone(self, name: str, value: float | None, values: Mapping[str, float]) -> Verdict:
        """What can be said of a value by itself."""
        if value is None or math.isnan(value):
            return _MISSING
        if name not in VARIABLES:
            return Verdict(Flag.NOT_EVALUATED, "", f'"{name[:60]}" is not in the vocabulary', None, value)
        found = [checks.range_test(name, value)]
        if name == "pressure" and not math.isnan(self._station.elevation_m):
            found.append(checks.sea_level_test(value, values.get("temperature"), self._station.elevation_m))
        elif name == "pressure_msl":
            found.append(checks.mean_sea_level_test(value))
        verdict = max(filter(None, found), key=lambda one: one.flag, default=None)
        return GOOD if verdict is None else checks.with_unit_hint(name, verdict, self._station.elevation_m)

    def _together(self, observation: Observation, good: Mapping[str, float], source: _Source) -> Iterator[checks.Found]:
        """What the values of one observation say of each other, and the sun of them."""
        yield from checks.consistency_test(good)
        humidity = self._humidity_at(observation.t, good)
        if humidity is not None:
            yield from checks.humid_particles_test(good, humidity)
        radiation = good.get("solar_radiation")
        if radiation is None or radiation <= limits.NIGHT_RADIATION or observation.clock == "unsynced":
            return
        if math.isnan(self._station.latitude):
            return
        track = source.tracks.get("solar_radiation")
        period = observation.period_s or (min(int(track.span_s), limits.HOUR) if track else 0)
        place = self._station.latitude, self._station.longitude
        elevation = max(sun_elevation(t, *place) for t in (observation.t, observation.t - period))
        verdict = checks.radiation_test(radiation, elevation)
        if verdict:
            yield "solar_radiation", verdict

    def _among_three(self, source: _Source, t: int, good: Mapping[str, float]) -> Iterator[checks.Found]:
        if {"temperature", "humidity", "dew_point"} <= good.keys():
            yield from source.triple.see(t, good["temperature"], good["humidity"], good["dew_point"]).items()

    # --- over time ---

    def _humidity_at(self, t: int, good: Mapping[str, float]) -> float | None:
        """The reading's own humidity, or else what another sensor of the station measured shortly before."""
        if "humidity" in good:
            if self._humidity is None or t >= self._humidity[0]:
                self._humidity = t, good["humidity"]
            return good["humidity"]
        known = self._humidity
        return known[1] if known is not None and abs(t - known[0]) <= limits.HUMIDITY_AGE_S else None

    def _note_moves(self, source: _Source, t: int, good: Mapping[str, float]) -> None:
        """Remember which variables just changed by enough to show that the air itself did."""
        for name, threshold in limits.EVIDENCE.items():
            if name not in good:
                continue
            track = source.tracks.get(name)
            moved = good[name]
            if name != "rain":
                near = track is not None and t - track.t <= limits.EVIDENCE_GAP_S
                moved = abs(moved - track.v) if track and near else 0.0
            if moved >= threshold:
                self._moved[name] = t

    def _in_time(
        self,
        source: _Source,
        observation: Observation,
        good: Mapping[str, float],
        revised: list[tuple[str, int, int, Verdict]],
    ) -> Iterator[checks.Found]:
        """Step, spike, persistence and repetition; remembers what came."""
        still: dict[str, float] = {}
        t = observation.t
        for name, value in good.items():
            track = source.tracks.get(name)
            if track is None:
                source.tracks[name] = Track(t, value)
                continue
            jump, natural = self._jump(name, value, t, track)
            if name == "rain":
                jump = checks.rain_test(value, observation.period_s or t - track.t)
            revised += self._looking_back(name, value, t, track)
            doubted = jump is not None and not (natural and self._air_moved(name, t, value > track.v))
            left = track.came_back(t, value, doubted)
            if left is not None:
                revised.append((name, left.t, track.t, checks.offset_verdict(name, left.t, left.jump, t)))
                track.left = jump = None
            elif jump is not None:
                if doubted:
                    yield name, jump
                track.left = _left(name, t, value - track.good_v, natural, doubted)
            track.add(t, value, jumped=jump is not None, step_cap=limits.step_cap(name, t - track.t))
            if track.run < limits.STILL_READINGS or name not in limits.STILL:
                continue
            unit = max(track.steps.grain(), track.steps.resolution())
            limit = checks.still_limit(name, value, unit, good.get("wind_speed"))
            stuck = checks.persistence_test(name, value, t - track.since, limit)
            if stuck:
                yield name, stuck
                if not track.told:
                    track.told = True
                    revised.append((name, track.since, t - 1, stuck))
            if limit == limits.STILL[name].limit_s:
                still[name] = t - track.since
        yield from checks.repeat_test(good, still)

    def _looking_back(self, name: str, value: float, t: int, track: Track) -> Iterator[tuple[str, int, int, Verdict]]:
        """Whether the reading before this one was a spike: it left, and this one came back."""
        before = track.before
        if name not in limits.SPIKES or before is None:
            return
        span = max(t - track.t, track.t - before[0])
        there, back = track.v - before[1], value - track.v
        if span > limits.SPIKE_GAP_S or there * back >= 0.0:
            return
        size = min(abs(there), abs(back))
        limit = self._spike_limit(name, span, track)
        natural = size <= limits.LIFT_FACTOR * limit
        if size > limit and not (natural and self._air_moved(name, track.t, there > 0)):
            yield name, track.t, track.t, checks.spike_verdict(name, track.v, size, limit, span)
        elif track.usual(span):
            track.spikes.add(size)

    def _spike_limit(self, name: str, span_s: int, track: Track) -> float:
        """The general one; for a station known to be calmer less, down to half; never within the sensor's noise."""
        limit = limits.spike_limit(name, span_s)
        own = track.spikes.largest_ordinary()
        if own is not None and track.usual(span_s):
            limit = min(limit, max(limits.SPIKE_OWN * own, limit / 2))
        return max(limit, limits.STEP_RESOLUTIONS * track.steps.resolution())

    def _jump(self, name: str, value: float, t: int, track: Track) -> tuple[Verdict | None, bool]:
        """The objection to a step, and whether moving air could explain it.

        A reading must lie near the last good one or near the last one at all: a spike is over once it is over, and a
        real change of level is believed at its second reading.
        """
        found, natural = None, False
        if name not in limits.STEPS:
            return None, False
        for then, reference in ((track.t, track.v), (track.good_t, track.good_v)):
            span = t - then
            if span > limits.STEP_GAP_S:
                continue
            limit = self._step_limit(name, span, track)
            found = checks.step_test(name, value, reference, span, limit)
            if found is None:
                return None, False
            natural |= abs(value - reference) <= limits.LIFT_FACTOR * limit
        return found, natural

    def _step_limit(self, name: str, span_s: int, track: Track) -> float:
        limit = limits.step_limit(name, span_s)
        own = track.steps.largest_ordinary() if track.usual(span_s) else None
        coarse = limits.STEP_RESOLUTIONS * track.steps.resolution()
        return max(limit, coarse, min(own or 0.0, limits.LIFT_FACTOR * limit))

    def _air_moved(self, name: str, t: int, up: bool, age_s: int = limits.EVIDENCE_AGE_S) -> bool:
        """Whether wind, pressure, rain or a neighbour moved too."""
        if any(abs(t - self._moved.get(other, LONG_AGO)) <= age_s for other in limits.LIFTED_BY[name]):
            return True
        return name in QUANTITY and self._neighbours.moved(self._station.id, QUANTITY[name], t, up)

    # --- over space, and against the forecast ---

    def _in_space(
        self, source: _Source, t: int, good: Mapping[str, float], verdicts: Mapping[str, Verdict]
    ) -> Iterator[checks.Found]:
        """Each value against the nearest neighbours that have one. Humidity is compared as dew point, which a doubtful
        temperature does not give."""
        if self._neighbours.alone(self._station.id):
            return
        warm = "temperature" not in good or verdicts["temperature"] is GOOD
        compared = sorted(quantities(good, self._station.elevation_m), key=lambda pair: pair[0] == "humidity")
        for name, value in compared:
            voters = self._neighbours.voters(self._station.id, QUANTITY[name], t)
            if not voters or (name == "humidity" and not warm):
                continue
            difference = source.differences.setdefault(name, Difference())
            verdict, off = difference.judge(name, t, value, voters)
            if verdict is None:
                continue
            warm &= name != "temperature"
            if not (off and self._air_moved(name, t, off > 0, limits.FRONT_AGE_S)):
                yield name, Verdict(verdict.flag, verdict.test, verdict.why, verdict.threshold, good[name])

    def _against_forecast(self, t: int, good: Mapping[str, float]) -> Iterator[checks.Found]:
        for name, outlook in self._outlook.items():
            if name in good:
                verdict = anomaly_test(name, good[name], outlook, t)
                up = outlook.z(t, good[name])
                if verdict and up and not self._air_moved(name, t, up[0] > 0, t - outlook.origin + limits.FRONT_AGE_S):
                    yield name, verdict


def _worse(verdicts: dict[str, Verdict], found: Iterable[checks.Found]) -> None:
    """Take what is worse than what was said before; of equals the first stands."""
    for name, verdict in found:
        if verdict.flag > verdicts[name].flag:
            verdicts[name] = verdict


def _left(name: str, t: int, jump: float, natural: bool, doubted: bool) -> Left:
    span = limits.OFFSET_S
    if natural:
        span = limits.OFFSET_NATURAL_HUMIDITY_S if name == "humidity" and not doubted else limits.OFFSET_NATURAL_S
    return Left(t, jump, t + span, doubted)
