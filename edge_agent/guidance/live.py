"""Guidance beside the running agent: one thread asks the sources, the loop takes what they answered.

The thread touches neither the store nor what is learned. A source that is away costs the loop nothing.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge_agent.bundle.manifest import Event
from edge_agent.bundle.station_task import EVENTS
from edge_agent.clock import Clock
from edge_agent.config import Config, Guidance, read_secret
from edge_agent.errors import StoreError
from edge_agent.forecast import Forecast
from edge_agent.forecast.chances import with_derived
from edge_agent.guidance.daily import nights, outlook
from edge_agent.guidance.desk import Desk
from edge_agent.guidance.fetch import Asking, get
from edge_agent.guidance.hours import HOUR_S
from edge_agent.guidance.sources import Guidance as Answer
from edge_agent.guidance.sources import Source
from edge_agent.guidance.sources.background import Background
from edge_agent.guidance.sources.open_meteo import OpenMeteo
from edge_agent.guidance.sources.openweathermap import OpenWeatherMap
from edge_agent.guidance.waiting import Ahead, rows_of
from edge_agent.store.waiting import Key

log = logging.getLogger(__name__)

WAIT_S = 2.0  # real seconds between looks at what is due
BETWEEN_S = 1.0  # and between two stations' questions
QUEUE = 100
KEEP_S = 6 * HOUR_S  # between copies of what was learned
STOP_S = 2.0  # real seconds that the last one may take


class Histories(Protocol):
    """What is needed of the store."""

    def history(self, stations: list[str], origin: int) -> NDArray[np.float32]: ...
    def wait(self, rows: list[tuple[Key, bytes]]) -> None: ...


def sources_of(config: Guidance) -> list[Source]:
    """The sources of a configuration, in its order. Raises ConfigError: the key cannot be read."""
    found: list[Source] = []
    for name in config.sources:
        if name == "background":
            found.append(Background(config.background_url or ""))
        elif name == "open-meteo":
            found.append(OpenMeteo())
        else:
            found.append(OpenWeatherMap(read_secret(config.openweathermap_key_file or "")))
    return found


class Guided:
    """All of an agent's guidance; nothing where no source is configured.

    Args:
        sources: in place of the configured ones.
        stop: ends the thread.
    """

    def __init__(
        self, config: Config, clock: Clock, stop: threading.Event, sources: list[Source] | None = None,
        fetch: Callable[[str], bytes] | None = None,
    ) -> None:  # fmt: skip
        self._stations, self._clock, self._stop = config.stations, clock, stop
        asked = sources_of(config.guidance) if sources is None else sources
        fetch = fetch or partial(get, http=config.guidance.allow_http)
        self._asking = {
            station.id: Asking(asked, config.guidance.refresh_s, fetch) for station in self._stations if asked
        }
        self._answers: queue.Queue[tuple[str, Answer]] = queue.Queue(QUEUE)
        self._desk = Desk(self._stations, Path(f"{config.store.path}.guidance")) if asked else None
        self._kept_at = clock.monotonic()
        self._told = ""

    def start(self) -> None:
        """Take up what was learned before, and begin to ask."""
        if self._desk is not None:
            if why := self._desk.recall():
                log.warning("%s", why)
            threading.Thread(target=self._ask, name="guidance", daemon=True).start()

    @property
    def trouble(self) -> str:
        """What is wrong with the sources, in words; empty when all is well."""
        return "; ".join(dict.fromkeys(asking.trouble for asking in self._asking.values() if asking.trouble))

    def _ask(self) -> None:
        """The thread."""
        while not self._stop.is_set():
            for station in self._stations:
                try:
                    answer = self._asking[station.id].ask(station, self._clock.now(), self._clock.monotonic())
                    if answer is not None:
                        self._answers.put((station.id, answer), timeout=WAIT_S)
                        self._stop.wait(BETWEEN_S)
                except queue.Full:
                    log.warning("guidance: the loop does not take answers; one is left out")
                except Exception:  # the thread's top: our bug must not end guidance for good
                    log.exception("guidance: internal error, please report it")
                    self._stop.wait(HOUR_S)
                if self._stop.is_set():
                    return
            self._tell()
            self._stop.wait(WAIT_S)

    def _tell(self) -> None:
        trouble = self.trouble
        if trouble != self._told:
            self._told = trouble
            log.warning("guidance: %s", trouble or "all is well again")

    def keep_at_stop(self) -> None:
        """Keep what was learned since the last time; where that takes longer than a stop may, the last copy stands."""
        if self._desk is not None and self._desk.changed:
            keeping = threading.Thread(target=self._keep, name="guidance memory", daemon=True)
            keeping.start()
            keeping.join(STOP_S)

    def _keep(self) -> None:
        assert self._desk is not None
        try:
            self._desk.keep()
        except StoreError as error:
            log.warning("%s", error)

    def forecasts(
        self, store: Histories, nowcasts: Mapping[str, Forecast], origin: int, now: int,
        events: Sequence[Event] = with_derived(EVENTS),
    ) -> list[Ahead]:  # fmt: skip
        """Hourly forecasts of the stations that have guidance, with their civil days and nights; none at other times
        than full hours. What will be scored of them is handed to the store. `events`: whose probability is told."""
        if self._desk is None:
            return []
        while True:
            try:
                self._desk.take(*self._answers.get_nowait())
            except queue.Empty:
                break
        if origin % HOUR_S:
            return []
        ids = [station.id for station in self._stations]
        grids = store.history(ids, origin)
        same = {station: one for station, one in nowcasts.items() if one.origin == origin}
        found = self._desk.forecast(dict(zip(ids, grids, strict=True)), same, origin, now, events)
        if self._clock.monotonic() - self._kept_at >= KEEP_S:
            self._kept_at = self._clock.monotonic()
            self._desk.keep()
        made, rows = [], []
        for forecast, raw in found:
            at = ids.index(forecast.station)
            grid, station = grids[at], self._stations[at]
            days, zone = outlook(forecast, grid, station.timezone), station.timezone
            made.append(Ahead(forecast, raw, days, zone, nights(forecast, grid, station.longitude, events)))
            rows += rows_of(made[-1], grid)
        if rows:
            store.wait(rows)
        return made
