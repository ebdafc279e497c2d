"""What forecasts start from: the grid of the 30 days before an origin, and how old its newest readings are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge_agent import grid
from edge_agent.store.observations import Observations
from edge_agent.store.state import GridDays, Newest


class Past:
    """The past of stations, up to any origin."""

    def __init__(self, observations: Observations, days: GridDays, newest: Newest) -> None:
        self._observations, self._days, self._newest = observations, days, newest

    def history(self, stations: Sequence[str], origin: int) -> NDArray[np.float32]:
        """As `Store.history`."""
        out = np.full((len(stations), grid.HISTORY_STEPS, len(grid.GRID_VARIABLES)), np.nan, np.float32)
        for row, station in enumerate(stations):
            number = self._observations.station(station)
            if number is not None:
                out[row] = self._days.history(number, origin)
        return out

    def ages(self, stations: Sequence[str], origin: int) -> list[dict[str, int]]:
        """As `Store.ages`."""
        return [self._ages(station, origin) for station in stations]

    def _ages(self, station: str, origin: int) -> dict[str, int]:
        number = self._observations.station(station)
        if number is None:
            return {}
        newest = self._newest.of(number).usable
        later = [name for name, t in newest.items() if t > origin]
        before = {**newest, **dict.fromkeys(later), **self._days.newest(number, later, origin)}
        oldest = origin - grid.HISTORY_STEPS * grid.STEP_S
        found = {name: t for name, t in before.items() if t is not None and t > oldest}
        return {name: origin - found[name] for name in grid.GRID_VARIABLES if name in found}
