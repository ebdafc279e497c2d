"""The thread that keeps a connection to the broker: one session after another, with back-off between them. One that
hangs, in a name server that never answers, is left behind, and another takes its place.

The rest of the agent hands messages in and takes outcomes out, and never waits for the network. Waiting between
attempts is in real seconds, whatever clock the agent runs on: the broker lives in the real world.
"""

from __future__ import annotations

import logging
import math
import random
import socket
import time
from collections import Counter, deque
from collections.abc import Hashable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from edge_agent.clock import Clock
from edge_agent.config import Mqtt
from edge_agent.errors import StationcastError
from edge_agent.publish import advice
from edge_agent.publish.policy import Backoff, Waits
from edge_agent.publish.session import Message, Outcome, Session
from edge_agent.sensors.supervisor import Supervisor, left_behind
from edge_agent.wire import V5, VersionChoice

log = logging.getLogger(__name__)

SHORT_LIVES = 3  # connections cut soon after they were made, before we wonder who does it

_TURN_S = 1.0
_STOP_MARGIN_S = 0.3


@dataclass(frozen=True, slots=True)
class _Send:
    """A publication meant for one session only: after a reconnect its turn may have passed."""

    session: int
    message: Message
    token: Hashable


class Connection:
    """A broker, reached or not.

    `session`: number of the live connection, None while there is none; `version`: MQTT version in use; `detail`: what
    is wrong and what to do, empty when all is well; `published`, `refused`: publications acknowledged, and refused by
    reason; `in_flight`: not acknowledged yet; `reconnects`: connections after the first. All may be read from any
    thread.
    """

    def __init__(self, settings: Mqtt, client_id: str, will: Message, clock: Clock, waits: Waits) -> None:
        self.session: int | None = None
        self.detail = f"{settings.host}:{settings.port}: not connected yet"
        self.published, self.reconnects, self.in_flight = 0, 0, 0
        self.refused: Counter[str] = Counter()
        self._settings, self._client_id, self._will = settings, client_id, will
        self._clock, self._waits = clock, waits
        self._choice = VersionChoice(settings.protocol)
        self._backoff = Backoff(waits, random.uniform)
        self._kept: dict[str, Message] = {}
        self._commands: deque[Message | _Send] = deque()
        self._outcomes: deque[Outcome] = deque()
        self._troubles: dict[str, str] = {}  # topic -> what the broker had against the last message there
        self._numbered, self._short_lives, self._said, self._note = 0, 0, "", ""
        self._farewell: tuple[Message, ...] = ()
        self._farewell_s = 0.0
        self._woken = False
        self._wake_in, self._wake_out = socket.socketpair()
        self._wake_in.setblocking(False)
        self._wake_out.setblocking(False)
        self._supervisor = Supervisor(
            "mqtt publisher", self._work, clock, self._bug, release=self._leave_behind, hung_s=waits.hung
        )

    @property
    def version(self) -> str:
        return self._choice.current

    def start(self) -> None:
        """Begin connecting; returns at once."""
        self._supervisor.start()

    @property
    def hung(self) -> bool:
        """All threads that it may have hang. Whoever asks also looks after them."""
        return self._supervisor.state().name == "hung"

    def stop(self, farewell: Sequence[Message], wait_s: float) -> None:
        """Publish `farewell`, wait at most `wait_s` for what is under way, disconnect in good order."""
        self._farewell, self._farewell_s = tuple(farewell), wait_s
        self._supervisor.stopping.set()
        self._wake()
        if self._supervisor.stop(wait_s + _STOP_MARGIN_S):  # else one hangs in the network, and ends with the process
            self._wake_in.close()
            self._wake_out.close()

    def keep(self, message: Message) -> None:
        """Publish now, or as soon as there is a connection, and again after every reconnect, as the broker may have
        lost what it retained. A later message on the same topic takes its place."""
        self._commands.append(message)
        self._wake()

    def send(self, session: int, message: Message, token: Hashable) -> None:
        """Publish once, in order, if `session` is still the live one. Its outcome comes under `token`; none comes if
        the session ended first."""
        self._commands.append(_Send(session, message, token))
        self._wake()

    def outcomes(self) -> list[Outcome]:
        """What became of publications with a token since the last call. Those of a session are all there before
        `session` changes."""
        found: list[Outcome] = []
        with suppress(IndexError):
            while True:
                found.append(self._outcomes.popleft())
        return found

    def _wake(self) -> None:
        """Have the thread look at the commands; one call to the system for many, as each costs a change of threads."""
        if not self._woken:
            self._woken = True
            with suppress(OSError):  # closed: there is nothing to wake
                self._wake_out.send(b"w")

    # below: in the thread

    def _work(self) -> None:
        while not self._supervisor.stopping.is_set():
            self._supervisor.stopping.wait(self._connect_once())

    def _bug(self, error: Exception) -> None:
        self.session, self.in_flight = None, 0
        self.detail = f"our bug, please report it: {type(error).__name__}: {error}"

    def _leave_behind(self) -> None:
        """Called for a thread that hangs: its session is not to be counted on."""
        self.session, self.in_flight, self._woken = None, 0, False
        self.detail = f"{self._settings.host}:{self._settings.port}: the publishing thread hung; another one was begun"

    def _connect_once(self) -> float:
        """One session from beginning to end; the real seconds to wait before the next."""
        self._take_commands(None)
        session = Session(self._settings, self._client_id, self.version, self._will, self._clock, self._waits)
        began = time.monotonic()
        try:
            session.open()
            while not (session.closed or self._supervisor.stopping.is_set()):
                self._serve(session)
            if self._supervisor.stopping.is_set() and not left_behind():
                self._say_farewell(session)
        except OSError as error:
            session.end, session.detail = "lost", advice.of_error(error, self._settings, time.time(), self._clock)
        except StationcastError as error:
            session.end, session.detail = "refused", str(error)
        except Exception as error:  # a thread's top loop: publishing goes on after what nobody foresaw
            log.exception("mqtt: unforeseen")
            session.end, session.detail = "lost", f"our bug, please report it: {type(error).__name__}: {error}"
        lived = time.monotonic() - began if session.connected else 0.0
        session.abandon()
        if left_behind():
            return 0.0
        self._collect(session)
        self.session, self.in_flight = None, 0
        return self._after(session, lived)

    def _serve(self, session: Session) -> None:
        if session.connected and self.session is None:
            self._welcome(session)
        self._take_commands(session)
        session.turn(self._wake_in, _TURN_S)
        if not left_behind():
            self._collect(session)

    def _welcome(self, session: Session) -> None:
        self._choice.accepted()
        self._take_commands(None)  # before the number is given, so that what is kept goes out once
        for message in self._kept.values():
            session.publish(message)
        self.reconnects += self._numbered > 0
        self._numbered += 1
        log.info("mqtt: connected to %s:%d, MQTT %s", self._settings.host, self._settings.port, self.version)
        self._troubles.clear()
        self.detail = self._note = ""
        if self.version != V5 and self._settings.protocol == V5:
            self._note = "the broker speaks MQTT 3.1.1 only: forecasts do not expire there, look at their `expires`"
            self._report(self._note)
        self.session = self._numbered

    def _take_commands(self, session: Session | None) -> None:
        self._woken = False  # before looking: what comes after the look wakes again
        with suppress(IndexError):
            while True:
                command = self._commands.popleft()
                if isinstance(command, Message):
                    self._kept[command.topic] = command
                    if session is not None and session.connected:
                        session.publish(command)
                elif session is not None and command.session == self.session:
                    session.publish(command.message, command.token)

    def _collect(self, session: Session) -> None:
        self.in_flight = session.in_flight
        while session.outcomes:
            outcome = session.outcomes.popleft()
            topic = outcome.message.topic
            if outcome.reason:
                self.refused[outcome.reason] += 1
                self.detail = outcome.advice
                if self._troubles.get(topic) != outcome.advice:
                    self._troubles[topic] = outcome.advice
                    log.warning("mqtt: %s", outcome.advice)
            else:
                self.published += 1
                if self._troubles.pop(topic, None):
                    self.detail = next(iter(self._troubles.values()), self._note)
            if outcome.token is not None:
                self._outcomes.append(outcome)

    def _say_farewell(self, session: Session) -> None:
        if not session.connected or session.closed:
            return
        self._take_commands(session)
        self._settle(session, self._farewell_s / 2)
        session.clear_waiting()
        for message in self._farewell:
            session.publish(message)
        self._settle(session, self._farewell_s / 2)
        session.disconnect()
        self.detail = f"{self._settings.host}:{self._settings.port}: stopped"

    def _settle(self, session: Session, wait_s: float) -> None:
        """Go on until nothing waits and all is acknowledged, at most `wait_s`."""
        deadline = time.monotonic() + wait_s
        while not (session.closed or session.idle) and (left := deadline - time.monotonic()) > 0:
            session.turn(self._wake_in, left)
            self._collect(session)

    def _after(self, session: Session, lived_s: float) -> float:
        if self._supervisor.stopping.is_set():
            return 0.0
        if session.end == "refused-version" and self._choice.refused():
            return 0.0
        delay = self._backoff.after(lived_s, session.end == "taken-over")
        words = session.detail
        cut_short = session.end == "lost" and 0 < lived_s < self._waits.stable
        self._short_lives = self._short_lives + 1 if cut_short else 0
        if self._short_lives >= SHORT_LIVES:
            words += advice.of_short_lives(self._client_id)
        if session.end == "silent" and self._choice.closed_early():
            words += f"; trying MQTT {self.version}"
        self._report(words)
        self.detail = f"{words}. Trying again in {math.ceil(delay)} s"
        return delay

    def _report(self, words: str) -> None:
        """Show what is wrong, and log it once."""
        self.detail = words
        if words != self._said:
            self._said = words
            log.warning("mqtt: %s", words)
