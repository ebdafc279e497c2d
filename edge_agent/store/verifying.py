"""What came at the valid times of forecasts, for verification and learning."""

from __future__ import annotations

import numpy as np

from edge_agent import grid
from edge_agent.store.connection import Connection
from edge_agent.store.observations import Observations, Series

_BEFORE_S = 3600 + grid.MATCH_S  # far enough back to tell how often readings come


class Verifying:
    """Usable readings of stations. Those between two times are kept for the next question, which is of another variable
    as a rule."""

    def __init__(self, connection: Connection, observations: Observations) -> None:
        self._observations = observations
        self._kept: tuple[tuple[str, int, int], list[Series]] | None = None
        connection.forget.append(self.forget)

    def forget(self) -> None:
        """Readings have changed."""
        self._kept = None

    def at(self, station: str, variable: str, valid_times: grid.Times) -> grid.Values:
        """As `Store.verifying`."""
        valid = np.asarray(valid_times, np.int64)
        out = np.full(len(valid), np.nan)
        if not len(valid):
            return out
        for series in self._readings((station, int(valid.min()) - _BEFORE_S, int(valid.max()) + grid.MATCH_S)):
            if variable in series.values:
                came = grid.verifying(series.times, series.values[variable], variable, valid)
                out = np.where(np.isnan(out), came, out)
        return out

    def _readings(self, span: tuple[str, int, int]) -> list[Series]:
        number = self._observations.station(span[0])
        if self._kept is None or self._kept[0] != span:
            self._kept = (span, [] if number is None else self._observations.usable(*span))
        return self._kept[1]
