"""What radiation a station usually gets at a time of day, and how bright it is beside that: part of the front.

Radiation is zero at night and bounded by day, so it is forecast as a multiple of its own mean day: the cloud's part of
it. Shapes: S stations, T = 2,880 steps of 15 minutes, 96 steps of a day.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from edge_agent.forecast.persistence import DIM
from edge_agent.grid import STEP_S, STEPS_PER_DAY

CLEAR_SHARE = 0.6  # of the clear sky's radiation: an ordinary day, before the station's own are known ...
CLEAR_DAYS = 2.0  # ... and for how many days it stands
SEASON = (0.1, 3.0)  # by so much the season may move the mean day
NIGHT = 1.0  # W/m2: what is usually less is nothing
DAY_LEADS = (1, 2, 4, 8, 12, 16, 20, 24)
BRIGHT_STEPS = (1, 4, 12, 96)


@dataclass(slots=True)
class Sunlight:
    """The usual radiation at the steps of a day, `day` [S, 96], W/m2, NaN where nothing is known of it: of the 96 steps
    after the origin as of those up to it; what was read in the latter, `read` [S, 96], NaN = missing."""

    day: Tensor
    read: Tensor

    def bright(self, steps: int) -> Tensor:
        """What was read in the last steps over what is usual, near 1 in the dark; NaN where nothing was read. [S]"""
        read, usual = self.read[:, -steps:], self.day[:, -steps:]
        there = ~(torch.isnan(read) | torch.isnan(usual))
        count = there.float().sum(1)
        found = torch.where(there, read, 0.0).sum(1) + DIM * count
        return torch.where(count > 0.0, found / (torch.where(there, usual, 0.0).sum(1) + DIM * count), torch.nan)

    def features(self) -> Tensor:
        """[S, 23], NaN where missing: how bright it is, was, and was at the leads' time of day the day before, how much
        it flickered, and the usual radiation at some leads."""
        at = [k - 1 for k in DAY_LEADS]
        yesterday = (self.read[:, at] + DIM) / (self.day[:, at] + DIM) - 1.0
        ratio = (self.read[:, -12:] + DIM) / (self.day[:, -12:] + DIM)
        ratio = torch.where(torch.isnan(ratio), self.bright(12)[:, None], ratio)
        flicker = [(ratio[:, 1 - n :] - ratio[:, -n:-1]).abs().sum(1) / (n - 1) for n in (4, 12)]
        known = ~torch.isnan(self.read).all(1, keepdim=True)  # without a sensor it says no more than the sun's height
        usual = torch.where(known, self.day[:, [STEPS_PER_DAY - 1, *at]] / 300.0, 0.0)
        bright = [self.bright(steps) - 1.0 for steps in BRIGHT_STEPS]
        return torch.cat((torch.stack([*bright, *flicker], 1), yesterday, usual), 1)


def sunlight(radiation: Tensor, site: Tensor, origin: Tensor, kernel: Tensor) -> Sunlight:
    """The mean day of the 30 days, smoothed along the time of day by `kernel` [96, 96], each value moved to today's
    season by what a clear sky would give; with little history, a share of the clear sky's. radiation [S, T]."""
    known = (~torch.isnan(radiation)).float()
    value = torch.nan_to_num(radiation)
    hours = torch.arange(1, STEPS_PER_DAY + 1, device=radiation.device) * (STEP_S / 3600.0)
    placed = ~torch.isnan(site[:, 0] + site[:, 1])[:, None]
    latitude, longitude = torch.nan_to_num(site[:, 0]), torch.nan_to_num(site[:, 1])
    days = value.shape[1] // STEPS_PER_DAY
    ago = torch.arange(days, 0, -1, device=radiation.device).float()
    by_day = known.unflatten(1, (days, STEPS_PER_DAY)).sum(2)
    age = torch.round((by_day * ago).sum(1) / torch.clamp(by_day.sum(1), min=1.0))
    clear = clear_sky(sine_of_sun(origin, latitude, longitude, hours)[0])
    then = clear_sky(sine_of_sun(origin - 86_400 * age.long(), latitude, longitude, hours)[0])
    season = torch.where(placed, torch.clamp((clear + DIM) / (then + DIM), *SEASON), 1.0)
    sums, counts = (x.unflatten(1, (days, STEPS_PER_DAY)).sum(1) for x in (value, known))
    doubt = CLEAR_DAYS * kernel.sum(0) * placed.float()
    usual = season * torch.clamp(sums @ kernel, min=0.0) + doubt * CLEAR_SHARE * clear
    weight = counts @ kernel + doubt
    day = torch.where(weight > 0.0, usual / torch.clamp(weight, min=1e-6), torch.nan)
    night = placed & (clear == 0.0)  # which smoothing must not light from dusk
    day = torch.where(night, season * sums / torch.clamp(counts, min=1.0), day)
    return Sunlight(torch.where(day < NIGHT, 0.0, day), radiation[:, -STEPS_PER_DAY:])


def clear_sky(sine: Tensor) -> Tensor:
    """Global radiation under a clear sky, W/m2, from the sine of the sun's elevation: 1098 s exp(-0.057 / s), 0 below
    the horizon. Source: B. Haurwitz, J. Meteor. 2 (1945), 154-166, with the constants usual since. Worked: overhead ->
    1037; 30 degrees -> 490."""
    up = torch.clamp(sine, min=1e-3)
    return torch.where(sine > 0.0, 1098.0 * up * torch.exp(-0.057 / up), 0.0)


def sine_of_sun(origin: Tensor, latitude: Tensor, longitude: Tensor, hours: Tensor) -> tuple[Tensor, Tensor]:
    """Sine of the sun's elevation [S, H] at `hours` from the origin, and the solar hour angle [S] there, radians.

    Declination and equation of time by Spencer's Fourier series (J. W. Spencer, Search 2(5), 1971, p. 172);
    sin(elevation) = sin(lat) sin(decl) + cos(lat) cos(decl) cos(hour angle). Good to about 0.05 degree in declination.
    """
    day = torch.div(origin, 86_400, rounding_mode="floor")
    seconds = (origin - day * 86_400).float()
    leap = (day - 10_957).float()  # days since 2000-01-01
    year = torch.remainder(leap, 365.2425) * (2 * math.pi / 365.2425)
    c1, s1, c2, s2, c3, s3 = (f(k * year) for k in (1, 2, 3) for f in (torch.cos, torch.sin))
    declination = (
        0.006918 - 0.399912 * c1 + 0.070257 * s1 - 0.006758 * c2 + 0.000907 * s2 - 0.002697 * c3 + 0.00148 * s3
    )
    equation = 0.000075 + 0.001868 * c1 - 0.032077 * s1 - 0.014615 * c2 - 0.040849 * s2
    angle = seconds * (2 * math.pi / 86_400) - math.pi + torch.deg2rad(longitude) + equation
    lat = torch.deg2rad(latitude)
    at = angle[:, None] + hours[None, :] * (math.pi / 12)
    sine = (torch.sin(lat) * torch.sin(declination))[:, None] + (torch.cos(lat) * torch.cos(declination))[
        :, None
    ] * torch.cos(at)
    return sine, angle
