"""Opens a file of text that may be packed as `.gz` or `.xz`, for one pass through it.

Never lets a small archive take the memory or the time of a large one: both are bounded while it is unpacked.
"""

from __future__ import annotations

import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from edge_agent.errors import DataError

XZ_MEMORY = 80 * 1024 * 1024  # bytes; `xz -9` asks for 65 MiB
BROKEN = (OSError, EOFError, lzma.LZMAError, zlib.error)  # what reading a damaged archive raises
_BLOCK = 65_536


@contextmanager
def unpacked(path: Path | BinaryIO, most: int) -> Iterator[io.BufferedReader]:
    """A file's bytes, or a stream's, unpacked; the kind is told by the first bytes, not by the name. Reading raises
    one of `BROKEN` where the archive is damaged or asks for too much memory, and DataError beyond `most` bytes.

    Raises:
        DataError: the file cannot be opened.
    """
    with ExitStack() as stack:
        try:
            raw = stack.enter_context(path.open("rb")) if isinstance(path, Path) else _buffered(path)
            start = raw.peek(6)[:6]
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror}") from None
        read: Callable[[int], bytes] = raw.read1  # what there is: a pipe is not waited for
        if start.startswith(b"\x1f\x8b"):
            read = stack.enter_context(gzip.open(raw)).read1
        elif start.startswith(b"\xfd7zXZ"):
            read = _Xz(raw).read
        yield stack.enter_context(io.BufferedReader(_Bounded(path, read, most), _BLOCK))


def _buffered(stream: BinaryIO) -> io.BufferedReader:
    return stream if isinstance(stream, io.BufferedReader) else io.BufferedReader(stream)  # type: ignore[arg-type]


class _Bounded(io.RawIOBase):
    """A stream that ends in an error after so many bytes."""

    def __init__(self, path: object, read: Callable[[int], bytes], most: int) -> None:
        self._path, self._read, self._most, self._left = path, read, most, most

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._read(len(buffer))
        self._left -= len(data)
        if self._left < 0:
            raise DataError(f"{self._path}: longer than {self._most / 1e6:g} MB, unpacked: split the file by time")
        buffer[: len(data)] = data
        return len(data)


class _Xz:
    """Unpacks within bounded memory, to which `lzma.open` cannot be held."""

    def __init__(self, raw: BinaryIO) -> None:
        self._raw = raw
        self._stream = _xz_stream()

    def read(self, most: int) -> bytes:
        """At least one byte, at most so many; none at the end of the file."""
        data = b""
        while not data:
            packed = b""
            if self._stream.eof:  # another may follow it, after zeros
                packed = self._stream.unused_data.lstrip(b"\0")
                while not packed:
                    block = self._raw.read(_BLOCK)
                    if not block:
                        return b""
                    packed = block.lstrip(b"\0")
                self._stream = _xz_stream()
            elif self._stream.needs_input:
                packed = self._raw.read(_BLOCK)
                if not packed:
                    raise EOFError("it ends in the middle")
            data = self._stream.decompress(packed, most)
        return data


def _xz_stream() -> lzma.LZMADecompressor:
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=XZ_MEMORY)
