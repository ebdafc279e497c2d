"""A conversation with a device that answers one line to one question, asked again and again.

Never decodes. Time is counted in reads that brought less than they could, so no clock is needed; noise at full speed
stands still in it and is handed on as what it is.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from edge_agent.errors import SensorError
from edge_agent.sensors.driver import Port
from edge_agent.sensors.framing import Lines, Refusal

ANSWER_S = 5.0  # an answer that has not come by then will not come
TRIES = 3  # unanswered questions before the port is closed and opened again
CHUNK = 4096  # bytes a read takes at most
READ_S = 0.25  # how long a read waits where the port does not say
GATHER_S = 0.005  # pause after a full read, which leaves the processor to others

Take = Callable[[bytes | Refusal], None]


class Ask:
    """Sends `question` every `every_s` seconds and hands over every line that comes, asked for or not.

    `limit`: longest line, bytes. `remedy`: what to do when nothing answers. An echo of the question is no answer.
    """

    def __init__(self, question: bytes, every_s: float, limit: int, remedy: str) -> None:
        self._question, self._every_s, self._remedy = question, every_s, remedy
        self._lines = Lines(limit)

    def run(self, port: Port, take: Take, stopping: threading.Event) -> None:
        """Raises SensorError: nothing came after `TRIES` questions."""
        self._lines.drop()
        while not stopping.is_set():
            for _ in range(TRIES):
                port.write(self._question)
                port.flush()
                if self._listen(port, take, stopping, min(self._every_s, ANSWER_S)) or stopping.is_set():
                    break
                if self._lines.drop():
                    take(Refusal("cut-line", "half an answer, and nothing after it"))
            else:
                words = self._question.strip().decode("ascii")
                raise SensorError(f'nothing answers "{words}", asked {TRIES} times. {self._remedy}')
            self._listen(port, take, stopping, self._every_s - ANSWER_S)

    def _listen(self, port: Port, take: Take, stopping: threading.Event, span_s: float) -> bool:
        """Hand over what comes within about `span_s`. True if any line came."""
        heard, elapsed = False, 0.0
        while elapsed < span_s and not stopping.is_set():
            chunk = port.read(CHUNK)
            for line in self._lines.feed(chunk):
                if line != self._question.strip():
                    heard = True
                    take(line)
            if len(chunk) < CHUNK:
                elapsed += port.timeout or READ_S
            else:
                stopping.wait(GATHER_S)
        return heard
