"""The part of the station model without weights: 30 days of readings become features, a base forecast and usual errors.

It finds the station's own diurnal cycle, the usual errors of diurnal-anomaly persistence, and a base forecast: anomaly
persistence corrected by a regression on the station's own 30 days. Everything is causal. Inside, time comes last
([S, C, T]): what runs along it is then contiguous, which halves the time on a CPU.
Shapes: S stations, T = 2,880 steps of 15 minutes, L = 24 leads, C = 7 channels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edge_agent.forecast import LEADS_S
from edge_agent.forecast.persistence import CYCLE_SIGMA, MIN_CYCLE_STEPS, NOW_STEPS
from edge_agent.grid import GRID_VARIABLES, HISTORY_STEPS, STEPS_PER_DAY
from model_factory.models.neighbours import attention, heard
from model_factory.models.sunlight import sine_of_sun, sunlight

DAYS = HISTORY_STEPS // STEPS_PER_DAY
HOURS = HISTORY_STEPS // 4
LEADS = len(LEADS_S)

# What the network works on: the linear variables, and where the wind blows to as a vector of length 1. Light winds keep
# their direction longer than the components of the wind itself would say.
CHANNELS = ("temperature", "humidity", "pressure", "wind_speed", "wind_gust", "east", "north")
SCALARS = CHANNELS[:5]
LAGS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 40, 48, 64, 80, 92, 96)
CYCLE_LEADS = (1, 2, 4, 8, 12, 16, 20, 24)
ERROR_LEADS = (2, 4, 8, 12, 16, 20, 24)
SCALE_LEADS = (1, 2, 4, 8, 16, 24)
SUN_HOURS = tuple(range(-6, 7))
PRIOR_WEIGHT = 48.0  # the prior scale counts as so many verified errors
OWN_LAGS = (1, 2, 4, 12, 24)  # steps: the station's own regression sees the changes over these, and the anomaly
OWN_PRIOR = 20.0  # so many origins' worth of doubt in it, more for longer leads, whose errors overlap
HEARD_LAGS = (1, 2, 4)  # and how much more than it its neighbours changed over these, and how far they are from it,
HEARD_LEAD = 12  # in usual errors at this lead
OWN_REACH = 3.0  # usual errors: what it sees and says is clipped there

# Usual error of the base after 15 min, 30 min, 1 h, 2 h, 4 h, 6 h: the prior where a station has little history, and a
# tenth of it the floor of any scale. Rounded averages over the training networks.
_PRIOR = {
    "temperature": (0.35, 0.55, 0.85, 1.25, 1.8, 2.2),
    "humidity": (2.2, 3.4, 4.8, 7.0, 9.5, 11.0),
    "pressure": (0.2, 0.3, 0.5, 0.8, 1.5, 2.1),
    "wind_speed": (0.6, 0.75, 0.9, 1.1, 1.35, 1.5),
    "wind_gust": (1.1, 1.3, 1.5, 1.8, 2.1, 2.4),
    "east": (0.35, 0.42, 0.5, 0.58, 0.65, 0.7),
    "north": (0.35, 0.42, 0.5, 0.58, 0.65, 0.7),
}


@dataclass(slots=True)
class Framed:
    """What `Front` finds. features [S, F]; base: the forecast to be corrected, scale: the usual errors of anomaly
    persistence, [S, L, C]; now [S, C]; rain_mean [S], the 30-day mean per step, NaN where there is no rain gauge; day
    [S, L], the usual radiation at the leads, W/m2; bright [S]: the last hour's over the usual one, NaN without any."""

    features: Tensor
    base: Tensor
    scale: Tensor
    now: Tensor
    rain_mean: Tensor
    day: Tensor
    bright: Tensor


def blowing_to(direction: Tensor, speed: Tensor) -> tuple[Tensor, Tensor]:
    """(east, north) of length 1, the way a wind from `direction` degrees blows: -sin, -cos. A calm has no direction and
    is (0, 0), whatever the vane says; NaN where the direction is."""
    calm = speed == 0.0
    radians = torch.deg2rad(direction)
    return torch.where(calm, 0.0, -torch.sin(radians)), torch.where(calm, 0.0, -torch.cos(radians))


def wind_from(east: Tensor, north: Tensor) -> Tensor:
    """Direction a wind that blows to (east, north) comes from, degrees 0-360."""
    return torch.remainder(torch.rad2deg(torch.atan2(-east, -north)), 360.0)


def usual_turn(scale: Tensor) -> Tensor:
    """[S, L, C] usual errors -> [S, L, 1]: how far directions usually turn, degrees, from 5 to 90. An error of a vector
    of length 1 is the turn in radians where that is small."""
    return torch.clamp(torch.rad2deg(torch.sqrt(scale[..., 5:7].square().sum(-1, keepdim=True))), 5.0, 90.0)


def channels_of(history: Tensor) -> Tensor:
    """[S, 8, T] grid variables -> [S, 7, T] channels."""
    speed, direction = history[:, 3], history[:, 5]
    return torch.cat((history[:, :5], torch.stack(blowing_to(direction, speed), 1)), 1)


class Front(nn.Module):
    """History to features, base and scales: no weights, everything causal. Inside, time comes last ([S, C, T]): what
    runs along it is then contiguous, which halves the time on a CPU."""

    def __init__(self) -> None:
        super().__init__()
        slot = torch.arange(STEPS_PER_DAY)
        apart = torch.remainder(slot[:, None] - slot[None, :] + STEPS_PER_DAY // 2, STEPS_PER_DAY) - STEPS_PER_DAY // 2
        self.kernel: Tensor
        self.spread: Tensor
        self.prior: Tensor
        self.hours: Tensor
        self.register_buffer("kernel", torch.exp(-0.5 * (apart / CYCLE_SIGMA) ** 2), persistent=False)
        self.register_buffer("spread", interpolation(SCALE_LEADS, LEADS), persistent=False)
        self.register_buffer("prior", torch.tensor([_PRIOR[c] for c in CHANNELS]).T.contiguous(), persistent=False)
        leads = torch.tensor(SCALE_LEADS, dtype=torch.float32)
        self.doubt: Tensor
        self.register_buffer("doubt", OWN_PRIOR * (1.0 + leads / 4.0), persistent=False)
        self.register_buffer("hours", torch.tensor(SUN_HOURS, dtype=torch.float32), persistent=False)
        with torch.no_grad():
            probe = self(
                torch.zeros(1, HISTORY_STEPS, len(GRID_VARIABLES)), torch.zeros(1, 4), torch.zeros(1, dtype=torch.int64)
            )
        self.count = probe.features.shape[-1]

    def forward(self, history: Tensor, site: Tensor, origin: Tensor, group: Tensor | None = None) -> Framed:
        """history [S, T, 8], site [S, 4], origin [S], group [S]: without it, nobody has neighbours."""
        if group is None:
            group = torch.arange(len(origin), device=origin.device)
        history = history.transpose(1, 2)
        y = channels_of(history)
        now = _newest(y)
        apart = y - now[..., None]  # everything below is relative to now: no large numbers, no units
        there = ~torch.isnan(apart)
        apart = torch.where(there, apart, 0.0)
        known = there.float()
        cycle, has_cycle = self._cycle(apart, known)
        change = cycle[..., :LEADS] - cycle[..., -1:]  # slot 95 is the origin's, slot 0 the next step's
        anomaly = (apart.unflatten(2, (DAYS, STEPS_PER_DAY)) - cycle[:, :, None]).flatten(2)
        hours = Hours(_quarters(anomaly), _quarters(known))
        scale = self._scale(hours)
        own, share = self._own(hours, anomaly, known, scale, attention(site, origin, group))
        base = now[..., None] + change + scale * (own @ self.spread)
        parts = [
            own,
            share,
            *_recent(apart, known, scale),
            *_climate(apart, known, anomaly, cycle, change, scale),
            has_cycle.float()[..., None],
            known.sum(2, keepdim=True) / HISTORY_STEPS,
        ]
        light = sunlight(history[:, 7], site, origin, self.kernel)
        found = [part.transpose(1, 2).flatten(1) for part in parts]
        found += [*self._surroundings(history, site, origin), light.features()]
        features = torch.clamp(torch.nan_to_num(torch.cat(found, 1)), -8.0, 8.0)
        return Framed(
            features, base.transpose(1, 2), scale.transpose(1, 2), now, _rain_mean(history[:, 6]),
            light.day[:, :LEADS], light.bright(NOW_STEPS),
        )  # fmt: skip

    def _cycle(self, apart: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        """Smoothed 30-day mean by time of day, [S, C, 96]; zero where there are fewer than five days."""
        sums = apart.unflatten(2, (DAYS, STEPS_PER_DAY)).sum(2) @ self.kernel
        counts = known.unflatten(2, (DAYS, STEPS_PER_DAY)).sum(2)
        has = counts.sum(2) >= MIN_CYCLE_STEPS
        cycle = sums / torch.clamp(counts @ self.kernel, min=1e-6)
        return torch.where(has[..., None], cycle, 0.0), has

    def _scale(self, hours: Hours) -> Tensor:
        """Root mean square error of anomaly persistence over the 30 days, [S, C, L], from hourly origins at a few
        leads."""
        rows = []
        for i, lead in enumerate(SCALE_LEADS):
            first = -(-(lead - 3) // 4)  # the first hour whose value was forecast so long before
            (end, ended), (start, begun) = (hours.at(shift, first, HOURS - first) for shift in (0, -lead))
            both = ended * begun
            error = (end - start) * both
            prior = self.prior[i]
            square = ((error * error).sum(2) + PRIOR_WEIGHT * prior * prior) / (both.sum(2) + PRIOR_WEIGHT)
            rows.append(torch.log(torch.maximum(torch.sqrt(square), 0.1 * prior)))
        return torch.exp(torch.stack(rows, 2) @ self.spread)

    def _own(
        self, hours: Hours, anomaly: Tensor, known: Tensor, scale: Tensor, weights: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The station's own regression: the error of anomaly persistence explained by the newest changes, the anomaly
        itself, and what neighbours say, learned from hourly origins of the 30 days, ridge with a fixed prior.

        Returns what it forecasts now, in usual errors, and the share of the errors' variance that it explained, at
        `SCALE_LEADS`: [S, C, 6] both.
        """
        first, count = OWN_LAGS[-1] // 4, HOURS - 1 - OWN_LAGS[-1] // 4
        start, there = hours.at(0, first, count)
        seen = there
        inputs, others = [], _apart(weights, start, seen, scale[..., HEARD_LEAD - 1, None])
        for lag in OWN_LAGS:
            before, begun = hours.at(-lag, first, count)
            unit = scale[..., lag - 1, None]
            if lag in HEARD_LAGS:
                others += _apart(weights, start - before, there * begun, unit)
            seen = seen * begun
            inputs.append(_in_reach((start - before) / unit))
        inputs += [_in_reach(start / scale[..., -1:]), *others]
        came = []
        for lead in SCALE_LEADS:
            late = -(-lead // 4) - 1  # of the newest origins so many are still open
            end, ended = hours.at(lead, first, count - late)
            error = _in_reach((end - start[..., : count - late]) / scale[..., lead - 1, None]) * ended
            came.append(F.pad(error, (0, late)))
        x, y = torch.stack(inputs, 2), torch.stack(came, 2)  # [S, C, P, O], [S, C, 6, O]
        n = torch.clamp(seen.sum(2), min=1.0)[..., None, None]
        shown = x * (seen[:, :, None] / n)
        gram, cross = shown @ x.transpose(2, 3), y @ shown.transpose(2, 3)  # [S, C, P, P], [S, C, 6, P]
        learned = ridge(gram, cross, self.doubt[:, None] / n)
        said = _in_reach((learned * _own_inputs_now(anomaly, known, scale, weights)).sum(-1))
        variance = ((y * y) @ (seen[..., None] / n))[..., 0]
        return said, (learned * cross).sum(-1) / (variance + 1e-3)

    def _surroundings(self, history: Tensor, site: Tensor, origin: Tensor) -> list[Tensor]:
        """Absolute values that bound what can happen: moisture, wind, rain, sun; [S, *] each. history [S, 8, T]."""
        now = _newest(history)
        temperature, humidity, speed = now[:, 0], now[:, 1], now[:, 3]
        moisture = torch.log(torch.clamp(humidity, min=1.0) / 100.0)
        exponent = 17.625 * temperature / (243.04 + temperature) + moisture
        dew_point = 243.04 * exponent / (17.625 - exponent)  # Magnus form, Alduchov and Eskridge (1996)
        dryness = torch.where(torch.isnan(temperature + humidity), 0.0, temperature - dew_point)  # LiteRT clamps a NaN
        rain, sun = history[:, 6], history[:, 7]
        wet = [torch.log1p(_sum_last(rain, steps)) for steps in (1, 4, 12, 96)]
        light = [_mean_last(sun, steps) / 500.0 for steps in (1, 4, 12)]
        sine, angle = sine_of_sun(origin, site[:, 0], site[:, 1], self.hours)
        clear = torch.clamp(sine[:, len(SUN_HOURS) // 2], min=0.0)
        ratio = torch.where(clear > 0.1, light[0] / (2.0 * clear + 0.1), 0.0)
        rows = [
            temperature / 20.0, humidity / 50.0 - 1.0, dryness / 10.0, speed / 5.0,
            torch.log1p(torch.nan_to_num(speed)), *wet, *light, ratio, torch.sin(angle), torch.cos(angle),
            torch.isnan(rain[:, -4:]).all(1).float(), torch.isnan(sun[:, -4:]).all(1).float(),
            torch.isnan(site[:, 0]).float(),
        ]  # fmt: skip
        return [torch.stack(rows, 1), sine]


@dataclass(slots=True)
class Hours:
    """A history by quarter of the hour, so that every series of hourly steps is contiguous: values and, as 1 and 0,
    whether they are there, [S, C, 4, 720]. The last quarter is that of the origin."""

    values: Tensor
    known: Tensor

    def at(self, shift: int, first: int, count: int) -> tuple[Tensor, Tensor]:
        """Values and whether they are there, [S, C, count], `shift` steps after the hours from `first` on."""
        hour, quarter = divmod(3 + shift, 4)
        part = slice(first + hour, first + hour + count)
        return self.values[:, :, quarter, part], self.known[:, :, quarter, part]


def _quarters(x: Tensor) -> Tensor:
    """[S, C, T] -> [S, C, 4, 720]."""
    by_hour: Tensor = x.unflatten(2, (HOURS, 4)).transpose(2, 3).contiguous()
    return by_hour


def _newest(y: Tensor) -> Tensor:
    """[S, C, T] -> [S, C]: the newest value of the last hour, NaN where there is none."""
    now = y[..., -1]
    for back in range(2, NOW_STEPS + 1):
        now = torch.where(torch.isnan(now), y[..., -back], now)
    return now


def _recent(apart: Tensor, known: Tensor, scale: Tensor) -> list[Tensor]:
    """The last day as differences from now, in units of the base's error at that distance; [S, C, *] each."""
    lags = torch.tensor([HISTORY_STEPS - 1 - k for k in LAGS], device=apart.device)
    unit = torch.stack([scale[..., min(k, LEADS) - 1] for k in LAGS], 2)
    out = [apart.index_select(2, lags) / unit]
    for steps, lead in ((12, 12), (96, 24)):
        count = torch.clamp(known[..., -steps:].sum(2), min=1.0)
        out.append((apart[..., -steps:].sum(2) / count / scale[..., lead - 1])[..., None])
    for steps in (4, 12):
        ok, last = known[..., -steps - 1 :], apart[..., -steps - 1 :]
        count = torch.clamp(ok.sum(2, keepdim=True), min=1.0)
        spread = ((last - last.sum(2, keepdim=True) / count) * ok).square().sum(2, keepdim=True) / count
        out.append(torch.sqrt(spread + 1e-8) / scale[..., 3:4])
    return out


def _in_reach(x: Tensor) -> Tensor:
    return torch.clamp(x, -OWN_REACH, OWN_REACH)


def _own_inputs_now(anomaly: Tensor, known: Tensor, scale: Tensor, weights: Tensor) -> Tensor:
    """What the station's own regression sees at the origin, [S, C, 1, P], in usual errors, 0 where missing."""
    now, here = anomaly[..., -1:], known[..., -1:]
    inputs, others = [], _apart(weights, now, here, scale[..., HEARD_LEAD - 1, None])
    for lag in OWN_LAGS:
        change, both = now - anomaly[..., -1 - lag, None], here * known[..., -1 - lag, None]
        unit = scale[..., lag - 1, None]
        if lag in HEARD_LAGS:
            others += _apart(weights, change, both, unit)
        inputs.append(_in_reach(change / unit) * both)
    inputs += [_in_reach(now / scale[..., -1:]) * here, *others]
    return torch.stack(inputs, 2).transpose(2, 3)


def _apart(weights: Tensor, values: Tensor, known: Tensor, unit: Tensor) -> list[Tensor]:
    """How far neighbours' values are from this station's [S, C, O], in usual errors, 0 where missing: one a head."""
    mean, share = heard(weights, values, known)
    return list((_in_reach((mean - share * values) / unit) * known).unbind(0))


def ridge(gram: Tensor, cross: Tensor, doubt: Tensor) -> Tensor:
    """Solve (gram + doubt I) w = cross for w [S, C, K, P] by conjugate gradients, exact after P steps.

    gram [S, C, P, P] symmetric; cross [S, C, K, P]; doubt [S, C, K, 1] positive.
    """
    w, rest = torch.zeros_like(cross), cross
    step, size = rest, (rest * rest).sum(-1, keepdim=True)
    for _ in range(gram.shape[-1]):
        turned = step @ gram + doubt * step
        along = size / torch.clamp((step * turned).sum(-1, keepdim=True), min=1e-12)
        w, rest = w + along * step, rest - along * turned
        left = (rest * rest).sum(-1, keepdim=True)
        step = rest + left / torch.clamp(size, min=1e-12) * step
        size = left
    return w


def _climate(
    apart: Tensor, known: Tensor, anomaly: Tensor, cycle: Tensor, change: Tensor, scale: Tensor
) -> list[Tensor]:
    """Where now stands in the station's own climate, and how the base did at this hour on the days before; [S, C, *]
    each."""
    at_cycle = [k - 1 for k in CYCLE_LEADS]
    at_error = [k - 1 for k in ERROR_LEADS]
    days, seen = anomaly.unflatten(2, (DAYS, STEPS_PER_DAY)), known.unflatten(2, (DAYS, STEPS_PER_DAY))
    begin, begun = days[:, :, :-1, -1:], seen[:, :, :-1, -1:]
    both = torch.stack([seen[:, :, 1:, k] for k in at_error], 3) * begun  # [S, C, 29, K]
    error = (torch.stack([days[:, :, 1:, k] for k in at_error], 3) - begin) * both
    unit = torch.stack([scale[..., k] for k in at_error], 2)
    week = both[:, :, -7:].sum(2)
    count = torch.clamp(known.sum(2), min=1.0)
    return [
        torch.stack([change[..., k] / scale[..., k] for k in at_cycle], 2),
        error[:, :, -1] / unit,
        error[:, :, -7:].sum(2) / (week + 2.0) / unit,
        cycle[..., -1:] / scale[..., -1:],
        (apart.sum(2) / count / scale[..., -1])[..., None],
        *(torch.log(scale[..., k - 1 : k]) for k in (1, 4, 12, 24)),
    ]


def _sum_last(x: Tensor, steps: int) -> Tensor:
    """[S, T] -> [S]: sum of the last steps, missing ones as 0."""
    return torch.nan_to_num(x[:, -steps:]).sum(1)


def _mean_last(x: Tensor, steps: int) -> Tensor:
    """[S, T] -> [S]: mean of those of the last steps that are there, 0 where none is."""
    last = x[:, -steps:]
    there = ~torch.isnan(last)
    return torch.where(there, last, 0.0).sum(1) / torch.clamp(there.float().sum(1), min=1.0)


def _rain_mean(rain: Tensor) -> Tensor:
    """[S, T] -> [S]: mean rain per step that has a value, NaN where none has."""
    there = ~torch.isnan(rain)
    return torch.where(there, rain, 0.0).sum(1) / there.float().sum(1)


def interpolation(known: tuple[int, ...], count: int) -> Tensor:
    """[K, L]: weights that interpolate values at the leads `known` to leads 1..count, linear in the log of the lead."""
    weights = torch.zeros(len(known), count)
    for lead in range(1, count + 1):
        right = next(i for i, k in enumerate(known) if k >= lead)
        left = max(right - 1, 0)
        if known[right] == lead:
            weights[right, lead - 1] = 1.0
            continue
        part = math.log(lead / known[left]) / math.log(known[right] / known[left])
        weights[left, lead - 1], weights[right, lead - 1] = 1.0 - part, part
    return weights
