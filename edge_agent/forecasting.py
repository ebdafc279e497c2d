"""What makes an agent's forecasts: the bundle, what was learned here, guidance, and the histories they start from.

Only the loop calls it, which owns the store; the bundle is loaded beside it. Publishes nothing and decides on no time.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from edge_agent.adaptation.live import Adaptation
from edge_agent.bundle.station_task import EVENTS
from edge_agent.bundle.trial import Loaded, load_session
from edge_agent.clock import Clock
from edge_agent.config import Config, Station
from edge_agent.forecast import Forecast
from edge_agent.forecast.baselines import beside
from edge_agent.forecast.chances import with_derived
from edge_agent.forecast.groups import groups, whole
from edge_agent.forecast.nowcast import Nowcaster
from edge_agent.guidance.live import Guided
from edge_agent.guidance.waiting import Ahead
from edge_agent.store import Keeper
from edge_agent.verification import scored_leads

log = logging.getLogger(__name__)

CHUNK = 64  # stations whose histories are in memory at once


class Forecasting:
    """The forecasts of all stations of a configuration. `bundle`: what is taken up; `last`: station -> its newest
    nowcast. `stop` ends the asking for guidance, and what there is no time for on the way out.

    Raises ConfigError: a source of guidance cannot be had.
    """

    def __init__(self, config: Config, clock: Clock, store: Keeper, stop: threading.Event) -> None:
        self.bundle = Loaded(None)
        self.last: dict[str, Forecast] = {}
        self._config, self._clock, self._store, self._stop = config, clock, store, stop
        self._loaded: Loaded | None = None  # not taken up yet
        self._nowcaster: Nowcaster | None = None  # none before the bundle has been tried
        self._stand_in = ""  # why it is not the configured bundle's
        self._stations, self._group = _grouped(config.stations, near=False)
        ids = [station.id for station in config.stations]
        self._adaptation = Adaptation(store, ids) if config.forecast.adapt else None
        self._guided = Guided(config, clock, stop)

    # --- the bundle ---------------------------------------------------------------------------------------------------

    def start(self, without: str = "") -> None:
        """Begin to ask for guidance and to load the bundle; as `load`."""
        self._guided.start()
        self.load(without)

    def load(self, without: str = "") -> None:
        """Have the bundle loaded by a thread, for `take_up`. `without`: why there shall be none."""
        if without:
            self._loaded = Loaded(None, why=without)
        else:
            threading.Thread(target=self._load, name="bundle").start()  # no daemon: see `run_agent`

    def _load(self) -> None:
        """Beside the loop, as it takes seconds."""
        try:
            self._loaded = load_session(self._config.forecast)
        except Exception as error:  # the thread's top: a runtime that cannot even be imported leaves persistence
            log.exception("the bundle cannot be loaded")
            self._loaded = Loaded(None, why=f"the bundle cannot be loaded ({type(error).__name__}: {error})")

    def take_up(self) -> bool:
        """Forecast with what was loaded from now on; False where nothing was since the last time."""
        if self._loaded is None:
            return False
        loaded, self._loaded = self._loaded, None
        nowcaster = self._nowcaster = Nowcaster(loaded.session, loaded.why, CHUNK)
        self._stations, self._group = _grouped(self._config.stations, near=nowcaster.looks_around)
        if self._adaptation is not None:
            self._adaptation.take_up(nowcaster, loaded.digest if loaded.session is not None else "")
        self.bundle = loaded
        if loaded.why:
            log.error("%s", loaded.why)
        if loaded.session is not None:
            self._stand_in = loaded.why
        return True

    @property
    def ready(self) -> bool:
        """False before a bundle was taken up, or why there is none: until then there are no nowcasts."""
        return self._nowcaster is not None

    @property
    def variables(self) -> tuple[str, ...]:
        """What is forecast, once that is known."""
        return () if self._nowcaster is None else self._nowcaster.variables

    # --- a cycle ------------------------------------------------------------------------------------------------------

    def parts(self) -> Iterator[Sequence[Station]]:
        """The stations in chunks that bound the memory, for `nowcasts`. No chunk cuts a group of those that see each
        other."""
        for part in whole(np.array(list(self._group.values()), np.int64), CHUNK):
            yield self._stations[part]

    def nowcasts(self, part: Sequence[Station], origin: int, unfit: str) -> list[Forecast]:
        """Nowcasts of some stations, adapted to each. `unfit`: why there can be no more than persistence, from which
        nothing is learned; empty as a rule.

        Raises:
            StoreError: their past cannot be read.
        """
        assert self._nowcaster is not None  # `ready` says so
        nowcaster = Nowcaster(None, unfit, CHUNK) if unfit else self._nowcaster
        ids = [station.id for station in part]
        history, ages = self._store.history(ids, origin), self._store.ages(ids, origin)
        learning = None if unfit else self._adaptation
        group = np.array([self._group[id_] for id_ in ids], np.int64)
        found = nowcaster.forecast(part, history, ages, origin, int(self._clock.now()), learning, group)
        found = [replace(f, why="; ".join(filter(None, (self._stand_in, f.why)))) for f in found]
        self.last |= {forecast.station: forecast for forecast in found}
        return found

    def hourly(self, origin: int) -> list[Ahead]:
        """Corrected guidance, blended with the newest nowcasts; as `Guided.forecasts`, with the bundle's events."""
        events = with_derived(EVENTS) if self._nowcaster is None else self._nowcaster.all_events
        return self._guided.forecasts(self._store, self.last, origin, int(self._clock.now()), events)

    def keep(self, forecasts: Sequence[Forecast]) -> None:
        """Store a chunk's forecasts with the baselines that verification will hold them against: from the same history,
        as no reading has been taken since. On the way out there is no time for these.

        Raises:
            StoreError: they could not be kept.
        """
        baselines: Sequence[Sequence[Forecast]] = [()] * len(forecasts)
        if forecasts and not self._stop.is_set():
            history = self._store.history([forecast.station for forecast in forecasts], forecasts[0].origin)
            baselines = beside(forecasts, history, scored_leads(len(self._config.stations)))
        for forecast, others in zip(forecasts, baselines, strict=True):
            self._store.add_forecast(forecast, others)

    def keep_learned(self, origin: int | None) -> None:
        """Keep what the stations learned whose turn it is at `origin`; None: of all, and of guidance, where that takes
        no time.

        Raises:
            StoreError: it could not be kept.
        """
        if origin is None:
            self._guided.keep_at_stop()
        if self._adaptation is None:
            return
        if origin is None:
            self._adaptation.save_at_stop()
        else:
            self._adaptation.save_due(origin)


def _grouped(stations: Sequence[Station], *, near: bool) -> tuple[list[Station], dict[str, int]]:
    """The stations, those of one group side by side, and the group of each in that order. `near`: groups are of those
    near each other; else each station is by itself, in the order of the configuration."""
    group = groups(stations) if near else np.arange(len(stations))
    order = np.argsort(group, kind="stable").tolist()
    return [stations[row] for row in order], {stations[row].id: int(group[row]) for row in order}
