"""The conversation with a console whatever the other side says: it asks, gives up with a remedy, and never hangs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from unittest.mock import patch
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.errors import BadMessage, SensorError
from edge_agent.sensors import vantage_talk
from edge_agent.sensors.davis_vantage import Vantage
from edge_agent.sensors.framing import Refusal
from edge_agent.sensors.vantage_packets import with_crc
from edge_agent.sensors.vantage_talk import VantageTalk
from tests.sensors.test_davis_vantage import sensor
from tests.sensors.vantage_console import loop, loop2, page, record

NOON = datetime(2024, 7, 1, 12, 0)


class Script:
    """A port on which these pieces come, one after each thing written, whatever it was; then nothing more."""

    timeout: float | None = 0.25

    def __init__(self, pieces: list[bytes], stopping: threading.Event) -> None:
        self.pieces, self.stopping = list(pieces), stopping
        self.waits = self.written = 0
        self._coming = b""

    def read(self, size: int = 1) -> bytes:
        got, self._coming = self._coming[:size], self._coming[size:]
        self.waits += len(got) < size
        if self.waits > 2000:
            self.stopping.set()
        return got

    def write(self, data: bytes) -> int:
        self.written += 1
        if self.pieces:
            self._coming += self.pieces.pop(0)
        return len(data)

    def flush(self) -> None: ...

    def reset_input_buffer(self) -> None:
        self._coming = b""


@contextmanager
def small_batches() -> Iterator[None]:
    with patch.object(vantage_talk, "BATCH", 3), patch.object(vantage_talk, "BATCHES", 2):
        yield


answers = st.sampled_from(
    [
        b"\n\r",
        b"\x06",
        b"\x15",
        b"!",
        b"\x18",
        b"\x06" + with_crc(bytes([0x10, 1, 5])),
        b"\x06" + with_crc(bytes([0, 0, 12, 1, 7, 124])),
        b"\x06" + with_crc(bytes([0, 0, 12, 1, 7, 255])),
        b"\x06" + with_crc(b"\x02\0\0\0"),
        b"\x06" + with_crc(b"\xff\xff\0\0"),
        b"\x06" + with_crc(bytes(4)),
        page(0, [record(NOON)] * 5),
        page(1, [b"\xc6\xce\xff\x7f" + bytes(48)] * 5),
        b"\x06" + loop(temperature=1) + loop2(absolute=1) + loop(temperature=2),
        loop(temperature=1)[:50],
        b"LOO" * 100,
    ]
)


# what a console in good order says up to the second page of its archive, and then
ORDERLY = [
    b"\n\r",
    b"\x06" + with_crc(bytes([0x10, 1, 5])),
    b"\x06" + with_crc(bytes([0, 0, 12, 1, 7, 124])),
    b"\x06",
    b"\x06" + with_crc(b"\x03\0\x02\0"),
    page(0, [record(NOON)] * 5),
    page(1, [record(NOON)] * 5),
    page(2, [record(NOON)]),
    b"",
    b"\x06" + loop(temperature=1) + loop2(absolute=1) + loop(temperature=2),
]
orderly = st.integers(0, len(ORDERLY)).map(lambda n: ORDERLY[:n])
others = st.lists(st.one_of(answers, answers, st.binary(max_size=400)), max_size=40)


@settings(max_examples=300)
@given(
    st.tuples(orderly, others).map(lambda parts: parts[0] + parts[1]),
    st.one_of(st.none(), st.floats(0, 5e9)),
)
def test_whatever_the_other_side_says_it_ends_in_packets_or_in_a_remedy(pieces, newest):
    decoder = Vantage(sensor())
    stopping = threading.Event()
    port = Script(pieces, stopping)
    handed: list[bytes | Refusal] = []
    talk = VantageTalk(ZoneInfo("Europe/Zurich"), 60.0)
    talk.newest = lambda: newest
    try:
        with small_batches():
            talk.run(port, handed.append, stopping)
    except SensorError as error:
        assert not isinstance(error, BadMessage) and str(error).endswith((".", "?"))
    else:
        assert stopping.is_set()
    for message in handed:
        if isinstance(message, bytes):
            try:
                decoder.decode(message)
            except BadMessage:
                continue


def test_a_console_in_good_order_is_understood_to_the_end():
    stopping = threading.Event()
    handed: list[bytes | Refusal] = []
    with small_batches(), pytest.raises(SensorError, match="does not answer"):  # after the batch, as the script ends
        VantageTalk(ZoneInfo("UTC"), 60.0).run(Script(list(ORDERLY), stopping), handed.append, stopping)
    assert [m for m in handed if isinstance(m, bytes) and m.startswith(b"LOO")] == [
        loop(temperature=1),
        loop2(absolute=1),
        loop(temperature=2),
    ]


def test_each_wait_ends_by_itself():
    """Nothing ever comes: a bounded number of reads, each as long as the port's own wait."""
    stopping = threading.Event()
    port = Script([], stopping)
    with pytest.raises(SensorError, match="does not answer"):
        VantageTalk(ZoneInfo("UTC"), 60.0).run(port, lambda message: None, stopping)
    assert port.waits <= 3 * (1 + 1.2 / 0.25 + 1) and port.written == 5
