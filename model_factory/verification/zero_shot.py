"""A time-series foundation model that knows no weather, as one more thing to be compared with: Fracast-0.

The one found that says it brings its weights along (PyPI `fracast`, Apache-2.0, 85,001 parameters); needs that package
and `safetensors`, which are no part of the factory. Each variable is forecast from its own 2,048 quarter hours alone.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_agent.bundle.station_task import OUTPUT_VARIABLES
from edge_agent.errors import ConfigError
from edge_agent.grid import GRID_VARIABLES
from model_factory.verification.features import LEAD_STEPS
from model_factory.verification.pairs import Index, Record, windows

VARIABLES = ("temperature", "humidity", "pressure", "wind_speed")
FEWEST = 96  # readings, below which nothing is asked
CHUNK = 32  # origins at a time

Rows = NDArray[np.float32]


def zero_shot_forecasts(one: Record, at: Index, folder: Path) -> Rows:
    """[O, 7, 8], NaN but for four variables: the mean of the nine deciles that the model gives. Kept in `folder`.

    Raises:
        ConfigError: the package is not there.
    """
    digest = hashlib.sha256(b"fracast 0.1.0")
    for held in (one.history, one.steps[at]):
        digest.update(np.ascontiguousarray(held).tobytes())
    path = folder / f"{one.network}--{one.station}--fracast-{digest.hexdigest()[:16]}.npy"
    if not path.exists():
        made = _forecast(one, at)
        folder.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}.part")
        with part.open("wb") as out:
            np.save(out, made)
        part.replace(path)
    return np.asarray(np.load(path, allow_pickle=False), np.float32)


def _forecast(one: Record, at: Index) -> Rows:
    try:
        from fracast import FracastModel  # type: ignore[import-not-found]
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"--zero-shot needs {error.name}: pip install --no-deps fracast, and pip install safetensors"
        ) from error
    model = FracastModel.from_pretrained(weights="fp32")
    out = np.full((len(at), len(LEAD_STEPS), len(OUTPUT_VARIABLES)), np.nan, np.float32)
    steps = np.array(LEAD_STEPS) - 1
    for start in range(0, len(at), CHUNK):
        history = windows(one, at[start : start + CHUNK])
        for name in VARIABLES:
            x = history[:, GRID_VARIABLES.index(name), -model.context_length :]
            rows = np.flatnonzero((~np.isnan(x)).sum(axis=1) >= FEWEST)
            if len(rows):
                deciles = model.forecast_batch(x[rows], horizon=max(LEAD_STEPS))
                out[start + rows, :, OUTPUT_VARIABLES.index(name)] = deciles[:, steps].mean(axis=-1)
    return out
