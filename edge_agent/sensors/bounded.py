"""A socket that can be read as a file, but never for longer, or for more bytes, than was allowed.

For both sides of HTTP: devices that push to us, and devices that we ask. Real seconds: a network knows no other.
"""

from __future__ import annotations

import io
import socket
import time


class TooMuch(Exception):
    """The other side sent more bytes than it may."""


class Bounded(io.RawIOBase):
    """What comes from a connected socket.

    `bytes_left` and `deadline` (seconds of `time.monotonic`) bound all of it together, so that one byte a second is
    no way to stay. Reading raises TooMuch, TimeoutError, or OSError when the connection is lost.
    """

    def __init__(self, connection: socket.socket, bytes_left: int, seconds: float) -> None:
        super().__init__()
        self._connection = connection
        self.bytes_left = bytes_left
        self.deadline = time.monotonic() + seconds

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Some bytes into `buffer`; how many, 0 at the end."""
        seconds = self.deadline - time.monotonic()
        if seconds <= 0:
            raise TimeoutError("took too long")
        if self.bytes_left <= 0:
            raise TooMuch
        self._connection.settimeout(seconds)
        count = self._connection.recv_into(buffer, min(len(buffer), self.bytes_left))
        self.bytes_left -= count
        return count


class BoundedSocket:
    """As much of a socket as `http.client.HTTPResponse` asks for."""

    def __init__(self, connection: socket.socket, bytes_left: int, seconds: float) -> None:
        self._raw = Bounded(connection, bytes_left, seconds)

    def makefile(self, mode: str) -> io.BufferedReader:
        """The bytes that come; `mode` is always `rb`."""
        return io.BufferedReader(self._raw)
