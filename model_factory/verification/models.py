"""A run's models as evaluation asks them: windows of a station, and of its neighbours, in; forecasts out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge_agent.bundle.station_task import EVENTS, OUTPUT_VARIABLES
from edge_agent.errors import DataError
from edge_agent.forecast import LEADS_S, QUANTILES
from model_factory.bundles.graph import made_by
from model_factory.verification.pairs import Index, Record, windows_at

CHUNK = 256

Rows = NDArray[np.float32]


class Model(Protocol):
    """Windows [S, 8, 2880], sites [S, 4], origins [S], UTC s, groups [S] -> mean [S, 24, 8], quantiles [S, 24, 8, 11],
    probability of events [S, 24, E]."""

    def __call__(self, history: Rows, site: Rows, origin: Index, group: Index) -> tuple[Rows, Rows, Rows]: ...


def forecasts(model: Model, one: Record, at: Index, others: Sequence[Record] = ()) -> tuple[Rows, Rows, Rows]:
    """A model's mean [O, 24, 8], quantiles [O, 24, 8, 11] and probability [O, 24, E] from the origins `at`, in chunks
    of about 256 windows. `others`: neighbours, whose windows stand beside the station's own."""
    mean = np.empty((len(at), len(LEADS_S), len(OUTPUT_VARIABLES)), np.float32)
    quantiles = np.empty((*mean.shape, len(QUANTILES)), np.float32)
    probability = np.empty((len(at), len(LEADS_S), len(EVENTS)), np.float32)
    chunk = max(CHUNK // (1 + len(others)), 1)
    for start in range(0, len(at), chunk):
        part = slice(start, start + chunk)
        mean[part], quantiles[part], probability[part] = ask(model, one, one.steps[at[part]], others)
    return mean, quantiles, probability


def ask(model: Model, one: Record, origins: Index, others: Sequence[Record]) -> tuple[Rows, Rows, Rows]:
    """A model's answers from `origins`, UTC s, in one run, as `forecasts`."""
    together, count = [one, *others], len(origins)
    mean, quantiles, probability = model(
        np.concatenate([windows_at(each, origins) for each in together]),
        np.repeat([each.site for each in together], count, 0),
        np.tile(origins, len(together)),
        np.tile(np.arange(count), len(together)),
    )
    return mean[:count], quantiles[:count], probability[:count]


def onnx_model(path: Path) -> Model:
    """An ONNX graph of the station task as a `Model`.

    Raises:
        DataError: ONNX Runtime cannot load it.
    """
    import onnxruntime  # type: ignore[import-untyped]

    from edge_agent.inference.onnx import CPU, ERRORS_ONLY, FAILURES, in_short

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = os.cpu_count() or 1
    options.log_severity_level = ERRORS_ONLY
    raw = path.read_bytes()
    try:
        session = onnxruntime.InferenceSession(raw, options, providers=[CPU])
    except FAILURES as error:
        raise DataError(f"{path}: onnxruntime cannot load it ({in_short(error)}): {made_by(path)}") from error
    wanted = {tensor.name for tensor in session.get_inputs()}

    def run(history: Rows, site: Rows, origin: Index, group: Index) -> tuple[Rows, Rows, Rows]:
        inputs = {
            "history": np.ascontiguousarray(history.transpose(0, 2, 1)),
            "site": site,
            "origin": origin,
            "group": group,
        }
        fed = {name: value for name, value in inputs.items() if name in wanted}
        mean, quantiles, probability = session.run(["mean", "quantiles", "probability"], fed)
        return np.asarray(mean), np.asarray(quantiles), np.asarray(probability)

    return run
