"""INT4 of a model's weights, for where bytes count most: activations and what stands around the network stay in float.

Matrix products become MatMulNBits: blocks of 128 weights with a scale and a zero point of their own, multiplied in INT8
(accuracy level 4). For convolutions there is no such kernel: their weights are stored in INT4 and unpacked at load.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper, version_converter
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer  # type: ignore[import-untyped]

from edge_agent.errors import DataError
from model_factory.bundles.graph import read_graph, without_notes
from model_factory.quantize.int8 import PART, Quantized, select

BLOCK, ACCURACY_LEVEL = 128, 4
LARGEST = 7  # of a weight in INT4, symmetric
INT4_OPSET = 21  # the first with INT4 tensors


def quantize_int4(fp32_path: Path, out_path: Path, *, part: str = PART, exclude: Sequence[str] = ()) -> Quantized:
    """Write the model with the weights of its linear layers in INT4. Needs no calibration.

    Args:
        part, exclude: as `quantize_int8`.

    Raises:
        DataError: as `quantize_int8`; a Gemm with factors other than 1 or a transposed input.
    """
    model = read_graph(fp32_path)
    chosen, excluded = select(model, part, exclude)
    kinds = {node.name: node.op_type for node in model.graph.node if node.name in chosen}
    if "Conv" in kinds.values():
        model = version_converter.convert_version(model, INT4_OPSET)
        _store_convolutions(model.graph, {name for name, kind in kinds.items() if kind == "Conv"})
    products = [name for name, kind in kinds.items() if kind != "Conv"]
    if products:
        _gemm_to_product(model.graph, set(products))
        others = [node.name for node in model.graph.node if node.name not in products]
        quantizer = MatMulNBitsQuantizer(
            model, bits=4, block_size=BLOCK, accuracy_level=ACCURACY_LEVEL, nodes_to_exclude=others
        )
        logging.getLogger(MatMulNBitsQuantizer.__module__).setLevel(logging.WARNING)  # else a line for every node
        quantizer.process()
        model = quantizer.model.model
    out_path.write_bytes(without_notes(model.SerializeToString()))
    return Quantized(chosen, excluded)


def _gemm_to_product(graph: onnx.GraphProto, names: set[str]) -> None:
    """Gemm(x, W, b) as MatMul(x, W') + b under the same name: what MatMulNBits can take the place of."""
    weights = {tensor.name: tensor for tensor in graph.initializer}
    nodes = []
    for node in graph.node:
        if node.op_type != "Gemm" or node.name not in names:
            nodes.append(node)
            continue
        settings = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        if settings.get("transA") or settings.get("alpha", 1.0) != 1.0 or settings.get("beta", 1.0) != 1.0:
            raise DataError(f'layer "{node.name}" scales or turns what goes in: keep it in float with `exclude`')
        weight = numpy_helper.to_array(weights[node.input[1]])
        turned = f"{node.input[1]}.as_product"
        weight = np.ascontiguousarray(weight.T) if settings.get("transB") else weight
        graph.initializer.append(numpy_helper.from_array(weight, turned))
        biased = len(node.input) > 2 and bool(node.input[2])
        product = f"{node.output[0]}.product" if biased else node.output[0]
        nodes.append(helper.make_node("MatMul", [node.input[0], turned], [product], node.name))
        if biased:
            nodes.append(helper.make_node("Add", [product, node.input[2]], [node.output[0]], f"{node.name}.bias"))
    del graph.node[:]
    graph.node.extend(nodes)
    _drop_unused(graph)


def _store_convolutions(graph: onnx.GraphProto, names: set[str]) -> None:
    """Weights of convolutions as INT4 with a scale per output channel, unpacked by DequantizeLinear, which the runtime
    does once, at load."""
    weights = {tensor.name: tensor for tensor in graph.initializer}
    unpack = []
    for node in graph.node:
        if node.name in names:
            weight = numpy_helper.to_array(weights[node.input[1]])
            packed, scale = _packed(weight)
            name = node.input[1]
            graph.initializer.append(helper.make_tensor(f"{name}.int4", TensorProto.INT4, weight.shape, packed))
            graph.initializer.append(numpy_helper.from_array(scale, f"{name}.scale"))
            unpack.append(
                helper.make_node(
                    "DequantizeLinear",
                    [f"{name}.int4", f"{name}.scale"],
                    [f"{name}.unpacked"],
                    f"{name}.unpack",
                    axis=0,
                )
            )
            node.input[1] = f"{name}.unpacked"
    nodes = [*unpack, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    _drop_unused(graph)


def _packed(weight: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Whole numbers from -7 to 7 in a row, and the scale of each output channel."""
    largest = np.abs(weight).reshape(len(weight), -1).max(axis=1)
    scale = np.where(largest > 0, largest / LARGEST, 1.0).astype(np.float32)
    steps = np.round(weight / scale.reshape(-1, *[1] * (weight.ndim - 1)))
    return np.clip(steps, -LARGEST, LARGEST).astype(np.int8).ravel(), scale


def _drop_unused(graph: onnx.GraphProto) -> None:
    used = {name for node in graph.node for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
