"""The station model: 30 days of one station's history in, its next six hours out, all in physical units.

Three parts, in the order data passes them. `Front` has no weights: it states everything in units of the station's usual
errors, and what neighbours say beside it. `Core` is the network: it forecasts the base's error. `Back` returns to
physical units, bounds and monotone quantiles.
Shapes: S stations, T = 2,880 steps of 15 minutes, L = 24 leads, Q = 11 quantiles.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edge_agent.forecast import QUANTILES
from edge_agent.forecast.persistence import CLOUD_STEPS
from model_factory.models.front import CHANNELS, LEADS, SCALARS, Framed, Front, usual_turn, wind_from


@dataclass(frozen=True, slots=True)
class Size:
    """How large the network is: `members` small networks whose forecasts are averaged. `dropout` and `input_noise` (in
    standard deviations of a feature) act in training only."""

    members: int = 4
    width: int = 128
    blocks: int = 2
    dropout: float = 0.3
    input_noise: float = 0.6


# One definition, two sizes: what a lone station's board runs beside everything else, and what a gateway can afford.
SIZES = {"weather_station": Size(), "gateway": Size(members=16)}


@dataclass(slots=True)
class Departure:
    """What `Core` forecasts, in units of the base's usual error: mean [S, L, C]; quantiles [S, L, 5, Q] of the scalars;
    direction [S, L, Q] usual turns around the mean direction; rain [S, L, Q] as log(1 + mm), rain_mean [S, L] mm;
    event [S, L] logit; sun [S, L, Q] and sun_mean [S, L]: how much brighter than the base, in usual radiations."""

    mean: Tensor
    quantiles: Tensor
    direction: Tensor
    rain: Tensor
    rain_mean: Tensor
    event: Tensor
    sun: Tensor
    sun_mean: Tensor


class StationModel(nn.Module):
    """history [S, T, 8], site [S, 4], origin [S] -> mean [S, L, 8], quantiles [S, L, 8, Q], wind_uv [S, L, 2],
    probability [S, L, 1]; a variable without a recent reading comes back as NaN. Rows do not see each other."""

    def __init__(self, size: Size | None = None) -> None:
        super().__init__()
        self.front = Front()
        self.core = Core(self.front.count, size or Size())
        self.back = Back()

    def forward(
        self, history: Tensor, site: Tensor, origin: Tensor, group: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        framed = self.front(history, site, origin, group)
        out: tuple[Tensor, Tensor, Tensor, Tensor] = self.back(framed, self.core(framed.features))
        return out


class Core(nn.Module):
    """The network: the average of a few members that differ by their random start."""

    def __init__(self, count: int, size: Size) -> None:
        super().__init__()
        self.center: Tensor
        self.width: Tensor
        self.noise = size.input_noise
        self.register_buffer("center", torch.zeros(count))
        self.register_buffer("width", torch.ones(count))
        self.skip = nn.Linear(count, LEADS * SECTIONS["mean"])
        self.members = nn.ModuleList(Member(count, size) for _ in range(size.members))
        nn.init.zeros_(self.skip.weight)
        nn.init.zeros_(self.skip.bias)

    def forward(self, features: Tensor) -> Departure:
        x = self.standardize(features)
        return self.said(torch.stack([member(x) for member in self.members]).sum(0) / len(self.members), x)

    def said(self, raw: Tensor, x: Tensor) -> Departure:
        """A member's numbers, or their average, with the linear part that all members share added to the means."""
        mean, rest = raw.split([self.skip.out_features, raw.shape[1] - self.skip.out_features], 1)
        return departure(torch.cat((mean + self.skip(x), rest), 1))

    def learners(self) -> list[nn.Module]:
        """The parts that learn each by itself."""
        return [self.skip, *(module for module in self.members.modules() if isinstance(module, Tower))]

    def standardize(self, features: Tensor) -> Tensor:
        """[S, F] with mean 0 and variance 1 over the training samples."""
        return (features - self.center) / self.width


# What a member says, side by side: name -> numbers per lead. Rain and sun are said by a tower of their own: what they
# teach is of another size and another kind, and does the other variables no good.
DRY = {"mean": len(CHANNELS), "quantiles": len(SCALARS) * len(QUANTILES), "direction": len(QUANTILES)}
SKY = {"rain": len(QUANTILES), "rain_mean": 1, "event": 1, "sun": len(QUANTILES), "sun_mean": 1}
SECTIONS = DRY | SKY


class Member(nn.Module):
    """[S, F] -> [S, sum of SECTIONS, each L wide]: two towers side by side, that of the sky half as wide."""

    def __init__(self, count: int, size: Size) -> None:
        super().__init__()
        self.towers = nn.ModuleList(
            Tower(count, width, LEADS * sum(sections.values()), size)
            for width, sections in ((size.width, DRY), (size.width // 2, SKY))
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([tower(x) for tower in self.towers], 1)


class Tower(nn.Module):
    """[S, F] -> [S, out]: a residual MLP."""

    def __init__(self, count: int, width: int, out: int, size: Size) -> None:
        super().__init__()
        self.inward = nn.Linear(count, width)
        self.blocks = nn.ModuleList(Block(width, size.dropout) for _ in range(size.blocks))
        self.norm = nn.LayerNorm(width)
        self.outward = nn.Linear(width, out)
        nn.init.zeros_(self.outward.weight)
        nn.init.zeros_(self.outward.bias)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.inward(x))
        for block in self.blocks:
            h = block(h)
        out: Tensor = self.outward(self.norm(h))
        return out


def departure(raw: Tensor) -> Departure:
    """A member's numbers (or their average), [S, *], as what they mean."""
    parts = dict(zip(SECTIONS, raw.split([LEADS * n for n in SECTIONS.values()], 1), strict=True))
    mean = parts["mean"].unflatten(1, (LEADS, len(CHANNELS)))
    around = _monotone(parts["quantiles"].unflatten(1, (LEADS, len(SCALARS), len(QUANTILES))), 0.35)
    wet = parts["rain"].unflatten(1, (LEADS, len(QUANTILES)))
    return Departure(
        mean,
        mean[..., : len(SCALARS), None] + around,
        _monotone(parts["direction"].unflatten(1, (LEADS, len(QUANTILES))), 0.35),
        torch.cumsum(torch.cat((wet[..., :1] - 1.0, 0.2 * F.softplus(wet[..., 1:] - 1.0)), -1), -1),
        0.2 * F.softplus(parts["rain_mean"] - 1.0),
        parts["event"] - 3.0,
        parts["sun_mean"][..., None] + _monotone(parts["sun"].unflatten(1, (LEADS, len(QUANTILES))), 0.2),
        parts["sun_mean"],
    )


class Block(nn.Module):
    """h + W2 relu(W1 norm(h))."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.norm, self.drop = nn.LayerNorm(width), Dropout(dropout)
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, h: Tensor) -> Tensor:
        out: Tensor = h + self.drop(self.second(F.relu(self.first(self.norm(h)))))
        return out


class Dropout(nn.Module):
    """In training, each number is lost with the chance `lost`, the others grow by 1 / (1 - lost). Drawn on the CPU, so
    that a GPU loses the same ones."""

    def __init__(self, lost: float) -> None:
        super().__init__()
        self.lost = lost

    def forward(self, h: Tensor) -> Tensor:
        if not self.training:
            return h
        return h * (torch.rand(h.shape) >= self.lost).to(h.device) / (1.0 - self.lost)


class Back(nn.Module):
    """Departures to physical units: bounded, monotone in the quantile, NaN where there is no reading to start from."""

    def forward(self, framed: Framed, departure: Departure) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        mean = framed.base + framed.scale * departure.mean
        scalars = len(SCALARS)
        quantiles = framed.base[..., :scalars, None] + framed.scale[..., :scalars, None] * departure.quantiles
        low, high = _bounds(mean.device)
        mean, quantiles = _gust_above_wind(mean, 2), _gust_above_wind(quantiles, 2)
        east, north = mean[..., 5], mean[..., 6]
        direction = wind_from(east, north)
        direction = torch.where(torch.isnan(east), east, direction)  # exported, atan2 forgets a NaN
        turns = departure.direction * usual_turn(framed.scale)
        turned = direction[..., None] + torch.clamp(turns, -180.0, 180.0)
        steady = mean[..., 5:7] / torch.clamp(torch.sqrt(east * east + north * north), min=1.0)[..., None]
        wind = steady * torch.clamp(mean[..., 3:4], min=0.0)
        gauge = (framed.rain_mean * 0.0)[:, None]  # NaN without a rain gauge, else 0
        rain_mean = departure.rain_mean + gauge
        rain = torch.expm1(torch.relu(departure.rain)) + gauge[..., None]
        bright, light = brightness(framed), framed.day + (framed.bright * 0.0)[:, None]  # NaN without a reading
        sun_mean = light * torch.clamp(bright + departure.sun_mean, min=0.0)
        sun = light[..., None] * torch.clamp(bright[..., None] + departure.sun, min=0.0)
        alone = direction, rain_mean, sun_mean
        return (
            torch.cat((torch.clamp(mean[..., :scalars], low, high), torch.stack(alone, -1)), -1),
            torch.cat((torch.clamp(quantiles, low[:, None], high[:, None]), torch.stack((turned, rain, sun), -2)), -2),
            wind,
            (torch.sigmoid(departure.event) + gauge)[..., None],
        )


def brightness(framed: Framed) -> Tensor:
    """The base of the radiation's forecast, in usual radiations [S, L]: how bright it was in the last hour, which
    fades."""
    ahead = torch.arange(1, LEADS + 1, device=framed.bright.device)
    return 1.0 + (framed.bright[:, None] - 1.0) * torch.exp(-ahead / CLOUD_STEPS)


def _gust_above_wind(values: Tensor, dim: int) -> Tensor:
    """The gust is at least the mean wind, where both are known. `values`: channels along `dim`."""
    parts = list(values.unbind(dim))
    speed, gust = parts[3], parts[4]
    parts[4] = torch.where(torch.isnan(speed), gust, torch.maximum(gust, speed))
    return torch.stack(parts, dim)


def _bounds(device: torch.device) -> tuple[Tensor, Tensor]:
    """Physical limits of the scalars, [5] each."""
    inf = float("inf")
    return torch.tensor([-inf, 0.0, 0.0, 0.0, 0.0], device=device), torch.tensor(
        [inf, 100.0, inf, inf, inf], device=device
    )


def _monotone(raw: Tensor, step: float) -> Tensor:
    """[..., Q] free numbers to [..., Q] increasing ones: the middle is the median's offset, the others steps away."""
    middle = len(QUANTILES) // 2
    steps = step * F.softplus(raw)
    up = torch.cumsum(steps[..., middle + 1 :], -1)
    down = torch.flip(torch.cumsum(torch.flip(steps[..., :middle], (-1,)), -1), (-1,))
    median = step * raw[..., middle : middle + 1]
    return torch.cat((median - down, median, median + up), -1)
