"""The station model as a LiteRT file (`.tflite`), from its PyTorch weights. Runs in an environment of its own:

    python -m venv LITERT && LITERT/bin/pip install "stationcast[litert-export]"
    LITERT/bin/python -m model_factory.quantize.litert RUN/

The converter is heavy, x86-64 only and asks for its own versions of half of the factory. It knows fixed shapes only:
one station a run. It drops NaN from the results of `maximum` and `clamp`, so what is missing is put back at the end.
"""

from __future__ import annotations

import sys
from pathlib import Path

import litert_torch  # type: ignore[import-not-found]
import numpy as np
import torch
from torch import Tensor, nn

from edge_agent.bundle.reader import TFLITE
from edge_agent.bundle.station_task import OUTPUT_VARIABLES
from edge_agent.forecast.persistence import NOW_STEPS
from edge_agent.grid import GRID_VARIABLES
from edge_agent.inference.litert import INPUTS, Runner
from edge_agent.variables import VARIABLES, Kind
from model_factory.training.station import load_model

AGREE = 0.01  # of a variable's scale: the spread of its means over the samples
SAMPLES = 64


class Masked(nn.Module):
    """The model for one station, with NaN again where it has no recent reading (rain: none at all)."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, history: Tensor, site: Tensor, origin: Tensor) -> dict[str, Tensor]:
        mean, quantiles, wind, probability = self.model(history, site, origin)
        known = torch.stack([self._known(history, name) for name in OUTPUT_VARIABLES], dim=1)  # [S, 8]
        nothing = torch.full((), float("nan"))
        rain = known[:, OUTPUT_VARIABLES.index("rain")]
        return {
            "mean": torch.where(known[:, None, :], mean, nothing),
            "quantiles": torch.where(known[:, None, :, None], quantiles, nothing),
            "wind_uv": wind,
            "probability": torch.where(rain[:, None, None], probability, nothing),
        }

    def _known(self, history: Tensor, name: str) -> Tensor:
        """Whether a variable was read in the last hour; rain ever; a calm stands for a direction. [S]"""
        column = history[:, :, GRID_VARIABLES.index(name)]
        read = ~torch.isnan(column)
        if VARIABLES[name].kind is Kind.DIRECTION:
            read = read | (history[:, :, GRID_VARIABLES.index("wind_speed")] == 0.0)
        recent = read if VARIABLES[name].kind is Kind.SUM else read[:, -NOW_STEPS:]
        return recent.float().sum(dim=1) > 0


def export_litert(run: Path) -> dict[str, float]:
    """Write RUN/model.tflite; the largest difference from the PyTorch model by variable, in units of its scale.

    Raises:
        ValueError: it is missing where the model is not, or further than `AGREE` from it.
    """
    model = load_model(run)
    with np.load(run / "calibration.npz", allow_pickle=False) as held:
        feed = {name: held[name][:SAMPLES] for name in INPUTS}
    one = {name: torch.from_numpy(value[:1]) for name, value in feed.items()}
    converted = litert_torch.convert(Masked(model).eval(), sample_kwargs=one)
    draft = run / f"{TFLITE}.part"
    converted.export(str(draft))
    apart = compare(model, draft.read_bytes(), feed)
    far = {name: value for name, value in apart.items() if not value <= AGREE}
    if far:
        raise ValueError(f"{draft}: differs from the model by more than {AGREE:g} of the scale: {far}")
    draft.replace(run / TFLITE)
    return apart


def compare(model: nn.Module, tflite: bytes, feed: dict[str, np.ndarray]) -> dict[str, float]:
    """By variable of the mean: largest difference over the spread of the means; infinite where one is missing alone."""
    with torch.no_grad():
        wanted = model(*(torch.from_numpy(feed[name]) for name in INPUTS))[0].numpy()
    runner = Runner(tflite, 1)
    found = np.concatenate(
        [runner.run({name: value[i : i + 1] for name, value in feed.items()})["mean"] for i in range(len(wanted))]
    )
    apart = {}
    for i, name in enumerate(OUTPUT_VARIABLES):
        difference = np.abs(found[..., i] - wanted[..., i])
        if VARIABLES[name].kind is Kind.DIRECTION:
            difference, scale = np.minimum(difference, 360.0 - difference), 180.0
        else:
            scale = float(np.nanstd(wanted[..., i])) or 1.0
        alone = bool((np.isnan(found[..., i]) != np.isnan(wanted[..., i])).any())
        apart[name] = float("inf") if alone else float(np.nanmax(difference)) / scale
    return apart


def main() -> int:
    (run,) = sys.argv[1:]
    for name, value in export_litert(Path(run)).items():
        sys.stdout.write(f"{name:<18}{value:.5f} of its scale\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
