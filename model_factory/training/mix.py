"""One network of the members of several runs: `model-factory train mix`.

A run that is trained briefly does better at stations it never saw, one trained for long at those it knows. Half the
members of each, averaged in the graph as those of one run are, keep most of both, at the size of one.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from edge_agent.errors import ConfigError

ALIKE = ("test_fraction", "hold_out", "size")  # settings that the runs must share
CLOSE = 1e-3  # of a feature's width: so far the runs' standardizations may differ
MEMBERS = "core.members."
SHARED = "core.skip."


def mix_command(runs: Sequence[Path], out: Path) -> None:
    """`model-factory train mix`: see its help.

    Raises:
        ConfigError: fewer than two runs, or runs that do not go together, or OUT holds a run.
    """
    if len(runs) < 2:
        raise ConfigError("mix: name two runs or more")
    if (out / "weights.pt").exists():
        raise ConfigError(f"{out} holds a run already: choose another folder")
    configs = [_config(run) for run in runs]
    _check(runs, configs)
    weights = [torch.load(run / "weights.pt", map_location="cpu", weights_only=True) for run in runs]
    mixed = mix(weights, configs[0]["settings"]["size"]["members"])
    out.mkdir(parents=True, exist_ok=True)
    torch.save(mixed, out / "weights.pt")
    parts = ("settings", "presentations", "software", "device")
    told = {str(n): {key: config[key] for key in parts} for n, config in enumerate(configs, 1)}
    config = configs[0] | {"presentations": sum(config["presentations"] for config in configs), "mixed": told}
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def mix(weights: Sequence[dict[str, Tensor]], members: int) -> dict[str, Tensor]:
    """Weights of a network whose first members are the first run's, and so on, evenly, each at its own place; the
    linear part that members share is the runs' average.

    Raises:
        ConfigError: the runs standardize their features differently.
    """
    first = weights[0]
    for other in weights[1:]:
        width = first["core.width"]
        center = (other["core.center"] - first["core.center"]).abs() / width
        spread = (other["core.width"] / width - 1.0).abs()
        if max(float(center.max()), float(spread.max())) > CLOSE:
            raise ConfigError(
                "mix: the runs standardize their features differently: train them on the same DATA and seed"
            )
    found = {}
    for name, value in first.items():
        if name.startswith(MEMBERS):
            member = int(name.removeprefix(MEMBERS).split(".")[0])
            found[name] = weights[member * len(weights) // members][name]
        elif name.startswith(SHARED):
            found[name] = torch.stack([one[name] for one in weights]).mean(0)
        else:
            found[name] = value
    return found


def _config(run: Path) -> dict[str, Any]:
    try:
        config: dict[str, Any] = json.loads((run / "config.json").read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{run}/config.json: {error}: is this a run of `model-factory train station`?") from None
    if "settings" not in config:
        raise ConfigError(f"{run}/config.json tells no settings: train the run again")
    return config


def _check(runs: Sequence[Path], configs: Sequence[dict[str, Any]]) -> None:
    first = configs[0]["settings"]
    for run, config in zip(runs[1:], configs[1:], strict=True):
        differ = [key for key in ALIKE if config["settings"][key] != first[key]]
        if differ:
            raise ConfigError(f"{run} and {runs[0]} differ in {', '.join(differ)}: they do not make one network")
    if first["size"]["members"] < len(runs):
        raise ConfigError(f"{len(runs)} runs, and a network of {first['size']['members']} members: name fewer")
