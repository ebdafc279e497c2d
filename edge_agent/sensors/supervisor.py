"""Keeps a connection alive: one thread that opens it, works until it is lost, says why, and tries again with back-off.

A thread that a device holds fast, in a call that never returns, is left behind and another takes its place; so is one
that died. Knows nothing of serial ports or brokers. Never ends before it is told to, never tries without a pause.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from edge_agent.backoff import Backoff
from edge_agent.clock import Clock
from edge_agent.errors import NetworkError, StationcastError

log = logging.getLogger(__name__)

HUNG_S = 120.0  # real seconds without a sign of life, after which a thread is taken for hung; all I/O is shorter
MAX_HUNG = 3  # threads that may hang at a time: each holds its memory and its file descriptors
LOOK_S = 5.0  # of the time between two looks at a thread so much counts: a process that was paused hangs nowhere
_SHORTEST_PAUSE_S = 0.02  # real seconds, also on a clock that runs fast or stands still


@dataclass(frozen=True, slots=True)
class Pauses:
    """Seconds between attempts: half to all of `first`, then of twice as much each time up to `last`."""

    first: float = 1.0
    last: float = 60.0


@dataclass(frozen=True, slots=True)
class State:
    """`name`: `opening`, `reading`, `waiting`, `hung` (its device holds all the threads it may have) or `stopped`;
    `problem`: why it waits and what to do; `again`: when it tries again, in words; `reopened`: how often it was opened
    after the first time; `stuck`: how often its thread hung and was replaced."""

    name: str
    problem: str = ""
    again: str = ""
    reopened: int = 0
    stuck: int = 0


class _Leave(threading.Event):
    """Set when its worker is to end. That the worker looks at it is its sign of life; waiting for it is rest."""

    def __init__(self, worker: _Worker) -> None:
        super().__init__()
        self._worker = worker

    def is_set(self) -> bool:
        self._worker.beat()
        return super().is_set()

    def wait(self, timeout: float | None = None) -> bool:
        mine = threading.current_thread() is self._worker
        if not mine:
            return super().wait(timeout)
        self._worker.resting = True
        try:
            return super().wait(timeout)
        finally:
            self._worker.resting = False
            self._worker.beat()


class _Worker(threading.Thread):
    """The thread of a supervisor. Once `abandoned` it may end when it can; nothing it does counts any more."""

    def __init__(self, name: str, run: Callable[[_Worker], None]) -> None:
        super().__init__(name=name, daemon=True)
        self.stopping = _Leave(self)
        self.beats = 0
        self.resting = self.connected = self.useful = self.abandoned = False
        self.gate = threading.Lock()  # held while it hands something on
        self._work = run

    def run(self) -> None:
        self._work(self)

    def beat(self) -> None:
        """A sign of life, if it is the worker itself that gives it."""
        if threading.current_thread() is self:
            self.beats += 1

    def abandon(self) -> None:
        with self.gate:
            self.abandoned = True
        self.stopping.set()


def left_behind() -> bool:
    """Whether the thread that asks hung and was given up: another one does its work."""
    worker = threading.current_thread()
    return isinstance(worker, _Worker) and worker.abandoned


@contextmanager
def delivery() -> Iterator[bool]:
    """Around handing a reading on, which must not block: False in a thread that was left behind. While inside, none is
    left behind."""
    worker = threading.current_thread()
    if isinstance(worker, _Worker):
        with worker.gate:
            yield not worker.abandoned
    else:
        yield True


class Supervisor:
    """Runs `work` in a thread. `work` opens, calls `opened`, then `progress` whenever something useful came, returns
    when `stopping` is set and raises StationcastError with the remedy when the connection cannot be had or is lost.
    `bug` is told of anything else that escapes from it.

    `work` must look at `stopping`, or wait for it, more often than every `hung_s` real seconds: a thread that does not
    is taken for hung, and left to its device. `release` is then called, to free what the next thread needs; it must
    neither block nor ask this supervisor.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[], None],
        clock: Clock,
        bug: Callable[[Exception], None],
        pauses: Pauses | None = None,
        *,
        release: Callable[[], None] | None = None,
        hung_s: float | None = None,
    ) -> None:
        self._name, self._work, self._clock, self._bug = name, work, clock, bug
        self._release = release or (lambda: None)
        self._hung_s = HUNG_S if hung_s is None else hung_s
        pauses = pauses or Pauses()
        self._backoff = Backoff(pauses.first, pauses.last)
        self._lock = threading.Lock()
        self._state = State("stopped")
        self._opened = self._stuck = 0
        self._running = False
        self._worker = _Worker(name, self._run)
        self._hung: list[_Worker] = []
        self._beats, self._unheard, self._looked = 0, 0.0, 0.0

    @property
    def stopping(self) -> threading.Event:
        """Set when the thread that asks is to end; for others, when the one at work is."""
        thread = threading.current_thread()
        return thread.stopping if isinstance(thread, _Worker) else self._worker.stopping

    def start(self) -> None:
        """Begin in the background; what cannot be had yet is waited for."""
        with self._lock:
            if not self._running:
                self._running = True
                self._begin()

    def stop(self, wait_s: float = 1.0) -> bool:
        """End it. Waits so long at most: a connection attempt that hangs dies with the process. True if no thread is
        left."""
        with self._lock:
            began, self._running = self._running, False
            worker = self._worker
        worker.stopping.set()
        if began:
            worker.join(timeout=wait_s)
        with self._lock:
            self._become("stopped")
            return not any(thread.is_alive() for thread in (worker, *self._hung))

    def state(self) -> State:
        """How it is doing. Whoever asks also looks after its thread: one that hangs is found and replaced here."""
        with self._lock:
            lost = self._running and self._look()
            state = self._state
        if lost:
            log.error("%s: %s", self._name, state.problem)
        return state

    def opened(self) -> None:
        """Called by `work`: the connection stands."""
        with self._at_work() as worker:
            if worker is not None:
                self._opened += 1
                worker.connected = True
                self._become("reading")
                log.info("%s: open", self._name)

    def progress(self) -> None:
        """Called by `work`: something came, so the connection was a good one, and the back-off begins anew."""
        with self._at_work() as worker:
            if worker is not None:
                worker.useful = True

    # --- the thread ---

    def _run(self, worker: _Worker) -> None:
        while not worker.stopping.is_set():
            try:
                self._work()
            except StationcastError as error:
                self._pause(worker, str(error), error.retry_s if isinstance(error, NetworkError) else 0.0)
            except Exception as error:  # the thread's top: our bug must not silence a sensor
                self._bug(error)
                log.exception("%s: internal error", self._name)
                self._pause(worker, f"Internal error ({type(error).__name__}: {error}): please report it.")

    def _pause(self, worker: _Worker, problem: str, least: float = 0.0) -> None:
        with self._at_work() as mine:
            if mine is None or worker.stopping.is_set():
                return
            wait = self._backoff.ended(lasted=worker.useful) if worker.connected else self._backoff.failed()
            wait = max(wait, least)
            worker.connected = worker.useful = False
            if problem != self._state.problem:
                log.warning("%s: %s", self._name, problem)
            self._become("waiting", problem, f"Trying again in {math.ceil(wait)} s.")
        worker.stopping.wait(max(self._clock.wall(wait), _SHORTEST_PAUSE_S))

    @contextmanager
    def _at_work(self) -> Iterator[_Worker | None]:
        """The thread at work, while nobody else changes anything; None for one that was left behind."""
        thread = threading.current_thread()
        if isinstance(thread, _Worker):
            thread.beat()
        with self._lock:
            yield None if isinstance(thread, _Worker) and thread.abandoned else self._worker

    # --- looking after it; all with the lock held ---

    def _begin(self, problem: str = "") -> None:
        self._worker = _Worker(self._name, self._run)
        self._beats, self._unheard, self._looked = 0, 0.0, time.monotonic()
        self._become("opening", problem)
        self._worker.start()

    def _look(self) -> bool:
        """Replace a thread without a sign of life; True if one was left behind just now."""
        worker, lost = self._worker, False
        why = f"Its device did not let a thread go for {self._hung_s:g} s"
        if not worker.abandoned:
            died = not worker.is_alive() and not worker.stopping.is_set()
            if not died and not self._overdue(worker):
                return False
            why = "Its thread died" if died else why
            lost = True
            worker.abandon()
            self._stuck += 1
            self._hung.append(worker)
            self._release()
        self._hung = [thread for thread in self._hung if thread.is_alive()]
        if len(self._hung) < MAX_HUNG:
            self._begin(f"{why}: another one was begun.")
        elif lost:
            remedy = "Unplug the device and plug it in again, or restart the agent."
            self._become("hung", f"Its device holds {MAX_HUNG} threads and lets none of them go. {remedy}")
        return lost

    def _overdue(self, worker: _Worker) -> bool:
        """Whether it has given no sign of life for too long, in time that was looked at."""
        now = time.monotonic()
        since, self._looked = now - self._looked, now
        heard = worker.beats != self._beats or worker.resting
        self._beats, self._unheard = worker.beats, 0.0 if heard else self._unheard + min(since, LOOK_S)
        return self._unheard >= self._hung_s

    def _become(self, name: str, problem: str = "", again: str = "") -> None:
        if self._running or name == "stopped":  # stopping is final, whatever the thread still has to say
            self._state = State(name, problem, again, max(self._opened - 1, 0), self._stuck)


class Users:
    """The sensors that share a supervised connection: it runs from the first start to the last stop."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._names: set[str] = set()
        self._lock = threading.Lock()

    def __contains__(self, name: str) -> bool:
        with self._lock:
            return name in self._names

    def start(self, name: str) -> None:
        with self._lock:
            self._names.add(name)
            self._supervisor.start()

    def stop(self, name: str) -> None:
        with self._lock:
            self._names.discard(name)
            if not self._names:
                self._supervisor.stop()
