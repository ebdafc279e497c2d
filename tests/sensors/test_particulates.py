"""SDS011 and PMS5003: frames, checksums, warming up, and the conversation that lets them sleep."""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_agent.errors import BadMessage, ConfigError, SensorError
from edge_agent.sensors import DRIVERS, pms5003, sds011
from edge_agent.sensors.framing import Refusal

SDS = bytes.fromhex("AA C0 D4 04 3A 0A A1 60 1D AB")  # the control protocol's own example


def pms(*values: int, error: int = 0) -> bytes:
    body = b"BM\x00\x1c" + struct.pack(">12H", *values, *([0] * (12 - len(values)))) + bytes((0x91, error))
    return body + struct.pack(">H", sum(body))


PMS = pms(9, 14, 16, 8, 13, 17, 1500, 420, 71, 8, 2, 1)


@pytest.fixture
def sensor(make_sensor) -> Callable[..., Any]:
    return lambda driver, **options: make_sensor(driver, {}, options=options)


def refused(decoder: Any, payload: bytes) -> str:
    with pytest.raises(BadMessage) as caught:
        decoder.decode(payload)
    return caught.value.reason


def test_the_published_commands():
    assert sds011.COMMANDS.sleep == bytes.fromhex("AA B4 06 01 00" + "00" * 10 + "FF FF 05 AB")
    assert sds011.COMMANDS.wake.startswith(bytes.fromhex("AA B4 06 01 01" + "00" * 10 + "FF FF 06 AB"))
    assert pms5003.command(0xE2, 0) == bytes.fromhex("42 4D E2 00 00 01 71")
    assert pms5003.command(0xE1, 0) == bytes.fromhex("42 4D E1 00 00 01 70")
    assert pms5003.COMMANDS.sleep == bytes.fromhex("42 4D E4 00 00 01 73")
    assert pms5003.COMMANDS.wake == bytes.fromhex("42 4D E4 00 01 01 74 42 4D E1 00 01 01 71")


@pytest.mark.parametrize(
    ("driver", "frame", "values"),
    [
        ("sds011", SDS, {"pm2_5": 123.6, "pm10": 261.8}),
        ("pms5003", PMS, {"pm2_5": 13.0, "pm10": 17.0}),  # in ambient air, not for calibration dust
    ],
)
def test_a_frame_is_a_reading(sensor, driver, frame, values):
    (reading,) = DRIVERS[driver].decoder(sensor(driver)).decode(frame)
    assert reading.values == values and reading.t is None


def test_zeros_are_a_sensor_that_warms_up(sensor):
    assert refused(DRIVERS["sds011"].decoder(sensor("sds011")), bytes.fromhex("AA C0 00 00 00 00 A1 60 01 AB")) == (
        "warming-up"
    )
    decoder = DRIVERS["pms5003"].decoder(sensor("pms5003"))
    assert refused(decoder, pms()) == "warming-up"
    (clean,) = decoder.decode(pms(0, 0, 0, 0, 0, 0, 27))  # clean air has small particles still
    assert clean.values == {"pm2_5": 0.0, "pm10": 0.0}
    assert refused(decoder, pms(9, error=2)) == "device-error"


@pytest.mark.parametrize(("driver", "frame"), [("sds011", SDS), ("pms5003", PMS)])
def test_a_lost_or_a_wrong_byte_costs_one_frame(sensor, driver, frame):
    decoder = DRIVERS[driver].decoder(sensor(driver))
    for at in range(len(frame)):
        wrong = bytes([*frame[:at], frame[at] ^ 0x41, *frame[at + 1 :]])
        assert refused(decoder, wrong) == "bad-checksum"
        found = list(DRIVERS[driver].framer(sensor(driver)).feed(frame + frame[:at] + frame[at + 1 :] + frame + frame))
        assert 2 <= found.count(frame) <= 3
    assert refused(decoder, frame[:-1]) == refused(decoder, b"") == "bad-checksum"


@pytest.mark.parametrize("driver", ["sds011", "pms5003"])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(parts=st.lists(st.sampled_from([SDS, PMS, b"\xaa\xc0", b"BM\0\x1c"]) | st.binary(max_size=40), max_size=12))
def test_noise_is_refused_and_nothing_else_happens(sensor, driver, parts):
    spec = DRIVERS[driver]
    decoder, framer = spec.decoder(sensor(driver)), spec.framer(sensor(driver))
    for message in [m for part in parts for m in framer.feed(part)] + parts:
        if isinstance(message, Refusal):
            continue
        try:
            (reading,) = decoder.decode(message)
        except BadMessage:
            continue
        assert set(reading.values) == {"pm2_5", "pm10"}


# --- sleeping and waking ---


class Particles:
    """A port with a sensor behind it that speaks while it is awake. Counts how often it was woken and sent to sleep."""

    timeout: float | None = 0.0

    def __init__(self, frame: bytes, commands: Any, *, deaf: bool = False) -> None:
        self._frame, self._commands, self._deaf = frame, commands, deaf
        self.awake = False
        self.woken = self.slept = 0

    def write(self, data: bytes) -> int:
        if data == self._commands.wake:
            self.woken, self.awake = self.woken + 1, not self._deaf
        else:
            assert data == self._commands.sleep
            self.slept, self.awake = self.slept + 1, False
        return len(data)

    def read(self, size: int = 1) -> bytes:
        return self._frame if self.awake else b""

    def flush(self) -> None:
        pass

    def reset_input_buffer(self) -> None:
        pass


def talk_to(port: Particles, sensor: Any, enough: Callable[[list[bytes | Refusal]], bool]) -> list[bytes | Refusal]:
    """Run the conversation until what came of it is enough."""
    came: list[bytes | Refusal] = []
    stopping = threading.Event()

    def take(message: bytes | Refusal) -> None:
        came.append(message)
        if enough(came):
            stopping.set()

    talk = DRIVERS[sensor.driver].talk
    assert talk is not None
    conversation = talk(sensor)
    assert conversation is not None
    conversation.run(port, take, stopping)
    return came


@pytest.mark.parametrize(
    ("driver", "frame", "commands"), [("sds011", SDS, sds011.COMMANDS), ("pms5003", PMS, pms5003.COMMANDS)]
)
def test_a_duty_cycle_wakes_warms_samples_and_sleeps(sensor, driver, frame, commands):
    port = Particles(frame, commands)
    duty = sensor(driver, duty_s=0.6, sample_s=0.05, warmup_s=0.05)
    came = talk_to(port, duty, lambda came: port.woken == 3)
    assert port.slept >= 2
    warming = [i for i, m in enumerate(came) if isinstance(m, Refusal)]
    assert {m.reason for m in came if isinstance(m, Refusal)} == {"warming-up"}
    assert came[0] == came[warming[0]] and frame in came  # each sample begins with what is not counted


def test_without_a_duty_cycle_it_is_woken_once_and_every_frame_counts(sensor):
    port = Particles(SDS, sds011.COMMANDS)
    assert talk_to(port, sensor("sds011"), lambda came: len(came) == 30)[:30] == [SDS] * 30
    assert (port.woken, port.slept) == (1, 0)


def test_a_sensor_that_does_not_wake_is_told(sensor):
    port = Particles(SDS, sds011.COMMANDS, deaf=True)
    with pytest.raises(SensorError, match="RX to TX"):
        talk_to(port, sensor("sds011", duty_s=1, sample_s=0.05, warmup_s=0.05), lambda came: False)


def test_a_sleeping_sensor_costs_no_processor_time(sensor):
    port = Particles(SDS, sds011.COMMANDS)
    stopping = threading.Event()
    talk = DRIVERS["sds011"].talk
    assert talk is not None
    conversation = talk(sensor("sds011", duty_s=3600, sample_s=0.02, warmup_s=0))
    assert conversation is not None
    thread = threading.Thread(target=conversation.run, args=(port, lambda message: None, stopping))
    thread.start()
    while not port.slept:
        time.sleep(0.01)
    before = time.process_time()
    time.sleep(0.5)
    assert time.process_time() - before < 0.2
    stopping.set()
    thread.join(5)
    assert not thread.is_alive()


@pytest.mark.parametrize("options", [{"duty_s": 30}, {"duty_s": -1}, {"sample_s": 0}, {"warmup_s": 1e9}, {"duty": 60}])
def test_duty_cycles_that_cannot_be_are_refused(sensor, options):
    with pytest.raises(ConfigError):
        DRIVERS["sds011"].decoder(sensor("sds011", **options))
