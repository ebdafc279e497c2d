"""Writes tiny.tflite beside this file: a station model for LiteRT that forecasts the last value of each variable.

Run in the environment of the extra `litert-export`: the converter is not in the tests' own.
"""

from __future__ import annotations

from pathlib import Path

import litert_torch
import torch
from torch import Tensor, nn

from edge_agent.forecast import LEADS_S, QUANTILES


class LastValue(nn.Module):
    def forward(self, history: Tensor, site: Tensor, origin: Tensor) -> dict[str, Tensor]:
        last = history[:, -1][:, None, :].expand(-1, len(LEADS_S), -1)
        mean = last + 0.0 * site[:, :1, None] + 0.0 * origin[:, None, None].float()
        offset = torch.tensor(QUANTILES) - 0.5
        return {
            "mean": mean,
            "quantiles": mean[..., None] + offset,
            "wind_uv": 0.0 * mean[..., :2],
            "probability": 0.0 * mean[..., 6:7] + 0.1,
        }


if __name__ == "__main__":
    inputs = {
        "history": torch.zeros(1, 2880, 8),
        "site": torch.zeros(1, 4),
        "origin": torch.tensor([1_600_000_200]),
    }
    litert_torch.convert(LastValue().eval(), sample_kwargs=inputs).export(str(Path(__file__).with_name("tiny.tflite")))
