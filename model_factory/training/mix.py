"""One network of the members of several runs, at the size of one.

A run that is trained briefly does better at stations it never saw, one trained for long at those it knows. Half the
members of each, averaged in the graph as those of one run are, keep most of both.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

MEMBERS = "core.members."
SHARED = "core.skip."


def mix(runs: Sequence[Path], out: Path) -> None:
    """Write weights.pt and config.json of the mixed run; `runs` differ in their steps alone, and learned from the same
    samples."""
    configs = [json.loads((run / "config.json").read_text()) for run in runs]
    weights = [torch.load(run / "weights.pt", map_location="cpu", weights_only=True) for run in runs]
    torch.save(mixed(weights, configs[0]["settings"]["size"]["members"]), out / "weights.pt")
    parts = ("settings", "presentations", "software", "device")
    told = {run.name: {key: config[key] for key in parts} for run, config in zip(runs, configs, strict=True)}
    config = configs[0] | {"presentations": sum(config["presentations"] for config in configs), "mixed": told}
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def mixed(weights: Sequence[dict[str, Tensor]], members: int) -> dict[str, Tensor]:
    """Weights of a network whose first members are the first run's, and so on, evenly, each at its own place; the
    linear part that members share is the runs' average."""
    found = {}
    for name, value in weights[0].items():
        if name.startswith(MEMBERS):
            member = int(name.removeprefix(MEMBERS).split(".")[0])
            found[name] = weights[member * len(weights) // members][name]
        elif name.startswith(SHARED):
            found[name] = torch.stack([one[name] for one in weights]).mean(0)
        else:
            found[name] = value
    return found
