"""Plantower PMS5003, PMS7003 and PMSA003 particulate sensors: 32 bytes about every second, 9600 baud.

Pure: bytes in, readings out; sleeping and waking is `duty.py`. Source: Plantower, PMS5003 data manual V2.3, appendix I.
Ten lines of decoder: the library that is kept up for it drives the pins of a Raspberry Pi.
"""

from __future__ import annotations

import struct

from edge_agent.config import Sensor
from edge_agent.errors import BadMessage
from edge_agent.observation import Reading
from edge_agent.sensors.driver import DriverSpec, Pressure, Transport, options_of
from edge_agent.sensors.duty import Commands, DutyCycle, DutyOptions
from edge_agent.sensors.framing import Frames
from edge_agent.sensors.mapping import Count, uncounted

HEAD, LENGTH = b"BM\x00\x1c", 32  # 28 bytes follow the length


def sound(frame: bytes) -> bool:
    """Whether 32 bytes are a reading: their beginning, and the checksum (sum of the first 30)."""
    return len(frame) == LENGTH and frame[:4] == HEAD and sum(frame[:30]) == int.from_bytes(frame[30:], "big")


def command(code: int, data: int) -> bytes:
    """A command. Vector: sleep E4 0 -> 42 4D E4 00 00 01 73."""
    body = b"BM" + struct.pack(">BH", code, data)
    return body + struct.pack(">H", sum(body))


COMMANDS = Commands(wake=command(0xE4, 1) + command(0xE1, 1), sleep=command(0xE4, 0))


class Pms5003:
    """Decodes frames of one sensor."""

    detects_cuts = True  # a frame has a beginning and a checksum

    def __init__(self, sensor: Sensor) -> None:
        """Raises ConfigError: wrong options."""
        options_of(sensor, DutyOptions)

    def decode(self, payload: bytes, count: Count = uncounted) -> list[Reading]:
        """PM2.5 and PM10 in ug/m3 as in ambient air (the second three of the concentrations; the first three are for
        calibration dust).

        Raises:
            BadMessage: `bad-checksum`; `warming-up`: all concentrations and counts are 0; `device-error`: it reports a
                fault of its own.
        """
        if not sound(payload):
            raise BadMessage("bad-checksum", "32 bytes that are no reading")
        measured = struct.unpack(">12H", payload[4:28])
        if payload[29]:
            raise BadMessage("device-error", f"it reports error {payload[29]}: is its fan blocked?")
        if not any(measured):
            raise BadMessage("warming-up", "all values are 0")
        return [Reading({"pm2_5": float(measured[4]), "pm10": float(measured[5])})]


def _frames(sensor: Sensor) -> Frames:
    return Frames(HEAD, LENGTH, sound)


DRIVERS = (
    DriverSpec(
        "pms5003",
        Transport.SERIAL,
        Pms5003,
        "Plantower PMS5003, PMS7003, PMSA003 particulates: PM2.5 and PM10",
        options=DutyOptions,
        framer=_frames,
        talk=lambda sensor: DutyCycle(options_of(sensor, DutyOptions), COMMANDS, lambda: _frames(sensor)),
        binary=True,
        pressure=Pressure.NONE,
        stamps="on arrival",
        baud=9600,
    ),
)
