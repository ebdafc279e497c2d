"""What a Davis Vantage console sends: LOOP and LOOP2 packets, pages of its archive, and how they stand in a stream.

Pure: bytes in, values out. Source: Davis Instruments, Serial Communication Reference Manual (2.3 and 2.6.1), sections
IX and X. All numbers are little-endian, except checksums.
"""

from __future__ import annotations

import re
import struct
from binascii import crc_hqx
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from edge_agent.sensors.framing import Refusal
from edge_agent.sensors.mapping import Count
from edge_agent.variables import conversion

MARKER, PACKET = b"LOO", 99
PAGE, RECORD, RECORDS = 267, 52, 5
LOOP, LOOP2 = 0, 1  # a packet's type, at byte 4
REVISION_B = 0x00  # a record's type, at byte 42; an unused record and one of revision A have 0xFF there
PERIODS = (1, 5, 10, 15, 30, 60, 120)  # minutes: what an archive interval may be
UNUSED = 0xFFFF  # the date of a record that was never written

_I16 = frozenset({0x7FFF, -0x8000})
_U16 = frozenset({0x7FFF, 0xFFFF})
_U8 = frozenset({0xFF})
_NO_PRESSURE = frozenset({0, 0x7FFF, 0xFFFF})
_NO_DIRECTION = frozenset({0, 0x7FFF, 0xFFFF})  # north is 360


@dataclass(frozen=True, slots=True)
class Field:
    """Bytes of a packet: `code` as in `struct`, at `at`; (raw + `shift`) * `scale` in `unit`; `dashes`: no value."""

    variable: str
    at: int
    code: str
    unit: str
    dashes: frozenset[int]
    scale: float = 1.0
    shift: float = 0.0


_TEMPERATURE = Field("temperature", 12, "<h", "degF", _I16, 0.1)
_BAROMETER = Field("pressure_msl", 7, "<H", "inHg", _NO_PRESSURE, 0.001)
_BOTH = (
    _BAROMETER,
    _TEMPERATURE,
    Field("humidity", 33, "<B", "%", _U8),
    # what the anemometer counted in the last 2.5 s: the largest in an interval is its gust
    Field("wind_gust", 14, "<B", "mph", _U8),
    Field("wind_direction", 16, "<H", "degree", _NO_DIRECTION),
    Field("uv_index", 43, "<B", "1", _U8, 0.1),
    Field("solar_radiation", 44, "<H", "W/m2", _U16),
)
LOOP_WIND = Field("wind_speed", 15, "<B", "mph", _U8)  # mean of 10 minutes, whole mph
LOOP_FIELDS = (*_BOTH, Field("soil_temperature", 25, "<B", "degF", _U8, shift=-90))
LOOP2_FIELDS = (
    *_BOTH,
    Field("wind_speed", 18, "<H", "mph", _U16, 0.1),  # mean of 10 minutes
    Field("dew_point", 30, "<h", "degF", _I16 | {255}),
    Field("pressure", 67, "<H", "inHg", _NO_PRESSURE, 0.001),  # at the station
)
RECORD_FIELDS = (
    Field("temperature", 4, "<h", "degF", _I16, 0.1),
    Field("pressure_msl", 14, "<H", "inHg", _NO_PRESSURE, 0.001),
    Field("solar_radiation", 16, "<H", "W/m2", _U16),
    Field("humidity", 23, "<B", "%", _U8),
    Field("wind_speed", 24, "<B", "mph", _U8),  # mean of the interval
    Field("wind_gust", 25, "<B", "mph", _U8),  # largest in the interval
    Field("uv_index", 28, "<B", "1", _U8, 0.1),
    Field("soil_temperature", 38, "<B", "degF", _U8, shift=-90),
)
RAIN_RATE = Field("rain_rate", 41, "<H", "mm/h", frozenset({0xFFFF}))  # clicks an hour
DAY_RAIN = Field("rain", 50, "<H", "mm", frozenset({0xFFFF}))  # clicks since midnight
YEAR_RAIN = Field("rain", 54, "<H", "mm", frozenset({0xFFFF}))  # clicks since the rain year began
RECORD_RAIN = Field("rain", 10, "<H", "mm", frozenset({0xFFFF}))  # clicks in the interval


def sound(data: bytes) -> bool:
    """True if the checksum at its end (CRC-CCITT, polynomial 0x1021, start 0) is that of the bytes before it."""
    return crc_hqx(data, 0) == 0


def with_crc(data: bytes) -> bytes:
    """The bytes with their checksum, more significant byte first: C6 CE A2 03 -> C6 CE A2 03 E2 B4."""
    return data + crc_hqx(data, 0).to_bytes(2, "big")


def raw(data: bytes, field: Field) -> int | None:
    """A field's number; None where the console shows dashes."""
    (value,) = struct.unpack_from(field.code, data, field.at)
    return None if value in field.dashes else int(value)


def values_of(data: bytes, fields: Iterable[Field], count: Count) -> dict[str, float]:
    """What the fields hold, in the vocabulary's units; dashes are counted as `dashed`."""
    found = {}
    for field in fields:
        value = raw(data, field)
        if value is None:
            count("dashed")
            continue
        factor, offset = conversion(field.variable, field.unit)
        found[field.variable] = (value + field.shift) * field.scale * factor + offset
    return found


def records_of(page: bytes) -> list[bytes]:
    """The written records of a page, in its order."""
    records = [page[1 + n * RECORD : 1 + (n + 1) * RECORD] for n in range(RECORDS)]
    return [record for record in records if int.from_bytes(record[:2], "little") != UNUSED]


def stamp_of(record: bytes) -> datetime | None:
    """The end of a record's interval on the console's clock; None where no clock shows that.

    Date = day + 32 * month + 512 * (year - 2000), time = 100 * hour + minute.
    """
    date, time = struct.unpack_from("<HH", record)
    try:
        return datetime(2000 + (date >> 9), date >> 5 & 15, date & 31, time // 100, time % 100)
    except ValueError:
        return None


def stamp_bytes(stamp: datetime) -> bytes:
    """A time as a record has it."""
    date = stamp.day + 32 * stamp.month + 512 * (stamp.year - 2000)
    return struct.pack("<HH", date, 100 * stamp.hour + stamp.minute)


# A packet's marker, or what may begin a page: any number, a day that is not 0, an hour below 24.
_HEAD = re.compile(rb"LOO|.[\x01-\x1f\x21-\x3f\x41-\x5f\x61-\x7f\x81-\x9f\xa1-\xbf\xc1-\xdf\xe1-\xff]..[\0-\x09]", re.S)
_HEAD_BYTES = 5
_BETWEEN = b"\x06\n\r"  # an acknowledgement, an answer to waking: no noise


class VantageFrames:
    """A recorded stream cut into packets and archive pages. Holds less than two pages.

    A packet has a marker and a checksum; a page has a checksum, and five records whose times can be.
    """

    def __init__(self) -> None:
        self._held = bytearray()
        self._noise = 0
        self._told = False  # this stretch of noise

    def feed(self, chunk: bytes) -> Iterator[bytes | Refusal]:
        """Packets and pages that this chunk completes; a refusal for each packet that is not sound, and one for each
        stretch of noise: before the next message, or as soon as it is longer than a page."""
        for start in range(0, len(chunk), PAGE):
            self._held += chunk[start : start + PAGE]
            yield from self._cut()

    def skip(self) -> None:
        """Nothing to do: the next message is found by what it looks like."""

    def drop(self) -> bool:
        """Forget a message that was begun, or noise that was not told of; True if there was any."""
        begun = len(self._held) >= _HEAD_BYTES or (self._noise > 0 and not self._told)
        self._held.clear()
        self._noise, self._told = 0, False
        return begun

    def _cut(self) -> Iterator[bytes | Refusal]:
        while True:
            head = _HEAD.search(self._held)
            self._pass_over(head.start() if head else max(len(self._held) - _HEAD_BYTES + 1, 0))
            if self._noise > PAGE and not self._told:
                self._told = True
                yield Refusal("noise", f"more than {PAGE} bytes that are no message")
            if head is None:
                return
            length = self._length()
            if length is None:
                return  # not all of it is here
            if length:
                if self._noise and not self._told:
                    yield Refusal("noise", f"{self._noise} bytes between messages")
                self._noise, self._told = 0, False
                yield bytes(self._held[:length])
                del self._held[:length]
                continue
            if self._held.startswith(MARKER):
                yield Refusal("bad-checksum", "a packet that was damaged on its way")
            self._pass_over(1)

    def _length(self) -> int | None:
        """Of the message that the held bytes begin with; 0 if they begin with none, None while it cannot be told."""
        held = bytes(self._held[:PAGE])
        if held.startswith(MARKER):
            if len(held) < PACKET:
                return None
            if sound(held[:PACKET]):
                return PACKET
        if not _may_be_page(held):
            return 0
        if len(held) < PAGE:
            # a damaged packet is more likely than a page that begins as one
            return 0 if held.startswith(MARKER) else None
        return PAGE if sound(held) else 0

    def _pass_over(self, n: int) -> None:
        self._noise += len(self._held[:n].translate(None, _BETWEEN))
        del self._held[:n]


def _may_be_page(held: bytes) -> bool:
    """False once a record in what is held cannot be one, or the first is not written."""
    for n in range(RECORDS):
        record = held[1 + n * RECORD : 1 + (n + 1) * RECORD]
        unused = record[:2] == b"\xff\xff"
        if len(record) >= 4 and not (n and unused) and stamp_of(record) is None:
            return False
        if len(record) > 42 and record[42] not in (REVISION_B, 0xFF):
            return False
    return True
