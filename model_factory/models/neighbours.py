"""What the neighbours of a gateway say: attention over distance, bearing and height, inside the station model's front.

A station listens to the rows of its own group and origin, and to no other. Each head listens to one sector of the
horizon, so that the station's own regression can find out from where its weather comes. Who is listened to is a matter
of places alone: the few networks there are to learn it from would teach a network their plans.
Shapes: S stations, H = 3 heads, C channels, O origins.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

KM_PER_DEGREE = 111.2
REACH_KM = 60.0  # over this distance a weight falls to 1/e,
HEIGHT_M = 300.0  # and over this difference in height
SECTORS_DEG = (0.0, 120.0, 240.0)  # bearings that the heads face
DOUBT = 0.3  # weight of hearing nothing


def attention(site: Tensor, origin: Tensor, group: Tensor) -> Tensor:
    """How much each station listens to each other one, [H, S, S], from 0 to 1:

        exp(-distance / 60 km - height difference / 300 m) max(cos(bearing - sector), 0)^2

    site [S, 4]: latitude, longitude, degrees, elevation, m, NaN where unknown; origin, group [S]. A station without a
    place hears nobody and is heard by nobody; an unknown height counts as the other's.
    """
    latitude, longitude, height = site[:, 0], site[:, 1], site[:, 2]
    east = torch.remainder(longitude[None] - longitude[:, None] + 180.0, 360.0) - 180.0
    east = east * torch.cos(torch.deg2rad(latitude))[:, None] * KM_PER_DEGREE
    north = (latitude[None] - latitude[:, None]) * KM_PER_DEGREE
    placed = ~torch.isnan(east + north)
    east, north = torch.where(placed, east, 0.0), torch.where(placed, north, 0.0)
    distance = torch.sqrt(east * east + north * north)
    climb = torch.nan_to_num(torch.abs(height[None] - height[:, None]))
    together = (group[None] == group[:, None]) & (origin[None] == origin[:, None]) & placed & (distance > 0.0)
    weight = torch.exp(-distance / REACH_KM - climb / HEIGHT_M) * together.float()
    ahead = torch.clamp(distance, min=1e-3)
    facing = [
        torch.relu(east * math.sin(math.radians(sector)) + north * math.cos(math.radians(sector))) / ahead
        for sector in SECTORS_DEG
    ]
    return weight * torch.stack(facing).square()


def heard(weights: Tensor, values: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """What each head hears of `values` [S, C, O], where `known` is 1: sum(w x) / (sum(w) + DOUBT), and the share of it
    that is the others' and not doubt, [H, S, C, O] both."""
    weight = (weights @ known.flatten(1)).unflatten(2, values.shape[1:])
    total = (weights @ (values * known).flatten(1)).unflatten(2, values.shape[1:])
    return total / (weight + DOUBT), weight / (weight + DOUBT)
