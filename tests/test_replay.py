"""Recordings: read as they are, played at their pace, and what goes wrong said with its line."""

from __future__ import annotations

import gzip
import lzma
import os
import select
import threading
import tty
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.cli import main
from edge_agent.clock import ManualClock, ReplayClock, format_time
from edge_agent.errors import ConfigError, DataError, NetworkError, SensorError
from edge_agent.replay import Line, mqtt_writer, play, read_recording, serial_writer

START = 1_700_000_000


@pytest.fixture
def recording(tmp_path: Path) -> Callable[[bytes], Path]:
    def write(data: bytes, name: str = "recording.txt") -> Path:
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return write


def lines_of(path: Path) -> list[Line]:
    return list(read_recording(path))


def test_a_line_is_a_message_byte_for_byte(recording):
    path = recording(b'\xef\xbb\xbf{"t": 1}\r\n\n  \n\xff\x00 noise\n 1,2\t3 \nlast')
    assert lines_of(path) == [
        Line(b'{"t": 1}', None, 1),
        Line(b"\xff\x00 noise", None, 4),
        Line(b" 1,2\t3 ", None, 5),
        Line(b"last", None, 6),
    ]


@pytest.mark.parametrize("time", ["2023-11-14T22:13:20.5Z", "2023-11-14T23:13:20.5+01:00", "1700000000.5"])
def test_times_are_read_in_both_forms_with_their_fraction(recording, time):
    assert lines_of(recording(f"{time}\ta\tb\n".encode())) == [Line(b"a\tb", START + 0.5, 1)]


def test_columns_between_tabs_are_not_taken_for_times(recording):
    assert lines_of(recording(b"21.5\t60\n21.6\t61\n"))[0] == Line(b"21.5\t60", None, 1)


def test_packed_recordings_are_unpacked(recording):
    for name, pack in (("r.xz", lzma.compress), ("r.gz", gzip.compress)):
        assert lines_of(recording(pack(b"a\nb\n"), name)) == [Line(b"a", None, 1), Line(b"b", None, 2)]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"2023-11-14T22:13:20\ta\n", "line 1: .*no time zone"),
        (b"1700000000\ta\n\nsoon\tb\n", "line 3: .*not a time"),
        (b"1700000000\ta\nb\n", "line 2: no TAB"),
        (b"1700000000000\ta\n", "line 1: .*milliseconds"),
    ],
)
def test_a_wrong_line_is_named_by_its_number(recording, data, words):
    with pytest.raises(DataError, match=words):
        lines_of(recording(data))


@pytest.mark.parametrize("name", ["r.xz", "r.gz"])
def test_a_broken_archive_is_an_error_with_its_name(recording, name):
    pack = lzma.compress if name == "r.xz" else gzip.compress
    with pytest.raises(DataError, match=f"{name}.*cannot be read"):
        lines_of(recording(pack(os.urandom(10_000))[:5000], name))


class SteppingClock(ManualClock):
    """Time passes by waiting only: whoever asks how long to wait has waited."""

    def wall(self, span_s: float) -> float:
        self.advance(span_s)
        return 0.0


@given(st.lists(st.integers(0, 10_000), max_size=20).map(sorted))
def test_recorded_spacing_is_kept_on_the_clock_it_is_played_on(offsets: list[int]) -> None:
    clock = SteppingClock(START)
    written: list[tuple[bytes, float]] = []
    lines = [Line(str(offset).encode(), START + offset, i + 1) for i, offset in enumerate(offsets)]
    assert play(lines, lambda payload: written.append((payload, clock.now())), clock) == len(offsets)
    assert written == [(str(offset).encode(), START + offset) for offset in offsets]


def test_without_times_lines_come_a_second_apart() -> None:
    clock = SteppingClock(START)
    written: list[float] = []
    play([Line(b"x", None, i) for i in range(4)], lambda _: written.append(clock.now()), clock)
    assert written == [START, START + 1, START + 2, START + 3]


def test_lines_whose_time_has_passed_come_at_once_and_in_order() -> None:
    clock = SteppingClock(START)
    written: list[bytes] = []
    lines = [Line(b"a", START - 50, 1), Line(b"b", START - 90, 2), Line(b"c", START, 3)]
    assert play(lines, written.append, clock) == 3
    assert written == [b"a", b"b", b"c"] and clock.now() == START


def test_playing_can_be_stopped_in_the_middle_of_a_wait() -> None:
    stop = threading.Event()
    written: list[bytes] = []

    def write(payload: bytes) -> None:
        written.append(payload)
        stop.set()

    clock = ReplayClock(START)
    assert play([Line(b"a", START, 1), Line(b"b", START + 1e9, 2)], write, clock, stop) == 1
    assert written == [b"a"]


@pytest.fixture
def pty():
    """Both ends of a pseudo-terminal: the one to read from, and the path of the other."""
    here, there = os.openpty()
    tty.setraw(there)
    yield here, os.ttyname(there)
    for end in (here, there):
        os.close(end)


def read_lines(end: int, count: int) -> list[bytes]:
    got = b""
    while got.count(b"\n") < count and select.select([end], [], [], 10.0)[0]:
        got += os.read(end, 4096)
    return got.splitlines()


def test_the_command_plays_to_a_serial_line_at_any_speed(recording, pty):
    day = b"".join(f"{format_time(START + 600 * i)}\tline {i}\n".encode() for i in range(144))
    here, path = pty
    done = CliRunner().invoke(main, ["replay", str(recording(day)), "--port", path, "--speed", "100000"])
    assert done.exit_code == 0, done.output
    assert done.output == f"144 messages played to {path}\n"
    assert read_lines(here, 144) == [f"line {i}".encode() for i in range(144)]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "--port or --mqtt"),
        (["--port", "a", "--mqtt", "mqtt://b/c"], "--port or --mqtt"),
        (["--port", "a", "--speed", "0"], "must be above 0"),
        (["--port", "/nowhere/tty"], "cannot be opened"),
        (["--mqtt", "mqtt://localhost:1/raw"], "cannot be reached"),
    ],
)
def test_the_command_says_what_to_do(recording, options, words):
    done = CliRunner().invoke(main, ["replay", str(recording(b"a\n")), *options])
    assert done.exit_code == 1 and words in done.output


def test_an_empty_recording_is_said_to_be_empty(recording):
    done = CliRunner().invoke(main, ["replay", str(recording(b"\n\n")), "--port", "a"])
    assert done.exit_code == 1 and "no message in it" in done.output


def test_a_serial_line_that_goes_away_is_an_error_with_its_remedy():
    here, there = os.openpty()
    with pytest.raises(SensorError, match="open the pair again"), serial_writer(os.ttyname(there)) as write:
        write(b"a")
        os.close(here)
        os.close(there)
        write(b"b")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost",
        "mqtt://localhost",
        "mqtt:///topic",
        "http://h/t",
        "mqtt://h:x/t",
        "mqtt://u:p@h/t",
        "mqtt://h/a/+",
    ],
)
def test_an_address_that_is_none_is_refused_and_no_password_repeated(url):
    with pytest.raises(ConfigError, match="--mqtt") as caught, mqtt_writer(url):
        pass
    assert "u:p" not in str(caught.value)


def test_a_broker_that_is_not_there_is_an_error_with_its_remedy():
    with pytest.raises(NetworkError, match="is it running"), mqtt_writer("mqtt://localhost:1/raw"):
        pass
