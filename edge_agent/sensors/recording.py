"""Recordings of sensors as messages: raw bytes or hex text for binary drivers, else one message a line, or one JSON
document. Streams within bounded memory; whatever the bytes are, they end in messages or in counted refusals.

A line may begin with its time and a TAB (RFC 3339 with a zone, or epoch seconds), and for MQTT with its topic.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Protocol

from edge_agent.errors import DataError
from edge_agent.replay import line_time, looks_like_time
from edge_agent.sensors.driver import DriverSpec, Transport
from edge_agent.sensors.framing import Refusal

CHUNK = 65_536
MAX_DOCUMENT = 1_048_576  # bytes of a file that is one JSON document
MAX_HEX_LINE = 4_194_304
ROOM = 2_048  # for the time and the topic before a message

_SEPARATORS = b" \t\r,:;-"
_DIGITS = b"0123456789abcdefABCDEF"
_PRINTABLE = bytes(range(32, 127)) + b"\t\r\n"
_SECONDS = re.compile(rb"\d{1,8}(\.\d{0,9})?")


@dataclass(frozen=True, slots=True)
class Piece:
    """Part of a recording. `whole`: one message; else bytes of a stream, to be framed. `t`: UTC seconds when it came;
    `elapsed`: seconds since the recorder's start; None where the recording does not say."""

    data: bytes
    whole: bool
    t: float | None = None
    elapsed: float | None = None
    topic: str = ""


class Readable(Protocol):
    """A buffered stream."""

    def read1(self, size: int = -1, /) -> bytes: ...


def pieces(stream: Readable, spec: DriverSpec, limit: int, *, tabbed: bool = False) -> Iterator[Piece | Refusal]:
    """The parts of a recording, in order. `limit`: bytes of a message; `tabbed`: TABs stand between its values, so none
    ends a time."""
    chunks = iter(lambda: stream.read1(CHUNK), b"")
    raw = next(chunks, b"")
    utf8 = _to_utf8(raw)
    head = utf8(raw).removeprefix(codecs.BOM_UTF8)
    if spec.binary:
        if _is_hex(head):
            yield from _hex(chain([head], map(utf8, chunks)))
        else:
            yield from (Piece(chunk, False) for chunk in chain([raw], chunks))
        return
    chunks = map(utf8, chunks)
    head = _first_line(head, chunks)
    if head.lstrip()[:1] in (b"{", b"[") and not _is_json(head.lstrip().partition(b"\n")[0]):
        head = _gathered(head, chunks)
        if len(head) <= MAX_DOCUMENT and _is_json(head):
            yield Piece(head.strip(), True)
            return
    whole = chain([head], chunks)
    if spec.transport is Transport.SERIAL and (tabbed or _prefix(head.lstrip().partition(b"\n")[0]) is None):
        yield from (Piece(chunk, False) for chunk in whole)
        return
    for line in _lines(whole, limit + ROOM):
        if line is None:
            yield Refusal("too-large", f"a line of more than {limit} bytes")
        elif line.strip():
            yield _line(line, spec)


def _to_utf8(head: bytes) -> Callable[[bytes], bytes]:
    """What makes UTF-8 of the chunks of a text that begins so: PowerShell and Notepad may write UTF-16, with a mark."""
    if not head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return bytes
    decoder = codecs.getincrementaldecoder("utf-16")("replace")
    return lambda chunk: decoder.decode(chunk).encode()


# --- lines -------------------------------------------------------------------------------------------------------


def _line(line: bytes, spec: DriverSpec) -> Piece | Refusal:
    """A line as a message. One that has no time where others have one is a message itself."""
    when = _prefix(line)
    if isinstance(when, Refusal):
        return when
    t, elapsed, payload = when or (None, None, line)
    if spec.transport is Transport.SERIAL:
        return Piece(payload + b"\n", False, t, elapsed)
    topic = b""
    if spec.transport is Transport.MQTT:
        topic, payload = split_topic(payload)
    return Piece(payload, True, t, elapsed, topic.decode("utf-8", "replace"))


def _prefix(line: bytes) -> tuple[float | None, float | None, bytes] | Refusal | None:
    """The time before the first TAB and what is behind it; None where there is no time. Seconds since the recorder's
    start are taken for such only before a JSON object: a column of values may look like them."""
    prefix, tab, rest = line.partition(b"\t")
    if not tab:
        return None
    if looks_like_time(prefix):
        try:
            return line_time(prefix), None, rest
        except DataError as error:
            return Refusal("bad-time", f"a line of the recording: {error}")
    if rest.startswith(b"{") and _SECONDS.fullmatch(prefix):
        return None, float(prefix), rest
    return None


def split_topic(payload: bytes) -> tuple[bytes, bytes]:
    """The topic before a message and the message, as `mosquitto_sub -v` prints them or with a TAB between; an empty
    topic where there is none."""
    if payload.lstrip()[:1] in (b"{", b"[", b'"'):
        return b"", payload
    starts = [at for mark in (b"\t", b" {", b" [") if (at := payload.find(mark)) > 0]
    at = min(starts, default=payload.find(b" "))
    if at <= 0 or b"/" not in payload[:at]:
        return b"", payload
    return payload[:at], payload[at + 1 :]


def _lines(chunks: Iterable[bytes], limit: int) -> Iterator[bytes | None]:
    """Lines without their ends; None, once, for one longer than the limit."""
    held, skipping = bytearray(), False
    for chunk in chunks:
        *ended, rest = chunk.split(b"\n")
        for piece in ended:
            if not skipping:
                yield bytes(held + piece).rstrip(b"\r") if len(held) + len(piece) <= limit else None
            held.clear()
            skipping = False
        if not skipping and len(held) + len(rest) > limit:
            held.clear()
            skipping = True
            yield None
        elif not skipping:
            held += rest
    if held:
        yield bytes(held).rstrip(b"\r")


# --- documents ---------------------------------------------------------------------------------------------------


def _first_line(head: bytes, chunks: Iterator[bytes]) -> bytes:
    """The beginning of a text, up to the end of its first line at least."""
    while b"\n" not in head.lstrip() and len(head) < CHUNK:
        chunk = next(chunks, b"")
        if not chunk:
            break
        head += chunk
    return head


def _gathered(head: bytes, chunks: Iterator[bytes]) -> bytes:
    """Everything, or a little more than a document may have."""
    parts, size = [head], len(head)
    for chunk in chunks:
        parts.append(chunk)
        size += len(chunk)
        if size > MAX_DOCUMENT:
            break
    return b"".join(parts)


def _is_json(text: bytes) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


# --- hex ---------------------------------------------------------------------------------------------------------


def _is_hex(head: bytes) -> bool:
    """True if it is text and most of its lines are hexadecimal."""
    if head.translate(None, _PRINTABLE):
        return False
    lines = [text for line in head.splitlines() if (text := line.partition(b"#")[0]).strip()]
    return sum(_digits(_split_time(line)[1]) is not None for line in lines) * 2 > len(lines)


def _digits(text: bytes) -> bytes | None:
    digits = text.replace(b"0x", b"").replace(b"0X", b"").translate(None, _SEPARATORS)
    return digits if digits and not digits.translate(None, _DIGITS) else None


def _split_time(line: bytes) -> tuple[float | None, bytes]:
    when = _prefix(line)
    return (when[0], when[2]) if isinstance(when, tuple) else (None, line)


def _hex(chunks: Iterable[bytes]) -> Iterator[Piece | Refusal]:
    """Bytes written as hexadecimal digits; `#` begins a comment."""
    for line in _lines(chunks, MAX_HEX_LINE):
        if line is None:
            yield Refusal("too-large", f"a line of more than {MAX_HEX_LINE} bytes")
            continue
        t, text = _split_time(line)
        text = text.partition(b"#")[0]
        if not text.strip():
            continue
        digits = _digits(text)
        if digits is None or len(digits) % 2:
            yield Refusal("not-hex", "a line that is not pairs of hexadecimal digits")
        else:
            yield Piece(bytes.fromhex(digits.decode()), False, t)
