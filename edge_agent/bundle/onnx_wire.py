"""What an ONNX file asks of its runtime, read from its bytes before any runtime sees them.

A small walker over the protobuf wire format: bounded in depth and work, no dependency on `onnx`. It never executes or
trusts anything in the file. Field numbers: onnx.proto, IR version 10; wire format: Protocol Buffers' encoding guide.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from edge_agent.errors import BundleError

ELEMENTS = {1: "float32", 7: "int64"}  # TensorProto.DataType of the tensors a bundle may declare

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True, slots=True)
class WireLimits:
    """How much of a model is read before it is refused."""

    depth_messages: int = 24
    fields: int = 300_000
    name_bytes: int = 4096


@dataclass(frozen=True, slots=True)
class ValueType:
    """Type of a graph input or output: `dtype` (a number as text where it has no name here), dimensions as a number, a
    symbol, or None where unknown; `shape` is None where the graph does not state it."""

    dtype: str
    shape: tuple[int | str | None, ...] | None


@dataclass(slots=True)
class ModelFacts:
    """What the file contains. `operators`: (domain, type), also of nested graphs and functions; `functions`: (domain,
    name) defined in the file; `external`: names of tensors whose data lie outside it; `inputs` without initializers."""

    ir_version: int = 0
    opsets: dict[str, int] = field(default_factory=dict)
    operators: set[tuple[str, str]] = field(default_factory=set)
    functions: set[tuple[str, str]] = field(default_factory=set)
    external: list[str] = field(default_factory=list)
    inputs: dict[str, ValueType] = field(default_factory=dict)
    outputs: dict[str, ValueType] = field(default_factory=dict)
    trains: bool = False
    initializers: set[str] = field(default_factory=set)
    graphs: int = 0


def read_model(data: bytes, limits: WireLimits | None = None) -> ModelFacts:
    """The facts of a serialized ModelProto.

    Raises:
        BundleError: `model` if the bytes are not a well-formed ONNX model, `oversize` if reading it passes the limits.
    """
    if data[4:8] == b"ORTM":
        raise BundleError("model", "model.onnx is in ONNX Runtime's own format, not ONNX")
    facts = _Walk(data, limits or WireLimits()).facts()
    if facts.graphs != 1:
        raise BundleError("model", f"model.onnx is not an ONNX model: it has {facts.graphs} graphs, not one")
    for name in facts.initializers:
        facts.inputs.pop(name, None)
    return facts


@dataclass(frozen=True, slots=True)
class _Field:
    """A field of a message: a varint's `value`, or the span [start, end) of a length-delimited one."""

    number: int
    wire: int
    value: int
    start: int
    end: int


# Nested messages to walk: message kind -> field number -> kind of the message in it.
_CHILDREN: dict[str, dict[int, str]] = {
    "model": {7: "graph", 8: "opset", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 9: "opset", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 11: "input", 12: "output", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}  # fmt: skip
# Singular fields that decide something. A second one would be merged or win silently; no writer makes one.
_ONCE: dict[str, frozenset[int]] = {
    "model": frozenset({1, 7}),
    "opset": frozenset({1, 2}),
    "function": frozenset({1, 10}),
    "node": frozenset({4, 7}),
    "tensor": frozenset({8, 14}),
    "attribute": frozenset({5, 6, 22}),
    "sparse": frozenset({1, 2}),
    "input": frozenset({1, 2}),
    "output": frozenset({1, 2}),
}


class _Walk:
    """One pass over a model with a work list instead of recursion."""

    def __init__(self, data: bytes, limits: WireLimits) -> None:
        self._data, self._limits, self._left = data, limits, limits.fields
        self._facts = ModelFacts()

    def facts(self) -> ModelFacts:
        todo = [("model", 0, len(self._data), 0)]
        while todo:
            kind, start, end, depth = todo.pop()
            if depth > self._limits.depth_messages:
                raise BundleError("oversize", f"model.onnx nests deeper than {self._limits.depth_messages} messages")
            fields = list(self._fields(start, end))
            self._check_once(kind, fields)
            self._collect(kind, fields, depth)
            children = _CHILDREN.get(kind, {})
            for entry in fields:
                child = children.get(entry.number)
                if child is not None:
                    self._expect(entry, _BYTES, kind)
                    todo.append((child, entry.start, entry.end, depth + 1))
        return self._facts

    def _collect(self, kind: str, fields: list[_Field], depth: int) -> None:
        """Note what a message of this kind says."""
        facts = self._facts
        if kind == "model":
            facts.ir_version = self._number(fields, 1, kind)
            facts.graphs = sum(entry.number == 7 for entry in fields)
            facts.trains = any(entry.number == 20 for entry in fields)
        elif kind == "opset":
            domain = self._text(fields, 1, kind)
            facts.opsets[domain] = max(facts.opsets.get(domain, 0), self._number(fields, 2, kind))
        elif kind == "node":
            facts.operators.add((self._text(fields, 7, kind), self._text(fields, 4, kind)))
        elif kind == "function":
            facts.functions.add((self._text(fields, 10, kind), self._text(fields, 1, kind)))
        elif kind == "tensor":
            self._tensor(fields, depth)
        elif kind in ("input", "output") and depth == 2:  # of the main graph: model > graph > value
            values = facts.inputs if kind == "input" else facts.outputs
            name = self._text(fields, 1, kind)
            if name in values:
                raise BundleError("model", f'model.onnx: {kind} "{name}" stands twice')
            values[name] = self._value_type(fields)

    def _tensor(self, fields: list[_Field], depth: int) -> None:
        name = self._text(fields, 8, "tensor")
        if self._number(fields, 14, "tensor") != 0 or any(entry.number == 13 for entry in fields):
            self._facts.external.append(name)
        if depth == 2:  # an initializer of the main graph
            self._facts.initializers.add(name)

    def _value_type(self, fields: list[_Field]) -> ValueType:
        """ValueInfoProto -> TypeProto -> Tensor -> TensorShapeProto -> Dimension, each one field deep."""
        tensor = self._inside(self._inside(fields, 2), 1)
        shape = next((entry for entry in tensor if entry.number == 2), None)
        element = self._number(tensor, 1, "type")
        dtype = ELEMENTS.get(element, f"element type {element}")
        if shape is None:
            return ValueType(dtype, None)
        dims: list[int | str | None] = []
        for entry in self._inside(tensor, 2):
            if entry.number == 1:
                self._expect(entry, _BYTES, "shape")
                dims.append(self._dimension(list(self._fields(entry.start, entry.end))))
        return ValueType(dtype, tuple(dims))

    def _dimension(self, fields: list[_Field]) -> int | str | None:
        known = [entry for entry in fields if entry.number in (1, 2)]
        if not known:
            return None
        last = known[-1]  # a oneof: the last one counts
        return self._number([last], 1, "shape") if last.number == 1 else self._text([last], 2, "shape")

    def _inside(self, fields: list[_Field], number: int) -> list[_Field]:
        """Fields of the one submessage with that number; empty where it is not there."""
        found = [entry for entry in fields if entry.number == number]
        if len(found) > 1:
            raise BundleError("model", "model.onnx states a type twice")
        if not found:
            return []
        self._expect(found[0], _BYTES, "type")
        return list(self._fields(found[0].start, found[0].end))

    def _check_once(self, kind: str, fields: list[_Field]) -> None:
        once = _ONCE.get(kind, frozenset())
        numbers = [entry.number for entry in fields if entry.number in once]
        if len(numbers) != len(set(numbers)):
            raise BundleError("model", f"model.onnx is malformed: a {kind} states a field twice")

    def _expect(self, entry: _Field, wire: int, kind: str) -> None:
        if entry.wire != wire:
            raise BundleError(
                "model", f"model.onnx is malformed: field {entry.number} of a {kind} has the wrong wire type"
            )

    def _number(self, fields: list[_Field], number: int, kind: str) -> int:
        """A varint as a signed 64-bit number; 0 where it is not there."""
        for entry in reversed(fields):  # the last one counts
            if entry.number == number:
                self._expect(entry, _VARINT, kind)
                return entry.value - (1 << 64) if entry.value >= 1 << 63 else entry.value
        return 0

    def _text(self, fields: list[_Field], number: int, kind: str) -> str:
        """A string; empty where it is not there."""
        for entry in reversed(fields):
            if entry.number == number:
                self._expect(entry, _BYTES, kind)
                if entry.end - entry.start > self._limits.name_bytes:
                    raise BundleError(
                        "oversize", f"model.onnx: a name in a {kind} is longer than {self._limits.name_bytes} bytes"
                    )
                try:
                    return self._data[entry.start : entry.end].decode()
                except UnicodeDecodeError:
                    raise BundleError("model", f"model.onnx is malformed: a name in a {kind} is not UTF-8") from None
        return ""

    def _fields(self, start: int, end: int) -> Iterator[_Field]:
        """The fields of a message in [start, end)."""
        at = start
        while at < end:
            self._left -= 1
            if self._left < 0:
                raise BundleError("oversize", f"model.onnx has more than {self._limits.fields} fields")
            tag, at = self._varint(at, end)
            number, wire = tag >> 3, tag & 7
            value, first = 0, at
            if wire == _VARINT:
                value, at = self._varint(at, end)
            elif wire == _BYTES:
                length, first = self._varint(at, end)
                at = first + length
            elif wire in (_FIXED32, _FIXED64):
                at += 4 if wire == _FIXED32 else 8
            else:
                raise BundleError("model", f"model.onnx is malformed: wire type {wire} at byte {start}")
            if number == 0 or at > end:
                raise BundleError("model", f"model.onnx is malformed or cut short at byte {first}")
            yield _Field(number, wire, value, first, at)

    def _varint(self, at: int, end: int) -> tuple[int, int]:
        """(value, position after it) of a base-128 number of at most ten bytes."""
        value = shift = 0
        while at < end and shift < 70:
            byte = self._data[at]
            value |= (byte & 0x7F) << shift
            at += 1
            if byte < 0x80:
                return value & (1 << 64) - 1, at
            shift += 7
        raise BundleError("model", f"model.onnx is malformed or cut short at byte {at}")
