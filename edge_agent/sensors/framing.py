"""Streams of bytes cut into messages: lines, and frames of a fixed length. Bounded whatever comes; decodes nothing."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Refusal:
    """Bytes that are no message: counted under `reason`, with `detail` for a person."""

    reason: str
    detail: str = ""


class Lines:
    """Bytes to lines, ended by CR, LF or both. Holds at most `limit` bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = bytearray()
        self._skipping = False

    def feed(self, chunk: bytes) -> Iterator[bytes | Refusal]:
        """Lines that this chunk completes, without their ends; a refusal, once, for one longer than the limit."""
        *ended, rest = re.split(rb"[\r\n]", chunk)
        for piece in ended:
            yield from self._append(piece)
            if self._held and not self._skipping:
                yield bytes(self._held)
            self._held.clear()
            self._skipping = False
        yield from self._append(rest)

    def skip(self) -> None:
        """Leave out everything up to the next end of a line."""
        self._held.clear()
        self._skipping = True

    def drop(self) -> bool:
        """Forget a line that was begun; True if there was one."""
        begun = bool(self._held)
        self._held.clear()
        self._skipping = False
        return begun

    def _append(self, piece: bytes) -> Iterator[Refusal]:
        if self._skipping:
            return
        if len(self._held) + len(piece) > self._limit:
            self.skip()
            yield Refusal("too-large", f"a line of more than {self._limit} bytes")
        else:
            self._held += piece


class Frames:
    """Bytes to frames of a fixed length that begin with `marker` and pass `sound`. Holds less than two frames.

    What comes before a marker is noise, told of once: with the next frame, or as soon as it is longer than one. A frame
    that is not sound is refused as `bad-checksum`, and looked through for the next marker, so that one lost byte costs
    one frame.
    """

    def __init__(self, marker: bytes, length: int, sound: Callable[[bytes], bool]) -> None:
        self._marker, self._length, self._sound = marker, length, sound
        self._held = bytearray()
        self._noise = 0
        self._told = False  # this stretch of noise

    def feed(self, chunk: bytes) -> Iterator[bytes | Refusal]:
        """Frames that this chunk completes; a refusal for each unsound one, and for each stretch of noise."""
        for start in range(0, len(chunk), self._length):
            self._held += chunk[start : start + self._length]
            yield from self._cut()

    def skip(self) -> None:
        """Nothing to do: the next frame is found by its marker."""

    def drop(self) -> bool:
        """Forget a frame that was begun, or noise that was not told of; True if there was any."""
        begun = self._held.startswith(self._marker) or (self._noise > 0 and not self._told)
        self._held.clear()
        self._noise, self._told = 0, False
        return begun

    def _cut(self) -> Iterator[bytes | Refusal]:
        while True:
            at = self._held.find(self._marker)
            gone = at if at >= 0 else max(len(self._held) - len(self._marker) + 1, 0)
            self._noise += gone
            del self._held[:gone]
            if self._noise > self._length and not self._told:
                self._told = True
                yield Refusal("noise", f"more than {self._length} bytes that are no frame")
            if at < 0 or len(self._held) < self._length:
                return
            frame = bytes(self._held[: self._length])
            sound = self._sound(frame)
            if sound:
                if self._noise and not self._told:
                    yield Refusal("noise", f"{self._noise} bytes between frames")
                self._noise, self._told = 0, False
            yield frame if sound else Refusal("bad-checksum", "a frame that was damaged on its way")
            del self._held[: self._length if sound else 1]
            self._noise += 0 if sound else 1
