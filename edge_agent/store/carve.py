"""Rows from the pages of a database file whose tables cannot be opened any more: header, schema or tree are damaged.

Every page that still looks like a leaf of a tree is read by itself, and each row is known by its shape. Source:
"Database File Format", sqlite.org/fileformat2.html, sections 1.5-1.6 (pages, cells), 2.1 (records) and 4.1 (log).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

PAGE = 4096  # as every store is made
_WAL_HEADER, _FRAME_HEADER = 32, 24
_INDEX_INTERIOR, _INDEX_LEAF, _TABLE_LEAF = 2, 10, 13
_MOST_PAYLOAD = 1_000_000  # nothing of ours is larger
_INTS = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}

Value = int | float | str | bytes | None


class Pages:
    """The pages of a database, those in its write-ahead log before those in the file."""

    def __init__(self, path: Path) -> None:
        self._main: BinaryIO = path.open("rb")
        self.count = path.stat().st_size // PAGE
        log = Path(f"{path}-wal")
        self._log: BinaryIO | None = log.open("rb") if log.exists() else None
        self._frames = dict(self._scan_log())
        self.count = max(self.count, *self._frames, 0)

    def close(self) -> None:
        self._main.close()
        if self._log is not None:
            self._log.close()

    def read(self, number: int) -> bytes:
        """A page by its number, from 1; short or empty beyond the end."""
        if number in self._frames and self._log is not None:
            self._log.seek(self._frames[number])
            return self._log.read(PAGE)
        self._main.seek((number - 1) * PAGE)
        return self._main.read(PAGE)

    def _scan_log(self) -> Iterator[tuple[int, int]]:
        """Page number -> where it stands in the log; the last one stands."""
        if self._log is None:
            return
        salts = self._log.read(_WAL_HEADER)[16:24]
        at = _WAL_HEADER
        while len(head := self._log.read(_FRAME_HEADER)) == _FRAME_HEADER and head[8:16] == salts:
            yield int.from_bytes(head[:4], "big"), at + _FRAME_HEADER
            at += _FRAME_HEADER + PAGE
            self._log.seek(at)


def records(pages: Pages) -> Iterator[tuple[int | None, tuple[Value, ...]]]:
    """Every row that can be made out: its number (None in a table without row numbers) and its columns."""
    for number in range(1, pages.count + 1):
        page = pages.read(number)
        head = 100 if number == 1 else 0
        if len(page) < PAGE or page[head] not in (_INDEX_INTERIOR, _INDEX_LEAF, _TABLE_LEAF):
            continue
        kind = page[head]
        cells = int.from_bytes(page[head + 3 : head + 5], "big")
        pointers = head + (12 if kind == _INDEX_INTERIOR else 8)
        for at in struct.iter_unpack(">H", page[pointers : min(pointers + 2 * cells, PAGE)]):
            try:
                yield _cell(pages, page, kind, at[0])
            except (ValueError, IndexError, struct.error):
                continue


def _cell(pages: Pages, page: bytes, kind: int, at: int) -> tuple[int | None, tuple[Value, ...]]:
    """One cell of a page. Raises ValueError, IndexError, struct.error: it is none."""
    at += 4 if kind == _INDEX_INTERIOR else 0
    size, at = _varint(page, at)
    row: int | None = None
    if kind == _TABLE_LEAF:
        row, at = _varint(page, at)
    if size > _MOST_PAYLOAD:
        raise ValueError
    least = (PAGE - 12) * 32 // 255 - 23
    most = PAGE - 35 if kind == _TABLE_LEAF else (PAGE - 12) * 64 // 255 - 23
    if size <= most:
        return row, _record(page[at : at + size], size)
    local = least + (size - least) % (PAGE - 4)
    local = local if local <= most else least
    payload = page[at : at + local]
    following = int.from_bytes(page[at + local : at + local + 4], "big")
    while len(payload) < size:
        part = pages.read(following) if 0 < following <= pages.count else b""
        if len(part) < PAGE:
            raise ValueError
        payload += part[4:]
        following = int.from_bytes(part[:4], "big")
    return row, _record(payload[:size], size)


def _record(payload: bytes, size: int) -> tuple[Value, ...]:
    if len(payload) < size:
        raise ValueError
    end, at = _varint(payload, 0)
    types = []
    while at < end:
        kind, at = _varint(payload, at)
        types.append(kind)
    at, values = end, []
    for kind in types:
        value, at = _value(payload, at, kind)
        values.append(value)
    if at != size:
        raise ValueError
    return tuple(values)


def _value(payload: bytes, at: int, kind: int) -> tuple[Value, int]:
    if kind == 0:
        return None, at
    if kind in _INTS:
        end = at + _INTS[kind]
        return int.from_bytes(payload[at:end], "big", signed=True), end
    if kind == 7:
        return float(struct.unpack_from(">d", payload, at)[0]), at + 8
    if kind in (8, 9):
        return kind - 8, at
    if kind < 12:
        raise ValueError
    end = at + (kind - 12) // 2
    if end > len(payload):
        raise ValueError
    return (payload[at:end].decode() if kind % 2 else payload[at:end]), end


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for n in range(9):
        byte = data[at + n]
        if n == 8:
            return value << 8 | byte, at + 9
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at + n + 1
    raise ValueError
