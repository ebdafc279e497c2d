"""The conversation with a Davis Vantage console: waking it, its archive since we last listened, packets in batches.

Source: Davis Instruments, Serial Communication Reference Manual (2.3 and 2.6.1), sections IV, VIII and X. Decodes no
weather. Every wait is a sum of the port's own short ones, so that `stop` is heard within one of them.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta, tzinfo

from edge_agent.errors import SensorError
from edge_agent.sensors import vantage_packets as packets
from edge_agent.sensors.civil import civil, in_order, instants
from edge_agent.sensors.davis_vantage import CLOCK, SETUP, archive_message, clock_of
from edge_agent.sensors.driver import Port
from edge_agent.sensors.framing import Frames, Refusal
from edge_agent.sensors.mapping import EARLIEST

ACK, NAK, CANCEL = b"\x06", b"\x15", b"\x1b"  # the manual writes NAK as 0x21; consoles take the decimal 21
AWAKE = b"\n\r"
TRIES = 3  # of everything that may be tried again
WAKE_S, ANSWER_S, SILENCE_S = 1.2, 2.0, 10.0
STRAY = 2048  # bytes that are no packet and end a batch: another program's, or another baud rate's
CHATTER = 256  # bytes in which an answer to waking is looked for
BATCH = 200  # packets asked for at once; consoles bound it, and do not say where
BATCHES = 8  # about an hour of packets: then the clock is asked again, and what was refused before
MOST_PAGES = 513  # of an archive that is full
LATEST = 4_980_000_000  # 2127: a stamp has seven bits for the year

Take = Callable[[bytes | Refusal], None]


class _Stopped(Exception):
    """We were told to stop."""


class _Broken(Exception):
    """The archive cannot be fetched now, in words."""


class VantageTalk:
    """Speaks to one console. `zone`: of its clock; `catch_up_days`: so far back its archive is fetched."""

    def __init__(self, zone: tzinfo, catch_up_days: float) -> None:
        self.newest: Callable[[], float | None] = lambda: None
        self._zone, self._most_s = zone, catch_up_days * 86_400
        self._owed: float | None = None  # since when the archive has still to be fetched, UTC seconds

    def run(self, port: Port, take: Take, stopping: threading.Event) -> None:
        """Raises SensorError: nobody answers, or no packet comes."""
        line = _Line(port, take, stopping)
        try:
            line.wake()
            self._listen(line)
        except _Stopped:
            port.write(b"\n")  # ends the packets that are still to come

    def _listen(self, line: _Line) -> None:
        """Batch after batch. Raises SensorError and _Stopped."""
        setup = line.ask(SETUP, 3)
        period_min = setup[2] if setup and setup[2] in packets.PERIODS else 1
        if self._most_s and self._owed is None:
            self._owed = self.newest() or -math.inf
        loop2, empty, batches = True, 0, 0
        while empty < TRIES:
            if batches % BATCHES == 0:
                loop2 = True
                now = self._now(line)
                if self._owed is not None:
                    self._catch_up(line, now, period_min)
            loop2 = loop2 and line.begin(b"LPS 3 %d\n" % BATCH)
            if not loop2:
                line.take(Refusal("no-answer", "the console does not take LPS (firmware before 1.90): no LOOP2"))
                if not line.begin(b"LOOP %d\n" % BATCH):
                    raise SensorError("The console wakes up, but takes no commands. Leave its setup screens.")
            empty = 0 if line.packets(BATCH) else empty + 1
            batches += 1
            line.wake()
        raise SensorError("The console takes the command for packets and sends none. Take its power off for a minute.")

    def _now(self, line: _Line) -> int | None:
        """The console's clock, UTC seconds; None where it shows no time that can be."""
        answer = line.ask(CLOCK, 6)
        shown = clock_of(answer) if answer else None
        now = instants(shown, self._zone)[-1] if shown else 0
        return now if EARLIEST <= now < LATEST else None

    # --- the archive --------------------------------------------------------------------------------------------------

    def _catch_up(self, line: _Line, now: int | None, period_min: int) -> None:
        """Fetch what the archive has since `_owed`; what cannot be had now stays owed. `now`: as `_now`."""
        assert self._owed is not None
        since = max(self._owed, -math.inf if now is None else now - self._most_s)
        if now is not None and since > now - 60:
            self._owed = None
            return
        sieve = _Sieve(self._zone, since, math.inf if now is None else now + 86_400.0)
        try:
            for page in line.archive(_asked(since, self._zone, period_min)):
                newer = list(sieve.newer(page, line.take))
                if newer:
                    line.take(archive_message(newer))
                    self._owed = newer[-1][0]
        except _Broken as broken:
            line.take(Refusal("no-archive", str(broken)))
            line.wake()
        else:
            self._owed = None


class _Sieve:
    """Lets the records of one download pass that are later than `since`, each later than the one before, and not later
    than `latest` (UTC seconds): a full archive is a ring, and a clock may have been wrong."""

    def __init__(self, zone: tzinfo, since: float, latest: float) -> None:
        self._zone, self._since, self._latest = zone, since, latest
        self._last: int | None = None

    def newer(self, page: bytes, take: Take) -> Iterator[tuple[int, bytes]]:
        """(UTC seconds, record) of a page; what cannot be used is handed to `take` as a refusal."""
        whole = []
        for record in packets.records_of(page):
            stamp = packets.stamp_of(record)
            if stamp is None or instants(stamp, self._zone)[0] > self._latest:
                take(Refusal("bad-time", "a record of the archive is later than the console's clock, or no time"))
            else:
                whole.append((record, stamp))
        times = in_order([stamp for _, stamp in whole], self._zone, self._last)
        for (record, stamp), t in zip(whole, times, strict=True):
            if t is not None:
                self._last = t
            if t is not None and t > self._since:
                yield t, record
            elif t is None and instants(stamp, self._zone)[-1] > self._since:
                take(Refusal("old-record", "a record of the archive is not later than the one before"))


def _asked(since: float, zone: tzinfo, period_min: int) -> bytes:
    """The stamp that asks for what is newer: that of a record, as a console that does not find it sends everything, and
    clear of the hour that comes twice. Zeros ask for everything."""
    if not EARLIEST <= since < LATEST:
        return bytes(4)
    shown = civil(since, zone)
    if len(instants(shown, zone)) > 1:
        shown -= timedelta(hours=3)
    minute = (shown.hour * 60 + shown.minute) // period_min * period_min
    return packets.stamp_bytes(shown.replace(hour=minute // 60, minute=minute % 60))


class _Line:
    """What one says to a console and hears from it. Every method raises _Stopped."""

    def __init__(self, port: Port, take: Take, stopping: threading.Event) -> None:
        self.take = take
        self._port, self._stopping = port, stopping
        self._slice = port.timeout or 0.25  # seconds that a read waits for what does not come

    def wake(self) -> None:
        """End what it is sending and make it listen. Raises SensorError."""
        for n in range(TRIES):
            if n:
                self._port.write(CANCEL)  # it may still wait for somebody to take a page of its archive
            self._drain()
            self._port.write(b"\n")
            if self._awakes():
                return
        raise SensorError("The console does not answer. Is it powered, its logger plugged in, and the baud rate right?")

    def begin(self, command: bytes) -> bool:
        """Give a command until it is acknowledged; False if it never is."""
        for _ in range(TRIES):
            self._port.write(command)
            if self._acknowledged():
                return True
            self.wake()
        return False

    def ask(self, command: bytes, size: int) -> bytes | None:
        """The answer to a question, handed on with the question; None, counted, where there is none."""
        for _ in range(TRIES):
            if not self.begin(command):
                break
            answer = self._read(size + 2, ANSWER_S)
            if len(answer) == size + 2 and packets.sound(answer):
                self.take(command + answer[:size])
                return answer[:size]
            self.take(Refusal("bad-checksum", "an answer that was damaged on its way"))
            self.wake()
        self.take(Refusal("no-answer", f"the console did not answer {command.decode().strip()}"))
        return None

    def packets(self, most: int) -> int:
        """Hand on the packets of a batch until it ends or nothing sound comes; their number."""
        frames = Frames(packets.MARKER, packets.PACKET, packets.sound)
        n, silent, stray = 0, 0.0, 0
        while n < most and silent < SILENCE_S and stray < STRAY:
            piece = self._piece(packets.PACKET)
            silent = 0.0 if piece else silent + self._slice
            stray += len(piece)
            for message in frames.feed(piece):
                if not isinstance(message, Refusal):
                    n, stray = n + 1, 0
                self.take(message)
        if frames.drop():
            self.take(Refusal("cut-line", "half a packet, and nothing after it"))
        return n

    def archive(self, asked: bytes) -> Iterator[bytes]:
        """The pages after the stamp `asked`, each sound. Raises _Broken."""
        if not self.begin(b"DMPAFT\n"):
            raise _Broken("the console does not take DMPAFT: has it a logger?")
        self._port.write(packets.with_crc(asked))
        head = self._read(6, ANSWER_S) if self._acknowledged() else b""
        pages = int.from_bytes(head[:2], "little")
        if len(head) < 6 or not packets.sound(head) or pages > MOST_PAGES:
            raise _Broken("the console did not say how much there is in its archive")
        try:
            for n in range(pages):
                self._port.write(ACK)
                yield self._page(n)
            if pages:
                self._port.write(ACK)
        except _Stopped:
            self._port.write(CANCEL)
            raise

    def _page(self, n: int) -> bytes:
        """Raises _Broken."""
        for again in (NAK, NAK, CANCEL):
            page = self._read(packets.PAGE, ANSWER_S)
            if len(page) == packets.PAGE and packets.sound(page):
                if page[0] == n % 256:
                    return page
                again = ACK if page[0] == (n - 1) % 256 else again  # it did not hear that it was taken
            else:
                self.take(Refusal("bad-checksum", "a page of the archive that was damaged on its way"))
                self._drain()
            self._port.write(again)
        raise _Broken(f"page {n + 1} of the archive did not come whole in {TRIES} tries")

    def _awakes(self) -> bool:
        heard, waited = b"", 0.0
        while waited < WAKE_S and len(heard) < CHATTER:
            piece = self._piece(1)
            heard += piece
            waited += 0.0 if piece else self._slice
            if heard.endswith(AWAKE):
                return True
        return False

    def _acknowledged(self) -> bool:
        waited = 0.0
        while waited < ANSWER_S:
            piece = self._piece(1)
            if piece and piece not in AWAKE:
                return piece == ACK
            waited += self._slice if not piece else self._slice / 10
        return False

    def _drain(self) -> None:
        """Let go of what still comes, for a second at most."""
        for _ in range(4):
            if not self._piece(1024):
                return

    def _read(self, size: int, wait_s: float) -> bytes:
        """So many bytes, fewer where none comes for `wait_s`."""
        got, silent = b"", 0.0
        while len(got) < size and silent < wait_s:
            piece = self._piece(size - len(got))
            got += piece
            silent = 0.0 if piece else silent + self._slice
        return got

    def _piece(self, size: int) -> bytes:
        if self._stopping.is_set():
            raise _Stopped
        return bytes(self._port.read(size))
