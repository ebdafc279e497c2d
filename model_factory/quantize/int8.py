"""Static INT8 of a model's network: QDQ, per channel, MinMax. What stands around the network stays in float.

Only linear layers with constant weights are touched, and only their inputs and weights are rounded: their outputs go on
in float, so that residuals, skips, base and scales keep their precision. What enters the network is not rounded either:
features reach far beyond their usual range, and 256 steps over all of it were most of the loss.
"""

from __future__ import annotations

import logging
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
from onnxruntime.quantization import (  # type: ignore[import-untyped]
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process  # type: ignore[import-untyped]

from edge_agent.errors import DataError
from edge_agent.inference import Array
from model_factory.bundles.graph import read_graph, without_notes
from model_factory.quantize.measure import Comparison, compare_models

log = logging.getLogger(__name__)

LINEAR = ("Conv", "Gemm", "MatMul")
PART = "core"  # the station model's network; its front and back have no weights to quantize
_BATCH = 32


@dataclass(frozen=True, slots=True)
class Quantized:
    """What was done: names of the quantized nodes, and those left in float because `exclude` names them."""

    nodes: tuple[str, ...]
    excluded: tuple[str, ...]


def quantize_int8(
    fp32_path: Path,
    out_path: Path,
    calibration: Iterable[Mapping[str, Array]],
    *,
    part: str = PART,
    exclude: Sequence[str] = (),
) -> Quantized:
    """Write the model with its linear layers in INT8.

    Args:
        calibration: batches of graph inputs by name, from the training part of the data.
        part: a node is quantized if its own or its weight's name contains this; empty: every linear layer.
        exclude: names of nodes or weights that stay in float.

    Raises:
        DataError: no model in the file, no layer to quantize, a name in `exclude` that is not there, or no calibration
            data.
    """
    chosen, excluded = select(read_graph(fp32_path), part, exclude)
    reader = _Reader(calibration)
    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder) / "prepared.onnx"
        # Shapes only: optimizing here would fuse and rename nodes, and the runtime optimizes at load anyway.
        quant_pre_process(str(fp32_path), str(prepared), skip_optimization=True, skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(out_path),
            reader,
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(LINEAR),
            nodes_to_quantize=list(chosen),
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            extra_options={"OpTypesToExcludeOutputQuantization": list(LINEAR), "WeightSymmetric": True},
        )
    model = onnx.load(out_path)
    enter_in_float(model, chosen[0])
    out_path.write_bytes(without_notes(model.SerializeToString()))
    return Quantized(chosen, excluded)


def enter_in_float(model: onnx.ModelProto, first: str) -> None:
    """Take out, in place, the rounding of what the node `first` reads, for all that read it; weights stay in INT8."""
    made = {output: node for node in model.graph.node for output in node.output}
    back = made.get(next(node for node in model.graph.node if node.name == first).input[0])
    if back is None or back.op_type != "DequantizeLinear":
        return
    there = made[back.input[0]]
    for node in model.graph.node:
        for i, name in enumerate(node.input):
            if name == back.output[0]:
                node.input[i] = there.input[0]
    model.graph.node.remove(back)
    model.graph.node.remove(there)


def select(model: onnx.ModelProto, part: str, exclude: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(nodes to quantize, nodes excluded by name), in graph order. Raises as `quantize_int8`."""
    constant = {tensor.name for tensor in model.graph.initializer}
    linear = [(n.name, n.input[1]) for n in model.graph.node if n.op_type in LINEAR and n.input[1] in constant]
    inside = [(node, weight) for node, weight in linear if part in node or part in weight]
    known = {name for pair in inside for name in pair}
    for name in exclude:
        if name not in known:
            raise DataError(f'cannot keep "{name}" in float: the model has {", ".join(sorted(known))[:400]}')
    excluded = tuple(node for node, weight in inside if node in exclude or weight in exclude)
    chosen = tuple(node for node, _ in inside if node not in excluded)
    if not chosen or not all(chosen):
        raise DataError(f'no named linear layer with constant weights and "{part}" in its name: nothing to quantize')
    return chosen, excluded


def quantize_command(run: Path, calibration: int = 256, exclude: Sequence[str] = (), bits: int = 8) -> None:
    """`model-factory quantize`: RUN/model_fp32.onnx -> RUN/model_int8.onnx, calibrated with at most `calibration`
    samples of RUN/calibration.npz, which training drew from the part it may see; or, with 4 bits, model_int4.onnx.

    Raises:
        DataError: model or calibration are missing or damaged, or there is nothing to quantize.
    """
    fp32, out = run / "model_fp32.onnx", run / f"model_int{bits}.onnx"
    samples = load_calibration(run / "calibration.npz", calibration)
    if bits == 4:
        from model_factory.quantize.int4 import quantize_int4

        done = quantize_int4(fp32, out, exclude=exclude)
    else:
        click.echo(f"calibrating with {len(next(iter(samples.values())))} samples ...")
        done = quantize_int8(fp32, out, batches(samples), exclude=exclude)
    click.echo(f"{len(done.nodes)} layers in INT{bits}, {len(done.excluded)} kept in float: {out}")
    for line in render(compare_models(fp32, out, samples)):
        click.echo(line)


def load_calibration(path: Path, most: int | None = None) -> dict[str, Array]:
    """Arrays of a calibration file by input name, at most `most` samples, or all.

    Raises:
        DataError: not there, not an npz, or arrays of unequal length.
    """
    if not path.exists():
        raise DataError(f"{path} is not there: {_calibrated_by(path)}")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            samples = {name: archive[name][:most] for name in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path} cannot be read ({error}): {_calibrated_by(path)}") from error
    lengths = {len(value) for value in samples.values()}
    if len(lengths) != 1 or 0 in lengths:
        raise DataError(f"{path}: arrays must be equally long and not empty, found lengths {sorted(lengths)}")
    return samples


def _calibrated_by(path: Path) -> str:
    return f"`model-factory export {path.parent} DATA/` writes it"


def batches(samples: Mapping[str, Array], size: int = _BATCH) -> Iterator[dict[str, Array]]:
    """Samples in batches, in order."""
    count = len(next(iter(samples.values())))
    for first in range(0, count, size):
        yield {name: value[first : first + size] for name, value in samples.items()}


def render(comparison: Comparison) -> Iterator[str]:
    """A comparison in lines for a person."""
    before, after = comparison.bytes_fp32 / 1e6, comparison.bytes_after / 1e6
    yield f"size    {before:.2f} MB -> {after:.2f} MB, ratio {comparison.size_ratio:.3f}"
    for row in comparison.speed:
        yield (
            f"speed   {row.stations:>4} stations: {row.fp32_ms:.2f} ms -> {row.after_ms:.2f} ms, "
            f"{row.ratio:.2f} times as fast (medians of {row.runs} runs each, side by side)"
        )
    for change in comparison.changes:
        what = f"{change.output:<12}{change.name:<18}"
        yield f"change  {what} largest {change.largest:.4g}, root mean square {change.rms:.4g}"


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    """Hands batches to the calibrator one by one."""

    def __init__(self, calibration: Iterable[Mapping[str, Array]]) -> None:
        self._batches = iter(calibration)
        self._first = next(self._batches, None)
        if self._first is None:
            raise DataError("no calibration data: at least one batch of inputs is needed")

    def get_next(self) -> Any:
        first, self._first = self._first, None
        batch = first if first is not None else next(self._batches, None)
        return None if batch is None else dict(batch)
