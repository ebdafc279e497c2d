"""What forecasts start from: the grid of the 30 days before an origin, and how old its newest readings are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge_agent import grid
from edge_agent.store.observations import Observations
from edge_agent.store.state import GridDays


class Past:
    """The past of stations, up to any origin."""

    def __init__(self, observations: Observations, days: GridDays) -> None:
        self._observations, self._days = observations, days

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
        numbers = [self._observations.station(station) for station in stations]
        return [{} if number is None else self._days.ages(number, origin) for number in numbers]
