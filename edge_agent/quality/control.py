"""Quality control over time: which tests are made of an observation, against what, and what is remembered of it.

Bounded state per station, source and variable. It judges and never alters a value; it knows nothing of the forecast.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from edge_agent.config import Station
from edge_agent.observation import GOOD, Flag, Judged, Observation, Verdict
from edge_agent.quality import checks, limits
from edge_agent.quality.sun import sun_elevation
from edge_agent.quality.track import LONG_AGO, Track
from edge_agent.variables import VARIABLES

MAX_SOURCES = 64  # remembered per station

_MISSING = Verdict(Flag.MISSING, "missing", "no value was sent")


class QualityControl:
    """Judges observations one by one, in the order they arrive."""

    def __init__(self, stations: Sequence[Station]) -> None:
        self._sites = {station.id: _Site(station) for station in stations}

    def judge(self, observation: Observation) -> Judged:
        """The verdict on each value: the worst of the tests that could be made, with its reason.

        A reading not later than the newest of its source is tested for range and consistency only: it has no older
        neighbour here to compare with.
        """
        site = self._sites.get(observation.station)
        if site is None:
            why = f'station "{observation.station}" is not in the configuration: nothing is known to test against'
            verdict = Verdict(Flag.NOT_EVALUATED, "", why)
            return Judged(observation, dict.fromkeys(observation.values, verdict))
        return Judged(observation, site.judge(observation))

    def seed(self, observations: Iterable[Observation]) -> None:
        """Remember the recent past, oldest first, without verdicts; a day of it is enough for every test to start."""
        for observation in observations:
            if observation.station in self._sites:
                self._sites[observation.station].judge(observation)


class _Source:
    """The tracks of one source and how far its time has come."""

    __slots__ = ("late", "late_t", "t", "tracks")

    def __init__(self) -> None:
        self.tracks: dict[str, Track] = {}
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
        self.t, self.late = t, 0
        return True


class _Site:
    """One station: its place, its sources, and what lately moved there."""

    def __init__(self, station: Station) -> None:
        self._station = station
        self._sources: OrderedDict[str, _Source] = OrderedDict()
        self._moved: dict[str, int] = {}  # variable -> when it last changed as weather does
        self._humidity: tuple[int, float] | None = None  # the station's latest good one, whichever sensor's

    def judge(self, observation: Observation) -> dict[str, Verdict]:
        source = self._source(observation.source)
        values = observation.values
        verdicts = {name: self._alone(name, value, values) for name, value in values.items()}
        verdicts |= checks.gathered_test(verdicts, values, observation.gathered_s)
        good = {name: values[name] for name, verdict in verdicts.items() if verdict is GOOD}
        found = list(self._together(observation, good, source))
        if source.in_order(observation.t):
            self._note_moves(source, observation.t, good)
            found += self._in_time(source, observation.t, good)
        for name, verdict in found:
            if verdict.flag > verdicts[name].flag:
                verdicts[name] = verdict
        return verdicts

    def _source(self, name: str) -> _Source:
        """The source's memory; the one unheard of for longest makes room."""
        source = self._sources.pop(name, None) or _Source()
        self._sources[name] = source
        if len(self._sources) > MAX_SOURCES:
            self._sources.popitem(last=False)
        return source

    def _alone(self, name: str, value: float | None, values: Mapping[str, float]) -> Verdict:
        """What can be said of a value by itself."""
        if value is None or math.isnan(value):
            return _MISSING
        if name not in VARIABLES:
            return Verdict(Flag.NOT_EVALUATED, "", f'"{name[:60]}" is not in the vocabulary', None, value)
        found = [checks.range_test(name, value)]
        if name == "pressure":
            found.append(checks.sea_level_test(value, values.get("temperature"), self._station.elevation_m))
        elif name == "pressure_msl":
            found.append(checks.mean_sea_level_test(value))
        return max(filter(None, found), key=lambda verdict: verdict.flag, default=GOOD)

    def _together(self, observation: Observation, good: Mapping[str, float], source: _Source) -> Iterator[checks.Found]:
        """What the values of one observation say of each other, and the sun of them."""
        yield from checks.consistency_test(good)
        humidity = self._humidity_at(observation.t, good)
        if humidity is not None:
            yield from checks.humid_particles_test(good, humidity)
        radiation = good.get("solar_radiation")
        if radiation is None or radiation <= limits.NIGHT_RADIATION or observation.clock == "unsynced":
            return
        track = source.tracks.get("solar_radiation")
        period = observation.period_s or (min(int(track.span_s), limits.HOUR) if track else 0)
        place = self._station.latitude, self._station.longitude
        elevation = max(sun_elevation(t, *place) for t in (observation.t, observation.t - period))
        verdict = checks.radiation_test(radiation, elevation)
        if verdict:
            yield "solar_radiation", verdict

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

    def _in_time(self, source: _Source, t: int, good: Mapping[str, float]) -> Iterator[checks.Found]:
        """Step, persistence and repetition; remembers what came."""
        still: dict[str, float] = {}
        for name, value in good.items():
            track = source.tracks.get(name)
            if track is None:
                source.tracks[name] = Track(t, value)
                continue
            jump, natural = self._jump(name, value, t, track)
            if jump and not (natural and self._air_moved(name, t)):
                yield name, jump
            track.add(t, value, jumped=jump is not None, step_cap=limits.step_cap(name, t - track.t))
            if track.run < limits.STILL_READINGS or name not in limits.STILL:
                continue
            unit = max(track.steps.grain(), track.steps.resolution())
            limit = checks.still_limit(name, value, unit, good.get("wind_speed"))
            stuck = checks.persistence_test(name, value, t - track.since, limit)
            if stuck:
                yield name, stuck
            if limit == limits.STILL[name].limit_s:
                still[name] = t - track.since
        yield from checks.repeat_test(good, still)

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

    def _air_moved(self, name: str, t: int) -> bool:
        return any(
            abs(t - self._moved.get(other, LONG_AGO)) <= limits.EVIDENCE_AGE_S for other in limits.LIFTED_BY[name]
        )
