"""Vaisala WXT510, WXT520 and WXT530 weather transmitters, ASCII protocol: asked for their composite message, or sending
by themselves.

Pure: bytes in, readings out; asking stands in `asking.py`. A field that lost something on its way is left out alone.
Sources: Vaisala user guides M210470EN (WXT510), M210906EN (WXT520), M211840EN (WXT530). Their NMEA profile: `nmea`.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta

from edge_agent.config import Sensor
from edge_agent.errors import BadMessage
from edge_agent.observation import Reading
from edge_agent.sensors.asking import Ask
from edge_agent.sensors.driver import DriverSpec, Options, Pressure, Transport, options_of
from edge_agent.sensors.mapping import Count, number, uncounted
from edge_agent.variables import convert

# Letter after a number -> unit. A letter that is not in a field's table is no unit of it.
SPEED = {"M": "m/s", "K": "km/h", "S": "mph", "N": "kn"}
TEMPERATURE = {"C": "degC", "F": "degF"}
PRESSURE = {"H": "hPa", "P": "Pa", "B": "bar", "M": "mmHg", "I": "inHg"}
RAIN = {"M": "mm", "I": "in"}
RAIN_RATE = {"M": "mm/h", "I": "in/h"}

LONGEST = 1024  # characters of a message; one with every field has about 300
# A message, or a question with or without its checksum.
_HEAD = re.compile(r"([0-9A-Za-z])([Rr])[0-9]?(?:,(.*)|([@-\x7f]{3}))?")
_TEXT = re.compile(r"[0-9A-Za-z][Tt]X,")  # "0TX,Start-up", "0tX,Use chksum ..."
_VALUE = re.compile(r"([+-]?[0-9]{1,9}(?:\.[0-9]{1,9})?)?([A-Za-z#])")


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a message: the variable it is, and what the letter after its number can be."""

    variable: str
    units: dict[str, str]


FIELDS = {
    "Dm": Field("wind_direction", {"D": "degree"}),  # average over the averaging time
    "Sm": Field("wind_speed", SPEED),
    "Sx": Field("wind_gust", SPEED),  # largest in it
    "Ta": Field("temperature", TEMPERATURE),
    "Ua": Field("humidity", {"P": "%"}),
    "Pa": Field("pressure", PRESSURE),
    "Rc": Field("rain", RAIN),
    "Ri": Field("rain_rate", RAIN_RATE),
}
VOLTS = {"Vs": "supply", "Vh": "heating"}  # the letter after Vh says whether it heats
# Extremes of the direction, lulls, the transmitter's own temperatures, hail, durations, peaks, analog inputs.
UNUSED = frozenset(
    ["Dn", "Dx", "Sn", "Tp", "Th", "Rd", "Rp", "Hc", "Hd", "Hi", "Hp", "Vr", "Id", "Tr", "Ra", "Sr", "Sl"]
)


class WxtOptions(Options, frozen=True):
    """`poll_s`: seconds between questions, 0 for a transmitter that sends by itself. `address`: the transmitter's,
    empty for any (0 is asked). `crc`: ask for checksums, and refuse messages without one. `rain`: what Rc is, the total
    since a reset, or (counter reset mode "automatic") the rain since the message before."""

    poll_s: Annotated[float, Meta(ge=0, le=3600)] = 10.0
    address: Annotated[str, Meta(pattern=r"\A[0-9A-Za-z]?\Z")] = ""
    crc: bool = False
    rain: Literal["total", "increment"] = "total"


class VaisalaWxt:
    """Decodes the messages of one transmitter; where no address is given, of any on the line, each a device."""

    detects_cuts = True  # without its beginning a message has no address

    def __init__(self, sensor: Sensor) -> None:
        """Raises ConfigError as `options_of`."""
        self._options = options_of(sensor, WxtOptions)

    def decode(self, payload: bytes, count: Count = uncounted) -> list[Reading]:
        """The reading of one message; none for a blank line or the echo of a question.

        Raises:
            BadMessage: `too-large`, `not-text`, `not-wxt`, `device-text`, `bad-checksum`, `no-checksum`,
                `other-address` or `no-usable-value`.
        """
        line = payload.strip(b" \t\r\n\0")
        if not line:
            return []
        address, body = self._message(line)
        if body is None:
            return []
        parts = body.split(",")
        times = Counter(part.partition("=")[0] for part in parts)
        values: dict[str, float] = {}
        volts: dict[str, str | float] = {}
        for part in parts:
            name = part.partition("=")[0]
            try:
                if times[name] > 1:
                    raise BadMessage("bad-field", "a name that stands twice: two messages in one line")
                _read(part, values, volts)
            except BadMessage as error:
                count(error.reason)
        if not values and not volts:
            raise BadMessage("no-usable-value", "no field of it is a value of the weather")
        totals = {"rain": values.pop("rain")} if "rain" in values and self._options.rain == "total" else {}
        device = "" if address == (self._options.address or "0") else address
        return [Reading(values, totals=totals, battery=volts, device=device)]

    def _message(self, line: bytes) -> tuple[str, str | None]:
        """The address of a message and its fields, without its checksum; None for the echo of a question."""
        if len(line) > LONGEST:
            raise BadMessage("too-large", f"a message of more than {LONGEST} characters")
        text = line.decode("ascii", "replace")
        if not text.isascii() or not text.isprintable():
            raise BadMessage("not-text", "bytes that are no text: is the baud rate right?")
        if _TEXT.match(text):
            raise BadMessage("device-text", "the transmitter says something in words, as when it starts")
        head = _HEAD.fullmatch(text)
        if head is None or (head[4] and not sound(text)):
            raise BadMessage("not-wxt", f"{len(line)} characters that are no message of a WXT")
        address, letter, body, _ = head.groups()
        if body is None:
            return address, None
        if letter == "r":
            if not sound(text):
                raise BadMessage("bad-checksum", "a message that was damaged on its way")
            body = body[:-3]
        elif self._options.crc:
            raise BadMessage("no-checksum", "the option crc asks for one")
        if self._options.address not in ("", address):
            raise BadMessage("other-address", f'of the transmitter "{address}"; the option address chooses')
        return address, body


def crc(text: str) -> str:
    """The three characters that follow a message with a checksum.

    CRC-16 with the polynomial A001 (hex, reflected), beginning at 0, six bits a character, as SDI-12 1.3 section 4.4.12
    and appendix C of the WXT530 guide have it. Example: `0+3.14` is followed by `OqZ`.
    """
    remainder = 0
    for byte in text.encode("ascii"):
        remainder ^= byte
        for _ in range(8):
            remainder = remainder >> 1 ^ (0xA001 if remainder & 1 else 0)
    return "".join(chr(0x40 | bits & 0x3F) for bits in (remainder >> 12, remainder >> 6, remainder))


def sound(text: str) -> bool:
    """True if the last three characters are the checksum of those before."""
    return crc(text[:-3]) == text[-3:]


def _read(part: str, values: dict[str, float], volts: dict[str, str | float]) -> None:
    """Take one field, `Ta=23.6C`. Raises BadMessage: why it is left out."""
    name, _, raw = part.partition("=")
    if part.count("=") != 1:
        raise BadMessage("bad-field", "not one = in it: something is missing")
    if name in UNUSED:
        return
    field = FIELDS.get(name)
    if field is None and name not in VOLTS:
        raise BadMessage("unknown-field", "a name that no WXT uses")
    value = _VALUE.fullmatch(raw)
    if value is None:
        raise BadMessage("bad-field", "not a number and a letter: something is missing")
    digits, letter = value.groups()
    if letter == "#":
        raise BadMessage("missing", "the transmitter marks it as invalid")
    if digits is None:
        raise BadMessage("bad-field", "a letter without a number")
    if field is None:
        volts[VOLTS[name]] = number(digits)
        return
    unit = field.units.get(letter)
    if unit is None:
        raise BadMessage("bad-unit", f"{letter} is no unit of {field.variable}")
    values[field.variable] = number(convert(field.variable, number(digits), unit))


def _talk(sensor: Sensor) -> Ask | None:
    options = options_of(sensor, WxtOptions)
    if not options.poll_s:
        return None
    question = f"{options.address or '0'}{'r' if options.crc else 'R'}0"
    remedy = (
        f"Is the transmitter powered and wired, its address {options.address or '0'}, its protocol ASCII (0XU,M=P) and "
        f"{sensor.baud} baud right? If it sends by itself, set poll_s = 0 in [sensor.options]."
    )
    asked = question + crc(question) if options.crc else question
    return Ask(f"{asked}\r\n".encode("ascii"), options.poll_s, sensor.max_message_bytes, remedy)


DRIVERS = (
    DriverSpec(
        "vaisala_wxt",
        Transport.SERIAL,
        VaisalaWxt,
        "a Vaisala WXT510, WXT520 or WXT530 in its ASCII protocol",
        options=WxtOptions,
        talk=_talk,
        pressure=Pressure.STATION,
        stamps="on arrival",
        baud=19200,
    ),
)
