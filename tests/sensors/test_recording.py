"""Recordings as messages: the forms they come in, and that no bytes break them or take memory."""

from __future__ import annotations

import io
import json
import tracemalloc
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.sensors import DRIVERS
from edge_agent.sensors.driver import DriverSpec, Transport
from edge_agent.sensors.framing import Refusal
from edge_agent.sensors.json_lines import JsonLines
from edge_agent.sensors.recording import CHUNK, Piece, pieces, split_topic

BINARY = DriverSpec("blips", Transport.SERIAL, JsonLines, "for these tests", binary=True)
SERIAL, MQTT, HTTP = DRIVERS["json_lines"], DRIVERS["rtl_433"], DriverSpec("push", Transport.HTTP, JsonLines, "a test")


@dataclass
class Dribble:
    """A pipe that gives a few bytes at a time."""

    data: bytes
    size: int

    def read1(self, size: int = -1, /) -> bytes:
        part, self.data = self.data[: self.size], self.data[self.size :]
        return part


def parts(data: bytes, spec: DriverSpec, size: int = CHUNK, **more) -> list[Piece | Refusal]:
    return list(pieces(Dribble(data, size), spec, 8192, **more))


def joined(data: bytes, spec: DriverSpec, size: int = CHUNK) -> bytes:
    return b"".join(part.data for part in parts(data, spec, size) if isinstance(part, Piece))


@given(data=st.binary(max_size=300), size=st.integers(1, 50))
def test_raw_bytes_arrive_as_they_are(data, size):
    assume_raw = bytes([0, *data])  # a zero: no hex text
    assert joined(assume_raw, BINARY, size) == assume_raw


@given(data=st.binary(min_size=1, max_size=200), form=st.sampled_from(["", " ", ":", ", "]), width=st.integers(1, 32))
def test_hex_text_is_the_bytes_it_says_however_it_is_written(data, form, width):
    rows = [data[i : i + width] for i in range(0, len(data), width)]
    text = "\r\n".join(form.join(f"{byte:02X}" for byte in row) for row in rows)
    assert joined(text.encode(), BINARY) == data
    assert joined(text.lower().encode() + b"\n", BINARY) == data
    noted = "# a comment\n" + "\n".join(" ".join(f"0x{byte:02x}" for byte in row) + "  # row" for row in rows)
    assert joined(noted.encode(), BINARY) == data


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be"])
@pytest.mark.parametrize("size", [17, 20, CHUNK])
def test_a_text_that_windows_wrote_is_the_same_recording(encoding, size):
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    written = (mark + "12 fe\r\nff 00\r\n").encode(encoding)
    assert joined(written, BINARY, size) == b"\x12\xfe\xff\x00"
    told = [json.dumps({"t": n, "where": "Zürich"}, ensure_ascii=False) for n in (1, 2)]
    written = (mark + "\r\n".join(told)).encode(encoding)
    assert [part.data.decode() for part in parts(written, MQTT, size)] == told


def test_hex_lines_may_have_times_and_a_bad_one_is_counted():
    text = b"1714564800\taa bb\n1714564801.5\tcc\naa b\n1714564802\tdd\n2024-05-01T12:00:00\tee\n"
    found = parts(text, BINARY)
    assert [(p.data, p.t) for p in found if isinstance(p, Piece)] == [
        (b"\xaa\xbb", 1714564800.0),
        (b"\xcc", 1714564801.5),
        (b"\xdd", 1714564802.0),
    ]
    assert [p.reason for p in found if isinstance(p, Refusal)] == ["not-hex", "not-hex"]


def test_a_serial_text_without_times_is_a_stream():
    assert joined(b'\xef\xbb\xbf{"t": 1}\r{"t": 2}\r\n\n{"t"', SERIAL, 5) == b'{"t": 1}\r{"t": 2}\r\n\n{"t"'


def test_the_time_before_a_tab_is_when_the_line_came():
    found = parts(b'2024-05-01T12:00:00.250Z\t{"t": 1}\r\n1714564801\t{"t": 2}\nnoise\n', SERIAL)
    assert [(p.data, p.t) for p in found] == [
        (b'{"t": 1}\n', 1714564800.25),
        (b'{"t": 2}\n', 1714564801.0),
        (b"noise\n", None),
    ]
    (naive,) = parts(b'2024-05-01T12:00:00\t{"t": 1}\n', HTTP)
    assert isinstance(naive, Refusal) and naive.reason == "bad-time"


def test_seconds_since_the_start_stand_before_an_object_only():
    (found,) = parts(b'142112.25\t{"t": 1}\n', HTTP)
    assert (found.data, found.t, found.elapsed) == (b'{"t": 1}', None, 142112.25)
    assert joined(b"21.5\t60\n", DRIVERS["csv_lines"]) == b"21.5\t60\n"


def test_where_tabs_stand_between_values_none_ends_a_time():
    assert [p.data for p in parts(b"1714564800\t60\n", DRIVERS["csv_lines"], tabbed=True)] == [b"1714564800\t60\n"]


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("spec", [SERIAL, MQTT, HTTP])
def test_a_file_that_is_one_document_is_one_message(spec, indent):
    document = {"data": {"conditions": [{"temp": 62.7, "note": "a\nb"}]}, "error": None}
    text = json.dumps(document, indent=indent).encode()
    assert json.loads(joined(b"\n" + text + b"\n", spec, 7)) == document
    assert len(parts(text, spec)) == 1


def test_several_objects_are_several_messages():
    lines = b'{"a": 1}\n{"a": 2}\n\n{"a": 3'
    assert [p.data for p in parts(lines, HTTP)] == [b'{"a": 1}', b'{"a": 2}', b'{"a": 3']


@pytest.mark.parametrize(
    ("line", "topic", "payload"),
    [
        (b'tele/shed/SENSOR {"Time": "x y"}', b"tele/shed/SENSOR", b'{"Time": "x y"}'),
        (b'zigbee2mqtt/living room {"a": "b/c {"}', b"zigbee2mqtt/living room", b'{"a": "b/c {"}'),
        (b"a/sensor/b/state 21.5", b"a/sensor/b/state", b"21.5"),
        (b"a/sensor/b/state\t21.5", b"a/sensor/b/state", b"21.5"),
        (b"a/sensor/b c/state\t21.5 x", b"a/sensor/b c/state", b"21.5 x"),
        (b'{"a": "b/c {"}', b"", b'{"a": "b/c {"}'),
        (b"21.5", b"", b"21.5"),
        (b"21.5 degrees", b"", b"21.5 degrees"),
        (b"", b"", b""),
    ],
)
def test_a_topic_may_stand_before_a_message(line, topic, payload):
    assert split_topic(line) == (topic, payload)


@settings(max_examples=400)
@given(
    data=st.binary(max_size=400) | st.text("{}[]\t\n0aF:# /", max_size=200).map(str.encode),
    size=st.integers(1, 100),
    spec=st.sampled_from([BINARY, SERIAL, MQTT, HTTP]),
)
def test_any_bytes_end_in_pieces_and_refusals(data, size, spec):
    for part in parts(data, spec, size):
        assert isinstance(part, Refusal) or isinstance(part.data, bytes)


@pytest.mark.parametrize("spec", [BINARY, SERIAL, MQTT, HTTP])
@pytest.mark.parametrize("unit", [b"{", b"7", b"\xff", b"a\t", b'{"a": ['])
def test_a_line_without_an_end_takes_bounded_memory(spec, unit):
    size = 24 * 1024 * 1024
    stream = io.BytesIO(unit * (size // len(unit)))
    tracemalloc.start()
    for _ in pieces(stream, spec, 8192):
        pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 12 * 1024 * 1024
