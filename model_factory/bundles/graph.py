"""An ONNX graph without what only its exporter needed: stack traces, notes, inferred types. Changes no number in it."""

from __future__ import annotations

from collections.abc import Iterator

import onnx


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
