"""A Davis Vantage console that is none: speaks the protocol on a pseudo-terminal or a TCP socket, with real faults.

Written from the manual; nothing of the driver is in it, save how a checksum is appended.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from edge_agent.sensors.vantage_packets import with_crc

ACK, NAK, CANCEL = b"\x06", b"\x15", b"\x1b"


def loop(number: int = 0, **fields: int) -> bytes:
    """A LOOP packet: dashes everywhere but in `fields` (raw numbers)."""
    known = {"bar": (7, "<H"), "temperature": (12, "<h"), "wind": (14, "<B"), "wind10": (15, "<B")}
    known |= {"direction": (16, "<H"), "soil": (25, "<B"), "humidity": (33, "<B"), "rate": (41, "<H"), "uv": (43, "<B")}
    known |= {"solar": (44, "<H"), "day": (50, "<H"), "year": (54, "<H"), "low": (86, "<B"), "volts": (87, "<H")}
    return _packet(0, number, known, fields)


def loop2(number: int = 0, **fields: int) -> bytes:
    """A LOOP2 packet, as `loop`."""
    known = {"bar": (7, "<H"), "temperature": (12, "<h"), "wind": (14, "<B"), "direction": (16, "<H")}
    known |= {"wind10": (18, "<H"), "dew": (30, "<h"), "humidity": (33, "<B"), "rate": (41, "<H"), "uv": (43, "<B")}
    known |= {"solar": (44, "<H"), "day": (50, "<H"), "absolute": (67, "<H")}
    return _packet(1, number, known, fields)


def _packet(kind: int, number: int, known: dict[str, tuple[int, str]], fields: dict[str, int]) -> bytes:
    data = bytearray(b"\xff" * 95 + b"\n\r")
    data[:7] = struct.pack("<3sbBH", b"LOO", 0, kind, number)
    for at, code in known.values():
        if code == "<h":
            struct.pack_into(code, data, at, 0x7FFF)
    struct.pack_into("<H", data, 7, 0)
    struct.pack_into("<BH", data, 86, 0, 0)
    for name, value in fields.items():
        at, code = known[name]
        struct.pack_into(code, data, at, value)
    return with_crc(bytes(data))


def record(at: datetime, temperature: int = 680, clicks: int = 0, **bytes_at: int) -> bytes:
    """A revision B record of that civil time: tenths of a degree Fahrenheit, clicks of rain; `b24=7` sets byte 24."""
    data = bytearray(b"\xff" * 52)
    date = at.day + 32 * at.month + 512 * (at.year - 2000)
    struct.pack_into(
        "<HHhhhHHHH", data, 0, date, 100 * at.hour + at.minute, temperature, -32768, 32767, clicks, 0, 0, 32767
    )
    data[42] = 0
    for name, value in bytes_at.items():
        data[int(name[1:])] = value
    return bytes(data)


def page(number: int, records: Sequence[bytes]) -> bytes:
    """An archive page; unused records are all FF."""
    body = b"".join(records).ljust(5 * 52, b"\xff")
    return with_crc(bytes([number % 256]) + body + b"\xff" * 4)


@dataclass
class Faults:
    """What goes wrong, each so often: `deaf` wake-ups unheard; `refuse` commands by their first word answered with NAK;
    `mute` commands not answered; `spoil_pages`, `spoil_packets`, `spoil_answers` sent damaged; `cut_packets` sent half.
    `silent`: no packets at all; `never_awake`: hears nothing; `old`: knows no LPS; `slow_pages`: pages never come;
    `pages_left`: so many of an archive, and then none."""

    deaf: int = 0
    refuse: dict[bytes, int] = field(default_factory=dict)
    mute: dict[bytes, int] = field(default_factory=dict)
    spoil_pages: int = 0
    spoil_packets: int = 0
    spoil_answers: int = 0
    cut_packets: int = 0
    silent: bool = False
    never_awake: bool = False
    old: bool = False
    slow_pages: bool = False
    pages_left: int = 999


class Console:
    """The console's head: bytes in, bytes out. `archive`: (records in their order). `clock`: its civil time."""

    def __init__(
        self, clock: datetime, archive: Sequence[bytes] = (), *, setup: int = 0x10, period_min: int = 5
    ) -> None:
        self.clock, self.archive, self.setup, self.period_min = clock, list(archive), setup, period_min
        self.faults = Faults()
        self.asked: list[bytes] = []  # every command that was heard
        self.stamps: list[bytes] = []  # every stamp that came after DMPAFT
        self.fields: dict[str, int] = {"temperature": 680}  # of the packets it sends
        self.sent = 0  # packets
        self._heard = b""
        self._left = 0  # packets of this batch
        self._both = False
        self._pages: list[bytes] | None = None
        self._at = 0

    def hears(self, data: bytes) -> bytes:
        """Its answer."""
        if self.faults.never_awake:
            return b""
        self._heard += data
        answer = b""
        while self._heard:
            taken, said = self._take(self._heard)
            if not taken:
                break
            answer += said
            self._heard = self._heard[taken:]
        return answer

    def says(self) -> bytes:
        """What it sends by itself, called every few milliseconds."""
        if not self._left or self.faults.silent:
            return b""
        self._left -= 1
        self.sent += 1
        second = self._both and self.sent % 2 == 0
        data = (
            loop2(self.sent, absolute=29000, wind10=50, **self._known("temperature"))
            if second
            else loop(self.sent, **self.fields)
        )
        if self._spend("spoil_packets"):
            return data[:50] + bytes([data[50] ^ 1]) + data[51:]
        return data[:40] if self._spend("cut_packets") else data

    def _known(self, *names: str) -> dict[str, int]:
        return {name: self.fields[name] for name in names if name in self.fields}

    def _spend(self, fault: str) -> bool:
        left = getattr(self.faults, fault)
        if left:
            setattr(self.faults, fault, left - 1)
        return bool(left)

    def _take(self, heard: bytes) -> tuple[int, bytes]:
        """How many bytes it understood, and its answer."""
        if self._pages is not None:
            return self._in_archive(heard)
        if heard[:1] in (CANCEL, ACK):
            return 1, b""
        if heard[:1] == b"\n":
            self._left = 0
            return 1, b"" if self._spend("deaf") else b"\n\r"
        end = heard.find(b"\n")
        if end < 0:
            return 0, b""
        command = heard[:end]
        self.asked.append(command)
        return end + 1, self._command(command)

    def _command(self, command: bytes) -> bytes:
        word = command.split(b" ")[0]
        for faults, said in ((self.faults.refuse, NAK), (self.faults.mute, b"")):
            if faults.get(word):
                faults[word] -= 1
                return said
        if word == b"GETTIME":
            c = self.clock
            return self._answer(bytes([c.second, c.minute, c.hour, c.day, c.month, c.year - 1900]))
        if command == b"EEBRD 2B 03":
            return self._answer(bytes([self.setup, 1, self.period_min]))
        if word in (b"LOOP", b"LPS") and not (word == b"LPS" and self.faults.old):
            self._left, self._both = int(command.split(b" ")[-1]), word == b"LPS"
            return ACK
        if word == b"DMPAFT":
            self._pages = []
            return ACK
        return b"!"

    def _answer(self, data: bytes) -> bytes:
        whole = with_crc(data)
        return ACK + (bytes([whole[0] ^ 0x40]) + whole[1:] if self._spend("spoil_answers") else whole)

    def _in_archive(self, heard: bytes) -> tuple[int, bytes]:
        assert self._pages is not None
        if not self._pages:
            if len(heard) < 6:
                return 0, b""
            if with_crc(heard[:4]) != heard[:6]:
                self._pages = None
                return 6, b"\x18"
            self.stamps.append(heard[:4])
            return 6, self._open_archive(heard[:4])
        if heard[:1] == CANCEL:
            self._pages = None
            return 1, b""
        if heard[:1] == ACK:
            self._at += 1
        if self._at >= len(self._pages):
            self._pages = None
            return 1, b""
        if self.faults.slow_pages or self._at >= self.faults.pages_left:
            return 1, b""
        data = self._pages[self._at]
        return 1, data[:100] + bytes([data[100] ^ 8]) + data[101:] if self._spend("spoil_pages") else data

    def _open_archive(self, stamp: bytes) -> bytes:
        """Everything after the record with that stamp, in whole pages; everything where there is none."""
        at = [n for n, one in enumerate(self.archive) if one[:4] == stamp]
        first = at[0] + 1 if at else 0
        from_page = first // 5
        pages = [
            page(n, self.archive[5 * (n + from_page) :][:5]) for n in range(-(-len(self.archive) // 5) - from_page)
        ]
        if first >= len(self.archive):
            pages = []
        self._pages, self._at = pages or None, -1
        return ACK + with_crc(struct.pack("<HH", len(pages), first % 5))


class Plugged:
    """A console on a pseudo-terminal behind a path that stays the same, or on a TCP port (`path` = None)."""

    def __init__(self, console: Console, path: Path | None, packet_s: float = 0.01) -> None:
        self.console, self._path, self._packet_s = console, path, packet_s
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._server = socket.create_server(("127.0.0.1", 0)) if path is None else None
        self._ends: tuple[int, ...] = ()

    @property
    def port(self) -> str:
        """As a sensor's `port`."""
        if self._server is None:
            return str(self._path)
        return f"tcp://127.0.0.1:{self._server.getsockname()[1]}"

    def plug(self) -> None:
        self._stop.clear()
        if self._path is not None:
            self._ends = os.openpty()
            self._path.symlink_to(os.ttyname(self._ends[1]))
        self._thread = threading.Thread(target=self._pty if self._path is not None else self._tcp, daemon=True)
        self._thread.start()

    def unplug(self) -> None:
        if self._thread is None:
            return
        self._stop.set()
        self._thread.join()
        self._thread = None
        if self._path is not None:
            self._path.unlink()
            for end in self._ends:
                os.close(end)

    def close(self) -> None:
        self.unplug()
        if self._server is not None:
            self._server.close()

    def _pty(self) -> None:
        self._serve(self._ends[0], lambda data: os.write(self._ends[0], data), lambda: os.read(self._ends[0], 4096))

    def _tcp(self) -> None:
        assert self._server is not None
        self._server.settimeout(0.02)
        while not self._stop.is_set():
            with contextlib.suppress(TimeoutError):
                connection, _ = self._server.accept()
                with connection, contextlib.suppress(OSError):
                    self._serve(connection.fileno(), connection.sendall, lambda c=connection: c.recv(4096) or None)

    def _serve(self, fd: int, write, read) -> None:  # type: ignore[no-untyped-def]
        """Until unplugged, or the other side has gone."""
        while not self._stop.is_set():
            ready, _, _ = select.select([fd], [], [], self._packet_s)
            if ready:
                try:
                    data = read()
                except OSError:
                    data = b""
                if data is None:
                    return
                said = self.console.hears(data)
            else:
                said = self.console.says()
            if said:
                write(said)
