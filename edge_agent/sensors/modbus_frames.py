"""Modbus on the wire, RTU and TCP: checksums, questions and answers in bytes, and a recording cut into them.

Only what reading registers needs: functions 3 and 4. Pure, and bounded whatever comes. Source: Modbus Application
Protocol 1.1b3; Modbus over Serial Line 1.02, CRC-16 (polynomial A001 hex, first value FFFF, low byte first).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from edge_agent.sensors.framing import Refusal
from edge_agent.sensors.register_map import RegisterMap

LONGEST = 260  # bytes of a frame
_READS = (3, 4)
_REFUSED = 0x80  # added to the function in a refusal
_NOISE = 4 * LONGEST  # so many bytes without a frame are worth a word of their own

REFUSALS = {
    1: "it does not know this function",
    2: "it has no such registers",
    3: "it does not give so many registers",
    4: "it failed",
    5: "it needs longer",
    6: "it is busy",
    8: "its memory has a fault",
    10: "the gateway has no way to it",
    11: "it does not answer the gateway",
}


class Kind(Enum):
    """What a frame says."""

    QUESTION = "question"
    ANSWER = "answer"
    REFUSAL = "refusal"


class Part(Enum):
    """What stands at a place where no whole frame does."""

    NOTHING = "nothing"
    BEGUN = "begun"  # a frame may have begun, and its rest has not come
    DAMAGED = "damaged"  # a frame whose checksum is wrong


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame of `length` bytes. `data`: of a question address and count, of an answer the registers, of a refusal
    its code."""

    kind: Kind
    unit: int
    function: int
    data: bytes
    length: int

    def registers(self) -> tuple[int, ...]:
        """The registers of an answer."""
        return struct.unpack(f">{len(self.data) // 2}H", self.data)

    def asked(self) -> tuple[int, int]:
        """Address and count of a question."""
        address, count = struct.unpack(">HH", self.data)
        return address, count


def _table() -> tuple[int, ...]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ 0xA001 if value & 1 else value >> 1
        table.append(value)
    return tuple(table)


_CRC = _table()


def crc(data: bytes | bytearray) -> bytes:
    """The two bytes that end an RTU frame. Vector: 01 03 01 F4 00 0F -> 45 C0."""
    value = 0xFFFF
    for byte in data:
        value = value >> 8 ^ _CRC[(value ^ byte) & 0xFF]
    return value.to_bytes(2, "little")


def question(unit: int, function: int, address: int, count: int, tcp: bool) -> bytes:
    """Ask for `count` registers from `address` on."""
    return _wrap(struct.pack(">BBHH", unit, function, address, count), tcp)


def answer(unit: int, function: int, registers: list[int], tcp: bool) -> bytes:
    """The registers, each 0-65535."""
    return _wrap(struct.pack(f">BBB{len(registers)}H", unit, function, 2 * len(registers), *registers), tcp)


def refusal(unit: int, function: int, code: int, tcp: bool) -> bytes:
    """A device's no."""
    return _wrap(bytes((unit, function | _REFUSED, code)), tcp)


def _wrap(body: bytes, tcp: bool) -> bytes:
    return struct.pack(">HHH", 0, 0, len(body)) + body if tcp else body + crc(body)


def frame_at(data: bytes | bytearray, at: int, tcp: bool) -> Frame | Part:
    """The frame that begins at `at`, or what stands there instead."""
    return _tcp_at(data, at) if tcp else _rtu_at(data, at)


def _rtu_at(data: bytes | bytearray, at: int) -> Frame | Part:
    if len(data) - at < 3:
        return Part.BEGUN
    unit, function, third = data[at : at + 3]
    if not 1 <= unit <= 247:
        return Part.NOTHING
    found = Part.NOTHING
    for kind, length, body in _shapes(function, third):
        if at + length > len(data):
            found = Part.BEGUN
        elif crc(data[at : at + length - 2]) == data[at + length - 2 : at + length]:
            return Frame(kind, unit, function & ~_REFUSED, bytes(data[at + body : at + length - 2]), length)
        elif found is Part.NOTHING:
            found = Part.DAMAGED
    return found


def _shapes(function: int, third: int) -> Iterator[tuple[Kind, int, int]]:
    """What an RTU frame may be whose second and third byte are these: its kind, length and where its data begins."""
    if function in _READS:
        if third and third % 2 == 0 and third <= 250:
            yield Kind.ANSWER, 5 + third, 3
        yield Kind.QUESTION, 8, 2
    elif function & ~_REFUSED in _READS and third in REFUSALS:
        yield Kind.REFUSAL, 5, 2


def _tcp_at(data: bytes | bytearray, at: int) -> Frame | Part:
    """A frame behind the header of Modbus TCP. There is no checksum: lengths have to agree."""
    if len(data) - at < 9:
        return Part.BEGUN
    _, protocol, size, unit, function, third = struct.unpack_from(">HHHBBB", data, at)
    plain = function & ~_REFUSED
    if protocol != 0 or plain not in _READS:
        return Part.NOTHING
    if function & _REFUSED:
        kind, skip, right = Kind.REFUSAL, 8, size == 3 and third in REFUSALS
    elif size == 3 + third and third and third % 2 == 0 and third <= 250:
        kind, skip, right = Kind.ANSWER, 9, True
    else:
        kind, skip, right = Kind.QUESTION, 8, size == 6
    end = at + 6 + size
    if not right:
        return Part.NOTHING
    return Frame(kind, unit, plain, bytes(data[at + skip : end]), 6 + size) if end <= len(data) else Part.BEGUN


class ModbusFrames:
    """Cuts a recorded bus into messages: an answer or a refusal, behind its question where that is recorded too. Holds
    less than a few frames. RTU frames have no beginning one could look for: what is whole and has its checksum is one.
    """

    def __init__(self, known: RegisterMap, tcp: bool) -> None:
        self._known, self._tcp = known, tcp
        self._held = bytearray()
        self._question = b""
        self._noise, self._damaged = 0, False

    def feed(self, chunk: bytes) -> Iterator[bytes | Refusal]:
        """Messages that this chunk completes; refusals for damaged frames, noise, and questions without an answer."""
        for start in range(0, len(chunk), LONGEST):
            self._held += chunk[start : start + LONGEST]
            yield from self._cut()

    def skip(self) -> None:
        """Nothing to do: a frame is found by its checksum."""

    def drop(self) -> bool:
        """Forget a frame that was begun; True if there was one."""
        begun = bool(self._held)
        self._held.clear()
        return begun

    def _cut(self) -> Iterator[bytes | Refusal]:
        at, keep = 0, None
        while at < len(self._held):
            found = frame_at(self._held, at, self._tcp)
            if isinstance(found, Frame):
                yield from self._noted(at)
                yield from self._message(found, bytes(self._held[at : at + found.length]))
                del self._held[: at + found.length]
                at, keep = 0, None
                continue
            if found is Part.BEGUN:
                keep = at if keep is None else keep
                if self._expected(at) or len(self._held) - at < 9:
                    break
            elif found is Part.DAMAGED and keep is None and self._expected(at):
                self._damaged = True
                yield Refusal("bad-checksum", "a frame that was damaged on its way")
            at += 1
        gone = at if keep is None else keep
        gone = max(gone, len(self._held) - LONGEST)
        self._noise += gone
        del self._held[:gone]
        if self._noise >= _NOISE:
            yield from self._noted(0)

    def _expected(self, at: int) -> bool:
        """Whether what begins there looks like an answer of this device."""
        at += 6 if self._tcp else 0
        if len(self._held) - at < 3:
            return False
        return self._known.known(self._held[at + 1], self._held[at + 2] // 2) is not None

    def _noted(self, at: int) -> Iterator[Refusal]:
        noise, damaged = self._noise + at, self._damaged
        self._noise, self._damaged = 0, False
        if noise and not damaged:
            yield Refusal("noise", f"{noise} bytes between frames")

    def _message(self, frame: Frame, raw: bytes) -> Iterator[bytes | Refusal]:
        question, self._question = self._question, b""
        if frame.kind is not Kind.QUESTION:
            yield question + raw
            return
        self._question = raw
        if question:
            yield Refusal("no-answer", "a question, and the next one without an answer between")
