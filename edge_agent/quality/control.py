"""Quality control over time and space: the door. Which tests are made of an observation stands in `site.py`.

Bounded state per station, source and variable. It judges and never alters a value.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from edge_agent.config import Neighbour, Station
from edge_agent.forecast import Forecast
from edge_agent.observation import Flag, Judged, Observation, Verdict
from edge_agent.quality.neighbours import Neighbours, Place
from edge_agent.quality.site import Site


class QualityControl:
    """Judges observations one by one, in the order they arrive.

    `stations`: those whose observations come; they are neighbours of each other. `neighbours`: others, of which only
    `hear` tells.
    """

    def __init__(self, stations: Sequence[Station], neighbours: Sequence[Neighbour] = ()) -> None:
        near: list[Station | Neighbour] = [*stations, *neighbours]
        places = [Place(s.id, s.latitude, s.longitude, s.elevation_m) for s in near]
        self._neighbours = Neighbours(places)
        self._sites = {station.id: Site(station, self._neighbours) for station in stations}

    def judge(self, observation: Observation) -> Judged:
        """The verdict on each value: the worst of the tests that could be made, with its reason.

        A reading not later than the newest of its source is tested for range and consistency only: it has no older
        neighbour here to compare with. What a reading teaches of earlier ones comes as `revisions`.
        """
        site = self._sites.get(observation.station)
        if site is None:
            why = f'station "{observation.station}" is not in the configuration: nothing is known to test against'
            verdict = Verdict(Flag.NOT_EVALUATED, "", why)
            return Judged(observation, dict.fromkeys(observation.values, verdict))
        return site.judge(observation)

    def seed(self, observations: Iterable[Observation]) -> None:
        """Remember the recent past, oldest first, without verdicts; a day of it is enough for most tests to start."""
        for observation in observations:
            if observation.station in self._sites:
                self._sites[observation.station].judge(observation)

    def seed_levels(self, station: str, values: Mapping[str, NDArray[np.float64]], hours: float) -> None:
        """Remember what usable values of each variable [N] were like, each standing for so many hours: what tests that
        ask for a past of days need. NaN = none."""
        if station in self._sites:
            self._sites[station].seed_levels(values, hours)

    def hear(self, neighbour: str, t: int, good: Mapping[str, float]) -> bool:
        """What a neighbour measured at `t`, values that its own quality control let pass. False: it is none of ours."""
        if neighbour not in self._neighbours:
            return False
        self._neighbours.hear(neighbour, t, good)
        return True

    def expect(self, forecast: Forecast) -> None:
        """A forecast was issued: what comes at its valid times is held against it, until the next one."""
        site = self._sites.get(forecast.station)
        if site is not None:
            site.expect(forecast)
