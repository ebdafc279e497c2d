"""What the station model is trained to do: be right on average and honest in its quantiles, in units of the base's
usual errors, so that lively and calm stations teach alike."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from edge_agent.bundle.station_task import RAIN_EVENT
from edge_agent.forecast import QUANTILES
from model_factory.models.front import CHANNELS, SCALARS, Framed, blowing_to, usual_turn, wind_from
from model_factory.models.station import Departure, brightness

HUBER = 4.0  # beyond this many usual errors a miss counts linearly
WEIGHT_RANGE = (0.3, 3.0)  # bounds of a sample's weight by how lively the station is
CHANNEL_WEIGHT = {
    "temperature": 1.0,
    "humidity": 1.0,
    "pressure": 1.0,
    "wind_speed": 1.0,
    "wind_gust": 0.6,
    "east": 0.4,
    "north": 0.4,
}
TURN_WEIGHT = 0.3
FAINT = 0.2  # a mean vector much shorter than this has no direction to speak of
SUN_UNIT = 150.0  # W/m2
RAIN_CAP = 20.0  # mm a step: beyond this an amount is as good as certain to be a fault,
CLOUDBURST = 5.0  # and beyond this one would outweigh all others in the mean


def station_loss(framed: Framed, departure: Departure, target: Tensor, prior: Tensor) -> dict[str, Tensor]:
    """The parts of the loss, already weighted; their sum is minimized.

    Args:
        target: [S, L, 8] in OUTPUT_VARIABLES order, NaN where nothing came.
        prior: [L, C] usual scales; a station livelier than usual weighs more, a calmer one less.
    """
    to = torch.stack(blowing_to(target[..., 5], torch.ones_like(target[..., 5])), -1)
    wanted = torch.cat((target[..., :5], torch.where(target[..., 3:4] == 0.0, torch.nan, to)), -1)
    error = (wanted - framed.base) / framed.scale
    there = ~torch.isnan(error)
    error = torch.where(there, torch.nan_to_num(error), 0.0)
    weight = torch.clamp(framed.scale / prior, *WEIGHT_RANGE)
    weight = weight * there * torch.tensor([CHANNEL_WEIGHT[c] for c in CHANNELS], device=error.device)
    mean = F.huber_loss(departure.mean, error, reduction="none", delta=HUBER) * weight
    scalars = len(SCALARS)
    spread = pinball(error[..., :scalars, None] - departure.quantiles).mean(-1) * weight[..., :scalars]
    return {
        "mean": mean.sum() / weight.sum().clamp(min=1.0),
        "quantiles": 2.0 * spread.sum() / weight[..., :scalars].sum().clamp(min=1.0),
        **_direction(framed, departure, target),
        **_rain(departure, target[..., 6]),
        **_sun(framed, departure, target[..., 7]),
    }


def pinball(error: Tensor) -> Tensor:
    """rho(e) = max(tau e, (tau - 1) e) for the house's quantiles along the last axis; e = observed - forecast."""
    tau = torch.tensor(QUANTILES, device=error.device)
    return torch.maximum(tau * error, (tau - 1.0) * error)


def _direction(framed: Framed, departure: Departure, target: Tensor) -> dict[str, Tensor]:
    """How far the mean vector turns from the direction that came, 1 - cos; pinball of the direction's quantiles around
    it, in usual turns. Where no wind blew, there is nothing to learn."""
    to = (framed.base + framed.scale * departure.mean)[..., 5:7]
    there = ~torch.isnan(target[..., 5]) & ~torch.isnan(to[..., 0]) & (target[..., 3] > 0.0)
    count = there.sum().clamp(min=1)
    to, came = torch.nan_to_num(to), torch.nan_to_num(target[..., 5])
    east, north = blowing_to(came, torch.ones_like(came))
    along = (to[..., 0] * east + to[..., 1] * north) / torch.sqrt(to.square().sum(-1) + FAINT * FAINT)
    mean = wind_from(to[..., 0], to[..., 1]).detach()
    off = torch.remainder(came - mean + 180.0, 360.0) - 180.0
    spread = pinball(off[..., None] / usual_turn(framed.scale) - departure.direction).mean(-1)
    return {
        "turn": TURN_WEIGHT * ((1.0 - along) * there).sum() / count,
        "direction": 0.4 * (spread * there).sum() / count,
    }


def _rain(departure: Departure, rain: Tensor) -> dict[str, Tensor]:
    """Chance, quantiles (of log(1 + mm)) and mean of the step's rain."""
    there = ~torch.isnan(rain)
    count = there.sum().clamp(min=1)
    amount = torch.clamp(torch.nan_to_num(rain), 0.0, RAIN_CAP)
    event = F.binary_cross_entropy_with_logits(departure.event, (amount >= RAIN_EVENT.least).float(), reduction="none")
    quantile = pinball(
        torch.log1p(amount)[..., None] - torch.relu(departure.rain) - 0.01 * torch.clamp(departure.rain, max=0.0)
    )
    return {
        "event": 0.3 * (event * there).sum() / count,
        "rain": 2.0 * (quantile.mean(-1) * there).sum() / count,
        "rain_mean": 3.0 * ((departure.rain_mean - amount.clamp(max=CLOUDBURST)).square() * there).sum() / count,
    }


def _sun(framed: Framed, departure: Departure, sun: Tensor) -> dict[str, Tensor]:
    """Mean and quantiles of the radiation, W/m2; the dark half of the hours has nothing to teach."""
    bright = brightness(framed)
    there = ~torch.isnan(sun) & ~torch.isnan(bright) & ~torch.isnan(framed.day)
    count = there.sum().clamp(min=1)
    usual = torch.nan_to_num(framed.day) / SUN_UNIT
    came, bright = torch.nan_to_num(sun).clamp(min=0.0) / SUN_UNIT, torch.nan_to_num(bright)
    mean = F.huber_loss(usual * (bright + departure.sun_mean), came, reduction="none", delta=HUBER)
    spread = pinball(came[..., None] - usual[..., None] * (bright[..., None] + departure.sun)).mean(-1)
    return {
        "sun_mean": 0.3 * (mean * there).sum() / count,
        "sun": 1.0 * (spread * there).sum() / count,
    }
