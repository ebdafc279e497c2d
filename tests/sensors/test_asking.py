"""A device that must be asked: what is sent, what is handed over, and when it is given up."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from edge_agent.errors import SensorError
from edge_agent.sensors.asking import ANSWER_S, CHUNK, TRIES, Ask
from edge_agent.sensors.framing import Refusal

QUESTION = b"0R0\r\n"


class ScriptedPort:
    """A port without a device: `reads` are what each read brings, then silence. `stop` is set after `most` reads."""

    timeout: float | None = 0.25

    def __init__(self, reads: list[bytes], stop: threading.Event, most: int = 1000) -> None:
        self._reads, self._stop, self._left = iter(reads), stop, most
        self.asked = 0

    def read(self, size: int = 1) -> bytes:
        self._left -= 1
        if self._left <= 0:
            self._stop.set()
        chunk = next(self._reads, b"")
        assert len(chunk) <= size
        return chunk

    def write(self, data: bytes) -> int:
        assert data == QUESTION
        self.asked += 1
        return len(data)

    def flush(self) -> None: ...

    def reset_input_buffer(self) -> None: ...


def converse(
    reads: list[bytes], every_s: float = 10.0, most: int = 1000
) -> tuple[ScriptedPort, list[bytes | Refusal], Callable[[], None]]:
    stop = threading.Event()
    port, taken = ScriptedPort(reads, stop, most), []
    talk = Ask(QUESTION, every_s, 512, "Is it wired?")
    return port, taken, lambda: talk.run(port, taken.append, stop)


def test_each_answer_is_handed_over_and_asked_for_once_a_period():
    period = [b"0R0,Ta=1.0C\r\n"] + [b""] * 39  # 10 s of reads of 0.25 s
    port, taken, run = converse(period * 3, most=3 * 40)
    run()
    assert taken == [b"0R0,Ta=1.0C"] * 3
    assert port.asked == 3


def test_answers_may_come_in_pieces_and_messages_unasked():
    _, taken, run = converse([b"0R0,Ta=1", b".0C\r", b"\n0R1,Sm=1.0M\r\n"], most=20)
    run()
    assert taken == [b"0R0,Ta=1.0C", b"0R1,Sm=1.0M"]


def test_a_device_that_never_answers_is_given_up_with_the_remedy():
    port, taken, run = converse([])
    with pytest.raises(SensorError, match=r'nothing answers "0R0", asked 3 times. Is it wired\?'):
        run()
    assert port.asked == TRIES and not taken


def test_an_echo_of_the_question_is_no_answer():
    _, taken, run = converse([QUESTION])
    with pytest.raises(SensorError):
        run()
    assert not taken


def test_half_an_answer_is_counted_and_does_not_spoil_the_next():
    silent = [b""] * round(ANSWER_S / 0.25 - 1)
    port, taken, run = converse([b"0R0,Ta=1", *silent, b"0R0,Ta=2.0C\r\n"], most=30)
    run()
    assert [part.reason if isinstance(part, Refusal) else part for part in taken] == ["cut-line", b"0R0,Ta=2.0C"]
    assert port.asked == 2


def test_noise_at_full_speed_ends_with_the_stop_and_takes_no_room():
    _, taken, run = converse([b"x" * CHUNK] * 50, most=50)
    run()
    assert [part.reason for part in taken if isinstance(part, Refusal)] == ["too-large"]


def test_told_to_stop_it_asks_nothing_more():
    port, _, run = converse([], most=1)
    run()
    assert port.asked == 1
