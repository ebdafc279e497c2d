"""The few facts about a `.tflite` file that decide whether it may run, read without running it.

A FlatBuffer: tables of offsets into one block of bytes. Every offset is held against the block before it is followed,
and lists are bounded. Source of the layout: the schema of TensorFlow Lite, version 3.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from edge_agent.errors import BundleError

MAX_ENTRIES = 4096  # of a list that is read here
_OPERATOR_CODES, _SIGNATURES = 1, 7  # fields of Model
_OLD_CODE, _CUSTOM, _CODE = 0, 1, 3  # of OperatorCode
_INPUTS, _OUTPUTS = 0, 1  # of SignatureDef; of their entries, the name is field 0


@dataclass(frozen=True, slots=True)
class TfliteFacts:
    """`operators`: builtin codes; `custom`: names of operators of one's own; `inputs`, `outputs`: names of the only
    signature, in order."""

    operators: frozenset[int]
    custom: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def read_tflite(raw: bytes) -> TfliteFacts:
    """Raises BundleError: `model`, it is not a well-formed file, or has not exactly one signature."""
    if raw[4:8] != b"TFL3":
        raise BundleError("model", "model.tflite is not a TensorFlow Lite model")
    try:
        root = _Table(raw, struct.unpack_from("<I", raw)[0])
        codes = list(root.tables(_OPERATOR_CODES))
        signatures = list(root.tables(_SIGNATURES))
        if len(signatures) != 1:
            raise BundleError("model", f"model.tflite has {len(signatures)} signatures, one is needed")
        names = [tuple(entry.text(0) for entry in signatures[0].tables(field)) for field in (_INPUTS, _OUTPUTS)]
        return TfliteFacts(
            frozenset(max(code.number(_OLD_CODE, "<b"), code.number(_CODE, "<i")) for code in codes),
            tuple(code.text(_CUSTOM) for code in codes if code.has(_CUSTOM)),
            names[0],
            names[1],
        )
    except (struct.error, UnicodeDecodeError, IndexError) as error:
        raise BundleError("model", f"model.tflite is damaged: {error}") from error


class _Table:
    """A table at a position; its fields by number."""

    def __init__(self, raw: bytes, at: int) -> None:
        self._raw, self._at = raw, at
        self._fields = at - struct.unpack_from("<i", raw, at)[0]
        if self._fields < 0:
            raise IndexError("a table lies before the file")
        self._size: int = struct.unpack_from("<H", raw, self._fields)[0]

    def has(self, field: int) -> bool:
        return bool(self._place(field))

    def number(self, field: int, form: str) -> int:
        """A plain number, 0 where it is left out."""
        place = self._place(field)
        return int(struct.unpack_from(form, self._raw, place)[0]) if place else 0

    def text(self, field: int) -> str:
        """A string, empty where it is left out; at most 200 bytes of it."""
        place = self._place(field)
        if not place:
            return ""
        start, length = self._list(place)
        return self._raw[start : start + min(length, 200)].decode()

    def tables(self, field: int) -> Iterator[_Table]:
        """A list of tables, empty where it is left out."""
        place = self._place(field)
        if place:
            start, length = self._list(place)
            if length > MAX_ENTRIES:
                raise BundleError("oversize", f"model.tflite has a list of {length} entries")
            for at in range(start, start + 4 * length, 4):
                yield _Table(self._raw, at + struct.unpack_from("<I", self._raw, at)[0])

    def _place(self, field: int) -> int:
        """Where a field stands, 0 where it is left out."""
        slot = 4 + 2 * field
        if slot + 2 > self._size:
            return 0
        offset = struct.unpack_from("<H", self._raw, self._fields + slot)[0]
        return self._at + int(offset) if offset else 0

    def _list(self, place: int) -> tuple[int, int]:
        """(first entry, number of entries)."""
        at = place + struct.unpack_from("<I", self._raw, place)[0]
        return at + 4, int(struct.unpack_from("<I", self._raw, at)[0])
