"""Learning in the running agent: a learner a station, kept in the store.

What was learned is written once a day and at a clean stop, not every cycle: a power cut costs a day of learning and no
forecast. What `edge-agent adaptation reset` and `learn` put there is taken over at the next forecast.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge_agent.adaptation import cycle
from edge_agent.adaptation.learner import Learner
from edge_agent.adaptation.saved import pack, unpack
from edge_agent.config import Station
from edge_agent.errors import DataError
from edge_agent.forecast.nowcast import Batch, Nowcaster
from edge_agent.grid import STEP_S, STEPS_PER_DAY, Times
from edge_agent.store import Keeper

log = logging.getLogger(__name__)

MOST_EXPERTS = 50  # stations; a larger gateway goes without local experts, which take 3 MB of memory each
SAVED_AT_STOP = 4  # stations: a stop may take two seconds


class Adaptation:
    """What all stations of an agent learn. Calls must come from the thread that owns the store."""

    def __init__(self, store: Keeper, stations: Sequence[str]) -> None:
        self._store = store
        self._turn = {station: i % STEPS_PER_DAY for i, station in enumerate(stations)}
        self._learners: dict[str, Learner] = {}

    def take_up(self, nowcaster: Nowcaster, digest: str) -> None:
        """Forecasts come from that bundle from now on; no digest: from none. One of other leads, levels or events makes
        all begin anew."""
        self._nowcaster, self._bundle = nowcaster, digest
        shape = (nowcaster.leads_s, nowcaster.levels, nowcaster.events)
        for station, learner in list(self._learners.items()):
            if (learner.leads_s, learner.levels, learner.events) != shape:
                del self._learners[station]

    def __call__(self, stations: Sequence[Station], history: NDArray[np.float32], origins: Times, batch: Batch) -> None:
        """Learn what is due and adapt the forecasts of some stations, a row each, in place."""
        base = cycle.bases(history, self._nowcaster.leads_s)
        for row, (station, origin) in enumerate(zip(stations, origins.tolist(), strict=True)):
            learner = self._learner(station.id)
            cycle.take(learner, origin, lambda valid, id_=station.id: self._came(id_, valid))  # type: ignore[misc]
            cycle.move(learner, origin, history[row], base[row], batch, row)

    def save_due(self, origin: int) -> None:
        """Keep what those stations have learned whose turn of the day it is."""
        turn = origin // STEP_S % STEPS_PER_DAY
        self._save([station for station, its in self._turn.items() if its == turn])

    def save_at_stop(self) -> None:
        """Keep what was learned since the last time, where that takes no time."""
        if len(self._turn) <= SAVED_AT_STOP:
            self._save(list(self._turn))

    def _save(self, stations: Sequence[str]) -> None:
        for station in stations:
            if station in self._learners and not self._store.learned_is_handed(station):
                self._store.keep_learned(station, pack(self._learners[station]))

    def _learner(self, station: str) -> Learner:
        if station not in self._learners or self._store.learned_is_handed(station):
            self._learners[station] = self._loaded(station)
        learner = self._learners[station]
        if self._bundle:
            learner.use(self._bundle)
        return learner

    def _loaded(self, station: str) -> Learner:
        """As it was kept, or a new one where nothing was, or what was kept cannot be used."""
        learner, kept = self._new(), self._store.learned(station)
        if kept:
            try:
                unpack(kept, learner)
            except DataError as error:
                log.warning("station %s: what it has learned is not used: %s. It begins anew", station, error)
        if self._store.learned_is_handed(station):
            self._store.keep_learned(station, pack(learner))  # taken over
        return learner

    def _new(self) -> Learner:
        n = self._nowcaster
        return Learner(n.leads_s, n.levels, n.events, expert=len(self._turn) <= MOST_EXPERTS)

    def _came(self, station: str, valid: Times) -> NDArray[np.float64]:
        names = self._nowcaster.variables
        return np.stack([self._store.verifying(station, name, valid) for name in names], axis=1)
