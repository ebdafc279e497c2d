"""An ONNX graph without what only its exporter needed: stack traces, notes, inferred types. Changes no number in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from edge_agent.errors import DataError


def read_graph(path: Path) -> onnx.ModelProto:
    """The model in a run's folder.

    Raises:
        DataError: it cannot be read, or is no whole ONNX model.
    """
    try:
        model = onnx.load_from_string(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}: {made_by(path)}") from error
    except (DecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not an ONNX model, or cut short ({error}): {made_by(path)}") from error
    if not model.graph.node:
        raise DataError(f"{path}: not an ONNX model: {made_by(path)}")
    return model


def made_by(path: Path) -> str:
    """The command that makes a run's model_<precision>.onnx."""
    run, precision = path.parent, path.stem.removeprefix("model_")
    if precision == "fp32":
        return f"`model-factory export {run} DATA/` makes it"
    return f"`model-factory quantize {run}{' --bits 4' if precision == 'int4' else ''}` makes it"


def read_without_notes(path: Path) -> bytes:
    """The model in a run's folder, as `without_notes`. Raises DataError: as `read_graph`."""
    return without_notes(read_graph(path).SerializeToString())


def without_notes(raw: bytes) -> bytes:
    """The model with doc strings, metadata and inferred value types removed. Exporters write source paths and stack
    traces of the machine they ran on into them; they can make up a quarter of a small file."""
    model = onnx.load_from_string(raw)
    model.ClearField("doc_string")
    model.ClearField("metadata_props")
    for graph in _graphs(model.graph):
        graph.ClearField("doc_string")
        graph.ClearField("metadata_props")
        graph.ClearField("value_info")
        for part in (*graph.node, *graph.input, *graph.output, *graph.initializer):
            part.ClearField("doc_string")
            part.ClearField("metadata_props")
    return bytes(model.SerializeToString())


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """The graph and all nested in it."""
    todo = [graph]
    while todo:
        graph = todo.pop()
        yield graph
        for node in graph.node:
            for attribute in node.attribute:
                todo.extend(attribute.graphs)
                if attribute.HasField("g"):
                    todo.append(attribute.g)
