"""`edge-agent sniff` on real pseudo-terminals: what is there is made out, and nothing is sent unasked."""

from __future__ import annotations

import os
import socket
import threading
import tomllib
import tty
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
from click.testing import CliRunner, Result

from edge_agent.cli import main
from edge_agent.observation import Reading
from edge_agent.sensors import DRIVERS
from edge_agent.sensors.driver import DriverSpec, Transport
from edge_agent.sensors.framing import Frames
from edge_agent.sensors.mapping import Count, uncounted

pytestmark = pytest.mark.system


class Device:
    """The other end of a line. `heard`: what was sent to it."""

    def __init__(self, path: str, end: int) -> None:
        self.path, self.heard = path, bytearray()
        self._end, self._stop = end, threading.Event()

    @contextmanager
    def living(self, says: bytes, answers: dict[bytes, bytes]) -> Iterator[Device]:
        """Says a few bytes every few milliseconds and answers what it knows."""
        thread = threading.Thread(target=self._live, args=(says, answers))
        thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            thread.join()

    def _live(self, says: bytes, answers: dict[bytes, bytes]) -> None:
        os.set_blocking(self._end, False)
        while not self._stop.wait(0.02):
            try:
                if says:
                    os.write(self._end, says)
                self.heard += os.read(self._end, 100)
            except BlockingIOError:
                continue
            for question, answer in answers.items():
                if self.heard.endswith(question):
                    os.write(self._end, answer)


@pytest.fixture
def device() -> Iterator[Device]:
    ends = os.openpty()
    tty.setraw(ends[1])  # no echo before somebody opens it
    yield Device(os.ttyname(ends[1]), ends[0])
    for end in ends:
        os.close(end)


def sniff(device: Device, *words: str, says: bytes = b"", answers: dict[bytes, bytes] | None = None) -> Result:
    with device.living(says, answers or {}):
        return CliRunner().invoke(main, ["sniff", device.path, "--seconds", "0.4", *words])


def block_of(result: Result) -> dict[str, object]:
    text = result.stdout[result.stdout.index("[[sensor]]") :]
    (sensor,) = tomllib.loads(text)["sensor"]
    return sensor


class Blips:
    detects_cuts = True

    def decode(self, payload: bytes, count: Count = uncounted) -> list[Reading]:
        return [Reading({"temperature": payload[2] / 10})]


@pytest.fixture
def blips(monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver of frames with a checksum."""
    spec = DriverSpec(
        "blips",
        Transport.SERIAL,
        lambda sensor: Blips(),
        "for these tests",
        framer=lambda sensor: Frames(b"\xa5\x5a", 4, lambda frame: sum(frame[:3]) % 256 == frame[3]),
        binary=True,
    )
    monkeypatch.setitem(DRIVERS, "blips", spec)


def test_a_driver_that_reads_what_comes_is_named_with_a_block_for_the_configuration(device, blips):
    frame = bytes([0xA5, 0x5A, 215])
    result = sniff(device, says=b"\x00" + frame + bytes([sum(frame) % 256]))
    assert result.exit_code == 0 and "temperature 21.50 degC" in result.stdout
    assert block_of(result) == {"name": "station", "driver": "blips", "port": device.path, "baud": 9600}
    assert not device.heard


def test_json_is_shown_with_what_could_be_mapped(device):
    result = sniff(device, "--baud", "115200", says=b'{"temp": 21.5, "hum": 45, "n": 1}\r\n')
    assert result.exit_code == 0 and '{"temp": 21.5, "hum": 45, "n": 1}' in result.stdout
    sensor = block_of(result)
    assert sensor["driver"] == "json_lines" and sensor["baud"] == 115200
    assert sensor["map"] == {
        "temp": {"variable": "temperature", "unit": "degC"},
        "hum": {"variable": "humidity", "unit": "%"},
    }


def test_separated_values_are_shown_with_their_columns(device):
    result = sniff(device, says=b"21.5;45;965.2\n")
    assert block_of(result)["driver"] == "csv_lines" and block_of(result)["delimiter"] == ";"


def test_other_text_is_shown_and_control_characters_are_not(device):
    result = sniff(device, "--baud", "9600", says=b"hello \x1b[31m there\n")
    assert result.exit_code == 0 and "No driver reads it" in result.stdout and "\x1b" not in result.stdout


def test_noise_is_nothing_known(device):
    result = sniff(device, "--baud", "9600", says=bytes(range(128, 256)))
    assert result.exit_code == 1 and "nothing known" in result.stdout


def test_silence_is_told_with_what_to_look_at_and_nothing_is_sent(device):
    result = sniff(device, "--baud", "9600")
    assert result.exit_code == 1 and "silence" in result.stdout and "--ask" in result.stdout
    assert not device.heard


@pytest.mark.parametrize(
    ("answers", "driver"),
    [({b"\n": b"\n\r"}, "davis_vantage"), ({b"?\r\n": b"0\r\n"}, "vaisala_wxt")],
)
def test_a_device_that_waits_is_woken_when_asked_to(device, answers, driver):
    result = sniff(device, "--baud", "19200", "--ask", answers=answers)
    assert result.exit_code == 0 and block_of(result)["driver"] == driver
    assert set(bytes(device.heard)) <= set(b"\n?\r")


def test_a_port_that_is_not_there_is_told(tmp_path):
    result = CliRunner().invoke(main, ["sniff", str(tmp_path / "no-such-port")])
    assert result.exit_code == 1 and "is it there" in result.stderr


def test_tcp_is_listened_to_without_a_baud():
    server = socket.create_server(("127.0.0.1", 0))
    done = threading.Event()

    def serve() -> None:
        connection, _ = server.accept()
        with connection, suppress(OSError):
            while not done.wait(0.02):
                connection.sendall(b'{"temp": 21.5}\n')

    thread = threading.Thread(target=serve)
    thread.start()
    result = CliRunner().invoke(main, ["sniff", f"tcp://127.0.0.1:{server.getsockname()[1]}", "--seconds", "0.4"])
    done.set()
    thread.join()
    server.close()
    assert result.exit_code == 0 and "baud" not in block_of(result)
