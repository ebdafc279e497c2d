"""The running agent: sensors into a queue, one loop that owns the store and the schedule, forecasts out.

Only the loop touches the store. A sensor, broker, model or disk that fails is counted, reported and tried again; it
never stops acquisition.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NoReturn

from edge_agent import __version__
from edge_agent.acceptance import DESTINATIONS, Acceptance
from edge_agent.board import Board, hand_back_freed, one_heap, rss_mb
from edge_agent.clock import Clock, SystemClock
from edge_agent.config import Config, Sensor, Station, load
from edge_agent.events import Event, log_event
from edge_agent.forecast import Forecast
from edge_agent.forecasting import Forecasting
from edge_agent.guard import Guard
from edge_agent.heartbeat import Heartbeat
from edge_agent.observation import Reading
from edge_agent.publish.mqtt import Publisher
from edge_agent.publish.payloads import info_payload, status_payload
from edge_agent.publish.structs import StatusPayload
from edge_agent.retention import Retention
from edge_agent.runs import begun
from edge_agent.schedule import Allowance, Every, Origins
from edge_agent.scoring import Scoring
from edge_agent.sensors import Health, Past, open_sources
from edge_agent.service import ServiceManager, summary
from edge_agent.store import Keeper, OutboxCounts
from edge_agent.timekeeping.keeper import Timekeeper
from edge_agent.timekeeping.station_clock import StationClock

log = logging.getLogger(__name__)

QUEUE = 10_000  # readings that may wait for the loop
BATCH = 500  # readings taken before the schedule is looked at
PUMP = 25  # of them, before what waits for the broker is looked at
IDLE_S = 0.1  # real seconds the loop waits for a reading
BUSY_S = 0.01  # the same, while rows go to the broker: it makes room for more as it acknowledges them
STATUS_S = 60.0
FIRST_STATUS_S = 5.0  # after the start, when most sensors have spoken
EXPIRE_S = 3600.0  # between looks at what has waited for too long
SALVAGE_S = 0.2  # real seconds of a turn for what can be read of a damaged store
LOOK_S = 1.0  # between looks at whether a sensor or the broker came or went
PROMPT = 6, 120.0  # times at once, and one more each so many seconds, that this is committed at once: at most 726 a day
MOVING_S = 300.0  # forecasts wait so long for readings that get their times; then they are persistence meanwhile
MOVING = "what was read before the time was known is being put right"
NO_BOOKS = OutboxCounts(0, 0, 0, {})  # of a destination that never had a row
SOURCES_STOP_S = 0.4  # real seconds; the publisher needs up to 1.3 more, and all must be over in 2


def run_agent(path: Path, *, verbose: bool = False, normal: bool = False) -> NoReturn:
    """`edge-agent run`: until SIGTERM, SIGINT or SIGHUP; ends the process with 0 after a clean stop.

    Raises:
        ConfigError, StoreError: as `load` and `Agent.run`.
    """
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as below nohup
            signal.signal(number, lambda *_: stop.set())
    level = logging.INFO if verbose else logging.WARNING
    one_heap()
    faulthandler.enable()  # what each thread did, also where the watchdog ends the process
    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s", force=True)
    manager = ServiceManager(os.environ)
    Agent(load(path), SystemClock(), log_event if verbose else None, manager=manager, normal=normal).run(stop)
    # Everything is settled and closed. A thread may still hang in a device or the network, or be loading ONNX Runtime,
    # which aborts the process if its thread dies under it, and is not worth waiting for: end without the interpreter.
    logging.shutdown()
    os._exit(0)


class Agent:
    """One process for one station or a gateway of many. `on_event` is called from the loop and must return quickly;
    `manager` is told how it goes; `normal`: also after a crash loop."""

    def __init__(
        self,
        config: Config,
        clock: Clock,
        on_event: Callable[[Event], None] | None = None,
        *,
        manager: ServiceManager | None = None,
        normal: bool = False,
    ) -> None:
        self._config, self._clock, self._normal = config, StationClock(clock), normal
        self._manager = manager or ServiceManager({})
        self._board = Board(Path(config.store.path))
        self._tell = on_event or (lambda event: None)
        self._stop = threading.Event()
        self._stations = {station.id: station for station in config.stations}
        self._sensors = {sensor.name: sensor for sensor in config.sensor}
        self._queue: queue.Queue[tuple[Sensor, Reading, float]] = queue.Queue(QUEUE)
        self._guard = Guard()
        self._told: frozenset[tuple[str, str, bool]] = frozenset()  # states as the last status has them
        self._said = False  # a first status was kept
        self._unfit = ""  # why the last forecasts were persistence, where the clock was to blame
        self._resting = False  # readings could not get their times: not before the next look at the clock
        self._sent = 0  # rows that went to the broker in the last turn

    def run(self, stop: threading.Event) -> int:
        """Work until `stop` is set; returns 0. What sensors handed over before is then in the store.

        Raises:
            StoreError: the store cannot be this agent's, another one works with it, or readings could not be kept at
                the end.
            ConfigError: a sensor cannot be built.
        """
        self._stop = stop
        with (
            Keeper(self._config.store, self._clock) as store,
            begun(Path(self._config.store.path), normal=self._normal) as self._run,
        ):
            self._store = store
            self._time = Timekeeper(self._clock, store, DESTINATIONS, lambda: self._acceptance.forget())
            self._retention = Retention(store, self._clock)
            self._acceptance = Acceptance(self._config, self._clock, store)
            self._heartbeat = Heartbeat(store)
            past = Past(store.rain_totals(), self._newest())
            self._sources = open_sources(self._config, self._take, self._clock, past)
            self._forecasting = Forecasting(self._config, self._clock, store, stop)
            self._publisher = Publisher(self._config, self._clock)  # holds sockets: after what may be refused
            self._scoring = Scoring(self._config, self._clock, store, self._retention, self._publisher, self._guard)
            self._start()
            try:
                while not stop.is_set():
                    self._drain()
                    self._keep_schedule()
                    self._feed()
            finally:
                self._finish()
        return 0

    def _newest(self) -> dict[str, float]:
        """Sensor -> UTC seconds of what it measured last, before this start; one that serves many stations has none."""
        found = {}
        for sensor in self._config.sensor:
            station = self._config.station_of(sensor)
            t = None if station is None else self._store.newest_of(station, sensor.name)
            if t is not None:
                found[sensor.name] = float(t)
        return found

    def _start(self) -> None:
        self._begun = begun = self._moved_s = self._clock.monotonic()  # the last: when no reading waited for its time
        self._origins = Origins()
        self._time_due = Every(LOOK_S, begun)
        self._status_due = Every(STATUS_S, begun + FIRST_STATUS_S)
        self._commit_due = Every(self._config.store.commit_s, begun + FIRST_STATUS_S)
        self._look_due = Every(LOOK_S, begun + FIRST_STATUS_S)
        self._expire_due = Every(EXPIRE_S, begun + EXPIRE_S)
        self._prompt = Allowance(*PROMPT, begun)
        for source in self._sources:
            source.start()
        self._publisher.start()
        self._forecasting.start(without=self._run.why)
        self._manager.ready()
        log.info("stationcast %s: %d stations, %d sensors", __version__, len(self._stations), len(self._sources))

    def _finish(self) -> None:
        """Leave nothing behind: what sensors handed over is kept, what the broker took is settled."""
        self._manager.stopping()
        stopping = [threading.Thread(target=source.stop, daemon=True) for source in self._sources]
        for thread in stopping:
            thread.start()
        deadline = time.monotonic() + SOURCES_STOP_S
        for thread in stopping:
            thread.join(max(deadline - time.monotonic(), 0.0))  # one that hangs dies with the process
        while self._take_one(block_s=0.0):
            pass
        self._pump()
        self._publisher.stop()
        self._pump()
        self._guard("adaptation", partial(self._forecasting.keep_learned, None))
        self._guard("store", partial(self._store.commit, self._clock.now()))  # so that the last status has all of it
        self._guard("status", partial(self._say, whole=True))
        log.info("stopped")

    # --- readings -----------------------------------------------------------------------------------------------------

    def _take(self, sensor: Sensor, reading: Reading, arrived: float) -> bool:
        """Called from the sources' threads. When it came is told on the steady clock: what that is in UTC may be known
        better when its turn comes."""
        try:
            self._queue.put_nowait((sensor, reading, self._clock.monotonic()))
        except queue.Full:
            return False
        return True

    def _drain(self) -> None:
        """Wait shortly for a reading, then take those that are there."""
        if self._take_one(block_s=BUSY_S if self._sent else IDLE_S):
            for n in range(1, BATCH):
                if self._stop.is_set() or not self._take_one(block_s=0.0):
                    break
                if n % PUMP == 0:
                    self._pump()
        self._pump()

    def _take_one(self, block_s: float) -> bool:
        try:
            sensor, reading, steady = self._queue.get(block=block_s > 0, timeout=block_s or None)
        except queue.Empty:
            return False
        if sensor.name not in self._sensors:  # a neighbour's
            self._guard("neighbour", partial(self._acceptance.hear, reading))
            return True
        arrived = self._clock.at(steady)
        took = self._guard("store", partial(self._acceptance.take, sensor, reading, arrived, steady))
        if took is None:
            self._guard.lost["readings"] += 1
            return True
        if took.left_out:
            self._guard.lost[took.left_out] += 1
        self._tell(Event("observation" if took.kept else took.left_out, judged=took.judged))
        return True

    # --- the schedule -------------------------------------------------------------------------------------------------

    def _keep_schedule(self) -> None:
        self._keep_time()
        now, steady = self._clock.now(), self._clock.monotonic()
        wait = self._time.owing and self._store.on_disk and steady - self._moved_s < MOVING_S
        if self._run.lasted(steady - self._begun):
            log.warning("safe mode ends: the agent has run for an hour. The bundle is loaded again")
            self._forecasting.load()
        if self._forecasting.take_up():
            self._tell_info()
            bundle = self._forecasting.bundle
            self._tell(Event("bundle", text=bundle.why or f"{bundle.name} is ready"))
        if self._unfit and not (self._clock.unfit() or self._time.owing):
            self._origins.begin_anew()  # what was issued meanwhile is no better than persistence
            self._unfit = ""
        if self._forecasting.ready and not wait:
            origin = self._origins.due(now, steady)
            if origin is not None:
                self._forecast(origin)
                self._scoring.due = True
        if self._scoring.due and self._store.on_disk and not self._time.owing:
            self._scoring.work(now)
        self._guard("store", partial(self._store.salvage, SALVAGE_S))
        if self._expire_due.due(steady) and (by := self._retention.time()) is not None:
            self._guard("store", partial(self._store.expire, by, self._config.store.outbox_days))
        look = self._look_due.due(steady)
        changed = look and self._states() != self._told
        if self._status_due.due(steady) or changed:
            self._guard("status", partial(self._say, whole=not self._said))
            self._said = True
        wanted = look and self._store.wanted
        if self._commit_due.due(steady) or wanted or (changed and self._prompt.take(steady)):
            self._guard("store", partial(self._store.commit, now))

    def _keep_time(self) -> None:
        """Learn what time it is, and put right what was stamped without knowing it."""
        if self._time_due.due(self._clock.monotonic()):
            if self._guard("clock", partial(self._time.look, [source.health() for source in self._sources])):
                self._tell_info()
            self._resting = False
        if self._time.owing and self._store.on_disk and not self._resting:
            self._resting = self._guard("clock", self._time.restamp) is None
        if not self._time.owing:
            self._moved_s = self._clock.monotonic()

    def _pump(self) -> None:
        pump = partial(self._publisher.pump, self._store, verdicts=not self._time.owing)
        self._sent = self._guard("outbox", pump) or 0

    def _tell_info(self) -> None:
        """What runs here, and how well it knows the time."""
        if not self._forecasting.ready:
            return
        names, bundle, told = self._forecasting.variables, self._forecasting.bundle, self._time.told()
        for station in self._config.stations:
            payload = info_payload(station, names, bundle.name, bundle.digest, self._run.mode, told)
            self._publisher.info(station.id, payload)

    def _forecast(self, origin: int) -> None:
        """A nowcast of every station, in parts that bound the memory: all are published, then all are kept."""
        made: list[list[Forecast]] = []
        unfit = self._unfit = self._clock.unfit() or (MOVING if self._time.owing else "")
        self._time.issued(origin)
        for part in self._forecasting.parts():
            if self._stop.is_set():
                break
            made.append(self._guard("forecast", partial(self._forecasting.nowcasts, part, origin, unfit)) or [])
            for forecast in made[-1]:
                self._acceptance.expect(forecast)
                self._guard("forecast", partial(self._publisher.forecast, forecast))
                self._tell(Event("forecast", forecast=forecast))
            self._pump()
            self._feed()
        for forecasts in made:
            self._guard("store", partial(self._forecasting.keep, forecasts))
            self._feed()
        self._guard("adaptation", partial(self._forecasting.keep_learned, origin))
        if not unfit:
            self._guard("guidance", partial(self._publish_hourly, origin))
        made.clear()
        hand_back_freed()

    def _publish_hourly(self, origin: int) -> None:
        for ahead in self._forecasting.hourly(origin):
            self._publisher.hourly(ahead.forecast)
            self._publisher.daily(ahead.forecast, ahead.days, ahead.timezone, ahead.nights)

    def _states(self) -> frozenset[tuple[str, str, bool]]:
        """What sensors, broker, store and clock do, and what is wrong with them: a change is worth a status at once."""
        healths = [source.health() for source in self._sources]
        broker = self._publisher.health()
        found = {(f"sensor {health.name}", health.state, bool(health.detail)) for health in healths}
        disk = ("store", str(self._store.on_disk), bool(self._store.trouble))
        link = ("broker", str(broker.connected), bool(broker.detail))
        return frozenset({*found, disk, link, ("clock", self._clock.state(), False)})

    def _say(self, *, whole: bool = False) -> None:
        """Publish and keep how each station is doing. `whole`: keep all of it, also on a gateway."""
        self._told = self._states()
        healths = {source.name: source.health() for source in self._sources}
        broker, books = self._publisher.health(), self._store.books()
        board, told, said = self._board.status(), self._time.told(), dict[str, StatusPayload]()
        for name, station in self._stations.items():
            said[name] = status_payload(
                self._clock.now(),
                uptime_s=self._clock.monotonic() - self._begun,
                clock=self._clock.state(),
                sensors=self._sensors_of(station, healths),
                outbox=dict.fromkeys(DESTINATIONS, NO_BOOKS) | books,
                forecast=self._forecasting.last.get(name),
                flags=self._acceptance.flags[name],
                broker=broker,
                lost=self._guard.lost + self._store.lost,
                rss_mb=rss_mb(),
                store_mb=self._store.size_mb(),
                mode=self._run.mode,
                board=board,
                store=self._store,
                timekeeping=told,
            )
            self._publisher.status(name, said[name])
        self._manager.status(summary([h.state for h in healths.values()], broker.connected, self._run.mode))
        self._heartbeat.keep(said, whole=whole)

    def _feed(self) -> None:
        """Something was done: that keeps the watchdog quiet, unless the publisher, or no sensor, has a thread left. A
        new process may."""
        reads = not self._sources or any(source.health().state != "hung" for source in self._sources)
        if not self._publisher.hung and reads:
            self._manager.feed()

    def _sensors_of(self, station: Station, healths: dict[str, Health]) -> Iterator[Health]:
        for name, health in healths.items():
            sensor = self._sensors.get(name)  # none: a neighbour, of all our stations
            if sensor is None or self._config.station_of(sensor) in (None, station.id):
                yield health
