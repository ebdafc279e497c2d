"""Keeps a connection alive: one thread that opens it, works until it is lost, says why, and tries again with back-off.

Knows nothing of serial ports or brokers. Never ends before it is told to, never tries without a pause.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass

from edge_agent.backoff import Backoff
from edge_agent.clock import Clock
from edge_agent.errors import NetworkError, StationcastError

log = logging.getLogger(__name__)

_SHORTEST_PAUSE_S = 0.02  # real seconds, also on a clock that runs fast or stands still


@dataclass(frozen=True, slots=True)
class Pauses:
    """Seconds between attempts: half to all of `first`, then of twice as much each time up to `last`."""

    first: float = 1.0
    last: float = 60.0


@dataclass(frozen=True, slots=True)
class State:
    """`name`: `opening`, `reading`, `waiting` or `stopped`; `problem`: why it waits and what to do; `again`: when it
    tries again, in words; `reopened`: how often it was opened after the first time."""

    name: str
    problem: str = ""
    again: str = ""
    reopened: int = 0


class Supervisor:
    """Runs `work` in a thread. `work` opens, calls `opened`, then `progress` whenever something useful came, returns
    when `stopping` is set and raises StationcastError with the remedy when the connection cannot be had or is lost.
    `bug` is told of anything else that escapes from it."""

    def __init__(
        self,
        name: str,
        work: Callable[[], None],
        clock: Clock,
        bug: Callable[[Exception], None],
        pauses: Pauses | None = None,
    ) -> None:
        self.stopping = threading.Event()
        self._name, self._work, self._clock, self._bug = name, work, clock, bug
        pauses = pauses or Pauses()
        self._backoff = Backoff(pauses.first, pauses.last)
        self._connected = self._useful = False
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._state = State("stopped")
        self._opened = 0

    def start(self) -> None:
        """Begin in the background; what cannot be had yet is waited for."""
        if self._thread is None:
            self.stopping.clear()
            self._became("opening")
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End it. Waits a second at most: a connection attempt that hangs dies with the process."""
        self.stopping.set()
        if self._thread is not None:
            self._thread.join(timeout=1.0)
            self._thread = None
        self._became("stopped")

    def state(self) -> State:
        with self._lock:
            return self._state

    def opened(self) -> None:
        """Called by `work`: the connection stands."""
        self._opened += 1
        self._connected = True
        self._became("reading")
        log.info("%s: open", self._name)

    def progress(self) -> None:
        """Called by `work`: something came, so the connection was a good one, and the back-off begins anew."""
        self._useful = True

    def _run(self) -> None:
        while not self.stopping.is_set():
            try:
                self._work()
            except StationcastError as error:
                self._pause(str(error), error.retry_s if isinstance(error, NetworkError) else 0.0)
            except Exception as error:  # the thread's top: our bug must not silence a sensor
                self._bug(error)
                log.exception("%s: internal error", self._name)
                self._pause(f"Internal error ({type(error).__name__}: {error}): please report it.")

    def _pause(self, problem: str, least: float = 0.0) -> None:
        wait = self._backoff.ended(lasted=self._useful) if self._connected else self._backoff.failed()
        wait = max(wait, least)
        self._connected = self._useful = False
        if not self.stopping.is_set():
            self._became("waiting", problem, f"Trying again in {math.ceil(wait)} s.")
            self.stopping.wait(max(self._clock.wall(wait), _SHORTEST_PAUSE_S))

    def _became(self, name: str, problem: str = "", again: str = "") -> None:
        with self._lock:
            news = bool(problem) and problem != self._state.problem
            # stopping is final, whatever the thread still has to say
            if not self.stopping.is_set() or name == "stopped":
                self._state = State(name, problem, again, max(self._opened - 1, 0))
        if news:
            log.warning("%s: %s", self._name, problem)
