"""Nova SDS011 particulate sensor: ten bytes a second, 9600 baud.

Pure: bytes in, readings out; sleeping and waking is `duty.py`. Source: Nova Fitness, SDS011 control protocol V1.3. Ten
lines of decoder: the libraries for it open the port themselves and have not been kept up.
"""

from __future__ import annotations

from edge_agent.config import Sensor
from edge_agent.errors import BadMessage
from edge_agent.observation import Reading
from edge_agent.sensors.driver import DriverSpec, Pressure, Transport, options_of
from edge_agent.sensors.duty import Commands, DutyCycle, DutyOptions
from edge_agent.sensors.framing import Frames
from edge_agent.sensors.mapping import Count, uncounted

HEAD, TAIL, READING, LENGTH = b"\xaa\xc0", 0xAB, 0xC0, 10


def sound(frame: bytes) -> bool:
    """Whether ten bytes are a reading: their ends, and the checksum (sum of bytes 2 to 7)."""
    return len(frame) == LENGTH and frame[:2] == HEAD and frame[9] == TAIL and sum(frame[2:8]) & 0xFF == frame[8]


def command(*data: int) -> bytes:
    """A command to all sensors. Vector: sleep 06 01 00 -> AA B4 06 01 00 (10 x 00) FF FF 05 AB."""
    body = bytes((*data, *bytes(13 - len(data)), 0xFF, 0xFF))
    return b"\xaa\xb4" + body + bytes((sum(body) & 0xFF, TAIL))


COMMANDS = Commands(wake=command(6, 1, 1) + command(2, 1, 0), sleep=command(6, 1, 0))


class Sds011:
    """Decodes frames of one sensor."""

    detects_cuts = True  # a frame has a beginning, an end and a checksum

    def __init__(self, sensor: Sensor) -> None:
        """Raises ConfigError: wrong options."""
        options_of(sensor, DutyOptions)

    def decode(self, payload: bytes, count: Count = uncounted) -> list[Reading]:
        """PM2.5 and PM10, each a 16-bit count of 0.1 ug/m3, low byte first.

        Raises:
            BadMessage: `bad-checksum`, or `warming-up`: both are 0, as while the fan starts.
        """
        if not sound(payload):
            raise BadMessage("bad-checksum", "ten bytes that are no reading")
        fine, coarse = (int.from_bytes(payload[at : at + 2], "little") / 10 for at in (2, 4))
        if fine == coarse == 0:
            raise BadMessage("warming-up", "all values are 0")
        return [Reading({"pm2_5": fine, "pm10": coarse})]


def _frames(sensor: Sensor) -> Frames:
    return Frames(HEAD, LENGTH, sound)


DRIVERS = (
    DriverSpec(
        "sds011",
        Transport.SERIAL,
        Sds011,
        "Nova SDS011 particulates: PM2.5 and PM10",
        options=DutyOptions,
        framer=_frames,
        talk=lambda sensor: DutyCycle(options_of(sensor, DutyOptions), COMMANDS, lambda: _frames(sensor)),
        binary=True,
        pressure=Pressure.NONE,
        stamps="on arrival",
        baud=9600,
    ),
)
