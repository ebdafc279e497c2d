"""Broken sensors, short histories and odd cadences, made on purpose, so that unknown stations are nothing new.

Works on batches in raw units. Never lets a history see more than it had.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from edge_agent.grid import GRID_VARIABLES, HISTORY_STEPS, STEPS_PER_DAY

Chance = Callable[..., Tensor]  # shape -> numbers evenly drawn from 0 to 1
POSITIVE = ("humidity", "wind_speed", "wind_gust", "rain")
RAIN = GRID_VARIABLES.index("rain")
SUN = GRID_VARIABLES.index("solar_radiation")
COMMON = RAIN  # the first variables of a target are those of a history, in the same order

DROP = 0.10  # chance that a variable is not measured at all
DROP_OPTIONAL = 0.25  # the same for rain and radiation, which many stations lack
CUT = 0.25  # chance of a short history
HOURLY = 0.12  # chance of an hourly station
GAPS = 0.30  # chance of outages
STALE = 0.05  # chance that the newest readings have not come yet
NOWHERE = 0.05  # chance that the place is unknown
NOISE = 0.3  # chance of a sensor noisier than this one
NOISE_RANGE = (0.01, 0.3)  # of a typical sensor's noise below, drawn evenly in the logarithm

# Chance that a variable comes at a display's resolution, and that resolution.
_COARSE = {
    "temperature": (0.15, 0.5),
    "humidity": (0.2, 1.0),
    "pressure": (0.35, 1.0),
    "wind_speed": (0.15, 0.5),
    "wind_gust": (0.15, 0.5),
    "wind_direction": (0.15, 22.5),
}


def augment(history: Tensor, site: Tensor, target: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """A batch as other stations would have measured it: history [B, T, 8], site [B, 4], target [B, L, 8].

    A coarse display shows what comes as coarsely as what was, so the target is rounded with its history; nothing else
    of it changes. `generator` is one of the CPU on every device, so that a GPU breaks a batch in the same way.
    """

    def chance(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator).to(history.device)

    batch, _, count = history.shape
    coarse = chance(batch, count) < torch.tensor(
        [_COARSE.get(v, (0.0, 0.0))[0] for v in GRID_VARIABLES], device=site.device
    )
    x = _rounded(_noisy(history, chance, generator), coarse)
    x = torch.where((chance(batch) < HOURLY)[:, None, None], _hourly(x), x)
    missing = _missing(batch, count, chance)
    age = torch.arange(HISTORY_STEPS - 1, -1, -1, device=x.device)
    keep = STEPS_PER_DAY * torch.exp(chance(batch) * math.log(29.0))
    short = (chance(batch) < CUT)[:, None] & (age[None] > keep[:, None])
    stale = (chance(batch) < STALE)[:, None] & (age[None] < 1 + (chance(batch) * 3).long()[:, None])
    gone = missing[:, None, :] | (short | stale | _outages(batch, age, chance))[..., None]
    site = torch.where((chance(batch) < NOWHERE)[:, None], torch.nan, site)
    target = torch.cat((_rounded(target[..., :COMMON], coarse[:, :COMMON]), target[..., COMMON:]), -1)
    return torch.where(gone, torch.nan, x), site, target


def _missing(batch: int, count: int, chance: Chance) -> Tensor:
    """[B, V]: variables that are not measured; temperature or wind always stays."""
    missing = chance(batch, count) < DROP
    optional = chance(batch, count) < DROP_OPTIONAL
    for v in (RAIN, SUN):
        missing[:, v] |= optional[:, v]
    lost = missing[:, :4].all(1)
    missing[lost, 0] = False
    return missing


def _outages(batch: int, age: Tensor, chance: Chance) -> Tensor:
    """[B, T]: up to three outages of up to a day each."""
    gone = torch.zeros(batch, len(age), dtype=torch.bool, device=age.device)
    some = chance(batch) < GAPS
    for _ in range(3):
        begin, length = chance(batch) ** 2 * HISTORY_STEPS, 2 + chance(batch) * STEPS_PER_DAY
        gone |= (age[None] >= begin[:, None] + 1) & (age[None] < (begin + length)[:, None])
    return gone & some[:, None]


_NOISE_UNIT = {
    "temperature": 0.5,
    "humidity": 2.0,
    "pressure": 0.4,
    "wind_speed": 0.5,
    "wind_gust": 0.8,
    "wind_direction": 20.0,
}


def _noisy(history: Tensor, chance: Chance, generator: torch.Generator) -> Tensor:
    """White noise of a random size per variable, [B, T, 8]; speeds stay positive, humidity below 100."""
    batch, _, count = history.shape
    low, high = (math.log(x) for x in NOISE_RANGE)
    unit = torch.tensor([_NOISE_UNIT.get(v, 0.0) for v in GRID_VARIABLES], device=history.device)
    size = torch.exp(low + (high - low) * chance(batch, count)) * unit * (chance(batch, count) < NOISE)
    noise = torch.randn(history.shape, generator=generator).to(history.device) * size[:, None]
    floor = torch.tensor([0.0 if v in POSITIVE else -math.inf for v in GRID_VARIABLES], device=history.device)
    ceiling = torch.tensor([100.0 if v == "humidity" else math.inf for v in GRID_VARIABLES], device=history.device)
    return torch.minimum(torch.maximum(history + noise, floor), torch.maximum(ceiling, history))


def _rounded(values: Tensor, where: Tensor) -> Tensor:
    """Values rounded to a display's resolution, [B, *, V] for the first V grid variables; `where` [B, V]."""
    step = torch.tensor(
        [_COARSE.get(v, (0.0, 0.0))[1] for v in GRID_VARIABLES[: values.shape[-1]]], device=values.device
    )
    rounded = torch.round(values / torch.clamp(step, min=1e-6)) * step
    return torch.where((where & (step > 0))[:, None], rounded, values)


def _hourly(history: Tensor) -> Tensor:
    """The same stations reporting once an hour: states held, rain summed at the hour."""
    hours = history.unflatten(1, (HISTORY_STEPS // 4, 4))
    held = (
        torch.roll(hours[:, :, 3], 1, 1)[:, :, None].expand(-1, -1, 4, -1).clone()
    )  # the hour before, for its quarters
    held[:, :, 3] = hours[:, :, 3]
    held[:, 0, :3] = torch.nan
    rain = hours[..., RAIN]
    held[..., RAIN] = torch.nan
    held[:, :, 3, RAIN] = rain.sum(2)
    return held.flatten(1, 2)
